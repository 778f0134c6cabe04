"""Filters that would do nothing: unknown names are refused, rows that a filter excludes are no response."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_bitrix24.api.filters import check_names, check_rows
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24NoAnswer

PAYMENTS = "sale.payment.list"
OPERATORS = ["", "=", "!", "!=", ">", ">=", "<", "<=", "@", "!@", "%", "=%", "%=", "!%", "!=%", "!%=", "><", "!><", "?"]


@pytest.mark.parametrize(
    ("method", "params", "suggestion"),
    [
        (PAYMENTS, {"filter": {"PAID": "N"}}, "paid"),
        (PAYMENTS, {"filter": {"payed": "N"}}, "paid"),
        (PAYMENTS, {"filter": {"=XML_ID": "k"}}, "xmlId"),
        (PAYMENTS, {"filter": {"=xmlID": "k"}}, "xmlId"),
        (PAYMENTS, {"select": ["id", "SUM"]}, "sum"),
        (PAYMENTS, {"order": {"datebill": "asc"}}, "dateBill"),
        (PAYMENTS, {"FILTER": {"paid": "N"}}, "filter"),
        (PAYMENTS, {"filters": {"paid": "N"}}, "filter"),
        ("crm.invoice.list", {"filter": {"paid": "N"}}, "PAYED"),
        ("crm.invoice.list", {"filter": {"PAID": "N"}}, "PAYED"),
        ("CRM.INVOICE.LIST", {"FILTER": {"!STATUS": "D"}}, "STATUS_ID"),
        ("crm.deal.list", {"select": {"0": "ID", "1": "STAGEID"}}, "STAGE_ID"),
        ("crm.deal.list", {"filter": {"0": {"LOGIC": "OR", "0": {"=Title": "x"}, "1": {"TITLE": "y"}}}}, "TITLE"),
        ("crm.item.payment.list", {"filter": {">ID": 1}}, "id"),
        ("sale.paysystem.list", {"FILTER": {"ACTIV": "Y"}}, "ACTIVE"),
        ("event.offline.get", {"filter": {">=EVENT": 1}}, "EVENT_NAME"),
        ("crm.item.payment.update", {"id": 1, "fields": {"PAID": "Y"}}, "paid"),
        ("sale.payment.update", {"id": 1, "fields": {"xml_id": "k"}}, "xmlId"),
    ],
)
def test_unknown_names_are_refused_with_the_right_one(method: str, params: Any, suggestion: str) -> None:
    with pytest.raises(Bitrix24ConfigError, match="Nothing was sent") as caught:
        check_names(method, params)
    assert f"Did you mean {suggestion!r}?" in str(caught.value)
    assert "https://apidocs.bitrix24.com/" in str(caught.value)


def test_a_name_like_none_is_refused_too() -> None:
    with pytest.raises(Bitrix24ConfigError, match="Known names: id, orderId") as caught:
        check_names(PAYMENTS, {"filter": {"=": 1}})
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_is_a_prefix(operator: str) -> None:
    check_names(PAYMENTS, {"filter": {f"{operator}sum": 1}})
    with pytest.raises(Bitrix24ConfigError, match="Did you mean 'sum'"):
        check_names(PAYMENTS, {"filter": {f"{operator}SUM": 1}})


@pytest.mark.parametrize(
    ("method", "params"),
    [
        (PAYMENTS, {"filter": {"paid": "N"}, "select": ["*"], "order": {"id": "desc"}, "start": -1, "auth": "x"}),
        (PAYMENTS, {"filter": [], "select": "id", "order": ["id"]}),
        (PAYMENTS, {"whatever": 1}),
        ("crm.invoice.list", {"FILTER": {">PRICE": 1, "UF_DEAL_ID": 3}, "Select": ["UF_*", "ID"]}),
        ("crm.deal.list", {"filter": {"LOGIC": "OR", "PARENT_ID_1220": 2, "UF_CRM_1": 1}}),
        ("sale.paysystem.list", {"filter": {"active": "Y"}, "SELECT": ["id"]}),
        ("crm.item.list", {"entityTypeId": 2, "filter": {"anything": 1}}),
        ("user.get", {"FILTER": {"anything": 1}, "sort": "ID"}),
        ("crm.item.payment.update", {"id": 1, "fields": "x"}),
        ("crm.lead.list", {"filter": {"anything": 1}}),
        ("crm.deal.get", {"ID": 410}),
        ("im.notify.system.add", {"user_id": 1, "message": "x"}),
        ("user.get", {"ID": 1, "ACTIVE": True}),
        ("event.offline.get", {"LIMIT": 1, "FILTER": {">=id": 1}}),
    ],
)
def test_known_names_pass(method: str, params: Any) -> None:
    check_names(method, params)


ROW = {
    "id": 7, "sum": Decimal("10.10"), "paid": "N", "xmlId": "Key-1", "currency": "EUR", "orderId": None,
    "dateBill": "2026-11-20T10:00:00+02:00", "datePaid": None, "comments": "x", "psInvoiceId": "a&b", "marked": "",
}  # fmt: skip


@pytest.mark.parametrize(
    "wanted",
    [
        {"paid": "N"}, {"=paid": False}, {"!paid": "Y"}, {"=id": "7"}, {"@id": [6, 7]}, {"id": [6, 7]}, {"!@id": [1]},
        {">id": 6}, {">=id": 7}, {"<id": 8}, {"<=sum": "10.1"}, {"=sum": 10.1}, {"><sum": [10, 11]}, {"!=sum": 3},
        {"xmlId": "key-1 "}, {"=currency": "EUR"}, {"=orderId": 0}, {"!orderId": 4}, {"marked": "N"}, {">orderId": 3},
        {">=dateBill": "2026-11-20T20:00:00+02:00"}, {"=dateBill": "2026-11-20T20:00:00+02:00"},
        {"!dateBill": "2026-11-20T10:00:00+02:00"}, {"<dateBill": datetime.fromisoformat("2026-11-21T00:00:00+00:00")},
    ],
)  # fmt: skip
def test_rows_that_satisfy_the_filter(wanted: Any) -> None:
    check_rows(PAYMENTS, {"filter": wanted}, [ROW])


@pytest.mark.parametrize(
    "wanted",
    [
        {"paid": "Y"}, {"=paid": True}, {"!paid": "N"}, {"=id": "8"}, {"@id": [5, 6]}, {"id": [6]}, {"!@id": [7]},
        {">id": 8}, {">=id": 8}, {"<id": 6}, {"<=sum": "10"}, {"=sum": 10.2}, {"><sum": [11, 12]}, {"!=sum": "10.1"},
        {"xmlId": "key-2"}, {"!currency": "eur"}, {"=orderId": 5}, {"marked": "Y"},
        {">=dateBill": "2026-11-24T20:00:00+02:00"}, {"<dateBill": datetime.fromisoformat("2026-11-18T00:00:00+00:00")},
        {"=dateBill": "2026-11-24T20:00:00+02:00"}, {">datePaid": "2026-11-01T00:00:00Z"},
    ],
)  # fmt: skip
def test_rows_that_do_not_satisfy_the_filter_are_no_answer(wanted: Any) -> None:
    (key,) = wanted
    with pytest.raises(Bitrix24NoAnswer, match="id 7") as caught:
        check_rows(PAYMENTS, {"filter": wanted}, [{"id": 7}, ROW])
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize(
    "wanted",
    [
        {"%xmlId": "zzz"}, {"=%xmlId": "z%"}, {"!%xmlId": "Key"}, {"comments": "y"}, {"=xmlId": "ключ"}, {"=id": "x"},
        {"psInvoiceId": "z"}, {"paid": "maybe"}, {"orderId": ""}, {"orderId": None}, {"@id": []}, {">xmlId": "z"},
        {"><id": [9]}, {">id": [9]}, {">=dateBill": "2027-01-01"}, {">=dateBill": datetime(2027, 1, 1)},
        {">=dateBill": "2027-13-01T00:00:00Z"}, {"!><id": [1, 9]}, {"0": {"id": 99}}, {"statusId": 99}, {"?id": 9},
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_left_alone(wanted: Any) -> None:
    check_rows(PAYMENTS, {"filter": wanted}, [ROW])


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("crm.lead.list", {"filter": {"ID": 9}}),
        ("crm.deal.get", {"filter": {"ID": 9}}),
        ("crm.item.list", {"filter": {"id": 9}}),
        (PAYMENTS, {"filter": [9]}),
        (PAYMENTS, {"select": ["id"]}),
    ],
)
def test_only_the_filters_of_known_lists_are_compared(method: str, params: Any) -> None:
    check_rows(method, params, [{"id": 7, "ID": "7"}])


def test_a_row_whose_field_cannot_be_read_is_left_alone() -> None:
    check_rows(
        PAYMENTS, {"filter": {"=id": 1, ">sum": 1, "!id": 2, "paid": "Y"}}, [{"id": [], "sum": "x", "paid": "?"}]
    )


def test_names_in_any_case_are_compared_where_the_method_reads_them() -> None:
    with pytest.raises(Bitrix24NoAnswer, match="ACTIVE"):
        check_rows("sale.paysystem.list", {"FILTER": {"active": "Y"}}, [{"ID": 31, "ACTIVE": "N"}])
