"""Templates, mapping, XComs, links and retries, through a real Airflow in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.sandbox.faults import Fault
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.tools.airflow_home import airflow_env
from tests.tools.connections import connection_to
from tests.tools.printed import printed_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
DAGS = [
    "never_retried",
    "templates",
    "native_templates",
    "native_identifiers",
    "mapped",
    "mapped_from_rows",
    "lists",
    "taskflow",
    "deferred",
    "deferred_mapped",
    "skipped",
    "refused",
    "lost_guards",
    "optional_guards",
    "calls",
]


@dataclass
class World:
    """The outcome of all DAGs, what was printed, and the portal that they worked on."""

    dags: dict[str, Any]
    printed: str
    portal: Portal
    url: str
    secret: str

    def states(self, dag_id: str, task_id: str) -> list[str]:
        return [ti["state"] for ti in self.dags[dag_id][task_id]]

    def results(self, dag_id: str, task_id: str) -> list[Any]:
        return [ti["xcoms"].get("return_value") for ti in self.dags[dag_id][task_id]]

    def ledger(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        return [e for e in self.portal.ledger if e["event"] == event and fields.items() <= e.items()]


@pytest.fixture(scope="module")
def world(new_airflow_home: Callable[[], Path], short_waits: dict[str, Any]) -> Iterator[World]:
    """Run all DAGs in one process: it takes Airflow most of its time to start."""
    home = new_airflow_home()
    portal = Portal()
    for price in range(28, 32):  # the invoices 14 to 17
        portal.create("invoice", {"price": f"{price}.00"})
    # The first payment that is added gets lost on the way, twice.
    portal.faults.add(Fault(kind="drop_before", method="crm.item.payment.add", times=2))
    portal.faults.add(Fault(kind="drop_after", method="crm.deal.add", times=1))
    with SandboxServer(portal) as server:
        env = airflow_env(home, HERE / "dags") | {
            "AIRFLOW_CONN_BITRIX24_DEFAULT": connection_to(server, short_waits),
            "AIRFLOW_CONN_JOURNAL": json.dumps({"conn_type": "sqlite", "host": str(home / "journal.db")}),
        }
        customer = threading.Thread(target=pay_when_waited_for, args=(portal,), daemon=True)
        customer.start()
        run = [sys.executable, str(HERE / "run_dags.py"), *DAGS]
        done = subprocess.run(run, env=env, capture_output=True, text=True, timeout=1800)
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed[-5000:]
        outcome = printed_json(done.stdout)
        yield World(outcome, printed, portal, server.url, portal.webhook.secret)


def pay_when_waited_for(portal: Portal) -> None:
    """The customer pays payment 1003 once it was looked at three times."""
    while sum(request["params"].get("id") in (1003, "1003") for request in list(portal.requests)) < 3:
        time.sleep(0.05)
    portal.act.pay_payment(1003, by="customer")


def test_templates_are_rendered_and_read_as_numbers(world: World) -> None:
    assert world.states("templates", "pay") == ["success"]
    (receipt,) = world.results("templates", "pay")
    assert (receipt["invoice_id"], receipt["pay_system_id"], receipt["outcome"]) == (3, 31, "paid")
    assert len(world.ledger("invoice_paid", invoice_id=3, by="rest")) == 1


def test_a_list_that_a_template_rendered_is_waited_for(world: World) -> None:
    (waited,) = world.results("templates", "wait")
    assert [item["invoice_id"] for item in waited] == [3, 1]


def test_native_templates(world: World) -> None:
    (receipt,) = world.results("native_templates", "pay")
    assert (receipt["invoice_id"], receipt["outcome"], receipt["amount"]) == (7, "paid", "120.00")


def test_native_templates_leave_keys_and_ids_as_they_are_written(world: World) -> None:
    """To Python, 4711_1 and 471_11 are one number, and 1_2 is the invoice 12."""
    receipts = [world.results("native_identifiers", f"add_{number}")[0] for number in range(3)]
    receipts += world.results("native_identifiers", "add_mapped")
    keys = [receipt["idempotency_key"].partition(":key:")[2] for receipt in receipts]
    assert keys == ["4711_1", "471_11", "47111", "12_0", "12_1"]
    assert len({receipt["payment_id"] for receipt in receipts}) == 5
    for task_id in ("pay", "pay_mapped", "wait"):
        assert world.states("native_identifiers", task_id) == ["failed"]
    assert world.printed.count("invoice_id must be a whole positive number such as 123 or '123', not '1_2'") >= 3


def test_receipts_are_pushed_field_by_field(world: World) -> None:
    ((ti),) = world.dags["templates"]["pay"]
    receipt = ti["xcoms"]["return_value"]
    assert {name: ti["xcoms"][name] for name in receipt} == receipt
    assert isinstance(receipt["amount"], str)


def test_invoices_are_mapped(world: World) -> None:
    receipts = world.results("mapped", "pay")
    assert [(r["invoice_id"], r["outcome"]) for r in receipts] == [(8, "paid"), (9, "paid"), (1, "already_paid")]
    assert world.results("mapped", "store") == ["8:paid", "9:paid", "1:already_paid"]
    assert world.results("mapped", "total") == [["75.50", "1999.99", "800.00"]]
    for invoice_id in (8, 9):
        assert len(world.ledger("invoice_paid", invoice_id=invoice_id)) == 1
    assert world.ledger("invoice_paid", invoice_id=1) == []


def test_a_sensor_takes_the_receipts_of_a_mapped_task(world: World) -> None:
    (together,) = world.results("mapped", "wait_for_all")
    assert [item["invoice_id"] for item in together] == [8, 9, 1]
    assert [item["invoice_id"] for item in world.results("mapped", "wait_for_each")] == [8, 9, 1]


def test_rows_are_mapped_with_their_amounts(world: World) -> None:
    # The third row expects another currency than the invoice's.
    assert world.states("mapped_from_rows", "pay") == ["success", "success", "failed"]
    assert [len(world.ledger("invoice_paid", invoice_id=number)) for number in (10, 11, 12)] == [1, 1, 0]


def test_lists_come_from_a_mapped_task_and_from_a_template(world: World) -> None:
    (lazy,), (text,) = world.results("lists", "pay_lazy"), world.results("lists", "pay_text")
    assert (lazy["statuses"], text["statuses"]) == ({"paid": 2}, {"paid": 2})
    assert [receipt["invoice_id"] for receipt in lazy["receipts"] + text["receipts"]] == [14, 15, 16, 17]
    assert [len(world.ledger("invoice_paid", invoice_id=number)) for number in range(14, 18)] == [1, 1, 1, 1]
    assert set(world.dags["lists"]["pay_lazy"][0]["xcoms"]) <= {"return_value", "bitrix24_begun"}


def test_the_summary_of_a_failed_list_is_there_for_the_tasks_after_it(world: World) -> None:
    assert world.states("lists", "pay_again") == ["failed"]
    assert world.results("lists", "pay_again")[0]["statuses"] == {"already_paid": 1, "refused": 1}
    assert world.results("lists", "conclude_list") == [1]


def test_each_run_of_a_list_is_one_asset_event_with_counts(world: World) -> None:
    portal = world.url.removeprefix("http://").rstrip("/")
    [lazy], [text] = world.dags["lists"]["pay_lazy"], world.dags["lists"]["pay_text"]
    for ti, total in ((lazy, 2), (text, 2)):
        [(uri, extra)] = ti["events"]
        assert uri == f"bitrix24://{portal}/lists/pay_invoices"
        assert (extra["total"], extra["succeeded"], extra["failed"]) == (total, total, 0)
    events = [event for ti in world.dags["lists"]["none_of_many"] for event in ti["events"]]
    assert [(uri, extra["statuses"]) for uri, extra in events] == [
        (f"bitrix24://{portal}/lists/pay_crm_payments", {"refused": 2}),
        (f"bitrix24://{portal}/lists/pay_crm_payments", {}),
    ]
    assert world.dags["lists"]["pay_again"][0]["events"] == []  # it has failed


def test_taskflow_passes_fields_of_the_receipt(world: World) -> None:
    (added,) = world.results("taskflow", "add")
    assert (added["outcome"], added["amount"], added["pay_system_id"]) == ("created", "1020.00", 8)
    (marked,) = world.results("taskflow", "mark")
    assert (marked["payment_id"], marked["outcome"]) == (added["payment_id"], "paid")
    assert world.results("taskflow", "conclude") == [f"{added['payment_id']} 1020.00 paid"]
    assert len(world.ledger("payment_added", entity_id=1)) == 1
    assert len(world.ledger("payment_paid", payment_id=added["payment_id"])) == 1


def test_a_deferred_sensor_waits_for_the_customer(world: World) -> None:
    assert world.states("deferred", "wait") == ["success"]
    (waited,) = world.results("deferred", "wait")
    assert (waited["payment_id"], waited["amount"], waited["paid"]) == (1003, "990.00", True)


def test_deferrable_sensors_are_mapped(world: World) -> None:
    one, many = world.results("deferred_mapped", "wait")
    assert one["payment_id"] == 1002
    assert [item["payment_id"] for item in many] == [1002]


def test_skipping(world: World) -> None:
    for task_id in ("pay", "wait", "wait_deferred"):
        assert world.states("skipped", task_id) == ["skipped"], task_id


def test_final_errors_are_not_retried(world: World) -> None:
    for task_id in ("add", "pay", "wait"):
        (ti,) = world.dags["never_retried"][task_id]
        assert (ti["state"], ti["try_number"]) == ("failed", 1), task_id
    assert world.ledger("payment_added", entity_id=2) == []
    sent = [r["params"] for r in world.portal.requests if r["method"] == "crm.item.payment.add"]
    assert [params["entityId"] for params in sent if params["entityId"] != 5] == [2, 2, 1]


def test_what_is_no_id_is_refused_by_name(world: World) -> None:
    assert world.states("refused", "pay") == ["failed"]
    assert world.states("refused", "wait") == ["failed"]
    assert "invoice_id must be a whole positive number such as 123 or '123', not 'None'" in world.printed
    assert "payment_id must be a whole positive number such as 123 or '123', not 'True'" in world.printed


def test_a_guard_that_renders_to_none_is_refused(world: World) -> None:
    fields = {
        "pay_from_task": "expected_amount",
        "pay_from_template": "expected_currency",
        "pay_from_param": "expected_amount",
        "pay_mapped": "expected_amount",
        "mark": "expected_amount",
        "add": "if_unpaid_exists",
        "wait": "entity_id",
    }
    for task_id, field in fields.items():
        assert world.states("lost_guards", task_id) == ["failed"], task_id
        assert f"{field} was given, but rendered to None. Nothing was sent." in world.printed
    assert world.ledger("invoice_paid", invoice_id=2) == []
    assert world.ledger("payment_paid", payment_id=1001) == []
    assert world.ledger("payment_added", entity_id=3) == []


def test_a_guard_that_is_mapped_to_none_is_refused(world: World) -> None:
    instances = world.dags["optional_guards"]["pay_mapped"]
    assert [instance["state"] for instance in instances] == ["failed", "success"]


def test_links_are_there_also_when_the_task_failed(world: World) -> None:
    links = {
        (dag_id, task_id): {key: value for key, value in ti["xcoms"].items() if key.startswith("_link_")}
        for dag_id, tasks in world.dags.items()
        for task_id, (ti, *_) in tasks.items()
    }
    assert links["templates", "pay"] == {"_link_InvoiceLink": f"{world.url}/crm/invoice/show/3/"}
    assert links["never_retried", "add"]["_link_DealLink"] == f"{world.url}/crm/deal/details/2/"
    added = world.results("taskflow", "add")[0]["payment_id"]
    assert links["taskflow", "add"] == {
        "_link_DealLink": f"{world.url}/crm/deal/details/1/",
        "_link_SmartInvoiceLink": "",
        "_link_CrmPaymentLink": f"{world.url}/shop/orders/payment/details/{added}/",
    }
    assert links["deferred", "wait"]["_link_CrmPaymentLink"] == f"{world.url}/shop/orders/payment/details/1003/"
    assert links["refused", "pay"] == {"_link_InvoiceLink": ""}


def test_the_secret_is_nowhere(world: World) -> None:
    assert world.secret not in world.printed
    assert world.secret not in json.dumps(world.dags)


def test_any_method_is_a_task(world: World) -> None:
    (deal,) = world.results("calls", "read")
    assert (deal["ID"], type(deal["OPPORTUNITY"])) == ("1", str)
    assert [payment["id"] for payment in world.results("calls", "each")] == [1001, 1002]
    (moved,) = world.results("calls", "move")
    assert moved["item"]["stageId"] == "WON"
    (waited,) = world.results("calls", "wait")
    assert (waited["id"], waited["stageId"]) == (1, "WON")


def test_a_call_whose_outcome_is_unknown_is_not_retried(world: World) -> None:
    assert world.states("calls", "create") == ["failed"]
    assert sum(request["method"] == "crm.deal.add" for request in world.portal.requests) == 1


def test_a_call_that_changes_payments_is_not_sent(world: World) -> None:
    assert world.states("calls", "pay") == ["failed"]
    assert world.ledger("payment_paid", payment_id=1001) == []


def test_the_link_of_a_payment_is_starred_out(world: World) -> None:
    (link,) = world.results("calls", "link")
    assert "paymentId=1001" in link["url"]
    assert link["url"] not in world.printed.rpartition("\n{")[0]
