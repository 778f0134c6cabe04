"""The retry table, outcome by outcome: who is told what, what is sent again, and how long anybody waits."""

from __future__ import annotations

import datetime
import json
import traceback
from decimal import Decimal
from typing import Any

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_bitrix24 import exceptions
from airflow_provider_bitrix24.api.client import ApiClient, keyed
from airflow_provider_bitrix24.api.envelope import ErrorReply, Redirect, Reply, UnusableReply, open_envelope
from airflow_provider_bitrix24.api.io import Effect, NotSent, Response, SendDeadline, Unknown
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ApiError,
    Bitrix24AuthError,
    Bitrix24ConfigError,
    Bitrix24InvalidRequest,
    Bitrix24NoAnswer,
    Bitrix24NotFound,
    Bitrix24NotSent,
    Bitrix24OutcomeUnknown,
    Bitrix24Overloaded,
    Bitrix24PermissionError,
    Bitrix24RateLimited,
    Bitrix24ServerError,
)
from tests.api.scripted import SECRET, Play, client, endless, error_response, json_response, play, portal

METHOD = "crm.item.payment.add"
READ, IDEMPOTENT, NON_IDEMPOTENT = Effect.READ, Effect.IDEMPOTENT, Effect.NON_IDEMPOTENT
WRITES = [IDEMPOTENT, NON_IDEMPOTENT]
DEADLINE = SendDeadline(monotonic=1.0, wall=1.0)
OK = json_response({"result": 1})

CERTAIN = {
    "NO_AUTH_FOUND": Bitrix24AuthError,
    "expired_token": Bitrix24AuthError,
    "INVALID_CREDENTIALS": Bitrix24AuthError,
    "authorization_error": Bitrix24AuthError,
    "APPLICATION_NOT_FOUND": Bitrix24AuthError,
    "INVALID_REQUEST": Bitrix24AuthError,
    "PORTAL_DELETED": Bitrix24AuthError,
    "insufficient_scope": Bitrix24PermissionError,
    "user_access_error": Bitrix24PermissionError,
    "ACCESS_DENIED": Bitrix24PermissionError,
    "WRONG_AUTH_TYPE": Bitrix24PermissionError,
    "ALLOWED_ONLY_INTRANET_USER": Bitrix24PermissionError,
    "ERROR_METHOD_NOT_FOUND": Bitrix24InvalidRequest,
    " ERROR_METHOD_NOT_FOUND": Bitrix24InvalidRequest,
    "OVERLOAD_LIMIT": Bitrix24Overloaded,
    "OPERATION_TIME_LIMIT": Bitrix24RateLimited,
}
OF_METHODS = {
    "ERROR_HANDLER_NOT_FOUND": Bitrix24InvalidRequest,
    200040300020: Bitrix24PermissionError,
    "ERROR_CHECK_FAILURE": Bitrix24InvalidRequest,
    " ERROR_CHECK_FAILURE": Bitrix24InvalidRequest,
    "ERROR_INVOICE_NO_SUPPORTED": Bitrix24InvalidRequest,
    "ERROR_PAY_INVOICE_NOT_SUPPORTED": Bitrix24InvalidRequest,
    "ERROR_INTERNAL_INVOICE_NOT_FOUND": Bitrix24NotFound,
    "ERROR_PAY_SYSTEM_NOT_FOUND": Bitrix24InvalidRequest,
    200640400001: Bitrix24NotFound,
}
ONE_PAYMENT = ("crm.item.payment.pay", "crm.item.payment.unpay", "crm.item.payment.delete", "crm.item.payment.update")
PAYING = ("sale.paysystem.pay.invoice", "sale.paysystem.pay.payment")
FILLING = "crm.item.payment.product.add"
UPDATE = "crm.item.payment.update"
QUANTITY = "crm.item.payment.product.setQuantity"
# What is said before writing -> the error, and the methods whose checks say it. From the others it proves nothing.
SPEAKING = {
    "Insufficient permissions": (Bitrix24PermissionError, (METHOD, *ONE_PAYMENT, FILLING)),
    "Access denied.": (Bitrix24PermissionError, (METHOD, *ONE_PAYMENT, FILLING)),
    "Access denied!<br />": (Bitrix24PermissionError, (METHOD, *ONE_PAYMENT, FILLING)),
    "Entity with identifier №13123000 does not exist": (Bitrix24NotFound, (METHOD,)),
    "Payment has not been found": (Bitrix24NotFound, (*ONE_PAYMENT, FILLING)),
    "Invalid CRM object type": (Bitrix24InvalidRequest, (METHOD,)),
    "The provided CRM object was not found": (Bitrix24NotFound, (METHOD,)),
    "Payment not found or access denied": (Bitrix24NotFound, ONE_PAYMENT),
    "Product item not found": (Bitrix24NotFound, (FILLING, QUANTITY, "crm.item.payment.product.delete")),
    "Product quantity cannot be less than or equal to 0": (Bitrix24InvalidRequest, (FILLING, QUANTITY)),
    "Insufficient product quantity to add to payment": (Bitrix24InvalidRequest, (FILLING, QUANTITY)),
    "Payable item has not been found": (Bitrix24NotFound, ("crm.item.payment.product.delete",)),
    "Payment system has not been found": (Bitrix24InvalidRequest, (UPDATE,)),
    "Empty fields": (Bitrix24InvalidRequest, (UPDATE,)),
}
SAID_BEFORE_WRITING = {
    "ERROR_HANDLER_NOT_FOUND": ("sale.paysystem.add", "sale.paysystem.update", "sale.paysystem.settings.update"),
    "ERROR_CHECK_FAILURE": PAYING,
    " ERROR_CHECK_FAILURE": PAYING,
    "ERROR_INVOICE_NO_SUPPORTED": PAYING,
    "ERROR_PAY_INVOICE_NOT_SUPPORTED": PAYING,
    "ERROR_INTERNAL_INVOICE_NOT_FOUND": PAYING,
    200040300020: ("sale.payment.update", "sale.payment.add", "sale.payment.delete"),
    200640400001: ("salescenter.payment.getPublicUrl", "sale.payment.update", "sale.payment.delete"),
    "ERROR_PAY_SYSTEM_NOT_FOUND": ("sale.paysystem.update",),
}
WRITING = (METHOD, *ONE_PAYMENT, *PAYING, FILLING, "sale.payment.update", "crm.deal.add", "batch")


def call(effect: Effect, *outcomes: Any, deadline: SendDeadline | None = None, **extra: Any) -> Play:
    return play(client(**extra).call(METHOD, effect=effect, deadline=deadline), *outcomes)


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize("status", [200, 400, 401, 503])
@pytest.mark.parametrize("code", CERTAIN)
def test_what_certainly_did_not_run_is_final_and_told_by_its_code(code: Any, status: int, effect: Effect) -> None:
    error = call(effect, error_response(code, "words", status)).error
    assert type(error) is CERTAIN[code]
    assert (error.portal_code, error.status, error.method, error.description) == (
        str(code).strip(),
        status,
        METHOD,
        "words",
    )


@pytest.mark.parametrize("code", [100, "100"])
def test_a_bad_parameter_is_certain_unless_the_server_broke(code: Any) -> None:
    for effect in Effect:
        assert type(call(effect, error_response(code, "words", 400)).error) is Bitrix24InvalidRequest
    assert type(call(READ, error_response(code, "words", 500)).error) is Bitrix24InvalidRequest
    for effect in WRITES:
        error = call(effect, error_response(code, "words", 500)).error
        assert isinstance(error, Bitrix24OutcomeUnknown)
        assert (error.answered, error.portal_code) == (False, "100")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NOT_FOUND", Bitrix24NotFound),
        ("owner_not_found", Bitrix24InvalidRequest),
        ("ENTITY_TYPE_NOT_SUPPORTED", Bitrix24InvalidRequest),
    ],
)
def test_codes_that_may_also_come_after_a_write_are_certain_only_for_reads(code: str, kind: type) -> None:
    for status, answered in ((400, True), (500, False)):
        assert type(call(READ, error_response(code, "words", status)).error) is kind
        for effect in WRITES:
            error = call(effect, error_response(code, "words", status)).error
            assert isinstance(error, Bitrix24OutcomeUnknown)
            assert (error.answered, error.portal_code, error.text) == (answered, code, "words")


def ask(method: str, effect: Effect, outcome: Any) -> Any:
    return play(client().call(method, effect=effect), outcome).error


@pytest.mark.parametrize("code", [0, "0", "", None])
@pytest.mark.parametrize("text", SPEAKING)
def test_codes_without_meaning_are_told_by_the_words_that_the_method_gives_before_writing(code: Any, text: str) -> None:
    kind, methods = SPEAKING[text]
    assert type(call(READ, error_response(code, text)).error) is kind
    for method in {*WRITING, *methods}:
        for effect in WRITES:
            error = ask(method, effect, error_response(code, text))
            assert type(error) is (kind if method in methods else Bitrix24OutcomeUnknown), method


@pytest.mark.parametrize("code", OF_METHODS)
def test_a_methods_own_code_is_a_refusal_only_from_a_method_that_checks_first(code: Any) -> None:
    assert type(call(READ, error_response(code, "words")).error) is OF_METHODS[code]
    for method in {*WRITING, *SAID_BEFORE_WRITING[code]}:
        error = ask(method, NON_IDEMPOTENT, error_response(code, "words"))
        certain = method in SAID_BEFORE_WRITING[code]
        assert type(error) is (OF_METHODS[code] if certain else Bitrix24OutcomeUnknown), method


def test_an_add_that_does_not_find_its_own_payment_may_have_added_it() -> None:
    error = call(NON_IDEMPOTENT, error_response(0, "Payment has not been found")).error
    assert isinstance(error, Bitrix24OutcomeUnknown)
    assert (error.answered, error.portal_code, error.text) == (True, "0", "Payment has not been found")


@pytest.mark.parametrize("code", [0, "", "SALE_PAYMENT_WRONG", "201650000001", "ERROR_PROCESS_REQUEST_RESULT"])
def test_words_that_nobody_knows_are_an_answer_but_an_unclear_one(code: Any) -> None:
    read = call(READ, error_response(code, "Etwas ging schief")).error
    assert type(read) is Bitrix24ApiError
    for effect in WRITES:
        error = call(effect, error_response(code, "Etwas ging schief")).error
        assert isinstance(error, Bitrix24OutcomeUnknown)
        assert (error.answered, error.portal_code, error.text) == (True, str(code), "Etwas ging schief")


def test_the_text_of_another_check_after_the_write_stays_unclear() -> None:
    assert isinstance(call(NON_IDEMPOTENT, error_response(0, "Payment not found")).error, Bitrix24OutcomeUnknown)
    assert isinstance(call(READ, error_response(0, "Payment not found")).error, Bitrix24NotFound)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Pay system not found", Bitrix24InvalidRequest),
        ("Payment with ID=1 and PAY_SYSTEM_ID=2 not found", Bitrix24NotFound),
        ("Invoice #7 not found", Bitrix24NotFound),
    ],
)
def test_a_check_failure_says_what_is_missing(text: str, kind: type) -> None:
    assert type(ask("sale.paysystem.pay.invoice", IDEMPOTENT, error_response("ERROR_CHECK_FAILURE", text))) is kind


@pytest.mark.parametrize("code", ["INTERNAL_SERVER_ERROR", "ERROR_UNEXPECTED_ANSWER", "ERROR_CORE", "NEW_WORD"])
def test_trouble_inside_is_no_answer_to_a_write(code: str) -> None:
    broken = error_response(code, "SQL query error!", 500)
    for effect in WRITES:
        error = call(effect, broken).error
        assert isinstance(error, Bitrix24OutcomeUnknown)
        assert error.answered is False
    read = call(READ, broken, broken, broken)
    assert type(read.error) is Bitrix24ServerError
    assert call(READ, broken, OK).value.result == 1


@pytest.mark.parametrize(
    "lost",
    [
        Unknown("reset"),
        json_response(b"<html>", 502),
        json_response(b"", 504),
        json_response(b"[]"),
        json_response(b'"x"'),
        json_response(b'{"result": 1e9999999999999999999}'),
        json_response(b"[" * 100_000),
        json_response({"no": "result"}),
        json_response({"result": 1}, 500),
        json_response(b'{"result": NaN}'),
        json_response(b"\xff\xfe\xfa"),
    ],
)
def test_a_lost_answer_is_read_again_and_never_written_again(lost: Any) -> None:
    for effect in WRITES:
        error = call(effect, lost).error
        assert isinstance(error, Bitrix24OutcomeUnknown)
        assert error.answered is False
    assert isinstance(call(READ, lost, lost, lost).error, Bitrix24NoAnswer)
    again = call(READ, lost, lost, OK)
    assert again.value.result == 1
    assert len(again.sleeps) == 2
    assert all(0 <= sleep.seconds <= 5 for sleep in again.sleeps)


@pytest.mark.parametrize("effect", Effect)
def test_what_was_not_sent_is_sent_again_a_few_times(effect: Effect) -> None:
    missed = NotSent("connection refused")
    assert call(effect, missed, missed, OK).value.result == 1
    error = call(effect, missed, missed, missed).error
    assert isinstance(error, Bitrix24NotSent)
    assert (error.obstacle, error.deadline_passed) == ("connection refused", False)


@pytest.mark.parametrize("effect", Effect)
def test_when_the_deadline_is_over_the_flow_ends(effect: Effect) -> None:
    error = call(effect, NotSent("too late", deadline_passed=True), deadline=DEADLINE).error
    assert isinstance(error, Bitrix24NotSent)
    assert error.deadline_passed


def test_the_deadline_goes_with_the_request() -> None:
    assert call(NON_IDEMPOTENT, OK, deadline=DEADLINE).requests[0].not_after == DEADLINE


def test_the_auth_server_being_away_is_worth_another_try_but_no_second_write() -> None:
    away = error_response("CONNECTION_ERROR", status=401)
    assert call(READ, away, OK).value.result == 1
    for error in (call(READ, away, away, away).error, call(IDEMPOTENT, away).error, call(NON_IDEMPOTENT, away).error):
        assert type(error) is Bitrix24ServerError
        assert not error.final


# -- the rate limit -----------------------------------------------------------------------------------------------

BUSY = error_response("QUERY_LIMIT_EXCEEDED", "Too many requests", 503)


@pytest.mark.parametrize("effect", Effect)
def test_too_many_requests_wait_and_go_on(effect: Effect) -> None:
    played = call(effect, BUSY, BUSY, OK)
    assert played.value.result == 1
    assert len(played.sleeps) == 2
    assert "too many requests" in played.sleeps[0].reason
    assert METHOD in played.sleeps[0].reason


def test_waits_for_the_rate_limit_are_bounded_and_spread() -> None:
    first = [endless(client().call(METHOD, effect=READ), BUSY) for _ in range(20)]
    for played in first:
        assert isinstance(played.error, Bitrix24RateLimited)
        assert played.waited == pytest.approx(120)
        assert max(sleep.seconds for sleep in played.sleeps) <= 15
    assert len({played.sleeps[0].seconds for played in first}) > 15


@pytest.mark.parametrize("outcome", [BUSY, NotSent("connection refused")])
@pytest.mark.parametrize("effect", WRITES)
def test_with_a_deadline_it_is_tried_once(effect: Effect, outcome: Any) -> None:
    """After a wait, whoever set the deadline decides again whether it may be sent."""
    played = call(effect, outcome, deadline=DEADLINE)
    assert isinstance(played.error, Bitrix24RateLimited | Bitrix24NotSent)
    assert played.sleeps == []


def test_no_waiting_at_all_if_asked_so() -> None:
    played = call(READ, BUSY, rate_limit_wait=0)
    assert isinstance(played.error, Bitrix24RateLimited)
    assert played.sleeps == []


def test_the_portals_own_delay_is_honoured_or_handed_on() -> None:
    asked = error_response("QUERY_LIMIT_EXCEEDED", status=503, retry_after="30")
    played = call(READ, asked, OK)
    assert played.waited >= 30
    played = call(READ, asked, rate_limit_wait=20)
    assert played.sleeps == []
    assert played.error.retry_after == 30


def test_troubles_and_busy_times_are_counted_apart() -> None:
    lost = Unknown("reset")
    assert call(READ, lost, BUSY, lost, BUSY, OK).value.result == 1


def test_too_much_working_time_knows_when_to_come_back() -> None:
    one = client()
    at = 1_763_800_000.0
    play(one.call(METHOD, effect=IDEMPOTENT), json_response({"result": 1, "time": {"operating_reset_at": at + 90}}))
    blocked = error_response("OPERATION_TIME_LIMIT", "Method is blocked", 429)
    error = play(one.call(METHOD, effect=IDEMPOTENT), blocked).error
    assert isinstance(error, Bitrix24RateLimited)
    assert error.retry_after == pytest.approx(90)
    assert error.resets_at == pendulum.from_timestamp(at + 90)
    assert "90 s" in str(error)
    other = play(one.call("crm.item.payment.get", effect=READ), blocked).error
    assert other.retry_after is None
    assert "some minutes" in str(other)
    late = json_response({"error": "OPERATION_TIME_LIMIT"}, 429, at=at + 100)
    assert play(one.call(METHOD, effect=IDEMPOTENT), late).error.retry_after is None


def test_working_time_is_counted_by_the_portals_clock() -> None:
    one = client()
    play(
        one.call(METHOD, effect=IDEMPOTENT), json_response({"result": 1, "time": {"operating_reset_at": "1763800090"}})
    )
    blocked = error_response("OPERATION_TIME_LIMIT", status=429, date="Sat, 22 Nov 2025 08:27:00 GMT")
    assert play(one.call(METHOD, effect=IDEMPOTENT), blocked).error.retry_after == pytest.approx(
        1763800090 - 1763800020
    )


# -- redirects, permissions, words --------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_a_redirect_names_the_new_host_and_what_to_do(status: int, effect: Effect) -> None:
    """Of a write it is not known whether it was executed before something on the way answered so."""
    moved = json_response(b"", status, location=f"https://new.bitrix24.com/rest/1/{SECRET}/x")
    error = call(effect, moved).error
    if effect is READ:
        assert type(error) is Bitrix24ConfigError
    else:
        assert isinstance(error, Bitrix24OutcomeUnknown)
        assert error.answered is False
        assert f"HTTP {status}" in str(error)
        assert "not executed" not in str(error)
    assert "new.bitrix24.com" in str(error)
    assert "portal_id to 'acme.bitrix24.com'" in str(error)
    assert SECRET not in str(error)


def test_other_redirects_are_explained() -> None:
    same = call(READ, json_response(b"", 302, location="http://acme.bitrix24.com/auth/")).error
    assert "schema (it points to http)" in str(same)
    for path in ("/login/", "login.php?backurl=/rest/", "?x=1"):
        relative = str(call(READ, json_response(b"", 302, location=path)).error)
        assert "redirect to another path on the same host" in relative
        assert "renamed" not in relative
        assert "login" not in relative.replace("login page", "")
    for spelling in ("http://ACME.bitrix24.com./", "http://acme.bitrix24.com:80/x"):
        assert "schema (it points to http)" in str(call(READ, json_response(b"", 302, location=spelling)).error)
    for nowhere in (json_response(b"", 302), json_response(b"", 302, location="http://[")):
        assert "an address it did not name" in str(call(READ, nowhere).error)


def test_a_missing_scope_is_named() -> None:
    one = client()
    for method, scope in (
        ("sale.paysystem.pay.invoice", "pay_system"),
        ("sale.payment.list", "sale"),
        ("salescenter.payment.getPublicUrl", "salescenter"),
        ("crm.invoice.get", "crm"),
    ):
        error = play(one.call(method, effect=READ), error_response("insufficient_scope")).error
        assert error.missing_scopes == (scope,)
        assert f"lacks the scope {scope}" in str(error)
    assert (
        play(one.call("im.notify", effect=IDEMPOTENT), error_response("insufficient_scope")).error.missing_scopes == ()
    )
    denied = play(one.call("crm.invoice.get", effect=READ), error_response("ACCESS_DENIED")).error
    assert denied.missing_scopes == ()
    assert "may lack the right" in str(denied)


def test_newer_error_objects_are_read() -> None:
    body = {"error": {"code": "BITRIX_REST_V3_EXCEPTION_ACCESSDENIED", "message": "no"}}
    error = call(READ, json_response(body, 400)).error
    assert (error.portal_code, error.description) == ("BITRIX_REST_V3_EXCEPTION_ACCESSDENIED", "no")


def test_a_portal_that_repeats_the_secret_is_not_quoted() -> None:
    error = call(READ, error_response("X", f"see /rest/1/{SECRET}/")).error
    assert error.description == "see /rest/1/***/"
    assert SECRET not in str(call(NON_IDEMPOTENT, Unknown(f"no {SECRET}")).error)
    assert SECRET not in str(call(NON_IDEMPOTENT, *[NotSent(f"no {SECRET}")] * 3).error)
    inside = json_response({"result": {"note": f"at {SECRET.upper()}!", "list": [SECRET, 7, None], SECRET: True}})
    assert call(READ, inside).value.result == {"note": "at ***!", "list": ["***", 7, None], "***": True}


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize(
    "answer",
    [
        error_response(f"No webhook {SECRET}", "x"),
        error_response(SECRET.upper()),
        error_response("x" * 90 + SECRET),
        json_response({"error": {"code": SECRET, "message": SECRET}}, 400),
        error_response("0", "x" * 490 + SECRET),
        error_response("0", "<b>" * 1330 + SECRET),
        error_response("0", f"&#{ord(SECRET[0])};{SECRET[1:]}"),
        json_response(b"", 302, location=f"https://{SECRET}.evil.com/rest/"),
        json_response(b"", 302, location=f"{SECRET}://acme.bitrix24.com/rest/"),
    ],
)
def test_no_part_of_the_secret_is_in_an_error(answer: Any, effect: Effect) -> None:
    error = call(effect, answer).error
    words = (str(error) + repr(error) + str(error.args)).lower()
    assert not [SECRET[i : i + 4] for i in range(len(SECRET) - 3) if SECRET[i : i + 4] in words]


def test_markup_and_lines_are_taken_out_of_the_portals_words() -> None:
    error = call(READ, error_response("X", "Zeile&nbsp;1<br />\n\n<b>2</b>")).error
    assert error.description == "Zeile 1 2"
    assert call(READ, error_response("X", "<" * 1_000_000)).error.description == "<" * 500
    assert call(READ, error_response("X", "a < b<br>")).error.description == "a < b"
    assert call(READ, json_response({"error": "X", "error_description": ["no", "text"]}, 400)).error.description == ""


# -- what is sent -------------------------------------------------------------------------------------------------


def test_a_request_holds_what_a_driver_needs_and_hides_the_secret() -> None:
    params = {
        "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "day": datetime.date(2026, 1, 2),
        "sum": Decimal("1E+2"),
        "list": (1, None, True),
        "nested": {">id": 5, 7: 1.5},
    }
    flow = client().call(METHOD, params, effect=NON_IDEMPOTENT, headers=keyed("key-1"))
    request = play(flow, OK).requests[0]
    assert request.url == f"https://acme.bitrix24.com/rest/1/{SECRET}/{METHOD}"
    assert request.headers["Idempotency-Key"] == "key-1"
    assert (request.connect_timeout, request.read_timeout, request.max_bytes) == (10, 75, 64 * 1024 * 1024)
    assert request.body == (
        b'{"when":"2026-01-02T00:00:00+00:00","day":"2026-01-02","sum":"100","list":[1,null,true],'
        b'"nested":{">id":5,"7":1.5}}'
    )
    assert SECRET not in repr(request)
    assert keyed(None) == {}


@pytest.mark.parametrize("value", [object(), float("nan"), Decimal("NaN"), b"x", {"a": [object()]}, 2**63, [10**5000]])
def test_what_is_no_json_is_refused_before_sending(value: Any) -> None:
    error = (
        call(NON_IDEMPOTENT).error
        if value is None
        else play(client().call(METHOD, {"x": value}, effect=NON_IDEMPOTENT)).error
    )
    assert type(error) is Bitrix24ConfigError
    assert "params[x]" in str(error)


@pytest.mark.parametrize("method", ["", "../x", "crm item", "crm.", "crm/x", "profile?x=1", ".get"])
def test_a_method_cannot_be_anything(method: str) -> None:
    assert type(play(client().call(method, effect=READ)).error) is Bitrix24ConfigError


@pytest.mark.parametrize("key", ["", "ключ", "a\nb", "x" * 256])
def test_a_key_must_fit_into_a_header(key: str) -> None:
    assert "Idempotency-Key" in str(play(client().call(METHOD, effect=IDEMPOTENT, headers=keyed(key))).error)


# -- the envelope -------------------------------------------------------------------------------------------------


def opened(response: Response) -> Any:
    return open_envelope(response, lambda text: text)


@pytest.mark.parametrize(
    ("body", "headers", "at"),
    [
        ({"time": {"finish": 1763800000, "processing": 0}}, {}, 1763800000),
        ({"time": {"finish": 1763800000.25}}, {"date": "Sat, 22 Nov 2025 08:26:41 GMT"}, 1763800000.25),
        ({"time": {"finish": "1763800000"}}, {}, 1763800000),
        ({"time": {}}, {"date": "Sat, 22 Nov 2025 08:26:41 GMT"}, None),
        ({"time": []}, {}, None),
        ({}, {"date": "yesterday"}, None),
        ({"time": {"finish": "soon"}}, {}, None),
        ({"time": {"finish": True}}, {}, None),
        ({"time": {"finish": 1e300}}, {}, None),
    ],
)
def test_the_portals_clock(body: dict[str, Any], headers: dict[str, str], at: float | None) -> None:
    reply = opened(json_response({"result": 1, **body}, **headers))
    assert (reply.at.timestamp() if reply.at else None) == (pytest.approx(at) if at else None)


def test_totals_come_as_numbers_or_text_or_not_at_all() -> None:
    assert opened(json_response({"result": [], "total": 3, "next": "50"})) == Reply([], 3, 50)
    assert opened(json_response({"result": [], "total": True, "next": "x"})) == Reply([], None, None)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text()
    | st.decimals(allow_nan=False, allow_infinity=False, places=3),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_any_json_comes_through_exactly(value: Any) -> None:
    def text(part: Any) -> str:
        if isinstance(part, Decimal):
            return f"{part:f}"
        if isinstance(part, list):
            return f"[{','.join(map(text, part))}]"
        if isinstance(part, dict):
            return "{" + ",".join(f"{text(key)}:{text(inner)}" for key, inner in part.items()) + "}"
        return json.dumps(part)

    reply = opened(json_response(f'{{"result": {text(value)}}}'.encode()))
    assert isinstance(reply, Reply)
    assert reply.result == value


@given(st.binary() | json_values.map(lambda value: json.dumps(value, default=str).encode()))
def test_any_body_is_read_without_failing(body: bytes) -> None:
    for status in (200, 302, 404, 503):
        assert isinstance(opened(json_response(body, status)), Reply | ErrorReply | Redirect | UnusableReply)


@given(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.lists(st.integers())
    | st.dictionaries(st.text(), st.text()),
    st.none() | st.integers() | st.text(),
    st.sampled_from([200, 400, 401, 403, 404, 429, 500, 503]),
    st.sampled_from(WRITES),
)
def test_no_error_ever_makes_a_write_go_out_twice(code: Any, text: Any, status: int, effect: Effect) -> None:
    flow = client().call(METHOD, effect=effect)
    played = Play(flow, [json_response({"error": code, "error_description": text}, status)] * 2)
    assert len(played.requests) == 1
    assert isinstance(played.error, exceptions.Bitrix24Error)
    assert SECRET not in "".join(traceback.format_exception(played.error))


def test_a_caller_tries_as_often_as_told() -> None:
    once = ApiClient(portal(), tries=1)
    assert isinstance(play(once.call(METHOD, effect=READ), Unknown("x")).error, Bitrix24NoAnswer)


@pytest.mark.parametrize("status", [200, 401, 403, 404, 405])
@pytest.mark.parametrize("page", [b"<!DOCTYPE html><title>x</title>", b"\xef\xbb\xbf\n <html>login</html>"])
def test_a_web_page_asks_whether_this_is_the_portal(status: int, page: bytes) -> None:
    said = str(call(READ, *[json_response(page, status)] * 3).error)
    assert f"HTTP {status} with an HTML page: is https://acme.bitrix24.com the address of the portal?" in said
    assert "a login page" in said


def test_a_page_of_a_portal_in_trouble_says_no_more_than_that() -> None:
    assert "the address of the portal" not in str(call(READ, *[json_response(b"<html>", 502)] * 3).error)


def test_a_connection_that_fails_names_where_it_goes() -> None:
    made = Settings.from_connection_values(host="acme.bitrix24.com", port=8443, login="1", password=SECRET)
    client = ApiClient(made.model_copy(update={"conn_id": "finance"}), tries=1)
    told = {
        NotSent("connection refused"): "Nothing was sent by this call (crm.deal.get).",
        NotSent("the host name cannot be resolved"): "Nothing was sent by this call (crm.deal.get).",
        NotSent("TLS: self-signed certificate", tls="certificate"): "extra ca_bundle",
        NotSent("TLS could not be agreed", tls="handshake"): "Check schema and port",
    }
    for outcome, words in told.items():
        obstacle = outcome.reason
        error = play(client.call("crm.deal.get", {}, effect=READ), outcome).error
        assert str(error).startswith(
            f"Cannot connect to https://acme.bitrix24.com:8443 (connection 'finance'): {obstacle}. Nothing was sent"
        )
        assert words in str(error)
        assert error.reason == f"cannot connect to https://acme.bitrix24.com:8443 (connection 'finance'): {obstacle}"


@pytest.mark.parametrize(("paced", "what"), [(False, "a request"), (True, "a reservation")])
def test_a_driver_that_does_not_answer_is_told(paced: bool, what: str) -> None:
    flow = ApiClient(portal(), paced=paced).call("profile", effect=READ)
    flow.send(None)
    with pytest.raises(TypeError, match=f"has not answered {what}"):
        flow.send(None)
