"""`make demo`: a sandbox portal, a real Airflow and the example DAGs; at the end, receipts beside the portal's ledger.

The ledger is the portal's own account of what happened. The demo fails unless every receipt is found there, once, with
the same amount, and nothing else is.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import shlex
import shutil
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from finance_tables import FINANCE_TABLES
from local_airflow import LocalAirflow, Processes, proportional_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).resolve().parents[2]
OWN_DAGS = Path(sys.prefix) / "airflow" / "dags"
"""Where the README saves a DAG; it is shown beside the examples."""
CUSTOMER_PAYS_AFTER = 12  # seconds
OPEN_ITEMS = [
    ("1", "800.00", "EUR"),  # paid already
    ("3", "249.90", "EUR"),
    ("7", "120.00", "EUR"),
    ("8", "75.50", "EUR"),
    ("13", "900.00", "USD"),
]
STATEMENT = [
    ("2026-11-20", "Payment no. 1003, thank you", "990.00", "EUR"),
    ("2026-11-20", "Rent of the office", "-2400.00", "EUR"),
]
OPEN_ROWS = [(9, "1999.99", "EUR"), (10, "310.00", "EUR")]
RUNS: dict[str, dict[str, Any]] = {
    "pay_invoice_by_hand": {"invoice_id": 2, "expected_amount": "1500.00"},
    "nightly_finance_sync": {},
    "nightly_finance_sync_sql": {},
    "deal_payment_until_paid": {"deal_id": 1},
    "bank_statement": {},
}
WATCHING = "release_order_when_paid"
"""Nobody triggers this one: a payment does."""
NOT_GOOD = "NOT AS IT SHOULD BE: see the logs in .demo, those of Airflow's own processes in .demo/process-logs"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Row = tuple[str, str, str]


def bundles() -> str:
    """Return Airflow's configuration of the folders with DAGs: the examples, and those of the user."""
    OWN_DAGS.mkdir(parents=True, exist_ok=True)
    folders = {"dags-folder": {}, "own": {"path": str(OWN_DAGS)}}
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return json.dumps([{"name": name, "classpath": local, "kwargs": kwargs} for name, kwargs in folders.items()])


class Clock:
    """Lines on the terminal, each with the seconds since the start."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line."""
        print(f"{time.monotonic() - self.start:6.1f} s  {text}", flush=True)


class MemoryWatch(threading.Thread):
    """Remembers the most memory that the processes held together."""

    def __init__(self, processes: Processes) -> None:
        super().__init__(daemon=True)
        self.processes = processes
        self.peak: int | None = None

    def run(self) -> None:
        """Look every two seconds."""
        while True:
            now = proportional_memory(self.processes.family())
            self.peak = max(now or 0, self.peak or 0) or None
            time.sleep(2)


class SandboxPortal:
    """The sandbox as a process of its own, as anybody would start it."""

    def __init__(self, processes: Processes, env: dict[str, str]) -> None:
        command = [sys.executable, "-u", "-m", "airflow_provider_bitrix24", "sandbox"]
        command += ["--port", "0", "--customers-pay-after", str(CUSTOMER_PAYS_AFTER)]
        log = processes.start("sandbox", command, env)
        self.connection = self._printed_connection(log, processes)
        values = json.loads(self.connection)
        self.url = f"{values['schema']}://{values['host']}:{values['port']}"

    @staticmethod
    def _printed_connection(log: Path, processes: Processes) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            processes.check()
            for line in log.read_text(errors="replace").splitlines():
                if "AIRFLOW_CONN_BITRIX24_DEFAULT=" in line:
                    return shlex.split(line)[1].partition("=")[2]
            time.sleep(0.1)
        raise TimeoutError(f"the sandbox printed no connection; see {log}")

    def ledger(self) -> list[dict[str, Any]]:
        """Return what has happened on the portal."""
        return self._told("ledger", "entries")

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests that the portal got."""
        return self._told("requests", "requests")

    def _told(self, page: str, key: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/_sandbox/{page}", trust_env=False, timeout=300).raise_for_status()
        return list(answer.json()[key])


def write_csv(path: Path, header: str, rows: list[tuple[str, ...]]) -> None:
    """Write the file that finance would drop."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)


def create_database(file: Path) -> None:
    """Create the database of finance, with open items in it."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.executescript(FINANCE_TABLES)
        database.executemany("INSERT INTO open_items VALUES (?, ?, ?)", OPEN_ROWS)


def start_watching(airflow: LocalAirflow, portal: SandboxPortal, say: Callable[[str], None]) -> None:
    """Unpause the DAG that payments start, and wait for its watcher: it reports what is paid from then on."""
    airflow.unpause(WATCHING)
    wait_for(airflow, lambda: any(request["method"] == "sale.payment.list" for request in portal.requests()))
    say(f"{WATCHING}: its watcher reads in the triggerer what is paid")


def follow_releases(airflow: LocalAirflow, portal: SandboxPortal, say: Callable[[str], None]) -> None:
    """Wait until the orders of all payments have been released; print what each run returned."""
    paid = {entry["payment_id"] for entry in portal.ledger() if entry["event"] == "payment_paid"}
    seen: dict[str, str] = {}

    def all_are_released() -> bool:
        for run in airflow.get(f"dags/{WATCHING}/dagRuns", limit=100)["dag_runs"]:
            if run["state"] == "success" and run["dag_run_id"] not in seen:
                tasks = airflow.tasks(WATCHING, run["dag_run_id"])
                texts = [
                    airflow.result(WATCHING, run["dag_run_id"], t) for t in tasks if t["task_id"] == "release_order"
                ]
                seen[run["dag_run_id"]] = " ".join(map(str, texts))
                for text in texts:
                    say(f"{WATCHING}: {text}")
        return all(f"payment {number} of" in " ".join(seen.values()) for number in paid)

    wait_for(airflow, all_are_released)


def wait_for(airflow: LocalAirflow, came: Callable[[], bool], timeout: float = 300) -> None:
    """Wait for what has to come, as long as all processes run."""
    deadline = time.monotonic() + timeout
    while not came():
        airflow.processes.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{WATCHING} has not done its part after {timeout:.0f} s")
        time.sleep(1)


def follow(
    airflow: LocalAirflow, runs: dict[str, str], say: Callable[[str], None], timeout: float = 300
) -> dict[str, str]:
    """Print every change of a task until all runs have ended; return the runs' states."""
    seen: dict[tuple[str, str, int], str] = {}
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        airflow.processes.check()
        states = {dag_id: airflow.run_state(dag_id, run_id) for dag_id, run_id in runs.items()}
        for dag_id, run_id in runs.items():
            for task in airflow.tasks(dag_id, run_id):
                key, state = (dag_id, task["task_id"], task["map_index"]), task["state"]
                if state in ("deferred", "success", "failed", "skipped", "up_for_retry") and seen.get(key) != state:
                    index = f"[{task['rendered_map_index'] or task['map_index']}]" if task["map_index"] >= 0 else ""
                    waiting = " (waits in the triggerer, for the customer)" if state == "deferred" else ""
                    say(f"{dag_id}.{task['task_id']}{index}: {state}{waiting}")
                    seen[key] = state
        if all(state in ("success", "failed") for state in states.values()):
            return states
        time.sleep(1)
    raise TimeoutError(f"the runs have not ended after {timeout:.0f} s: {states}")


def receipts_of(airflow: LocalAirflow, dag_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Return what the operators and the sensor returned, as Airflow's API tells it, also in runs of the schedule.

    What was there already comes last: another run may have paid it.
    """
    receipts: list[dict[str, Any]] = []
    for dag_id in dag_ids:
        for run in airflow.get(f"dags/{dag_id}/dagRuns", limit=100)["dag_runs"]:
            for task in airflow.tasks(dag_id, run["dag_run_id"]):
                if task["task_id"] in ("pay_invoice", "pay_invoices", "add_payment", "wait_until_paid", "mark_as_paid"):
                    value = airflow.result(dag_id, run["dag_run_id"], task)
                    receipts += [] if value is None else _receipts_in(value)
    return sorted(receipts, key=lambda receipt: claim(receipt)[2] == "nothing")


def _receipts_in(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the receipt of one payment, or those of a list, which are in the summary or in a file."""
    if "receipts_path" in value:
        lines = Path(value["receipts_path"]).read_text().splitlines()
        yield from (line["receipt"] for line in map(json.loads, lines) if "receipt" in line)
    else:
        yield from value.get("receipts", [value])


def claim(receipt: dict[str, Any]) -> Row:
    """Return object, amount and the ledger's word for what a receipt says; the sensor's has no outcome."""
    subject = f"invoice {receipt['invoice_id']}" if "invoice_id" in receipt else f"payment {receipt['payment_id']}"
    kind = subject.split()[0]
    words = {
        "paid": f"{kind}_paid by rest",
        "created": "payment_added by rest",
        "already_paid": "nothing",
        "existing": "nothing",
        None: "payment_paid by customer",
    }
    return subject, f"{receipt['amount']} {receipt['currency']}", words[receipt.get("outcome")]


def books(ledger: list[dict[str, Any]]) -> list[Row]:
    """Return the ledger's entries about payments made, added or taken back, in the form of `claim`."""
    final_sum = {entry["payment_id"]: entry["amount"] for entry in ledger if entry["payment_id"] is not None}
    rows = []
    for entry in ledger:
        kind, _, happened = entry["event"].partition("_")
        if kind not in ("invoice", "payment") or happened in ("updated", "changed"):
            continue
        # An added payment is empty: its sum is what it came to when its products were in it.
        amount = final_sum[entry["payment_id"]] if happened == "added" else entry["amount"]
        rows.append(
            (f"{kind} {entry[f'{kind}_id']}", f"{amount} {entry['currency']}", f"{entry['event']} by {entry['by']}")
        )
    return rows


def table(receipts: list[dict[str, Any]], ledger: list[dict[str, Any]]) -> bool:
    """Print receipts beside ledger; return whether they agree in every line."""
    unexplained = books(ledger)
    lines: list[tuple[str, ...]] = [("", "task's receipt", "", "", "portal's ledger", "")]
    for receipt in receipts:
        subject, amount, word = wanted = claim(receipt)
        said = receipt.get("outcome", "seen paid")
        if word == "nothing":
            agree = not any(row[0] == subject for row in unexplained)
            lines.append(
                ("ok" if agree else "WRONG", subject, amount, said, "no other entry" if agree else "another entry", "")
            )
        elif wanted in unexplained:
            unexplained.remove(wanted)
            lines.append(("ok", subject, amount, said, word, amount))
        else:
            lines.append(("WRONG", subject, amount, said, "not on the portal like this", ""))
    lines += [("WRONG", "no receipt", "", "", f"{subject}: {word}", amount) for subject, amount, word in unexplained]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    print()
    for line in lines:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(flush=True)
    return bool(receipts) and not any(line[0] == "WRONG" for line in lines)


def run(home: Path, keep: bool) -> int:
    """Play the whole story; return the exit code."""
    clock = Clock()
    shutil.rmtree(home, ignore_errors=True)
    finance = home / "finance"
    logs = home / "process-logs"
    for folder in (finance, logs):
        folder.mkdir(parents=True)
    write_csv(finance / "open_items.csv", "invoice_id,amount,currency", list(OPEN_ITEMS))
    create_database(finance / "finance.db")
    write_csv(finance / "bank_statement.csv", "booked_on,purpose,amount,currency", list(STATEMENT))

    processes = Processes(logs)
    watch = MemoryWatch(processes)
    try:
        airflow = LocalAirflow(
            home / "airflow",
            ROOT / "dags_examples",
            processes,
            env={
                "AIRFLOW_VAR_FINANCE_FOLDER": str(finance),
                "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": bundles(),
                "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
                "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",  # the Test button in the list of connections
                # Else no asset event starts a run. The nightly DAGs may have one run more, by their schedule.
                "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
            },
        )
        portal = SandboxPortal(processes, airflow.env)
        clock.say(f"the sandbox portal is up: {portal.url}")
        airflow.migrate()
        clock.say("Airflow's database is ready")
        airflow.start()
        watch.start()
        airflow.wait_until_ready({*RUNS, WATCHING}, clock.say)
        clock.say(f"Airflow is up: {airflow.url}")
        # In the database and not in the environment: so that the UI lists them, and can test them.
        airflow.add_connection("bitrix24_default", json.loads(portal.connection), "the sandbox portal of this demo")
        journal = {"conn_type": "sqlite", "host": str(home / "journal.db")}
        airflow.add_connection("payments_journal", journal, "the SQL journal of this demo")
        database = {"conn_type": "sqlite", "host": str(finance / "finance.db")}
        airflow.add_connection("finance_db", database, "the database of finance in this demo")
        start_watching(airflow, portal, clock.say)
        runs = {dag_id: airflow.trigger(dag_id, conf) for dag_id, conf in RUNS.items()}
        for dag_id, conf in RUNS.items():
            clock.say(f"{dag_id}: triggered through Airflow's API{f' with {conf}' if conf else ''}")
        states = follow(airflow, runs, clock.say)
        follow_releases(airflow, portal, clock.say)
        receipts = receipts_of(airflow, runs)
        agree = table(receipts, portal.ledger())
        good = agree and set(states.values()) == {"success"}
        explain(airflow, runs, states)
        finish(clock, watch, good)
        if keep:
            stay(airflow, portal)
        return 0 if good else 1
    finally:
        ignore_signals()
        with contextlib.suppress(OSError):  # perhaps nobody reads any more
            clock.say("stopping Airflow and the sandbox")
        processes.stop()
        with contextlib.suppress(OSError):
            clock.say("stopped; nothing is left running")


def explain(airflow: LocalAirflow, runs: dict[str, str], states: dict[str, str]) -> None:
    """Print the end of the log of every failed task."""
    for dag_id, state in states.items():
        if state != "success":
            for task in airflow.tasks(dag_id, runs[dag_id]):
                if task["state"] == "failed":
                    print(
                        f"--- {dag_id}.{task['task_id']} ---\n{airflow.log(dag_id, runs[dag_id], task)}\n", flush=True
                    )


def finish(clock: Clock, watch: MemoryWatch, good: bool) -> None:
    """Say how it went, how long it took, and what it needed."""
    memory = "not measured on this system" if watch.peak is None else f"{watch.peak / 2**30:.2f} GiB at most"
    clock.say(f"memory of all processes together (PSS): {memory}")
    clock.say("every receipt is on the portal, once, and nothing else is" if good else NOT_GOOD)


def stay(airflow: LocalAirflow, portal: SandboxPortal) -> None:
    """Keep everything running until Ctrl-C."""
    print(
        f"\n  Airflow UI       {airflow.url}\n  Connections      {airflow.url}/connections (with a Test button)\n"
        f"  Sandbox portal   {portal.url}\n  Your own DAGs    {OWN_DAGS}\n\n  Ctrl-C stops both.\n",
        flush=True,
    )
    while True:
        airflow.processes.check()
        time.sleep(2)


def end_once(number: int, _: object) -> None:
    """Interrupt on the first signal, and let no further one interrupt the clearing up."""
    ignore_signals()
    raise KeyboardInterrupt(number)


def ignore_signals() -> None:
    """Let Ctrl-C and its like do nothing from now on."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    """Read the command line; end like a well-behaved program on Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keep", action="store_true", help="leave Airflow and the portal running until Ctrl-C")
    parser.add_argument("--home", type=Path, default=ROOT / ".demo", help="folder for everything, emptied at the start")
    options = parser.parse_args()
    for number in ENDING:
        signal.signal(number, end_once)
    try:
        return run(options.home.resolve(), options.keep)
    except KeyboardInterrupt:
        return 0 if options.keep else 130


if __name__ == "__main__":
    sys.exit(main())
