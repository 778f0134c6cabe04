"""Task state from outside, over HTTP: what answers is not always Airflow. With a real one, see `test_asking.py`."""

from __future__ import annotations

import gc
import json
import threading
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.__main__ import main
from airflow_provider_bitrix24.at_most_once.record import Decision, Record, Send
from airflow_provider_bitrix24.exceptions import Bitrix24StoreError
from airflow_provider_bitrix24.journal.airflow_api import AirflowApi
from airflow_provider_bitrix24.journal.task_state import CHUNK, DECISIONS, DOCUMENT
from airflow_provider_bitrix24.journal.terminal import TaskName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.libraries

TASK = TaskName("my_dag", "manual__1", "pay")
ENTRY = Record(
    key="acme:order 17",
    portal="acme",
    operation="add_crm_payment",
    subject="deal 4",
    parameters={"entity_id": 4},
    task="task",
    sends=(Send(at=1.0, settle_until=157.0, by="task:try:1", result="pending"),),
)


class Airflow:
    """As much of Airflow's API as the command line uses, for one run of two tasks."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.state = "failed"
        self.odd: tuple[int, str] | None = None
        self.after_put: Callable[[], None] = lambda: None
        self.url = ""

    def answer(self, method: str, path: str, body: Any) -> tuple[int, str]:
        if self.odd is not None:
            return self.odd
        name = path.partition("/state-store/")[2]
        if not name and path.endswith("/taskInstances"):
            found = [{"task_id": task, "map_index": -1} for task in ("pay", "wait")]
            return 200, json.dumps({"task_instances": found})
        if not name:
            return 200, json.dumps({"state": self.state})
        if method == "PUT":
            assert body["expires_at"] is None
            self.values[name] = body["value"]
            self.after_put()
            return 204, ""
        if "/pay/" not in path or name not in self.values:
            return 404, '{"detail": "not found"}'
        return 200, json.dumps({"value": self.values[name]})


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Airflow]:
    scripted = Airflow()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # it keeps connections open

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text = scripted.answer(self.command, self.path.partition("?")[0], json.loads(body or b"null"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_PUT = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        scripted.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("AIRFLOW_URL", scripted.url)
        yield scripted
        server.shutdown()
        thread.join()


def cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["journal", *arguments, "--dag", "my_dag", "--run", "manual__1"])
    printed = capsys.readouterr()
    return code, printed.out, " ".join(printed.err.split())


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ((200, "<html>Sign in</html>"), "no JSON in answer to GET"),
        ((500, "{}"), "HTTP 500 to GET /dags/my_dag/dagRuns/manual__1/taskInstances"),
        ((401, "{}"), "AIRFLOW_API_TOKEN"),
        ((403, "{}"), "does not let us in (HTTP 403)"),
        ((404, "{}"), "does not know /dags/my_dag"),
    ],
)
def test_what_does_not_answer_as_airflow_does_is_named(
    airflow: Airflow, capsys: pytest.CaptureFixture[str], odd: tuple[int, str], why: str
) -> None:
    airflow.odd = odd
    code, printed, told = cli(capsys, "list")
    assert (code, printed) == (1, "")
    assert why in told
    assert airflow.url in told


@pytest.mark.parametrize("named_by", ["option", "variable", "configuration"])
def test_an_airflow_that_is_away_is_named_with_its_address(
    airflow: Airflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    url = "http://127.0.0.1:9"
    if named_by == "option":
        code, _, told = cli(capsys, "list", "--airflow-url", url)
    elif named_by == "variable":
        monkeypatch.setenv("AIRFLOW_URL", url)
        code, _, told = cli(capsys, "list")
    else:
        monkeypatch.delenv("AIRFLOW_URL")
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", url)
        code, _, told = cli(capsys, "list")
    assert code == 1
    assert f"Airflow's API at {url} cannot be used now: ConnectError" in told
    assert "--airflow-url or in the environment variable AIRFLOW_URL" in told


def test_a_decision_goes_beside_the_document(airflow: Airflow, capsys: pytest.CaptureFixture[str]) -> None:
    airflow.values[DOCUMENT] = ENTRY.document()
    for what, by in (("--send-again", "Ada"), ("--abandon", "Bob")):
        assert cli(capsys, "resolve", "acme:order 17", what, "--by", by, "--yes")[0] == 0
    assert airflow.values[DOCUMENT] == ENTRY.document()
    assert [(one["what"], one["by"]) for one in airflow.values[DECISIONS]] == [
        ("send_again", "Ada"),
        ("abandon", "Bob"),
    ]
    code, printed, _ = cli(capsys, "show", "order 17", "--task", "pay")
    assert code == 0
    assert "state       decision_pending" in printed
    assert "not carried out: Bob has decided again" in " ".join(printed.split())


@pytest.mark.parametrize("command", [["list"], ["resolve", "--abandon", "--yes"]])
def test_a_task_that_the_run_has_not_is_named(
    airflow: Airflow, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    code, printed, told = cli(capsys, *command, "--task", "pya")
    assert (code, printed) == (1, "")
    assert "has no task 'pya'." in told


@pytest.mark.parametrize("state", ["running", "queued", "scheduled", "up_for_retry", "awaiting_input", "failed"])
def test_a_task_that_is_not_over_may_decide_first(
    airflow: Airflow, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    airflow.values[DOCUMENT] = ENTRY.document()
    airflow.state = state
    code, printed, _ = cli(capsys, "resolve", "--task", "pay", "--send-again", "--yes")
    assert code == 0
    warned = f"The task is {state}: an attempt that has begun already does not see the decision"
    assert (warned in " ".join(printed.split())) == (state != "failed")
    assert [decision["key"] for decision in airflow.values[DECISIONS]] == [ENTRY.key]


def test_two_people_who_decide_at_one_moment(airflow: Airflow) -> None:
    airflow.values[DOCUMENT] = ENTRY.document()
    decision = Decision(what="abandon", by="Ada", at="2026-11-22T10:00:00.000+00:00", through="command line")

    def the_other_one_was_a_little_later() -> None:
        airflow.values[DECISIONS] = [replace(decision, by="Bob").document()]

    airflow.after_put = the_other_one_was_a_little_later
    with pytest.raises(Bitrix24StoreError, match="somebody else has decided at this very moment"):
        AirflowApi(airflow.url, None).decide(TASK, decision)


def test_what_changes_while_a_person_thinks_is_told(
    airflow: Airflow, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow.values[DOCUMENT] = ENTRY.document()

    class Thinking:
        def readline(self) -> str:
            airflow.values[DOCUMENT] = ENTRY.absent().document()
            return "y\n"

    monkeypatch.setattr("sys.stdin", Thinking())
    code, _, told = cli(capsys, "resolve", "--task", "pay", "--send-again")
    assert code == 1
    assert "Somebody has written to 'acme:order 17' in the meantime. Nothing was changed" in told
    assert DECISIONS not in airflow.values


@pytest.mark.parametrize(
    ("name", "damage", "key"),
    [(DOCUMENT, {"v": 2}, "DAG my_dag, run manual__1, task pay"), (DECISIONS, [{"what": "burn"}], "acme:order 17")],
)
def test_a_damaged_document_is_listed_as_such(
    airflow: Airflow, capsys: pytest.CaptureFixture[str], name: str, damage: Any, key: str
) -> None:
    airflow.values = {DOCUMENT: ENTRY.document(), name: damage}
    code, printed, told = cli(capsys, "list")
    assert code == 1
    assert f"  {key}" in printed.splitlines()
    assert printed.startswith("corrupt")
    assert told == "1 of them cannot be read."


def test_the_records_of_a_list_are_shown_one_by_one(airflow: Airflow, capsys: pytest.CaptureFixture[str]) -> None:
    records = {key: replace(ENTRY, key=key) for key in ("acme:a", "acme:b", "acme:c")}
    documents = {key: record.document() for key, record in records.items()}
    airflow.values[CHUNK.format(1)] = {"records": {key: documents[key] for key in ("acme:a", "acme:b")}}
    airflow.values[CHUNK.format(2)] = {"records": {"acme:c": documents["acme:c"]}}
    code, printed, _ = cli(capsys, "list")
    assert (code, printed.count("unknown"), printed.splitlines()[-1]) == (0, 3, "3 keys")
    assert cli(capsys, "resolve", "acme:b", "--send-again", "--by", "Ada", "--yes")[0] == 0
    assert [(one["key"], one["by"]) for one in airflow.values[DECISIONS]] == [("acme:b", "Ada")]
    states = {one["key"]: one["state"] for one in json.loads(cli(capsys, "list", "--json")[1])}
    assert states == {"acme:a": "unknown", "acme:b": "decision_pending", "acme:c": "unknown"}
    airflow.values[CHUNK.format(2)] = ["damaged"]
    code, printed, told = cli(capsys, "list")
    assert (code, printed.count("corrupt"), told) == (1, 1, "1 of them cannot be read.")
    airflow.values[CHUNK.format(2)] = {"records": {"acme:c": {"v": 2}}}
    assert "  acme:c" in cli(capsys, "list")[1].splitlines()


def test_no_connection_stays_open(airflow: Airflow) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        AirflowApi(airflow.url, None).state(TASK)
        gc.collect()
    assert [str(one.message) for one in caught if one.category is ResourceWarning] == []
