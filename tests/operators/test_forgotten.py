"""A journal that forgot: cleared on Airflow 3.4, emptied, replaced, or hidden by what is in front of Airflow's API."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_bitrix24.at_most_once.record import Decision, Record
from airflow_provider_bitrix24.exceptions import Bitrix24ConnectionNotFound, Bitrix24StoreError, PaymentRefused
from airflow_provider_bitrix24.journal.cli import refuse_senseless
from airflow_provider_bitrix24.journal.inspect import SqlEntrySource
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.journal.task_state import ATTEMPTS, DECISIONS, DOCUMENT
from airflow_provider_bitrix24.operators import journals
from airflow_provider_bitrix24.operators.journals import BEGUN
from airflow_provider_bitrix24.sql import Database
from tests.operators.test_operators import EACH, MARKS, OPERATORS, write_requests
from tests.tools.final import raises_for_good

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Task

    from airflow_provider_bitrix24.sandbox.portal import Portal

pytestmark = [pytest.mark.needs_task_state, pytest.mark.usefixtures("unmeasured")]

SWITCH = "AIRFLOW_VAR_BITRIX24_PAYMENTS_STOPPED_BITRIX24_DEFAULT"
LOST = r"The journal has lost the notes of earlier attempts of dag:finance:run:manual__1:task:pay"


@pytest.fixture(params=["3.3", "3.4"])
def stateful(task: Task, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task with task state, as Airflow 3.3 and 3.4 give it, on every Airflow."""
    task.context["task_state_store"] = task.store
    task.new_ids = request.param == "3.4"
    monkeypatch.setattr(journals, "AIRFLOW_V_3_4_PLUS", task.new_ids)
    return task


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the SQL journal "payments"."""
    file = tmp_path / "journal.db"
    monkeypatch.setenv("AIRFLOW_CONN_PAYMENTS", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    return file


def discard(task: Task) -> None:
    """Clear the task as Airflow 3.4 does by default."""
    task.clear()
    task.store.kept.clear()


def decide(key: str, what: Any, payment_id: int | None = None) -> None:
    """Decide at a terminal."""
    [handle] = SqlEntrySource(SqlJournal(Database.from_connection("payments"), "command line:anna")).entries(key)
    assert isinstance(handle.entry, Record)
    decision = Decision(
        what=what,
        payment_id=payment_id,
        candidates=handle.entry.candidates,
        by="anna",
        at="2026-11-27T10:00:00+00:00",
        through="command line",
    )
    refuse_senseless(handle.entry, decision)
    handle.decide(decision)


def undone(portal: Any, operation: str) -> None:
    """Make an invoice or payment unpaid again, so that marking it would be possible."""
    if operation == "pay_invoice":
        portal.act.unpay_invoice(2, user_id=7)
    if operation == "pay_crm_payment":
        portal.act.unpay_payment(1001, user_id=7)


@EACH
@pytest.mark.parametrize("crash", [0, 1, 2], ids="{} attempts die before they do anything".format)
def test_a_cleared_task_without_its_notes_is_no_first_attempt(
    portal: Any, stateful: Task, operation: str, crash: int
) -> None:
    OPERATORS[operation]().execute(stateful.context)
    undone(portal, operation)
    discard(stateful)
    for _ in range(crash):
        stateful.again()
    for _ in range(2):
        with pytest.raises(AirflowFailException, match=LOST) as caught:
            OPERATORS[operation]().execute(stateful.context)
        stateful.again()
    discards = stateful.new_ids
    for words in ("The task was cleared", "journal resolve"):
        assert words in str(caught.value)
    for words in ("3.4", "keep_task_state", "journal_conn_id"):
        assert (words in str(caught.value)) is discards
    assert ("somebody has emptied or replaced the journal" in str(caught.value)) is not discards
    assert len(write_requests(portal, operation)) == 1


@EACH
def test_an_attempt_that_dies_before_it_has_asked_a_person_changes_nothing(
    portal: Any, stateful: Task, operation: str
) -> None:
    OPERATORS[operation]().execute(stateful.context)
    undone(portal, operation)
    discard(stateful)
    get, reads = stateful.store.get, []

    def dies(key: str, default: Any = None) -> Any:
        reads.append(key)
        if key == DOCUMENT:
            raise SystemExit  # its list of attempts is written, its document is not
        return get(key, default)

    stateful.store.get = dies  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        OPERATORS[operation]().execute(stateful.context)
    stateful.store.get = get  # type: ignore[method-assign]
    stateful.again()
    with pytest.raises(AirflowFailException, match=LOST):
        OPERATORS[operation]().execute(stateful.context)
    assert len(write_requests(portal, operation)) == 1


@EACH
def test_a_raised_number_of_retries_does_not_hide_that_it_was_cleared(
    portal: Any, stateful: Task, operation: str
) -> None:
    OPERATORS[operation]().execute(stateful.context)
    undone(portal, operation)
    discard(stateful)  # max_tries is 1 now, as if it had always had one retry
    with pytest.raises(AirflowFailException, match=LOST):
        OPERATORS[operation](retries=1).execute(stateful.context)
    assert len(write_requests(portal, operation)) == 1


@MARKS
@pytest.mark.parametrize("if_paid", ["succeed", "skip", "fail"])
def test_what_is_paid_needs_no_journal(portal: Any, stateful: Task, operation: str, if_paid: str) -> None:
    OPERATORS[operation]().execute(stateful.context)
    discard(stateful)
    receipt = OPERATORS[operation](if_paid=if_paid).execute(stateful.context)
    assert (receipt["outcome"], receipt["evidence"], receipt["recovered"]) == ("already_paid", "portal_state", False)
    assert len(write_requests(portal, operation)) == 1


@MARKS
def test_what_somebody_else_has_paid_is_skipped_all_the_same(portal: Any, stateful: Task, operation: str) -> None:
    if operation == "pay_invoice":
        portal.act.pay_invoice(2, by="person", user_id=7)
    else:
        portal.act.pay_payment(1001, by="person", user_id=7)
    OPERATORS[operation]().execute(stateful.context)
    discard(stateful)
    with pytest.raises(AirflowSkipException, match="is paid already"):
        OPERATORS[operation](if_paid="skip").execute(stateful.context)


def test_a_tag_needs_no_journal(portal: Portal, stateful: Task) -> None:
    first = OPERATORS["add_crm_payment"](tag=True).execute(stateful.context)
    discard(stateful)
    again = OPERATORS["add_crm_payment"](tag=True).execute(stateful.context)
    assert (again["payment_id"], again["evidence"]) == (first["payment_id"], "tag")


def test_a_tag_that_is_not_found_proves_nothing(portal: Any, stateful: Task) -> None:
    OPERATORS["add_crm_payment"]().execute(stateful.context)
    discard(stateful)
    with pytest.raises(AirflowFailException, match=LOST):
        OPERATORS["add_crm_payment"](tag=True).execute(stateful.context)
    assert len(write_requests(portal, "add_crm_payment")) == 1


@EACH
def test_a_portal_that_cannot_be_read_is_waited_for(portal: Any, stateful: Task, operation: str) -> None:
    OPERATORS[operation]().execute(stateful.context)
    discard(stateful)
    portal.fault("internal_server_error", "*")
    with pytest.raises(Exception, match="money may have been"):
        OPERATORS[operation]().execute(stateful.context)
    assert len(write_requests(portal, operation)) == 1


@EACH
@pytest.mark.parametrize("decision", ["send_again", "abandon"])
def test_a_person_decides(portal: Any, stateful: Task, journal: Path, operation: str, decision: str) -> None:
    key = OPERATORS[operation](journal_conn_id="payments").execute(stateful.context)["idempotency_key"]
    undone(portal, operation)
    journal.unlink()
    discard(stateful)
    with pytest.raises(AirflowFailException, match=LOST):
        OPERATORS[operation](journal_conn_id="payments").execute(stateful.context)
    decide(key, decision)
    discard(stateful)
    if decision == "abandon":
        with raises_for_good(PaymentRefused, "anna has abandoned"):
            OPERATORS[operation](journal_conn_id="payments").execute(stateful.context)
    else:
        receipt = OPERATORS[operation](journal_conn_id="payments").execute(stateful.context)
        assert receipt["outcome"] in ("created", "paid")
    assert len(write_requests(portal, operation)) == (1 if decision == "abandon" else 2)


def test_a_person_adopts_the_payment(portal: Any, stateful: Task, journal: Path) -> None:
    add = OPERATORS["add_crm_payment"]
    first = add(journal_conn_id="payments").execute(stateful.context)
    journal.unlink()
    discard(stateful)
    with pytest.raises(AirflowFailException, match=LOST):
        add(journal_conn_id="payments").execute(stateful.context)
    decide(first["idempotency_key"], "use_payment", first["payment_id"])
    discard(stateful)
    again = add(journal_conn_id="payments").execute(stateful.context)
    assert (again["payment_id"], again["evidence"]) == (first["payment_id"], "person")
    assert len(write_requests(portal, "add_crm_payment")) == 1


# -- a SQL journal


@EACH
def test_a_database_and_the_task_state_complete_each_other(
    portal: Any, stateful: Task, journal: Path, operation: str
) -> None:
    first = OPERATORS[operation](journal_conn_id="payments").execute(stateful.context)
    journal.unlink()  # the task state knows
    stateful.again()
    again = OPERATORS[operation](journal_conn_id="payments").execute(stateful.context)
    discard(stateful)  # the database knows
    third = OPERATORS[operation](journal_conn_id="payments").execute(stateful.context)
    assert again == third == {**again, "recovered": True}
    assert again["idempotency_key"] == first["idempotency_key"]
    assert len(write_requests(portal, operation)) == 1


@EACH
def test_a_database_that_was_replaced_has_forgotten(
    portal: Any, forgetful_task: Task, journal: Path, operation: str
) -> None:
    """Airflow 3.1 and 3.2 keep no task state; newer ones have theirs beside the database."""
    task = forgetful_task
    OPERATORS[operation](journal_conn_id="payments").execute(task.context)
    undone(portal, operation)
    journal.unlink()
    for _ in range(2):
        task.again()
        with pytest.raises(AirflowFailException, match=f"{LOST}.*somebody has emptied it"):
            OPERATORS[operation](journal_conn_id="payments").execute(task.context)
    assert len(write_requests(portal, operation)) == 1


@EACH
def test_an_attempt_that_does_not_reach_its_journal_hands_on_that_there_was_one(
    portal: Any, forgetful_task: Task, journal: Path, operation: str
) -> None:
    task = forgetful_task
    OPERATORS[operation](journal_conn_id="payments").execute(task.context)
    undone(portal, operation)
    journal.unlink()
    task.again()
    with pytest.raises(Bitrix24ConnectionNotFound):
        OPERATORS[operation](journal_conn_id="payments", bitrix24_conn_id="nowhere").execute(task.context)
    task.again()
    with pytest.raises(AirflowFailException, match=f"{LOST}.*somebody has emptied it"):
        OPERATORS[operation](journal_conn_id="payments").execute(task.context)
    assert len(write_requests(portal, operation)) == 1


@EACH
def test_a_database_that_is_given_later_has_not_known_the_first_attempts(
    portal: Any, stateful: Task, journal: Path, operation: str
) -> None:
    OPERATORS[operation]().execute(stateful.context)
    undone(portal, operation)
    discard(stateful)
    with pytest.raises(AirflowFailException, match=LOST):
        OPERATORS[operation](journal_conn_id="payments").execute(stateful.context)
    assert len(write_requests(portal, operation)) == 1


def test_another_runs_note_does_not_say_what_this_task_has_sent(portal: Any, stateful: Task, journal: Path) -> None:
    def add(**options: Any) -> Any:
        options = {"journal_conn_id": "payments", "idempotency_key": "order-17", **options}
        return OPERATORS["add_crm_payment"](**options).execute(stateful.context)

    stateful.ti.run_id = "manual__0"
    with raises_for_good(PaymentRefused, "the max_amount of this task is 1.00"):  # it opens the key and sends nothing
        add(max_amount="1.00", fill_products=True)
    stateful.ti.run_id, stateful.ti.try_number, stateful.ti.max_tries = "manual__1", 1, 0
    stateful.store.kept.clear()
    add(journal_conn_id=None, tag=True)
    portal.act.delete_payment(1033, user_id=7)  # nothing of the tag is there any more
    discard(stateful)
    with pytest.raises(AirflowFailException, match=LOST):
        add()
    assert len(write_requests(portal, "add_crm_payment")) == 1


# -- what is no reason for alarm


@EACH
def test_an_attempt_that_died_before_it_began_has_sent_nothing(portal: Any, stateful: Task, operation: str) -> None:
    stateful.again()
    stateful.again()
    if stateful.new_ids:  # Airflow 3.4 does not tell that they have not begun
        with pytest.raises(AirflowFailException, match=f"{LOST}.*Airflow does not tell whether one has begun"):
            OPERATORS[operation]().execute(stateful.context)
        return
    assert OPERATORS[operation]().execute(stateful.context)["outcome"] in ("created", "paid")


@EACH
def test_a_first_attempt_that_could_not_reach_the_database_has_sent_nothing(
    portal: Any, forgetful_task: Task, journal: Path, operation: str
) -> None:
    task = forgetful_task
    journal.mkdir()
    with pytest.raises(Bitrix24StoreError):
        OPERATORS[operation](journal_conn_id="payments").execute(task.context)
    journal.rmdir()
    task.again()
    assert OPERATORS[operation](journal_conn_id="payments").execute(task.context)["outcome"] in ("created", "paid")


@EACH
@pytest.mark.parametrize("state", [True, False], ids=["task state", "no task state"])
def test_what_was_stopped_begins_when_it_is_cleared(
    portal: Any, task: Task, journal: Path, operation: str, state: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database knows that nothing was sent, with and without the task state."""
    if state:
        task.context["task_state_store"] = task.store
    else:
        task.context.pop("task_state_store", None)
    monkeypatch.setenv(SWITCH, "true")
    with pytest.raises(AirflowFailException, match="has stopped"):
        OPERATORS[operation](journal_conn_id="payments").execute(task.context)
    monkeypatch.setenv(SWITCH, "false")
    discard(task)
    assert OPERATORS[operation](journal_conn_id="payments").execute(task.context)["outcome"] in ("created", "paid")


@EACH
@pytest.mark.parametrize("wrong", [{"max_amount": "much"}, {"bitrix24_conn_id": "nowhere"}], ids=str)
def test_what_failed_by_its_arguments_begins_when_it_is_cleared_with_its_state(
    portal: Any, stateful: Task, operation: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(Exception, match=r"much|nowhere"):
        OPERATORS[operation](**wrong).execute(stateful.context)
    stateful.clear()
    assert OPERATORS[operation]().execute(stateful.context)["outcome"] in ("created", "paid")


# -- something in front of Airflow's API


@EACH
@pytest.mark.parametrize("hidden", [(1, 1), (1, 2), (2, 0), (0, 2), (0, 1), (1, 0)], ids=str)
def test_a_wrong_not_found_is_not_believed(
    portal: Any, stateful: Task, operation: str, hidden: tuple[int, int]
) -> None:
    """Airflow's supervisor says "not found" for every HTTP 404, whoever has sent it."""
    first = OPERATORS[operation]().execute(stateful.context)
    undone(portal, operation)
    stateful.again()
    get, left = stateful.store.get, dict(zip((ATTEMPTS, DOCUMENT), hidden, strict=True))

    def not_found(key: str, default: Any = None) -> Any:
        if left.get(key):
            left[key] -= 1
            return default
        return get(key, default)

    stateful.store.get = not_found  # type: ignore[method-assign]
    receipt, said = None, ""
    try:
        receipt = OPERATORS[operation]().execute(stateful.context)
    except (Bitrix24StoreError, AirflowFailException) as error:
        said = str(error)
    assert receipt == {**first, "outcome": "existing", "recovered": True} or re.search(
        r"does not show what was written|does not show that now", said
    )
    assert len(write_requests(portal, operation)) == 1


@EACH
@pytest.mark.parametrize("keys", [(DOCUMENT,), (DOCUMENT, ATTEMPTS)], ids=str)
def test_a_lasting_not_found_is_not_believed_either(
    portal: Any, stateful: Task, operation: str, keys: tuple[str, ...]
) -> None:
    OPERATORS[operation]().execute(stateful.context)
    undone(portal, operation)
    get = stateful.store.get
    stateful.store.get = lambda key, default=None: default if key in keys else get(key, default)  # type: ignore[method-assign]
    for _ in range(2):
        stateful.again()
        error, words = (
            (Bitrix24StoreError, "does not show") if ATTEMPTS in keys else (AirflowFailException, "money may have been")
        )
        with pytest.raises(error, match=words):
            OPERATORS[operation]().execute(stateful.context)
    assert len(write_requests(portal, operation)) == 1


@EACH
@pytest.mark.parametrize("left", [{}, {ATTEMPTS: "{}"}], ids=["nothing", "an empty note"])
def test_a_task_state_that_somebody_has_emptied_is_noticed(
    portal: Any, stateful: Task, operation: str, left: dict[str, str]
) -> None:
    OPERATORS[operation]().execute(stateful.context)
    assert stateful.xcoms[BEGUN] is True
    undone(portal, operation)
    stateful.store.kept.clear()
    stateful.store.kept.update(left)
    stateful.again()
    words = "Airflow does not tell whether one has begun" if stateful.new_ids else "somebody has emptied it"
    with pytest.raises(AirflowFailException, match=f"{LOST}.*{words}"):
        OPERATORS[operation]().execute(stateful.context)
    assert len(write_requests(portal, operation)) == 1


@EACH
@pytest.mark.parametrize("hidden", [1, 2])
def test_a_decision_at_a_terminal_is_heard_after_a_wrong_not_found(
    portal: Any, stateful: Task, operation: str, hidden: int
) -> None:
    OPERATORS[operation]().execute(stateful.context)
    undone(portal, operation)
    document = {**stateful.store.get(DOCUMENT), "receipt": None, "forgotten": True}
    stateful.store.set(DOCUMENT, document)
    entry, at = Record.read(document, where="the test"), "2026-11-27T10:00:00+00:00"
    about = {"key": entry.key, "about": entry.digest}
    decision = Decision(what="abandon", by="anna", at=at, through="command line", **about)
    stateful.store.set(DECISIONS, [decision.document()])
    stateful.clear()
    get, left = stateful.store.get, [hidden]

    def not_found(key: str, default: Any = None) -> Any:
        if key == DECISIONS and left[0]:
            left[0] -= 1
            return default
        return get(key, default)

    stateful.store.get = not_found  # type: ignore[method-assign]
    with raises_for_good(PaymentRefused, "anna has abandoned"):
        OPERATORS[operation]().execute(stateful.context)
    assert len(write_requests(portal, operation)) == 1


@EACH
def test_a_rescheduled_attempt_is_no_first_one(portal: Any, stateful: Task, operation: str) -> None:
    """Airflow 3.4 reschedules without a new attempt number."""
    OPERATORS[operation]().execute(stateful.context)
    undone(portal, operation)
    stateful.store.kept.clear()
    stateful.reschedule()
    with pytest.raises(AirflowFailException, match=f"{LOST}.*somebody has emptied it"):
        OPERATORS[operation]().execute(stateful.context)
    assert len(write_requests(portal, operation)) == 1


@EACH
def test_a_retry_whose_earlier_attempts_have_left_their_notes_goes_on(
    portal: Any, stateful: Task, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, "true")
    with pytest.raises(AirflowFailException, match="has stopped"):
        OPERATORS[operation]().execute(stateful.context)
    monkeypatch.setenv(SWITCH, "false")
    stateful.again()
    assert OPERATORS[operation]().execute(stateful.context)["outcome"] in ("created", "paid")


@pytest.mark.usefixtures("nobody_is_asked")
def test_on_airflow_33_a_person_may_be_asked(portal: Any, task: Task) -> None:
    operator = OPERATORS["add_crm_payment"](on_unknown="ask")
    if not AIRFLOW_V_3_3_PLUS:
        with pytest.raises(AirflowFailException, match=r"needs Airflow 3\.3"):
            operator.execute(task.context)
        return
    first = operator.execute(task.context)
    discard(task)
    with pytest.raises(Exception, match=f"payment {first['payment_id']}|money may have been recorded") as caught:
        operator.execute(task.context)
    assert first["payment_id"] in caught.value.candidates  # type: ignore[attr-defined]
