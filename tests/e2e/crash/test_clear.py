"""Tasks that have paid are cleared in every way that Airflow has: at most one payment for each key, or a failure.

One real Airflow runs all combinations of way, journal, operator and first outcome. What happened is
read from the portals' ledgers, in this process.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.e2e.crash.clear_dags import CARD, COMBINATIONS, DEALS, JOURNALS, LIMITED, PAID, PAYMENTS, Combination
from tests.e2e.crash.clears import ClearedDag, portal_names
from tests.e2e.crash.runs import ENDED, Run, interrupted
from tests.e2e.crash.stage import TABLE
from tests.tools.local_airflow import LocalAirflow, Processes
from tests.tools.services import Services, airflow_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.airflow

TERMS = {
    "send_deadline": 5,
    "connect_timeout": 3,
    "network_delay": 1,
    "server_time_limit": 3,
    "read_lag": 1,
    "read_timeout": 600,
}
"""Terms of the settle window, and a read timeout that lets a held response stay held."""
AT_ONCE = 5
"""So many DAGs run at the same time: enough to keep the workers busy while others wait."""
FILE = "from airflow.sdk import DAG\nfrom tests.e2e.crash import clear_dags\n\ndag: DAG = clear_dags.{}\n"


class Cleared:
    """All DAGs that were played, and what went wrong while they were."""

    def __init__(self, dags: dict[str, ClearedDag], limited: Run) -> None:
        self._dags = dags
        self._limited = limited
        self.verdicts: dict[Combination, str | BaseException] = {}

    def play(self) -> None:
        """Play all DAGs, some at the same time, and judge each combination."""
        self._limited.until("up_for_reschedule", "up_for_retry", *ENDED)
        self.limited = self._limited.task  # now: the wait may be over before the rest has ended
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="clear") as threads:
            try:
                list(threads.map(self._play, self._dags.values()))
            except KeyboardInterrupt:
                interrupted.set()
                threads.shutdown(cancel_futures=True)
                raise

    def _play(self, dag: ClearedDag) -> None:
        error: BaseException | None = None
        try:
            dag.play()
        except Exception as trouble:  # it is raised in the test of each of its combinations
            error = trouble
        for one in dag.combinations:
            try:
                self.verdicts[one] = error or dag.judge(one)
            except Exception as trouble:
                self.verdicts[one] = trouble

    def table(self) -> list[str]:
        """Return the number of combinations, and for each way to clear how many ended how."""
        what = {one: v if isinstance(v, str) else "NOT GOOD" for one, v in self.verdicts.items()}
        lines = [
            f"Cleared on Airflow {version('apache-airflow-core')}: {len(what)} combinations; {_counts(what.values())}"
        ]
        for way in dict.fromkeys((one.way, one.journal) for one in what):
            ends = [end for one, end in what.items() if (one.way, one.journal) == way]
            lines.append(f"  {way[0]:15} {way[1]:6} {_counts(ends)}")
        return lines


def _counts(ends: object) -> str:
    return ", ".join(f"{number} {end}" for end, number in sorted(Counter(ends).items()))  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def cleared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cleared]:
    """All combinations that were asked for, played."""
    home = tmp_path_factory.mktemp("clear")
    for folder in ("process-logs", "dags"):
        (home / folder).mkdir()
    calls = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    dag_ids = list(dict.fromkeys(call.params["combination"].dag_id for call in calls if call is not None))
    names = write_dags(home / "dags", dag_ids)
    processes = Processes(home / "process-logs")
    services = Services(processes)
    with ExitStack() as servers:
        portals = {
            conn_id: Sandbox(servers.enter_context(SandboxServer(stocked())))
            for conn_id, (dag_id, _) in portal_names().items()
            if dag_id in dag_ids
        }
        portals[LIMITED] = Sandbox(servers.enter_context(SandboxServer(Portal(operating_limit=0.1))))
        try:
            env = {
                **airflow_on(services.postgres("airflow"), "airflow"),
                **{f"AIRFLOW_CONN_{conn_id.upper()}": connection(portal) for conn_id, portal in portals.items()},
                "AIRFLOW_CONN_JOURNAL": json.dumps({"conn_type": "sqlite", "host": str(home / "journal.db")}),
                "PYTHONPATH": str(request.config.rootpath),
            }
            airflow = LocalAirflow(home / "airflow", home / "dags", processes, parallelism=6, env=env)
            with airflow.api:
                airflow.migrate()
                airflow.start()
                airflow.wait_until_ready(names, print)
                of = {
                    dag_id: {outcome: portals[c] for c, (d, outcome) in portal_names().items() if d == dag_id}
                    for dag_id in dag_ids
                }
                limited = Run(airflow, LIMITED, airflow.trigger(LIMITED, {}))
                cleared = Cleared({dag_id: ClearedDag(airflow, dag_id, of[dag_id]) for dag_id in dag_ids}, limited)
                cleared.play()
        finally:
            processes.stop()
            services.remove()
        request.config.stash.setdefault(TABLE, []).extend(cleared.table())
        yield cleared


def stocked() -> Portal:
    """Return a portal that has more deals and payments than a fresh one, as `clear_dags` numbers them."""
    portal = Portal()
    for number in DEALS:
        portal.create("deal", {"id": number, "title": f"Deal {number}"})
    deal = portal.create("deal", {"title": "A deal with many payments"})
    added = [portal.act.add_payment(2, int(deal), pay_system_id=CARD) for _ in PAYMENTS]
    assert added == [*PAYMENTS]
    for number in PAID:
        portal.act.pay_payment(number)
    return portal


def write_dags(folder: Path, dag_ids: list[str]) -> set[str]:
    """Write a file for each DAG; return the ids of all."""
    calls = {
        one.dag_id: f"clear_dag({one.way!r}, {one.journal!r})" for one in COMBINATIONS if one.dag_id in dag_ids
    } | {
        f"starts_trigger_{journal}": f"trigger_dag({journal!r})"
        for journal in JOURNALS
        if f"trigger_{journal}" in dag_ids
    }
    calls[LIMITED] = "limited_dag()"
    for dag_id, call in calls.items():
        (folder / f"{dag_id}.py").write_text(FILE.format(call))
    return set(calls)


def connection(portal: Sandbox) -> str:
    """The connection of a portal, with a short settle window."""
    values = json.loads(portal.connection)
    return json.dumps(values | {"extra": {**values.get("extra", {}), **TERMS}})


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_a_cleared_task_never_pays_twice(cleared: Cleared, combination: Combination) -> None:
    verdict = cleared.verdicts[combination]
    if isinstance(verdict, BaseException):
        raise verdict


def test_a_wait_that_the_portal_asks_for_uses_no_retry_on_airflow_3_4(cleared: Cleared) -> None:
    state = "up_for_reschedule" if AIRFLOW_V_3_4_PLUS else "up_for_retry"
    assert (cleared.limited["state"], cleared.limited["try_number"]) == (state, 1)
