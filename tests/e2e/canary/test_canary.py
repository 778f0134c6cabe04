"""Canaries in the place of all secrets, every code path and every fault, in a real Airflow that says all it can.

Afterwards everything that Airflow, the provider and the sandbox have written or answer is searched for them, in every
form that they may have taken. Words that are no secret went the same ways: where they are not found, nothing was
searched.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.fernet import Fernet, InvalidToken

from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.e2e.security.needles import Needles
from tests.tools.local_airflow import LocalAirflow, Processes

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
CONTROL = "c0ntr0l"
DAGS = [f"{CONTROL}_{name}" for name in ("webhook", "oauth", "oauth_sql", "journals")]
CANARIES = {
    "webhook code": "c4n4ryw3bh00kc0d3",
    "client secret": "c4n4ryc113nts3cr3t",
    "other client secret": "c4n4ry0th3rs3cr3t",
    "token key": "c4n4ryt0k3nk3y/+=1",
    "journal password": "c4n4ryj0urn4lp4ss",
    "password of the journal that is away": "c4n4ry@w4yp4ss&w0rd",
    "wrong code": "c4n4rywr0ngc0d3",
    "password of the token database": "c4n4ryt0k3nd4t4b4s3",
}
# No shorter: the response to a refresh that comes too late is lost, and everything after it fails.
SHORT = {
    "allow_http": True,
    "rate_limit_wait": 0,
    "connect_timeout": 2,
    "send_deadline": 5,
    "network_delay": 0,
    "server_time_limit": 0.3,
    "read_lag": 0.2,
    "portal_id": f"{CONTROL}.portal",
}
MAY_HOLD_SECRETS = ("connection", "variable")
"""Tables whose encrypted columns are where secrets belong."""


@dataclass
class Findings:
    """Where which secrets were found, and where the control word was."""

    needles: Needles
    control: Needles = field(
        default_factory=lambda: Needles(
            {"id": f"{CONTROL}_webhook", "portal": f"{CONTROL}.portal", "application": f"{CONTROL}.oauth"}
        )
    )
    leaks: dict[str, set[str]] = field(default_factory=dict)
    controlled: dict[str, set[str]] = field(default_factory=dict)
    searched: dict[str, int] = field(default_factory=dict)

    def look(self, place: str, hay: bytes | str) -> None:
        """Search one place."""
        self.searched[place] = self.searched.get(place, 0) + len(hay)
        if found := self.needles.found_in(hay):
            self.leaks.setdefault(place, set()).update(found)
        if found := self.control.found_in(hay):
            self.controlled.setdefault(place, set()).update(found)


class World:
    """A real Airflow whose DAGs have all run, and the sandbox that they worked on."""

    def __init__(self, home: Path, server: SandboxServer, processes: Processes) -> None:
        self.home = home
        self.server = server
        self.portal = server.portal
        self.snapshots: list[Path] = []
        key = Fernet.generate_key()
        self.fernet = Fernet(key)
        self.airflow = LocalAirflow(
            home,
            HERE / "dags",
            processes,
            env={
                "PYTHONPATH": str(HERE.parents[2]),
                "PYTHONWARNINGS": "ignore",  # Airflow's own
                "CANARY_SANDBOX": server.url,
                "AIRFLOW__CORE__FERNET_KEY": key.decode(),
                "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
                "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
                "AIRFLOW__LOGGING__FAB_LOGGING_LEVEL": "DEBUG",
                "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "urllib3=DEBUG httpx=DEBUG httpcore=DEBUG asyncio=DEBUG",
            },
        )
        self.runs: dict[str, str] = {}
        self.signed_in: dict[str, int] = {}
        self.codes: list[str] = []

    def connect(self, conn_id: str, **fields: Any) -> None:
        """Make an Airflow connection, as the form in the UI does."""
        body = {"connection_id": conn_id, **fields}
        if "extra" in body:
            body["extra"] = json.dumps(body["extra"])
        self.airflow.api.post("/connections", json=body).raise_for_status()
        if fields["conn_type"] == "bitrix24":
            tested = self.airflow.api.post("/connections/test", json=body).raise_for_status().json()
            assert tested["status"], tested

    def connect_all(self) -> None:
        """All kinds of connections, with a canary wherever one has a secret."""
        for name, password in (("tokens", "password of the token database"), ("journal", "journal password")):
            file = str(self.home / f"{name}.db")
            self.connect(f"{CONTROL}_{name}", conn_type="sqlite", host=file, password=CANARIES[password])
        self.connect(
            f"{CONTROL}_journal_away",
            conn_type="postgres",
            host="127.0.0.1",
            port=1,
            login="airflow",
            password=CANARIES["password of the journal that is away"],
        )
        port = self.server.port
        here = {"conn_type": "bitrix24", "host": "127.0.0.1", "port": port, "schema": "http"}
        code = CANARIES["webhook code"]
        self.connect(f"{CONTROL}_webhook", **here, login="1", password=code, extra=SHORT)
        for name, secret, more in (
            ("oauth", "client secret", {}),
            (
                "oauth_sql",
                "other client secret",
                {"token_conn_id": f"{CONTROL}_tokens", "token_key": CANARIES["token key"]},
            ),
        ):
            application = self.portal.add_application(client_id=f"local.{name}", client_secret=CANARIES[secret])
            pair = self.portal.grant(application)
            tokens = {"access_token": pair.access_token, "refresh_token": pair.refresh_token}
            oauth = {"auth": "oauth", "oauth_url": self.server.url, **tokens, **more}
            self.connect(
                f"{CONTROL}_{name}",
                **here,
                login=application.client_id,
                password=application.client_secret,
                extra=SHORT | oauth | {"portal_id": f"{CONTROL}.{name}"},
            )

    def run_all(self) -> None:
        """Run the DAGs one after another; the database is copied while a trigger waits in each."""
        for dag_id in DAGS:
            run_id = self.runs[dag_id] = self.airflow.trigger(dag_id, {})
            self._wait(lambda dag_id=dag_id, run_id=run_id: self._ended_or_waits(dag_id, run_id))
            self._copy_database(f"while_{dag_id}")
            self.portal.act.pay_payment(1003, by="customer")
            self._wait(lambda dag_id=dag_id, run_id=run_id: self._ended(dag_id, run_id))
            self.portal.act.unpay_payment(1003, by="person")
        self._copy_database("end")

    def sign_in_again(self) -> None:
        """The command, as a person uses it; what it prints is kept for the search. The last refresh was lost."""
        self.portal.faults.clear()
        for name in ("oauth", "oauth_sql"):
            for way in ("wrong", "right"):
                self.signed_in[f"{name} {way}"] = self._sign_in(name, way)
        self._copy_database("signed_in")

    def _sign_in(self, name: str, way: str) -> int:
        command = [sys.executable, "-m", "airflow_provider_bitrix24", "oauth", "--conn-id", f"{CONTROL}_{name}"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, env=self.airflow.env, text=True, **pipes) as process:
            assert process.stdout is not None
            printed = ""
            while "(or the code alone)" not in printed and (line := process.stdout.readline()):
                printed += line
            # Only now: a code lives 30 seconds.
            application = self.portal.oauth.applications[f"local.{name}"]
            code = self.portal.sign_in(application, 1) if way == "right" else CANARIES["wrong code"]
            self.codes.append(code)
            printed += process.communicate(f"https://app.example.com/?code={code}\n", timeout=600)[0]
        (self.home / "printed" / f"sign_in_{name}_{way}.log").write_text(printed)
        return process.returncode

    def _ended(self, dag_id: str, run_id: str) -> bool:
        return self.airflow.run_state(dag_id, run_id) in ("success", "failed")

    def _ended_or_waits(self, dag_id: str, run_id: str) -> bool:
        states = {task["task_id"]: task["state"] for task in self.airflow.tasks(dag_id, run_id)}
        return states.get("waits") == "deferred" or self._ended(dag_id, run_id)

    def _wait(self, condition: Any) -> None:
        hopeless = time.monotonic() + 1200
        while not condition():
            self.airflow.processes.check()
            if time.monotonic() > hopeless:
                raise TimeoutError({dag_id: self.states(dag_id) for dag_id in self.runs})
            time.sleep(0.5)

    def _copy_database(self, name: str) -> None:
        copy = self.home / f"copy_{name}.db"
        with (
            closing(sqlite3.connect(self.home / "airflow.db")) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        self.snapshots.append(copy)

    def states(self, dag_id: str) -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in self.airflow.tasks(dag_id, self.runs[dag_id])}

    def secrets(self) -> dict[str, str]:
        """All canaries, and every token that there ever was."""
        tokens = {f"token {number}": token for number, token in enumerate(self.portal.oauth.secrets())}
        return CANARIES | tokens | {f"code {number}": code for number, code in enumerate(self.codes)}

    # -- what is searched ------------------------------------------------------------------------------------------

    def search(self, findings: Findings) -> None:
        """Search everything."""
        self._search_files(findings)
        for copy in self.snapshots:
            self._search_tables(findings, copy)
        self._search_answers(findings)
        self._search_sandbox(findings)

    def _search_files(self, findings: Findings) -> None:
        for path in sorted(self.home.rglob("*")):
            if path.is_file():
                place = path.relative_to(self.home).as_posix()
                kind = "task log" if place.startswith("logs/dag_id") else place
                findings.look("triggerer's log of a task" if ".trigger." in place else kind, path.read_bytes())

    def _search_tables(self, findings: Findings, copy: Path) -> None:
        with closing(sqlite3.connect(copy)) as database:
            tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
            for table in tables:
                for row in database.execute(f'select * from "{table}"'):
                    findings.look(f"table {table}", repr(row))
                    if table not in MAY_HOLD_SECRETS:
                        for cell in row:
                            findings.look(f"table {table}", self._unsealed(cell))

    def _unsealed(self, cell: object) -> bytes:
        """What Airflow has encrypted, such as the arguments of triggers; nothing otherwise."""
        with suppress(InvalidToken):
            return self.fernet.decrypt(cell) if isinstance(cell, str | bytes) else b""
        return b""

    def _search_answers(self, findings: Findings) -> None:
        """Every address that Airflow's API has to read something, for everything that we have made."""
        root = self.airflow.url
        with httpx.Client(base_url=root, timeout=300, trust_env=False) as client:
            paths = client.get("/openapi.json").raise_for_status().json()["paths"]
            for template, verbs in paths.items():
                if "get" in verbs and "{" not in template:
                    self._answer(findings, client, template, template)
            for dag_id, run_id in self.runs.items():
                for template, verbs in paths.items():
                    if "get" in verbs and "{dag_id}" in template:
                        self._answers_of(findings, client, template, dag_id, run_id)
            for template, names in (
                (
                    "/api/v2/connections/{}",
                    [f"{CONTROL}_{name}" for name in ("webhook", "oauth", "oauth_sql", "journal")],
                ),
                ("/api/v2/variables/{}", self._variables()),
            ):
                for name in names:
                    self._answer(findings, client, template, template.format(name))

    def _variables(self) -> list[str]:
        return [variable["key"] for variable in self.airflow.get("variables", limit=100)["variables"]]

    def _answers_of(self, findings: Findings, client: httpx.Client, template: str, dag_id: str, run_id: str) -> None:
        known = {"dag_id": dag_id, "dag_run_id": run_id, "run_id": run_id, "map_index": "-1"}
        known |= {"task_try_number": "1", "try_number": "1", "version_number": "1"}
        many: dict[str, list[str]] = {"{task_id}": [""], "{xcom_key}": [""]}
        if "{task_id}" in template:
            many["{task_id}"] = list(self.states(dag_id))
        if "{xcom_key}" in template:
            many["{xcom_key}"] = ["return_value", "_link_InvoiceLink", "_link_CrmPaymentLink"]
        for task_id in many["{task_id}"]:
            for xcom_key in many["{xcom_key}"]:
                with suppress(KeyError):  # an address of something that we have not made
                    path = template.format(task_id=task_id, xcom_key=xcom_key, **known)
                    self._answer(findings, client, template, path)

    @staticmethod
    def _answer(findings: Findings, client: httpx.Client, template: str, path: str) -> None:
        with suppress(httpx.ReadTimeout), client.stream("GET", path) as answer:
            if answer.status_code < 500:
                findings.look(f"GET {template}", answer.read())

    def _search_sandbox(self, findings: Findings) -> None:
        with httpx.Client(base_url=self.server.url, timeout=300, trust_env=False) as client:
            for path in (
                "/",
                "/_sandbox/ledger",
                "/_sandbox/requests",
                "/_sandbox/state",
                "/_sandbox/faults",
                "/_sandbox/tokens",
            ):
                findings.look(f"sandbox {path}", client.get(path).raise_for_status().content)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Start Airflow, run all DAGs, and leave both running for the search."""
    home = tmp_path_factory.mktemp("airflow")
    printed = home / "printed"
    printed.mkdir()
    processes = Processes(printed)
    with SandboxServer(Portal(secret=CANARIES["webhook code"])) as server:
        one = World(home, server, processes)
        try:
            one.airflow.migrate()
            one.airflow.start()
            one.airflow.wait_until_ready(set(DAGS), report=lambda text: None)
            one.connect_all()
            one.run_all()
            one.sign_in_again()
            yield one
        finally:
            one.airflow.api.close()
            processes.stop()


@pytest.fixture(scope="module")
def findings(world: World) -> Findings:
    """Search everything for everything."""
    found = Findings(Needles(world.secrets()))
    world.search(found)
    return found


def test_the_paths_were_gone(world: World) -> None:
    """What succeeded did, and what was to fail did: otherwise there was nothing to betray."""
    for dag_id in DAGS[:-1]:
        states = world.states(dag_id)
        assert states["every_fault"] == states["paid"] == states["waits"] == "success", (dag_id, states)
        assert states["refused"] == states["shut_out"] == "failed", (dag_id, states)
    for dag_id in DAGS[1:-1]:
        states = world.states(dag_id)
        assert states["refreshed"] == "success", (dag_id, states)
        assert states["refresh_2"] == states["refresh_6"] == "failed", (dag_id, states)
    assert world.signed_in == {"oauth wrong": 1, "oauth right": 0, "oauth_sql wrong": 1, "oauth_sql right": 0}
    states = world.states(DAGS[0])
    assert states["moved"] == states["unknown"] == "failed", states
    assert world.states(DAGS[-1]) == {"journal": "success", "journal_away": "failed"}
    refreshed = [entry for entry in world.portal.tokens_log if entry["event"] == "refreshed"]
    assert {entry["client_id"] for entry in refreshed} == {"local.oauth", "local.oauth_sql"}
    assert {"refused"} <= {entry["event"] for entry in world.portal.tokens_log}


def test_no_secret_is_anywhere(findings: Findings) -> None:
    assert findings.leaks == {}


@pytest.mark.parametrize(
    "place",
    [
        "task log",
        "triggerer's log of a task",
        "printed/scheduler.log",
        "printed/triggerer.log",
        "printed/api-server.log",
        "printed/sign_in_oauth_wrong.log",
        "printed/sign_in_oauth_right.log",
        "airflow.db",
        "journal.db",
        "tokens.db",
        "table trigger",
        "table xcom",
        "table rendered_task_instance_fields",
        "table task_state_store",
        "table variable",
        "table log",
        "GET /api/v2/eventLogs",
        "GET /api/v2/connections",
        "GET /api/v2/connections/{}",
        "GET /api/v2/variables/{}",
        "sandbox /_sandbox/requests",
        "sandbox /_sandbox/tokens",
    ],
)
def test_the_search_was_there(findings: Findings, place: str) -> None:
    """Each of these places was read."""
    assert findings.searched.get(place, 0) > 100, sorted(findings.searched)


@pytest.mark.parametrize(
    ("place", "word"),
    [
        ("task log", "id"),
        ("task log", "portal"),
        ("triggerer's log of a task", "id"),
        ("printed/scheduler.log", "portal"),
        ("printed/sign_in_oauth_right.log", "application"),
        ("airflow.db", "portal"),
        ("journal.db", "portal"),
        ("table trigger", "id"),
        ("table xcom", "portal"),
        ("table rendered_task_instance_fields", "id"),
        ("table task_state_store", "portal"),
        ("GET /api/v2/connections", "id"),
    ],
)
def test_a_leak_would_be_found(findings: Findings, place: str, word: str) -> None:
    """Words that are no secret went the same ways, by the same connection, and the same search has found them."""
    assert word in findings.controlled.get(place, ()), findings.controlled
