"""At most once: one attempt to make or mark a payment. Read the journal, read the portal, send once, read back.

Plain sync code over a caller (the portal as flows), a runner of flows, a clock and a journal; it knows no Airflow and
no sockets, so that a test can script all four.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from airflow_provider_bitrix24.api.values import ENTITY_NAMES
from airflow_provider_bitrix24.exceptions import (
    Bitrix24Error,
    PaymentAmbiguous,
    PaymentInProgress,
    PaymentMismatch,
    PaymentRefused,
)
from airflow_provider_bitrix24.journal import Decision, Entry, Forgetful
from airflow_provider_bitrix24.once.add import add_crm_payment
from airflow_provider_bitrix24.once.attempt import Attempt, Clock, Log, Run, no_safeguard
from airflow_provider_bitrix24.once.mark import pay_crm_payment, pay_invoice
from airflow_provider_bitrix24.once.marking import Guards
from airflow_provider_bitrix24.once.receipt import Expected, Receipt
from airflow_provider_bitrix24.once.story import Story
from airflow_provider_bitrix24.once.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.journal import Journal
    from airflow_provider_bitrix24.journal.entry import Operation

__all__ = ["Clock", "Expected", "Log", "Once", "Receipt", "Run", "Task"]

T = TypeVar("T")


class Brake(Protocol):
    """A check that may stop an attempt before the portal is read."""

    def check(self) -> None:
        """Raise an error if the attempt must stop."""


class Once:
    """One attempt at one portal.

    :param client: the portal.
    :param run: runs a flow to its end; :meth:`Bitrix24Hook.run`.
    :param clock: ``time()`` and ``monotonic()``; the module :mod:`time` is one.
    :param log: where the steps are logged.
    :param journal: where it is written down what is sent; by default nowhere.
    :param task: who asks.
    :param safeguard: raises if nothing may be sent now; asked right before each send. By default nothing is asked.
    :param brake: checked after the journal has noted that the work has begun, and before the portal is read. So a
        later attempt knows that a stopped one has sent nothing.
    """

    def __init__(
        self,
        client: ApiClient,
        run: Run,
        clock: Clock,
        log: Log,
        journal: Journal | None = None,
        task: Task | None = None,
        safeguard: Callable[[], None] | None = None,
        brake: Brake | None = None,
    ) -> None:
        self._attempt = Attempt(client=client, run=run, clock=clock, log=log, safeguard=safeguard or no_safeguard)
        self._journal = journal or Forgetful()
        self._task = task or Task(identity="unnamed task")
        self._brake = brake

    def key_of_invoice(self, invoice_id: int) -> str:
        """The key of a legacy invoice, which stands for itself."""
        return f"{self._attempt.portal}:invoice:{invoice_id}"

    def key_of_payment(self, payment_id: int) -> str:
        """The key of a payment that is marked, which stands for itself."""
        return f"{self._attempt.portal}:payment:{payment_id}"

    def pay_invoice(
        self,
        *,
        invoice_id: int,
        pay_system_id: int | None = None,
        bx_rest_handler: str | None = None,
        expected: Expected | None = None,
        max_amount: Decimal | None = None,
        decision: Decision | None = None,
    ) -> Receipt:
        """Mark a legacy invoice as paid; see :func:`~airflow_provider_bitrix24.once.mark.pay_invoice`."""
        return self._tell(
            self.key_of_invoice(invoice_id),
            "pay_invoice",
            f"invoice {invoice_id}",
            {"invoice_id": invoice_id, "pay_system_id": pay_system_id, "bx_rest_handler": bx_rest_handler},
            decision,
            lambda story: pay_invoice(
                story,
                invoice_id=invoice_id,
                pay_system_id=pay_system_id,
                bx_rest_handler=bx_rest_handler,
                guards=Guards(expected=expected or Expected(), max_amount=max_amount),
            ),
        )

    def pay_crm_payment(
        self,
        *,
        payment_id: int,
        expected: Expected | None = None,
        allow_zero: bool = False,
        max_amount: Decimal | None = None,
        decision: Decision | None = None,
    ) -> Receipt:
        """Mark a payment as paid; see :func:`~airflow_provider_bitrix24.once.mark.pay_crm_payment`."""
        return self._tell(
            self.key_of_payment(payment_id),
            "pay_crm_payment",
            f"payment {payment_id}",
            {"payment_id": payment_id},
            decision,
            lambda story: pay_crm_payment(
                story,
                payment_id=payment_id,
                guards=Guards(expected=expected or Expected(), max_amount=max_amount),
                allow_zero=allow_zero,
            ),
        )

    def add_crm_payment(
        self,
        *,
        entity_id: int,
        entity_type_id: int,
        key: str,
        pay_system_id: int | None = None,
        fill_products: bool = False,
        products: Mapping[int, int] | None = None,
        if_unpaid_exists: Literal["add", "return", "fail"] = "add",
        on_unknown: Literal["fail", "adopt"] = "fail",
        tag: bool = False,
        max_amount: Decimal | None = None,
        decision: Decision | None = None,
    ) -> Receipt:
        """Add a payment to an object; see :func:`~airflow_provider_bitrix24.once.add.add_crm_payment`.

        :param products: quantity by product row, instead of ``fill_products``.
        """
        chosen = {"products": {str(row_id): quantity for row_id, quantity in products.items()}} if products else {}
        return self._tell(
            key,
            "add_crm_payment",
            f"{ENTITY_NAMES[entity_type_id]} {entity_id}",
            {
                "entity_type_id": entity_type_id,
                "entity_id": entity_id,
                "pay_system_id": pay_system_id,
                "fill_products": fill_products,
                **chosen,
            },
            decision,
            lambda story: add_crm_payment(
                story, if_unpaid_exists=if_unpaid_exists, on_unknown=on_unknown, tag=tag, max_amount=max_amount
            ),
        )

    def _tell(
        self,
        key: str,
        operation: Operation,
        subject: str,
        parameters: dict[str, Any],
        decision: Decision | None,
        work: Callable[[Story], T],
    ) -> T:
        """Do the work over the key's story; once more if somebody else was faster before anything was sent."""
        entry = Entry(
            key=key,
            portal=self._attempt.portal,
            operation=operation,
            subject=subject,
            parameters=parameters,
            task=self._task.identity,
        )
        again = False
        while True:
            story = Story(self._attempt, self._journal, self._task, entry, None if again else decision)
            ended: Bitrix24Error | None = None
            try:
                if self._brake is not None:
                    self._brake.check()
                return work(story)
            except PaymentInProgress:
                if again or story.has_sent:
                    raise
            except (PaymentAmbiguous, PaymentMismatch, PaymentRefused) as error:
                # What the portal showed may be what somebody else has just done for this very key.
                if again or not story.outdated:
                    ended = story.place(error)
            except Bitrix24Error as error:
                ended = story.place(error)
            finally:
                story.page.release()
            if ended is not None:
                raise ended
            self._attempt.log.info("Somebody else was faster with %s. Reading the journal again.", key)
            again = True
