"""One process of several that work on the same keys, in an order of its own: what it has won, as JSON.

Run as `python chunk_worker.py DATABASE NUMBER`; DATABASE is an Airflow connection as a URI.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Final

from airflow_provider_bitrix24.at_most_once.record import Record, Send
from airflow_provider_bitrix24.journal import Change
from airflow_provider_bitrix24.journal.sql import SqlJournal
from tests.journal.conftest import database_of

PORTAL: Final = "acme.bitrix24.com"
KEYS: Final = tuple(f"{PORTAL}:invoice:{number}" for number in range(200))
CHUNK: Final = 25


def work(journal: SqlJournal, keys: list[str], number: int) -> list[str]:
    """Send once for each key of a chunk that nobody has sent for; return which ones."""
    loaded = journal.load(PORTAL, keys)
    new = [Record(
        key=key, portal=PORTAL, operation="pay_invoice", subject=key.partition(":")[2], parameters={}, task=f"{number}"
    ) for key in keys if loaded[key].record is None]  # fmt: skip
    journal.save([Change(record=record, opens=True) for record in new])
    loaded = journal.load(PORTAL, keys)
    send = Send(at=1.0, settle_until=157.0, by=f"worker {number}", result="pending")
    intents = [
        one.record.sending(send)
        for one in loaded.values()
        if one.busy is None and one.record is not None and one.record.nothing_executed
    ]
    saved = journal.save([Change(record=record, lease=600) for record in intents])
    won = [record for record in intents if saved[record.key].outcome == "saved"]
    paid = [record.acknowledged().identified(1 + KEYS.index(record.key), "response") for record in won]
    assert {one.outcome for one in journal.save([Change(record=record) for record in paid]).values()} <= {"saved"}
    ended = journal.save([Change(record=record.finished({"paid": True}), lease=0) for record in paid])
    assert {one.outcome for one in ended.values()} <= {"saved"}
    return [record.key for record in won]


def main() -> None:
    """Work on all keys."""
    uri, number = sys.argv[1], int(sys.argv[2])
    keys = random.Random(number).sample(KEYS, len(KEYS))
    won: list[str] = []
    for start in range(0, len(keys), CHUNK):
        journal = SqlJournal(database_of(uri), f"worker {number}, chunk {start}")
        won += work(journal, keys[start : start + CHUNK], number)
    print(json.dumps(won))


if __name__ == "__main__":
    main()
