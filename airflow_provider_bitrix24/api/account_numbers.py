"""Find legacy invoices and payments by the number that customers write on their transfers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.batch import MOST_COMMANDS
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.models import Numbered
from airflow_provider_bitrix24.api.paging import rows_in
from airflow_provider_bitrix24.api.payments import chunks, read_rows
from airflow_provider_bitrix24.api.values import account_number as checked
from airflow_provider_bitrix24.api.values import entity_type_id as known_entity_type
from airflow_provider_bitrix24.api.values import positive_id
from airflow_provider_bitrix24.exceptions import Bitrix24NoAnswer
from airflow_provider_bitrix24.identifiers import normalised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow

_NUMBERS_OF_A_COMMAND: Final = 25
"""Half a page: a page that is full, and may therefore be cut, shows at least one number twice."""


def find_invoices(client: ApiClient, *, account_numbers: Iterable[str]) -> Flow[dict[str, tuple[int, ...]]]:
    """Find legacy invoices by their numbers (``ACCOUNT_NUMBER``), up to 1,250 numbers in a request.

    https://apidocs.bitrix24.com/api-reference/crm/outdated/invoice/crm-invoice-list.html

    :return: number, as it was given -> ids of the invoices that have it: none, one, or several.
    :raises Bitrix24NoAnswer: among others if the portal ignored the filter.
    """

    def params(numbers: Sequence[str]) -> dict[str, Any]:
        return {
            "filter": {"@ACCOUNT_NUMBER": list(numbers)},
            "select": ["ID", "ACCOUNT_NUMBER"],
            "order": {"ID": "ASC"},
            "start": -1,
        }

    return (yield from _find(client, "crm.invoice.list", ("ID", "ACCOUNT_NUMBER"), account_numbers, params))


def find_crm_payments(
    client: ApiClient,
    *,
    account_numbers: Iterable[str],
    entity_id: int | None = None,
    entity_type_id: int | None = None,
) -> Flow[dict[str, tuple[int, ...]]]:
    """Find payments of orders by their numbers (``accountNumber``), such as "161/1".

    Without an object all payments of the portal are searched, by ``sale.payment.list``, which needs the scope ``sale``
    and an administrator; with an object its own payments, by ``crm.item.payment.list``.
    https://apidocs.bitrix24.com/api-reference/sale/payment/sale-payment-list.html

    :param entity_id: id of the deal or smart invoice that the payments belong to.
    :param entity_type_id: its type, 2 or 31.
    :return: number, as it was given -> ids of the payments that have it: none, one, or several.
    :raises Bitrix24NoAnswer: among others if the portal ignored the filter.
    """
    owner: dict[str, Any] = {}
    if entity_id is not None or entity_type_id is not None:
        owner = {
            "entityId": positive_id(entity_id, "entity_id"),
            "entityTypeId": known_entity_type(entity_type_id),
        }
    more = {} if owner else {"select": ["id", "accountNumber"], "order": {"id": "ASC"}, "start": -1}

    def params(numbers: Sequence[str]) -> dict[str, Any]:
        return {**owner, "filter": {"@accountNumber": list(numbers)}, **more}

    method = "crm.item.payment.list" if owner else "sale.payment.list"
    return (yield from _find(client, method, ("id", "accountNumber"), account_numbers, params))


def _find(
    client: ApiClient,
    method: str,
    fields: tuple[str, str],
    account_numbers: Iterable[str],
    params: Callable[[Sequence[str]], dict[str, Any]],
) -> Flow[dict[str, tuple[int, ...]]]:
    """Ask for numbers, many in a request, and compare every row with what was asked for."""
    given = {number: checked(number, "account_numbers") for number in account_numbers}
    wanted = list(dict.fromkeys(given.values()))
    found: dict[str, set[int]] = {spelling(number): set() for number in wanted}
    for commands in chunks(list(chunks(wanted, _NUMBERS_OF_A_COMMAND)), MOST_COMMANDS):
        if len(commands) == 1:
            reply = yield from client.call(method, params(commands[0]), effect=Effect.READ)
            pages = [(commands[0], reply.result, reply.next, reply.total)]
        else:
            named = {f"c{index}": numbers for index, numbers in enumerate(commands)}
            batch = yield from client.batch({key: (method, params(numbers)) for key, numbers in named.items()})
            pages = [
                (numbers, batch.value(key), batch.nexts.get(key), batch.totals.get(key))
                for key, numbers in named.items()
            ]
        for numbers, result, following, total in pages:
            for row in _rows(method, fields, numbers, result, following, total):
                found[spelling(row.account_number)].add(row.id)
    return {number: tuple(sorted(found[spelling(text)])) for number, text in given.items()}


def _rows(
    method: str, fields: tuple[str, str], numbers: Sequence[str], result: Any, following: int | None, total: int | None
) -> list[Numbered]:
    """Read a page.

    :raises Bitrix24NoAnswer: it holds rows that were not asked for, or leaves out some.
    """

    def from_wire(wire: Mapping[str, Any]) -> Numbered:
        return Numbered(id=wire.get(fields[0]), account_number=wire.get(fields[1]))

    rows = read_rows(method, from_wire, rows_in(method, result))
    asked = {spelling(number) for number in numbers}
    for row in rows:
        if spelling(row.account_number) not in asked:
            raise Bitrix24NoAnswer(
                method, f"it shows {row.id} with the number {row.account_number!r}, which was not asked for"
            )
    # A cut page is good enough if it shows that numbers are ambiguous; not to say that one of them is not there.
    cut = following is not None or (total is not None and total > len(rows))
    if cut and len({spelling(row.account_number) for row in rows}) == len(rows):
        raise Bitrix24NoAnswer(method, "the portal says that there are more rows, and does not show them")
    return rows


def spelling(number: str) -> str:
    """Return the spelling that decides: databases make no difference between A and a, and ignore blanks at the end."""
    return normalised(number).casefold()
