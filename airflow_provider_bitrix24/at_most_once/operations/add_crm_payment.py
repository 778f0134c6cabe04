"""Add a payment to a deal or smart invoice, at most once for one key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from airflow_provider_bitrix24.api.queries import (
    CandidatePayments,
    ContentsOfPayment,
    ObjectBeforeAdding,
    PaymentsOfObject,
    methods_of,
)
from airflow_provider_bitrix24.api.values import ENTITY_NAMES
from airflow_provider_bitrix24.at_most_once.operations.add_write import AddWrite
from airflow_provider_bitrix24.at_most_once.operations.key_write import run_attempt

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow_provider_bitrix24.api.queries import Query
    from airflow_provider_bitrix24.at_most_once.attempt import Attempt
    from airflow_provider_bitrix24.at_most_once.attribution import OnUnknown
    from airflow_provider_bitrix24.at_most_once.course import Course
    from airflow_provider_bitrix24.at_most_once.receipt import Receipt
    from airflow_provider_bitrix24.at_most_once.record import Parameter

IfUnpaidExists: TypeAlias = Literal["add", "return", "fail"]


@dataclass(frozen=True, kw_only=True)
class AddCrmPayment:
    """Add one payment: three requests in the normal case, if it stays empty.

    :param portal: the portal's name in keys.
    :param key: the idempotency key.
    :param pay_system_id: None leaves the choice to the portal.
    :param fill_products: put the product rows in that are still available.
    :param products: quantity by product row, instead of ``fill_products``.
    :param if_unpaid_exists: what to do if the object has an unpaid payment already.
    :param on_unknown: what to do if the reply is lost and exactly one new payment appeared.
    :param tag: write the key into the payment.
    :param max_amount: what the product rows that are filled in may add up to.
    :param with_orders: read the orders of the object too; they only serve a warning.
    """

    portal: str
    key: str
    entity_id: int
    entity_type_id: int
    pay_system_id: int | None = None
    fill_products: bool = False
    products: Mapping[int, int] | None = None
    if_unpaid_exists: IfUnpaidExists = "add"
    on_unknown: OnUnknown = "fail"
    tag: bool = False
    max_amount: Decimal | None = None
    with_orders: bool = True
    name: str = field(init=False, default="add_crm_payment")

    @property
    def subject(self) -> str:
        """The object."""
        return f"{ENTITY_NAMES[self.entity_type_id]} {self.entity_id}"

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What is asked for."""
        chosen = {str(row_id): quantity for row_id, quantity in (self.products or {}).items()}
        return {
            "entity_type_id": self.entity_type_id,
            "entity_id": self.entity_id,
            "pay_system_id": self.pay_system_id,
            "fill_products": self.fill_products,
            **({"products": chosen} if chosen else {}),
        }

    def with_parameters(self, parameters: Mapping[str, Parameter]) -> AddCrmPayment:
        """Return the same with what the journal says was asked for."""
        pay_system_id, chosen = parameters.get("pay_system_id"), parameters.get("products")
        return replace(
            self,
            entity_id=_whole(parameters["entity_id"]),
            entity_type_id=_whole(parameters["entity_type_id"]),
            pay_system_id=None if pay_system_id is None else _whole(pay_system_id),
            fill_products=bool(parameters.get("fill_products")),
            products={int(row): _whole(many) for row, many in chosen.items()} if isinstance(chosen, Mapping) else None,
        )

    @property
    def fills(self) -> bool:
        """Whether product rows go into the payment."""
        return bool(self.fill_products or self.products)

    @property
    def needs_shared_journal(self) -> bool:
        """Without a tag, only the journal tells apart what several keys have added."""
        return not self.tag

    @property
    def writes(self) -> tuple[str, ...]:
        """The add, the tag, and the product rows: one at least, if the portal says which they are."""
        tag = ("sale.payment.update",) if self.tag else ()
        rows = len(self.products) if self.products else int(self.fill_products)
        return (AddWrite.method, *tag, *("crm.item.payment.product.add",) * rows)

    def before(self, tag: str | None, known: tuple[int, ...] = ()) -> ObjectBeforeAdding:
        """Read everything that permits the call."""
        return ObjectBeforeAdding(
            entity_id=self.entity_id,
            entity_type_id=self.entity_type_id,
            with_rows=self.fills,
            with_pay_systems=self.pay_system_id is not None,
            tag=tag,
            known=known,
            with_orders=self.with_orders,
        )

    def payments(self, *payment_ids: int) -> PaymentsOfObject:
        """Read these payments of the object; without ids all of them."""
        return PaymentsOfObject(entity_id=self.entity_id, entity_type_id=self.entity_type_id, payment_ids=payment_ids)

    def candidates(
        self,
        tag: str | None,
        *,
        user_id: int = 0,
        since: float = 0,
        until: float = 0,
        known: tuple[int, ...] = (),
        whose: bool = False,
    ) -> CandidatePayments:
        """Read which payments of the object carry the tag, and, if asked, which a user has added in that time."""
        return CandidatePayments(
            entity_id=self.entity_id,
            entity_type_id=self.entity_type_id,
            user_id=user_id,
            since=since,
            until=until,
            tag=tag,
            known=known,
            whose=whose,
        )

    @property
    def reads(self) -> tuple[str, ...]:
        """The object, the payment, and what is in it."""
        tag = "" if self.tag else None
        after: Query[Any] = self.candidates(tag) if self.tag else self.payments()
        queries: list[Query[Any]] = [replace(self.before(tag), with_pay_systems=False), after]
        if self.fills:
            owner = self.entity_type_id, self.entity_id
            queries += [ContentsOfPayment(payment_id=0, prices_of=owner), ContentsOfPayment(payment_id=0)]
        return methods_of(*queries)

    def expects(self, receipt: Receipt) -> bool:
        """Nothing is expected of the money."""
        return True

    def course(self, attempt: Attempt) -> Course[Receipt]:
        """What one attempt does."""
        return run_attempt(AddWrite(attempt, self))


def _whole(value: object) -> int:
    """A parameter of the journal that is a whole number."""
    if not isinstance(value, int):
        raise TypeError(f"{value!r} in the journal is no whole number")
    return value
