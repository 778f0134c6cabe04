"""The shared polls of the event triggers: read what was paid, or learn from one request that nothing was.

An application that has the offline events bound asks its queue first, and reads payments only if there is an event.
Events are hints: where there are none to be had, and now and then in any case, payments are read.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from airflow_provider_bitrix24.api.paid_since import OVERLAP, Kind, PaidRows
from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.triggers import shared_poll
from airflow_provider_bitrix24.triggers.shared_poll import SharedPoll

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_bitrix24.api.offline_events import Hint
    from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

log = logging.getLogger(__name__)

READ_ANYWAY: Final = timedelta(minutes=15)
"""After so long without an event, payments are read: handlers may be lost, and others may empty the queue."""
ASK_AGAIN: Final = 900.0
"""Seconds for which the queue is not asked, after it turned out to be of no use."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a trigger has to know."""

    since: datetime
    """Everything that was paid since this moment."""
    looked_at: datetime | None = None
    """When it last learned something, by the portal's clock; None before its first read."""


@dataclass(frozen=True, slots=True)
class News:
    """What a trigger learns."""

    paid: PaidRows | None
    """What was paid; None if there was no event, so that nothing was read."""
    at: datetime | None
    """When the portal began to answer, by its clock."""


class PaidPoll(SharedPoll[Wanted, News]):
    """Reads what was paid since the earliest moment that anybody has to know of."""

    kind: ClassVar[Kind]

    def __init__(self, hook: Bitrix24Hook) -> None:
        super().__init__(hook)
        self._ask_from = float("-inf")
        """Before this time the queue is not asked."""

    async def read(self, wants: Sequence[Wanted]) -> dict[int, News | Bitrix24Error]:
        """Read once for all; each picks its own."""
        hint = await self._hint(wants)
        if hint is not None and not hint.happened:
            return dict.fromkeys(range(len(wants)), News(None, hint.at))
        found = await self.hook.aread_paid_since(self.kind, min(want.since for want in wants))
        return dict.fromkeys(range(len(wants)), News(found, hint.at if hint else found.at))

    async def _hint(self, wants: Sequence[Wanted]) -> Hint | None:
        """Ask the queue, if that can spare the read."""
        looks = [want.looked_at for want in wants if want.looked_at is not None]
        if len(looks) < len(wants) or max(looks) - min(want.since for want in wants) > READ_ANYWAY + OVERLAP:
            return None
        if self.hook.settings.application is None or shared_poll.clock.now() < self._ask_from:
            return None
        try:
            hint = await self.hook.aread_paid_hint(self.kind, min(looks) - OVERLAP)
        except Bitrix24Error as error:
            if error.final:
                self._read_payments(f"{type(error).__name__}: {error.reason}")
            return None
        if hint.missing:
            self._read_payments(f"the application has no offline handler of {', '.join(hint.missing)}")
            return None
        return hint if hint.at is not None else None

    def _read_payments(self, reason: str) -> None:
        """Do without the queue for a while."""
        self._ask_from = shared_poll.clock.now() + ASK_AGAIN
        log.info("Offline events of %r are not used (%s).", self.hook.bitrix24_conn_id, reason)


class PaidPaymentsPoll(PaidPoll):
    """Reads payments."""

    kind = "payment"


class PaidInvoicesPoll(PaidPoll):
    """Reads legacy invoices."""

    kind = "invoice"
