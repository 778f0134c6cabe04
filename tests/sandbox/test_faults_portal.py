"""Scripted trouble in process: what runs, what the client sees, and when, on the portal's clock."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_bitrix24.sandbox.faults import KINDS, Fault, Faults
from airflow_provider_bitrix24.sandbox.portal import Auth

ADD = ("crm.item.payment.add", {"entityId": 3, "entityTypeId": 2})


def payments(rest: Any) -> int:
    return len([entry for entry in rest.portal.ledger if entry["event"] == "payment_added"])


#: kind and options -> (transport, status, error code, has it run?)
EFFECTS: list[tuple[dict[str, Any], tuple[str | None, int, str | None, bool]]] = [
    ({"kind": "drop_before"}, ("drop", 200, None, False)),
    ({"kind": "drop_after"}, ("drop", 200, None, True)),
    ({"kind": "close_idle"}, ("close_idle", 200, None, False)),
    ({"kind": "truncate"}, ("truncate", 200, None, True)),
    ({"kind": "slow", "seconds": 2.0}, ("slow", 200, None, True)),
    ({"kind": "html"}, (None, 502, None, False)),
    ({"kind": "html", "status": 200, "when": "after"}, (None, 200, None, True)),
    ({"kind": "empty_body"}, (None, 200, None, True)),
    ({"kind": "empty_body", "when": "before"}, (None, 200, None, False)),
    ({"kind": "invalid_json"}, (None, 200, None, True)),
    ({"kind": "redirect"}, (None, 302, None, False)),
    ({"kind": "operation_time_limit"}, (None, 429, "OPERATION_TIME_LIMIT", False)),
    ({"kind": "query_limit_exceeded"}, (None, 503, "QUERY_LIMIT_EXCEEDED", False)),
    ({"kind": "overload_limit"}, (None, 401, "OVERLOAD_LIMIT", False)),
    ({"kind": "expired_token"}, (None, 401, "expired_token", False)),
    ({"kind": "error", "code": "MY_CODE", "status": 418}, (None, 418, "MY_CODE", False)),
    ({"kind": "error_after_executing", "code": "", "status": 200}, (None, 200, "", True)),
    ({"kind": "internal_server_error"}, (None, 500, "INTERNAL_SERVER_ERROR", True)),
    ({"kind": "internal_server_error", "when": "before"}, (None, 500, "INTERNAL_SERVER_ERROR", False)),
    ({"kind": "true_not_applied"}, (None, 200, None, False)),
    ({"kind": "time_missing"}, (None, 200, None, True)),
    ({"kind": "time_integers"}, (None, 200, None, True)),
    ({"kind": "numeric_code"}, (None, 200, None, True)),
    ({"kind": "read_lag"}, (None, 200, None, True)),
    ({"kind": "flood"}, ("hostile", 200, None, True)),
    ({"kind": "flood", "when": "before"}, ("hostile", 200, None, False)),
    ({"kind": "big_html"}, ("hostile", 200, None, True)),
    ({"kind": "deep_json"}, ("hostile", 200, None, True)),
    ({"kind": "huge_numbers"}, ("hostile", 200, None, True)),
    ({"kind": "wrong_encoding"}, ("hostile", 200, None, True)),
    ({"kind": "gzip_bomb"}, ("hostile", 200, None, True)),
]


@pytest.mark.parametrize("method", ["*", "crm.item.payment.add", "CRM.ITEM.PAYMENT.ADD"])
@pytest.mark.parametrize(("options", "expected"), EFFECTS, ids=lambda value: str(value))
def test_effect(options: dict[str, Any], expected: tuple[Any, ...], method: str, rest: Any) -> None:
    rest.portal.faults.add(Fault(method=method, occurrence=1, **options))
    reply = rest.reply(*ADD)
    code = reply.body.get("error") if isinstance(reply.body, dict) else None
    assert (reply.transport, reply.status, code, payments(rest) == 1) == expected
    assert rest.portal.requests[0]["fault"] == options["kind"]
    assert rest(*ADD) > 1032  # once only


@pytest.mark.parametrize(("options", "expected"), EFFECTS, ids=lambda value: str(value))
def test_effect_on_a_command_of_a_batch(options: dict[str, Any], expected: tuple[Any, ...], rest: Any) -> None:
    transport, status, code, has_run = expected
    rest.portal.faults.add(method="crm.item.payment.add", occurrence=1, **options)
    commands = {"a": "crm.item.payment.pay?id=1001", "b": f"{ADD[0]}?entityId=3&entityTypeId=2", "c": "user.admin"}
    reply = rest.reply("batch", cmd=commands)
    assert (payments(rest) == 1) is has_run
    assert rest("crm.item.payment.get", id=1001)["paid"] == "Y"  # the command before has run in any case
    if code is None:
        assert (reply.transport, reply.status) == (transport, status)
    else:
        assert (reply.transport, reply.status) == (None, 200)
        assert reply.body["result"]["result_error"]["b"]["error"] == code
        assert reply.body["result"]["result"]["c"] is True


def test_every_kind_is_tried() -> None:
    of_tokens = {"lure"}
    assert {options["kind"] for options, _ in EFFECTS} | {"hold", "commit_later"} | of_tokens == set(KINDS)


def test_what_arrives(rest: Any) -> None:
    faults = rest.portal.faults

    def once(**options: Any) -> Any:
        faults.clear()
        faults.add(**options)
        return rest.reply(*ADD)

    assert once(kind="empty_body").body == ""
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(once(kind="invalid_json").body)
    html = once(kind="html", status=504)
    assert html.headers["Content-Type"].startswith("text/html")
    assert "<title>504</title>" in html.body
    moved = once(kind="redirect", location="https://new.example/rest/")
    assert moved.headers["Location"] == "https://new.example/rest/"
    assert "time" not in once(kind="time_missing").body
    whole = once(kind="time_integers").body["time"]
    assert [type(whole[key]) for key in ("start", "finish", "duration", "processing")] == [int] * 4
    assert once(kind="slow").seconds == 1.0
    assert once(kind="error", code=7, text="seven").body == {"error": 7, "error_description": "seven"}


def test_time_missing_beats_time_integers(rest: Any) -> None:
    rest.portal.faults.add(kind="time_missing")
    rest.portal.faults.add(kind="time_integers")
    assert "time" not in rest.body("user.admin")


def test_numeric_code(rest: Any) -> None:
    rest.portal.faults.add(kind="numeric_code", method="crm.item.payment.get")
    assert rest.error("crm.item.payment.get", id=9) == 0
    assert rest.error("crm.item.payment.get") == 100
    assert rest.batch({"a": "crm.item.payment.get?id=9"})["result_error"]["a"]["error"] == 0
    assert rest.error("sale.payment.get", id=9) == "200640400001"


def test_failures_can_be_lost_too(rest: Any) -> None:
    rest.portal.faults.add(kind="drop_after")
    assert rest.reply("crm.item.payment.get", id=9).transport == "drop"


def test_close_idle_needs_a_connection_that_was_kept(rest: Any) -> None:
    rest.portal.faults.add(kind="close_idle", method="user.admin", times=1)
    fresh = rest.portal.handle("user.admin", {}, auth=Auth(1, rest.secret, kept_alive=False))
    assert fresh.body["result"] is True


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "xxxxxx"),
        ({"occurrence": 3}, "..x..."),
        ({"times": 2}, "xx...."),
        ({"occurrence": 2, "times": 3}, ".xxx.."),
        ({"probability": 0}, "......"),
        ({"method": "other"}, "......"),
    ],
    ids=str,
)
def test_which_calls_are_hit(options: dict[str, Any], expected: str, rest: Any) -> None:
    number = rest.portal.faults.add(kind="html", **options)
    pattern = "".join("x" if rest.reply("user.admin").status == 502 else "." for _ in expected)
    assert pattern == expected
    described = rest.portal.faults.describe()[0]
    assert (described["id"], described["hits"]) == (number, expected.count("x"))


def test_probability_is_repeatable(make_rest: Any) -> None:
    def pattern(seed: int) -> str:
        rest = make_rest(random_seed=seed)
        rest.portal.faults.add(kind="html", probability=0.5)
        return "".join(str(rest.reply("user.admin").status)[0] for _ in range(40))

    assert pattern(1) == pattern(1)
    assert pattern(1) != pattern(2)
    assert 5 < pattern(1).count("5") < 35


def test_star_is_every_request_and_not_its_commands(rest: Any) -> None:
    rest.portal.faults.add(kind="error", code="X", occurrence=2)
    assert len(rest.batch({"a": "user.admin", "b": "user.admin"})["result"]) == 2
    assert rest.error("user.admin") == "X"


def test_occurrence_is_counted_inside_and_outside_of_batches(rest: Any) -> None:
    rest.portal.faults.add(kind="error", code="X", method="user.admin", occurrence=3)
    rest("user.admin")
    found = rest.batch(["user.admin", "user.admin", "user.admin"])
    assert found["result_error"] == {"1": {"error": "X", "error_description": "Scripted error"}}


def test_hold_before_and_release(rest: Any) -> None:
    number = rest.portal.faults.add(kind="hold", method=ADD[0], times=1)
    reply = rest.reply(*ADD)
    assert (reply.transport, payments(rest)) == ("hold", 0)
    assert rest.portal.faults.describe()[0]["holding"] == 1
    assert rest.portal.requests[0]["status"] is None
    rest.clock.advance(1e6)
    rest.portal.tick()
    assert not reply.held.done.is_set()
    assert rest.portal.faults.release(99) == 0
    assert rest.portal.faults.release(number) == 1
    assert reply.held.done.is_set()
    assert reply.held.reply.body["result"] == 1033
    assert (payments(rest), rest.portal.faults.describe()[0]["holding"]) == (1, 0)
    assert rest.portal.requests[0]["status"] == 200


def test_hold_after_for_some_seconds(rest: Any) -> None:
    rest.portal.faults.add(kind="hold", method=ADD[0], when="after", seconds=30)
    reply = rest.reply(*ADD)
    assert (reply.transport, payments(rest)) == ("hold", 1)
    rest.clock.advance(29.9)
    rest.portal.tick()
    assert not reply.held.done.is_set()
    rest.clock.advance(0.1)
    rest("user.admin")  # any call lets time pass
    assert reply.held.reply.body["result"] == 1033


def test_hold_in_the_middle_of_a_batch(rest: Any) -> None:
    rest.portal.faults.add(kind="hold", method=ADD[0])
    commands = {"a": "crm.item.payment.pay?id=1001", "b": f"{ADD[0]}?entityId=3&entityTypeId=2", "c": "user.admin"}
    reply = rest.reply("batch", cmd=commands)
    assert rest.events() == ["payment_paid"]
    rest.portal.faults.clear()
    assert rest.events() == ["payment_paid", "order_created", "payment_added"]
    assert reply.held.reply.body["result"]["result"] == {"a": True, "b": 1033, "c": True}


def test_commit_later(rest: Any) -> None:
    rest.portal.faults.add(kind="commit_later", method=ADD[0], times=1, seconds=20)
    reply = rest.reply(*ADD)
    assert (reply.transport, reply.held, payments(rest)) == ("drop", None, 0)
    rest.clock.advance(19)
    assert rest("crm.item.payment.list", entityId=3, entityTypeId=2) == []
    rest.clock.advance(1)
    assert len(rest("crm.item.payment.list", entityId=3, entityTypeId=2)) == 1
    assert rest.portal.ledger[-1]["at"] == "2025-11-22T10:27:00+02:00"


def test_commit_later_on_release(rest: Any) -> None:
    number = rest.portal.faults.add(kind="commit_later", method=ADD[0])
    rest.reply(*ADD)
    rest.reply(*ADD)
    assert (payments(rest), rest.portal.faults.release(number), payments(rest)) == (0, 2, 2)


def test_due_work_is_done_in_its_order(rest: Any) -> None:
    faults = rest.portal.faults
    faults.add(kind="commit_later", method="crm.item.payment.pay", seconds=20)
    faults.add(kind="commit_later", method="crm.item.payment.unpay", seconds=10)
    rest.reply("crm.item.payment.pay", id=1001)
    rest.reply("crm.item.payment.unpay", id=1002)
    rest.clock.advance(60)
    rest.portal.tick()
    assert rest.events() == ["payment_unpaid", "payment_paid"]


def test_held_twice_and_then_let_down(rest: Any) -> None:
    before = rest.portal.faults.add(kind="hold", method=ADD[0])
    after = rest.portal.faults.add(kind="hold", method=ADD[0], when="after")
    reply = rest.reply(*ADD)
    rest.portal.faults.release(before)
    assert (payments(rest), reply.held.done.is_set()) == (1, False)
    rest.portal.faults.release(after)
    assert reply.held.reply.body["result"] == 1033
    rest.portal.faults.clear()
    hold = rest.portal.faults.add(kind="hold", method=ADD[0])
    later = rest.portal.faults.add(kind="commit_later", method=ADD[0])
    reply = rest.reply(*ADD)
    rest.portal.faults.release(hold)
    assert (reply.held.reply.transport, payments(rest)) == ("drop", 1)
    rest.portal.faults.release(later)
    assert payments(rest) == 2


def test_read_lag(rest: Any) -> None:
    rest.portal.faults.add(kind="read_lag", method="crm.item.payment.pay", times=1, seconds=5)
    assert rest("crm.item.payment.pay", id=1001) is True

    def paid() -> Any:
        return rest("crm.item.payment.get", id=1001)["paid"]

    assert (rest.events(), paid()) == (["payment_paid"], "N")
    assert rest.batch({"a": "crm.item.payment.get?id=1001"})["result"]["a"]["paid"] == "N"
    rest.clock.advance(3)
    rest("crm.item.payment.pay", id=1003)  # writes see the truth, and are hidden as long
    assert rest("crm.item.payment.get", id=1003)["paid"] == "N"
    rest.clock.advance(2)
    assert (paid(), rest("crm.item.payment.get", id=1003)["paid"]) == ("Y", "Y")


def test_read_lag_after_read_lag(rest: Any) -> None:
    rest.portal.faults.add(kind="read_lag", method="crm.item.payment.pay", seconds=5)
    rest("crm.item.payment.pay", id=1001)
    rest.clock.advance(3)
    rest("crm.item.payment.pay", id=1003)
    rest.clock.advance(3)  # the first is visible, the second is not
    assert [rest("crm.item.payment.get", id=number)["paid"] for number in (1001, 1003)] == ["Y", "N"]


def test_read_lag_does_nothing_to_reads(rest: Any) -> None:
    rest.portal.faults.add(kind="read_lag", method="crm.item.payment.get")
    rest("crm.item.payment.get", id=1001)
    rest("crm.item.payment.pay", id=1001)
    assert rest("crm.item.payment.get", id=1001)["paid"] == "Y"


def test_true_not_applied_uses_up_ids(rest: Any) -> None:
    rest.portal.faults.add(kind="true_not_applied", method=ADD[0], times=1)
    assert rest(*ADD) == 1033
    assert rest.error("crm.item.payment.get", id=1033) == "0"
    assert rest(*ADD) == 1034
    rest.portal.faults.add(kind="true_not_applied", method="sale.paysystem.pay.invoice")
    assert rest("sale.paysystem.pay.invoice", INVOICE_ID=2, PAY_SYSTEM_ID=31) is True
    assert rest("crm.invoice.get", id=2)["PAYED"] == "N"


def test_true_not_applied_to_a_whole_batch(rest: Any) -> None:
    rest.portal.faults.add(kind="true_not_applied", method="batch", times=1)
    commands = {"a": f"{ADD[0]}?entityId=3&entityTypeId=2", "b": "crm.item.payment.get?id=$result[a]"}
    assert rest.batch(commands)["result"]["b"]["id"] == 1033  # the batch sees its own changes, nobody else does
    assert rest.portal.ledger == []
    assert rest(*ADD) == 1034


def test_two_faults_at_once(rest: Any) -> None:
    rest.portal.faults.add(kind="read_lag", method=ADD[0], seconds=5)
    rest.portal.faults.add(kind="drop_after", method=ADD[0])
    assert rest.reply(*ADD).transport == "drop"
    assert (payments(rest), rest("crm.item.payment.list", entityId=3, entityTypeId=2)) == (1, [])
    assert rest.portal.requests[0]["fault"] == "read_lag, drop_after"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kind": "nonsense"}, "unknown fault kind 'nonsense'; known: big_html, close_idle, commit_later"),
        ({"kind": "html", "when": "during"}, "when must be 'before' or 'after'"),
        ({"kind": "html", "probability": 2}, "probability must be between 0 and 1"),
        ({"kind": "big_html", "megabytes": 0}, "megabytes must be a whole number from 1"),
        ({"kind": "deep_json", "depth": -1}, "depth must be a whole number from 1"),
        ({"kind": "html", "times": 0}, "times must be a whole number from 1"),
        ({"kind": "html", "occurrence": True}, "occurrence must be a whole number from 1"),
        ({"kind": "html", "colour": 1}, "unknown fault option colour; known: charset, code, depth, kind"),
        ({"method": "*"}, "a fault needs a kind"),
    ],
    ids=str,
)
def test_scripts_that_make_no_sense(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Faults().add_json(options)


def test_faults_without_a_portal_hold_nothing() -> None:
    faults = Faults()
    number = faults.add_json({"kind": "html", "status": 504})
    assert faults.describe()[0]["status"] == 504
    assert faults.release(number) == 0
