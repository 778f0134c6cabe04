"""Marking a legacy invoice, in virtual time; the portal's ledger says what happened."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.at_most_once.receipt import Expected
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ApiError,
    Bitrix24ConfigError,
    Bitrix24NoAnswer,
    Bitrix24NotSent,
    Bitrix24OutcomeUnknown,
    Bitrix24PermissionError,
    Bitrix24RateLimited,
    PaymentAmbiguous,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
)

if TYPE_CHECKING:
    from conftest import World

PAY = "sale.paysystem.pay.invoice"
LOST = pytest.mark.parametrize("fault", ["drop_after", "truncate", "hold", "invalid_json", "empty_body"])


def pay(world: World, **arguments: Any) -> dict[str, Any]:
    return world.payments.pay_invoice(**{"invoice_id": 2, "pay_system_id": 31, **arguments}).as_dict()


def test_an_unpaid_invoice_is_paid_in_three_requests(world: World) -> None:
    receipt = pay(world)
    key = "acme.bitrix24.com:invoice:2"
    assert list(receipt) == [
        "operation",
        "outcome",
        "portal",
        "invoice_id",
        "pay_system_id",
        "amount",
        "currency",
        "paid_at",
        "idempotency_key",
        "evidence",
        "recovered",
    ]
    assert receipt.pop("paid_at").startswith("2025-11-22T10:26:40")
    assert receipt == {
        "operation": "pay_invoice",
        "outcome": "paid",
        "portal": "acme.bitrix24.com",
        "invoice_id": 2,
        "pay_system_id": 31,
        "amount": "1500.00",
        "currency": "EUR",
        "idempotency_key": key,
        "evidence": "response",
        "recovered": False,
    }
    (entry,) = world.portal.ledger
    assert entry["event"] == "invoice_paid"
    assert entry["invoice_id"] == 2
    assert entry["by"] == "rest"
    assert entry["idempotency_key"] == hashlib.sha256(key.encode()).hexdigest()
    assert world.sent == ["batch", PAY, "crm.invoice.get"]


def test_by_handler_the_pay_system_is_found(world: World) -> None:
    world.person("sale.paysystem.delete", {"ID": 33})
    receipt = pay(world, pay_system_id=None, bx_rest_handler="sandbox_bank")
    assert receipt["outcome"] == "paid"
    assert receipt["pay_system_id"] == 31
    assert len(world.ledger("invoice_paid")) == 1


def pay_system(world: World, *, action_file: str, active: bool = True) -> int:
    """A new pay system for legacy invoices."""
    fields = {
        "name": "New",
        "action_file": action_file,
        "entity_registry_type": "CRM_INVOICE",
        "active": "Y" if active else "N",
    }
    number = world.portal.create("pay_system", fields)
    assert isinstance(number, int)
    return number


def test_by_handler_without_the_right_to_see_pay_systems(world: World) -> None:
    world.connect(user_id=7)
    receipt = pay(world, pay_system_id=None, bx_rest_handler="sandbox_bank")
    assert receipt["outcome"] == "paid"
    assert receipt["pay_system_id"] is None


def test_two_pay_systems_of_one_handler_leave_open_which_one_it_was(world: World) -> None:
    pay_system(world, action_file="sandbox_bank")
    assert pay(world, pay_system_id=None, bx_rest_handler="sandbox_bank")["pay_system_id"] is None


def test_a_paid_invoice_is_left_alone(world: World) -> None:
    receipt = world.payments.pay_invoice(invoice_id=1, pay_system_id=31)
    assert not receipt.sent
    assert receipt.as_dict()["outcome"] == "already_paid"
    assert receipt.as_dict()["evidence"] == "portal_state"
    assert receipt.as_dict()["amount"] == "800.00"
    assert world.portal.ledger == []
    assert world.sent == ["batch"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"invoice_id": 4}, "Invoice 4 is cancelled"),
        ({"invoice_id": 5}, "Invoice 5 is declined"),
        ({"invoice_id": 6}, "Invoice 6 is for 0.00 EUR"),
        ({"invoice_id": 999}, "There is no legacy invoice 999"),
        ({"invoice_id": 101}, "101 .* is no legacy invoice, but a smart invoice.*AddCrmPaymentOperator"),
        ({"pay_system_id": 99}, "Pay system 99 does not exist.*31 'Bank transfer'"),
        ({"pay_system_id": 8}, "Pay system 8 .* kind ORDER, not CRM_INVOICE"),
        ({"pay_system_id": 32}, "no REST handler: Bitrix24 would return true and leave the invoice unpaid"),
        ({"pay_system_id": 33}, "Pay system 33 .*(switched off|no REST handler|kind)"),
        ({"pay_system_id": None, "bx_rest_handler": "nobody"}, "no REST handler with the code 'nobody'.*sandbox_bank"),
        ({"pay_system_id": None, "bx_rest_handler": "sandbox_card"}, "No active pay system for legacy invoices uses"),
    ],
)
def test_refused_before_anything_is_sent(world: World, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(PaymentRefused, match=words) as caught:
        pay(world, **arguments)
    assert "Nothing was sent" in str(caught.value)
    assert world.writes() == []
    assert world.portal.ledger == []


def test_an_inactive_pay_system_is_refused(world: World) -> None:
    number = pay_system(world, action_file="sandbox_bank", active=False)
    with pytest.raises(PaymentRefused, match=f"Pay system {number} 'New' is switched off"):
        pay(world, pay_system_id=number)


@pytest.mark.parametrize(
    ("scopes", "missing"),
    [
        (("crm",), "lacks the scope pay_system;"),
        (("pay_system",), "lacks the scope crm;"),
        (("sale",), "crm and pay_sy"),
    ],
)
def test_a_missing_scope_is_named(world: World, scopes: tuple[str, ...], missing: str) -> None:
    world.connect(scopes=scopes)
    with pytest.raises(Bitrix24ConfigError, match=missing):
        pay(world)
    assert world.sent == ["batch"]


def test_an_invoice_that_may_not_be_read_is_not_paid(world: World) -> None:
    world.fault("error", "crm.invoice.get", code="", text="Access denied.", status=400)
    with pytest.raises(Bitrix24PermissionError):
        pay(world)
    assert world.writes() == []


@pytest.mark.parametrize("scopes", [None, {"scope": "crm"}])
def test_scopes_in_an_unknown_form_are_no_answer(world: World, scopes: Any) -> None:
    world.bodies["batch"] = {"result": {"scope": scopes}, "result_error": []}
    with pytest.raises(Bitrix24NoAnswer):
        pay(world)
    assert world.writes() == []


@pytest.mark.parametrize(
    "expected",
    [
        Expected(amount=Decimal("1499.99")),
        Expected(currency="USD"),
        Expected(amount=Decimal(1500), currency="USD"),
    ],
)
def test_other_money_than_expected_is_refused(world: World, expected: Expected) -> None:
    with pytest.raises(PaymentMismatch, match=r"Invoice 2 is for 1500\.00 EUR; .* was expected\. Nothing was sent\."):
        pay(world, expected=expected)
    assert world.portal.ledger == []


def test_other_money_is_refused_for_a_paid_invoice_too(world: World) -> None:
    with pytest.raises(PaymentMismatch, match=r"It is paid already\. Nothing was sent\."):
        pay(world, invoice_id=1, expected=Expected(amount=Decimal(1)))


def test_the_expected_money_is_accepted(world: World) -> None:
    assert pay(world, expected=Expected(amount=Decimal("1500.001"), currency="EUR"))["outcome"] == "paid"


def test_true_without_effect_is_found_and_explained(world: World) -> None:
    world.connect(user_id=7)
    with pytest.raises(
        PaymentNotApplied,
        match=r"accepted the request to mark invoice 2 as paid, but does not show it as paid.*cash on delivery",
    ):
        pay(world, pay_system_id=32)
    assert world.ledger("invoice_paid") == []
    assert world.writes() == [PAY]


def test_true_that_shows_late_is_waited_for(world: World) -> None:
    world.fault("read_lag", seconds=7)
    assert pay(world)["outcome"] == "paid"
    assert 0 < sum(world.slept) < 11


@LOST
def test_a_lost_answer_is_resolved_by_reading(world: World, fault: str) -> None:
    when = {"when": "after"} if fault == "hold" else {}
    world.fault(fault, PAY, times=1, **when)
    receipt = pay(world)
    assert receipt["outcome"] == "paid"
    assert receipt["evidence"] == "portal_state"
    assert receipt["recovered"] is False
    assert world.writes() == [PAY]
    assert len(world.ledger("invoice_paid")) == 1


def test_what_the_portal_commits_late_is_waited_for(world: World) -> None:
    world.fault("commit_later", PAY, times=1, seconds=100)
    assert pay(world)["outcome"] == "paid"
    assert world.writes() == [PAY]
    assert 90 < sum(world.slept) < 150


@pytest.mark.parametrize("fault", ["drop_before", "internal_server_error", "html"])
def test_a_lost_request_is_sent_once_more_after_the_settle_window(world: World, fault: str) -> None:
    world.fault(fault, PAY, times=1, when="before")
    assert pay(world)["outcome"] == "paid"
    assert world.writes() == [PAY, PAY]
    assert len(world.ledger("invoice_paid")) == 1
    # The window, and the read lag between the two reads that prove the absence.
    assert world.client.settings.settle_window + 10 <= world.clock.time() - 1_763_800_000 < 200


@pytest.mark.parametrize("fault", ["drop_before", "internal_server_error", "html"])
def test_a_request_that_is_lost_twice_is_for_a_person(world: World, fault: str) -> None:
    world.fault(fault, PAY, when="before")
    with pytest.raises(
        PaymentAmbiguous, match=r"request to mark invoice 2 as paid was sent twice.*does not show it"
    ) as caught:
        pay(world)
    assert caught.value.final
    assert caught.value.__context__ is None
    assert world.portal.ledger == []
    assert world.writes() == [PAY, PAY]


def test_a_mark_by_somebody_else_meanwhile_is_not_claimed(world: World) -> None:
    world.fault("drop_before", PAY, times=1)
    world.before["crm.invoice.get"] = lambda: world.portal.act.pay_invoice(2, by="person", user_id=7)
    receipt = world.payments.pay_invoice(invoice_id=2, pay_system_id=31)
    assert receipt.sent
    assert receipt.as_dict()["outcome"] == "already_paid"
    assert receipt.as_dict()["evidence"] == "portal_state"


def test_a_mark_by_somebody_else_before_ours_is_not_claimed(world: World) -> None:
    world.before[PAY] = lambda: world.portal.act.pay_invoice(2, by="person", user_id=7)
    assert pay(world)["outcome"] == "already_paid"


def test_without_the_portals_time_nothing_is_claimed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "_answer", without_time(world))
    assert pay(world)["outcome"] == "already_paid"
    assert len(world.ledger("invoice_paid")) == 1


def without_time(world: World) -> Any:
    """Answers without time block and Date header."""
    answer = world._answer

    def timeless(request: Any) -> Any:
        outcome = answer(request)
        body = json.loads(outcome.body)
        body.pop("time", None)
        return replace(outcome, headers={}, body=json.dumps(body).encode())

    return timeless


@pytest.mark.parametrize(
    ("code", "text"), [("0", "Something odd"), ("ERROR_PROCESS_REQUEST_RESULT", "Handler says no"), ("", "")]
)
def test_an_unclear_answer_without_effect_is_refused_with_the_portals_words(world: World, code: str, text: str) -> None:
    world.fault("error", PAY, times=1, code=code, text=text, status=400)
    with pytest.raises(PaymentNotApplied) as caught:
        pay(world)
    assert f"({f'code {code}, {text}' if code else 'no details'})" in str(caught.value)
    assert text in str(caught.value)
    assert world.portal.ledger == []
    assert world.writes() == [PAY]
    assert 9 < sum(world.slept) < 12


def test_an_unclear_answer_with_effect_is_a_success(world: World) -> None:
    world.fault("error_after_executing", PAY, times=1, code="0", text="Handler after save", status=400)
    receipt = pay(world)
    assert receipt["outcome"] == "paid"
    assert receipt["evidence"] == "portal_state"


def test_a_refusal_is_final_and_nothing_is_read(world: World) -> None:
    world.fault("error", PAY, times=1, code="ACCESS_DENIED", text="Access denied!", status=403)
    with pytest.raises(Bitrix24ApiError, match="Access denied"):
        pay(world)
    assert world.sent == ["batch", PAY]


def test_another_sum_afterwards_is_a_mismatch_that_says_that_the_mark_was_made(world: World) -> None:
    change(world, "crm.invoice.get")
    with pytest.raises(
        PaymentMismatch, match=r"Invoice 2 is for 1\.00 EUR now.*1500\.00 EUR.*It was marked as paid by this key"
    ):
        pay(world)
    assert len(world.ledger("invoice_paid")) == 1


def change(world: World, before: str) -> None:
    """Somebody changes the sum of invoice 2 through REST just before a request."""

    def act() -> None:
        row = {"ID": 0, "PRODUCT_ID": 0, "PRODUCT_NAME": "Less", "PRICE": "1.00", "QUANTITY": "1"}
        world.person("crm.invoice.update", {"id": 2, "fields": {"PRODUCT_ROWS": [row]}})

    world.before[before] = act


def test_what_did_not_leave_is_sent_in_a_new_deadline(world: World) -> None:
    world.not_sent = 4
    assert pay(world)["outcome"] == "paid"
    assert world.writes() == [PAY]


def test_what_never_leaves_is_an_ordinary_error(world: World) -> None:
    world.not_sent = 1000
    with pytest.raises(Bitrix24NotSent) as caught:
        pay(world)
    assert not caught.value.final
    assert world.portal.ledger == []


def test_a_busy_portal_is_waited_for_in_new_leases(world: World) -> None:
    world.fault("query_limit_exceeded", PAY, times=12)
    assert pay(world)["outcome"] == "paid"
    assert world.ledger("invoice_paid")


def test_a_portal_that_stays_busy_is_an_ordinary_error(world: World) -> None:
    world.fault("query_limit_exceeded", PAY)
    with pytest.raises((Bitrix24RateLimited, Bitrix24NotSent)) as caught:
        pay(world)
    assert not caught.value.final
    assert world.portal.ledger == []
    assert world.clock.time() - 1_763_800_000 < 200


def test_used_up_working_time_is_told_at_once(world: World) -> None:
    world.fault("operation_time_limit", PAY)
    with pytest.raises(Bitrix24RateLimited):
        pay(world)
    assert world.slept == []


def test_true_and_then_unreadable_is_never_retried(world: World) -> None:
    world.before[PAY] = lambda: world.fault("query_limit_exceeded", "crm.invoice.get")
    with pytest.raises(
        Bitrix24OutcomeUnknown, match=r"accepted the request to mark invoice 2 as paid, .*: it may have been marked"
    ) as caught:
        pay(world)
    assert caught.value.final
    assert caught.value.answered
    text = str(caught.value)
    assert "could not be read afterwards (crm.invoice.get: QUERY_LIMIT_EXCEEDED Too many requests)" in text
    assert "Nothing is sent again automatically" in text
    assert "if it is unpaid, remove the cause and clear this task: it reads first" in text
    for verdict in ("Nothing was", "Come back", "nothing was changed"):
        assert verdict not in text
    assert str(pickle.loads(pickle.dumps(caught.value))) == text
    assert len(world.ledger("invoice_paid")) == 1


def test_what_was_undone_by_a_person_is_not_said_never_to_have_happened(world: World) -> None:
    world.before["crm.invoice.get"] = lambda: world.portal.act.unpay_invoice(2)
    with pytest.raises(PaymentNotApplied, match="someone reverted it in the meantime") as caught:
        pay(world)
    assert "recorded" not in str(caught.value)
    # The pay system was seen to have a REST handler.
    assert "cash" not in str(caught.value)
    assert len(world.ledger("invoice_paid")) == 1


@pytest.mark.parametrize("unseen", ["sale.paysystem.handler.list", "sale.paysystem.list"])
def test_a_handler_that_was_not_seen_may_be_a_trap(world: World, unseen: str) -> None:
    world.fault("error", unseen, code="ACCESS_DENIED", text="Access denied!")
    world.fault("true_not_applied", PAY)
    with pytest.raises(PaymentNotApplied, match="cash on delivery"):
        pay(world)


def test_a_handler_that_was_seen_is_no_trap(world: World) -> None:
    world.fault("error", "sale.paysystem.list", code="ACCESS_DENIED", text="Access denied!")
    world.fault("true_not_applied", PAY)
    with pytest.raises(PaymentNotApplied, match="saving the invoice failed on its side") as caught:
        pay(world, pay_system_id=None, bx_rest_handler="sandbox_bank")
    assert "cash" not in str(caught.value)


def test_lost_and_then_unreadable_says_that_money_may_be_recorded(world: World) -> None:
    world.fault("drop_after", PAY, times=1)
    world.before[PAY] = lambda: world.fault("drop_before", "crm.invoice.get")
    with pytest.raises(Bitrix24OutcomeUnknown, match=r"could not be read.*may have been marked as paid"):
        pay(world)


def test_an_outage_is_borne_as_long_as_the_mark_may_still_appear(world: World) -> None:
    world.fault("commit_later", PAY, times=1, seconds=110)
    world.before[PAY] = lambda: world.fault("html", "crm.invoice.get", times=45, status=503)
    assert pay(world)["outcome"] == "paid"
    assert world.writes() == [PAY]


def test_a_redirect_while_finding_out_is_borne(world: World) -> None:
    world.fault("drop_after", PAY, times=1)
    world.before[PAY] = lambda: world.fault("redirect", "crm.invoice.get", times=3)
    assert pay(world)["outcome"] == "paid"


def test_a_portal_that_only_redirects_is_given_up_when_nothing_can_appear_any_more(world: World) -> None:
    world.fault("drop_after", PAY, times=1)
    world.before[PAY] = lambda: world.fault("redirect", "crm.invoice.get")
    with pytest.raises(Bitrix24OutcomeUnknown, match=r"could not be read afterwards.*may have been marked") as caught:
        pay(world)
    assert "with a redirect" in str(caught.value)
    assert "Nothing was executed" not in str(caught.value)
    waited = world.clock.time() - 1_763_800_000
    assert world.client.settings.settle_window < waited < world.client.settings.settle_window + 100


def test_another_invoice_than_asked_for_says_nothing(world: World) -> None:
    other = world.person("crm.invoice.get", {"id": 1})
    batch = {"scope": ["crm", "pay_system"], "profile": {"ID": 1}, "invoice": other, "pay_systems": [], "handlers": []}
    world.bodies["batch"] = {"result": batch, "result_error": []}
    with pytest.raises(Bitrix24NoAnswer, match=r"object: 1 instead of 2"):
        pay(world)
    assert world.writes() == []


def test_another_paid_invoice_is_no_proof(world: World) -> None:
    world.fault("true_not_applied", PAY)
    world.bodies["crm.invoice.get"] = world.person("crm.invoice.get", {"id": 1})
    with pytest.raises(PaymentNotApplied, match="does not show it as paid"):
        pay(world)


STRANGE: list[tuple[str, Any]] = [
    ("handlers", ["x"]),
    ("handlers", {"a": {"CODE": "x"}}),
    ("handlers", [{}]),
    ("handlers", 5),
    ("pay_systems", {}),
    ("pay_systems", [5]),
    ("invoice", []),
    ("invoice", {"ID": "x"}),
    ("profile", []),
    ("profile", {"ID": None}),
    ("scope", {}),
]


@pytest.mark.parametrize(("key", "value"), STRANGE, ids=str)
def test_strange_rows_are_no_traceback(world: World, key: str, value: Any) -> None:
    good = {
        "scope": ["crm", "pay_system"],
        "profile": {"ID": 1},
        "invoice": world.person("crm.invoice.get", {"id": 1}),
        "pay_systems": [],
        "handlers": [],
    }
    world.bodies["batch"] = {"result": good | {key: value}, "result_error": []}
    try:
        receipt = world.payments.pay_invoice(invoice_id=1, pay_system_id=31)
    except Bitrix24NoAnswer:
        assert key != "handlers"
    else:
        assert key == "handlers"
        assert receipt.outcome == "already_paid"
    assert world.writes() == []


def test_handlers_in_an_unknown_form_refuse_nothing(world: World) -> None:
    batch = {
        "scope": ["crm", "pay_system"],
        "profile": {"ID": 1},
        "invoice": world.person("crm.invoice.get", {"id": 2}),
        "pay_systems": world.person("sale.paysystem.list", {}),
        "handlers": ["sandbox_bank"],
    }
    world.bodies["batch"] = {"result": batch, "result_error": []}
    assert world.payments.pay_invoice(invoice_id=2, pay_system_id=31).sent


@pytest.mark.parametrize(("invoice_id", "mentioned"), [(101, True), (2, False)])
def test_an_invoice_one_may_not_read_is_not_called_a_smart_one(world: World, invoice_id: int, mentioned: bool) -> None:
    world.fault("error", "crm.invoice.get", code="", text="Zugriff verweigert.", status=400)
    with pytest.raises((PaymentRefused, Bitrix24ApiError), match="Zugriff verweigert") as caught:
        pay(world, invoice_id=invoice_id)
    text = str(caught.value)
    assert ("There is also a smart invoice 101: if that one is meant" in text) is mentioned
    assert "is no legacy invoice" not in text
    assert caught.value.final
    assert world.writes() == []


def test_reads_that_fail_for_a_while_do_not_matter(world: World) -> None:
    world.fault("drop_after", PAY, times=1)
    world.before[PAY] = lambda: world.fault("drop_before", "crm.invoice.get", times=9)
    assert pay(world)["outcome"] == "paid"
