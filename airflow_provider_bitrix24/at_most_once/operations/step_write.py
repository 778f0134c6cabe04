"""One step besides the write that a key stands for: it completes a payment, or prepares it for that write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.at_most_once.engine import carry_out
from airflow_provider_bitrix24.at_most_once.next_step import Step
from airflow_provider_bitrix24.at_most_once.write import SETTING, PortalUnreadable, Write

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.calls.call import Call
    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.course import Course


class StepWrite(Write):
    """One step: it has a key of its own. A subclass says what shows that it is done, and what must not be.

    :param payment_id: whose step it is.
    :param step: its name in the record.
    :param call: what is sent.
    :param query: what is read to find out whether it is done.
    """

    policy = SETTING

    def __init__(self, attempt: Attempt, payment_id: int, step: str, call: Call[Any], query: Query[Any]) -> None:
        # The payment is in it, because another payment may take its place. No key has a line break.
        # rule: no key of a payment is that of a step
        key = f"{attempt.key}\npayment:{payment_id}:{step.replace(' ', ':')}"
        super().__init__(attempt, key, step)
        self.method = call.row.name
        self._call = call
        self._query = query

    def call(self) -> Call[Any]:
        """The call."""
        return self._call

    def query(self) -> Query[Any]:
        """What is read."""
        return self._query

    def look(self) -> Course[None]:
        """Read whether it is done already."""
        self.judge((yield from self.attempt.look(self._query)))

    def judge(self, found: Any) -> None:
        """Take over what was read before it is sent."""
        self.check(found)
        self.shown = self.shows(found)

    def check(self, found: Any) -> None:
        """Refuse to go on, by what was read.

        :raises PaymentMismatch: somebody has done something else.
        """

    def take(self, found: Any) -> Course[None]:
        """It is done."""
        self.check(found)
        yield from super().take(found)

    def run(self) -> Course[bool]:
        """Do it.

        :return: whether the portal shows it.
        :raises PortalUnreadable: that is not known.
        """
        done = (yield from carry_out(self.attempt, self)) is Step.DONE
        if not done and self.watch is not None and self.watch.trouble is not None:
            raise PortalUnreadable(self.watch.trouble)
        return done
