"""The SQL journal on a real database: compare-and-set, terms, claims, unresolved_keys and observations."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from airflow_provider_bitrix24.at_most_once.record import CorruptEntry, Decision, Record, Send
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24StoreError, PaymentInProgress
from airflow_provider_bitrix24.journal.fenced import FencedJournal
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.journal.sql_transaction import Version
from airflow_provider_bitrix24.journal.tables import SCHEMA
from airflow_provider_bitrix24.journal.task_state import DOCUMENT, TaskStateJournal
from airflow_provider_bitrix24.sql import Database
from tests.journal.one_key import Claimed, OneKey

if TYPE_CHECKING:
    from collections.abc import Collection

pytestmark = pytest.mark.libraries

PORTAL = "acme.bitrix24.com"


def journal(database: Database, owner: str = "one") -> SqlJournal:
    return SqlJournal(database, owner)


def fenced_by(store: Any, database: Database) -> OneKey:
    return OneKey(FencedJournal(database, "one", fence=TaskStateJournal(store)), PORTAL, "key")


def page(database: Database, owner: str = "one", key: str = "key") -> OneKey:
    return OneKey(journal(database, owner), PORTAL, key)


def entry(key: str = "key", *, results: Collection[Any] = ("pending",), **facts: Any) -> Record:
    sends = tuple(Send(at=1.0, settle_until=157.0, by="one", result=result) for result in results)
    values: dict[str, Any] = {
        "key": key,
        "portal": PORTAL,
        "operation": "add_crm_payment",
        "subject": "deal 4",
        "parameters": {"entity_id": 4},
        "task": "one",
        "sends": sends,
    }
    return Record(**values | facts)


def test_what_is_written_is_read(database: Database) -> None:
    first = page(database)
    assert first.read() is None
    first.write(entry(payment_ids_before=(1001,), plan={"7": 2}), lease=60)
    assert page(database).read() == entry(payment_ids_before=(1001,), plan={"7": 2})


def decided(what: Any) -> Decision:
    return Decision(what=what, by="Ada", at="2026-11-22T10:00:00.000+00:00", through="command line")


def test_keys_and_portals_are_apart(database: Database) -> None:
    page(database).read()
    page(database).write(entry())
    assert page(database, key="other").read() is None
    assert OneKey(journal(database), "other.bitrix24.com", "key").read() is None


def test_any_key_fits(database: Database) -> None:
    key = "Rechnung Ñ° 5 \N{GRINNING FACE} " * 40
    made = page(database, key=key)
    made.read()
    made.write(entry(key))
    found = page(database, key=key).read()
    assert found is not None
    assert found.key == key


def test_of_two_first_writes_one_loses(database: Database) -> None:
    one, two = page(database, "one"), page(database, "two")
    assert (one.read(), two.read()) == (None, None)
    one.write(entry(), lease=60)
    with pytest.raises(PaymentInProgress, match=r"Another task is at work on 'key'.*: one"):
        two.write(entry(), lease=60)


def test_of_two_later_writes_one_loses(database: Database) -> None:
    page(database).read()
    page(database).write(entry())
    one, two = page(database, "one"), page(database, "two")
    one.read(), two.read()
    two.write(entry(results=("absent", "pending")), lease=0)
    with pytest.raises(PaymentInProgress, match=": two"):
        one.write(entry(results=("acknowledged",)))
    found = page(database).read()
    assert found is not None
    assert [send.result for send in found.sends] == ["absent", "pending"]


def test_an_attempt_goes_on_writing_what_it_holds(database: Database) -> None:
    one = page(database, "one")
    one.read()
    for result in ("pending", "acknowledged", "acknowledged"):
        one.write(entry(results=(result,)), lease=60)


def test_nobody_takes_over_before_the_term_ends(database: Database) -> None:
    one, two = page(database, "one"), page(database, "two")
    one.read()
    one.write(entry(), lease=3600)
    two.read()
    assert two.busy is not None
    assert two.busy.owner == "one"
    assert 3500 < two.busy.seconds <= 3600
    with pytest.raises(PaymentInProgress):
        two.write(entry(results=("absent",)))


def test_who_lets_go_may_be_followed_at_once(database: Database) -> None:
    one, two = page(database, "one"), page(database, "two")
    one.read()
    one.write(entry(), lease=3600)
    one.release()
    two.read()
    assert two.busy is None
    two.write(entry(results=("absent",)))


def test_only_the_holder_can_let_go(database: Database) -> None:
    one, two = page(database, "one"), page(database, "two")
    one.read()
    one.write(entry(), lease=3600)
    two.read()
    two.release()
    two.read()
    assert two.busy is not None


def test_the_holder_is_not_busy_for_itself(database: Database) -> None:
    one = page(database, "one")
    one.read()
    one.write(entry(), lease=3600)
    one.read()
    assert one.busy is None


def test_what_an_overtaken_attempt_was_told_is_kept(database: Database) -> None:
    zombie, retry = page(database, "zombie"), page(database, "retry")
    zombie.read()
    zombie.write(entry(), lease=0)
    retry.read()
    retry.write(entry(results=("absent",)))
    assert retry.observed_payment() is None
    with pytest.raises(PaymentInProgress):
        zombie.write(entry(results=("acknowledged",), payment_id=1033, evidence="response"))
    assert retry.observed_payment() == 1033
    assert page(database, key="other").observed_payment() is None


@pytest.mark.parametrize("evidence", ["difference", "person", "state", "tag"])
def test_what_an_overtaken_attempt_has_concluded_is_no_answer(database: Database, evidence: str) -> None:
    zombie, retry = page(database, "zombie"), page(database, "retry")
    zombie.read()
    zombie.write(entry(), lease=0)
    retry.read()
    retry.write(entry(results=("absent",)))
    with pytest.raises(PaymentInProgress):
        zombie.write(entry(results=("absent",), payment_id=1033, evidence=evidence))
    assert retry.observed_payment() is None


def test_an_intent_that_lost_is_no_observation(database: Database) -> None:
    one, two = page(database, "one"), page(database, "two")
    one.read(), two.read()
    one.write(entry(), lease=60)
    with pytest.raises(PaymentInProgress):
        two.write(entry(payment_id=None), lease=60)
    assert two.observed_payment() is None


def test_a_payment_belongs_to_one_key(database: Database) -> None:
    one, other = page(database), page(database, key="other")
    one.read(), other.read()
    one.write(entry(payment_id=1033))
    one.write(entry(payment_id=1033))
    with pytest.raises(Claimed, match="key"):
        other.write(entry("other", payment_id=1033))
    assert other.read() is None
    assert set(other.claimed_by_others([1033, 1034])) == {1033}
    assert one.claimed_by_others([1033, 1034]) == {}
    assert other.claimed_by_others([]) == {}


@pytest.mark.parametrize(
    ("results", "rival"),
    [
        (("pending",), True),
        (("inconclusive",), True),
        (("absent",), False),
        (("refused",), False),
        (("acknowledged",), False),
    ],
)
def test_a_key_with_an_unknown_result_is_a_rival(database: Database, results: tuple[str, ...], rival: bool) -> None:
    one, other = page(database), page(database, key="other")
    one.read(), other.read()
    one.write(entry(), lease=60)
    other.write(entry("other"), lease=60)
    other.write(entry("other", results=results))
    assert list(one.unresolved_keys("deal 4")) == (["other"] if rival else [])
    assert list(one.unresolved_keys("deal 5")) == []


def test_a_key_whose_payment_was_found_is_no_rival(database: Database) -> None:
    one, other = page(database), page(database, key="other")
    one.read(), other.read()
    one.write(entry(), lease=60)
    other.write(entry("other"), lease=60)
    other.write(entry("other", payment_id=1033, evidence="tag"))
    assert list(one.unresolved_keys("deal 4")) == []


def test_a_key_that_was_settled_before_our_first_send_is_no_rival(database: Database) -> None:
    other = page(database, key="other")
    other.read()
    other.write(entry("other"), lease=-60)
    one = page(database)
    one.read()
    one.write(entry(), lease=60)
    assert list(one.unresolved_keys("deal 4")) == []


def test_a_key_that_wrote_after_our_snapshot_is_a_rival(database: Database) -> None:
    """It was settled before our first send was saved, but after the payments were read."""
    one, other = page(database), page(database, key="other")
    one.read(), other.read()
    other.write(entry("other"), lease=1e-6)
    one.write(entry(), lease=60)
    assert list(one.unresolved_keys("deal 4")) == ["other"]


def test_a_key_of_which_no_times_are_known_is_a_rival(database: Database) -> None:
    """A row that was taken over from the task state."""
    one, other = page(database), page(database, key="other")
    one.read(), other.read()
    other.write(entry("other"))
    assert (list(one.unresolved_keys("deal 4")), list(other.unresolved_keys("deal 4"))) == (["other"], [])
    one.write(entry(), lease=60)
    assert (list(one.unresolved_keys("deal 4")), list(other.unresolved_keys("deal 4"))) == (["other"], ["key"])


def test_a_lost_confirmation_is_recognised(database: Database) -> None:
    one = page(database, "one")
    one.read()
    one.write(entry(), lease=60)
    again = page(database, "one")
    again.journal._versions[PORTAL, "key"] = Version()  # type: ignore[attr-defined] # as if it had not been confirmed
    again.write(entry(), lease=60)


def test_of_many_at_once_exactly_one_wins(database: Database) -> None:
    database.require(SCHEMA)
    won: list[int] = []
    lost: list[str] = []
    barrier = threading.Barrier(8)

    def race(number: int) -> None:
        mine = page(database, f"task {number}")
        mine.read()
        barrier.wait()
        try:
            mine.write(entry(task=f"task {number}"), lease=60)
        except (PaymentInProgress, Bitrix24StoreError) as error:
            lost.append(str(error))
        else:
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1, lost
    found = page(database).read()
    assert found is not None
    assert found.task == f"task {won[0]}"


def test_a_fence_is_written_first(database: Database) -> None:
    class Store:
        def __init__(self) -> None:
            self.values: dict[str, Any] = {}

        def get(self, key: str, default: Any = None) -> Any:
            return self.values.get(key, default)

        def set(self, key: str, value: Any, *, retention: Any = None) -> None:
            self.values[key] = value

    class Gone(Store):
        """Airflow does not know the attempt; or something in front of it answers, whose status says nothing of it."""

        def __init__(self, said: dict[str, Any] | None = None) -> None:
            super().__init__()
            reason = {"reason": "not_found", "message": "Task instance 1 not found"}
            self.said = said or {"status_code": 404, "detail": {"detail": reason}}

        def set(self, key: str, value: Any, *, retention: Any = None) -> None:
            from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
            from airflow.sdk.execution_time.comms import ErrorResponse

            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=self.said))

    store = Store()
    fenced = fenced_by(store, database)
    fenced.read()
    fenced.write(entry(), lease=0)
    assert store.values[DOCUMENT]["key"] == "key"
    zombie = fenced_by(Gone(), database)
    zombie.read()
    with pytest.raises(PaymentInProgress, match="Airflow has given this attempt up"):
        zombie.write(entry(results=("acknowledged",), payment_id=1033, evidence="response"), lease=0)
    # Nothing of that is in the row; what the portal has answered is not lost.
    assert (page(database).read(), zombie.observed_payment()) == (entry(), 1033)
    with pytest.raises(PaymentInProgress, match="Airflow has given this attempt up"):
        zombie.write(entry(results=("absent",)), lease=0)
    proxies = ({"detail": {"detail": "Not Found"}}, {}, {"status_code": 409, "detail": None})
    for said in proxies:
        unsure = fenced_by(Gone({"status_code": 404, **said}), database)
        unsure.read()
        with pytest.raises(Bitrix24StoreError, match="cannot be used now"):
            unsure.write(entry(results=("absent",)), lease=0)
    found = page(database).read()
    assert found is not None
    assert [send.result for send in found.sends] == ["pending"]


def test_entries_are_listed_the_latest_first(database: Database) -> None:
    for key in ("a", "b"):
        made = page(database, key=key)
        made.read()
        made.write(entry(key))
    last = page(database, key="a")
    last.read()
    last.write(entry("a", results=("absent",)))
    listed = list(journal(database).entries())
    assert [one.key for one in listed] == ["a", "b"]
    assert [one.key for one in journal(database).entries("b")] == ["b"]
    assert list(journal(database).entries("c")) == []


def spoil(database: Database, key: str, document: str) -> None:
    with database.begin() as connection:
        changed = sa.text("update bitrix24_journal set document = :document where journal_key = :key")
        assert connection.execute(changed, {"document": document, "key": key}).rowcount == 1


@pytest.mark.parametrize("document", ["{", "[]", '{"v": 2}'])
def test_an_unreadable_row_does_not_hide_the_others(database: Database, document: str) -> None:
    for key in ("a", "b", "c"):
        made = page(database, key=key)
        made.read()
        made.write(entry(key))
    spoil(database, "b", document)
    found = {one.key: one for one in journal(database).entries()}
    assert [type(found[key]) for key in "abc"] == [Record, CorruptEntry, Record]
    unreadable = found["b"]
    assert isinstance(unreadable, CorruptEntry)
    assert (unreadable.portal, unreadable.text) == (PORTAL, document)
    assert "cannot be read" in unreadable.why
    with pytest.raises(Bitrix24ConfigError, match="money may have been recorded"):
        page(database, key="b").read()


@pytest.mark.parametrize(
    ("part", "found"),
    [("acme:order-", {"acme:order-1", "acme:order-10"}), ("-1", {"acme:order-1"}), ("rder", set()), ("%", {"100%"})],
)
def test_a_part_of_a_key_finds_it(database: Database, part: str, found: set[str]) -> None:
    for key in ("acme:order-1", "acme:order-10", "100%", "rest_1"):
        made = page(database, key=key)
        made.read()
        made.write(entry(key))
    assert {one.key for one in journal(database).entries(part, part=True)} == found


def test_a_claim_ends_when_the_payment_is_let_go(database: Database) -> None:
    holder, other = page(database, key="a"), page(database, key="b")
    for each in (holder, other):
        each.read()
    holder.write(entry("a", payment_id=1033, evidence="only_new_payment"))
    with pytest.raises(Claimed, match="a"):
        other.write(entry("b", payment_id=1033, evidence="person"))
    later = page(database, "two", key="a")
    later.read()
    later.write(entry("a", payment_id=1034, evidence="person", decisions=(decided("use_payment"),)))
    other.write(entry("b", payment_id=1033, evidence="person"))
    assert set(other.claimed_by_others([1033, 1034])) == {1034}


def test_tables_of_another_version_do_not_deny_what_was_sent(database: Database) -> None:
    page(database).read()
    with database.begin() as connection:
        connection.execute(sa.text("update bitrix24_schema set version = 99"))
    fresh = Database(database.engine.url, "the test database")
    with pytest.raises(Bitrix24ConfigError, match="Nothing was sent by this attempt") as caught:
        page(fresh).read()
    assert "Nothing was sent." not in str(caught.value)
    assert caught.value.__context__ is None


def test_all_that_a_key_has_claimed_is_let_go(database: Database) -> None:
    """Also what an older release has left."""
    for payment_id in (1033, 1034):
        held = page(database, key="a")
        held.read()
        held.write(entry("a", payment_id=payment_id, evidence="only_new_payment"))
    other = page(database, key="b")
    other.read()
    other.write(entry("b", payment_id=1035, evidence="only_new_payment"))
    assert set(other.claimed_by_others([1033, 1034])) == {1033, 1034}
    held = page(database, key="a")
    held.read()
    held.write(entry("a", decisions=(decided("abandon"),)))
    assert other.claimed_by_others([1033, 1034]) == {}
    assert set(held.claimed_by_others([1035])) == {1035}


@pytest.mark.parametrize(
    "settled",
    [{"question": "Whose is it?", "candidates": (1033,)}, {"decisions": (decided("abandon"),)}],
    ids=["a person is asked", "given up"],
)
def test_who_does_not_go_on_with_a_payment_needs_no_claim(database: Database, settled: dict[str, Any]) -> None:
    holder, other = page(database, key="a"), page(database, key="b")
    for each in (holder, other):
        each.read()
    holder.write(entry("a", payment_id=1033, evidence="only_new_payment"))
    known = entry("b", results=("acknowledged",), payment_id=1033, evidence="response")
    other.write(replace(known, **settled))
    with pytest.raises(Claimed, match="a"):
        other.write(known)
    holder.write(entry("a", decisions=(decided("abandon"),)))
    other.write(known)
    assert set(holder.claimed_by_others([1033])) == {1033}


def test_what_only_the_task_state_knows_is_told_apart(database: Database) -> None:
    class Store:
        def get(self, key: str, default: Any = None) -> Any:
            return entry().document() if key == DOCUMENT else default

        def set(self, key: str, value: Any, *, retention: Any = None) -> None:
            pass

    fenced = fenced_by(Store(), database)
    found = fenced.read()
    assert found is not None
    assert (found, fenced.behind) == (entry(), True)
    fenced.write(found)
    assert (fenced.read(), fenced.behind) == (entry(), False)
    assert page(database).read() == entry()
