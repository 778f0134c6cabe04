"""The two flows of this chapter, step by step over scripted outcomes: a refresh, and a flow that needs one."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_bitrix24.api import tokens as protocol
from airflow_provider_bitrix24.api.authorised import Authorised
from airflow_provider_bitrix24.api.client import ApiClient
from airflow_provider_bitrix24.api.io import Effect, NotSent, Request, Sleep, Unknown
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.api.tokens import Tokens
from airflow_provider_bitrix24.exceptions import (
    Bitrix24AuthError,
    Bitrix24ConfigError,
    Bitrix24NotSent,
    Bitrix24PermissionError,
    Bitrix24SignInNeeded,
    Bitrix24TokenError,
)
from tests.api.scripted import Play, endless, error_response, json_response, play

NOW = 1_763_800_000.0
SECRET, REFRESH, ACCESS = "cl13nts3cr3tc4n4ry", "r3fr3sht0k3nc4n4ry", "4cc3sst0k3nc4n4ry"
PAIR = {"access_token": "n3w4cc3sst0k3n", "refresh_token": "n3wr3fr3sht0k3n", "expires_in": 3600}


def settings(**extra: Any) -> Settings:
    extra = {"auth": "oauth", "refresh_token": REFRESH, "access_token": ACCESS, **extra}
    return Settings.from_connection_values(
        host="acme.bitrix24.com", login="local.1", password=SECRET, extra={k: v for k, v in extra.items() if v}
    )


def refreshing(**extra: Any) -> Any:
    made = settings(**extra)
    assert made.application is not None
    return protocol.refresh(made, made.application, REFRESH)


def query(request: Request) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.url).query)


# -- a refresh ----------------------------------------------------------------------------------------------------


def test_what_is_asked_and_what_comes_of_it() -> None:
    played = play(refreshing(), json_response({**PAIR, "client_endpoint": "https://ACME.bitrix24.com/rest/"}, at=NOW))
    (request,) = played.requests
    assert request.url.startswith("https://oauth.bitrix.info/oauth/token/?")
    assert query(request) == {
        "grant_type": ["refresh_token"],
        "refresh_token": [REFRESH],
        "client_id": ["local.1"],
        "client_secret": [SECRET],
    }
    assert (request.verb, request.body) == ("GET", b"")
    assert SECRET not in repr(request)
    assert played.value.tokens == Tokens("n3w4cc3sst0k3n", "n3wr3fr3sht0k3n", NOW, NOW + 3600)
    assert played.value.portal == "acme.bitrix24.com"
    assert "t0k3n" not in repr(played.value)


def test_a_code_is_changed_for_the_first_pair() -> None:
    made = settings()
    assert made.application is not None
    played = play(protocol.exchange(made, made.application, "c0d3"), json_response(PAIR, at=NOW))
    assert query(played.requests[0])["code"] == ["c0d3"]
    assert query(played.requests[0])["grant_type"] == ["authorization_code"]
    assert played.value.portal is None


def test_where_a_person_consents() -> None:
    made = settings()
    assert made.application is not None
    address = protocol.consent_url(made, made.application, "s t")
    assert address == "https://acme.bitrix24.com/oauth/authorize/?client_id=local.1&state=s+t"


@pytest.mark.parametrize(
    ("life", "seconds"),
    [
        (60, 60),
        ("60", 60),
        (None, 3600),
        (0, 3600),
        (-5, 3600),
        (True, 3600),
        ("soon", 3600),
        (10**12, 3600),
        (1.5, 3600),
    ],
)
def test_how_long_an_access_token_lives(life: Any, seconds: float) -> None:
    played = play(refreshing(), json_response({**PAIR, "expires_in": life}, at=NOW))
    assert played.value.tokens.expires_at == NOW + seconds


@pytest.mark.parametrize("endpoint", [None, 7, "", "https://[::1/rest/", "rest"])
def test_an_endpoint_that_names_no_host(endpoint: Any) -> None:
    assert play(refreshing(), json_response({**PAIR, "client_endpoint": endpoint})).value.portal is None


@pytest.mark.parametrize(
    "nothing",
    [
        NotSent("connection refused"),
        Unknown("reset"),
        json_response(b"<html>", 502),
        json_response(b"[]"),
        json_response(b"[" * 100_000),
        json_response({"result": True}),
        json_response({**PAIR, "access_token": "two words"}),
        json_response({**PAIR, "refresh_token": None}),
        error_response("INTERNAL_SERVER_ERROR", status=500),
        error_response("invalid_request", status=500),
        error_response("QUERY_LIMIT_EXCEEDED", status=503),
    ],
)
def test_no_tokens_are_asked_for_again_and_given_up(nothing: Any) -> None:
    assert play(refreshing(), nothing, json_response(PAIR)).value.tokens.access_token == PAIR["access_token"]
    played = endless(refreshing(), nothing)
    assert len(played.requests) == 3
    assert isinstance(played.error, Bitrix24TokenError)
    assert not played.error.final
    assert "oauth.bitrix.info" in str(played.error)
    assert "Nothing else was sent" in str(played.error)


def test_a_dead_refresh_token() -> None:
    played = play(refreshing(), error_response("invalid_grant", "dead", 400))
    assert isinstance(played.error, Bitrix24SignInNeeded)
    assert played.error.final
    assert played.error.advice == ""


def test_a_lost_answer_is_remembered() -> None:
    played = play(refreshing(), Unknown("reset"), error_response("INVALID_GRANT", "dead", 401))
    assert isinstance(played.error, Bitrix24SignInNeeded)
    assert "The response to a refresh was lost a moment before (reset)" in played.error.advice


@pytest.mark.parametrize(
    ("code", "status"), [("invalid_client", 401), ("WRONG_CLIENT", 200), ("PAYMENT_REQUIRED", 403)]
)
def test_a_client_that_is_not_accepted(code: str, status: int) -> None:
    played = play(refreshing(), error_response(code, f"no {SECRET} {REFRESH}", status))
    assert isinstance(played.error, Bitrix24AuthError)
    assert not isinstance(played.error, Bitrix24SignInNeeded)
    assert "no *** ***" in str(played.error)


def test_a_refusal_for_good_that_is_not_about_the_client_is_told_as_it_is() -> None:
    played = play(refreshing(), error_response("ACCESS_DENIED", f"no {SECRET}", 403))
    assert isinstance(played.error, Bitrix24PermissionError)
    assert "no ***" in str(played.error)


def test_a_code_in_an_error_is_starred_out() -> None:
    made = settings()
    assert made.application is not None
    played = play(
        protocol.exchange(made, made.application, "c0d3c4n4ry"), error_response("invalid_client", "c0d3c4n4ry", 401)
    )
    assert "c0d3c4n4ry" not in str(played.error)


def test_a_redirect_is_not_followed() -> None:
    played = play(refreshing(), json_response({}, 302, location="https://evil.example.com/"))
    assert isinstance(played.error, Bitrix24ConfigError)
    assert "oauth_url" in str(played.error)


# -- a pair as it is stored ---------------------------------------------------------------------------------------


def test_a_pair_is_stored_and_read() -> None:
    pair = Tokens(ACCESS, REFRESH, NOW, NOW + 60)
    assert Tokens.from_json(pair.as_json()) == pair
    assert pair.refresh_until == NOW + 180 * 86400
    assert Tokens(None, REFRESH).refresh_until is None
    assert pair.mark != Tokens(ACCESS, "another t0k3n").mark
    assert REFRESH not in pair.mark


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"x": 1}', json.dumps({"access_token": "x", "refresh_token": REFRESH})]
)
def test_something_else_is_no_pair(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(no pair|Expecting)"):
        Tokens.from_json(text)


def test_the_first_pair() -> None:
    for extra, first in (
        ({}, Tokens(ACCESS, REFRESH)),
        ({"access_token": None}, Tokens(None, REFRESH)),
        ({"access_token": None, "refresh_token": None}, None),
    ):
        made = settings(**extra)
        assert made.application is not None
        assert Tokens.first_of(made.application) == first


# -- a flow that needs tokens -------------------------------------------------------------------------------------

EXPIRED = error_response("expired_token", "The access token provided has expired.", 401)


def stretch(trip: Authorised[Any], token: str | None, *outcomes: Any, **options: Any) -> Play:
    return play(trip.stretch(token, **options), *outcomes)


def bearer(request: Request) -> str:
    return request.headers["Authorization"]


@pytest.mark.parametrize("effect", list(Effect))
def test_the_same_request_goes_out_again(effect: Effect) -> None:
    trip = Authorised(ApiClient(settings()).call("crm.deal.add", {"x": "1"}, effect=effect))
    first = stretch(trip, "old", EXPIRED)
    assert (first.value, trip.method) == (False, "crm.deal.add")
    second = stretch(trip, "new", json_response({"result": 7}))
    assert (second.value, trip.value.result) == (True, 7)
    assert [bearer(played.requests[0]) for played in (first, second)] == ["Bearer old", "Bearer new"]
    assert first.requests[0].body == second.requests[0].body
    assert "old" not in repr(first.requests[0])


def test_without_a_token_nothing_is_sent() -> None:
    trip = Authorised(ApiClient(settings()).call("profile", effect=Effect.READ))
    assert trip.method == ""
    assert stretch(trip, None).value is False
    assert stretch(trip, "new", json_response({"result": 1})).value is True


def test_waits_and_several_requests_in_one_stretch() -> None:
    trip = Authorised(ApiClient(settings()).call("profile", effect=Effect.READ))
    played = stretch(trip, "one", Unknown("reset"), json_response({"result": 1}))
    assert [type(sleep) for sleep in played.sleeps] == [Sleep]
    assert [bearer(request) for request in played.requests] == ["Bearer one", "Bearer one"]


def test_a_token_made_for_it_is_the_last_word() -> None:
    trip = Authorised(ApiClient(settings()).call("profile", effect=Effect.READ))
    stretch(trip, "old", EXPIRED)
    played = stretch(trip, "new", EXPIRED, last=True)
    assert isinstance(played.error, Bitrix24AuthError)
    assert "expired_token" in str(played.error)


def test_but_only_for_the_request_that_waited() -> None:
    def two() -> Any:
        client = ApiClient(settings())
        yield from client.call("profile", effect=Effect.READ)
        return (yield from client.call("scope", effect=Effect.READ)).result

    trip = Authorised(two())
    stretch(trip, "old", EXPIRED)
    assert stretch(trip, "new", json_response({"result": 1}), EXPIRED, last=True).value is False
    assert trip.method == "scope"
    assert stretch(trip, "newer", json_response({"result": 2})).value is True
    assert trip.value == 2


def test_no_token_to_be_had_is_an_error_in_the_flow() -> None:
    def catching() -> Any:
        try:
            yield from ApiClient(settings()).call("profile", effect=Effect.READ)
        except Bitrix24NotSent as error:
            return str(error)

    trip = Authorised(catching())
    stretch(trip, "old", EXPIRED)
    assert stretch(trip, None, error=Bitrix24NotSent("profile", "no access token")).value is True
    assert "no access token" in trip.value


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (json_response({"result": "expired_token"}), type(None)),
        (error_response("invalid_token", "expired_token", 401), Bitrix24AuthError),
        (error_response("NO_AUTH_FOUND", "Wrong authorization data", 401), Bitrix24AuthError),
    ],
)
def test_what_only_looks_like_it(outcome: Any, error: type) -> None:
    trip = Authorised(ApiClient(settings()).call("profile", effect=Effect.READ))
    played = stretch(trip, "token", outcome)
    assert (type(played.error), played.value) == (error, True if error is type(None) else None)
