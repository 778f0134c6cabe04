"""The journal in a task state store: one document, one key, and a fence against attempts that Airflow has given up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_provider_bitrix24.at_most_once.record import Decision, Record, Send
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24StoreError, PaymentInProgress
from airflow_provider_bitrix24.journal import NullJournal
from airflow_provider_bitrix24.journal.task_state import DECISIONS, DOCUMENT, TaskStateJournal
from tests.journal.one_key import OneKey

pytestmark = pytest.mark.needs_task_state

PORTAL = "acme.bitrix24.com"


class Store:
    """What Airflow gives a task, in a dict."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.retentions: list[Any] = []
        self.trouble: Exception | None = None

    def get(self, key: str, default: Any = None) -> Any:
        if self.trouble:
            raise self.trouble
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        if self.trouble:
            raise self.trouble
        self.values[key] = json.dumps(value)
        self.retentions.append(retention)


def entry(key: str = "key", result: Any = "pending") -> Record:
    return Record(
        key=key,
        portal=PORTAL,
        operation="pay_invoice",
        subject="invoice 2",
        parameters={},
        task="task",
        sends=(Send(at=1.0, settle_until=157.0, by="task:try:1", result=result),),
    )


def error(status: int | None) -> Exception:
    detail = {"status_code": status, "message": "trouble"}
    return AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))


def test_the_next_attempt_reads_what_was_written_for_good() -> None:
    store = Store()
    OneKey(TaskStateJournal(store, "never"), PORTAL, "key").write(entry(), lease=60)
    assert OneKey(TaskStateJournal(store), PORTAL, "key").read() == entry()
    assert store.retentions == ["never"]
    assert json.loads(store.values[DOCUMENT])["state"] == "unknown"


def test_there_is_nothing_at_first() -> None:
    assert OneKey(TaskStateJournal(Store()), PORTAL, "key").read() is None


@pytest.mark.parametrize(
    ("portal", "key", "advice"),
    [
        (PORTAL, "other", "for another payment, start a new run"),
        ("other.bitrix24.com", "key", f"If the portal was renamed, set the connection's extra portal_id to '{PORTAL}'"),
    ],
)
def test_a_task_instance_works_on_one_key(portal: str, key: str, advice: str) -> None:
    store = Store()
    OneKey(TaskStateJournal(store), PORTAL, "key").write(entry())
    with pytest.raises(Bitrix24ConfigError, match=r"already worked on 'key'.*invoice 2: unknown") as caught:
        OneKey(TaskStateJournal(store), portal, key).read()
    assert advice in str(caught.value)


def test_a_key_that_sent_nothing_may_be_another_one() -> None:
    store = Store()
    OneKey(TaskStateJournal(store), PORTAL, "key").write(entry(result="refused"))
    assert OneKey(TaskStateJournal(store), PORTAL, "other").read() is None


def decided(what: Any = "send_again", **more: Any) -> Decision:
    facts = {"by": "Ada", "at": "2026-11-22T10:00:00.000+00:00", "through": "command line", "about": entry().digest}
    return Decision(**{"what": what, **facts, **more})


def put(store: Store, *decisions: Decision) -> None:
    """As the command line does."""
    store.values[DECISIONS] = json.dumps([one.document() for one in decisions])


def read(store: Store) -> Record:
    found = OneKey(TaskStateJournal(store), PORTAL, "key").read()
    assert found is not None
    return found


def test_a_decision_beside_the_document_is_taken_over_once() -> None:
    store = Store()
    page = OneKey(TaskStateJournal(store), PORTAL, "key")
    page.write(entry())
    put(store, decided())
    heard = read(store)
    assert (heard.state, heard.decision) == ("decision_pending", decided())
    assert TaskStateJournal(store).noted() == [heard]
    page.write(heard.permitted_again([1033]))
    again = read(store)
    assert (again.decision, again.dismissed) == (None, (1033,))
    assert again.decisions == (decided(set_aside=(1033,)),)


def test_the_last_decision_counts_and_the_others_stay_in_the_record() -> None:
    store = Store()
    OneKey(TaskStateJournal(store), PORTAL, "key").write(entry())
    put(store, decided(), decided("use_payment", payment_id=1033, by="Bob"))
    heard = read(store)
    assert heard.decision == decided("use_payment", payment_id=1033, by="Bob")
    assert heard.decisions == (decided(refused="Bob has decided again"),)


@pytest.mark.parametrize("what", ["send_again", "abandon"])
def test_what_was_decided_about_another_key_is_not_taken_over(what: str) -> None:
    store = Store()
    OneKey(TaskStateJournal(store), PORTAL, "key").write(entry())
    put(store, decided(what, key="another key"), decided(what, key="key", by="Bob"))
    heard = read(store)
    assert (heard.decision, heard.decisions) == (decided(what, key="key", by="Bob"), ())


@pytest.mark.parametrize(
    ("what", "went_on", "state"),
    [
        ("send_again", {"sends": entry(result="absent").sends}, "absent"),
        ("send_again", {"receipt": {"outcome": "paid"}}, "done"),
        ("abandon", {"sends": entry(result="absent").sends}, "decision_pending"),
        ("abandon", {"receipt": {"outcome": "paid"}}, "done"),
    ],
)
def test_what_was_decided_about_another_state_of_things_does_not_stand(
    what: str, went_on: dict[str, Any], state: str
) -> None:
    store = Store()
    put(store, decided(what))
    OneKey(TaskStateJournal(store), PORTAL, "key").write(replace(entry(), **went_on))
    heard = read(store)
    assert heard.state == state
    if state != "decision_pending":
        assert heard.decisions == (decided(what, refused="the task had gone on before it saw the decision"),)


@pytest.mark.parametrize("damage", [[{"what": "burn"}], [5], 5, "send_again"])
def test_damaged_decisions_are_told(damage: Any) -> None:
    store = Store()
    OneKey(TaskStateJournal(store), PORTAL, "key").write(entry())
    store.values[DECISIONS] = json.dumps(damage)
    with pytest.raises(Bitrix24ConfigError, match=r"\(bitrix24_decisions\) cannot be read.*by this attempt") as caught:
        read(store)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(("status", "reason"), [(404, "not_found"), (409, "not_running")])
def test_an_attempt_that_airflow_has_given_up_may_not_write(status: int, reason: str) -> None:
    store = Store()
    page = OneKey(TaskStateJournal(store), PORTAL, "key")
    store.trouble = error(status)
    store.trouble.error.detail["detail"] = {"detail": {"reason": reason}}  # type: ignore[attr-defined]
    with pytest.raises(PaymentInProgress, match="given this attempt up"):
        page.write(entry(), lease=60)


@pytest.mark.parametrize("trouble", [error(500), error(None), ConnectionError("gone"), error(403), error(404)])
def test_a_store_in_trouble_is_worth_a_retry(trouble: Exception) -> None:
    store = Store()
    page = OneKey(TaskStateJournal(store), PORTAL, "key")
    store.trouble = trouble
    for work in (page.read, lambda: page.write(entry())):
        with pytest.raises(Bitrix24StoreError, match="task state store cannot be used now") as caught:
            work()
        assert not caught.value.final
        assert caught.value.__context__ is None


def test_it_knows_nothing_of_other_keys() -> None:
    for journal in (TaskStateJournal(Store()), NullJournal()):
        page = OneKey(journal, PORTAL, "key")
        page.release()
        assert page.busy is None
        assert page.observed_payment() is None
        assert page.claimed_by_others([1033]) == {}
        assert list(page.unresolved_keys("deal 4")) == []


def test_no_journal_knows_what_this_attempt_wrote() -> None:
    page = OneKey(NullJournal(), PORTAL, "key")
    assert page.read() is None
    page.write(entry(), lease=60)
    assert page.read() == entry()
    assert OneKey(NullJournal(), PORTAL, "key").read() is None
