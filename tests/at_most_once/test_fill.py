"""Filling a payment with products, each row at most once, in virtual time."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.exceptions import PaymentMismatch, PaymentNotApplied, PaymentRefused

if TYPE_CHECKING:
    from conftest import World

ADD = "crm.item.payment.add"
PUT = "crm.item.payment.product.add"
PRODUCTS = "crm.item.payment.product.list"


def fill(world: World, **arguments: Any) -> dict[str, Any]:
    payments = world.payments
    receipt = payments.add_crm_payment(
        **{"entity_id": 1, "entity_type_id": 2, "key": "key", "fill_products": True, **arguments}
    )
    return receipt.as_dict()


def contents(world: World, payment_id: int = 1033) -> dict[int, int]:
    rows = world.person(PRODUCTS, {"paymentId": payment_id})
    assert len({row["rowId"] for row in rows}) == len(rows)
    return {row["rowId"]: row["quantity"] for row in rows}


def test_all_rows_are_put_in(world: World) -> None:
    receipt = fill(world)
    assert (receipt["payment_id"], receipt["amount"], receipt["currency"]) == (1033, "1020.00", "EUR")
    assert contents(world) == {1: 2, 2: 1}
    keys = [entry["idempotency_key"] for entry in world.ledger("payment_added", "product_added")]
    assert len(set(keys)) == 3
    assert None not in keys


def test_a_smart_invoice_is_filled_too(world: World) -> None:
    receipt = fill(world, entity_id=101, entity_type_id=31)
    assert Decimal(receipt["amount"]) > 0
    assert len(contents(world)) == 2


def test_only_what_is_still_available_is_put_in(world: World) -> None:
    first = world.person(ADD, {"entityTypeId": 2, "entityId": 1})
    world.person(PUT, {"paymentId": first, "rowId": 1, "quantity": 1})
    receipt = fill(world)
    assert receipt["amount"] == "570.00"
    assert contents(world, receipt["payment_id"]) == {1: 1, 2: 1}


def test_nothing_available_is_refused_before_adding(world: World) -> None:
    with pytest.raises(PaymentRefused, match=r"deal 3 has no product rows.*Nothing was sent"):
        fill(world, entity_id=3)
    assert world.writes() == []


def test_fractions_are_refused_before_adding(world: World) -> None:
    row(world, price="10.00", quantity="2.5")
    with pytest.raises(
        PaymentRefused, match=r"'Half' of deal 3 has the quantity 2\.5\. .*cut it off.*Nothing was sent"
    ):
        fill(world, entity_id=3)
    assert world.writes() == []


def test_rows_worth_nothing_are_refused_before_adding(world: World) -> None:
    row(world, price="0", quantity="1")
    with pytest.raises(PaymentRefused, match="add up to 0"):
        fill(world, entity_id=3)
    assert world.writes() == []


def row(world: World, *, price: str, quantity: str) -> None:
    """A product row of deal 3."""
    fields = {"ownerType": "D", "ownerId": 3, "productName": "Half", "price": price, "quantity": quantity}
    world.portal.create("product_row", fields)


def test_a_row_whose_answer_is_lost_is_found_and_not_put_in_again(world: World) -> None:
    world.fault("drop_after", PUT, occurrence=1)
    assert fill(world)["amount"] == "1020.00"
    assert world.writes() == [ADD, PUT, PUT]


def test_a_row_that_is_proved_to_be_missing_is_put_in_again(world: World) -> None:
    world.fault("drop_before", PUT, occurrence=1)
    assert fill(world)["amount"] == "1020.00"
    assert contents(world) == {1: 2, 2: 1}
    assert world.writes() == [ADD, PUT, PUT, PUT]
    assert world.clock.time() - 1_763_800_000 >= world.client.settings.settle_window + 10


def test_a_row_that_is_committed_late_is_not_put_in_again(world: World) -> None:
    world.fault("commit_later", PUT, occurrence=1, seconds=120)
    assert fill(world)["amount"] == "1020.00"
    assert world.writes() == [ADD, PUT, PUT]


def test_a_row_that_is_lost_twice_fails_and_names_the_payment(world: World) -> None:
    world.fault("drop_before", PUT)
    with pytest.raises(PaymentNotApplied, match=r"Payment 1033 was added to deal 1, but it is incomplete.*row 1 x 2"):
        fill(world)
    assert world.writes() == [ADD, PUT, PUT]


def test_a_refused_row_fails_and_names_the_payment(world: World) -> None:
    world.fault("error", PUT, occurrence=2, code="ACCESS_DENIED", text="Access denied", status=403)
    with pytest.raises(PaymentNotApplied, match=r"Payment 1033 was added to deal 1.*Access denied"):
        fill(world)
    assert contents(world) == {1: 2}


def test_a_busy_portal_does_not_contradict_that_the_payment_was_added(world: World) -> None:
    world.fault("operation_time_limit", PUT)
    with pytest.raises(PaymentNotApplied, match=r"was added.*OPERATION_TIME_LIMIT.*Complete or delete") as caught:
        fill(world)
    for verdict in ("Nothing was", "Come back"):
        assert verdict not in str(caught.value)


@pytest.mark.parametrize("which", ["payment", "products"])
def test_what_is_in_another_payment_says_nothing(world: World, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = world.person(ADD, {"entityTypeId": 2, "entityId": 1})
    world.person(PUT, {"paymentId": other, "rowId": 1, "quantity": 1})
    world.fault("drop_before", PUT, occurrence=1)
    handle = world.portal.handle

    def confused(method: str, params: dict[str, Any], **options: Any) -> Any:
        if method == "batch" and which in params["cmd"]:
            params = {**params, "cmd": {**params["cmd"], which: params["cmd"][which].replace("1034", str(other))}}
        return handle(method, params, **options)

    monkeypatch.setattr(world.portal, "handle", confused)
    with pytest.raises(PaymentNotApplied, match=f"was added.*(payment|object:) {other}"):
        fill(world)
    # Not taken for proof that the row is missing, so it is not sent again.
    assert world.writes() == [ADD, PUT]


def test_an_unclear_answer_to_a_row_is_not_repeated(world: World) -> None:
    world.fault("error", PUT, occurrence=1, code=0, text="Strange", status=400)
    with pytest.raises(PaymentNotApplied, match=r"product row 1 x 2 is not in it .*Strange"):
        fill(world)
    assert world.writes() == [ADD, PUT]


def test_an_unclear_answer_to_a_row_that_is_there_is_a_success(world: World) -> None:
    world.fault("error_after_executing", PUT, occurrence=1, code=0, text="Strange", status=400)
    assert fill(world)["amount"] == "1020.00"


def test_a_success_without_an_id_is_looked_into(world: World) -> None:
    world.bodies[PUT] = None
    with pytest.raises(PaymentNotApplied, match=r"was added to deal 1.*row 1 x 2 is not in it .*success without an id"):
        fill(world)
    assert world.writes() == [ADD, PUT]


def test_rows_taken_out_meanwhile_are_a_mismatch(world: World) -> None:
    def take_out() -> None:
        (line, *_) = world.person(PRODUCTS, {"paymentId": 1033})
        world.person("crm.item.payment.product.delete", {"id": line["id"]})

    # Before the batch that checks the payment after the second row.
    world.before[PUT] = lambda: world.before.update({PUT: lambda: world.before.update(batch=take_out)})
    with pytest.raises(PaymentMismatch, match=r"Payment 1033 was added.*does not show all product rows"):
        fill(world)


def test_a_payment_that_cannot_be_read_afterwards_is_named(world: World) -> None:
    world.before[PUT] = lambda: world.fault("drop_before", PRODUCTS)
    with pytest.raises(PaymentNotApplied, match="Payment 1033 was added to deal 1, but it is incomplete: it could not"):
        fill(world)


@pytest.mark.parametrize(("row_id", "quantity"), [(1, 2), (2, 1)])
def test_an_existing_empty_payment_is_filled(world: World, row_id: int, quantity: int) -> None:
    first = world.person(ADD, {"entityTypeId": 2, "entityId": 1})
    world.person(PUT, {"paymentId": first, "rowId": row_id, "quantity": quantity})
    world.portal.act.set_sum(first, "0")
    receipt = fill(world, if_unpaid_exists="return")
    assert (receipt["outcome"], receipt["payment_id"]) == ("existing", first)
    assert contents(world, first) == {1: 2, 2: 1}
    assert world.writes() == [PUT]


def test_an_existing_payment_with_a_part_of_a_row_is_left_alone(world: World) -> None:
    first = world.person(ADD, {"entityTypeId": 2, "entityId": 1})
    world.person(PUT, {"paymentId": first, "rowId": 1, "quantity": 1})
    world.portal.act.set_sum(first, "0")
    with pytest.raises(PaymentMismatch, match=rf"Payment {first} is a payment of deal 1.*a part of product row 1"):
        fill(world, if_unpaid_exists="return")
    assert world.writes() == []


def test_an_existing_payment_with_a_sum_is_returned_as_it_is(world: World) -> None:
    first = world.person(ADD, {"entityTypeId": 2, "entityId": 1})
    world.person(PUT, {"paymentId": first, "rowId": 2, "quantity": 1})
    receipt = fill(world, if_unpaid_exists="return")
    assert (receipt["outcome"], receipt["payment_id"], receipt["amount"]) == ("existing", first, "120.00")
    assert world.writes() == []


def test_an_adopted_payment_is_filled(world: World) -> None:
    world.fault("drop_after", ADD, times=1)
    receipt = fill(world, on_unknown="adopt")
    assert (receipt["payment_id"], receipt["amount"], receipt["evidence"]) == (1033, "1020.00", "only_new_payment")
    assert world.writes() == [ADD, PUT, PUT]


@pytest.mark.parametrize("paid", [False, True])
def test_an_adopted_payment_that_somebody_works_on_is_left_alone(world: World, paid: bool) -> None:
    def person() -> None:
        if paid:
            world.portal.act.pay_payment(1033)
        else:
            world.portal.act.set_sum(1033, "99.00")

    world.fault("drop_after", ADD, times=1)
    # Before the batch that reads what is in the payment that was adopted.
    world.before["batch:products"] = person
    with pytest.raises(PaymentMismatch, match=r"was added.*Somebody else is working on it"):
        fill(world, on_unknown="adopt")
    assert world.writes() == [ADD]


# -- chosen by the author


def choose(world: World, products: dict[int, int], **arguments: Any) -> dict[str, Any]:
    return fill(world, fill_products=False, products=products, **arguments)


def test_only_the_chosen_rows_are_put_in_with_their_quantities(world: World) -> None:
    receipt = choose(world, {1: 1})
    assert (receipt["payment_id"], receipt["amount"]) == (1033, "450.00")
    assert contents(world) == {1: 1}
    assert world.writes() == [ADD, PUT]


def test_rows_can_be_chosen_in_any_order_and_whole(world: World) -> None:
    assert choose(world, {2: 1, 1: 2})["amount"] == "1020.00"
    assert contents(world) == {1: 2, 2: 1}


@pytest.mark.parametrize(
    ("products", "words"),
    [
        ({9: 1}, "row 9 is not a row of it, or nothing of it is left"),
        ({1: 3}, "row 1 has only 2 left"),
        ({2: 1, 1: 3}, "row 1 has only 2 left"),
    ],
)
def test_what_is_not_available_is_refused_before_adding(world: World, products: Any, words: str) -> None:
    with pytest.raises(PaymentRefused, match=rf"of deal 1, because {words}\. Nothing was sent\..* 1 .* x 2, 2 .* x 1"):
        choose(world, products)
    assert world.writes() == []


def test_what_is_in_another_payment_already_is_not_available(world: World) -> None:
    other = world.person(ADD, {"entityTypeId": 2, "entityId": 1})
    world.person(PUT, {"paymentId": other, "rowId": 1, "quantity": 1})
    with pytest.raises(PaymentRefused, match="row 1 has only 1 left"):
        choose(world, {1: 2})
    assert choose(world, {1: 1})["amount"] == "450.00"


def test_an_object_without_rows_says_so(world: World) -> None:
    with pytest.raises(PaymentRefused, match=r"Available for payment are: none\."):
        choose(world, {1: 1}, entity_id=3)
    assert world.writes() == []


def test_chosen_rows_worth_nothing_are_refused_before_adding(world: World) -> None:
    row(world, price="0", quantity="1")
    row(world, price="5", quantity="1")
    with pytest.raises(PaymentRefused, match="the chosen product rows of deal 3 add up to 0"):
        choose(world, {max(world.portal.state.product_rows) - 1: 1}, entity_id=3)
    assert world.writes() == []


def test_a_fraction_elsewhere_does_not_matter(world: World) -> None:
    row(world, price="10.00", quantity="2.5")
    chosen = max(world.portal.state.product_rows)
    assert choose(world, {chosen: 2}, entity_id=3)["amount"] == "20.00"
    with pytest.raises(PaymentRefused, match=r"has only 0\.5 left"):
        choose(world, {chosen: 1}, entity_id=3)


def test_the_limit_is_that_of_the_chosen_rows(world: World) -> None:
    assert choose(world, {1: 1}, max_amount=Decimal("450.00"))["amount"] == "450.00"
    with pytest.raises(PaymentRefused, match=r"is for 450; the max_amount of this task is 449\.99"):
        choose(world, {1: 1}, max_amount=Decimal("449.99"))
    assert world.writes() == [ADD, PUT]


def test_a_chosen_row_whose_answer_is_lost_is_found_and_not_put_in_again(world: World) -> None:
    world.fault("drop_after", PUT, occurrence=1)
    assert choose(world, {1: 1})["amount"] == "450.00"
    assert world.writes() == [ADD, PUT]
