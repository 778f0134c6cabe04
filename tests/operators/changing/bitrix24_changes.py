"""DAGs that pay, correct and delete payments; `test_task_payments.py` runs them in a real Airflow."""

# [example]
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.payment_changes import DeleteCrmPaymentOperator, UnpayCrmPaymentOperator
from airflow_provider_bitrix24.operators.payments import PayCrmPaymentOperator


@task
def add_deposit_and_rest(deal_id: int) -> list[int]:
    """Add two payments to a deal; a retry of the task finds both."""
    payments = Bitrix24Hook().payments
    receipts = [payments.add_crm_payment(entity_id=deal_id, part=part) for part in ("deposit", "rest")]
    return [receipt["payment_id"] for receipt in receipts]


# [end of example]


def correct(payment_id: int, **arguments: Any) -> None:
    """Pay, set back to unpaid, pay again, set back again, and delete."""
    pay = PayCrmPaymentOperator(task_id="pay", payment_id=payment_id, **arguments)
    unpay = UnpayCrmPaymentOperator(task_id="unpay", payment_id=payment_id, **arguments)
    pay_again = PayCrmPaymentOperator(task_id="pay_again", payment_id=payment_id, **arguments)
    unpay_again = UnpayCrmPaymentOperator(task_id="unpay_again", payment_id="{{ params.id }}", **arguments)
    delete = DeleteCrmPaymentOperator(task_id="delete", payment_id=payment_id, **arguments)
    pay >> unpay >> pay_again >> unpay_again >> delete


with DAG("task_state", params={"id": 1001}):
    correct(1001, journal_conn_id="task_state")

with DAG("sql", params={"id": 1004}):
    correct(1004, journal_conn_id="journal")

with DAG("taskflow", default_args={"retries": 1, "retry_delay": 0.1}):

    @task
    def work(ti: Any = None) -> list[dict[str, Any]]:
        """Pay an invoice and add two payments; the first attempt ends right after that."""
        payments = Bitrix24Hook().payments
        receipts = [
            payments.pay_invoice(invoice_id=2, pay_system_id=31, expected_currency="EUR"),
            payments.add_crm_payment(entity_id=1, part="deposit"),
            payments.add_crm_payment(entity_id=1, part="rest"),
        ]
        if ti.try_number == 1:
            raise RuntimeError("the worker is gone")
        return receipts

    work()

with DAG("taskflow_sql"):

    @task
    def work_with_database() -> list[str]:
        """One task that pays, sets back and pays: the second payment is refused."""
        payments = Bitrix24Hook().payments
        outcomes = [payments.pay_invoice(invoice_id=1, pay_system_id=31, journal_conn_id="journal")["outcome"]]
        key = {"idempotency_key": "order-17", "journal_conn_id": "journal"}
        outcomes.append(payments.add_crm_payment(entity_id=3, **key)["outcome"])
        try:
            payments.add_crm_payment(entity_id=3, **key)
        except Exception as error:
            outcomes.append(str(error))
        return outcomes

    work_with_database()

with DAG("example"):
    add_deposit_and_rest(4)
