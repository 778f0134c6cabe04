"""Buttons "Open in Bitrix24": the address is stored on the worker before anything is sent, and only read afterwards.

The four addresses are those of the portal's own pages. Those of legacy invoice and payment are the defaults of the
portal's settings ``path_to_invoice_show`` and ``path_to_order_payment_details``, which the administrator of a
self-hosted portal may have changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, runtime_checkable

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_bitrix24.api.values import DEAL, SMART_INVOICE

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context


_STORED: Final = "_bitrix24_links"
"""Where a running operator remembers the links that it has stored."""


@runtime_checkable
class TellsItsLinks(Protocol):
    """An operator that can tell from its arguments which of its links exist."""

    def stores_link(self, link: Bitrix24Link) -> bool:
        """Tell whether this task stores a link."""


class Bitrix24Link(BaseOperatorLink):
    """A link to one kind of object of a portal.

    :meta private:
    """

    name: ClassVar[str]
    path: ClassVar[str]

    def persist(self, context: Context, *, origin: str, object_id: int) -> None:
        """Store the link with the running task.

        :param origin: address of the portal, without a path and a secret: ``https://acme.bitrix24.com``.
        :param object_id: of the deal, invoice or payment.
        """
        address = origin + self.path.format(object_id)
        ti: Any = context["ti"]
        ti.xcom_push(key=self.xcom_key, value=address)
        # Airflow 3.1.0 executes a copy of the operator that is in the context.
        if operator := getattr(ti, "task", None):
            vars(operator).setdefault(_STORED, {})[self.xcom_key] = address

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return what :meth:`persist` stored, or an empty string: no button is better than an error on a page.

        Airflow logs an error for each XCom that is not there, so only a link that can be there is looked for: after the
        task in the same process it is known, and a task that was resumed can tell by its arguments.
        """
        stored = vars(operator).get(_STORED)
        if stored is not None:
            return str(stored.get(self.xcom_key, ""))
        if isinstance(operator, TellsItsLinks) and not operator.stores_link(self):
            return ""
        try:
            return str(XCom.get_value(key=self.xcom_key, ti_key=ti_key) or "")
        except Exception:  # noqa: BLE001 - a page must not break because a link cannot be read
            return ""


class DealLink(Bitrix24Link):
    """The deal that a payment belongs to."""

    name = "Open deal in Bitrix24"
    path = "/crm/deal/details/{}/"


class SmartInvoiceLink(Bitrix24Link):
    """The smart invoice that a payment belongs to."""

    name = "Open smart invoice in Bitrix24"
    path = "/crm/type/31/details/{}/"


class InvoiceLink(Bitrix24Link):
    """The legacy invoice."""

    name = "Open invoice in Bitrix24"
    path = "/crm/invoice/show/{}/"


class CrmPaymentLink(Bitrix24Link):
    """The payment of a deal or smart invoice."""

    name = "Open payment in Bitrix24"
    path = "/shop/orders/payment/details/{}/"


OBJECT_LINKS: Final = {DEAL: DealLink(), SMART_INVOICE: SmartInvoiceLink()}
"""The link of an object, by its entity type."""
