"""The command `oauth`: what a person pastes, and what the command makes of it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.__main__ import main
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.hooks.oauth_cli import read_code

if TYPE_CHECKING:
    from tests.hooks.oauth.conftest import Application

SETTINGS = Settings.from_connection_values(
    host="acme.bitrix24.com", login="local.1", password="cl13nts3cr3t", extra={"auth": "oauth"}
)


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command tells Airflow which kind of process it is: only for the test."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")


@pytest.mark.parametrize(
    "pasted",
    [
        "c0d3",
        " c0d3\n",
        "https://app.example.com/back?code=c0d3&state=st4t3&domain=acme.bitrix24.com&member_id=x&scope=crm",
        "https://app.example.com/back?code=c0d3",
        "/back?state=st4t3&code=c0d3",
        "code=c0d3&state=st4t3",
        "https://app.example.com/back?domain=ACME.bitrix24.com:443&code=c0d3#x",
    ],
)
def test_the_code_in_what_is_pasted(pasted: str) -> None:
    assert read_code(pasted, SETTINGS, "st4t3") == "c0d3"
    assert read_code(pasted, SETTINGS, None) == "c0d3"


CYRILLIC = Settings.from_connection_values(
    host="xn--80awhdgm.xn--p1ai", login="local.1", password="cl13nts3cr3t", extra={"auth": "oauth"}
)


@pytest.mark.parametrize(
    "domain",
    [
        *("портал.рф", "ПОРТАЛ.РФ", "xn--80awhdgm.xn--p1ai", "XN--80AWHDGM.xn--p1ai.", "портал.рф:443", "портал.рф."),
        *(
            "https%3A%2F%2F%D0%BF%D0%BE%D1%80%D1%82%D0%B0%D0%BB.%D1%80%D1%84%2F",
            "%D0%BF%D0%BE%D1%80%D1%82%D0%B0%D0%BB.%D1%80%D1%84",
        ),
    ],
)
def test_the_domain_is_that_of_the_portal_however_it_is_written(domain: str) -> None:
    assert read_code(f"https://app.example.com/?code=c0d3&domain={domain}", CYRILLIC, None) == "c0d3"


@pytest.mark.parametrize("domain", ["партал.рф", "портал.рф.evil.com", "порта\u0301л.рф", "[", "", "рф"])
def test_another_domain_is_another_domain(domain: str) -> None:
    if domain:
        with pytest.raises(Bitrix24ConfigError, match="at another portal than"):
            read_code(f"code=c0d3&domain={domain}", CYRILLIC, None)
    else:
        assert read_code("code=c0d3&domain=", CYRILLIC, None) == "c0d3"


@pytest.mark.parametrize(
    ("server", "named"),
    [
        ("oauth.bitrix24.tech", "set the connection's extra oauth_url to https://oauth.bitrix24.tech."),
        ("OAUTH.bitrix24.TECH.", "set the connection's extra oauth_url to https://oauth.bitrix24.tech."),
        ("127.0.0.1", ""),
        ("%5B", ""),
    ],
)
def test_another_token_endpoint_is_named_when_a_code_is_refused(
    application: Application, capsys: pytest.CaptureFixture[str], server: str, named: str
) -> None:
    assert main(["oauth", "--code", f"https://app.example.com/?code=n0tac0d3&server_domain={server}"]) == 1
    said = capsys.readouterr().err
    assert "The token endpoint that was asked is 127.0.0.1:" in said
    assert named in said
    assert ("says that the token endpoint" in said) is bool(named)


@pytest.mark.parametrize(
    ("pasted", "words"),
    [
        ("", "There is no code in that"),
        ("two words", "There is no code in that"),
        ("https://app.example.com/back?error=access_denied", "There is no code in that"),
        ("https://app.example.com/back?code=c0d3&state=other", "its state is not ours"),
        ("https://app.example.com/back?code=c0d3&domain=evil.example.com", "at another portal than acme.bitrix24.com"),
    ],
)
def test_what_is_no_answer_to_ours(pasted: str, words: str) -> None:
    with pytest.raises(Bitrix24ConfigError, match=words) as caught:
        read_code(pasted, SETTINGS, "st4t3")
    assert "c0d3" not in str(caught.value)


def test_signed_in_by_prompt_and_by_option(
    application: Application, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    application.connect(token_conn_id="tokens", refresh_token=None, access_token=None)
    monkeypatch.setattr("sys.stdin", io.StringIO(application.sandbox.sign_in(application.made)))
    assert main(["oauth"]) == 0
    said = capsys.readouterr()
    assert f"{application.sandbox.url}/oauth/authorize/?client_id={application.made.client_id}&state=" in said.out
    assert f"Signed in to {application.sandbox.url[7:]} as Anna Berg (user 1), an administrator.\n" in said.out
    assert "The application can pay legacy invoices, wait for legacy invoices" in said.out
    assert "The tokens are in the database of the Airflow connection 'tokens'" in said.out
    assert "Warning" not in said.err
    first = application.store().read()
    assert first is not None
    assert Bitrix24Hook().call("profile")["ID"] == "1"
    address = f"https://app.example.com/?code={application.sandbox.sign_in(application.made, user_id=7)}"
    assert main(["oauth", "--conn-id", "bitrix24_default", "--code", address]) == 0
    second = application.store().read()
    assert second is not None
    assert second != first
    assert Bitrix24Hook().call("profile")["ID"] == "7"
    said = capsys.readouterr()
    assert "(user 7), not an administrator.\n" in said.out
    assert "Warning: this user is not an administrator. Only an administrator sees pay systems" in said.err
    assert not [
        s for pair in (first, second) for s in (pair.access_token, pair.refresh_token) if s in said.out + said.err
    ]


def test_a_pair_that_cannot_be_read_any_more_does_not_stand_in_the_way(application: Application) -> None:
    application.expire()
    Bitrix24Hook().call("profile")
    application.connect(token_conn_id="tokens", token_key="a new key, long enough")
    assert main(["oauth", "--code", application.sandbox.sign_in(application.made)]) == 0
    assert Bitrix24Hook().call("profile")["ID"] == "1"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "expired_token"}, "calls the new access token expired"),
        ({"kind": "error", "code": "ACCESS_DENIED", "text": "REST is off", "status": 403}, "REST is off"),
    ],
)
def test_a_portal_that_does_not_say_who_signed_in(
    application: Application, capsys: pytest.CaptureFixture[str], fault: dict[str, Any], words: str
) -> None:
    """The tokens are stored all the same: the code is used up."""
    application.sandbox.fault(method="batch", **fault)
    assert main(["oauth", "--code", application.sandbox.sign_in(application.made)]) == 0
    said = capsys.readouterr()
    assert "Warning: the portal does not say as whom" in said.err
    assert words in said.err
    assert application.store().read() is not None
    assert application.log("refreshed") == []


def test_a_code_that_was_used_before(application: Application, capsys: pytest.CaptureFixture[str]) -> None:
    code = application.sandbox.sign_in(application.made)
    assert main(["oauth", "--code", code]) == 0
    stored = application.store().read()
    assert main(["oauth", "--code", code]) == 1
    said = capsys.readouterr().err
    assert "A code lives 30 seconds, and can be used once" in said
    assert "Run the command again, open the address that it prints" in said
    assert "(code 'invalid_grant'," in said
    assert code not in said
    assert application.store().read() == stored


def test_what_goes_wrong_is_a_sentence(
    application: Application, bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["oauth", "--code", "n0tac0d3"]) == 1
    assert "invalid_grant" in capsys.readouterr().err
    application.sandbox.fault("lure", "oauth.token", times=1, location="https://evil.example.com/rest/")
    assert main(["oauth", "--code", application.sandbox.sign_in(application.made)]) == 1
    assert "The consent was given at the portal evil.example.com" in capsys.readouterr().err
    assert application.store().read() is None
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", bitrix24_sandbox.connection)
    assert main(["oauth", "--code", "x"]) == 1
    assert "is a webhook's. Set its extra auth to oauth" in capsys.readouterr().err
    assert main(["oauth", "--conn-id", "nowhere", "--code", "x"]) == 1
    assert "Airflow connection 'nowhere'" in capsys.readouterr().err
