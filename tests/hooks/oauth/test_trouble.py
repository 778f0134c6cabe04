"""What can go wrong between two pairs of tokens: lost responses, killed processes, lures, a database that is away."""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api.tokens import Tokens
from airflow_provider_bitrix24.exceptions import (
    Bitrix24AuthError,
    Bitrix24ConfigError,
    Bitrix24NotSent,
    Bitrix24SignInNeeded,
    Bitrix24StoreError,
)
from airflow_provider_bitrix24.hooks import tokens as keeping
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.hooks.token_table import SqlTokenStore

if TYPE_CHECKING:
    from tests.hooks.oauth.conftest import Application

pytestmark = pytest.mark.libraries


def pay(hook: Bitrix24Hook) -> None:
    hook.rest.crm_item_payment_pay(id=1004)


def test_a_lost_answer_is_said_with_what_to_do(application: Application) -> None:
    hook = Bitrix24Hook()
    hook.call("profile")
    application.expire()
    application.sandbox.fault("drop_after", "oauth.token", times=1)
    with pytest.raises(Bitrix24SignInNeeded) as caught:
        pay(hook)
    words = str(caught.value)
    assert "The response to a refresh was lost a moment before" in words
    assert "This call was not executed" in words
    assert "bitrix24-airflow oauth --conn-id bitrix24_default" in words
    assert application.sandbox.ledger == []
    assert not [secret for secret in hook.settings.secrets if secret in words]


def test_an_answer_lost_before_anything_was_changed_is_got_again(application: Application) -> None:
    hook = Bitrix24Hook()
    hook.call("profile")
    application.expire()
    application.sandbox.fault("drop_before", "oauth.token", times=1)
    pay(hook)
    assert [entry["event"] for entry in application.sandbox.ledger] == ["payment_paid"]
    assert len(application.log("refreshed")) == 1


@pytest.mark.parametrize("kind", ["html", "internal_server_error", "invalid_json", "truncate"])
def test_no_token_now_is_nothing_sent_and_worth_a_retry(
    application: Application, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = Bitrix24Hook()
    hook.call("profile")
    application.expire()
    options = {"html": {"status": 502, "when": "before"}, "truncate": {}}.get(kind, {})
    application.sandbox.fault(kind, "oauth.token", times=100, **options)
    with pytest.raises((Bitrix24NotSent, Bitrix24SignInNeeded)) as caught:
        pay(hook)
    assert "no access token" in str(caught.value) or "lost a moment before" in str(caught.value)
    assert application.sandbox.ledger == []


@pytest.mark.parametrize(
    ("code", "status", "advice"),
    [
        ("WRONG_CLIENT", 200, "Login and password of the Airflow connection must be the client id and the client secr"),
        ("invalid_client", 401, "Login and password of the Airflow connection must be the client id and the client se"),
        ("invalid_request", 400, "Check the extra oauth_url of the Airflow connection"),
        ("invalid_scope", 403, "Compare the access rights on the application's card in Bitrix24, and sign in again"),
        ("NOT_INSTALLED", 200, "install it, and sign in again"),
        ("PAYMENT_REQUIRED", 402, "The portal's plan, or its trial, does not include REST applications any more"),
        ("authorization_error", 401, "Check the application in the Airflow connection"),
    ],
)
def test_a_refusal_of_the_token_endpoint_is_final_and_says_what_to_do(
    application: Application, code: str, status: int, advice: str
) -> None:
    application.expire()
    application.sandbox.fault("error", "oauth.token", times=100, code=code, text="No", status=status)
    with pytest.raises(Bitrix24AuthError) as caught:
        pay(Bitrix24Hook())
    assert caught.value.final
    assert advice in str(caught.value)
    assert "webhook" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert str(caught.value.after("")) == str(caught.value)  # nor does the story of an earlier attempt change it
    assert application.sandbox.ledger == []


def test_a_redirect_of_the_token_endpoint_is_not_followed(application: Application) -> None:
    application.expire()
    application.sandbox.fault("redirect", "oauth.token", times=100, location="https://evil.example.com/oauth/token/")
    with pytest.raises(Bitrix24ConfigError, match="redirect, which is not followed"):
        pay(Bitrix24Hook())


def test_a_lured_refresh_is_kept_and_nothing_goes_there(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    hook = Bitrix24Hook()
    hook.call("profile")
    application.expire()
    application.sandbox.fault("lure", "oauth.token", times=1, location="https://evil.example.com/rest/")
    with caplog.at_level(logging.WARNING):
        pay(hook)
    assert "for the portal evil.example.com, and this connection is for 127.0.0.1" in caplog.text
    assert [entry["event"] for entry in application.sandbox.ledger] == ["payment_paid"]
    stored = application.store().read()
    assert stored is not None
    application.expire()
    Bitrix24Hook().call("profile")
    assert application.log("refused") == []


def test_somebody_else_has_refreshed(application: Application) -> None:
    """Another client used our refresh token: it is dead, and nobody has stored the outcome."""
    application.expire()
    hook = Bitrix24Hook()
    settings = hook.settings
    manager = keeping.make_token_manager(settings, settings.application, "other")  # type: ignore[arg-type]
    manager._ask(keeping.protocol.refresh(settings, settings.application, application.pair.refresh_token))  # type: ignore[arg-type]
    with pytest.raises(Bitrix24SignInNeeded) as caught:
        pay(Bitrix24Hook())
    assert "somebody else has used the token that is in the database of the Airflow connection 'tokens'" in str(
        caught.value
    )


KILLED = """
import os, signal, sys
from airflow_provider_bitrix24.hooks import token_table
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

token_table._HeldRow.save = killed  # the portal has answered, nothing is stored yet
Bitrix24Hook().call("profile")
"""


def test_killed_between_refresh_and_store(application: Application) -> None:
    application.expire()
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=1800, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(application.log("refreshed")) == 1
    with pytest.raises(Bitrix24SignInNeeded) as caught:
        pay(Bitrix24Hook())
    assert "A refresh of this very pair began at" in str(caught.value)
    assert "and did not end" in str(caught.value)
    assert "(process " in str(caught.value)
    assert application.sandbox.ledger == []


def test_a_store_that_is_away(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_TOKENS", json.dumps({"conn_type": "sqlite", "host": str(application.file / "no" / "folder")})
    )
    with pytest.raises(Bitrix24NotSent) as caught:
        pay(Bitrix24Hook())
    assert "no access token: the database of the Airflow connection 'tokens' cannot be used now" in str(caught.value)
    assert "This call changed nothing on the portal." in str(caught.value)
    assert not caught.value.final
    assert application.sandbox.requests == []


@pytest.mark.needs_connection_errors
def test_a_store_that_nobody_knows(application: Application) -> None:
    application.connect(token_conn_id="nowhere")
    with pytest.raises(Bitrix24ConfigError, match=r"'nowhere' \(extra token_conn_id of the connection"):
        Bitrix24Hook().call("profile")
    works, said = Bitrix24Hook().test_connection()
    assert (works, "token_conn_id" in said) == (False, True)


def test_a_sign_in_waits_for_a_refresh_and_is_the_last_word(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database keeps the one out while the other holds the row: the refreshed pair never follows the signed-in."""
    application.expire()
    settings = Bitrix24Hook().settings
    manager, other = (keeping.make_token_manager(settings, settings.application, "x") for _ in range(2))  # type: ignore[arg-type]
    code = application.sandbox.sign_in(application.made, user_id=7)
    signing_in = threading.Thread(target=lambda: other.sign_in(code))
    ask, has_its_pair = manager._ask, threading.Event()
    waiting: list[bool] = []

    def meanwhile(flow: Any) -> Any:
        issued = ask(flow)
        signing_in.start()
        assert has_its_pair.wait(300)
        signing_in.join(1)  # time enough to store it, if it could
        waiting.append(signing_in.is_alive())
        return issued

    def signed_in(flow: Any) -> Any:
        issued = ask(flow)
        has_its_pair.set()
        return issued

    monkeypatch.setattr(manager, "_ask", meanwhile)
    monkeypatch.setattr(other, "_ask", signed_in)
    refreshed, _ = manager.refresh(60)
    signing_in.join()
    assert refreshed
    assert waiting == [True]
    assert Bitrix24Hook().call("profile")["ID"] == "7"


class Away:
    """The real store, that is away for some writes of a new pair."""

    def __init__(self, store: Any, times: int) -> None:
        self._store = store
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, connection: Any, tokens: Tokens) -> None:
        self.times -= 1
        if self.times >= 0:
            raise Bitrix24StoreError(self._store.place, "OperationalError: gone")
        self._store.write(connection, tokens)

    def exclusive(self) -> Any:
        return type(self._store).exclusive(self)  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [2, 4])
def test_a_store_that_is_away_right_after_the_refresh(
    application: Application, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_STORE_AGAIN", (0.0, 0.0, 0.0))
    application.expire()
    hook = Bitrix24Hook()
    settings = hook.settings
    store = Away(application.store(), times)
    manager = keeping.TokenManager(settings, settings.application, store, "x")  # type: ignore[arg-type]
    if times == 2:
        refreshed, made = manager.refresh(60)
        assert (refreshed, application.store().read()) == (True, made)
        return
    with pytest.raises(Bitrix24StoreError) as caught:
        manager.refresh(60)
    assert "could not be stored and is lost" in str(caught.value)
    assert "Sign in again" in str(caught.value)
    assert not [secret for secret in settings.secrets if secret in str(caught.value)]


def test_the_token_database_is_encrypted(application: Application) -> None:
    application.connect(token_conn_id="tokens", token_key="a key that is long enough")
    application.expire()
    Bitrix24Hook().call("profile")
    stored = application.store("a key that is long enough").read()
    assert stored is not None
    raw = application.file.read_bytes()
    for secret in (stored.access_token, stored.refresh_token, application.made.client_secret):
        assert secret
        assert secret.encode() not in raw
    assert application.made.client_id.encode() in raw  # it is the right file
    application.connect(token_conn_id="tokens", token_key="another key, long enough")
    with pytest.raises(Bitrix24ConfigError, match="cannot be read with this connection's token_key"):
        Bitrix24Hook().call("profile")


def test_no_tokens_yet(application: Application) -> None:
    application.connect(token_conn_id="tokens", refresh_token=None, access_token=None)
    with pytest.raises(Bitrix24SignInNeeded) as caught:
        Bitrix24Hook().call("profile")
    words = str(caught.value)
    assert words.startswith(
        "There are no tokens yet, neither in the database of the Airflow connection 'tokens' nor in the connection "
        "'bitrix24_default'. Nothing was sent. Sign in again: "
    )
    assert "oauth --conn-id bitrix24_default" in words
    assert "no_tokens" not in words
    assert "HTTP 0" not in words
    assert caught.value.reason.startswith("There are no tokens yet")


def test_where_only_the_operator_refreshes(application: Application) -> None:
    application.connect(token_conn_id="tokens", refreshed_by="operator")
    hook = Bitrix24Hook()
    hook.call("profile")
    application.expire()
    with pytest.raises(Bitrix24NotSent) as caught:
        pay(hook)
    assert "only RefreshTokenOperator refreshes it" in str(caught.value)
    assert application.log("refreshed") == []
    Bitrix24Hook().refresh_token(min_lifetime=60)
    pay(hook)
    assert [entry["event"] for entry in application.sandbox.ledger] == ["payment_paid"]
    assert len(application.log("refreshed")) == 1


def test_the_180_days_are_nearly_over(application: Application, caplog: pytest.LogCaptureFixture) -> None:
    pair = application.pair
    old = time.time() - 170 * 86400
    with application.store().exclusive() as held:
        held.save(Tokens(pair.access_token, pair.refresh_token, old, old + 3600))
    with caplog.at_level(logging.WARNING):
        Bitrix24Hook().call("profile")
    assert "was not used for long and expires on" in caplog.text


def test_new_tokens_are_masked_at_once(application: Application) -> None:
    from airflow.sdk._shared.secrets_masker import redact

    application.expire()
    hook = Bitrix24Hook()
    hook.call("profile")
    stored = application.store().read()
    assert stored is not None
    for secret in (stored.access_token, stored.refresh_token):
        assert redact(f"at {secret}!") == "at ***!"
        assert hook.settings.redact(f"at {secret}!") == "at ***!"


def test_an_interrupted_task_does_not_lose_the_answer(application: Application) -> None:
    """As `execution_timeout` does: an exception in the middle of waiting for the token endpoint."""
    hook = Bitrix24Hook()
    hook.call("profile")
    application.expire()
    application.sandbox.fault("slow", "oauth.token", seconds=1, times=1)

    class Timeout(BaseException):
        pass

    def alarm(*_: Any) -> None:
        raise Timeout

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(Timeout):
            pay(hook)
    finally:
        signal.signal(signal.SIGALRM, before)
    if application.log("refreshed"):  # on a slow machine the alarm may come before the refresh has begun
        stored = application.store().read()
        assert stored is not None
        assert stored.refresh_token != application.pair.refresh_token
    Bitrix24Hook().call("profile")
    assert application.log("refused") == []


@pytest.mark.parametrize("text", ["no access token", ""])
def test_the_test_button_never_refreshes(application: Application, text: str) -> None:
    application.connect(token_conn_id="tokens", access_token=None if text else application.pair.access_token)
    works, said = Bitrix24Hook().test_connection()
    assert (works, text in said) == (not text, True)
    application.expire()
    works, said = Bitrix24Hook().test_connection()
    assert (works, "access token" in said) == (not text, True)
    assert application.log("refreshed") == []


def test_the_test_button_does_not_wait_for_a_store(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    released, read = threading.Event(), []

    def hangs(store: SqlTokenStore) -> None:
        released.wait(300)
        read.append(store)

    monkeypatch.setattr(SqlTokenStore, "read", hangs)
    monkeypatch.setattr("airflow_provider_bitrix24.hooks.connection_test.LIMIT", 0.5)
    try:
        works, said = Bitrix24Hook().test_connection()
        assert read == []
    finally:
        released.set()
    assert (works, said.startswith("No result within 0.5 s: ")) == (False, True)
