"""Attacks on lists: the trouble of one operation, or an old observation, must not reach the others."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bitrix24.at_most_once.operations.mark import MarkWrite
from airflow_provider_bitrix24.journal.sql import SqlJournal
from tests.at_most_once.test_lists import PORTAL, Run, pays, run

__all__ = ["run"]


def states(run: Run, keys: list[str]) -> list[str]:
    found = SqlJournal(run.database, "reader").load(PORTAL, keys)
    return [record.state if (record := found[key].record) is not None else "none" for key in keys]


def test_an_unexpected_error_in_one_course_leaves_the_replies_of_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoices = run.invoices(4)
    keys = [f"{PORTAL}:invoice:{one}" for one in invoices]
    replied = MarkWrite.replied

    def broken(self: MarkWrite, result: Any) -> Any:
        if self.mark.key == keys[0]:
            raise ZeroDivisionError
        return replied(self, result)

    monkeypatch.setattr(MarkWrite, "replied", broken)
    with pytest.raises(ZeroDivisionError):
        run.engine().run(pays(invoices))
    assert states(run, keys) == ["unknown", "done", "done", "done"]
