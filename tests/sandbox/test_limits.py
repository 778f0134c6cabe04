"""The leaky bucket per address, and the operating time per method in baskets of a minute."""

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
    assert (time["operating"], time["operating_reset_at"]) == (0, int(rest.clock.time()) + 600)
    assert "operating" not in make_rest().body("user.admin")["time"]


def test_a_basket_lasts_from_its_first_call(make_rest: Any) -> None:
    """The first call at 10:05:20 is forgotten at 10:15:20, with all others that were made before 10:06."""
    rest = make_rest(operating_limit=480, operating_costs={"*": 20})
    rest.clock.advance(60 - rest.clock.time() % 60 + 20)
    first = int(rest.clock.time())
    rest("user.admin")
    rest.clock.advance(30)
    rest("user.admin")
    rest.clock.advance(15)  # the next minute
    time = rest.body("user.admin")["time"]
    assert (time["operating"], time["operating_reset_at"]) == (60, first + 600)
    rest.clock.advance(first + 600 - rest.clock.time() - 1)
    assert rest.body("user.admin")["time"]["operating"] == 80
    rest.clock.advance(1)
    time = rest.body("user.admin")["time"]
    assert (time["operating"], time["operating_reset_at"]) == (60, first + 45 + 600)


def test_the_documented_example(make_rest: Any) -> None:
    """480 seconds, 20 for a call: 25 calls are served, the next one is not, until the oldest basket has gone."""
    rest = make_rest(operating_limit=480, operating_costs={"crm.item.list": 20})
    rest.clock.advance(60 - rest.clock.time() % 60)
    for number in range(25):
        time = rest.body("crm.item.list", entityTypeId=2)["time"]
        assert time["operating"] == 20 * (number + 1)
        rest.clock.advance(20)
    assert rest.error("crm.item.list", entityTypeId=2) == "OPERATION_TIME_LIMIT"
    rest.clock.advance(time["operating_reset_at"] - rest.clock.time())
    assert rest.body("crm.item.list", entityTypeId=2)["time"]["operating"] == 500 - 60 + 20


BATCH = {"operating_billed_to": "batch"}


def test_what_is_billed_to_batch(make_rest: Any) -> None:
    """The other report: time inside a batch is that of ``batch``, and its commands show what it has summed up to."""
    rest = make_rest(operating_limit=480, operating_costs={"crm.item.payment.pay": 2.0}, options=BATCH)
    body = rest.body("batch", cmd={str(n): f"crm.item.payment.pay?id={n}" for n in (1001, 1003)})
    assert [part["operating"] for part in body["result"]["result_time"].values()] == [2.0, 4.0]
    assert body["time"]["operating"] == 4.0
    assert body["time"]["operating_reset_at"] == int(rest.clock.time()) + 600
    assert rest.body("crm.item.payment.pay", id=1001)["time"]["operating"] == 2.0  # alone, its own


def test_a_batch_over_its_limit_runs_nothing(make_rest: Any) -> None:
    rest = make_rest(operating_limit=3, operating_costs={"crm.item.payment.pay": 2.0}, options=BATCH)
    commands = {str(n): f"crm.item.payment.pay?id={n}" for n in (1001, 1003, 1004)}
    assert rest.batch(commands)["result_error"] == []  # looked at once, before it begins
    reply = rest.reply("batch", cmd={"again": "crm.item.payment.unpay?id=1001"})
    assert reply.status == 429
    assert reply.body["error"] == "OPERATION_TIME_LIMIT"
    assert "payment_unpaid" not in rest.events()
    assert rest("crm.item.payment.unpay", id=1001) is True  # outside of a batch it has its own time
    rest.clock.advance(600)
    assert rest.batch(commands)["result_error"] == []


def test_an_hour_of_calls_on_a_clock_that_is_moved(make_rest: Any) -> None:
    """A thousand adds of 1.2 s fit into twenty minutes if each waits for the reset that the portal names."""
    rest = make_rest(operating_limit=480, operating_costs={"crm.item.payment.add": 1.2})
    began, waited = rest.clock.time(), 0
    for _ in range(1000):
        body = rest.body("crm.item.payment.add", entityTypeId=2, entityId=3)
        rest.clock.advance(1.2)
        if body["time"]["operating"] + 1.2 > 480:
            waited += 1
            rest.clock.advance(max(0.0, body["time"]["operating_reset_at"] - rest.clock.time()))
    assert [entry["error"] for entry in rest.portal.requests if entry["error"]] == []
    assert waited > 0
    assert 1200 <= rest.clock.time() - began < 1800
