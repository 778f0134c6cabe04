"""``sale.paysystem.pay.invoice`` and ``.pay.payment``: what a gateway calls after it took the money, traps included."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import orders, php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError, access_denied
from airflow_provider_bitrix24.sandbox.portal.filters import as_mapping
from airflow_provider_bitrix24.sandbox.portal.invoices import ledger_facts, set_invoice_paid
from airflow_provider_bitrix24.sandbox.portal.model import PASSIVE_HANDLERS, Invoice, Payment, PaySystem, words
from airflow_provider_bitrix24.sandbox.portal.paysystems import check_failure, settings_of
from airflow_provider_bitrix24.sandbox.portal.registry import Call, changed, rest

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Hidden parameters that a REST handler stores on the payment.
_STAMPS = words(
    "PS_INVOICE_ID PS_STATUS_CODE PS_STATUS_DESCRIPTION PS_STATUS_MESSAGE PS_SUM PS_CURRENCY PS_RECURRING_TOKEN "
    "PS_CARD_NUMBER"
)


def _process_error(text: str) -> RestError:
    return RestError("ERROR_PROCESS_REQUEST_RESULT", text)


def _check_right(call: Call, entity: str) -> None:
    if not (call.may(f"{entity}.add") or call.may(f"{entity}.update")):
        raise access_denied()


def _takes_request(call: Call, system: PaySystem) -> bool:
    """Does the handler of this pay system do anything with the call? A passive one answers success and does not."""
    if system.action_file in PASSIVE_HANDLERS:
        return False
    if all(handler.code != system.action_file for handler in call.state.handlers.values()):
        raise _process_error("Payment not found: the request holds no payment id")  # it reads a request of its own kind
    return True


def _pay_system_for_invoice(call: Call, given: Mapping[str, Any]) -> PaySystem:
    code, number = given.get("BX_REST_HANDLER"), given.get("PAY_SYSTEM_ID")
    if not php.truthy(code) and not php.truthy(number):
        raise check_failure("Empty field BX_REST_HANDLER and PAY_SYSTEM_ID")
    by_handler: PaySystem | None = None
    if php.truthy(code):
        found = [system for system in call.state.pay_systems.values() if system.action_file == code]
        if not found or all(handler.code != code for handler in call.state.handlers.values()):
            raise check_failure("Incorrect rest handler code")
        by_handler = min(found, key=lambda system: system.id)
    if php.truthy(number):
        system = call.state.pay_systems.get(php.to_int(number))
        if system is None:
            text = f"Pay system with ID={php.to_int(number)} not found"
            raise RestError("ERROR_CHECK_FAILURE", text, docs=("ERROR_CHECK_FAILURE", "Pay system not found"))
        return system
    assert by_handler is not None  # noqa: S101 - one of the two is given
    return by_handler


def _find_invoice(call: Call, given: Mapping[str, Any]) -> Invoice:
    if not php.truthy(given.get("INVOICE_ID")):
        raise check_failure("Empty field INVOICE_ID!")
    number = php.to_int(given["INVOICE_ID"])
    invoice = call.state.invoices.get(number)
    if invoice is None:
        text = f"Invoice #{number} not found"
        raise RestError("ERROR_INTERNAL_INVOICE_NOT_FOUND", text, docs=("ERROR_CHECK_FAILURE", text))
    return invoice


@rest("sale.paysystem.pay.invoice", scope="pay_system", writes=True)
def pay_invoice(call: Call) -> object:
    """Mark any legacy invoice as paid: its own pay system, its sum and its currency are not looked at."""
    if not call.state.options["legacy_invoices_supported"]:
        text = "Pay invoice is not supported!"
        raise RestError("ERROR_INVOICE_NO_SUPPORTED", text, docs=("ERROR_PAY_INVOICE_NOT_SUPPORTED", text))
    _check_right(call, "invoice")
    given = php.upper_keys(dict(call.params))
    system = _pay_system_for_invoice(call, given)
    invoice = _find_invoice(call, given)
    if system.entity_registry_type != "CRM_INVOICE":
        raise _process_error("Pay system not found")
    if not _takes_request(call, system):
        return True
    if invoice.canceled == "Y":
        raise _process_error(f"Invoice #{invoice.id} has been cancelled")
    before = asdict(invoice)
    newly = set_invoice_paid(invoice, "Y", now=call.now, user_id=call.user.id)
    invoice.pay_voucher_date = call.now
    if newly or asdict(invoice) != before:
        call.record("invoice_paid" if newly else "invoice_changed", **ledger_facts(invoice, system.id))
    return True


def _find_order_payment(call: Call, given: Mapping[str, Any]) -> tuple[Payment, PaySystem]:
    if not php.truthy(given.get("PAY_SYSTEM_ID")):
        raise check_failure("Empty field PAY_SYSTEM_ID!")
    system = call.state.pay_systems.get(php.to_int(given["PAY_SYSTEM_ID"]))
    if system is None:
        raise check_failure("Pay system not found")
    if not php.truthy(given.get("PAYMENT_ID")):
        raise check_failure("Empty field PAYMENT_ID")
    number = php.to_int(given["PAYMENT_ID"])
    payment = call.state.payments.get(number)
    if payment is None or payment.pay_system_id != system.id:
        raise check_failure(f"Payment with ID={number} and PAY_SYSTEM_ID={system.id} not found")
    return payment, system


@rest("sale.paysystem.pay.payment", scope="pay_system", writes=True)
def pay_payment(call: Call) -> object:
    """Mark a payment as paid by its own pay system; ``true`` even where the pay system does nothing."""
    _check_right(call, "order")
    given = php.upper_keys(dict(call.params))
    payment, system = _find_order_payment(call, given)
    if not _takes_request(call, system):
        return True
    if call.state.orders[payment.order_id].canceled == "Y":
        raise _process_error("The order has been cancelled")
    newly = orders.set_paid(payment, "Y", now=call.now, user_id=call.user.id)
    stamps: dict[str, Any] = {name.lower(): php.to_text(given[name]) for name in _STAMPS if name in given}
    if "ps_sum" in stamps:
        stamps["ps_sum"] = php.to_decimal(given["PS_SUM"])
    stamps |= {"ps_status": "Y", "ps_response_date": call.now, "pay_voucher_date": call.now}
    names = changed(payment, stamps)
    if newly or names:
        facts = orders.ledger_facts(call.state, payment)
        call.record("payment_paid" if newly else "payment_updated", **facts, changed=names)
    return True


def _shown_settings(system: PaySystem, person_type_id: int, source: Payment | Invoice) -> object:
    shown: dict[str, Any] = {}
    for code, setting in settings_of(system, person_type_id).items():
        setting = as_mapping(setting)
        value = setting.get("VALUE")
        if setting.get("TYPE") == "PAYMENT":
            value = php.to_text(getattr(source, php.to_text(value).lower(), ""))
        shown[code] = value
    return php.json_array(shown)


@rest("sale.paysystem.settings.payment.get", scope="pay_system")
def settings_payment_get(call: Call) -> object:
    """The settings of a pay system, filled in for a payment."""
    _check_right(call, "order")
    payment, system = _find_order_payment(call, php.upper_keys(dict(call.params)))
    order = call.state.orders.get(payment.order_id)
    if order is None:
        raise RestError("ERROR_INTERNAL_ORDER_NOT_FOUND", f"Order of payment {payment.id} not found")
    return _shown_settings(system, order.person_type_id, payment)


@rest("sale.paysystem.settings.invoice.get", scope="pay_system")
def settings_invoice_get(call: Call) -> object:
    """The settings of a pay system, filled in for a legacy invoice."""
    _check_right(call, "invoice")
    given = php.upper_keys(dict(call.params))
    system = _pay_system_for_invoice(call, given)
    invoice = _find_invoice(call, given)
    return _shown_settings(system, invoice.person_type_id, invoice)
