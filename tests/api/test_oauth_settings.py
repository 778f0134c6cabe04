"""OAuth connections as people write them: what each way means, and which field is named when it means nothing."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

SECRET = "cl13nts3cr3tc4n4ry"
REFRESH = "r3fr3sht0k3nc4n4ry"
ACCESS = "4cc3sst0k3nc4n4ry"
KEY = "4k3ythatisl0ngen0ugh"
FIELDS: dict[str, Any] = {
    "host": "acme.bitrix24.com",
    "login": "local.5c8bb1b0917420.10000000",
    "password": SECRET,
    "extra": {"auth": "oauth", "refresh_token": REFRESH, "access_token": ACCESS, "token_key": KEY},
}


def settings(**values: Any) -> Settings:
    extra = {**FIELDS["extra"], **values.pop("extra", {})}
    return Settings.from_connection_values(**{**FIELDS, **values, "extra": extra})


def test_an_application() -> None:
    made = settings()
    auth = made.application
    assert auth is not None
    assert made.url("profile") == "https://acme.bitrix24.com/rest/profile"
    assert auth.oauth_url == "https://oauth.bitrix.info"
    assert (auth.refreshed_by, auth.token_conn_id) == ("tasks", None)
    assert set(made.secrets) == {SECRET, REFRESH, ACCESS, KEY}


def test_only_what_is_needed() -> None:
    made = Settings.from_connection_values(**{**FIELDS, "extra": {"auth": " OAuth ", "refreshed_by": ""}})
    assert made.application is not None
    assert made.secrets == (SECRET,)


def test_a_webhook_is_no_application() -> None:
    made = Settings.from_connection_values(host="acme.bitrix24.com", login="1", password=SECRET)
    assert made.application is None


def test_no_secret_shows_and_new_ones_are_learned() -> None:
    made = settings()
    auth = made.application
    assert auth is not None
    auth.learn(["n3wt0k3nc4n4ry", "n3wt0k3nc4n4ry", SECRET])
    for text in (repr(made), str(made), made.model_dump_json(), repr(auth)):
        assert not [secret for secret in made.secrets if secret in text]
    assert (
        made.redact(f"a {ACCESS.upper()} b {REFRESH} c n3wt0k3nc4n4ry d {SECRET}{KEY}") == "a *** b *** c *** d ******"
    )
    copy = made.model_copy(update={"read_timeout": 1.0})
    auth.learn(["an0th3rt0k3n"])
    assert copy.redact("an0th3rt0k3n") == "***"


@pytest.mark.parametrize(
    ("oauth_url", "origin"),
    [
        ("oauth.example.com", "https://oauth.example.com"),
        ("https://OAuth.example.com/", "https://oauth.example.com"),
        ("https://oauth.example.com:8443", "https://oauth.example.com:8443"),
        ("https://oauth.example.com:443", "https://oauth.example.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_where_tokens_come_from(oauth_url: str, origin: str) -> None:
    made = settings(extra={"oauth_url": oauth_url})
    assert made.application is not None
    assert made.application.oauth_url == origin
    there = made.at(made.application.oauth_url)
    assert (there.origin, there.secrets) == (origin, made.secrets)


def test_http_where_it_is_allowed() -> None:
    made = settings(extra={"oauth_url": "http://oauth.example.com", "allow_http": "true"})
    assert made.application is not None
    assert made.application.oauth_url == "http://oauth.example.com"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"host": f"https://acme.bitrix24.com/rest/1/{SECRET}/"}, "host holds a webhook's address, but auth is oauth"),
        ({"login": ""}, "login is empty"),
        ({"login": "two words"}, "login must be the client id"),
        ({"password": None}, "password is empty"),
        ({"password": f"{SECRET}/x"}, "password must be the client secret"),
        ({"extra": {"refresh_token": f"{REFRESH} x"}}, "refresh_token must be the token alone"),
        ({"extra": {"access_token": "short"}}, "access_token must be the token alone"),
        ({"extra": {"refresh_token": ""}}, "access_token lives for an hour"),
        ({"extra": {"token_key": "short"}}, "token_key must have at least 16"),
        ({"extra": {"refreshed_by": "me"}}, "refreshed_by must be tasks or operator"),
        ({"extra": {"oauth_url": "http://oauth.example.com"}}, "oauth_url: plain http"),
        (
            {"extra": {"oauth_url": f"https://oauth.example.com/rest/1/{SECRET}/"}},
            "oauth_url must be an address without",
        ),
        ({"extra": {"oauth_url": f"https://oauth.example.com/{SECRET}"}}, "oauth_url holds a path"),
        ({"extra": {"oauth_url": f"https://x:{SECRET}@oauth.example.com"}}, "oauth_url holds a user or password"),
        ({"extra": {"oauth_url": "two words"}}, "oauth_url holds a blank"),
        ({"extra": {"auth": "webhook"}}, "refresh_token is for an OAuth application: set auth to oauth"),
        ({"extra": {"auth": ""}}, "refresh_token is for an OAuth application: set auth to oauth"),
    ],
)
def test_what_is_wrong_is_named_without_the_secret(values: dict[str, Any], words: str) -> None:
    with pytest.raises(Bitrix24ConfigError) as caught:
        settings(**values)
    assert words in str(caught.value)
    assert not [
        secret for secret in (SECRET, REFRESH, ACCESS, KEY) if secret in f"{caught.value}{caught.value.__context__}"
    ]


@pytest.mark.parametrize(
    ("host", "extra", "trusted"),
    [
        ("b24.example.com", {"ca_bundle": "/own.pem"}, None),
        ("b24.example.com", {"ca_bundle": "/own.pem", "oauth_ca_bundle": "/other.pem"}, "/other.pem"),
        ("b24.example.com", {"ca_bundle": "/own.pem", "oauth_url": "https://B24.example.com:8443"}, "/own.pem"),
        ("b24.example.com", {"ca_bundle": "/own.pem", "oauth_url": "https://auth.example.com"}, None),
        ("b24.example.com", {"oauth_ca_bundle": "/other.pem"}, "/other.pem"),
        ("b24.example.com", {}, None),
    ],
)
def test_what_is_trusted_of_the_portal_is_not_trusted_of_its_token_endpoint(
    host: str, extra: dict[str, str], trusted: str | None
) -> None:
    made = Settings.from_connection_values(
        host=host, login="local.1", password="cl13nts3cr3t", extra={"auth": "oauth", **extra}
    )
    assert made.application is not None
    assert made.at(made.application.oauth_url).ca_bundle == trusted
    assert made.ca_bundle == extra.get("ca_bundle")
