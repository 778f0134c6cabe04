"""Any REST method as a task: what is sent again and what never is, what is refused, and where results go."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24.exceptions import Bitrix24Error, Bitrix24NoAnswer, Bitrix24NotFound, Bitrix24RateLimited
from airflow_provider_bitrix24.operators.calls import Bitrix24CallOperator, GetPaymentLinkOperator
from tests.drivers.raw_server import SECRET, RawServer, http_response
from tests.tools.final import raises_for_good

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Task

ADD = {"method": "crm.deal.add", "parameters": {"fields": {"TITLE": "New"}}}


def call(task: Task, **arguments: Any) -> Any:
    return Bitrix24CallOperator(task_id="call", **arguments).execute(task.context)


def asked(portal: Any) -> list[str]:
    return [request["method"] for request in portal.requests]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A portal that gives one reply."""
    replies: list[Any] = []

    def script(peer: Any) -> None:
        while peer.read_request():
            peer.send(http_response(replies[0]))

    running = RawServer(script)
    connection = {
        "conn_type": "bitrix24", "host": "127.0.0.1", "port": running.port, "schema": "http", "login": "1",
        "password": SECRET, "extra": {"allow_http": True},
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    yield replies
    running.stop()


# -- results


def test_a_read_returns_json_with_fractions_as_text(portal: Any, task: Task) -> None:
    payment = call(task, method="sale.payment.get", parameters={"id": 1001})["payment"]
    assert payment["id"] == 1001
    assert json.loads(json.dumps(payment)) == payment
    assert not any(isinstance(value, float) for value in payment.values())


def test_a_result_can_go_to_a_file(portal: Any, task: Task, tmp_path: Path) -> None:
    path = tmp_path / "day" / "payment.json"
    assert call(task, method="crm.item.payment.get", parameters={"id": 1001}, result_path=f"file://{path}") == (
        f"file://{path}"
    )
    assert json.loads(path.read_text())["id"] == 1001


def test_all_rows_are_returned_or_written_line_by_line(portal: Any, task: Task, tmp_path: Path) -> None:
    for number in range(60):
        portal.portal.create("deal", {"title": f"Deal {number}"})
    rows = call(task, method="crm.deal.list", parameters={"select": ["ID"]}, all_rows=True)
    assert len(rows) > 60
    path = tmp_path / "deals.jsonl"
    call(task, method="crm.deal.list", parameters={"select": ["ID"]}, all_rows=True, result_path=str(path))
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows


def test_a_first_page_says_that_there_are_more(portal: Any, task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(60):
        portal.portal.create("deal", {"title": f"Deal {number}"})
    assert len(call(task, method="crm.deal.list", parameters={"select": ["ID"]})) == 50
    assert "all_rows=True" in capsys.readouterr().out


# -- what the log says


def test_the_log_says_what_was_called_and_what_came(
    portal: Any, task: Task, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    call(task, method="crm.item.get", parameters={"entityTypeId": 2, "id": 1})
    call(task, method="crm.deal.list", parameters={"filter": {"TITLE": "secret title"}}, all_rows=True)
    call(task, method="server.time", result_path=str(tmp_path / "time.json"))
    call(task, **ADD)
    printed = capsys.readouterr().out
    assert f"Calling crm.item.get (read) on {portal.url}, by the connection 'bitrix24_default'" in printed
    assert "parameters: entityTypeId=2, id=1." in printed
    assert "crm.item.get returned an object with item." in printed
    assert "parameters: filter." in printed
    assert "crm.deal.list returned 0 rows." in printed
    assert "parameters: none." in printed
    assert "server.time returned a str." in printed
    assert "Wrote 1 line to " in printed
    assert "Calling crm.deal.add (non_idempotent)" in printed
    assert re.search(r"crm\.deal\.add returned \d+\.", printed)
    assert "secret title" not in printed


# -- the retry rule; what the task state is for stands in test_send_once.py


def test_without_task_state_a_later_attempt_creates_nothing(portal: Any, forgetful_task: Task) -> None:
    assert call(forgetful_task, **ADD) > 0
    forgetful_task.again()
    with pytest.raises(AirflowFailException, match="keeps no task state"):
        call(forgetful_task, **ADD)
    change = {"entityTypeId": 2, "id": 1, "fields": {"title": "x"}}
    assert call(forgetful_task, method="crm.item.update", parameters=change)["item"]["title"] == "x"
    assert asked(portal).count("crm.deal.add") == 1


def test_a_read_is_repeated_when_its_reply_is_lost(portal: Any, task: Task) -> None:
    portal.fault("drop_after", "crm.deal.get", occurrence=1)
    assert call(task, method="crm.deal.get", parameters={"id": 1})["ID"] == "1"
    assert asked(portal).count("crm.deal.get") == 2


def test_a_busy_portal_is_an_ordinary_error(server: Any, task: Task) -> None:
    server.append({"error": "OPERATION_TIME_LIMIT", "error_description": "blocked"})
    with pytest.raises(Bitrix24RateLimited):
        call(task, **ADD)


# -- what an error says was sent


def error_of(task: Task, **arguments: Any) -> Bitrix24Error:
    with pytest.raises(Bitrix24Error) as caught:
        call(task, **arguments)
    return caught.value


CHANGE = {"method": "crm.item.update", "parameters": {"entityTypeId": 2, "id": 1, "fields": {"title": "x"}}}


@pytest.mark.parametrize("arguments", [{"method": "nosuch.method"}, {"method": " "}, {**ADD, "all_rows": True}])
def test_an_argument_that_is_refused_has_sent_nothing(task: Task, arguments: Any) -> None:
    assert error_of(task, **arguments).sent == "no"


@pytest.mark.parametrize("arguments", [ADD, CHANGE, {"method": "crm.deal.get", "parameters": {"id": 1}}])
def test_a_refusal_of_the_portal_has_changed_nothing(server: Any, task: Task, arguments: Any) -> None:
    server.append({"error": "OPERATION_TIME_LIMIT", "error_description": "blocked"})
    assert error_of(task, **arguments).sent == "no"


@pytest.mark.parametrize("arguments", [ADD, CHANGE])
def test_a_write_whose_reply_is_lost_may_have_changed_something(portal: Any, task: Task, arguments: Any) -> None:
    portal.fault("drop_after", arguments["method"])
    assert error_of(task, **arguments).sent == "unknown"


def test_a_later_attempt_does_not_deny_what_an_earlier_one_may_have_sent(server: Any, task: Task) -> None:
    server.append({"error": "OPERATION_TIME_LIMIT", "error_description": "blocked"})
    task.again()
    assert error_of(task, **CHANGE).sent == "unknown"
    assert error_of(task, method="nosuch.method").sent == "unknown"
    assert error_of(task, method="crm.deal.get", parameters={"id": 1}).sent == "no"


# -- what is refused


@pytest.mark.parametrize(
    ("method", "advice"),
    [
        ("sale.paysystem.pay.invoice", "Use PayInvoiceOperator"),
        ("crm.item.payment.pay", "Use PayCrmPaymentOperator"),
        ("CRM.item.payment.add", "Use AddCrmPaymentOperator"),
        ("crm.item.payment.unpay", "Use UnpayCrmPaymentOperator"),
        ("crm.item.payment.delete", "Use DeleteCrmPaymentOperator"),
        ("sale.payment.update", "Use PayCrmPaymentOperator"),
        ("batch", "can contain calls that change payments"),
    ],
)
def test_what_changes_payments_is_refused(portal: Any, task: Task, method: str, advice: str) -> None:
    with pytest.raises(AirflowFailException, match=advice) as caught:
        call(task, method=method, parameters={"id": 1001})
    assert "unguarded=True" in str(caught.value)
    assert "Nothing was sent" in str(caught.value)
    assert asked(portal) == []
    assert portal.ledger == []


@pytest.mark.parametrize(
    "method", ["sale.payment.setPaid", "crm.item.payment.pay.json", "sale.paysystem.pay.invoice.xml", "batch.json"]
)
def test_an_unknown_method_of_a_payment_is_refused(portal: Any, task: Task, method: str) -> None:
    with pytest.raises(AirflowFailException, match=r"changes? payments"):
        call(task, method=method, parameters={"id": 1001, "value": "Y"}, effect="idempotent")
    assert asked(portal) == []


def test_a_legacy_invoice_is_not_marked_by_its_fields_behind_the_guards(
    portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = {"method": "crm.invoice.update", "parameters": {"id": 2, "fields": {"STATUS_ID": "P"}}}
    delete = {"method": "crm.invoice.delete", "parameters": {"id": 2}}
    for work in (update, delete):
        with pytest.raises(AirflowFailException, match="changes payments"):
            call(task, **work)
    monkeypatch.setenv("AIRFLOW_VAR_BITRIX24_PAYMENTS_STOPPED_BITRIX24_DEFAULT", "true")
    with pytest.raises(AirflowFailException, match="stopped all payments"):
        call(task, **update, unguarded=True)
    assert portal.ledger == []


def test_unguarded_is_the_authors_word_and_the_kill_switch_still_counts(
    portal: Any, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay = {"method": "crm.item.payment.pay", "parameters": {"id": 1001}, "unguarded": True}
    monkeypatch.setenv("AIRFLOW_VAR_BITRIX24_PAYMENTS_STOPPED_BITRIX24_DEFAULT", "true")
    with pytest.raises(AirflowFailException, match="stopped all payments"):
        call(task, **pay)
    assert portal.ledger == []
    monkeypatch.delenv("AIRFLOW_VAR_BITRIX24_PAYMENTS_STOPPED_BITRIX24_DEFAULT")
    assert call(task, **pay) is True
    assert [entry["payment_id"] for entry in portal.ledger] == [1001]


def test_a_method_whose_effect_is_not_known_needs_one(portal: Any, task: Task) -> None:
    with pytest.raises(AirflowFailException, match=re.escape("(did you mean crm.deal.get?)")):
        call(task, method="crm.deals.get", parameters={"id": 1})
    with pytest.raises(AirflowFailException, match="effect='read'"):
        call(task, method="zzz")
    assert asked(portal) == []
    with pytest.raises(AirflowFailException, match="ERROR_METHOD_NOT_FOUND"):
        call(task, method="crm.deals.get", parameters={"id": 1}, effect="read")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "crm.deal.add", "effect": "read"}, "less than what crm.deal.add does"),
        ({"method": "crm.deal.update", "effect": "read"}, "less than what crm.deal.update does"),
        ({"method": "crm.deal.get", "effect": "maybe"}, "effect must be one of"),
        ({"method": "crm.deal.add", "all_rows": True}, "all_rows is for methods that read"),
        ({"method": "crm.deal.get", "parameters": [1]}, "parameters must be a mapping"),
        ({"method": "crm.deal.get", "unguarded": "False"}, "unguarded must be True or False"),
        ({"method": " "}, "method must be the name"),
        ({"method": "sale.payment.list", "parameters": {"filter": {"PAID": "N"}}}, "Did you mean 'paid'"),
    ],
)
def test_arguments_that_cannot_be_meant(portal: Any, task: Task, arguments: Any, words: str) -> None:
    with pytest.raises(AirflowFailException, match=re.escape(words)):
        call(task, **arguments)
    assert asked(portal) == []


def test_an_argument_that_rendered_to_none(portal: Any, task: Task) -> None:
    operator = Bitrix24CallOperator(task_id="call", method="crm.deal.get", parameters={"id": 1})
    operator.parameters = None
    with pytest.raises(AirflowFailException, match="parameters was given, but rendered to None"):
        operator.execute(task.context)


def test_names_can_be_sent_all_the_same(portal: Any, task: Task) -> None:
    wrong = {"filter": {"PAID": "N"}}
    payments = call(task, method="sale.payment.list", parameters=wrong, check_names=False)["payments"]
    assert {row["paid"] for row in payments} == {"N", "Y"}


# -- the link of a payment


def link(task: Task, payment_id: Any = 1001) -> Any:
    return GetPaymentLinkOperator(task_id="link", payment_id=payment_id).execute(task.context)


def test_the_link_of_a_payment(portal: Any, task: Task) -> None:
    found = link(task, "1001")
    assert set(found) == {"payment_id", "url", "short_url"}
    assert found["payment_id"] == 1001
    assert "paymentId=1001" in found["url"]
    assert portal.ledger == []
    assert any(value.endswith("/1001/") for value in task.xcoms.values())


def test_a_lost_reply_is_asked_for_again(portal: Any, task: Task) -> None:
    portal.fault("drop_after", "salescenter.payment.getPublicUrl", occurrence=1)
    assert link(task)["payment_id"] == 1001


def test_a_payment_that_does_not_exist(portal: Any, task: Task) -> None:
    with raises_for_good(Bitrix24NotFound):
        link(task, 9999)
    with pytest.raises(AirflowFailException, match="payment_id must be"):
        link(task, "x")


URL = "https://acme.bitrix24.shop/?orderId=1&access=0&paymentId="


@pytest.mark.parametrize(
    ("result", "error", "words"),
    [
        ({"connectedSiteId": 1, "isPhoneConfirmed": False}, AirflowFailException, "phone number is not confirmed"),
        ({"payment": {"url": f"{URL}1002"}}, Bitrix24NoAnswer, "that of payment 1002, not 1001"),
        ({"payment": {"url": "javascript:1"}}, Bitrix24NoAnswer, "no address"),
        ({"payment": []}, Bitrix24NoAnswer, "no address"),
        ([], Bitrix24NoAnswer, "not an object"),
    ],
)
def test_replies_without_the_link(server: Any, task: Task, result: Any, error: Any, words: str) -> None:
    server.append({"result": result})
    with pytest.raises(error, match=words):
        link(task)


def test_a_link_without_a_short_one(server: Any, task: Task) -> None:
    server.append({"result": {"payment": {"url": f"{URL}1001"}}})
    assert link(task) == {"payment_id": 1001, "url": f"{URL}1001", "short_url": None}
