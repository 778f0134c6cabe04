"""What Airflow does with an event trigger, and the state store that it gives it."""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_bitrix24.triggers.paid import PaidEventTrigger, PaymentPaidTrigger

LONG_AGO = "2020-01-01T00:00:00+00:00"


class Store:
    """Airflow's asset state store, of one asset."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.fails: Exception | None = None

    async def aget(self, key: str) -> Any:
        if self.fails:
            raise self.fails
        return json.loads(json.dumps(self.values.get(key)))

    async def aset(self, key: str, value: Any) -> None:
        if self.fails:
            raise self.fails
        self.values[key] = json.loads(json.dumps(value))


class Watcher:
    """What Airflow's triggerer does with an event trigger."""

    def __init__(self, trigger: PaidEventTrigger, store: Any) -> None:
        trigger.asset_state_store = store
        self.events = trigger.run()

    async def next_ids(self) -> list[int]:
        payload = (await anext(self.events)).payload
        assert json.loads(json.dumps(payload)) == payload
        (rows,) = [value for value in payload.values() if isinstance(value, list)]
        return [row.get("payment_id") or row["invoice_id"] for row in rows]

    async def stop(self) -> None:
        await self.events.aclose()


def trigger(kind: type[PaidEventTrigger] = PaymentPaidTrigger, **options: Any) -> PaidEventTrigger:
    return kind(**options)


def reads(portal: Any, method: str = "sale.payment.list") -> int:
    return sum(request["method"] == method for request in portal.requests)
