"""The commands that messages tell a person to copy: whatever is in a key or a name, a shell hands it over unchanged."""

from __future__ import annotations

import shlex

import pytest

from airflow_provider_bitrix24.journal import NullJournal
from airflow_provider_bitrix24.journal.terminal import TaskName, key_command

pytestmark = pytest.mark.libraries

KEYS = ["acme.bitrix24.com:key:order-17", "acme:key:it's 5 $HOME; rm -rf", 'acme:key:"`!`"', "acme:key:日本"]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_in_a_database(key: str) -> None:
    words = shlex.split(key_command("show", key, "payments journal"))
    assert words == [
        *("bitrix24-airflow", "journal"),
        *("show", key, "--conn-id", "payments journal"),
    ]


@pytest.mark.parametrize("map_index", [-1, 0, 7])
def test_a_key_in_the_task_state(map_index: int) -> None:
    task = TaskName("my dag", "manual__2026-11-22T10:00:00+00:00", "group.pay", map_index)
    words = shlex.split(task.command("resolve", "dag:x"))[2:]
    place = ["--dag", "my dag", "--run", "manual__2026-11-22T10:00:00+00:00", "--task", "group.pay"]
    assert words == ["resolve", "dag:x", *place, *(["--map-index", str(map_index)] if map_index >= 0 else [])]


def test_where_nothing_is_remembered_there_is_no_command() -> None:
    assert NullJournal().command("resolve", "key") is None
