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


class Reads:
    """What looks for XComs, and would make Airflow log an error where there is none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[str] = []
        monkeypatch.setattr("airflow_provider_bitrix24.links.bitrix24.XCom", self)

    def get_value(self, *, key: str, ti_key: Any) -> str:
        self.keys.append(key)
        return f"stored {key}"


@pytest.mark.parametrize(
    ("operator", "there"),
    [
        (AddCrmPaymentOperator(task_id="t", entity_id=1), ["DealLink"]),
        (AddCrmPaymentOperator(task_id="t", entity_id=1, entity_type_id="31"), ["SmartInvoiceLink"]),
        (AddCrmPaymentOperator(task_id="t", entity_id=1, entity_type_id="None"), []),
        (PayInvoiceOperator(task_id="t", invoice_id=1), ["InvoiceLink"]),
        (InvoicePaidSensor(task_id="t", invoice_id=1), ["InvoiceLink"]),
        (InvoicePaidSensor(task_id="t", invoice_id=[1, 2]), []),
        (InvoicePaidSensor(task_id="t", invoice_id="x"), []),
        (CrmPaymentPaidSensor(task_id="t", payment_id="[1]"), ["CrmPaymentLink"]),
        (CrmPaymentPaidSensor(task_id="t", payment_id=[1, 2], entity_id=1, entity_type_id="deal"), ["DealLink"]),
        (
            CrmPaymentPaidSensor(task_id="t", payment_id=1, entity_id=1, entity_type_id=31),
            ["CrmPaymentLink", "SmartInvoiceLink"],
        ),
        (CrmPaymentPaidSensor(task_id="t", payment_id=1, entity_id=1), ["CrmPaymentLink"]),
    ],
)
def test_a_resumed_task_looks_only_for_links_that_there_can_be(
    monkeypatch: pytest.MonkeyPatch, operator: Any, there: list[str]
) -> None:
    reads = Reads(monkeypatch)
    for link in operator.operator_extra_links:
        link.get_link(operator, ti_key=None)
    assert reads.keys == [f"_link_{name}" for name in there]


def test_a_task_that_has_just_run_looks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    operator = AddCrmPaymentOperator(task_id="t", entity_id=7)
    ti = SimpleNamespace(xcom_push=lambda key, value: None, task=operator)
    context: Any = {"ti": ti, "task": AddCrmPaymentOperator(task_id="t", entity_id=7)}  # so it is on Airflow 3.1.0
    DealLink().persist(context, origin="https://acme.bitrix24.com", object_id=7)
    found = [link.get_link(operator, ti_key=None) for link in operator.operator_extra_links]
    assert found == ["https://acme.bitrix24.com/crm/deal/details/7/", "", ""]
    assert reads.keys == []
