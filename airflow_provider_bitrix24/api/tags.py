"""Payments that carry a tag of ours: added with it in one request, and found by it.

The tag lives in the payment's ``xmlId``, which only ``sale.payment.*`` shows and writes: to administrators, with the
scope ``sale``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_provider_bitrix24.api.batch import Reference
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.models import Payment
from airflow_provider_bitrix24.api.payments import read_missing_rows, read_rows
from airflow_provider_bitrix24.api.values import positive_id
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ApiError, Bitrix24ConfigError, Bitrix24NoAnswer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from airflow_provider_bitrix24.api.batch import BatchReply, Commands
    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow


_LIST: Final = "crm.item.payment.list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the portal shows of an object's payments, and whose they may be."""

    payments: tuple[Payment, ...]
    """All of them, unfiltered."""
    fitting: frozenset[int] | None
    """Those that the connection's user added in our time, as far as that shows; None if the portal does not tell."""
    tagged: frozenset[int]
    """Those that carry the tag."""
    tagged_elsewhere: frozenset[int]
    """Payments of other objects that carry it."""

    @classmethod
    def of(cls, payments: Iterable[Payment]) -> Self:
        """Return what a plain list shows, without evidence about whose payments they are."""
        return cls(payments=tuple(payments), fitting=None, tagged=frozenset(), tagged_elsewhere=frozenset())


def tag_of(portal: str, key: str) -> str:
    """Return the tag of a key: ``af-`` and 40 hexadecimal digits."""
    digest = hashlib.sha256(f"{portal} {key}".encode()).hexdigest()
    return f"af-{digest[:40]}"


def commands_for_evidence(owner: Mapping[str, int], *, tag: str | None) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the commands of a batch that :func:`shown_in` reads: all payments of an object, and a tag's."""
    commands: dict[str, tuple[str, dict[str, Any]]] = {"payments": (_LIST, {**owner})}
    if tag is not None:
        wanted = {"select": ["id", "xmlId"], "filter": {"=xmlId": tag}, "order": {"id": "asc"}}
        commands["tagged"] = ("sale.payment.list", wanted)
    return commands


def shown_in(
    client: ApiClient, reply: BatchReply, owner: Mapping[str, int], *, tag: str | None, known: Collection[int] = ()
) -> Flow[Shown]:
    """Read the response to :func:`commands_for_evidence`, and request what is missing in it.

    :param owner: the object.
    :param known: payments that were on the object before.
    :raises Bitrix24ConfigError: the connection may not see tags.
    :raises Bitrix24Error: the payments cannot be read, or not all of them.
    """
    listed = reply.value("payments")
    cut = isinstance(listed, list) and reply.may_be_cut("payments", len(listed))
    rows = yield from read_missing_rows(client, _LIST, owner, listed, cut=cut, total=reply.totals.get("payments"))
    payments = tuple(read_rows(_LIST, Payment.from_wire, rows))
    there = frozenset(payment.id for payment in payments)
    yield from _refuse_if_lost(client, owner, set(known) - there)
    tagged = _tagged(reply, tag) if tag is not None else frozenset()
    return Shown(
        payments=payments,
        fitting=_fitting(reply, there, known),
        tagged=tagged & there,
        tagged_elsewhere=tagged - there,
    )


def commands_of_evidence(
    owner: Mapping[str, int], *, user_id: int, since: float, until: float, tag: str | None
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the commands that :func:`shown_in` reads: all payments, a tag's, and those that may be ours.

    A new payment has its creator as the responsible user, and, until something else is written there, an ``xmlId`` that
    tells when it was created: ``bx_`` and the time in hexadecimal digits.

    :param user_id: the connection's user.
    :param since: seconds since the epoch, by the portal's clock.
    :param until: the same.
    """
    fits = {
        "=empResponsibleId": user_id,
        ">=xmlId": f"bx_{int(since) - 1:08x}",
        "<=xmlId": f"bx_{int(until) + 2:08x}",
    }
    # Nothing lies between these: where something comes back, the filter was dropped on the way.
    nothing = {**fits, ">=xmlId": "bx_1", "<=xmlId": "bx_0"}
    return commands_for_evidence(owner, tag=tag) | {
        "fitting": (_LIST, {**owner, "filter": fits}),
        "nothing": (_LIST, {**owner, "filter": nothing}),
    }


def commands_of_tagging(tag: str, *, add: str = "add", get: str = "get", name: str = "tag") -> Commands:
    """Return the batch commands that tag the payment that the command before them adds.

    :param add: name of that command.
    :param get: name of the command that reads its pay system, which the update must repeat.
    :param name: name of the command that tags.
    """
    added = Reference(f"$result[{add}]")
    fields = {"paySystemId": Reference(f"$result[{get}][paySystemId]"), "xmlId": tag}
    return {
        get: ("crm.item.payment.get", {"id": added}),
        name: ("sale.payment.update", {"id": added, "fields": fields}),
    }


def _refuse_if_lost(client: ApiClient, owner: Mapping[str, int], lost: Collection[int]) -> Flow[None]:
    """Read the payments that are missing in a list by their ids; if the portal shows one, the list was incomplete.

    :raises Bitrix24NoAnswer: the list was not complete.
    """
    if not lost:
        return
    asked = {**owner, "filter": {"@id": sorted(lost)}}
    reply = yield from client.call(_LIST, asked, effect=Effect.READ)
    found = {payment.id for payment in read_rows(_LIST, Payment.from_wire, reply.result)}
    if found:  # rule: a list that leaves out what was there is no answer
        ids = ", ".join(map(str, sorted(found)))
        raise Bitrix24NoAnswer(_LIST, f"the list is not complete: it leaves out {ids}, which the portal shows by id")


def _fitting(reply: BatchReply, there: frozenset[int], known: Collection[int]) -> frozenset[int] | None:
    """Return the payments that match the filter; None if the portal cannot tell, or has ignored the filter."""
    for name in ("fitting", "nothing"):
        error = reply.errors.get(name)
        if name not in reply.results and (error is None or error.final):
            return None  # not asked for, or a portal that does not know such a filter
    ours = read_rows(_LIST, Payment.from_wire, reply.value("fitting"))
    fitting = frozenset(payment.id for payment in ours)
    if reply.value("nothing") or fitting & set(known) or reply.may_be_cut("fitting", len(ours)):
        return None
    return fitting & there


def _tagged(reply: BatchReply, tag: str) -> frozenset[int]:
    """The payments with the tag that was asked for.

    :raises Bitrix24NoAnswer: others have come as well, because the filter was dropped, or not all have come.
    """
    error = reply.errors.get("tagged")
    if isinstance(error, Bitrix24ApiError) and error.final:
        refused = error.reason
    else:
        found = reply.value("tagged")
        rows = found.get("payments") if isinstance(found, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Bitrix24NoAnswer("sale.payment.list", "the result is not a list of payments")
        if not all(row.get("xmlId") == tag for row in rows):  # rule: compare rows
            raise Bitrix24NoAnswer("sale.payment.list", "payments without the tag came back: its filter was dropped")
        if reply.may_be_cut("tagged", len(rows)):
            raise Bitrix24NoAnswer("sale.payment.list", "not all payments with the tag came back")
        try:
            return frozenset(positive_id(row.get("id"), "id") for row in rows)
        except Bitrix24ConfigError:
            pass
        raise Bitrix24NoAnswer("sale.payment.list", "a payment without an id")
    raise Bitrix24ConfigError(
        f"tag=True needs the scope sale and an administrator, and this connection may not read tags ({refused}).",
        NOT_SENT,
        "Grant both, or leave the tag out and give journal_conn_id.",
    )
