"""Print the frames of the provider that are on the stack when a payment leaves through the socket."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_provider_bitrix24.operators.payments import PayInvoiceOperator
from airflow_provider_bitrix24.sandbox.address import connection_json, oauth_connection_json
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

PACKAGE = "airflow_provider_bitrix24"
MOST = 9
"""How many frames of ours there may be."""


def frames_at_the_socket(connection: str) -> list[str]:
    """Pay an invoice by the operator, and return our frames at the moment when the mark leaves, outermost first."""
    os.environ["AIRFLOW_CONN_BITRIX24_DEFAULT"] = connection
    found: list[list[str]] = []
    sendall = socket.socket.sendall

    def watched(self: socket.socket, data: Any, *flags: int) -> None:
        if b"sale.paysystem.pay.invoice" in bytes(data[:200]):
            found.append(_ours(sys._getframe(1)))
        sendall(self, data, *flags)

    socket.socket.sendall = watched  # type: ignore[method-assign]
    try:
        PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31).execute(_context())
    finally:
        socket.socket.sendall = sendall  # type: ignore[method-assign]
    return found[0]


def _ours(frame: Any) -> list[str]:
    frames = []
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if PACKAGE in file.parts and "sandbox" not in file.parts:
            where = Path(*file.parts[file.parts.index(PACKAGE) + 1 :])
            frames.append(f"{where}:{frame.f_lineno} {frame.f_code.co_qualname}")
        frame = frame.f_back
    return frames[::-1]


def _context() -> Any:
    """What an operator sees of Airflow while it runs, without a journal."""
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(
        dag_id="bench",
        run_id="manual__1",
        task_id="pay",
        map_index=-1,
        try_number=1,
        max_tries=0,
        _ti_context_from_server=SimpleNamespace(xcom_keys_to_clear=[], task_reschedule_count=0),
        xcom_push=lambda key, value: pushed.__setitem__(key, value),
    )
    return {"ti": ti, "dag_run": SimpleNamespace(run_id="manual__1", run_type="manual")}


def main() -> int:
    """Print the stacks, with a webhook and with an OAuth application; 1 if one is deeper than it should be."""
    logging.disable(logging.WARNING)
    deepest = 0
    for kind in ("webhook", "OAuth application"):
        portal = Portal()
        with SandboxServer(portal) as server, tempfile.TemporaryDirectory() as folder:
            connection = connection_json(server.url, portal.webhook)
            if kind != "webhook":
                application = portal.add_application(scopes=("crm", "sale", "pay_system"))
                fields = json.loads(oauth_connection_json(server.url, application, portal.grant(application, 1)))
                os.environ["AIRFLOW_CONN_TOKENS"] = json.dumps({"conn_type": "sqlite", "host": f"{folder}/tokens.db"})
                connection = json.dumps({**fields, "extra": {**fields["extra"], "token_conn_id": "tokens"}})
            frames = frames_at_the_socket(connection)
        print(kind)
        for number, frame in enumerate(frames, 1):
            print(f"{number:2}  {frame}")
        deepest = max(deepest, len(frames))
    return int(deepest > MOST)


if __name__ == "__main__":
    sys.exit(main())
