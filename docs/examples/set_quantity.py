"""An operator that sets a value: sending it twice leaves the same state, so it needs no journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_bitrix24.api.values import positive_id
from airflow_provider_bitrix24.exceptions import PaymentMismatch, PaymentNotApplied
from airflow_provider_bitrix24.failures import fail_if_final
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.arguments import given, refuse_lost
from airflow_provider_bitrix24.operators.engines import may_backfill
from airflow_provider_bitrix24.operators.rendering import LiteralText
from airflow_provider_bitrix24.operators.safeguards import Safeguards

if TYPE_CHECKING:
    from airflow.sdk import Context


class SetPaymentQuantityOperator(LiteralText, BaseOperator):
    """Set how many pieces of a product a payment contains, and read it back.

    REST method ``crm.item.payment.product.setQuantity``, scope ``crm``
    (https://apidocs.bitrix24.com/api-reference/crm/universal/payment/products-in-payment/crm-item-payment-product-set-quantity.html).

    :param payment_id: (templated) id of the payment.
    :param line_id: (templated) id of the line in the payment.
    :param quantity: (templated) whole number above 0.
    :param allow_backfill: also send in backfill runs. Default: the option ``[bitrix24] allow_backfill``.
    :param bitrix24_conn_id: (templated) Airflow connection.
    :return: ``payment_id``, ``line_id``, ``quantity``, and ``changed``: whether this attempt sent it.
    """

    template_fields = ("payment_id", "line_id", "quantity", "bitrix24_conn_id")

    def __init__(
        self,
        *,
        payment_id: int | str,
        line_id: int | str,
        quantity: int | str,
        allow_backfill: bool | None = None,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.payment_id = payment_id
        self.line_id = line_id
        self.quantity = quantity
        self.allow_backfill = allow_backfill
        self.bitrix24_conn_id = bitrix24_conn_id
        self.were_given = given(self)

    def execute(self, context: Context) -> dict[str, Any]:
        """Set the quantity.

        :raises AirflowFailException: an error that no retry can fix, among them a write whose outcome is unknown.
        :raises Bitrix24Error: an error that is worth a retry.
        """
        return fail_if_final(lambda: self._set(context))

    def _set(self, context: Context) -> dict[str, Any]:
        refuse_lost(self, self.were_given)
        payment_id = positive_id(self.payment_id, "payment_id")
        line_id = positive_id(self.line_id, "line_id")
        quantity = positive_id(self.quantity, "quantity")
        hook = Bitrix24Hook(self.bitrix24_conn_id)
        changed = _quantity(hook, payment_id, line_id) != quantity
        if changed:
            Safeguards(context, self.bitrix24_conn_id, may_backfill(self.allow_backfill)).check()
            hook.rest.crm_item_payment_product_set_quantity(id=line_id, quantity=quantity)
            found = _quantity(hook, payment_id, line_id)  # true is no proof
            if found != quantity:
                raise PaymentNotApplied(
                    f"Line {line_id} of payment {payment_id} has the quantity {found}, not {quantity}, although the "
                    "portal returned success.",
                    "Look at the payment in Bitrix24, and clear this task to set the quantity again.",
                )
        return {"payment_id": payment_id, "line_id": line_id, "quantity": quantity, "changed": changed}


def _quantity(hook: Bitrix24Hook, payment_id: int, line_id: int) -> int:
    """Return the quantity that the portal shows.

    :raises PaymentMismatch: the payment has no such line.
    """
    for line in hook.iterate("crm.item.payment.product.list", {"paymentId": payment_id}):
        if line.id == line_id:
            return int(line.quantity)
    raise PaymentMismatch(f"Payment {payment_id} has no line {line_id}.", "Nothing was changed.")
