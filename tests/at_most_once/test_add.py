"""Adding a payment, in virtual time."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    Bitrix24NoAnswer,
    Bitrix24NotFound,
    Bitrix24NotSent,
    Bitrix24OutcomeUnknown,
    PaymentAmbiguous,
    PaymentMismatch,
    PaymentNotApplied,
    PaymentRefused,
)

if TYPE_CHECKING:
    from conftest import World

ADD = "crm.item.payment.add"
LIST = "crm.item.payment.list"


def add(world: World, **arguments: Any) -> dict[str, Any]:
    return world.payments.add_crm_payment(**{"entity_id": 1, "entity_type_id": 2, "key": "key", **arguments}).as_dict()


def test_an_empty_payment_is_added_in_three_requests(world: World) -> None:
    assert add(world, key="acme.bitrix24.com:task") == {
        "operation": "add_crm_payment",
        "outcome": "created",
        "portal": "acme.bitrix24.com",
        "entity_type_id": 2,
        "entity_id": 1,
        "payment_id": 1033,
        "pay_system_id": 6,
        "amount": "0.00",
        "currency": "EUR",
        "idempotency_key": "acme.bitrix24.com:task",
        "evidence": "response",
        "recovered": False,
    }
    (entry,) = world.ledger("payment_added")
    assert entry["payment_id"] == 1033
    assert entry["idempotency_key"] == hashlib.sha256(b"acme.bitrix24.com:task").hexdigest()
    assert world.sent == ["batch", ADD, LIST]


def test_a_smart_invoice_gets_one_too(world: World) -> None:
    receipt = add(world, entity_id=101, entity_type_id=31)
    assert (receipt["entity_type_id"], receipt["entity_id"]) == (31, 101)
    (entry,) = world.ledger("payment_added")
    assert (entry["entity_type_id"], entry["entity_id"]) == (31, 101)


def test_the_pay_system_asked_for_is_sent_along(world: World) -> None:
    assert add(world, pay_system_id=8)["pay_system_id"] == 8
    assert world.sent == ["batch", ADD, LIST]


def test_another_pay_system_is_corrected(world: World) -> None:
    world.before[LIST] = lambda: world.person("crm.item.payment.update", {"id": 1033, "fields": {"paySystemId": 6}})
    receipt = add(world, pay_system_id=8)
    assert (receipt["payment_id"], receipt["pay_system_id"]) == (1033, 8)
    assert world.writes() == [ADD, "crm.item.payment.update"]
    assert len(world.ledger("payment_added")) == 1


def test_a_pay_system_that_cannot_be_corrected_is_told(world: World) -> None:
    world.before[LIST] = lambda: world.person("crm.item.payment.update", {"id": 1033, "fields": {"paySystemId": 6}})
    world.fault("true_not_applied", "crm.item.payment.update", occurrence=2)
    with pytest.raises(
        PaymentMismatch, match=r"Payment 1033 was added to deal 1.*keeps pay system 6 'Cash' instead of 8"
    ):
        add(world, pay_system_id=8)


def test_a_lost_answer_to_the_correction_is_resolved(world: World) -> None:
    world.before[LIST] = lambda: world.person("crm.item.payment.update", {"id": 1033, "fields": {"paySystemId": 6}})
    world.fault("drop_after", "crm.item.payment.update", occurrence=2)
    assert add(world, pay_system_id=8)["pay_system_id"] == 8


@pytest.mark.parametrize(
    ("pay_system_id", "words"),
    [(99, "does not exist"), (31, "kind CRM_INVOICE, not ORDER"), (33, "switched off|kind CRM_INVOICE")],
)
def test_an_unfit_pay_system_is_refused(world: World, pay_system_id: int, words: str) -> None:
    with pytest.raises(PaymentRefused, match=words) as caught:
        add(world, pay_system_id=pay_system_id)
    assert "Nothing was sent" in str(caught.value)
    assert world.writes() == []


def test_who_may_not_see_the_pay_systems_is_not_held_up(world: World) -> None:
    world.connect(user_id=7)
    assert add(world, pay_system_id=8)["pay_system_id"] == 8


@pytest.mark.parametrize(
    ("entity_id", "entity_type_id", "what"), [(999, 2, "deal 999"), (999, 31, "smart invoice 999")]
)
def test_an_object_that_does_not_exist_is_refused(world: World, entity_id: int, entity_type_id: int, what: str) -> None:
    with pytest.raises(PaymentRefused, match=f"There is no {what}"):
        add(world, entity_id=entity_id, entity_type_id=entity_type_id)
    assert world.writes() == []


def test_an_object_deleted_meanwhile_is_the_portals_refusal(world: World) -> None:
    world.before[ADD] = lambda: world.fault(
        "error", ADD, code=0, text="Entity with identifier №1 does not exist", status=400, times=1
    )
    with pytest.raises(Bitrix24NotFound):
        add(world)
    assert world.sent == ["batch", ADD]


def test_the_missing_scope_is_named(world: World) -> None:
    world.connect(scopes=("sale",))
    with pytest.raises(Bitrix24ConfigError, match="lacks the scope crm"):
        add(world)


def test_an_object_with_an_order_is_warned_about(world: World, caplog: pytest.LogCaptureFixture) -> None:
    add(world, entity_id=4)
    assert "Deal 4 has order 1 already" in caplog.text
    assert "rewrites that order" in caplog.text


def test_an_object_without_an_order_is_not_warned_about(world: World, caplog: pytest.LogCaptureFixture) -> None:
    add(world)
    assert "rewrites" not in caplog.text


def test_an_order_that_may_not_be_seen_is_warned_about(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.fault("error", "crm.orderentity.list", code="200040300010", text="Access Denied")
    add(world, entity_id=4)
    assert "Deal 4 has an order already" in caplog.text


# -- an unpaid payment is there already


def test_unpaid_add(world: World) -> None:
    assert add(world, entity_id=4)["payment_id"] == 1033


def test_unpaid_return(world: World) -> None:
    receipt = add(world, entity_id=4, if_unpaid_exists="return")
    assert (receipt["outcome"], receipt["payment_id"], receipt["amount"]) == ("existing", 1001, "350.00")
    assert (receipt["evidence"], receipt["recovered"]) == ("portal_state", False)
    assert world.sent == ["batch"]


def test_unpaid_return_with_none_there_adds(world: World) -> None:
    assert add(world, entity_id=5, if_unpaid_exists="return")["outcome"] == "created"


def test_unpaid_return_cannot_choose(world: World) -> None:
    second = world.portal.act.add_payment(2, 4)
    with pytest.raises(PaymentAmbiguous, match=rf"2 unpaid payments \(1001 of 350\.00 EUR, {second} of 0") as caught:
        add(world, entity_id=4, if_unpaid_exists="return")
    assert caught.value.candidates == (1001, second)
    assert world.writes() == []


def test_unpaid_return_with_another_pay_system_is_a_mismatch(world: World) -> None:
    with pytest.raises(
        PaymentMismatch, match=r"payment 1001 of 350\.00 EUR, but with pay system 6 'Cash' instead of 8"
    ):
        add(world, entity_id=4, if_unpaid_exists="return", pay_system_id=8)
    assert world.writes() == []


def test_unpaid_fail(world: World) -> None:
    with pytest.raises(PaymentRefused, match=r"Deal 4 has an unpaid payment already \(1001 of 350\.00 EUR\)"):
        add(world, entity_id=4, if_unpaid_exists="fail")
    assert world.writes() == []


def test_unpaid_fail_with_none_there_adds(world: World) -> None:
    assert add(world, entity_id=5, if_unpaid_exists="fail")["outcome"] == "created"


# -- the answer is lost or unclear


def test_what_is_proved_to_be_absent_is_added_once_more(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.fault("drop_before", ADD, times=1)
    receipt = add(world)
    assert (receipt["outcome"], receipt["evidence"], receipt["recovered"]) == ("created", "response", False)
    assert "read twice after everything that was sent must have ended" in caplog.text
    assert world.writes() == [ADD, ADD]
    assert len(world.ledger("payment_added")) == 1
    assert world.clock.time() - 1_763_800_000 >= world.client.settings.settle_window + 10


def test_what_is_absent_twice_is_for_a_person(world: World) -> None:
    world.fault("drop_before", ADD)
    with pytest.raises(PaymentAmbiguous, match=r"sent twice for this key, but the portal does not show") as caught:
        add(world)
    assert caught.value.final
    assert caught.value.candidates == ()
    assert world.writes() == [ADD, ADD]
    assert world.portal.ledger == []


@pytest.mark.parametrize("fault", ["drop_after", "truncate", "hold", "html", "internal_server_error"])
def test_one_new_payment_is_a_candidate_and_no_proof(world: World, fault: str) -> None:
    world.fault(fault, ADD, times=1, when="after")
    with pytest.raises(PaymentAmbiguous, match=r"There is one new payment, 1033 of 0\.00 EUR: it probably") as caught:
        add(world)
    assert caught.value.candidates == (1033,)
    assert world.writes() == [ADD]


def test_one_new_payment_is_adopted_with_adopt(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.fault("drop_after", ADD, times=1)
    receipt = add(world, entity_id=4, on_unknown="adopt")
    assert (receipt["outcome"], receipt["payment_id"], receipt["evidence"]) == ("created", 1033, "only_new_payment")
    assert "on_unknown='adopt' says" in caplog.text
    assert world.writes() == [ADD]


def test_what_the_portal_commits_at_the_very_end_is_found(world: World) -> None:
    world.fault("commit_later", ADD, times=1, seconds=130)
    assert add(world, on_unknown="adopt")["payment_id"] == 1033
    assert len(world.ledger("payment_added")) == 1


@pytest.mark.parametrize("on_unknown", ["fail", "adopt"])
def test_two_new_payments_are_never_ours(world: World, on_unknown: str) -> None:
    world.fault("drop_after", ADD, times=1)
    world.before[LIST] = lambda: world.portal.act.add_payment(2, 1)
    with pytest.raises(PaymentAmbiguous, match=r"2 new payments exist: 1033 .*, 1034 ") as caught:
        add(world, on_unknown=on_unknown)
    assert caught.value.candidates == (1033, 1034)


def test_a_payment_of_the_customer_is_not_taken_for_ours(world: World) -> None:
    world.fault("drop_before", ADD, times=1)
    world.before[LIST] = lambda: world.portal.act.add_payment(2, 1, amount="12.00")
    with pytest.raises(PaymentAmbiguous, match=r"There is one new payment, 1033 of 12\.00 EUR"):
        add(world)


@pytest.mark.parametrize(
    ("amount", "paid", "words"),
    [
        ("12.00", False, r"it is for 12\.00 EUR"),
        ("0", True, "it is paid"),
        ("500.00", True, r"paid and for 500\.00 EUR"),
    ],
)
@pytest.mark.parametrize("fill", [False, True])
def test_what_cannot_be_ours_is_never_adopted(world: World, amount: str, paid: bool, words: str, fill: bool) -> None:
    def customer() -> None:
        number = world.portal.act.add_payment(2, 1, amount=amount)
        if paid:
            world.portal.act.pay_payment(number)

    world.fault("drop_before", ADD, times=1)
    world.before[LIST] = customer
    with pytest.raises(PaymentAmbiguous, match=words) as caught:
        add(world, on_unknown="adopt", fill_products=fill, pay_system_id=8)
    assert "does not look like this key's" in str(caught.value)
    assert caught.value.candidates == (1033,)
    assert world.writes() == [ADD]


def test_an_adopted_payment_gets_its_pay_system(world: World) -> None:
    world.fault("drop_before", ADD, times=1)
    world.before[LIST] = lambda: world.portal.act.add_payment(2, 1)
    assert add(world, on_unknown="adopt", pay_system_id=8)["pay_system_id"] == 8


def test_a_portal_that_drops_filters_is_read_back_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.person(ADD, {"entityTypeId": 2, "entityId": 1})
    handle = world.portal.handle

    def without_filter(method: str, params: dict[str, Any], **options: Any) -> Any:
        return handle(method, {key: value for key, value in params.items() if key != "filter"}, **options)

    monkeypatch.setattr(world.portal, "handle", without_filter)
    assert add(world)["payment_id"] == first + 1


@pytest.mark.parametrize("on_unknown", ["fail", "adopt"])
def test_the_id_of_a_payment_that_was_there_is_an_unclear_answer(world: World, on_unknown: str) -> None:
    world.bodies[ADD] = first = world.person(ADD, {"entityTypeId": 2, "entityId": 1})
    with pytest.raises(PaymentNotApplied, match=f"the id {first}, which .* was there before"):
        add(world, on_unknown=on_unknown)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            ("orders", {"orderEntity": rows})
            for rows in ([{"orderId": "x"}], ["a"], 5, [{"orderId": None}], [{}], {"a": 1})
        ),
        ("orders", None),
        ("payments", {}),
        ("payments", [5]),
        ("profile", []),
        ("scope", None),
    ],
    ids=str,
)
def test_strange_rows_are_no_traceback(world: World, key: str, value: Any) -> None:
    good = {"scope": ["crm"], "profile": {"ID": 1}, "object": {"item": {}}, "payments": [], "orders": {}}
    world.bodies["batch"] = {"result": good | {key: value}, "result_error": []}
    if key in ("payments", "scope", "profile"):
        with pytest.raises(Bitrix24NoAnswer):
            add(world)
        assert world.writes() == []
    else:
        assert add(world)["payment_id"] == 1033


def test_the_payment_is_logged_as_soon_as_it_is_known(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.before[LIST] = lambda: world.portal.act.delete_payment(1033)
    caplog.set_level("INFO")
    with pytest.raises(PaymentNotApplied):
        add(world)
    assert "added payment 1033 to deal 1" in caplog.text


def test_an_unclear_answer_without_effect_is_refused_with_the_portals_words(world: World) -> None:
    world.fault("error", ADD, times=1, code=0, text="Plan limit reached", status=400)
    with pytest.raises(
        PaymentNotApplied, match=r"code 0, Plan limit reached.*add a payment to deal 1, but does not show a new payment"
    ):
        add(world)
    assert 9 < sum(world.slept) < 12


def test_an_unclear_answer_with_effect_is_a_candidate(world: World) -> None:
    world.fault("error_after_executing", ADD, times=1, code="", text="", status=400)
    with pytest.raises(PaymentAmbiguous, match="responded unclearly"):
        add(world)


def test_a_success_without_an_id_is_a_refusal(world: World) -> None:
    world.fault("true_not_applied", ADD, times=1)
    with pytest.raises(PaymentNotApplied, match="deal 1"):
        add(world)
    assert world.ledger("payment_added") == []


def test_an_answer_that_never_shows_is_told_with_its_id(world: World) -> None:
    world.before[LIST] = lambda: world.portal.act.delete_payment(1033)
    with pytest.raises(PaymentNotApplied, match="Payment 1033 of deal 1 was added according to the portal's reply"):
        add(world)


def test_an_answer_that_cannot_be_read_back_is_told_with_its_id(world: World) -> None:
    world.before[ADD] = lambda: world.fault("drop_before", LIST)
    with pytest.raises(PaymentNotApplied, match=r"Payment 1033 of deal 1 .* the portal cannot be read now"):
        add(world)


def test_lost_and_then_unreadable_says_that_one_may_have_been_added(world: World) -> None:
    world.fault("drop_after", ADD, times=1)
    world.before[ADD] = lambda: world.fault("drop_before", "batch")
    with pytest.raises(
        Bitrix24OutcomeUnknown, match=r"add a payment to deal 1, and could not be read.*may have been added"
    ):
        add(world)


def test_what_never_leaves_adds_nothing(world: World) -> None:
    world.not_sent = 1000
    with pytest.raises(Bitrix24NotSent):
        add(world)
    assert world.portal.ledger == []


# -- batches that stop


def test_a_batch_that_says_nothing_of_the_payment_may_have_added_it(world: World) -> None:
    """It stops at its first error: what stands before that has run, whether the answer mentions it or not."""
    world.connect(scopes=("crm", "sale", "pay_system"))
    failed = {"get": {"error": "0", "error_description": "Strange"}}
    answer = {"result": [], "result_error": failed, "result_total": [], "result_next": [], "result_time": []}
    world.before["batch:add"] = lambda: world.bodies.update(batch=answer)
    with pytest.raises(PaymentNotApplied, match=r"the batch says nothing about it.*does not show a new payment"):
        add(world, tag=True)
    assert len([key for key in world.keys if key]) == 1


def test_a_batch_that_stopped_before_the_tag_has_added_the_payment(world: World) -> None:
    world.connect(scopes=("crm", "sale", "pay_system"))
    world.fault("error", "crm.item.payment.get", code=0, text="Strange")
    receipt = add(world, tag=True)
    assert (receipt["outcome"], receipt["evidence"]) == ("created", "response")
    assert len(world.ledger("payment_added")) == 1
