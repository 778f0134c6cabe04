"""A person pays one legacy invoice from the Airflow UI: *Trigger* opens a form, the receipt is the result."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, Param
from finance_files import form_amount

from airflow_provider_bitrix24.operators.payments import PayInvoiceOperator

with DAG(
    dag_id="pay_invoice_by_hand",
    description="Pay one Bitrix24 invoice",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    tags=["bitrix24"],
    user_defined_filters={"form_amount": form_amount},
    params={
        "invoice_id": Param(
            type="integer",
            minimum=1,
            title="Invoice",
            description="The id of the invoice: the number in its address in Bitrix24, not its account number.",
        ),
        "pay_system_id": Param(
            31,
            type="integer",
            enum=[31, 32],
            values_display={31: "Bank transfer", 32: "Cash on delivery (Bitrix24 cannot mark with it: refused)"},
            title="Pay system",
            description="How the customer paid. The choices are the portal's pay systems; these are the sandbox's.",
        ),
        "expected_amount": Param(
            type="string",
            minLength=1,
            title="Amount",
            description="Such as 1500.00, 1.500,00 or 1 500. If the invoice is for another amount, nothing is sent. "
            "1.500 is refused, because it can be 1500 or 1.5.",
        ),
        "if_paid": Param(
            "succeed",
            type="string",
            enum=["succeed", "skip", "fail"],
            title="If it is paid already",
            description="What the task does if there is nothing left to pay.",
        ),
    },
    doc_md="""
### Pay an invoice by hand

Press **Trigger**, fill in the form, and the invoice is marked as paid in Bitrix24, once: running this again for the
same invoice sends nothing. The receipt is the XCom of the task; it says `paid`, or `already_paid` if it was
paid before.

Needs the connection `bitrix24_default` with the scopes `crm` and `pay_system`.
""",
):
    PayInvoiceOperator(
        task_id="pay_invoice",
        invoice_id="{{ params.invoice_id }}",
        pay_system_id="{{ params.pay_system_id }}",
        expected_amount="{{ params.expected_amount | form_amount }}",
        if_paid="{{ params.if_paid }}",
    )
