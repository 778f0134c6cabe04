"""What an operator or sensor takes is in its own signature and docstring: editors and the documentation show it."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from airflow.sdk import BaseOperator, BaseSensorOperator

from airflow_provider_bitrix24.operators import (
    calls,
    new_payment_lists,
    new_payments,
    payment_changes,
    payment_lists,
    payments,
    tokens,
)
from airflow_provider_bitrix24.operators.list_base import PaymentListOperator
from airflow_provider_bitrix24.sensors import payments as paid_sensors
from airflow_provider_bitrix24.sensors import records

MODULES = (
    *(calls, new_payment_lists, new_payments, payment_changes, payment_lists, payments, tokens),
    *(paid_sensors, records),
)
ABSTRACT = (paid_sensors.PaidSensor,)
NOT_FOR_LISTS = {"on_unknown", "ask_timeout", "multiple_outputs"}
"""A list asks nobody, and its result is one summary."""


def _own_classes() -> list[type[Any]]:
    return [
        one
        for module in MODULES
        for one in vars(module).values()
        if inspect.isclass(one)
        and issubclass(one, BaseOperator)
        and one.__module__ == module.__name__
        and one not in ABSTRACT
    ]


def _arguments(kind: type[Any]) -> set[str]:
    found = inspect.signature(kind.__init__).parameters.values()
    return {one.name for one in found if one.kind is inspect.Parameter.KEYWORD_ONLY}


CLASSES = _own_classes()


def test_all_are_there() -> None:
    assert {one.__name__ for one in CLASSES} == {
        "AddCrmPaymentOperator",
        "AddCrmPaymentsOperator",
        "Bitrix24CallOperator",
        "Bitrix24RecordSensor",
        "CrmPaymentPaidSensor",
        "DeleteCrmPaymentOperator",
        "GetPaymentLinkOperator",
        "InvoicePaidSensor",
        "PayCrmPaymentOperator",
        "PayCrmPaymentsOperator",
        "PayInvoiceOperator",
        "PayInvoicesOperator",
        "PayPaymentOperator",
        "RefreshTokenOperator",
        "UnpayCrmPaymentOperator",
    }


@pytest.mark.parametrize("kind", CLASSES)
def test_the_signature_hides_only_the_arguments_of_airflow(kind: type[Any]) -> None:
    ours = [one for one in kind.__mro__ if one.__module__.startswith("airflow_provider_bitrix24.")]
    inherited = set().union(*(_arguments(one) for one in ours[1:] if "__init__" in vars(one)))
    if issubclass(kind, PaymentListOperator):
        inherited -= NOT_FOR_LISTS
    assert inherited <= _arguments(kind)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_docstring_has_each_argument_in_the_order_of_the_signature(kind: type[Any]) -> None:
    airflow = BaseSensorOperator if issubclass(kind, BaseSensorOperator) else BaseOperator
    described = re.findall(r":param (\w+):", inspect.getdoc(kind) or "")
    taken = [
        one.name
        for one in inspect.signature(kind.__init__).parameters.values()
        if one.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    assert taken
    assert described == taken
    assert issubclass(kind, airflow)
