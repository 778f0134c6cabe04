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

from airflow_provider_bitrix24.operators.payment_changes import (
    DeleteCrmPaymentOperator,
    PayPaymentOperator,
    UnpayCrmPaymentOperator,
)
from airflow_provider_bitrix24.operators.payment_lists import (
    AddCrmPaymentsOperator,
    PayCrmPaymentsOperator,
    PayInvoicesOperator,
)
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
OUTCOMES: Final = ("succeeded", "unknown")
"""What the first attempt ends with: a receipt, or killed after the portal executed the call."""
SUCCEEDED: Final = OUTCOMES[:1]
CARD: Final = 8
"""A pay system with a REST handler."""
DEALS: Final = range(51, 55)
PAYMENTS: Final = range(1033, 1043)
"""What the portals have beside the objects of a fresh sandbox: empty deals, and unpaid payments by card."""
PAID: Final = PAYMENTS[:2]
"""Those of the payments that are paid."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An operator with its arguments, and the objects that it works on.

    An operator that works on a list has tuples of objects.
    """

    operator: Any
    method: str
    event: str
    argument: str
    objects: Sequence[int] | Sequence[tuple[int, ...]]
    more: Mapping[str, Any] = field(default_factory=dict)
    named: str = ""
    """How the ledger names an object, if not as the argument."""
    outcomes: Sequence[str] = OUTCOMES

    @property
    def fact(self) -> str:
        """How the ledger names an object."""
        return self.named or self.argument


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
    "card": Subject(
        operator=PayPaymentOperator,
        method="sale.paysystem.pay.payment",
        event="payment_paid",
        argument="payment_id",
        objects=PAYMENTS[2:4],
        more={"pay_system_id": CARD, "allow_zero": True},
        outcomes=SUCCEEDED,
    ),
    "unpay": Subject(
        operator=UnpayCrmPaymentOperator,
        method="crm.item.payment.unpay",
        event="payment_unpaid",
        argument="payment_id",
        objects=PAID,
        outcomes=SUCCEEDED,
    ),
    "delete": Subject(
        operator=DeleteCrmPaymentOperator,
        method="crm.item.payment.delete",
        event="payment_deleted",
        argument="payment_id",
        objects=PAYMENTS[4:6],
        outcomes=SUCCEEDED,
    ),
    "invoices": Subject(
        operator=PayInvoicesOperator,
        method="sale.paysystem.pay.invoice",
        event="invoice_paid",
        argument="invoices",
        objects=((7, 8), (9, 10)),
        more={"pay_system_id": 31},
        named="invoice_id",
        outcomes=SUCCEEDED,
    ),
    "payments": Subject(
        operator=PayCrmPaymentsOperator,
        method="crm.item.payment.pay",
        event="payment_paid",
        argument="payments",
        objects=(tuple(PAYMENTS[6:8]), tuple(PAYMENTS[8:])),
        more={"allow_zero": True},
        named="payment_id",
        outcomes=SUCCEEDED,
    ),
    "adds": Subject(
        operator=AddCrmPaymentsOperator,
        method=ADD,
        event="payment_added",
        argument="items",
        objects=(tuple(DEALS[:2]), tuple(DEALS[2:])),
        named="entity_id",
        outcomes=SUCCEEDED,
    ),
}
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
    def values(self) -> Sequence[Any]:
        """What the argument is, for each map index or iteration. A loop adds its payments to the same deals again."""
        values = SUBJECTS[self.subject].objects
        if self.way in LOOPS:
            return [*values[:1]] * 2 if self.subject in ("add", "tag", "adds") else values
        return values if self.way == "mapped_index" else values[:1]

    @property
    def objects(self) -> list[int]:
        """All objects, each as often as something is done with it."""
        return [one for position in range(len(self.values)) for one in self.objects_at(position)]

    def objects_at(self, position: int) -> Sequence[int]:
        """Return the objects of a map index or iteration."""
        value = self.values[position]
        return value if isinstance(value, tuple) else (value,)


def connection_id(dag_id: str, outcome: str) -> str:
    """Return the id of the connection that tasks with this outcome use."""
    return f"{dag_id}_{outcome}"


COMBINATIONS: Final = [
    Combination(way, journal, name, outcome)
    for way, journal, (name, subject) in product(WAYS, JOURNALS, SUBJECTS.items())
    for outcome in subject.outcomes
]


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
        return subject.operator.partial(**arguments).expand(**{subject.argument: list(combination.values)})
    if combination.way not in LOOPS:
        return subject.operator(**arguments, **{subject.argument: combination.values[0]})

    @task_group(group_id=f"loop_{combination.task_id}", prefix_group_id=False)
    def body() -> None:
        arguments[subject.argument] = _in_iteration(combination.values)
        subject.operator(**arguments)

    return body.loop(max_iterations=len(combination.values))  # type: ignore[attr-defined]


def _in_iteration(values: Sequence[Any]) -> Any:
    """Return the template that each iteration renders to its value; a list of templates if the values are lists."""
    if isinstance(values[0], tuple):
        return [_in_iteration(column) for column in zip(*values, strict=True)]
    return f"{{{{ {list(values)}[loop.index] }}}}"
