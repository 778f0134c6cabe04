"""`python -m airflow_provider_bitrix24 journal` on a SQL journal that real attempts have written."""

from __future__ import annotations

import io
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.__main__ import main
from airflow_provider_bitrix24.exceptions import PaymentAmbiguous, PaymentRefused
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.journal.database import SqlJournal
from airflow_provider_bitrix24.once import Once, Task
from airflow_provider_bitrix24.sql import Database

if TYPE_CHECKING:
    from pathlib import Path

ADD = "crm.item.payment.add"
PAY = "sale.paysystem.pay.invoice"
SHORT = {"lease": 1, "connect_timeout": 0.2, "delivery": 0, "server_limit": 0.3, "read_timeout": 2, "read_lag": 0.2}


class Desk:
    """A portal, a journal, and somebody at a terminal."""

    def __init__(self, portal: Any, capsys: pytest.CaptureFixture[str]) -> None:
        self.portal = portal
        self.capsys = capsys
        self.hook = Bitrix24Hook()

    def once(self, run: str = "1") -> Once:
        task = Task(identity=f"dag:finance:run:{run}:task:pay:map_index:-1", try_number=1)
        journal = SqlJournal(Database.from_connection("payments"), str(task))
        return Once(self.hook.caller, self.hook.run, time, logging.getLogger("desk"), journal=journal, task=task)

    def key(self, name: str) -> str:
        return f"{self.hook.portal}:key:{name}"

    def add(self, name: str, run: str = "1", **options: Any) -> dict[str, Any]:
        return self.once(run).add_crm_payment(entity_id=1, entity_type_id=2, key=self.key(name), **options).as_dict()

    def leave_open(self, name: str) -> PaymentAmbiguous:
        """Add twice, and lose both."""
        fault = self.portal.fault("drop_before", ADD, times=2)
        with pytest.raises(PaymentAmbiguous) as caught:
            self.add(name)
        assert fault
        return caught.value

    def cli(self, *arguments: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = main(["journal", *arguments])
        printed = self.capsys.readouterr()
        return code, printed.out, printed.err

    def json(self, *arguments: str) -> Any:
        code, printed, _ = self.cli(*arguments, "--conn-id", "payments", "--json")
        assert code == 0
        return json.loads(printed)


@pytest.fixture
def desk(
    bitrix24_sandbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    connection = json.loads(bitrix24_sandbox.connection)
    connection["extra"] = SHORT
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW_CONN_PAYMENTS", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "j.db")}))
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")
    return Desk(bitrix24_sandbox, capsys)


def test_an_empty_journal_is_made_by_looking_into_it(desk: Desk) -> None:
    assert desk.cli("list", "--conn-id", "payments") == (0, "0 keys\n", "")


def test_tables_can_be_made_by_hand(desk: Desk) -> None:
    code, printed, _ = desk.cli("migrate", "--conn-id", "payments")
    assert (code, printed) == (0, "The journal's tables have version 1; it was 0.\n")
    assert desk.cli("migrate", "--conn-id", "payments")[1] == "The journal's tables have version 1 already.\n"


def test_keys_are_listed_and_shown_within_80_columns(desk: Desk) -> None:
    paid = desk.add("order-4711-deposit")
    desk.leave_open("order-4712-" + "deposit-" * 20)
    code, printed, _ = desk.cli("list", "--conn-id", "payments")
    assert code == 0
    assert "done         deal 1" in printed
    assert "parked       deal 1" in printed
    assert printed.endswith("2 keys\n")
    _, shown, _ = desk.cli("show", desk.key("order-4711-deposit"), "--conn-id", "payments")
    for words in (f"payment     {paid['payment_id']} (evidence: answer)", "answered by the portal", "state       done"):
        assert words in shown
    lines = printed.splitlines() + shown.splitlines()
    assert all(len(line) <= 80 for line in lines if " " in line.strip())
    assert [entry["state"] for entry in desk.json("list", "--state", "parked")] == ["parked"]
    assert desk.json("show", desk.key("order-4711-deposit"))["payment_id"] == paid["payment_id"]
    assert desk.portal.secret not in printed + shown


def test_a_person_lets_it_be_added_again(desk: Desk) -> None:
    desk.leave_open("a")
    place = (desk.key("a"), "--conn-id", "payments")
    code, printed, told = desk.cli("resolve", *place, "--pay-again", "--by", "Ada", "--yes")
    assert code == 0
    assert "Clear the task now" in printed
    assert "Ada decides: pay again: it is sent once more" in told
    entry = desk.json("show", desk.key("a"))
    assert entry["decision"] | {"at": ""} == {
        "what": "pay_again", "payment_id": None, "candidates": [], "by": "Ada", "at": "", "through": "command line",
    }  # fmt: skip
    _, shown, _ = desk.cli("show", *place)
    assert "not carried out yet" in " ".join(shown.split())
    assert desk.add("a")["outcome"] == "created"
    done = desk.json("show", desk.key("a"))
    assert (done["decision"], len(done["decisions"]), done["state"]) == (None, 1, "done")
    assert len([entry for entry in desk.portal.ledger if entry["event"] == "payment_added"]) == 1


def test_a_person_gives_it_up(desk: Desk) -> None:
    desk.leave_open("a")
    assert desk.cli("resolve", desk.key("a"), "--conn-id", "payments", "--give-up", "--by", "Ada", "--yes")[0] == 0
    with pytest.raises(PaymentRefused, match="Ada has given deal 1 up"):
        desk.add("a")
    assert [entry for entry in desk.portal.ledger if entry["event"] == "payment_added"] == []


def test_a_person_adopts_a_payment(desk: Desk) -> None:
    desk.leave_open("a")
    theirs = desk.portal.act.add_payment(2, 1, amount="9.00", user_id=7)
    place = (desk.key("a"), "--conn-id", "payments")
    assert desk.cli("resolve", *place, "--adopt", str(theirs), "--yes")[0] == 0
    receipt = desk.add("a")
    assert (receipt["payment_id"], receipt["evidence"]) == (theirs, "person")
    assert [e["by"] for e in desk.portal.ledger if e["event"] == "payment_added"] == ["person"]


def test_a_decision_wants_confirmation(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.leave_open("a")
    before = desk.json("show", desk.key("a"))
    for answer in ("", "n\n", "no\n", "what?\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code, _, told = desk.cli("resolve", desk.key("a"), "--conn-id", "payments", "--pay-again")
        assert code == 1
        assert "Write it into the journal? [y/N]" in told
        assert "Nothing was changed." in told
    assert desk.json("show", desk.key("a")) == before
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert desk.cli("resolve", desk.key("a"), "--conn-id", "payments", "--pay-again")[0] == 0
    assert desk.json("show", desk.key("a"))["decision"]["what"] == "pay_again"


def test_what_makes_no_sense_is_refused(desk: Desk) -> None:
    paid = desk.add("done")["payment_id"]
    desk.leave_open("open")
    desk.portal.fault("drop_before", PAY, times=2)
    with pytest.raises(PaymentAmbiguous):
        desk.once().pay_invoice(invoice_id=2, pay_system_id=31)
    mark = f"{desk.hook.portal}:invoice:2"
    for arguments, why in [
        ((mark, "--adopt", "1033"), "a mark is there or not"),
        ((desk.key("done"), "--give-up"), "it is done: only --pay-again"),
        ((desk.key("done"), "--adopt", str(paid)), "it is done: only --pay-again"),
        ((desk.key("open"), "--adopt", str(paid)), "was there before anything was sent"),
        ((desk.key("missing"), "--give-up"), "There is no key"),
    ]:
        code, printed, told = desk.cli("resolve", *arguments, "--conn-id", "payments", "--yes")
        assert (code, printed) == (1, "")
        assert why in " ".join(told.split()), told
    assert all(entry["decision"] is None for entry in desk.json("list"))


def test_a_done_key_is_paid_again_only_if_the_portal_does_not_show_it(desk: Desk) -> None:
    first = desk.add("a")["payment_id"]
    place = (desk.key("a"), "--conn-id", "payments")
    assert desk.cli("resolve", *place, "--pay-again", "--yes")[0] == 0
    with pytest.raises(PaymentAmbiguous, match=f"payment {first}"):
        desk.add("a")
    desk.portal.act.delete_payment(first)
    assert desk.cli("resolve", *place, "--pay-again", "--yes")[0] == 0
    assert desk.add("a")["outcome"] == "created"


def test_a_key_that_somebody_works_on_is_left_alone(desk: Desk) -> None:
    journal = SqlJournal(Database.from_connection("payments"), "another attempt")
    desk.leave_open("a")
    page = journal.page(desk.hook.portal, desk.key("a"))
    entry = page.read()
    assert entry is not None
    page.write(entry, hold=100)
    code, _, told = desk.cli("resolve", desk.key("a"), "--conn-id", "payments", "--pay-again", "--yes")
    assert code == 1
    assert "another attempt is at work" in " ".join(told.split())
    assert desk.json("show", desk.key("a"))["decision"] is None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["list"], "either --conn-id, or --dag and --run"),
        (["list", "--conn-id", "x", "--dag", "y"], "either --conn-id, or --dag and --run"),
        (["list", "--dag", "y"], "--dag needs --run"),
        (["show", "--conn-id", "x"], "needs the KEY"),
        (["resolve", "k", "--conn-id", "x"], "--adopt"),
        (["resolve", "k", "--conn-id", "x", "--adopt", "0"], "must be the id of a payment"),
        (["resolve", "k", "--conn-id", "x", "--adopt", "1", "--give-up"], "not allowed with"),
        (["migrate"], "--conn-id"),
        (["pay"], "invalid choice"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["journal", *arguments])
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_a_database_that_is_none_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PAYMENTS", json.dumps({"conn_type": "http", "host": "127.0.0.1"}))
    code, _, told = desk.cli("list", "--conn-id", "payments")
    assert code == 1
    assert "takes postgres, mysql, mariadb or sqlite" in " ".join(told.split())
