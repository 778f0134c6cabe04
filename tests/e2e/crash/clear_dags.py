"""The DAGs of the clear cases: one for each way to clear and journal, with a task for each operator and outcome.

Imported by Airflow's processes (a file of two lines for each DAG) and by the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, task_group

from airflow_provider_bitrix24.operators.payments import (
    AddCrmPaymentOperator,
    PayCrmPaymentOperator,
    PayInvoiceOperator,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

ADD: Final = "crm.item.payment.add"
SMART_INVOICE: Final = 31
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The logical date of runs that have one."""
LIMITED: Final = "limited"
"""The DAG and connection of a portal with a small limit of operating time."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An operator with its arguments, and the objects of a fresh sandbox that it works on."""

    operator: Any
    method: str
    event: str
    argument: str
    objects: Sequence[int]
    more: Mapping[str, Any] = field(default_factory=dict)


SUBJECTS: Final = {
    "invoice": Subject(
        operator=PayInvoiceOperator,
        method="sale.paysystem.pay.invoice",
        event="invoice_paid",
        argument="invoice_id",
        objects=(2, 3),
        more={"pay_system_id": 31},
    ),
    "payment": Subject(
        operator=PayCrmPaymentOperator,
        method="crm.item.payment.pay",
        event="payment_paid",
        argument="payment_id",
        objects=(1003, 1001),
    ),
    "add": Subject(
        operator=AddCrmPaymentOperator,
        method=ADD,
        event="payment_added",
        argument="entity_id",
        objects=(3, 4),
    ),
    "tag": Subject(
        operator=AddCrmPaymentOperator,
        method=ADD,
        event="payment_added",
        argument="entity_id",
        objects=(101, 102),
        more={"entity_type_id": SMART_INVOICE, "tag": True},
    ),
    "fill": Subject(
        operator=AddCrmPaymentOperator,
        method=ADD,
        event="payment_added",
        argument="entity_id",
        objects=(1, 2),
        more={"fill_products": True},
    ),
}
OUTCOMES: Final = ("succeeded", "unknown")
"""What the first attempt ends with: a receipt, or killed after the portal executed the call."""
JOURNALS: Final = {"state": {}, "sql": {"journal_conn_id": "journal"}}
"""Airflow 3.3 and newer always have a task state, so there is no case without any journal."""
LOOPS: Final = ("loop_iteration", "loop_run") if AIRFLOW_V_3_4_PLUS else ()
"""Ways to clear tasks of a loop: one iteration, or the whole run."""
WAYS: Final = (
    "task",
    *(("task_kept",) if AIRFLOW_V_3_4_PLUS else ()),
    "mapped_index",
    "upstream",
    "downstream",
    "run",
    "command",
    "trigger",
    "backfill",
    *LOOPS,
)


@dataclass(frozen=True)
class Combination:
    """One way to clear one operator's task, with one journal, after one outcome."""

    way: str
    journal: str
    subject: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.way}-{self.journal}-{self.subject}-{self.outcome}"

    @property
    def dag_id(self) -> str:
        """The DAG, which has the combinations of one way and journal."""
        return f"{self.way}_{self.journal}"

    @property
    def task_id(self) -> str:
        """The task."""
        return f"{self.subject}_{self.outcome}"

    @property
    def connection(self) -> str:
        """The connection: a portal for each DAG and outcome."""
        return connection_id(self.dag_id, self.outcome)

    @property
    def objects(self) -> Sequence[int]:
        """The objects, one for each map index or iteration. A loop adds its payments to one deal, one after another."""
        objects = SUBJECTS[self.subject].objects
        if self.way in LOOPS:
            return objects[:1] * 2 if self.subject in ("add", "tag") else objects
        return objects if self.way == "mapped_index" else objects[:1]


def connection_id(dag_id: str, outcome: str) -> str:
    """Return the id of the connection that tasks with this outcome use."""
    return f"{dag_id}_{outcome}"


COMBINATIONS: Final = [Combination(*parts) for parts in product(WAYS, JOURNALS, SUBJECTS, OUTCOMES)]


def clear_dag(way: str, journal: str) -> DAG:
    """Return the DAG of one way to clear and one journal."""
    combinations = [one for one in COMBINATIONS if (one.way, one.journal) == (way, journal)]
    schedule = "@daily" if way == "backfill" else None
    with DAG(combinations[0].dag_id, schedule=schedule, start_date=START, default_args={"retries": 0}) as dag:
        before = EmptyOperator(task_id="before")
        after = EmptyOperator(task_id="after", trigger_rule="all_done")
        for combination in combinations:
            before >> _paying(combination) >> after
    return dag


def trigger_dag(journal: str) -> DAG:
    """Return the DAG that triggers one and the same run of another each time it runs."""
    with DAG(f"starts_trigger_{journal}", schedule=None, default_args={"retries": 0}) as dag:
        TriggerDagRunOperator(
            task_id="trigger", trigger_dag_id=f"trigger_{journal}", trigger_run_id="the_run", reset_dag_run=True
        )
    return dag


class ReadsTwice(PayInvoiceOperator):
    """It only reads, and so often that the portal asks it to come back later."""

    def execute(self, context: Context) -> Any:
        """Read the same list twice."""
        for _ in range(2):
            self.hook.call("crm.invoice.list")


def limited_dag() -> DAG:
    """Return a DAG whose task the portal asks to come back later."""
    with DAG(LIMITED, schedule=None, default_args={"retries": 1, "retry_delay": timedelta(seconds=1)}) as dag:
        ReadsTwice(task_id="task", bitrix24_conn_id=LIMITED, invoice_id=2, pay_system_id=31)
    return dag


def _paying(combination: Combination) -> Any:
    subject = SUBJECTS[combination.subject]
    arguments = {
        "task_id": combination.task_id,
        "bitrix24_conn_id": combination.connection,
        **subject.more,
        **JOURNALS[combination.journal],
        **({"allow_backfill": True} if combination.way == "backfill" else {}),
    }
    if combination.way == "mapped_index":
        return subject.operator.partial(**arguments).expand(**{subject.argument: list(combination.objects)})
    if combination.way not in LOOPS:
        return subject.operator(**arguments, **{subject.argument: combination.objects[0]})

    @task_group(group_id=f"loop_{combination.task_id}", prefix_group_id=False)
    def body() -> None:
        arguments[subject.argument] = f"{{{{ {list(combination.objects)}[loop.index] }}}}"
        subject.operator(**arguments)

    return body.loop(max_iterations=len(combination.objects))  # type: ignore[attr-defined]
