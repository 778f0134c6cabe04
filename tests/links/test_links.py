"""Links are stored by the worker and only read afterwards; that a real Airflow shows them is in test_in_airflow.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_bitrix24.links.bitrix24 import (
    OBJECT_LINKS,
    Bitrix24Link,
    CrmPaymentLink,
    DealLink,
    InvoiceLink,
    SmartInvoiceLink,
)
from airflow_provider_bitrix24.operators.payments import (
    AddCrmPaymentOperator,
    PayCrmPaymentOperator,
    PayInvoiceOperator,
)
from airflow_provider_bitrix24.sensors.payments import CrmPaymentPaidSensor, InvoicePaidSensor

EACH = pytest.mark.parametrize(
    ("link", "path"),
    [
        (DealLink(), "/crm/deal/details/7/"),
        (SmartInvoiceLink(), "/crm/type/31/details/7/"),
        (InvoiceLink(), "/crm/invoice/show/7/"),
        (CrmPaymentLink(), "/shop/orders/payment/details/7/"),
    ],
    ids=lambda value: type(value).__name__,
)


@EACH
def test_the_address_is_stored_under_airflows_key(link: Bitrix24Link, path: str) -> None:
    pushed: dict[str, Any] = {}
    context: Any = {"ti": SimpleNamespace(xcom_push=lambda key, value: pushed.__setitem__(key, value))}
    link.persist(context, origin="https://acme.bitrix24.com", object_id=7)
    assert pushed == {f"_link_{type(link).__name__}": f"https://acme.bitrix24.com{path}"}


@EACH
def test_what_cannot_be_read_is_no_link_and_no_error(link: Bitrix24Link, path: str) -> None:
    key = SimpleNamespace(dag_id="d", task_id="t", run_id="r", try_number=1, map_index=-1)
    assert link.get_link(PayInvoiceOperator(task_id="t", invoice_id=1), ti_key=key) == ""


def test_names_differ_so_that_the_buttons_can_be_told_apart() -> None:
    links = (DealLink, SmartInvoiceLink, InvoiceLink, CrmPaymentLink)
    assert len({link.name for link in links}) == 4
    assert all(link.name.endswith(" in Bitrix24") for link in links)


def test_objects_have_the_link_of_their_type() -> None:
    assert {number: type(link) for number, link in OBJECT_LINKS.items()} == {2: DealLink, 31: SmartInvoiceLink}


def test_each_task_has_the_links_of_what_it_deals_with() -> None:
    kinds = {
        PayInvoiceOperator: [InvoiceLink],
        PayCrmPaymentOperator: [CrmPaymentLink],
        AddCrmPaymentOperator: [DealLink, SmartInvoiceLink, CrmPaymentLink],
        InvoicePaidSensor: [InvoiceLink],
        CrmPaymentPaidSensor: [CrmPaymentLink, DealLink, SmartInvoiceLink],
    }
    for operator, links in kinds.items():
        assert [type(link) for link in operator.operator_extra_links] == links
