"""Take secrets out of what the HTTP libraries log."""

from __future__ import annotations

import logging
import re


class _WithoutSecrets(logging.Filter):
    """Takes secrets out of what the HTTP libraries log: requests at INFO and DEBUG, with their path and query."""

    _PATH = re.compile(r"/rest/(?:api/)?[^/\s]+/[^/\s\"']+", re.IGNORECASE)
    _QUERY = re.compile(r"/oauth/token/?\?[^\s\"']+", re.IGNORECASE)

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if "/rest/" in text.lower() or "/oauth/" in text.lower():
            text = self._QUERY.sub("/oauth/token/?***", text)
            record.msg, record.args = self._PATH.sub("/rest/***/***", text), None
        return True


for _name in (
    "urllib3.connectionpool",
    "urllib3.connection",
    "urllib3.util.retry",
    "httpx",
    "httpcore.http11",
    "httpcore.proxy",
    # The same library under the name that Airflow 3.4 uses it by; code of a DAG may call a webhook with it.
    "httpx2",
    "httpcore2.http11",
    "httpcore2.proxy",
):
    logging.getLogger(_name).addFilter(_WithoutSecrets())
