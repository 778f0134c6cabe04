"""The Variable as token store, RefreshTokenOperator and the command `oauth`, through a real Airflow."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet

from airflow_provider_bitrix24.hooks.token_cipher import TokenCipher
from airflow_provider_bitrix24.sandbox.faults import Fault
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.tools.airflow_home import airflow_env
from tests.tools.printed import printed_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
RUN_DAGS = HERE.parents[1] / "operators" / "run_dags.py"


@dataclass
class World:
    """One Airflow and one portal for all of these tests."""

    home: Path
    env: dict[str, str]
    sandbox: Sandbox
    application: Any
    pair: Any
    seen: str = ""

    def __post_init__(self) -> None:
        self.fernet = Fernet(self.env["AIRFLOW__CORE__FERNET_KEY"])

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([sys.executable, *command], env=self.env, capture_output=True, text=True, timeout=1800)
        self.seen += done.stdout + done.stderr
        return done

    def dags(self, *dag_ids: str) -> dict[str, Any]:
        done = self.run(str(RUN_DAGS), *dag_ids)
        assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
        outcome: dict[str, Any] = printed_json(done.stdout)
        return outcome

    def variable(self, suffix: str = "") -> Any:
        """What Airflow's database holds, by its own key."""
        address = self.sandbox.url.partition("://")[2]
        with sqlite3.connect(self.home / "airflow.db") as database:
            row = database.execute(
                "select val, is_encrypted from variable where key = ?",
                (f"bitrix24_token_{address}_{self.application.client_id}{suffix}",),
            ).fetchone()
        assert row[1] == 1
        text = self.fernet.decrypt(row[0].encode()).decode()
        if suffix:
            return json.loads(text)
        cipher = TokenCipher(self.application.client_secret, salt=f"{address} {self.application.client_id}")
        return asdict(cipher.decrypt(text))


@pytest.fixture(scope="module")
def world(new_airflow_home: Callable[[], Path]) -> Iterator[World]:
    home = new_airflow_home()
    with SandboxServer(Portal()) as server:
        sandbox = Sandbox(server)
        application = sandbox.add_application()
        pair = sandbox.grant(application)
        short = {"send_deadline": 30, "network_delay": 0, "server_time_limit": 0.3, "read_lag": 0.2}

        def connection(**extra: Any) -> str:
            fields = json.loads(sandbox.oauth_connection_of(application, pair))
            fields["extra"] |= {**short, **extra}
            return json.dumps(fields)

        env = airflow_env(home, HERE / "dags") | {
            "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
            "AIRFLOW_CONN_BITRIX24_READERS": connection(refreshed_by="operator"),
            "AIRFLOW_CONN_BITRIX24_OAUTH": connection(refreshed_by="operator"),
            "SANDBOX": sandbox.url,
            "AIRFLOW_CONN_BITRIX24_TASKS": connection(),
            "AIRFLOW_CONN_BITRIX24_WEBHOOK": sandbox.connection,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        yield World(home, env, sandbox, application, pair)


def result(outcome: dict[str, Any], dag_id: str, task_id: str) -> Any:
    (ti,) = outcome[dag_id][task_id]
    assert ti["state"] == "success", ti
    return ti["xcoms"]["return_value"]


def dies_in_the_trigger(sandbox: Sandbox) -> None:
    """The access token dies again while the sensor is deferred; once the trigger has looked, the customer pays."""

    def wait_for_looks(many: int) -> None:
        while sum(request["method"] == "crm.item.payment.list" for request in sandbox.requests) < many:
            time.sleep(0.05)

    wait_for_looks(1)  # that of the sensor, which then defers
    sandbox.portal.faults.add(Fault(kind="expired_token", method="batch", times=1))
    wait_for_looks(4)
    sandbox.portal.act.pay_payment(1001, by="customer")


@pytest.fixture(scope="module")
def ran(world: World) -> dict[str, Any]:
    """All DAGs, in their order."""
    # The sensor looks, is told that its token is dead, looks again and defers; its trigger is told the same.
    threading.Thread(target=dies_in_the_trigger, args=(world.sandbox,), daemon=True).start()
    return world.dags(
        "signed_in", "new_enough", "renewed", "reader", "late", "in_time", "on_demand", "webhook", "nonsense"
    )


def test_the_operator_refreshes_when_it_is_time(world: World, ran: dict[str, Any]) -> None:
    signed_in, new_enough, renewed = (
        result(ran, dag_id, "refresh") for dag_id in ("signed_in", "new_enough", "renewed")
    )
    assert [one["refreshed"] for one in (signed_in, new_enough, renewed)] == [True, False, True]
    assert signed_in["expires_at"] == new_enough["expires_at"] < renewed["expires_at"]
    assert signed_in["refresh_token_until"] > signed_in["expires_at"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", signed_in["portal"])
    assert f"are new enough. The access token lives until {new_enough['expires_at']}" in world.seen
    assert f"have been refreshed. The access token lives until {renewed['expires_at']}" in world.seen
    assert [ran[dag_id]["refresh"][0]["state"] for dag_id in ("webhook", "nonsense")] == ["failed", "failed"]
    assert "is a webhook's: it has no tokens to refresh" in world.seen
    assert "min_lifetime must be a timedelta or a number of seconds above 0" in world.seen


def test_readers_read_and_never_refresh(world: World, ran: dict[str, Any]) -> None:
    assert result(ran, "reader", "pay")["outcome"] == "paid"
    assert ran["late"]["pay"][0]["state"] == "failed"
    assert "only RefreshTokenOperator refreshes it" in world.seen
    assert result(ran, "in_time", "refresh")["refreshed"]
    assert result(ran, "in_time", "pay")["outcome"] == "paid"
    paid = [entry["payment_id"] for entry in world.sandbox.ledger if entry["event"] == "payment_paid"]
    assert paid == [1004, 1003, 1001]  # the last by the customer


def test_a_task_and_a_trigger_refresh_on_demand(world: World, ran: dict[str, Any]) -> None:
    assert ran["on_demand"]["wait"][0]["state"] == "success"
    assert "which cannot be locked: of two tasks that do so in the same moment one may fail" in world.seen


def test_no_grant_was_lost(world: World, ran: dict[str, Any]) -> None:
    """Three refreshes by the operator, one by the sensor, one by its trigger; none with a token used before."""
    log = world.sandbox.token_log
    assert [entry["previous"] for entry in log if entry["event"] == "refreshed"] == [1, 2, 3, 4, 5]
    assert [entry for entry in log if entry["event"] == "refused"] == []


def test_sign_in_and_the_example_dag(world: World, ran: dict[str, Any]) -> None:
    sandbox, before = world.sandbox, world.variable()
    assert world.variable("_refresh").keys() == {"mark", "since", "by"}
    command = [sys.executable, "-m", "airflow_provider_bitrix24", "oauth", "--conn-id", "bitrix24_readers"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, env=world.env, text=True, **pipes) as process:  # type: ignore[call-overload]
        printed = ""
        while "(or the code alone)" not in printed and (line := process.stdout.readline()):
            printed += line
        code = sandbox.sign_in(world.application)  # only now: it lives 30 seconds
        printed += process.communicate(f"{code}\n", timeout=1800)[0]
    world.seen += printed
    assert process.returncode == 0, printed
    assert f"{sandbox.url}/oauth/authorize/?client_id={world.application.client_id}&state=" in printed
    address = sandbox.url.partition("://")[2]
    assert f"Signed in to {address} as Anna Berg (user 1), an administrator.\n" in printed
    assert "The tokens are in the Airflow Variable 'bitrix24_token_127.0.0.1:" in printed
    signed_in = world.variable()
    assert signed_in["refresh_token"] != before["refresh_token"]

    world.env["AIRFLOW__CORE__DAGS_FOLDER"] = str(HERE.parents[2] / "dags_examples")
    example = result(world.dags("refresh_oauth_tokens"), "refresh_oauth_tokens", "refresh")
    assert not example["refreshed"]  # it has read what the command has stored, and that is new enough

    secrets = [pair[name] for pair in (before, signed_in) for name in ("access_token", "refresh_token")]
    secrets += [world.application.client_secret, world.pair.refresh_token, code]
    assert not [secret for secret in secrets if secret in world.seen]
    database = (world.home / "airflow.db").read_bytes()
    assert not [secret for secret in secrets if secret.encode() in database]
