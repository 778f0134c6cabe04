"""Journals of many keys: statements and transactions, changes that are left out, and chunks that overlap."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from airflow_provider_bitrix24.at_most_once.record import Decision, Record, Send
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24StoreError
from airflow_provider_bitrix24.journal import Change, Journal, NullJournal
from airflow_provider_bitrix24.journal.fenced import FencedJournal
from airflow_provider_bitrix24.journal.sql import SqlJournal
from airflow_provider_bitrix24.journal.sql_transaction import Transaction, _Claims
from airflow_provider_bitrix24.journal.task_state import (
    ATTEMPTS,
    BYTES_IN_CHUNK,
    CHUNK,
    DECISIONS,
    RECORDS_IN_CHUNK,
    TaskStateJournal,
)
from airflow_provider_bitrix24.sql import Database
from tests.journal.test_task_state import Store, error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PORTAL = "acme.bitrix24.com"
KEYS = [f"{PORTAL}:invoice:{number}" for number in range(50)]
GONE = error(404)
GONE.error.detail["detail"] = {"detail": {"reason": "not_found"}}  # type: ignore[attr-defined]


def wanted(key: str, **facts: Any) -> Record:
    values: dict[str, Any] = {
        "key": key,
        "portal": PORTAL,
        "operation": "pay_invoice",
        "subject": f"invoice {key.rpartition(':')[2]}",
        "parameters": {"invoice_id": 2, "pay_system_id": 31, "bx_rest_handler": None},
        "task": "dag:finance:run:1:task:pay",
    }
    return Record(**values | facts)


def sent(key: str, **facts: Any) -> Record:
    return wanted(key, **facts).sending(Send(at=1.0, settle_until=157.0, by="one", result="pending"))


def changes(records: Sequence[Record], **how: Any) -> list[Change]:
    return [Change(record=record, **how) for record in records]


def outcomes(journal: Journal, made: Sequence[Change]) -> dict[str, str]:
    return {key: saved.outcome for key, saved in journal.save(made).items()}


@contextmanager
def counted(database: Database) -> Iterator[Counter[str]]:
    """Count statements by their first word, and transactions."""
    count: Counter[str] = Counter()

    def statement(_c: Any, _cursor: Any, text: str, *_: Any) -> None:
        count[text.split()[0].lower()] += 1

    def transaction(_connection: Any) -> None:
        count["transactions"] += 1

    sa.event.listen(database.engine, "before_cursor_execute", statement)
    sa.event.listen(database.engine, "begin", transaction)
    try:
        yield count
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", statement)
        sa.event.remove(database.engine, "begin", transaction)


# -- SQL


def test_fifty_keys_take_one_select_and_one_transaction(database: Database) -> None:
    journal = SqlJournal(database, "one")
    journal.load(PORTAL, ["another key"])  # creates the tables
    with counted(database) as count:
        loaded = journal.load(PORTAL, KEYS)
    assert (count["transactions"], count["select"]) == (1, 1)
    assert {one.record for one in loaded.values()} == {None}
    with counted(database) as count:
        assert set(outcomes(journal, changes([wanted(key) for key in KEYS], opens=True)).values()) == {"saved"}
    assert (count["transactions"], count["insert"]) == (1, 1)
    with counted(database) as count:
        assert set(outcomes(journal, changes([sent(key) for key in KEYS], lease=60)).values()) == {"saved"}
    assert (count["transactions"], count["update"]) == (1, 50)
    paid = [sent(key).acknowledged().identified(number, "response") for number, key in enumerate(KEYS)]
    with counted(database) as count:
        assert set(outcomes(journal, changes(paid, lease=0)).values()) == {"saved"}
    assert (count["transactions"], count["insert"], count["update"]) == (1, 1, 50)
    with counted(database) as count:
        journal.release(PORTAL, KEYS)
    assert not count  # no lease is left
    with counted(database) as count:
        claims = journal.claims_of_others(PORTAL, {key: [number + 1] for number, key in enumerate(KEYS)})
        journal.unresolved_keys(PORTAL, dict.fromkeys(KEYS, "invoice 2"))
        journal.late_replies(PORTAL, KEYS)
    assert (count["transactions"], count["select"]) == (3, 3)
    assert claims[KEYS[0]] == {1: "response"}
    assert claims[KEYS[-1]] == {}
    assert [one.record for one in SqlJournal(database, "two").load(PORTAL, KEYS).values()] == paid


def test_leases_end_in_one_transaction(database: Database) -> None:
    journal, other = SqlJournal(database, "one"), SqlJournal(database, "two")
    journal.load(PORTAL, KEYS)
    journal.save(changes([sent(key) for key in KEYS], lease=3600))
    assert all(one.busy for one in other.load(PORTAL, KEYS).values())
    with counted(database) as count:
        journal.release(PORTAL, KEYS)
    assert (count["transactions"], count["update"]) == (1, 1)
    assert not any(one.busy for one in other.load(PORTAL, KEYS).values())


def test_what_is_overtaken_or_claimed_is_left_out_and_the_rest_is_saved(database: Database) -> None:
    one, two = SqlJournal(database, "one"), SqlJournal(database, "two")
    keys = KEYS[:5]
    for journal in (one, two):
        journal.load(PORTAL, [*keys, "other"])
    two.save(changes([sent(keys[1]), sent("other").identified(1034, "tag")]))
    two.save(changes([sent(keys[1])]))
    found = one.save(
        changes(
            [
                sent(keys[0]),
                sent(keys[1]).acknowledged().identified(1033, "response"),
                sent(keys[2]).identified(1034, "only_new_payment"),
                sent(keys[3]).identified(1035, "tag"),
                sent(keys[4]).identified(1035, "tag"),
            ],
            lease=60,
        )
    )
    by_digest = sorted(keys[3:], key=lambda key: found[key].outcome, reverse=True)
    assert {key: saved.outcome for key, saved in found.items()} == {
        keys[0]: "saved",
        keys[1]: "overtaken",
        keys[2]: "claimed",
        by_digest[0]: "saved",
        by_digest[1]: "claimed",
    }
    assert f"Another task is at work on {keys[1]!r} (invoice 1): two." in found[keys[1]].message
    assert (found[keys[2]].claimed_by, found[keys[2]].payment_id) == ("other", 1034)
    assert (found[by_digest[1]].claimed_by, found[by_digest[1]].payment_id) == (by_digest[0], 1035)
    now = SqlJournal(database, "three").load(PORTAL, keys)
    assert now[keys[0]].record == sent(keys[0])
    assert now[keys[1]].record == sent(keys[1])
    assert now[keys[2]].record is None
    assert now[by_digest[1]].record is None
    assert one.late_replies(PORTAL, keys) == {keys[1]: 1033}
    # An attempt goes on with what it has saved, not with what it has not.
    again = one.save(changes([sent(keys[0]).absent(), sent(keys[1]).absent()], lease=60))
    assert [again[key].outcome for key in keys[:2]] == ["saved", "overtaken"]


def test_a_payment_changes_hands_in_one_transaction(database: Database) -> None:
    journal, keys = SqlJournal(database, "one"), KEYS[:2]
    decided = Decision(what="send_again", by="Ada", at="2026-11-22T10:00:00+00:00", through="command line")
    for holder, taker in (keys, keys[::-1]):
        journal.load(PORTAL, keys)
        held = sent(holder).identified(1033, "tag")
        journal.save(changes([held]))
        released, taken = held.decided(decided).permitted_again(()), sent(taker).identified(1033, "tag")
        first = outcomes(journal, changes([taken, released]))
        # Which of both comes first depends on their digests; the taker needs a second try if it is the first one.
        assert first[holder] == "saved"
        if first[taker] == "claimed":
            assert outcomes(journal, changes([taken])) == {taker: "saved"}
        assert journal.claims_of_others(PORTAL, {holder: [1033], taker: [1033]}) == {holder: {1033: "tag"}, taker: {}}
        journal.save(changes([taken.decided(decided).permitted_again(())]))


def test_a_key_is_opened_once(database: Database) -> None:
    one, two = SqlJournal(database, "one"), SqlJournal(database, "two")
    for journal in (one, two):
        journal.load(PORTAL, KEYS)
    assert outcomes(one, changes([wanted(key) for key in KEYS[:10]], opens=True)) == dict.fromkeys(KEYS[:10], "saved")
    found = outcomes(two, changes([wanted(key) for key in KEYS], opens=True))
    assert found == {key: "exists" if key in KEYS[:10] else "saved" for key in KEYS}
    assert two.late_replies(PORTAL, KEYS) == {}
    assert {one.record.task for one in two.load(PORTAL, KEYS).values() if one.record} == {"dag:finance:run:1:task:pay"}


@pytest.mark.parametrize("known", [True, False], ids=["update", "insert"])
def test_who_writes_in_the_middle_of_a_transaction_wins(
    database: Database, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    if database.dialect == "sqlite":
        pytest.skip("On SQLite nobody can write in the middle of a transaction.")
    one, two = SqlJournal(database, "one"), SqlJournal(database, "two")
    one.load(PORTAL, KEYS)
    if known:
        one.save(changes([wanted(key) for key in KEYS], opens=True))
        one.load(PORTAL, KEYS)
    two.load(PORTAL, KEYS)
    decide, runs = Transaction._decide, []

    def interrupted(self: Any, *arguments: Any) -> Any:
        decided = decide(self, *arguments)
        runs.append(1)
        if len(runs) == 1:
            two.save(changes([sent(KEYS[7])], lease=60))
        return decided

    monkeypatch.setattr(Transaction, "_decide", interrupted)
    found = outcomes(one, changes([sent(key) for key in KEYS], lease=60))
    assert found == {key: "overtaken" if key == KEYS[7] else "saved" for key in KEYS}
    assert len(runs) == 3  # one of them is that of the other attempt
    owners = SqlJournal(database, "three").load(PORTAL, KEYS)
    assert [one.busy.owner for one in owners.values() if one.busy and one.busy.owner != "one"] == ["two"]


@pytest.mark.parametrize("released", [True, False])
def test_who_claims_in_the_middle_of_a_transaction_wins(
    database: Database, monkeypatch: pytest.MonkeyPatch, released: bool
) -> None:
    if database.dialect == "sqlite":
        pytest.skip("On SQLite nobody can write in the middle of a transaction.")
    one, two = SqlJournal(database, "one"), SqlJournal(database, "two")
    for journal in (one, two):
        journal.load(PORTAL, KEYS)
    settle, runs = _Claims.settle, []
    decided = Decision(what="send_again", by="Ada", at="2026-11-22T10:00:00+00:00", through="command line")
    theirs = sent(KEYS[1]).identified(1033, "tag")
    if released:
        two.save(changes([theirs]))
        theirs = theirs.decided(decided).permitted_again(())

    def interrupted(self: Any, writes: Any) -> Any:
        found = settle(self, writes)
        runs.append(1)
        if len(runs) == 1:
            two.save(changes([theirs]))
        return found

    monkeypatch.setattr(_Claims, "settle", interrupted)
    found = outcomes(one, changes([sent(KEYS[0]).identified(1033, "tag"), sent(KEYS[2])]))
    # A claim that was released in the middle was still there when the transaction decided.
    assert found == {KEYS[0]: "claimed", KEYS[2]: "saved"}
    assert len(runs) == (2 if released else 3)


def test_a_lost_confirmation_is_recognised_for_each_key(database: Database) -> None:
    journal = SqlJournal(database, "one")
    journal.load(PORTAL, KEYS)
    journal.save(changes([wanted(key) for key in KEYS[:25]], opens=True))
    before = dict(journal._versions)
    made = changes([sent(key) for key in KEYS], lease=60)
    assert set(outcomes(journal, made).values()) == {"saved"}
    journal._versions = before  # as if the answer of the database was lost
    with counted(database) as count:
        assert set(outcomes(journal, made).values()) == {"saved"}
    assert (count["select"], count["update"], count["insert"]) == (1, 0, 0)
    assert set(outcomes(journal, changes([sent(key).absent() for key in KEYS])).values()) == {"saved"}
    other = SqlJournal(database, "two")
    other._versions = before
    assert set(outcomes(other, made).values()) == {"overtaken"}


def test_no_changes_are_no_transaction(database: Database) -> None:
    with counted(database) as count:
        assert SqlJournal(database, "one").save([]) == {}
        SqlJournal(database, "one").keep_late_replies([])
    assert not count


def test_a_corrupt_row_does_not_stop_the_others(database: Database) -> None:
    journal = SqlJournal(database, "one")
    journal.load(PORTAL, KEYS)
    journal.save(changes([sent(key) for key in KEYS]))
    with database.begin() as connection:
        connection.execute(sa.text("update bitrix24_journal set document = '{' where subject = 'invoice 7'"))
    loaded = journal.load(PORTAL, KEYS)
    assert [key for key, one in loaded.items() if one.error is not None] == [KEYS[7]]
    assert [key for key, one in loaded.items() if one.record is None] == [KEYS[7]]


def test_a_journal_that_is_away_saves_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = SqlJournal(database, "one")
    journal.load(PORTAL, KEYS)
    fail = sa.exc.OperationalError("insert", {}, Exception("away"))

    def away(*_: Any) -> None:
        raise fail

    sa.event.listen(database.engine, "commit", away)
    with pytest.raises(Bitrix24StoreError, match="away"):
        journal.save(changes([sent(key) for key in KEYS], lease=60))
    sa.event.remove(database.engine, "commit", away)
    assert {one.record for one in SqlJournal(database, "two").load(PORTAL, KEYS).values()} == {None}


def test_chunks_that_overlap_neither_lock_each_other_out_nor_are_sent_twice(database: Database) -> None:
    """Eight attempts with their own order of the same keys: each key is won by exactly one of them, in each round."""
    workers, rounds = 8, 4
    SqlJournal(database, "first").load(PORTAL, KEYS)
    barrier = threading.Barrier(workers)
    won: list[tuple[int, str]] = []
    trouble: list[BaseException] = []

    def work(number: int) -> None:
        shuffled = random.Random(number)
        try:
            for turn in range(rounds):
                journal = SqlJournal(Database(database.engine.url, "the test database"), f"worker {number}.{turn}")
                mine = shuffled.sample(KEYS, 30)
                barrier.wait(60)
                loaded = journal.load(PORTAL, mine)
                new = [key for key in mine if loaded[key].record is None]
                journal.save(changes([wanted(key) for key in new], opens=True))
                loaded = journal.load(PORTAL, mine)
                free = [key for key, one in loaded.items() if one.busy is None and one.record is not None]
                saved = journal.save(changes([sent(key, task=f"round {turn}") for key in free], lease=3600))
                intents = [key for key, one in saved.items() if one.outcome == "saved"]
                won.extend((turn, key) for key in intents)
                barrier.wait(60)
                ids = {key: 1000 * (turn + 1) + int(key.rpartition(":")[2]) for key in intents}
                paid = [sent(key).acknowledged().identified(ids[key], "response") for key in intents]
                assert set(outcomes(journal, changes(paid)).values()) <= {"saved"}
                journal.release(PORTAL, mine)
        except BaseException as failed:
            trouble.append(failed)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trouble == []
    assert set(Counter(won).values()) == {1}
    assert {turn for turn, _ in won} == set(range(rounds))


# -- task state


def begun(store: Store, number: int = 1) -> TaskStateJournal:
    journal = TaskStateJournal(store, many=True)
    journal.begin(f"try {number}", lost="", first=number == 1)
    return journal


def chunks(store: Store) -> list[dict[str, Any]]:
    found = []
    while (name := CHUNK.format(len(found) + 1)) in store.values:
        found.append(json.loads(store.values[name])["records"])
    return found


def test_a_list_has_one_document_for_each_chunk() -> None:
    store = Store()
    journal = begun(store)
    keys = [f"{PORTAL}:invoice:{number}" for number in range(120)]
    for start in range(0, 120, 25):
        mine = keys[start : start + 25]
        journal.load(PORTAL, mine)
        journal.save(changes([wanted(key) for key in mine], opens=True))
        journal.save(changes([sent(key) for key in mine], lease=60))
    assert [len(chunk) for chunk in chunks(store)] == [50, 50, 20]
    assert json.loads(store.values[ATTEMPTS])["documents"] == 3
    later = begun(store, 2)
    assert {key: one.record for key, one in later.load(PORTAL, keys).items()} == {key: sent(key) for key in keys}
    assert later.load(PORTAL, ["new"])["new"].forgot == ""
    assert [record.key for record in later.noted()] == keys


def test_no_document_is_larger_than_airflow_likes() -> None:
    store = Store()
    journal = begun(store)
    journal.load(PORTAL, KEYS)
    journal.save(changes([sent(key) for key in KEYS], lease=60))
    assert len(chunks(store)) == 1
    asked = [sent(key).needs_decision("Which one? " * 300, [1, 2], task="task", refuse="") for key in KEYS]
    assert set(outcomes(journal, changes(asked)).values()) == {"saved"}
    found = chunks(store)
    assert len(found) > 2
    assert all(len(store.values[CHUNK.format(number + 1)]) <= BYTES_IN_CHUNK + 100 for number in range(len(found)))
    assert all(len(chunk) <= RECORDS_IN_CHUNK for chunk in found)
    loaded = begun(store, 2).load(PORTAL, KEYS)
    assert [loaded[key].record for key in KEYS] == asked


@pytest.mark.parametrize("writes", range(1, 9))
def test_an_attempt_that_ends_while_records_move_loses_none(writes: int) -> None:
    class Dying(Store):
        left = 1000

        def set(self, key: str, value: Any, *, retention: Any = None) -> None:
            if not self.left:
                raise ConnectionError("killed")
            self.left -= 1
            super().set(key, value, retention=retention)

    store = Dying()
    journal = begun(store)
    journal.load(PORTAL, KEYS)
    journal.save(changes([sent(key) for key in KEYS]))
    asked = [sent(key).needs_decision("Which one? " * 300, task="task", refuse="") for key in KEYS]
    store.left = writes
    try:
        journal.save(changes(asked))
    except Bitrix24StoreError:
        assert store.left == 0
    store.left = 1000
    loaded = begun(store, 2).load(PORTAL, KEYS)
    for key, after in zip(KEYS, asked, strict=True):
        assert loaded[key].record in (sent(key), after)
    # What is still in two documents is changed in the one that counts.
    second = begun(store, 3)
    second.load(PORTAL, KEYS)
    second.save(changes([sent(key).absent() for key in KEYS]))
    now = begun(store, 4).load(PORTAL, KEYS)
    assert [one.record for one in now.values()] == [sent(key).absent() for key in KEYS]


def test_a_failed_write_is_read_again() -> None:
    store = Store()
    journal = begun(store)
    journal.load(PORTAL, KEYS[:2])
    journal.save(changes([sent(KEYS[0])]))
    store.trouble = error(500)
    with pytest.raises(Bitrix24StoreError):
        journal.save(changes([sent(KEYS[0]).absent()]))
    store.trouble = None
    assert journal.load(PORTAL, KEYS[:1])[KEYS[0]].record == sent(KEYS[0])


def test_a_document_that_is_gone_is_remembered_as_lost() -> None:
    store = Store()
    journal = begun(store)
    keys = [f"{PORTAL}:invoice:{number}" for number in range(60)]
    journal.load(PORTAL, keys)
    journal.save(changes([sent(key) for key in keys]))
    del store.values[CHUNK.format(1)]
    second = begun(store, 2)
    loaded = second.load(PORTAL, keys)
    assert loaded[keys[59]].record == sent(keys[59])
    assert f"had a document {CHUNK.format(1)}" in loaded[keys[0]].forgot
    second.save(changes([wanted(keys[0]).notes_lost("task")], opens=True))
    third = TaskStateJournal(store, many=True)
    assert f"had a document {CHUNK.format(1)}" in third.begin("try 3", lost="", first=False)
    found = third.load(PORTAL, keys)
    assert (found[keys[0]].record, found[keys[1]].record) == (wanted(keys[0]).notes_lost("task"), None)


def test_an_attempt_that_airflow_has_given_up_saves_nothing_of_a_list() -> None:
    store = Store()
    journal = begun(store)
    journal.load(PORTAL, KEYS)
    store.trouble = GONE
    found = journal.save(changes([sent(key) for key in KEYS]))
    assert {saved.outcome for saved in found.values()} == {"overtaken"}
    assert "Airflow has given this attempt up" in found[KEYS[0]].message


def test_a_list_may_change_but_not_its_portal() -> None:
    store = Store()
    journal = begun(store)
    journal.load(PORTAL, KEYS)
    journal.save(changes([sent(key) for key in KEYS[:2]]))
    again = begun(store, 2)
    assert again.load(PORTAL, [KEYS[0], "new"])["new"].error is None
    loaded = begun(store, 3).load("acme", [KEYS[0].replace(PORTAL, "acme"), "new"])
    for one in loaded.values():
        assert isinstance(one.error, Bitrix24ConfigError)
        assert f"set the connection's extra portal_id to {PORTAL!r}" in str(one.error)


def test_a_damaged_record_does_not_stop_the_others_of_a_list() -> None:
    store = Store()
    journal = begun(store)
    journal.load(PORTAL, KEYS)
    journal.save(changes([sent(key) for key in KEYS[:3]]))
    name = CHUNK.format(1)
    document = json.loads(store.values[name])
    document["records"][KEYS[1]]["v"] = 2
    store.values[name] = json.dumps(document)
    later = begun(store, 2)
    loaded = later.load(PORTAL, KEYS[:3])
    assert [one.error is not None for one in loaded.values()] == [False, True, False]
    later.save(changes([sent(KEYS[0]).absent()]))
    assert json.loads(store.values[name])["records"][KEYS[1]] == document["records"][KEYS[1]]
    store.values[name] = "[]"
    assert all(one.error is not None for one in begun(store, 3).load(PORTAL, KEYS[:3]).values())
    with pytest.raises(Bitrix24ConfigError):
        begun(store, 4).noted()


def test_each_record_of_a_list_hears_its_decisions() -> None:
    store = Store()
    journal = begun(store)
    journal.load(PORTAL, KEYS)
    journal.save(changes([sent(key) for key in KEYS[:3]]))
    decision = Decision(
        what="send_again", by="Ada", at="2026-11-22T10:00:00+00:00", through="command line",
        about=sent(KEYS[1]).digest, key=KEYS[1],
    )  # fmt: skip
    store.values[DECISIONS] = json.dumps([decision.document()])
    loaded = begun(store, 2).load(PORTAL, KEYS[:3])
    assert [one.record.decision for one in loaded.values() if one.record] == [None, decision, None]


# -- both, and none


def test_the_copy_is_refused_for_all_and_replies_are_observed(database: Database) -> None:
    store = Store()
    journal = FencedJournal(database, "one", fence=begun(store))
    journal.load(PORTAL, KEYS)
    journal.save(changes([wanted(key) for key in KEYS], opens=True))
    journal.save(changes([sent(key) for key in KEYS], lease=0))
    assert {record["kept_in"] for record in chunks(store)[0].values()} == {"the test database"}
    store.trouble = GONE
    paid = [sent(key).acknowledged().identified(number, "response") for number, key in enumerate(KEYS)]
    found = journal.save(changes(paid))
    assert {saved.outcome for saved in found.values()} == {"overtaken"}
    assert journal.late_replies(PORTAL, KEYS) == dict(zip(KEYS, range(50), strict=True))
    assert SqlJournal(database, "two").load(PORTAL, KEYS)[KEYS[0]].record == sent(KEYS[0])


def test_what_only_the_copy_knows_is_behind(database: Database) -> None:
    store = Store()
    alone = begun(store)
    alone.load(PORTAL, KEYS[:2])
    alone.save(changes([sent(KEYS[0])]))
    both = FencedJournal(database, "one", fence=begun(store, 2))
    loaded = both.load(PORTAL, KEYS[:2])
    assert (loaded[KEYS[0]].record, loaded[KEYS[0]].behind) == (sent(KEYS[0]), True)
    assert (loaded[KEYS[1]].record, loaded[KEYS[1]].behind) == (None, False)
    both.save(changes([sent(KEYS[0])]))
    assert not both.load(PORTAL, KEYS[:2])[KEYS[0]].behind


def test_the_row_knows_what_people_have_decided_since(database: Database) -> None:
    """A person abandoned the key in the database, which released its payment; the copy does not know that."""
    store, key = Store(), KEYS[0]
    journal = FencedJournal(database, "one", fence=begun(store))
    journal.load(PORTAL, [key])
    known = sent(key).withdrawn("refused", "no").identified(1033, "only_new_payment")
    journal.save(changes([known]))
    row = SqlJournal(database, "command line")
    row.load(PORTAL, [key])
    decided = Decision(what="abandon", by="Ada", at="2026-11-22T10:00:00+00:00", through="command line")
    row.save(changes([known.decided(decided).abandoned()]))
    loaded = FencedJournal(database, "two", fence=begun(store, 2)).load(PORTAL, [key])[key]
    assert (loaded.record, loaded.behind) == (known.decided(decided).abandoned(), False)


def test_a_reply_that_the_database_missed_is_known(database: Database) -> None:
    store, key = Store(), KEYS[0]
    journal = FencedJournal(database, "one", fence=begun(store))
    journal.load(PORTAL, [key])
    journal.save(changes([sent(key)], lease=0))
    alone, answered = begun(store, 2), sent(key).acknowledged().identified(1033, "response")
    alone.load(PORTAL, [key])
    alone.save(changes([answered]))
    loaded = FencedJournal(database, "two", fence=begun(store, 3)).load(PORTAL, [key])[key]
    assert (loaded.record, loaded.behind) == (answered, True)


def test_what_the_task_state_refuses_is_refused(database: Database) -> None:
    store = Store()
    TaskStateJournal(store).save(changes([sent("another key")]))
    one = FencedJournal(database, "one", fence=TaskStateJournal(store)).load(PORTAL, [KEYS[0]])[KEYS[0]]
    assert "has already worked on 'another key'" in str(one.error)


def test_no_journal_remembers_as_long_as_the_attempt() -> None:
    journal = NullJournal()
    journal.save(changes([sent(key) for key in KEYS]))
    journal.release(PORTAL, KEYS)
    assert journal.load(PORTAL, ["new", KEYS[0]])[KEYS[0]].record == sent(KEYS[0])
    assert journal.load("other", KEYS[:1])[KEYS[0]].record is None
    assert journal.unresolved_keys(PORTAL, {KEYS[0]: "invoice 0"}) == {KEYS[0]: {}}
