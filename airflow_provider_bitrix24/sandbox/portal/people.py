"""What customers and colleagues do meanwhile, without REST: pay, take back, delete, decline."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import invoices, orders
from airflow_provider_bitrix24.sandbox.portal.filters import Condition
from airflow_provider_bitrix24.sandbox.portal.model import words
from airflow_provider_bitrix24.sandbox.portal.pages import rows_that
from airflow_provider_bitrix24.sandbox.portal.registry import record

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.portal.core import Portal
    from airflow_provider_bitrix24.sandbox.portal.model import Invoice, Payment


#: The actions that a test, the page or the control plane may ask for by name.
ACTIONS = words(
    "pay_payment unpay_payment delete_payment add_payment set_sum cancel_order "
    "pay_invoice unpay_invoice cancel_invoice decline_invoice delete_invoice "
    "expire_access_tokens revoke_grants remove_application"
)


class People:
    """Each action is entered in the ledger with ``by`` ("customer" or "person") and that person's ``user_id``."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def pay_payment(self, payment_id: int, *, by: str = "customer", user_id: int | None = None) -> None:
        """Somebody pays."""
        self._mark(payment_id, "Y", by, user_id)

    def unpay_payment(self, payment_id: int, *, by: str = "person", user_id: int | None = None) -> None:
        """Somebody sets the payment back to unpaid."""
        self._mark(payment_id, "N", by, user_id)

    def delete_payment(self, payment_id: int, *, by: str = "person", user_id: int | None = None) -> None:
        """Somebody deletes a payment."""
        with self._portal.lock:
            payment = self._payment(payment_id)
            facts = orders.ledger_facts(self._portal.state, payment)
            orders.delete_payment(self._portal.state, payment)
            self._record("payment_deleted", by, user_id, facts)

    def add_payment(
        self,
        entity_type_id: int,
        entity_id: int,
        *,
        amount: str | Decimal = "0",
        pay_system_id: int | None = None,
        by: str = "person",
        user_id: int | None = 1,
    ) -> int:
        """Somebody adds a payment in the deal's card; returns its id."""
        with self._portal.lock:
            portal, state = self._portal, self._portal.state
            item = state.items(entity_type_id)[entity_id]
            found = orders.orders_of(state, entity_type_id, entity_id)
            order = found[0] if found else orders.create_order(state, item, user_id or 1, now=portal.now)
            system = (
                orders.default_pay_system(state, order) if pay_system_id is None else state.pay_systems[pay_system_id]
            )
            if system is None:
                raise ValueError("the portal has no pay system for orders")
            payment = orders.create_payment(state, order, system, now=portal.now, user_id=user_id, uniqid=portal.uniqid)
            payment.sum = Decimal(amount)
            self._record("payment_added", by, user_id, orders.ledger_facts(state, payment))
            return payment.id

    def set_sum(
        self, payment_id: int, amount: str | Decimal, *, by: str = "person", user_id: int | None = None
    ) -> None:
        """Somebody changes the sum of a payment."""
        with self._portal.lock:
            payment = self._payment(payment_id)
            if payment.sum != Decimal(amount):
                payment.sum = Decimal(amount)
                facts = orders.ledger_facts(self._portal.state, payment)
                self._record("payment_updated", by, user_id, facts)

    def cancel_order(self, order_id: int, *, by: str = "person", user_id: int | None = None) -> None:
        """Somebody cancels an order: nothing of it can be paid any more."""
        with self._portal.lock:
            order = self._portal.state.orders[order_id]
            if order.canceled != "Y":
                order.canceled = "Y"
                self._record("order_canceled", by, user_id, {"order_id": order_id})

    def pay_invoice(self, invoice_id: int, *, by: str = "customer", user_id: int | None = None) -> None:
        """Somebody pays a legacy invoice."""
        self._mark_invoice(invoice_id, "Y", by, user_id)

    def unpay_invoice(self, invoice_id: int, *, by: str = "person", user_id: int | None = None) -> None:
        """Somebody takes the mark of an invoice back."""
        self._mark_invoice(invoice_id, "N", by, user_id)

    def cancel_invoice(self, invoice_id: int, *, by: str = "person", user_id: int | None = None) -> None:
        """Somebody cancels an invoice."""
        self._close(invoice_id, "invoice_canceled", {"canceled": "Y", "status_id": "D"}, by, user_id)

    def decline_invoice(self, invoice_id: int, *, by: str = "person", user_id: int | None = None) -> None:
        """Somebody notes that an invoice will not be paid."""
        self._close(invoice_id, "invoice_declined", {"status_id": "D"}, by, user_id)

    def delete_invoice(self, invoice_id: int, *, by: str = "person", user_id: int | None = None) -> None:
        """Somebody deletes an invoice."""
        with self._portal.lock:
            invoice = self._invoice(invoice_id)
            del self._portal.state.invoices[invoice_id]
            self._record("invoice_deleted", by, user_id, invoices.ledger_facts(invoice))

    def expire_access_tokens(self, client_id: str | None = None) -> None:
        """Nobody does it: all access tokens (of one application) end before their time."""
        self._portal.expire_access_tokens(client_id)

    def revoke_grants(self, client_id: str | None = None, user_id: int | None = None) -> None:
        """Somebody withdraws consent: only a new sign-in gives tokens that work."""
        self._portal.revoke_grants(client_id, user_id)

    def remove_application(self, client_id: str) -> None:
        """Somebody uninstalls an application."""
        self._portal.remove_application(client_id)

    def _payment(self, payment_id: int) -> Payment:
        payment = self._portal.state.payments.get(payment_id)
        if payment is None:
            raise LookupError(f"no payment {payment_id}")
        return payment

    def _invoice(self, invoice_id: int) -> Invoice:
        invoice = self._portal.state.invoices.get(invoice_id)
        if invoice is None:
            raise LookupError(f"no invoice {invoice_id}")
        return invoice

    def _mark(self, payment_id: int, paid: str, by: str, user_id: int | None) -> None:
        with self._portal.lock:
            payment = self._payment(payment_id)
            if orders.set_paid(payment, paid, now=self._portal.now, user_id=user_id):
                event = "payment_paid" if paid == "Y" else "payment_unpaid"
                self._record(event, by, user_id, orders.ledger_facts(self._portal.state, payment))

    def _mark_invoice(self, invoice_id: int, payed: str, by: str, user_id: int | None) -> None:
        with self._portal.lock:
            invoice = self._invoice(invoice_id)
            if invoices.set_invoice_paid(invoice, payed, now=self._portal.now, user_id=user_id):
                event = "invoice_paid" if payed == "Y" else "invoice_unpaid"
                self._record(event, by, user_id, invoices.ledger_facts(invoice))

    def _close(self, invoice_id: int, event: str, values: dict[str, str], by: str, user_id: int | None) -> None:
        with self._portal.lock:
            invoice = self._invoice(invoice_id)
            before = asdict(invoice)
            invoices.set_invoice_paid(invoice, "N", now=self._portal.now, user_id=user_id)
            for name, value in values.items():
                setattr(invoice, name, value)
            if asdict(invoice) != before:
                self._record(event, by, user_id, invoices.ledger_facts(invoice))

    def _record(self, event: str, by: str, user_id: int | None, facts: dict[str, Any]) -> None:
        if by not in ("customer", "person"):
            raise ValueError(f"by must be 'customer' or 'person', not {by!r}")
        record(self._portal.state, self._portal.now, event, by=by, user_id=user_id, **facts)
        self._portal.touch()


def pay_what_is_due(portal: Portal, after: float, *, since: float) -> None:
    """Customers pay what has a sum, was added after ``since`` and has not got more to pay for ``after`` seconds."""
    waiting = [Condition("=", "paid", "N"), Condition("><", "date_bill", [since, portal.now - after])]
    for payment in rows_that(portal.state.payments, waiting):
        items = portal.state.payable_items.having("payment_id", payment.id)
        is_complete = all(item.date_insert <= portal.now - after for item in items)
        if payment.sum > 0 and is_complete and portal.state.orders[payment.order_id].canceled != "Y":
            portal.act.pay_payment(payment.id)
