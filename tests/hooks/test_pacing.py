"""Requests keep within the portal's rate limit: of all hooks of a host, and of all hosts that share a database."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from airflow_provider_bitrix24 import pacing as host_pacing
from airflow_provider_bitrix24.api.io import Reserve, Slot
from airflow_provider_bitrix24.api.pacing import NAMED, STANDARD, Limits
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24RateLimited, Bitrix24StoreError
from airflow_provider_bitrix24.hooks import pacing
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.payments import PayInvoiceOperator
from airflow_provider_bitrix24.triggers.payments import WaitForPaymentsTrigger
from tests.hooks import pacing_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTION = "AIRFLOW_CONN_BITRIX24_DEFAULT"
EVERYWHERE = "AIRFLOW__BITRIX24__RATE_LIMIT"
PACE = "AIRFLOW__BITRIX24__PACE_CONN_ID"
READ = ("crm.deal.get", {"id": 1})
DAMAGED_METHOD = (
    '{"clock_offset": 0, "methods": {"crm.deal.get": {"minutes": [[NUMBER, 1]], "cost": 1, "phase": 0, "at": NUMBER, '
    '"resets_at": null, "blocked_until": 0, "limit": null}}}'
)


@pytest.fixture(autouse=True)
def as_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Requests are paced, with buckets of this test alone."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.delenv(EVERYWHERE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(pacing, "_warned", set())
    monkeypatch.setattr(host_pacing, "_warned", set())
    return


@pytest.fixture
def connect(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def to_the_sandbox(**extra: Any) -> Bitrix24Hook:
        fields = json.loads(bitrix24_sandbox.connection)
        fields["extra"] = {**(fields.get("extra") or {}), **extra}
        monkeypatch.setenv(CONNECTION, json.dumps(fields))
        return Bitrix24Hook()

    return to_the_sandbox


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SQLite file, and the Airflow connection ``paces`` to it."""
    file = tmp_path / "paces.db"
    monkeypatch.setenv("AIRFLOW_CONN_PACES", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    return file


def booked_here(tmp_path: Path) -> list[float]:
    """The seconds that are booked, for each portal that this host knows."""
    return [struct.unpack("<dd", bucket.read_bytes())[0] for bucket in (tmp_path / "tmp").glob("*/*")]


def booked_everywhere(database: Path) -> list[float]:
    with sa.create_engine(f"sqlite:///{database}", poolclass=sa.pool.NullPool).connect() as connection:
        return list(connection.execute(sa.text("SELECT backlog FROM bitrix24_pace")).scalars())


def test_every_call_books_a_slot_unless_told_otherwise(connect: Any, tmp_path: Path) -> None:
    hook = connect()
    assert hook.settings.rate_limit == STANDARD
    hook.call(*READ)
    hook.batch({"one": READ, "two": READ})
    pickle.loads(pickle.dumps(hook)).call(*READ)
    asyncio.run(hook.acall(*READ))
    trigger = WaitForPaymentsTrigger(
        payment_ids=[1001], bitrix24_conn_id="bitrix24_default", poke_interval=1, end_time=time.time()
    )

    async def run_trigger() -> None:
        assert [event.payload["reason"] async for event in trigger.run()] == ["timeout"]

    asyncio.run(run_trigger())
    [booked] = booked_here(tmp_path)
    bound = 5 * STANDARD.interval
    assert 0 < booked <= bound
    connect(rate_limit="off").call(*READ)
    assert booked_here(tmp_path) == [booked]


@pytest.mark.bitrix24_sandbox(rate_limit=(50, 10))
def test_eight_workers_and_a_triggerer_are_never_refused(bitrix24_sandbox: Any, connect: Any, tmp_path: Path) -> None:
    connect(rate_limit="50/10")
    done = subprocess.run(
        [sys.executable, str(Path(pacing_workers.__file__))],
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp"), "AIRFLOW_HOME": str(tmp_path / "airflow")},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    sent = [request["status"] for request in bitrix24_sandbox.requests]
    assert sent == [200] * (pacing_workers.WORKERS + 1) * pacing_workers.CALLS
    waited, refused = (sum(numbers) for numbers in zip(*told, strict=True))
    print(f"{len(sent)} requests, {waited} waited for a slot, {refused} were refused")
    assert refused == 0


@pytest.mark.bitrix24_sandbox(rate_limit=(4, 2))
def test_a_refusal_all_the_same_is_waited_for(bitrix24_sandbox: Any, connect: Any, tmp_path: Path) -> None:
    """Somebody else has used up what the portal takes."""
    bitrix24_sandbox.fault("query_limit_exceeded", "crm.deal.get", times=1)
    limits = Limits(4, 2.0)
    connect(rate_limit="4/2").call(*READ)
    assert [request["status"] for request in bitrix24_sandbox.requests] == [503, 200]
    [booked] = booked_here(tmp_path)
    assert booked > limits.tolerance, "the burst is gone for all on this host"


def test_no_slot_within_the_patience_of_the_connection(bitrix24_sandbox: Any, connect: Any) -> None:
    hook = connect(rate_limit="1/0.1", rate_limit_wait=1)
    hook.call(*READ)
    with pytest.raises(Bitrix24RateLimited, match="Not sent: the portal's rate limit") as caught:
        hook.call(*READ)
    assert caught.value.retry_after > 1
    assert len(bitrix24_sandbox.requests) == 1


@pytest.mark.parametrize("everywhere", ["off", "enterprise", "100/4"])
def test_one_option_for_all_connections(connect: Any, monkeypatch: pytest.MonkeyPatch, everywhere: str) -> None:
    monkeypatch.setenv(EVERYWHERE, everywhere)
    assert connect().settings.rate_limit == Limits.read(everywhere)
    assert connect(rate_limit="").settings.rate_limit == Limits.read(everywhere)
    assert connect(rate_limit="standard").settings.rate_limit == NAMED["standard"]
    assert Bitrix24Hook().test_connection()[0]


def test_an_option_that_is_wrong_is_told(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EVERYWHERE, "fast")
    with pytest.raises(Bitrix24ConfigError, match=r"from \[bitrix24\] rate_limit in Airflow's configuration\) must be"):
        _ = connect().settings


# ------------------------------------------------------------------------------------------------------ all hosts


def test_hosts_share_a_database(connect: Any, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PACE, "paces")
    hook = connect()
    hook.call(*READ)
    asyncio.run(Bitrix24Hook().acall(*READ))
    bound = 2 * STANDARD.interval
    [everywhere], [here] = booked_everywhere(database), booked_here(tmp_path)
    assert 0 < everywhere <= bound
    assert 0 < here <= bound


def test_the_later_slot_counts(connect: Any, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another host has booked most of it."""
    monkeypatch.setenv(PACE, "paces")
    hook = connect(rate_limit_wait=1)
    hook.call(*READ)
    with sa.create_engine(f"sqlite:///{database}", poolclass=sa.pool.NullPool).begin() as connection:
        connection.execute(sa.text("UPDATE bitrix24_pace SET backlog = 600"))
    with pytest.raises(Bitrix24RateLimited, match="Not sent: the portal's rate limit"):
        hook.call(*READ)


def test_an_operators_journal_is_shared_too(connect: Any, database: Path, tmp_path: Path) -> None:
    connect()
    operator = PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31, journal_conn_id="paces")
    operator.hook.call(*READ)
    assert len(booked_everywhere(database)) == 1
    PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31).hook.call(*READ)
    assert len(booked_here(tmp_path)) == 1


def test_the_journal_of_all_dags_is_shared_too(
    connect: Any, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BITRIX24__JOURNAL_CONN_ID", "paces")
    connect().call(*READ)
    assert len(booked_everywhere(database)) == 1


def test_hosts_that_share_a_journal_and_no_limit(
    connect: Any, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BITRIX24__JOURNAL_CONN_ID", "paces")
    monkeypatch.setenv(PACE, "off")
    connect()
    Bitrix24Hook(pace_conn_id="paces").call(*READ)
    assert not database.exists()
    assert len(booked_here(tmp_path)) == 1


@pytest.mark.parametrize("conn_id", ["paces", "wrong_kind"])
def test_a_database_that_is_away_stops_no_payment(
    connect: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    conn_id: str,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PACES", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "no" / "db")}))
    monkeypatch.setenv("AIRFLOW_CONN_WRONG_KIND", json.dumps({"conn_type": "http", "host": "acme"}))
    monkeypatch.setenv(PACE, conn_id)
    hook = connect()
    for _ in range(3):
        hook.call(*READ)
    Bitrix24Hook().call(*READ)
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "are paced on this host only, not across all hosts" in warning.message
    assert warning.message.endswith(". They are still sent.")
    assert len(booked_here(tmp_path)) == 1


def test_a_database_that_hangs_stops_no_payment(
    connect: Any, database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(PACE, "paces")
    hook = connect()
    hook.call(*READ)
    monkeypatch.setattr(pacing, "LONGEST", 0.2)
    engine = sa.create_engine(f"sqlite:///{database}", poolclass=sa.pool.NullPool, future=True)
    with engine.connect() as connection:
        connection.execute(sa.text("BEGIN IMMEDIATE"))
        hook.call(*READ)
        connection.rollback()
    assert "the database gave no response within 0.2 s" in caplog.text


def test_a_secrets_backend_that_fails_stops_no_payment(
    connect: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(PACE, "paces")

    def database(*_: Any, **__: Any) -> Any:
        raise ConnectionError("https://user:c4n4rys3cr3tc0de@vault")

    monkeypatch.setattr("airflow_provider_bitrix24.sql.Database.from_connection", database)
    connect().call(*READ)
    assert "its connection cannot be read (ConnectionError)" in caplog.text
    assert "vault" not in caplog.text


@pytest.mark.parametrize(
    "trouble", [Bitrix24StoreError("the database", "it is away"), RuntimeError("the driver lacks a package")]
)
def test_a_database_that_failed_is_left_alone_for_a_while(trouble: Exception) -> None:
    class Row:
        asked = 0

        def reserve(self, command: Reserve) -> Slot:
            self.asked += 1
            raise trouble

    class Host:
        def reserve(self, command: Reserve) -> Slot:
            return Slot(3.0)

    now, row = [0.0], Row()
    pacer = pacing.ClusterPacer(row, Host(), clock=lambda: now[0])  # type: ignore[arg-type]
    asked = []
    for now[0] in (0.0, 1.0, pacing.AWAY_FOR - 1, pacing.AWAY_FOR + 1):
        assert pacer.reserve(Reserve(within=10)) == Slot(3.0)
        asked.append(row.asked)
    assert asked == [1, 1, 1, 2]


# -- working time


@pytest.mark.bitrix24_sandbox(operating_limit=480.0, operating_costs={"crm.deal.get": 2.0})
def test_what_one_task_learns_of_the_working_time_the_next_one_knows(
    bitrix24_sandbox: Any, connect: Any, tmp_path: Path
) -> None:
    for _ in range(3):
        hook = connect(rate_limit="standard")
        hook.call(*READ)
    after = connect(rate_limit="standard").client.working_time
    assert after.cost(["crm.deal.get"]) == pytest.approx(2.0)
    use = after.usages["crm.deal.get"]
    assert use.used(use.at) == pytest.approx(6.0)
    other = bitrix24_sandbox.connection_of(bitrix24_sandbox.add_webhook(user_id=1))
    assert json.loads(other)["password"] != json.loads(bitrix24_sandbox.connection)["password"]
    [kept] = [path for path in tmp_path.rglob("*.json") if path.parent.name.startswith("airflow-provider-bitrix24-")]
    assert kept.stat().st_mode & 0o077 == 0
    assert bitrix24_sandbox.secret not in kept.read_text() + kept.name


@pytest.mark.bitrix24_sandbox(operating_limit=480.0, operating_costs={"crm.deal.get": 2.0})
@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"clock_offset": 0, "methods": {"crm.deal.get": {}}}',
        '{"clock_offset": "x", "methods": {}}',
        *(DAMAGED_METHOD.replace("NUMBER", number) for number in ("NaN", "1e999", "-1e999")),
    ],
)
def test_what_was_damaged_is_learned_again(bitrix24_sandbox: Any, connect: Any, tmp_path: Path, damage: str) -> None:
    connect(rate_limit="standard").call(*READ)
    [kept] = [path for path in tmp_path.rglob("*.json") if path.parent.name.startswith("airflow-provider-bitrix24-")]
    kept.write_text(damage)
    hook = connect(rate_limit="standard")
    hook.call(*READ)
    use = hook.client.working_time.usages["crm.deal.get"]
    assert use.used(use.at) == pytest.approx(4.0)


@pytest.mark.bitrix24_sandbox(operating_limit=480.0, operating_costs={"crm.deal.get": 2.0})
def test_what_a_clock_that_was_far_ahead_has_left_in_the_file_blocks_nothing(
    bitrix24_sandbox: Any, connect: Any, tmp_path: Path
) -> None:
    connect(rate_limit="standard").call(*READ)
    [kept] = [path for path in tmp_path.rglob("*.json") if path.parent.name.startswith("airflow-provider-bitrix24-")]
    year, known = 365 * 86_400, json.loads(kept.read_text())
    use = known["methods"]["crm.deal.get"]
    use["minutes"] = [[minute + year // 60, 480.0] for minute, _ in use["minutes"]]
    use |= {"at": use["at"] + year, "blocked_until": use["at"] + year, "resets_at": use["at"] + year}
    kept.write_text(json.dumps(known))
    hook = connect(rate_limit="standard")
    assert hook.client.out_of_time("crm.deal.get", time.time()) is None
    hook.call(*READ)
    after = connect(rate_limit="standard").client.working_time.usages["crm.deal.get"]
    assert abs(after.at - time.time()) < 3600


@pytest.mark.bitrix24_sandbox(operating_limit=480.0)
def test_the_async_twin_learns_and_tells_too(bitrix24_sandbox: Any, connect: Any) -> None:
    hook = connect(rate_limit="standard")
    asyncio.run(hook.acall(*READ))
    assert "crm.deal.get" in connect(rate_limit="standard").client.working_time.usages


@pytest.mark.bitrix24_sandbox(operating_limit=480.0, operating_costs={"crm.deal.get": 2.0})
@pytest.mark.parametrize("named_by", ["the configuration", "the journal"])
def test_hosts_that_share_a_database_share_what_they_learn_of_the_working_time(
    connect: Any, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    def on_host(name: str) -> Bitrix24Hook:
        (tmp_path / name).mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
        hook = connect(rate_limit="standard")
        return hook if named_by == "the configuration" else Bitrix24Hook(pace_conn_id="paces")

    if named_by == "the configuration":
        monkeypatch.setenv(PACE, "paces")
    hook = on_host("first")
    for _ in range(2):
        hook.call(*READ)
    known = on_host("second").client.working_time
    assert known.cost(["crm.deal.get"]) == pytest.approx(2.0)
    assert known.usages["crm.deal.get"].used(known.usages["crm.deal.get"].at) == pytest.approx(4.0)
    assert known.known_clock_offset is not None
    # A host that was not heard for a while does not hide what the other one has learned since.
    other = on_host("third")
    other.call(*READ)
    hook.call(*READ)
    use = hook.client.working_time.usages["crm.deal.get"]
    assert use.used(use.at) == pytest.approx(8.0)


@pytest.mark.bitrix24_sandbox(operating_limit=480.0)
def test_a_reply_is_not_lost_with_what_cannot_be_shared(connect: Any, database: Path) -> None:
    connect(rate_limit="standard")
    hook = Bitrix24Hook(pace_conn_id="paces")
    hook.call(*READ)
    assert isinstance(hook._working_time, pacing.ClusterWorkingTime)

    def fail(*_: Any) -> Any:
        raise RuntimeError("the driver lacks a package")

    hook._working_time._row.share = fail  # type: ignore[method-assign]
    assert hook.rest.crm_item_payment_add(entity_id=1, entity_type_id=2) > 0


@pytest.mark.bitrix24_sandbox(operating_limit=480.0)
def test_working_time_is_kept_on_the_host_if_the_database_is_unavailable(
    connect: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = {"conn_type": "sqlite", "host": str(tmp_path / "no" / "such.db")}
    monkeypatch.setenv("AIRFLOW_CONN_PACES", json.dumps(nowhere))
    monkeypatch.setenv(PACE, "paces")
    connect(rate_limit="standard").call(*READ)
    assert "crm.deal.get" in connect(rate_limit="standard").client.working_time.usages, "the file of the host knows it"
    assert "paced on this host only" in caplog.text
