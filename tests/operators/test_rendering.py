"""What templates make of keys and ids: a text stays the text that it is, also with native types."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_bitrix24.operators.payments import AddCrmPaymentOperator
from airflow_provider_bitrix24.operators.tokens import RefreshTokenOperator
from airflow_provider_bitrix24.sensors.payments import InvoicePaidSensor


def rendered(operator: Any, dag: DAG, **context: Any) -> Any:
    operator.render_template_fields(context, dag.get_template_env())
    return operator


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("key", ["4711_1", "471_11", "47111", "1e3", "None", "[1, 2]", "007", "1500.10"])
@pytest.mark.parametrize("template", ["{{ key }}", "{{ key[0] }}{{ key[1:] }}"])
def test_a_text_stays_as_it_is_written(native: bool, key: str, template: str) -> None:
    with DAG("rendering", render_template_as_native_obj=native) as dag:
        add = AddCrmPaymentOperator(task_id="add", entity_id=template, idempotency_key=template, max_amount=template)
        written = AddCrmPaymentOperator(task_id="written", entity_id=1, idempotency_key=key)
        wait = InvoicePaidSensor(task_id="wait", invoice_id=template)
        refresh = RefreshTokenOperator(task_id="refresh", bitrix24_conn_id=template)
    assert rendered(written, dag).idempotency_key == key
    assert rendered(wait, dag, key=key).invoice_id == key
    assert rendered(refresh, dag, key=key).bitrix24_conn_id == key
    rendered(add, dag, key=key)
    assert (add.entity_id, add.idempotency_key, add.max_amount) == (key, key, key)


@pytest.mark.parametrize("value", [None, 12, [1, 2], {"a": 1}])
def test_native_types_keep_an_object(value: Any) -> None:
    with DAG("rendering", render_template_as_native_obj=True) as dag:
        wait = InvoicePaidSensor(task_id="wait", invoice_id="{{ value }}")
    assert rendered(wait, dag, value=value).invoice_id == value


def test_text_around_an_object_makes_a_text() -> None:
    with DAG("rendering", render_template_as_native_obj=True) as dag:
        add = AddCrmPaymentOperator(task_id="add", entity_id=1, idempotency_key="{{ a }}_{{ b }}{{ none }}")
    assert rendered(add, dag, a=47, b=11, none=None).idempotency_key == "47_11None"


@pytest.mark.parametrize("native", [True, False])
def test_a_name_that_is_not_defined_is_an_error(native: bool) -> None:
    with DAG("rendering", render_template_as_native_obj=native) as dag:
        add = AddCrmPaymentOperator(task_id="add", entity_id=1, idempotency_key="{{ unknown }}")
    with pytest.raises(Exception, match="'unknown' is undefined"):
        rendered(add, dag)
