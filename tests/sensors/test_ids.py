"""One id or many, in the forms that Airflow makes of arguments."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.sensors.ids import read_ids


class Lazy(Sequence[Any]):
    """A sequence that is no list, as Airflow's results of mapped tasks are."""

    def __init__(self, *items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]


@pytest.mark.parametrize(
    ("value", "ids", "many"),
    [
        (7, [7], False),
        ("7", [7], False),
        (" 7 ", [7], False),
        ([7], [7], True),
        ([7, "8"], [7, 8], True),
        ((8, 7, 8), [8, 7], True),
        (range(1, 4), [1, 2, 3], True),
        (Lazy(7, "8"), [7, 8], True),
        ("[7, 8]", [7, 8], True),
        ("['7', '8']", [7, 8], True),
        (' ["7", "8"] ', [7, 8], True),
        ("(7, 8)", [7, 8], True),
        ("[7]", [7], True),
    ],
)
def test_accepted(value: Any, ids: list[int], many: bool) -> None:
    assert read_ids(value, "payment_id") == (ids, many)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        7.0,
        Decimal(7),
        "",
        "None",
        "7,8",
        "[7",
        "[7.5]",
        "['x']",
        "[True]",
        "(__import__('os').getpid(),)",
        b"7",
        {"payment_id": 7},
        {7},
        [7, None],
        [[7]],
        [{"payment_id": 7}],
        Lazy(7, "None"),
        iter([7]),
    ],
)
def test_refused_by_name(value: Any) -> None:
    with pytest.raises(Bitrix24ConfigError, match="payment_id must be a whole positive number"):
        read_ids(value, "payment_id")


@pytest.mark.parametrize("value", [[], (), Lazy(), "[]", "()"])
def test_nothing_to_wait_for_is_refused(value: Any) -> None:
    with pytest.raises(Bitrix24ConfigError, match=r"payment_id is an empty list.*nothing to wait for"):
        read_ids(value, "payment_id")
