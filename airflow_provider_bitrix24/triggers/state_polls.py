"""The shared polls of those who wait until invoices or payments are paid."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_bitrix24.api.states import PER_REQUEST
from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.triggers.shared_poll import SharedPoll

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Set

    from airflow_provider_bitrix24.api.models import Invoice
    from airflow_provider_bitrix24.api.states import Owner, States


T = TypeVar("T")


class InvoicePoll(SharedPoll[Sequence[int], "Mapping[int, Invoice | Bitrix24Error]"]):
    """Reads all legacy invoices that anybody waits for; a want is a sequence of ids."""

    async def read(
        self, wants: Sequence[Sequence[int]]
    ) -> dict[int, Mapping[int, Invoice | Bitrix24Error] | Bitrix24Error]:
        """Read them together; an invoice that many wait for is read once."""
        ids = _shuffled({number for want in wants for number in want})
        found = await self.hook.aread_invoice_states(ids)
        return {index: _failure_of(want, found) or found for index, want in enumerate(wants)}

    @property
    def units_in_a_request(self) -> int:
        """How many invoices one request reads."""
        return PER_REQUEST

    def units(self, want: Sequence[int]) -> Set[int]:
        """Return the invoices."""
        return frozenset(want)


class PaymentPoll(SharedPoll["Mapping[int, Owner | None]", "States"]):
    """Reads all payments that anybody waits for; a want is the payments, each with its object if that is known.

    Whether a payment belongs to the object was checked by the sensor before it deferred. Here it is checked again only
    where the payments are read by their objects.
    """

    async def read(self, wants: Sequence[Mapping[int, Owner | None]]) -> dict[int, States | Bitrix24Error]:
        """Read them together; a payment that many wait for is read once."""
        answers: dict[int, States] = {index: {} for index in range(len(wants))}
        pairs = {(number, owner) for want in wants for number, owner in want.items()}
        while pairs:
            # Almost always once: only if a payment is said to belong to several objects, each is asked for in turn.
            together: dict[int, Owner | None] = dict(_shuffled(pairs))
            found = await self.hook.aread_payment_states(together)
            for index, want in enumerate(wants):
                for number, owner in want.items():
                    if number in found and together[number] == owner:
                        answers[index][number] = found[number]
            pairs -= set(together.items())
        return {index: _failure_of(want, answers[index]) or answers[index] for index, want in enumerate(wants)}

    @property
    def units_in_a_request(self) -> int:
        """How many payments the list reads in a request, or how many commands fit into it."""
        return self.hook.payments_in_a_request

    def units(self, want: Mapping[int, Owner | None]) -> Set[Hashable]:
        """Return the payments; without the list, those of one object are read by one command."""
        if self.units_in_a_request == PER_REQUEST:
            return want.items()
        return {owner or number for number, owner in want.items()}


def _failure_of(ids: Iterable[int], found: Mapping[int, object]) -> Bitrix24Error | None:
    """Return the first error that may pass; an error that is final is for the trigger to judge."""
    states = (found.get(number) for number in ids)
    return next((state for state in states if isinstance(state, Bitrix24Error) and not state.final), None)


def _shuffled(items: set[T]) -> list[T]:
    """Return them in another order each time: if not all requests succeed, it is not always the same ones that fail."""
    order = list(items)
    random.shuffle(order)
    return order
