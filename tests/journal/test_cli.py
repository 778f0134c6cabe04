"""`bitrix24-airflow journal` on a SQL journal that real attempts have written."""

from __future__ import annotations

import io
import json
import logging
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from airflow_provider_bitrix24.__main__ import main
from airflow_provider_bitrix24.at_most_once.task import TaskAttempt
from airflow_provider_bitrix24.exceptions import PaymentAmbiguous, PaymentRefused
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.journal import Change
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.sql import Database
from tests.tools.clock import skip_waits
from tests.tools.payments import ScriptedPayments

if TYPE_CHECKING:
    from pathlib import Path

    from tests.tools.clock import SkippingClock

ADD = "crm.item.payment.add"
PAY = "sale.paysystem.pay.invoice"


class Desk:
    """A portal, a journal, and somebody at a terminal."""

    def __init__(self, portal: Any, capsys: pytest.CaptureFixture[str], clock: SkippingClock) -> None:
        self.portal = portal
        self.capsys = capsys
        self.clock = clock
        self.hook = Bitrix24Hook()

    def payments(self, run: str = "1") -> ScriptedPayments:
        task = TaskAttempt(identity=f"dag:finance:run:{run}:task:pay:map_index:-1", try_number=1)
        journal = SqlJournal(Database.from_connection("payments"), str(task), conn_id="payments")
        return ScriptedPayments(
            self.hook.client, self.hook.run, self.clock, logging.getLogger("desk"), journal=journal, task=task
        )

    def key(self, name: str) -> str:
        return f"{self.hook.portal}:key:{name}"

    def add(self, name: str, run: str = "1", **options: Any) -> dict[str, Any]:
        return (
            self.payments(run).add_crm_payment(entity_id=1, entity_type_id=2, key=self.key(name), **options).as_dict()
        )

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
    monkeypatch.setenv("AIRFLOW_CONN_PAYMENTS", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "j.db")}))
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")
    return Desk(bitrix24_sandbox, capsys, skip_waits(monkeypatch))


@pytest.mark.parametrize("command", [["list"], ["show", "key"], ["resolve", "key", "--abandon", "--yes"]])
def test_no_journal_is_made_by_looking_for_one(desk: Desk, command: list[str], tmp_path: Path) -> None:
    """A connection with a slip of the pen in it must not look like a journal in which nothing waits."""
    code, printed, told = desk.cli(*command, "--conn-id", "payments")
    assert (code, printed) == (1, "")
    assert "There is no journal in the database of the Airflow connection 'payments'" in " ".join(told.split())
    assert list(tmp_path.iterdir()) == []


def test_a_journal_in_which_nothing_was_written_is_empty(desk: Desk) -> None:
    desk.cli("migrate", "--conn-id", "payments")
    assert desk.cli("list", "--conn-id", "payments") == (0, "0 keys\n", "")


def test_a_state_that_there_is_not_is_refused(desk: Desk) -> None:
    with pytest.raises(SystemExit):
        desk.cli("list", "--conn-id", "payments", "--state", "Parked")
    assert "invalid choice: 'Parked' (choose from" in desk.capsys.readouterr().err


def test_tables_can_be_made_by_hand(desk: Desk) -> None:
    code, printed, _ = desk.cli("migrate", "--conn-id", "payments")
    assert (code, printed) == (0, "The journal's tables have version 1; it was 0.\n")
    assert desk.cli("migrate", "--conn-id", "payments")[1] == "The journal's tables have version 1 already.\n"


def test_a_key_is_found_however_its_letters_are_composed(desk: Desk) -> None:
    desk.add("caf\u00e9-4711")
    for written in ("cafe\u0301-4711", "caf\u00e9-\uff14711", " caf\u00e9-4711 "):
        code, printed, _ = desk.cli("show", desk.key(written.strip()), "--conn-id", "payments")
        assert (code, printed.splitlines()[0].split()[-1]) == (0, desk.key("caf\u00e9-4711"))
        assert desk.cli("show", written, "--conn-id", "payments")[0] == 0  # its end


@pytest.mark.parametrize("index", ["1_2", "\uff11", "+1", "-2", "x"])
def test_a_map_index_is_read_as_it_is_written(desk: Desk, index: str) -> None:
    with pytest.raises(SystemExit):
        desk.cli("show", "--dag", "d", "--run", "r", f"--map-index={index}")
    assert "must be a map index such as 0" in desk.capsys.readouterr().err


def test_a_portal_is_renamed(desk: Desk) -> None:
    desk.add("order-4711")
    old = desk.hook.portal
    code, printed, _ = desk.cli("rename-portal", old.upper(), "ACME.bitrix24.com.", "--conn-id", "payments")
    assert code == 0
    assert f"The portal '{old}' is named 'acme.bitrix24.com' now, with 1 key and 0 hosts." in " ".join(printed.split())
    (entry,) = desk.json("list")
    assert (entry["key"], entry["portal"]) == ("acme.bitrix24.com:key:order-4711", "acme.bitrix24.com")
    assert entry["receipt"]["idempotency_key"] == entry["key"]
    code, _, told = desk.cli("rename-portal", old, "acme", "--conn-id", "payments")
    assert (code, "has no portal" in told, "Nothing was changed" in " ".join(told.split())) == (1, True, True)
    code, _, told = desk.cli("rename-portal", "https://acme/rest/1/secret/", "acme", "--conn-id", "payments")
    assert (code, "must be names of a portal" in " ".join(told.split()), "secret" in told) == (1, True, False)


def test_a_journal_that_is_not_there_is_not_renamed(desk: Desk, tmp_path: Path) -> None:
    code, _, told = desk.cli("rename-portal", "a", "b", "--conn-id", "payments")
    assert (code, "There is no journal in" in " ".join(told.split()), list(tmp_path.iterdir())) == (1, True, [])


def test_keys_are_listed_and_shown_within_80_columns(desk: Desk) -> None:
    paid = desk.add("order-4711-deposit")
    long = "order-4712-" + "deposit-" * 20 + "with a blank"
    desk.leave_open(long)
    code, printed, _ = desk.cli("list", "--conn-id", "payments")
    assert f"  {desk.key(long)}" in printed.splitlines()
    assert code == 0
    assert "done             deal 1" in printed
    assert "needs_decision   deal 1" in printed
    assert printed.endswith("2 keys\n")
    assert desk.cli("show", long, "--conn-id", "payments")[1].splitlines()[0] == f"key         {desk.key(long)}"
    _, shown, _ = desk.cli("show", desk.key("order-4711-deposit"), "--conn-id", "payments")
    for words in (
        f"payment     {paid['payment_id']} (evidence: response)",
        "acknowledged by the portal",
        "state       done",
    ):
        assert words in shown
    lines = printed.splitlines() + shown.splitlines()
    assert all(len(line) <= 80 for line in lines if " " in line.strip() and long not in line)
    assert [entry["state"] for entry in desk.json("list", "--state", "needs_decision")] == ["needs_decision"]
    assert desk.json("show", desk.key("order-4711-deposit"))["payment_id"] == paid["payment_id"]
    assert desk.portal.secret not in printed + shown


def test_a_person_lets_it_be_added_again(desk: Desk) -> None:
    desk.leave_open("a")
    place = (desk.key("a"), "--conn-id", "payments")
    code, printed, told = desk.cli("resolve", *place, "--send-again", "--by", "Ada", "--yes")
    assert code == 0
    assert "Clear the task now" in printed
    assert "Ada decides: send again: it is sent once more" in told
    entry = desk.json("show", desk.key("a"))
    decided = {"what": "send_again", "by": "Ada", "through": "command line"}
    assert {name: entry["decision"][name] for name in decided} == decided
    assert "candidates" not in entry["decision"]
    assert entry["state"] == "decision_pending"
    _, shown, _ = desk.cli("show", *place)
    assert "not carried out yet" in " ".join(shown.split())
    assert desk.add("a")["outcome"] == "created"
    done = desk.json("show", desk.key("a"))
    assert (done.get("decision"), len(done["decisions"]), done["state"]) == (None, 1, "done")
    assert len([entry for entry in desk.portal.ledger if entry["event"] == "payment_added"]) == 1


def test_a_person_gives_it_up(desk: Desk) -> None:
    desk.leave_open("a")
    assert desk.cli("resolve", desk.key("a"), "--conn-id", "payments", "--abandon", "--by", "Ada", "--yes")[0] == 0
    with pytest.raises(PaymentRefused, match="Ada has abandoned deal 1"):
        desk.add("a")
    assert [entry for entry in desk.portal.ledger if entry["event"] == "payment_added"] == []


def test_a_person_adopts_a_payment(desk: Desk) -> None:
    desk.leave_open("a")
    theirs = desk.portal.act.add_payment(2, 1, amount="9.00", user_id=7)
    place = (desk.key("a"), "--conn-id", "payments")
    assert desk.cli("resolve", *place, "--use-payment", str(theirs), "--yes")[0] == 0
    receipt = desk.add("a")
    assert (receipt["payment_id"], receipt["evidence"]) == (theirs, "person")
    assert [e["by"] for e in desk.portal.ledger if e["event"] == "payment_added"] == ["person"]


def spoil(name: str, document: str = "{") -> None:
    with Database.from_connection("payments").begin() as connection:
        changed = sa.text("update bitrix24_journal set document = :document where journal_key like :key")
        assert connection.execute(changed, {"document": document, "key": f"%:key:{name}"}).rowcount == 1


def test_what_nobody_can_read_is_listed_as_such(desk: Desk) -> None:
    for name in "abc":
        desk.add(name)
    spoil("b")
    code, printed, told = desk.cli("list", "--conn-id", "payments")
    assert code == 1
    assert f"corrupt          {desk.hook.portal}\n  {desk.key('b')}\n" in printed
    assert "cannot be read (no JSON:" in " ".join(printed.split())
    assert printed.count("done             deal 1") == 2
    assert printed.endswith("3 keys\n")
    assert told == "1 of them cannot be read.\n"
    code, printed, _ = desk.cli("list", "--state", "done", "--conn-id", "payments", "--json")
    assert code == 1
    assert {(one["key"], one["state"]) for one in json.loads(printed)} == {
        (desk.key("a"), "done"), (desk.key("b"), "corrupt"), (desk.key("c"), "done"),
    }  # fmt: skip
    # The others can be shown and decided about, and the damaged one can be looked at.
    assert desk.cli("show", desk.key("a"), "--conn-id", "payments")[0] == 0
    assert desk.cli("resolve", desk.key("c"), "--conn-id", "payments", "--abandon", "--yes")[0] == 0
    code, printed, _ = desk.cli("show", desk.key("b"), "--conn-id", "payments")
    assert code == 1
    assert "state       corrupt" in printed
    assert "it holds    {" in printed
    code, _, told = desk.cli("resolve", desk.key("b"), "--conn-id", "payments", "--abandon", "--yes")
    assert code == 1
    assert "money may have been recorded" in " ".join(told.split())


def test_a_part_of_a_key_is_enough_to_look_at_it(desk: Desk) -> None:
    for name in ("order-1", "order-2", "deposit-2"):
        desk.add(name)
    for part in ("deposit-2", "r-1", desk.key("o") + "rder-1"):
        code, printed, _ = desk.cli("show", part, "--conn-id", "payments")
        assert (code, printed.count("state       done")) == (0, 1)
    for part, why in [
        ("2", "There are 2 entries here"),
        (desk.key("order"), "give the whole KEY"),
        ("DEPOSIT-2", "There is no key 'DEPOSIT-2' here"),
        ("eposit", "There is no key 'eposit' here (its beginning or its end is enough"),
    ]:
        code, printed, told = desk.cli("show", part, "--conn-id", "payments")
        assert (code, printed) == (1, "")
        assert why in " ".join(told.split())
    code, _, told = desk.cli("resolve", "deposit-2", "--conn-id", "payments", "--abandon", "--yes")
    assert code == 1
    assert "the whole key is needed" in " ".join(told.split())


@pytest.mark.parametrize("name", ["order-4711", "order 4711; it's $HOME"])
def test_the_commands_of_a_message_can_be_copied(desk: Desk, name: str) -> None:
    message = str(desk.leave_open(name))
    [command] = re.findall(r"`(bitrix24-airflow [^`]*)` with --use-payment ID, --send-again", message)
    # The command line shows the same message, and does not break the command.
    assert f"  {command}" in desk.cli("show", name, "--conn-id", "payments")[1].splitlines()
    program, *arguments = shlex.split(command)
    assert (program, arguments[0]) == ("bitrix24-airflow", "journal")
    assert main([*arguments, "--send-again", "--yes"]) == 0
    assert desk.json("show", desk.key(name))["decision"]["what"] == "send_again"


def test_the_record_says_what_became_of_each_decision(desk: Desk) -> None:
    desk.leave_open("a")
    place = (desk.key("a"), "--conn-id", "payments")
    theirs = desk.portal.act.add_payment(2, 1, amount="9.00", user_id=7)
    desk.cli("resolve", *place, "--use-payment", str(theirs), "--by", "Ada", "--yes")
    desk.cli("resolve", *place, "--send-again", "--by", "Bob", "--yes")
    shown = " ".join(desk.cli("show", *place)[1].split())
    assert f"Ada decides: use payment {theirs} (command line) - not carried out: Bob has decided again" in shown
    assert "Bob decides: send again (command line) - not carried out yet" in shown
    with pytest.raises(PaymentAmbiguous, match=f"Bob decided to send again, but meanwhile payment {theirs} appeared"):
        desk.add("a")
    assert desk.json("show", desk.key("a"))["state"] == "needs_decision"
    desk.cli("resolve", *place, "--send-again", "--by", "Cid", "--yes")
    assert desk.add("a")["outcome"] == "created"
    shown = " ".join(desk.cli("show", *place)[1].split())
    assert f"Bob decides: send again (command line) - not carried out: meanwhile payment {theirs} appeared" in shown
    assert f"Cid decides: send again (command line) - carried out; set aside: {theirs}" in shown


def test_a_decision_wants_confirmation(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.leave_open("a")
    before = desk.json("show", desk.key("a"))
    for answer in ("", "n\n", "no\n", "what?\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code, _, told = desk.cli("resolve", desk.key("a"), "--conn-id", "payments", "--send-again")
        assert code == 1
        assert "Write it into the journal? [y/N]" in told
        assert "Nothing was changed." in told
    assert desk.json("show", desk.key("a")) == before
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert desk.cli("resolve", desk.key("a"), "--conn-id", "payments", "--send-again")[0] == 0
    assert desk.json("show", desk.key("a"))["decision"]["what"] == "send_again"


def test_what_makes_no_sense_is_refused(desk: Desk) -> None:
    paid = desk.add("done")["payment_id"]
    desk.leave_open("pending")
    desk.portal.fault("drop_before", PAY, times=2)
    with pytest.raises(PaymentAmbiguous):
        desk.payments().pay_invoice(invoice_id=2, pay_system_id=31)
    mark = f"{desk.hook.portal}:invoice:2"
    for arguments, why in [
        ((mark, "--use-payment", "1033"), "it adds no payment"),
        ((desk.key("done"), "--use-payment", str(paid)), "is its own already: clear the task"),
        ((desk.key("pending"), "--use-payment", str(paid)), "was there before anything was sent"),
        ((desk.key("missing"), "--abandon"), "There is no key"),
    ]:
        code, printed, told = desk.cli("resolve", *arguments, "--conn-id", "payments", "--yes")
        assert (code, printed) == (1, "")
        assert why in " ".join(told.split()), told
    assert all(entry.get("decision") is None for entry in desk.json("list"))


def test_who_has_given_up_may_go_on_with_the_same_payment(desk: Desk) -> None:
    paid = desk.add("a")["payment_id"]
    place = (desk.key("a"), "--conn-id", "payments", "--yes")
    assert desk.cli("resolve", *place, "--abandon")[0] == 0
    with pytest.raises(PaymentRefused):
        desk.add("a")
    assert desk.cli("resolve", *place, "--use-payment", str(paid))[0] == 0
    receipt = desk.add("a")
    assert (receipt["payment_id"], receipt["evidence"]) == (paid, "response")
    assert desk.json("show", desk.key("a"))["state"] == "done"
    assert len([entry for entry in desk.portal.ledger if entry["event"] == "payment_added"]) == 1


def test_a_user_without_a_name_says_who_decides(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, whose user is a number that nobody has given a name."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    desk.leave_open("a")
    place = (desk.key("a"), "--conn-id", "payments")
    assert desk.cli("show", *place)[0] == 0
    code, _, told = desk.cli("resolve", *place, "--abandon", "--yes")
    assert code == 1
    assert "say by --by NAME who decides. Nothing was changed." in " ".join(told.split())
    assert desk.json("show", desk.key("a"))["state"] == "needs_decision"
    assert desk.cli("resolve", *place, "--abandon", "--by", "Ada", "--yes")[0] == 0
    assert desk.json("show", desk.key("a"))["decisions"][0]["by"] == "Ada"


def test_a_done_key_is_paid_again_only_if_the_portal_does_not_show_it(desk: Desk) -> None:
    first = desk.add("a")["payment_id"]
    place = (desk.key("a"), "--conn-id", "payments")
    assert desk.cli("resolve", *place, "--send-again", "--yes")[0] == 0
    with pytest.raises(PaymentAmbiguous, match=f"payment {first}"):
        desk.add("a")
    desk.portal.act.delete_payment(first)
    assert desk.cli("resolve", *place, "--send-again", "--yes")[0] == 0
    assert desk.add("a")["outcome"] == "created"


def test_a_key_that_somebody_works_on_is_left_alone(desk: Desk) -> None:
    journal = SqlJournal(Database.from_connection("payments"), "another attempt")
    desk.leave_open("a")
    record = journal.load(desk.hook.portal, [desk.key("a")])[desk.key("a")].record
    assert record is not None
    journal.save([Change(record=record, lease=100)])
    code, _, told = desk.cli("resolve", desk.key("a"), "--conn-id", "payments", "--send-again", "--yes")
    assert code == 1
    assert "another attempt is at work" in " ".join(told.split())
    assert desk.json("show", desk.key("a")).get("decision") is None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["list"], "either --conn-id, or --dag and --run"),
        (["list", "--conn-id", "x", "--dag", "y"], "either --conn-id, or --dag and --run"),
        (["list", "--dag", "y"], "--dag needs --run"),
        (["show", "--conn-id", "x"], "needs the KEY"),
        (["resolve", "k", "--conn-id", "x"], "--use-payment"),
        (["resolve", "k", "--conn-id", "x", "--use-payment", "0"], "must be the id of a payment"),
        (["resolve", "k", "--conn-id", "x", "--use-payment", "1", "--abandon"], "not allowed with"),
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
