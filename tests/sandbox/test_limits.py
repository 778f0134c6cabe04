"""The leaky bucket per address, and the operating time per method in ten baskets of a minute."""

from __future__ import annotations

from typing import Any

from airflow_provider_bitrix24.sandbox.portal import Auth


def test_bucket(make_rest: Any) -> None:
    rest = make_rest(rate_limit=(3, 2))
    assert [rest.reply("profile").status for _ in range(5)] == [200, 200, 200, 503, 503]
    assert rest.error("profile") == "QUERY_LIMIT_EXCEEDED"
    other = rest.portal.handle("profile", {}, auth=Auth(1, rest.secret, source_ip="127.0.0.2"))
    assert other.status == 200  # per address
    rest.clock.advance(0.5)  # one drop has run out
    assert [rest.reply("profile").status for _ in range(2)] == [200, 503]
    rest.clock.advance(60)
    assert [rest.reply("profile").status for _ in range(4)] == [200, 200, 200, 503]
    assert rest.portal.requests[3]["error"] == "QUERY_LIMIT_EXCEEDED"


def test_a_batch_is_one_request(make_rest: Any) -> None:
    rest = make_rest(rate_limit=(1, 1))
    assert len(rest.batch({str(n): "user.admin" for n in range(20)})["result"]) == 20


def test_the_limit_is_asked_before_anything_runs(make_rest: Any) -> None:
    rest = make_rest(rate_limit=(1, 1))
    rest("profile")
    assert rest.error("crm.item.payment.pay", id=1001) == "QUERY_LIMIT_EXCEEDED"
    assert rest.portal.ledger == []


def test_operating_time(make_rest: Any) -> None:
    rest = make_rest(operating_limit=10, operating_costs={"crm.item.payment.pay": 4.0, "user.admin": 0.1})
    start = rest.clock.time()
    rest.clock.advance(60 - start % 60)  # the beginning of a basket
    reset = int(rest.clock.time()) + 600
    for number in range(1, 4):
        time = rest.body("crm.item.payment.pay", id=1001)["time"]
        assert (time["operating"], time["operating_reset_at"]) == (4.0 * number, reset)
        rest.clock.advance(60)
    refused = rest.reply("crm.item.payment.unpay", id=1001)
    assert refused.status == 200  # another method has its own time
    refused = rest.reply("crm.item.payment.pay", id=1001)
    assert refused.status == 429
    assert refused.body == {
        "error": "OPERATION_TIME_LIMIT",
        "error_description": "Method is blocked due to operation time limit.",
    }
    other = rest.portal.add_webhook(1)
    assert rest.portal.handle("crm.item.payment.pay", {"id": 1003}, auth=Auth(1, other.secret)).status == 200
    rest.clock.advance(reset - rest.clock.time())  # the oldest basket leaves, not all of them
    assert rest.body("crm.item.payment.pay", id=1001)["time"]["operating"] == 12.0
    assert rest.error("crm.item.payment.pay", id=1001) == "OPERATION_TIME_LIMIT"


def test_the_block_comes_before_the_body(make_rest: Any) -> None:
    rest = make_rest(operating_limit=1, operating_costs={"crm.item.payment.pay": 2.0})
    rest("crm.item.payment.pay", id=1001)
    assert rest.error("crm.item.payment.pay", id=1003) == "OPERATION_TIME_LIMIT"
    assert rest.error("crm.item.payment.pay") == "OPERATION_TIME_LIMIT"
    assert [entry["payment_id"] for entry in rest.portal.ledger] == [1001]


def test_failures_cost_time_too(make_rest: Any) -> None:
    rest = make_rest(operating_limit=1, operating_costs={"crm.item.payment.pay": 2.0})
    assert rest.error("crm.item.payment.pay", id=9) == "0"
    assert rest.error("crm.item.payment.pay", id=9) == "OPERATION_TIME_LIMIT"


def test_batch_is_exempt_and_its_commands_fail_one_by_one(make_rest: Any) -> None:
    rest = make_rest(operating_limit=1, operating_costs={"crm.item.payment.pay": 0.9})
    commands = {str(n): f"crm.item.payment.pay?id={n}" for n in (1001, 1003, 1004)}
    body = rest.body("batch", cmd=commands)
    assert "operating" not in body["time"]
    found = body["result"]
    assert set(found["result"]) == {"1001", "1003"}
    assert found["result_error"]["1004"]["error"] == "OPERATION_TIME_LIMIT"
    assert found["result_time"]["1003"]["operating"] == 1.8


def test_cheap_calls_are_not_counted_and_without_a_limit_nobody_counts(make_rest: Any) -> None:
    rest = make_rest(operating_limit=1, operating_costs={"user.admin": 0.1})
    for _ in range(30):
        time = rest.body("user.admin")["time"]
    assert (time["operating"], time["operating_reset_at"] % 60) == (0, 0)
    assert "operating" not in make_rest().body("user.admin")["time"]
