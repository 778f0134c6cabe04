"""The intent to send something: written down before each deadline, taken back if it certainly was not executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from airflow_provider_bitrix24.exceptions import Bitrix24Error
    from airflow_provider_bitrix24.journal.entry import Entry, Send, SendResult
    from airflow_provider_bitrix24.once.story import Story


class Intent:
    """One thing to send.

    :param story: the key's story.
    :param name: the step that completes a payment; None for the payment or mark itself.
    """

    def __init__(self, story: Story, name: str | None) -> None:
        self._story = story
        self._name = name

    def write(self) -> None:
        """Write it down.

        :raises PaymentInProgress: another attempt has taken over.
        :raises Bitrix24StoreError: the journal cannot be reached: nothing is sent.
        """
        story, send = self._story, self._story.new_send()
        # What certainly did not run is replaced, so that the list stays one of sends.
        story.write(
            self._with((*(one for one in self.sends if one.may_have_run), send)),
            hold=send.settle_until - send.at,
        )
        story.sent_now |= self._name is None

    def withdraw(self, result: Literal["not_sent", "refused"], error: Bitrix24Error) -> None:
        """Take it back: certainly not executed."""
        self.settle(result, error.reason)
        self._story.sent_now &= self._name is not None

    def settle(self, result: SendResult, said: str | None = None) -> None:
        """Write down what became of the last send that may have been executed."""
        sends = list(self.sends)
        index = max(number for number, send in enumerate(sends) if send.may_have_run)
        sends[index] = sends[index].settle(result, said, self._story.task.round)
        self._story.keep(self._with(tuple(sends)))

    @property
    def sends(self) -> tuple[Send, ...]:
        """The sends so far."""
        entry = self._story.entry
        return entry.sends if self._name is None else entry.steps.get(self._name, ())

    @property
    def last(self) -> Send | None:
        """The last send that may have been executed."""
        return next((send for send in reversed(self.sends) if send.may_have_run), None)

    @property
    def open(self) -> Send | None:
        """The last send, if its outcome is not known."""
        return self.last if self.last is not None and self.last.result == "open" else None

    @property
    def answered(self) -> bool:
        """Whether the portal said yes to the last send."""
        return self.last is not None and self.last.result == "answered"

    def _with(self, sends: tuple[Send, ...]) -> Entry:
        entry = self._story.entry
        if self._name is None:
            return entry.but(sends=sends)
        return entry.but(steps={**entry.steps, self._name: sends})
