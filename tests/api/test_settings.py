"""Connections as people write them: what each way means, and which field is named when it means nothing."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from tests.e2e.security.needles import Needles

SECRET = "c4n4rys3cr3tc0de"
FIELDS: dict[str, Any] = {"host": "acme.bitrix24.com", "login": "1", "password": SECRET}


def settings(**values: Any) -> Settings:
    return Settings.from_connection_values(**values)


@pytest.mark.parametrize(
    "values",
    [
        FIELDS,
        {**FIELDS, "login": 1, "port": 0, "schema": "", "extra": {}},
        {**FIELDS, "host": " ACME.Bitrix24.com. ", "port": "", "schema": "https", "password": f" {SECRET}\n"},
        {**FIELDS, "host": "https://acme.bitrix24.com/", "port": 443},
        {**FIELDS, "host": "https://acme.bitrix24.com/rest/"},
        {**FIELDS, "host": "acme.bitrix24.com:443", "port": "0"},
        {"host": f"https://acme.bitrix24.com/rest/1/{SECRET}/"},
        {"host": f"https://acme.bitrix24.com/rest/1/{SECRET}/profile.json", "login": "", "password": ""},
        {"host": f"acme.bitrix24.com/rest/1/{SECRET}"},
        {"host": f"https://acme.bitrix24.com/rest/1/{SECRET}/", "login": "1", "password": SECRET},
        {"host": "acme.bitrix24.com", "schema": f"rest/1/{SECRET}/", "conn_type": "https"},
        {"host": "acme.bitrix24.com", "schema": f"rest/1/{SECRET}/profile.json", "conn_type": "https"},
        {"host": "https://acme.bitrix24.com", "schema": f"rest/1/{SECRET}/", "conn_type": "bitrix24"},
        {"host": f"https://acme.bitrix24.com/rest/api/1/{SECRET}/"},
        {"host": f"acme.bitrix24.com/REST/API/1/{SECRET}/profile"},
        {"host": "acme.bitrix24.com", "schema": f"rest/api/1/{SECRET}/", "conn_type": "https"},
        {**FIELDS, "host": "https://acme.bitrix24.com/rest/api/"},
        {**FIELDS, "host": "acme.bitrix24.com:443", "port": 443},
    ],
)
def test_every_written_form_means_the_same(values: dict[str, Any]) -> None:
    made = settings(**values)
    assert made.url("profile") == f"https://acme.bitrix24.com/rest/1/{SECRET}/profile"
    assert (made.portal, made.origin, made.secrets) == ("acme.bitrix24.com", "https://acme.bitrix24.com", (SECRET,))


def test_the_secret_does_not_show() -> None:
    made = settings(**FIELDS)
    for text in (repr(made), str(made), made.model_dump_json(), repr(made.auth)):
        assert SECRET not in text
    assert made.redact(f"a {SECRET} b {SECRET.upper()}") == "a *** b ***"


@pytest.mark.parametrize(
    ("values", "origin"),
    [
        ({"host": "127.0.0.1", "port": 8080, "schema": "http"}, "http://127.0.0.1:8080"),
        ({"host": "http://127.0.0.1:8080"}, "http://127.0.0.1:8080"),
        ({"host": "localhost", "port": "80", "schema": "http", "conn_type": "Bitrix24"}, "http://localhost"),
        ({"host": "portal.localhost", "schema": "HTTP"}, "http://portal.localhost"),
        ({"host": "::1", "port": 80, "schema": "http"}, "http://[::1]"),
        ({"host": "[::1]:81", "schema": "http"}, "http://[::1]:81"),
        ({"host": "b24.example.com", "port": 8443}, "https://b24.example.com:8443"),
        ({"host": "b24.example.com:8443", "port": 0}, "https://b24.example.com:8443"),
        ({"host": "b24.example.com", "schema": "http", "extra": {"allow_http": "true"}}, "http://b24.example.com"),
        ({"host": "портал.рф"}, "https://xn--80awhdgm.xn--p1ai"),
        ({"host": "ÉCOLE.fr"}, "https://xn--cole-9oa.fr"),
        ({"host": "e\u0301cole.fr"}, "https://xn--cole-9oa.fr"),
        ({"host": "b24.example.com:8443", "port": 8443}, "https://b24.example.com:8443"),
    ],
)
def test_hosts_ports_and_schemes(values: dict[str, Any], origin: str) -> None:
    made = settings(**{**FIELDS, **values})
    assert made.origin == origin
    assert made.portal == made.origin.partition("://")[2]


def test_portal_id_names_the_portal() -> None:
    assert settings(**FIELDS, extra={"portal_id": " old.bitrix24.com "}).portal == "old.bitrix24.com"
    assert settings(**FIELDS, extra={"portal_id": ""}).portal == "acme.bitrix24.com"


@pytest.mark.parametrize(
    "written",
    [
        "old.bitrix24.com",
        "OLD.Bitrix24.COM",
        " old.bitrix24.com. ",
        "old.bitrix24.com:443",
        "\uff2f\uff2c\uff24.bitrix24.com",
    ],
)
def test_a_portal_has_one_name_however_it_is_written(written: str) -> None:
    assert settings(**FIELDS, extra={"portal_id": written}).portal == "old.bitrix24.com"


def test_a_portal_id_names_what_the_host_would() -> None:
    for host in ("портал.рф", "b24.example.com:8443", "ÉCOLE.fr", "::1"):
        named = settings(**{**FIELDS, "host": "new.bitrix24.com"}, extra={"portal_id": host})
        assert named.portal == settings(**{**FIELDS, "host": host}).portal.strip("[]")


def test_an_address_has_one_spelling() -> None:
    made = settings(**{**FIELDS, "host": "[0:0:0:0:0:0:0:1]", "port": 8080, "schema": "http"})
    assert made.portal == "[::1]:8080"


def test_defaults() -> None:
    made = settings(**FIELDS)
    assert (made.connect_timeout, made.read_timeout, made.rate_limit_wait) == (10, 75, 120)
    assert (made.send_deadline, made.network_delay, made.server_time_limit, made.read_lag) == (5, 10, 120, 10)
    assert made.settle_window == 155
    assert (made.ca_bundle, made.allow_http, made.max_response_bytes) == (None, False, 64 * 1024 * 1024)


@pytest.mark.parametrize("empty", [None, "", " "])
def test_empty_extras_are_not_given(empty: Any) -> None:
    names = [
        "read_timeout",
        "send_deadline",
        "read_lag",
        "allow_http",
        "ca_bundle",
        "max_response_bytes",
        "portal_id",
        "auth",
    ]
    assert settings(**FIELDS, extra=dict.fromkeys(names, empty)) == settings(**FIELDS)


def test_extras_as_text_and_as_json() -> None:
    text = {
        "read_timeout": "60",
        "read_lag": "0",
        "allow_http": "false",
        "max_response_bytes": "1000",
        "auth": "webhook",
    }
    json = {"read_timeout": 60, "read_lag": 0, "allow_http": False, "max_response_bytes": 1000}
    made = settings(**FIELDS, extra=text)
    assert made == settings(**FIELDS, extra=json)
    assert (made.read_timeout, made.read_lag, made.allow_http, made.max_response_bytes) == (60, 0, False, 1000)


def test_a_zero_of_an_untouched_number_field_is_not_given() -> None:
    zeros = {"read_timeout": 0, "connect_timeout": "0", "send_deadline": 0.0, "max_response_bytes": 0}
    assert settings(**FIELDS, extra=zeros) == settings(**FIELDS)


@pytest.mark.parametrize("value", ["true", "True", "1", "yes", "on", True, 1])
def test_what_is_true(value: Any) -> None:
    assert settings(**FIELDS, extra={"allow_http": value}).allow_http is True


@pytest.mark.parametrize("value", ["false", "False", "0", "no", "off", False, 0])
def test_what_is_false(value: Any) -> None:
    assert settings(**FIELDS, extra={"allow_http": value}).allow_http is False


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"host": None}, "host"),
        ({"host": "  "}, "host"),
        ({"host": "acme bitrix24"}, "host"),
        ({"host": "https://"}, "host"),
        ({"host": "https://acme:99999/"}, "host"),
        ({"host": "https://[::1/"}, "host"),
        ({"host": "a" * 70 + "é"}, "host"),
        ({"host": "a" * 70 + ".com"}, "host"),
        ({"host": "acme..bitrix24.com"}, "host"),
        ({"host": "127.1"}, "host"),
        ({"host": "acme.com\nevil.com"}, "host holds a blank or a control character"),
        ({"host": "ac\tme.com"}, "host holds a blank or a control character"),
        ({"host": "acme.com evil.com"}, "host holds a blank or a control character"),
        ({"host": "acme\u200d.com"}, "host holds a blank or a control character"),
        ({"host": "straße.de"}, "xn--"),
        ({"host": "λόγος.gr"}, "xn--"),
        ({"host": "\uff41cme.com"}, "xn--"),
        ({"host": "acme。com"}, "xn--"),
        ({"host": "acme.com:8443", "port": 443}, "port and the host say different things"),
        ({"host": "acme.com:443", "port": 8443}, "port and the host say different things"),
        ({"host": f"https://acme.bitrix24.com/rest/api/{SECRET}/"}, "host"),
        ({"host": f"https://acme.bitrix24.com/rest/API/{SECRET}"}, "host"),
        ({"host": f"https://1:{SECRET}@acme.bitrix24.com"}, "host"),
        ({"host": f"https://acme.bitrix24.com/oauth/{SECRET}"}, "host"),
        ({"host": "ftp://acme.bitrix24.com"}, "schema"),
        ({"schema": f"wrong/{SECRET}"}, "schema"),
        ({"schema": "http"}, "schema"),
        ({"host": "http://acme.bitrix24.com"}, "schema"),
        ({"login": ""}, "login"),
        ({"login": "1/2"}, "login"),
        ({"login": "api"}, "login"),
        ({"login": ".."}, "login"),
        ({"password": ".."}, "password"),
        ({"password": None}, "password"),
        ({"password": f"https://acme.bitrix24.com/rest/1/{SECRET}/"}, "password"),
        ({"host": f"https://acme.bitrix24.com/rest/1/{SECRET}/", "login": "7"}, "login"),
        ({"host": f"https://acme.bitrix24.com/rest/1/{SECRET}/", "password": "another"}, "password"),
        ({"port": "https"}, "port"),
        ({"port": 65536}, "port"),
        ({"port": -1}, "port"),
        ({"extra": {"read_timout": 5}}, "did you mean read_timeout"),
        ({"extra": {"owner": "finance"}}, "'owner' is not known; known are"),
        ({"extra": {SECRET: "1"}}, "a name that is not shown is not known; known are"),
        ({"extra": {f"https://acme.bitrix24.com/rest/1/{SECRET}/": ""}}, "a name that is not shown is not known"),
        ({"extra": {"portal_id": f"https://acme.bitrix24.com/rest/1/{SECRET}/"}}, "portal_id"),
        ({"extra": {"portal_id": "two words"}}, "portal_id"),
        ({"extra": {"portal_id": "a" * 256}}, "portal_id"),
        ({"extra": {"read_timeout": "soon"}}, "read_timeout"),
        ({"extra": {"read_timeout": True}}, "read_timeout"),
        ({"extra": {"read_timeout": -1}}, "read_timeout"),
        ({"extra": {"read_timeout": "nan"}}, "read_timeout"),
        ({"extra": {"send_deadline": "inf"}}, "send_deadline"),
        ({"extra": {"allow_http": "maybe"}}, "allow_http"),
        ({"extra": {"max_response_bytes": "1.5"}}, "max_response_bytes"),
        ({"extra": {"max_response_bytes": True}}, "max_response_bytes"),
        ({"extra": {"portal_id": ["x"]}}, "portal_id"),
        ({"extra": {"ca_bundle": 5}}, "ca_bundle"),
        ({"extra": {"auth": "basic"}}, "auth must be webhook or oauth"),
    ],
)
def test_what_is_wrong_is_named_without_the_secret(values: dict[str, Any], field: str) -> None:
    with pytest.raises(Bitrix24ConfigError) as caught:
        settings(**{**FIELDS, **values})
    assert field in str(caught.value)
    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.value.__context__)


@pytest.mark.parametrize(
    ("method", "extra"),
    [
        ("crm.lead.add.json", {"FIELDS[TITLE]": "x"}),
        ("crm.deal.get", {"id": "5"}),
        ("crm.deal.list.xml", {"filter[STAGE_ID]": "WON", "select[]": "ID"}),
        ("", {"auth_token": "x"}),
    ],
)
def test_a_copied_call_is_told_what_to_leave_out(method: str, extra: dict[str, str]) -> None:
    with pytest.raises(
        Bitrix24ConfigError, match=r"leave out the name of the method, the \? and what follows"
    ) as caught:
        settings(host="acme.bitrix24.com", schema=f"rest/1/{SECRET}/{method}", conn_type="https", extra=extra)
    assert SECRET not in str(caught.value)
    with pytest.raises(Bitrix24ConfigError, match="leave it out, and the name of a method before it"):
        settings(host=f"https://acme.bitrix24.com/rest/1/{SECRET}/{method}?{next(iter(extra))}=1")


@pytest.mark.parametrize("around", ["", "a", "ab", "/rest/1/", "user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode], ids=["base64", "urlsafe"])
def test_an_echo_in_base64_is_redacted(encode: Any, around: str) -> None:
    made = settings(host="acme.bitrix24.com", login="1", password=SECRET)
    echo = encode(f"{around}{SECRET}{around}".encode()).decode()
    shown = made.redact(f"you sent {echo}")
    assert "***" in shown
    assert Needles({"secret": SECRET}).found_in(shown) == set()


@pytest.mark.parametrize(
    "echo",
    [
        "".join(f"%{ord(character):02x}" for character in SECRET),
        "".join(f"%25{ord(character):02X}" for character in SECRET),
        f"%{ord(SECRET[0]):02x}{SECRET[1:]}",
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
    ],
)
def test_an_encoded_echo_is_redacted(echo: str) -> None:
    made = settings(host="acme.bitrix24.com", login="1", password=SECRET)
    assert made.redact(f"/rest/1/{echo}/profile") == "/rest/1/***/profile"


def test_what_is_no_secret_stays() -> None:
    made = settings(host="acme.bitrix24.com", login="1", password=SECRET)
    assert made.redact("100 % of bx_5f3a, 20%25") == "100 % of bx_5f3a, 20%25"
