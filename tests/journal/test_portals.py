"""One host has one name in a SQL journal, and `journal rename-portal` gives it another one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.at_most_once.record import Record, Send
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, PaymentInProgress
from airflow_provider_bitrix24.journal.renaming import rename_portal
from airflow_provider_bitrix24.journal.sql import SqlJournal
from tests.journal.one_key import Claimed, OneKey

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sql import Database

HOST = "acme.bitrix24.com"
NEW = "acme"


def page(database: Database, portal: str, key: str = "key:1", *, host: str | None = HOST, owner: str = "one") -> OneKey:
    made = OneKey(SqlJournal(database, owner, conn_id="payments", host=host), portal, f"{portal}:{key}")
    made.read()
    return made


def entry(portal: str, key: str = "key:1", **facts: Any) -> Record:
    values: dict[str, Any] = {
        "key": f"{portal}:{key}",
        "portal": portal,
        "operation": "add_crm_payment",
        "subject": "deal 4",
        "parameters": {"entity_id": 4},
        "task": "one",
        "sends": (Send(at=1.0, settle_until=157.0, by="one", result="acknowledged"),),
        "payment_id": 1034,
        "evidence": "response",
        "receipt": {"portal": portal, "payment_id": 1034, "idempotency_key": f"{portal}:{key}"},
    }
    return Record(**values | facts)


def write(database: Database, portal: str, key: str = "key:1", *, host: str | None = HOST, **facts: Any) -> OneKey:
    made = page(database, portal, key, host=host)
    made.read()
    made.write(entry(portal, key, **facts), lease=0)
    return made


def test_a_host_that_is_known_under_another_name_is_refused(database: Database) -> None:
    write(database, HOST)
    with pytest.raises(Bitrix24ConfigError) as caught:
        page(database, NEW)
    said = str(caught.value)
    assert f"knows {HOST} as the portal '{HOST}', and this connection names it 'acme'" in said
    assert "Nothing was sent" in said
    assert f"`bitrix24-airflow journal rename-portal {HOST} acme --conn-id payments`" in said
    assert page(database, HOST).read() == entry(HOST)


def test_the_name_counts_from_the_first_attempt_on(database: Database) -> None:
    """Two attempts at once must not both find that there is no name yet."""
    page(database, NEW)
    with pytest.raises(Bitrix24ConfigError, match="as the portal 'acme'"):
        page(database, HOST)


def test_of_two_names_at_the_same_moment_one_is_refused(database: Database) -> None:
    page(database, "other", host="other.bitrix24.com")  # makes the tables
    barrier, came = threading.Barrier(2), []

    def attempt(portal: str) -> None:
        barrier.wait()
        try:
            page(database, portal)
        except Bitrix24ConfigError:
            came.append("refused")
        else:
            came.append("accepted")

    threads = [threading.Thread(target=attempt, args=(portal,)) for portal in (HOST, NEW)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(came) == ["accepted", "refused"]


def test_a_portal_that_was_renamed_by_bitrix24_has_two_hosts(database: Database) -> None:
    write(database, HOST)
    assert page(database, HOST, host="new.bitrix24.com").read() == entry(HOST)


def test_two_portals_have_two_names(database: Database) -> None:
    write(database, HOST)
    assert page(database, "other.bitrix24.com", host="other.bitrix24.com").read() is None


def test_renaming_takes_everything_along(database: Database) -> None:
    write(database, HOST)
    write(database, HOST, "invoice:2", payment_id=None, evidence=None, receipt=None)
    write(database, "other.bitrix24.com", host="other.bitrix24.com")
    assert rename_portal(database, HOST, NEW) == (2, 1)
    assert page(database, NEW).read() == entry(NEW)
    found = page(database, NEW, "invoice:2").read()
    assert found == entry(NEW, "invoice:2", payment_id=None, evidence=None, receipt=None)
    assert page(database, "other.bitrix24.com", host="other.bitrix24.com").read() == entry("other.bitrix24.com")
    with pytest.raises(Bitrix24ConfigError, match="as the portal 'acme'"):
        page(database, HOST)
    # The claim goes with its key.
    rival = page(database, NEW, "key:2")
    rival.read()
    with pytest.raises(Claimed) as caught:
        rival.write(entry(NEW, "key:2"), lease=0)
    assert caught.value.args[0] == "acme:key:1"
    assert dict(rival.claimed_by_others([1034])) == {1034: "response"}


def test_what_an_overtaken_attempt_knew_goes_with_its_key(database: Database) -> None:
    first, second = page(database, HOST), page(database, HOST, owner="two")
    first.read()
    second.read()
    first.write(entry(HOST, payment_id=None, evidence=None, receipt=None), lease=0)
    with pytest.raises(PaymentInProgress):
        second.write(entry(HOST))
    rename_portal(database, HOST, NEW)
    assert page(database, NEW).observed_payment() == 1034


def test_an_attempt_that_began_before_sends_nothing_after(database: Database) -> None:
    known, new = write(database, HOST), page(database, HOST, "key:2")
    new.read()
    rename_portal(database, HOST, NEW)
    with pytest.raises(PaymentInProgress):
        known.write(entry(HOST, receipt=None), lease=60)
    with pytest.raises(Bitrix24ConfigError, match="as the portal 'acme'"):
        new.write(entry(HOST, "key:2", payment_id=None, evidence=None), lease=60)
    assert {found.key for found in SqlJournal(database, "one").entries()} == {"acme:key:1"}


@pytest.mark.parametrize(
    ("facts", "lease", "why"),
    [
        (
            {"sends": (Send(at=1.0, settle_until=157.0, by="one", result="pending"),)},
            0,
            "the outcome of a send is unknown",
        ),
        ({}, 60, "an attempt is at work on"),
    ],
)
def test_what_may_still_arrive_is_not_renamed(database: Database, facts: Any, lease: int, why: str) -> None:
    made = page(database, HOST)
    made.read()
    made.write(entry(HOST, **{"payment_id": None, "evidence": None, "receipt": None} | facts), lease=lease)
    with pytest.raises(Bitrix24ConfigError, match=rf"not renamed: .*{why}.*Nothing was changed"):
        rename_portal(database, HOST, NEW)
    assert page(database, HOST).read() is not None


def test_one_key_under_both_names_is_left_to_a_person(database: Database) -> None:
    write(database, HOST)
    write(database, NEW, host="new.bitrix24.com", payment_id=1035)
    with pytest.raises(Bitrix24ConfigError, match=r"acme:key:1 under both names.*two payments for one key"):
        rename_portal(database, HOST, NEW)
    assert page(database, HOST).read() == entry(HOST)


def test_one_payment_under_both_names_is_left_to_a_person(database: Database) -> None:
    write(database, HOST)
    write(database, NEW, "key:2", host="new.bitrix24.com")
    with pytest.raises(Bitrix24ConfigError, match="have claimed the payment 1034"):
        rename_portal(database, HOST, NEW)
    assert page(database, HOST).read() == entry(HOST)


def test_a_portal_that_is_not_there_is_named(database: Database) -> None:
    write(database, HOST)
    with pytest.raises(Bitrix24ConfigError, match=r"has no portal 'acne.bitrix24.com'; it has acme.bitrix24.com\."):
        rename_portal(database, "acne.bitrix24.com", NEW)


def test_an_entry_that_nobody_can_read_stops_all_of_it(database: Database) -> None:
    import sqlalchemy as sa

    write(database, HOST)
    with database.begin() as connection:
        connection.execute(sa.text("update bitrix24_journal set document = 'x'"))
    with pytest.raises(Bitrix24ConfigError, match="cannot be read"):
        rename_portal(database, HOST, NEW)
    with pytest.raises(Bitrix24ConfigError, match=f"as the portal '{HOST}'"):
        page(database, NEW)
