"""DAGs that a person would write, one way of passing values each; `test_in_airflow.py` runs them in a real Airflow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_bitrix24.operators.calls import Bitrix24CallOperator, GetPaymentLinkOperator
from airflow_provider_bitrix24.operators.payment_lists import PayCrmPaymentsOperator, PayInvoicesOperator
from airflow_provider_bitrix24.operators.payments import (
    AddCrmPaymentOperator,
    PayCrmPaymentOperator,
    PayInvoiceOperator,
)
from airflow_provider_bitrix24.sensors.payments import CrmPaymentPaidSensor, InvoicePaidSensor
from airflow_provider_bitrix24.sensors.records import Bitrix24RecordSensor

with DAG("templates", params={"invoice": Param(3, type="integer"), "amount": "249.90", "ids": [3, 1]}):
    pay = PayInvoiceOperator(
        task_id="pay",
        invoice_id="{{ params.invoice }}",
        pay_system_id="{{ 30 + 1 }}",
        expected_amount="{{ params.amount }}",
        expected_currency="{{ 'EUR' }}",
        if_paid="{{ 'fail' }}",
        bitrix24_conn_id="{{ 'bitrix24_default' }}",
    )
    pay >> InvoicePaidSensor(task_id="wait", invoice_id="{{ params.ids }}", poke_interval=1)

with DAG("native_templates", params={"invoice": 7, "amount": "120.00"}, render_template_as_native_obj=True):
    PayInvoiceOperator(
        task_id="pay",
        invoice_id="{{ params.invoice }}",
        bx_rest_handler="{{ 'sandbox_bank' }}",
        expected_amount="{{ params.amount }}",
        expected_currency="EUR",
    )

with DAG(
    "native_identifiers",
    params={"keys": ["4711_1", "471_11", "47111"], "id": "1_2", "mapped": "12"},
    render_template_as_native_obj=True,
):
    for number in range(3):
        AddCrmPaymentOperator(
            task_id=f"add_{number}",
            entity_id=5,
            idempotency_key=f"{{{{ params['keys'][{number}] }}}}",
            journal_conn_id="journal",
        )
    AddCrmPaymentOperator.partial(
        task_id="add_mapped", idempotency_key="{{ params.mapped }}_{{ ti.map_index }}", journal_conn_id="journal"
    ).expand(entity_id=[5, "5"])
    PayInvoiceOperator(task_id="pay", invoice_id="{{ params.id }}", pay_system_id=31)
    PayInvoiceOperator.partial(task_id="pay_mapped", pay_system_id=31).expand(invoice_id=["1_2"])
    InvoicePaidSensor(task_id="wait", invoice_id="{{ params.id }}")

with DAG("mapped"):
    pay_all = PayInvoiceOperator.partial(task_id="pay", pay_system_id=31).expand(invoice_id=[8, "9", 1])
    paid = pay_all.output.map(lambda receipt: receipt["invoice_id"])

    @task
    def store(receipt: dict[str, Any]) -> str:
        return f"{receipt['invoice_id']}:{receipt['outcome']}"

    @task
    def total(receipts: Any) -> list[str]:
        return [receipt["amount"] for receipt in receipts]

    store.expand(receipt=pay_all.output)
    total(pay_all.output)
    # All at once (Airflow hands over a lazy sequence), and one task for each.
    InvoicePaidSensor(task_id="wait_for_all", invoice_id=paid, poke_interval=1)
    InvoicePaidSensor.partial(task_id="wait_for_each", poke_interval=1).expand(invoice_id=paid)

with DAG("lists", params={"ids": [16, {"invoice_id": 17, "expected_amount": "31.00"}]}):

    @task
    def one_row(number: int) -> dict[str, Any]:
        return {"invoice_id": number, "pay_system_id": 31}

    pay_lazy = PayInvoicesOperator(task_id="pay_lazy", invoices=one_row.expand(number=[14, 15]))
    pay_text = PayInvoicesOperator(task_id="pay_text", invoices="{{ params.ids | tojson }}", pay_system_id="{{ 31 }}")
    pay_again = PayInvoicesOperator(task_id="pay_again", invoices=[14, 999], pay_system_id=31)

    @task(trigger_rule="all_done")
    def conclude_list(summary: dict[str, Any]) -> int:
        return int(summary["failed"])

    # The only tasks with the alias for payments.
    none_of_many = PayCrmPaymentsOperator.partial(task_id="none_of_many", fail_on="never").expand(
        payments=[[999998, 999999], []]
    )
    pay_lazy >> pay_text >> [pay_again, none_of_many]
    conclude_list(pay_again.output)

with DAG("mapped_from_rows"):

    @task
    def rows() -> list[dict[str, Any]]:
        return [
            {"invoice_id": 10, "expected_amount": "310.00"},
            {"invoice_id": "11", "expected_amount": 42, "expected_currency": "EUR"},
            {"invoice_id": 12, "expected_amount": 680.4, "expected_currency": "USD"},
        ]

    PayInvoiceOperator.partial(task_id="pay", pay_system_id=31).expand_kwargs(rows())

with DAG("taskflow"):
    add = AddCrmPaymentOperator(task_id="add", entity_id=1, entity_type_id="deal", pay_system_id=8, fill_products=True)
    mark = PayCrmPaymentOperator(
        task_id="mark",
        payment_id=add.output["payment_id"],
        expected_amount=add.output["amount"],
        expected_currency=add.output["currency"],
    )
    wait = CrmPaymentPaidSensor(
        task_id="wait",
        payment_id=add.output["payment_id"],
        entity_type_id=add.output["entity_type_id"],
        entity_id=add.output["entity_id"],
        deferrable=True,
        poke_interval=1,
    )

    @task
    def conclude(paid: dict[str, Any], receipt: dict[str, Any]) -> str:
        return f"{paid['payment_id']} {paid['amount']} {receipt['outcome']}"

    mark >> wait
    conclude(wait.output, mark.output)

with DAG("deferred"):
    CrmPaymentPaidSensor(task_id="wait", payment_id=1003, deferrable=True, poke_interval=0.2, timeout=60)

with DAG("deferred_mapped"):
    CrmPaymentPaidSensor.partial(task_id="wait", deferrable=True, poke_interval=0.2, timeout=60).expand(
        payment_id=[1002, [1002, 1002]]
    )

with DAG("skipped"):
    PayInvoiceOperator(task_id="pay", invoice_id=1, pay_system_id=31, if_paid="skip")
    InvoicePaidSensor(task_id="wait", invoice_id=4, soft_fail=True)
    InvoicePaidSensor(task_id="wait_deferred", invoice_id=5, soft_fail=True, deferrable=True)

with DAG("never_retried", default_args={"retries": 2, "retry_delay": timedelta(seconds=0)}):
    AddCrmPaymentOperator(task_id="add", entity_id=2)
    PayInvoiceOperator(task_id="pay", invoice_id=6, pay_system_id=31)
    InvoicePaidSensor(task_id="wait", invoice_id=4)

with DAG(
    "lost_guards", render_template_as_native_obj=True, params={"amount": Param(None, type=["null", "string"])}
) as lost_guards:

    @task
    def amount() -> str | None:
        return {"invoice": "2"}.get("amount")

    PayInvoiceOperator(task_id="pay_from_task", invoice_id=2, pay_system_id=31, expected_amount=amount())
    PayInvoiceOperator(
        task_id="pay_from_template",
        invoice_id=2,
        pay_system_id=31,
        expected_currency="{{ dag_run.conf.get('curency') }}",
    )
    PayInvoiceOperator.partial(
        task_id="pay_mapped", pay_system_id=31, expected_amount="{{ dag_run.conf.get('amout') }}"
    ).expand(invoice_id=[2])
    PayCrmPaymentOperator(task_id="mark", payment_id=1001, expected_amount="{{ params.amount }}")
    AddCrmPaymentOperator(task_id="add", entity_id=3, if_unpaid_exists="{{ params.amount }}")
    PayInvoiceOperator(
        task_id="pay_from_param",
        invoice_id=2,
        pay_system_id=31,
        expected_amount=lost_guards.param("amount", default=None),  # Airflow 3.1 cannot serialise one without
    )
    CrmPaymentPaidSensor(
        task_id="wait", payment_id=1002, entity_type_id="{{ params.amount }}", entity_id="{{ params.amount }}"
    )

with DAG("optional_guards"):
    PayInvoiceOperator.partial(task_id="pay_mapped", pay_system_id=31).expand_kwargs(
        [{"invoice_id": 1, "expected_amount": None}, {"invoice_id": 1, "expected_amount": "800.00"}]
    )

with DAG("refused"):
    PayInvoiceOperator(task_id="pay", invoice_id="{{ None }}", pay_system_id=31)
    CrmPaymentPaidSensor(task_id="wait", payment_id="{{ true }}")

with DAG("calls", params={"deal": 1}, default_args={"retries": 2, "retry_delay": timedelta(seconds=0)}):
    read = Bitrix24CallOperator(task_id="read", method="crm.deal.get", parameters={"id": "{{ params.deal }}"})
    move = Bitrix24CallOperator(
        task_id="move",
        method="crm.item.update",
        parameters={"entityTypeId": 2, "id": "{{ params.deal }}", "fields": {"stageId": "{{ 'WON' }}"}},
    )
    moved = Bitrix24RecordSensor(
        task_id="wait",
        method="crm.item.get",
        parameters={"entityTypeId": 2, "id": "{{ params.deal }}"},
        condition={"stageId": "{{ 'WON' }}"},
        deferrable=True,
    )
    read >> move >> moved
    Bitrix24CallOperator.partial(task_id="each", method="crm.item.payment.get").expand(
        parameters=[{"id": 1001}, {"id": "1002"}]
    )
    Bitrix24CallOperator(task_id="create", method="crm.deal.add", parameters={"fields": {"TITLE": "Lost"}})
    Bitrix24CallOperator(task_id="pay", method="crm.item.payment.pay", parameters={"id": 1001})
    GetPaymentLinkOperator(task_id="link", payment_id="{{ 1001 }}")
