"""Wait between requests: who books the slots of the rate limit, and what the log says of a wait."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.io import Reserve, Sleep, Slot

log = logging.getLogger(__name__)


class Pacer(Protocol):
    """Books the slots of a portal's rate limit; never waits for one."""

    def reserve(self, command: Reserve) -> Slot:
        """Book a slot; may wait for a file or a database, but not long, and raises nothing."""


def log_wait(sleep: Sleep) -> None:
    """Log a wait and its reason; without a reason, its caller has logged it."""
    if sleep.reason:
        log.info("%s in %.1f s.", sleep.reason, sleep.seconds)
