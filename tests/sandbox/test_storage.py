"""The file that keeps a portal: what was saved is there again, and a file that is none of ours is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.portal import Auth, Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from airflow_provider_bitrix24.sandbox.storage import Storage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def portal() -> Portal:
    return Portal(ManualClock())


def call(portal: Portal, method: str, **params: Any) -> Any:
    return portal.handle(method, params, auth=Auth(1, portal.webhook.secret))


def loaded(path: Path) -> Portal:
    """A portal of its own that has become what is in the file."""
    portal = Portal(ManualClock(), seed=False)
    with closing(Storage(path)) as storage:
        assert storage.load(portal) is True
    return portal


def test_new_file_holds_nothing(tmp_path: Path, portal: Portal) -> None:
    before = portal.dump()
    with closing(Storage(tmp_path / "new.sqlite")) as storage:
        assert storage.load(portal) is False
    assert portal.dump() == before


def test_everything_is_there_again(tmp_path: Path, portal: Portal) -> None:
    file = tmp_path / "portal.sqlite"
    application = portal.add_application(redirect_uri="https://app.example/")
    portal.grant(application, 7)
    portal.add_webhook(7, ("crm",))
    with closing(Storage(file)) as storage:
        for step in range(3):  # ledger and log grow between the saves
            call(portal, "crm.item.payment.add", entityId=1, entityTypeId=2)
            call(portal, "crm.deal.add", fields={"TITLE": f"Step {step}", "OPPORTUNITY": 1999.99})
            storage.save(portal)
            assert loaded(file).dump() == portal.dump()


def test_request_that_was_under_way_is_completed(tmp_path: Path, portal: Portal) -> None:
    file = tmp_path / "portal.sqlite"
    fault = portal.faults.add(kind="hold", method="profile")
    with closing(Storage(file)) as storage:
        call(portal, "profile")
        storage.save(portal)
        assert loaded(file).requests[0]["status"] is None
        portal.faults.release(fault)
        storage.save(portal)
        assert [entry["status"] for entry in loaded(file).requests] == [200]


def test_reset_empties_the_file_too(tmp_path: Path, portal: Portal) -> None:
    file = tmp_path / "portal.sqlite"
    with closing(Storage(file)) as storage:
        call(portal, "crm.item.payment.add", entityId=1, entityTypeId=2)
        storage.save(portal)
        portal.reset()
        storage.save(portal)
    again = loaded(file)
    assert (again.ledger, again.requests) == ([], [])


def test_server_saves_by_itself(tmp_path: Path, portal: Portal) -> None:
    file = tmp_path / "portal.sqlite"
    with closing(Storage(file)) as storage, SandboxServer(portal, storage=storage):
        portal.act.pay_payment(payment_id=1001)
    assert loaded(file).state.payments[1001].paid == "Y"


@pytest.mark.parametrize("content", [b"Dear Anna, " * 100, b"\x00" * 5_000])
def test_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "letter.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot use .*letter\.txt as its file"):
        Storage(tmp_path / "letter.txt")
    assert (tmp_path / "letter.txt").read_bytes() == content


def test_place_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot use"):
        Storage(tmp_path / "no" / "such" / "folder.sqlite")


def test_dump_of_another_version_is_refused(tmp_path: Path, portal: Portal) -> None:
    file = tmp_path / "portal.sqlite"
    with closing(Storage(file)) as storage:
        storage.save(portal)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE portal SET dump = replace(dump, '\"version\":1', '\"version\":99')")
    with closing(Storage(file)) as storage, pytest.raises(ValueError, match="version 99"):
        storage.load(portal)
