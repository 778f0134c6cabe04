"""The Variable as token store: two tasks at once, notes that undo nothing, and what Airflow does not tell."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_bitrix24.api.tokens import Tokens
from airflow_provider_bitrix24.exceptions import (
    Bitrix24ConfigError,
    Bitrix24NotSent,
    Bitrix24SignInNeeded,
    Bitrix24StoreError,
)
from airflow_provider_bitrix24.hooks import tokens as keeping
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.hooks.token_store import VariableTokenStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hooks.oauth.conftest import Application

KEY = "a cl13nt s3cret"
NOT_WRITTEN = "what was written cannot be read back"
PAIR = Tokens("4cc3sst0k3nc4n4ry", "r3fr3sht0k3nc4n4ry", 1_763_800_000.0, 1_763_803_600.0)


class Supervisor:
    """The other end of a task's line to Airflow, as far as Variables go; real Airflow is in `test_in_airflow`."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        self.deaf = False
        self.forgetful = False
        self.shadow: str | None = None

    def send(self, message: Any) -> Any:
        from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse, VariableResult

        kind = type(message).__name__
        if kind == "GetVariable":
            value = self.shadow or self.variables.get(message.key)
            if value is None or self.deaf:
                return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)
            return VariableResult(key=message.key, value=value)
        if kind == "PutVariable":
            if self.deaf:
                raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"x": message.value}))
            if not self.forgetful:
                self.variables[message.key] = message.value
        return None


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    from airflow.sdk.execution_time import task_runner

    line = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", line, raising=False)
    return line


@pytest.fixture
def store(supervisor: Supervisor) -> VariableTokenStore:
    return VariableTokenStore("acme.bitrix24.com", "local.1", KEY)


def test_a_pair_and_its_name(store: VariableTokenStore, supervisor: Supervisor) -> None:
    assert store.read() is None
    with store.exclusive() as held:
        held.save(PAIR)
    assert store.read() == PAIR
    assert list(supervisor.variables) == ["bitrix24_token_acme.bitrix24.com_local.1"]
    from airflow.sdk._shared.secrets_masker import redact

    assert redact("secret", store.key) == "***"  # by its name alone, wherever Airflow shows it


def test_a_long_name_is_shortened(supervisor: Supervisor) -> None:
    long, other = (VariableTokenStore("a" * 250, client, KEY).key for client in ("one", "two"))
    assert len(long) < 200
    assert long != other


def test_notes_are_kept_beside_and_undo_nothing(store: VariableTokenStore, supervisor: Supervisor) -> None:
    store.save(PAIR)
    assert store.note(PAIR) is None
    again = store.note(PAIR)
    assert again is not None
    assert again.mark == PAIR.mark
    assert store.note(Tokens(None, "another t0k3n")) is None
    assert store.read() == PAIR
    supervisor.variables[f"{store.key}_refresh"] = "nonsense"
    assert store.note(PAIR) is None


@pytest.mark.parametrize("text", ["", "nonsense", '{"access_token": 1}'])
def test_something_else_in_the_variable(store: VariableTokenStore, supervisor: Supervisor, text: str) -> None:
    supervisor.variables[store.key] = text or " "
    with pytest.raises(Bitrix24ConfigError, match="cannot be read with this connection's token_key"):
        store.read()


def test_airflow_refuses_the_write(store: VariableTokenStore, supervisor: Supervisor) -> None:
    supervisor.deaf = True
    with pytest.raises(Bitrix24StoreError) as caught:
        store.save(PAIR)
    assert caught.value.trouble == ("AirflowRuntimeError" if AIRFLOW_V_3_3_PLUS else NOT_WRITTEN)
    assert "c4n4ry" not in f"{caught.value!r} {caught.value.__context__} {caught.value.__cause__}"


def test_airflow_does_not_say_that_it_could_not_write(
    application: Application, supervisor: Supervisor, store: VariableTokenStore
) -> None:
    """Airflow before 3.3 only logs it; the portal is not asked for a pair that nobody could keep."""
    supervisor.forgetful = True
    with pytest.raises(Bitrix24StoreError, match=NOT_WRITTEN):
        store.save(PAIR)
    supervisor.variables[store.key] = "what was there before"
    with pytest.raises(Bitrix24StoreError, match="Airflow could not write it"):
        store.save(PAIR)
    application.connect()
    application.expire()
    with pytest.raises(Bitrix24NotSent, match=NOT_WRITTEN):
        Bitrix24Hook().call("profile")
    assert application.log("refreshed") == []
    supervisor.forgetful = False
    assert Bitrix24Hook().call("profile")["ID"] == "1"


def test_a_variable_that_something_else_shadows(store: VariableTokenStore, supervisor: Supervisor) -> None:
    supervisor.shadow = Tokens(None, "another t0k3n").as_json()
    with pytest.raises(Bitrix24StoreError, match="secrets backend"):
        store.save(PAIR)


# -- through the hook ---------------------------------------------------------------------------------------------


def stored(supervisor: Supervisor, application: Application) -> Tokens | None:
    (text,) = (value for key, value in supervisor.variables.items() if not key.endswith("_refresh"))
    assert "token" not in text  # sealed, whatever Airflow does with it
    portal = application.sandbox.url.partition("://")[2]
    return VariableTokenStore(portal, application.made.client_id, application.made.client_secret).read()


async def test_refreshed_stored_and_warned_of(
    application: Application, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    application.connect()
    hook = Bitrix24Hook()
    hook.call("profile")
    assert supervisor.variables == {}  # the first pair stays where it is
    application.expire()
    with caplog.at_level(logging.WARNING):
        await hook.acall("profile")
    assert "cannot be locked: of two tasks" in caplog.text
    found = stored(supervisor, application)
    assert found is not None
    assert found.refresh_token != application.pair.refresh_token
    application.expire()
    Bitrix24Hook().call("profile")
    assert len(application.log("refreshed")) == 2
    assert application.log("refused") == []


def test_another_task_was_faster(
    application: Application, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the same pair; the other's refresh kills ours, and its pair is stored a moment later."""
    application.connect()
    application.expire()
    slow, fast = Bitrix24Hook(), Bitrix24Hook()
    settings = slow.settings
    ask = keeping.TokenManager._ask
    new: list[str] = []

    def overtaken(manager: keeping.TokenManager, flow: Any) -> Any:
        monkeypatch.setattr(keeping.TokenManager, "_ask", ask)
        auth = settings.application
        assert auth is not None
        issued = ask(manager, keeping.protocol.refresh(settings, auth, application.pair.refresh_token))
        new.append(issued.tokens.as_json())
        return ask(manager, flow)

    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            made = application.made
            VariableTokenStore(settings.portal, made.client_id, made.client_secret).save(Tokens.from_json(new[0]))

    monkeypatch.setattr(keeping.TokenManager, "_ask", overtaken)
    monkeypatch.setattr(keeping, "time", SimpleNamespace(sleep=pause, time=time.time))
    slow.rest.crm_item_payment_pay(id=1004)
    assert pauses == [0.0, 1.0]
    assert [entry["event"] for entry in application.sandbox.ledger] == ["payment_paid"]
    assert fast.call("profile")["ID"] == "1"
    assert len(application.log("refreshed")) == 1
    assert [entry["error"] for entry in application.log("refused")] == ["invalid_grant"]


def test_somebody_signs_in_while_a_task_refreshes(
    application: Application, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The new sign-in stays, and the task goes on with it: what it has refreshed comes too late."""
    application.connect()
    application.expire()
    hook = Bitrix24Hook()
    settings = hook.settings
    code = application.sandbox.sign_in(application.made, user_id=7)
    ask = keeping.TokenManager._ask

    def overtaken(manager: keeping.TokenManager, flow: Any) -> Any:
        monkeypatch.setattr(keeping.TokenManager, "_ask", ask)
        issued = ask(manager, flow)
        keeping.make_token_manager(settings, settings.application, "x").sign_in(code)  # type: ignore[arg-type]
        return issued

    monkeypatch.setattr(keeping.TokenManager, "_ask", overtaken)
    with caplog.at_level(logging.WARNING):
        assert hook.call("profile")["ID"] == "7"
    assert "somebody has signed in again: their tokens in the Airflow Variable" in caplog.text
    assert Bitrix24Hook().call("profile")["ID"] == "7"
    assert len(application.log("refreshed")) == 1


def test_airflow_that_cannot_be_asked_looks_like_no_tokens(application: Application, supervisor: Supervisor) -> None:
    """Airflow says "not found" for its own troubles, too: so the first pair never takes the place of a stored one."""
    application.connect()
    application.expire()
    Bitrix24Hook().call("profile")
    kept = stored(supervisor, application)
    supervisor.deaf = True
    with pytest.raises(Bitrix24NotSent, match="no access token"):
        Bitrix24Hook().call("profile")
    supervisor.deaf = False
    assert stored(supervisor, application) == kept
    Bitrix24Hook().call("profile")


def test_nobody_has_signed_in(application: Application, supervisor: Supervisor) -> None:
    application.connect(refresh_token=None, access_token=None)
    with pytest.raises(Bitrix24NotSent) as caught:
        Bitrix24Hook().call("profile")
    assert "or Airflow could not be asked for it" in str(caught.value)


def test_a_dead_grant(application: Application, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_PAUSES", (0.0, 0.0))
    application.connect()
    application.expire()
    Bitrix24Hook().call("profile")
    kept = dict(supervisor.variables)
    application.expire()
    Bitrix24Hook().call("profile")
    supervisor.variables.update(kept)  # somebody has brought back yesterday's Variable
    application.expire()
    with pytest.raises(Bitrix24SignInNeeded) as caught:
        Bitrix24Hook().call("profile")
    assert "somebody else has used the token that is in the Airflow Variable" in str(caught.value)
