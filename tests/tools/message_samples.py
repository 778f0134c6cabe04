"""Render every message of the payment engine: ``python -m tests.tools.message_samples`` writes messages.golden.

A reviewer reads that file; a test compares it, so that no message changes unnoticed.
"""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.models import Money, Payment
from airflow_provider_bitrix24.at_most_once import messages
from airflow_provider_bitrix24.at_most_once.messages import wording
from airflow_provider_bitrix24.at_most_once.record import Decision, Record, Send
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.at_most_once.write import Watch
from airflow_provider_bitrix24.exceptions import Bitrix24OutcomeUnknown, PaymentRefused
from airflow_provider_bitrix24.journal.protocol import Saved

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "tests/at_most_once/messages.golden"
_TASK: Final = "dag:finance:run:manual__1:task:pay:map_index:-1"
_AT: Final = datetime(2026, 11, 27, 10, tzinfo=UTC).timestamp()
_DECIDE: Final = "`bitrix24-airflow journal resolve order-17 --conn-id payments` with --send-again or --abandon"


def _send(result: Any, said: str | None = None) -> Send:
    return Send(at=_AT, settle_until=_AT + 155, by=f"{_TASK}:try:1", result=result, portal_message=said)


def _record(operation: str = "add_crm_payment", **facts: Any) -> Record:
    subject = {"add_crm_payment": "deal 4", "pay_invoice": "invoice 2"}.get(operation, "payment 2")
    return Record(
        key="order-17",
        portal="acme.bitrix24.com",
        operation=operation,
        subject=subject,
        parameters={"entity_id": 4, "fill_products": False},
        task=_TASK,
        **facts,
    )


def _payment(number: int) -> Payment:
    wire = {
        "id": number,
        "accountNumber": f"1/{number}",
        "sum": "0.00",
        "currency": "EUR",
        "paid": "N",
        "paySystemId": 6,
        "paySystemName": "Cash",
    }
    return Payment.from_wire(wire)


_DECISION: Final = Decision(what="send_again", by="anna", at="2026-11-27T10:00:00+00:00", through="Airflow")
_ASIDE: Final = Decision(what="send_again", by="anna", at="2026-11-27", through="Airflow", set_aside=(1033, 1034))
_DOUBT: Final = Bitrix24OutcomeUnknown("crm.item.payment.add", text="the connection ended")
_UNCLEAR: Final = Bitrix24OutcomeUnknown("crm.item.payment.add", answered=True, code="0", text="Strange")
_PENDING: Final = _record(sends=(_send("pending"),))
_OPERATIONS: Final = ("add_crm_payment", "pay_invoice", "unpay_crm_payment", "delete_crm_payment")
_DONE_BY_REPLY: Final = [
    messages.done_by_reply(
        _record(one, sends=(_send("acknowledged"),), payment_id=1033 if one == "add_crm_payment" else None),
        _record(one, sends=(_send("pending"),)),
    )
    for one in _OPERATIONS
]
_ACKNOWLEDGED: Final = _record(sends=(_send("acknowledged"),), payment_id=1033, evidence="response")

SAMPLES: Final[dict[str, list[Any]]] = {
    "Record": [
        _PENDING,
        _record(),
        _record(sends=(_send("absent", "no response"), _send("absent", "no response"))),
        _record("pay_invoice", sends=(_send("acknowledged"),)),
        _ACKNOWLEDGED,
        _record(payment_id=1033, evidence="tag", receipt={"outcome": "created"}),
        _record(forgotten=True),
        _record(question="Is payment 1033 this key's?", candidates=(1033,), decisions=(_ASIDE,)),
    ],
    "Send | None": [_send("not_applied", "code 0, Strange"), _send("acknowledged"), None],
    "Bitrix24OutcomeUnknown": [_DOUBT, _UNCLEAR],
    "Bitrix24OutcomeUnknown | None": [_DOUBT, _UNCLEAR, None],
    "Watch | None": [None, Watch(absent_after=0.0, doubt=_UNCLEAR)],
    "TaskAttempt": [TaskAttempt(identity=_TASK, try_number=2)],
    "Decision": [
        _DECISION,
        Decision(what="use_payment", payment_id=1033, by="bob", at="2026-11-27", through="Airflow"),
    ],
    "Saved": [Saved(outcome="claimed", claimed_by="order-18", payment_id=1033)],
    "Wording": [wording.PAYING, wording.UNPAYING, wording.DELETING, wording.ADDING],
    "Payment": [_payment(1033)],
    "Sequence[Payment]": [[_payment(1033), _payment(1034)]],
    "Money | str": [Money(Decimal("1500.00"), "EUR")],
    "Money": [Money(Decimal("1500.00"), "EUR")],
    "Decimal": [Decimal("1400.00")],
    "object": [Decimal("1400.00")],
    "Mapping[str, tuple[Parameter, Parameter]]": [{"fill_products": (False, True)}],
    "Mapping[str, str | None]": [{"order-18": "bitrix24-airflow journal resolve order-18 --conn-id payments"}],
    "Mapping[int, int]": [{7: 2, 8: 1}],
    "Sequence[int]": [[1034], [1034, 1035]],
    "Collection[int]": [[1034], [1034, 1035]],
    "bool": [True, False],
    "float": [7.0, 0.0],
    "int": [1033],
    "int | None": [1033],
}
WORDS: Final[dict[str, Any]] = {
    "of": "deal 4",
    "subject": "invoice 2",
    "what": "Invoice 2",
    "where": messages.LOOK_AT_INVOICE,
    "happened": "The portal gave no usable response (the connection ended) to the request to add a payment to deal 4",
    "request": "add a payment to deal 4",
    "was": f"was paid before (2026-11-27T10:00:00+00:00, by {_TASK})",
    "then": "if it is unpaid, remove the cause and clear this task: it reads first",
    "advice": "What to do: look at the payments of deal 4 in Bitrix24; if there is none, clear this task.",
    "what_to_do": f"What to do: look at the payments of deal 4 in Bitrix24, and decide by {_DECIDE}.",
    "attempts": messages.earlier_attempts_unknown(2, "deal 4"),
    "not_sent": messages.NOT_BY_THIS_ATTEMPT,
    "known": f"{_TASK}:try:1 sent a write for deal 4. Its outcome is unknown: money may have been recorded.",
    "trouble": "crm.invoice.get: no usable response, the connection ended",
    "how_to_decide": _DECIDE,
    "command": "bitrix24-airflow journal resolve order-17 --conn-id payments",
    "show": "bitrix24-airflow journal show order-18 --conn-id payments",
    "decide": "bitrix24-airflow journal resolve order-18 --conn-id payments",
    "hint": "",
    "journal": "the database payments",
    "key": "order-17",
    "by": f"{_TASK}:try:1",
    "owner": f"{_TASK}:try:1",
    "task": _TASK,
    "set_aside": "",
    "why_ignored": messages.HANDLER_NOT_KNOWN,
    "why": "deal 4 has no such payment now",
    "strange": "it is paid",
    "look": "look at the payments of deal 4 in Bitrix24",
    "lost": "The task was cleared, and what its earlier attempts had noted is gone.",
    "overtaken": "Another task is at work on 'order-17' (deal 4).",
    "step": "row 7",
    "when": "2026-11-27T10:00:00+00:00",
    "before": Money(Decimal("1600.00"), "EUR"),
    "limit": Decimal("1400.00"),
    "times": 1,
    "try_number": 2,
    "pay_system_id": 6,
    "has": 6,
}
"""By the parameter's name; it counts more than the type."""
SENTENCES: Final = (
    "complete_by_hand",
    "in_journal",
    "look_for_surplus",
)
"""Messages that go on after a whole sentence."""
PARTS: Final = ("done_by_reply", "how_often", "not_ours", "sentence", "wording_of")
"""They are shown in the messages that use them."""


def _values(parameter: inspect.Parameter) -> list[Any]:
    kind = str(parameter.annotation)
    if parameter.name == "done":
        return _DONE_BY_REPLY
    if parameter.name == "origin":
        return [messages.PERHAPS_OURS, messages.NO_OTHER_KEY, messages.ADOPTED, messages.not_ours("it is paid")]
    if parameter.name == "wanted":
        return [31] if "int" in kind else [_record()] if kind == "Record" else [Money(Decimal("1400.00"), "EUR")]
    if parameter.name in WORDS and kind not in ("Record", "TaskAttempt"):
        return [WORDS[parameter.name], *([None] if kind == "str | None" and parameter.name == "how_to_decide" else [])]
    return SAMPLES[kind]


def renderings() -> Iterator[tuple[str, str]]:
    """Each message: its name, and the text for one choice of facts; facts are varied one after another."""
    for name, function in sorted(vars(messages).items()):
        ours = inspect.isfunction(function) and function.__module__.startswith(messages.__name__)
        if not ours or name in PARTS:
            continue
        values = {one.name: _values(one) for one in inspect.signature(function).parameters.values()}
        seen: list[str] = []
        for varied, choices in [("", [None]), *values.items()]:
            for choice in choices:
                facts = {one: given[0] for one, given in values.items()}
                if name in SENTENCES:
                    facts["happened"] += "."
                if name == "changed_before_marked":
                    facts["happened"] = messages.marked(facts["words"], ours=True)
                if varied:
                    facts[varied] = choice
                try:
                    message = function(**facts)
                except IndexError:
                    continue  # it is never asked for such a record
                text = str(PaymentRefused(*message)) if isinstance(message, tuple) else str(message)
                if text not in seen:
                    seen.append(text)
                    yield name, text


def generated() -> str:
    """Return the file."""
    parts: dict[str, list[str]] = {}
    for name, text in renderings():
        parts.setdefault(name, []).append(f"  {text}")
    return "\n\n".join("\n".join([name, *texts]) for name, texts in parts.items()) + "\n"


if __name__ == "__main__":
    FILE.write_text(generated())
    print(f"{FILE.relative_to(ROOT)} is written.")
