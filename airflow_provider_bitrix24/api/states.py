"""Read the state of many payments or invoices for those who wait for them, in as few requests as possible.

``crm.invoice.list`` reads 2,500 legacy invoices in a request. ``sale.payment.list`` reads as many payments; it needs
the scope ``sale`` and an administrator. Without it, 50 payments, or the payments of 50 objects, are read in a request.
What that list does not show is read once more by its id: a wait ends for good when a payment does not exist.

Nothing is raised. What a request that failed should have read has its error, and so has a row that cannot be read:
who waits for something else is not concerned.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from airflow_provider_bitrix24.api.batch import MOST_COMMANDS
from airflow_provider_bitrix24.api.models import Invoice, Payment
from airflow_provider_bitrix24.api.paging import PAGE_SIZE, row_id, rows_in, shape_of
from airflow_provider_bitrix24.api.payments import chunks, invoices_with, list_crm_payments, read, read_single
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ApiError,
    Bitrix24Error,
    Bitrix24NoAnswer,
    Bitrix24RateLimited,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_bitrix24.api.batch import BatchReply
    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow

T = TypeVar("T")
Found = TypeVar("Found", Invoice, Payment)
_ById: TypeAlias = "dict[int, T | Bitrix24Error]"
log = logging.getLogger(__name__)

Owner: TypeAlias = tuple[int, int]
"""Entity type and id of a deal or smart invoice."""
States: TypeAlias = dict[int, Payment | Bitrix24Error]
"""Payment id -> the payment, or why it could not be read; an id that is absent does not exist."""
InvoiceStates: TypeAlias = dict[int, Invoice | Bitrix24Error]
"""The same for legacy invoices."""
PER_REQUEST: Final = PAGE_SIZE * MOST_COMMANDS
"""How many invoices or payments the lists read in a request."""

_INVOICES: Final = "crm.invoice.list"
_LIST: Final = "sale.payment.list"
_GET: Final = "crm.item.payment.get"
_OF_OBJECT: Final = "crm.item.payment.list"
_FAILURES_IN_A_ROW: Final = 2
"""After so many requests that failed in a row, the others are not sent: each waits for the portal several times."""


class PaymentReader:
    """Reads payments through one connection, and remembers which method the connection may use."""

    def __init__(self) -> None:
        self._by_list = True
        """Whether the list may be tried."""

    @property
    def capacity(self) -> int:
        """How many payments one request reads."""
        return PER_REQUEST if self._by_list else MOST_COMMANDS

    def read(self, client: ApiClient, wanted: Mapping[int, Owner | None]) -> Flow[States]:
        """Read payments.

        :param wanted: payment id -> the object it belongs to, or None if that is not known.
        """
        found: States = {}
        failures = _Failures()
        # A single batch of the plain methods is as cheap as the list, and needs no more than the scope crm.
        if self._by_list and len(_units(wanted)) > MOST_COMMANDS:
            for ids in chunks(list(wanted), PER_REQUEST):
                found |= yield from failures.guard(ids, self._listed(client, ids))
                if not self._by_list:
                    break
        missing = {number: owner for number, owner in wanted.items() if number not in found}
        for units in chunks(list(_units(missing).items()), MOST_COMMANDS):
            ids = [number for _, numbers in units for number in numbers]
            found |= yield from failures.guard(ids, _each(client, dict(units)))
        return found

    def _listed(self, client: ApiClient, ids: Sequence[int]) -> Flow[States]:
        """Read up to 2,500 payments by the list; nothing is returned if the connection may not use it."""
        pages = {f"c{index}": page for index, page in enumerate(chunks(ids, PAGE_SIZE))}
        answer = yield from client.batch({key: (_LIST, _with_ids(page)) for key, page in pages.items()})
        found: States = {}
        for key, page in pages.items():
            try:
                states = _states(_LIST, answer.value(key), Payment)
            except Bitrix24ApiError as error:
                if error.final:
                    return self._without_list(f"{type(error).__name__}: {error.reason}")
                states = dict.fromkeys(page, error)
            except Bitrix24Error as error:
                states = dict.fromkeys(page, error)
            if not states.keys() <= set(page):
                return self._without_list("it returned payments that were not asked for")
            found |= states
        return found

    def _without_list(self, reason: str) -> States:
        """Remember that the list cannot be used."""
        self._by_list = False
        log.info("%s is not used to wait for payments (%s): %s payments in a request.", _LIST, reason, MOST_COMMANDS)
        return {}


def read_invoices(client: ApiClient, ids: Sequence[int]) -> Flow[InvoiceStates]:
    """Read legacy invoices; an id that is absent does not exist, or may not be seen."""
    found: InvoiceStates = {}
    failures = _Failures()
    for chunk in chunks(ids, PER_REQUEST):
        found |= yield from failures.guard(chunk, _invoices(client, chunk))
    return found


def _invoices(client: ApiClient, ids: Sequence[int]) -> Flow[InvoiceStates]:
    """Read up to 2,500 legacy invoices."""
    pages = {f"c{index}": page for index, page in enumerate(chunks(ids, PAGE_SIZE))}
    answer = yield from client.batch({key: (_INVOICES, invoices_with(page)) for key, page in pages.items()})
    found: InvoiceStates = {}
    for key, page in pages.items():
        try:
            states = _states(_INVOICES, answer.value(key), Invoice)
            if not states.keys() <= set(page):
                raise Bitrix24NoAnswer(_INVOICES, "the portal returned invoices that were not asked for")
            if len(states) < len(page) and answer.may_be_cut(key, len(states)):
                raise Bitrix24NoAnswer(_INVOICES, "the portal says that there are more rows, and does not show them")
        except Bitrix24Error as error:
            states = dict.fromkeys(page, error)
        found |= states
    return found


class _Failures:
    """The requests that failed in a row."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._last: Bitrix24Error | None = None

    def guard(
        self, ids: Sequence[int], request: Flow[dict[int, T | Bitrix24Error]]
    ) -> Flow[dict[int, T | Bitrix24Error]]:
        """Send a request, unless the ones before have failed; return its error for all ids if it fails."""
        if self._last is not None and self._in_a_row >= _FAILURES_IN_A_ROW:
            request.close()
            return dict.fromkeys(ids, self._last)
        try:
            states = yield from request
        except Bitrix24Error as error:
            # What the portal refuses for its rate limit, or for good, it refuses to the next request as well.
            self._in_a_row += _FAILURES_IN_A_ROW if error.final or isinstance(error, Bitrix24RateLimited) else 1
            self._last = error
            return dict.fromkeys(ids, error)
        self._in_a_row = 0
        return states


def _units(wanted: Mapping[int, Owner | None]) -> dict[int | Owner, list[int]]:
    """Return what takes a command each, with its payments: objects, and payments whose object is not known."""
    units: dict[int | Owner, list[int]] = {}
    for number, owner in wanted.items():
        units.setdefault(number if owner is None else owner, []).append(number)
    return units


def _with_ids(ids: Iterable[int]) -> dict[str, Any]:
    # The documentation of the list names no operator @; its = takes several values.
    return {"filter": {"=id": list(ids)}, "order": {"id": "ASC"}, "start": -1}


def _each(client: ApiClient, units: Mapping[int | Owner, Sequence[int]]) -> Flow[States]:
    """Read up to 50 payments or objects, one command each."""
    keys = {unit: f"u{index}" for index, unit in enumerate(units)}
    answer = yield from client.batch({key: _command(unit) for unit, key in keys.items()})
    found: States = {}
    for unit, key in keys.items():
        if isinstance(unit, int):
            found[unit] = _one(answer, key, unit)
            continue
        states = _of_object(answer, key, units[unit])
        if states.keys() < set(units[unit]) and answer.may_be_cut(key, len(answer.results[key])):
            try:
                whole = yield from list_crm_payments(client, entity_type_id=unit[0], entity_id=unit[1])
                states = {payment.id: payment for payment in whole if payment.id in units[unit]}
            except Bitrix24Error as error:
                states = dict.fromkeys(units[unit], error)
        found |= states
    return found


def _command(unit: int | Owner) -> tuple[str, dict[str, Any]]:
    if isinstance(unit, int):
        return _GET, {"id": unit}
    return _OF_OBJECT, {"entityTypeId": unit[0], "entityId": unit[1]}


def _one(answer: BatchReply, key: str, number: int) -> Payment | Bitrix24Error:
    try:
        return read_single(_GET, Payment.from_wire, answer.value(key), number)
    except Bitrix24Error as error:
        return error


def _of_object(answer: BatchReply, key: str, ids: Sequence[int]) -> States:
    """Return those payments of an object that are waited for."""
    try:
        states = _states(_OF_OBJECT, answer.value(key), Payment)
    except Bitrix24Error as error:
        return dict.fromkeys(ids, error)
    return {number: state for number, state in states.items() if number in ids}


def _states(method: str, result: Any, model: type[Found]) -> dict[int, Found | Bitrix24Error]:
    """Return the objects in the result of a list by their ids.

    :raises Bitrix24NoAnswer: it is no list of rows with ids.
    """
    rows = rows_in(method, result)
    if rows is None:
        raise Bitrix24NoAnswer(method, "the result is not a list of rows")
    shape = shape_of(method)
    states: dict[int, Found | Bitrix24Error] = {}
    for row in rows:
        number = row_id(row, shape.id_field)
        if number is None:
            raise Bitrix24NoAnswer(method, f"a row has no {shape.id_field}")
        try:
            states[number] = read(method, model.from_wire, row)
        except Bitrix24Error as error:
            states[number] = error
    return states
