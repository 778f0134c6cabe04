"""The clients that the provider is compared with: each does an attempt of a task and returns what that would report.

Every attempt makes new client objects, as a new process would. A client's own waits are skipped, not slept.
"""

from __future__ import annotations

import asyncio
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import requests
from load import PAY_SYSTEM, WRITE

if TYPE_CHECKING:
    from load import Intent, SkippingClock


@dataclass(frozen=True)
class Place:
    """Where the portal is, and whose clock rules."""

    url: str
    """The webhook, with a slash at its end."""
    clock: SkippingClock


class Client(Protocol):
    """One way to pay."""

    name: str
    https: bool
    """Whether it speaks nothing else."""

    def begin(self, place: Place) -> None:
        """Get ready: nothing has been paid yet, and waits are to be skipped."""

    def attempt(self, place: Place, intent: Intent, number: int) -> int | None:
        """Do what a task does in its attempt `number`, from 1.

        :return: the id of the payment that was added; None for an invoice.
        """


def parameters(intent: Intent) -> dict[str, int]:
    """Return the parameters of the write as Bitrix24 documents them."""
    if intent.kind == "add":
        return {"entityId": intent.object_id, "entityTypeId": 2}
    return {"INVOICE_ID": intent.object_id, "PAY_SYSTEM_ID": PAY_SYSTEM}


class Plain:
    """A task that posts with requests, as most DAGs do."""

    name = "requests"
    https = False

    def begin(self, place: Place) -> None:
        """Nothing waits here."""

    def attempt(self, place: Place, intent: Intent, number: int) -> int | None:
        """Post, and believe the response."""
        answer = requests.post(f"{place.url}{WRITE[intent.kind]}", json=parameters(intent), timeout=75)
        answer.raise_for_status()
        return result_of(intent, answer.json())


class Sdk:
    """Bitrix24's own SDK for Python."""

    name = "b24pysdk"
    https = True

    def begin(self, place: Place) -> None:
        """Let its waits be skipped."""
        from b24pysdk.api.requesters import _base_requester

        _base_requester.time = types.SimpleNamespace(sleep=place.clock.skip)

    def attempt(self, place: Place, intent: Intent, number: int) -> int | None:
        """Call the method; the SDK repeats what the portal refuses with 503."""
        import b24pysdk

        _, _, domain, _, user, secret, _ = place.url.split("/")
        client = b24pysdk.Client(b24pysdk.BitrixWebhook(domain=domain, webhook_token=f"{user}/{secret}"))
        if intent.kind == "add":
            asked = client.crm.item.payment.add(entity_type_id=2, entity_id=intent.object_id)
        else:
            asked = client.sale.paysystem.pay.invoice(invoice_id=intent.object_id, pay_system_id=PAY_SYSTEM)
        return result_of(intent, {"result": asked.result})


class Fast:
    """The most used client that is not Bitrix24's own: it repeats by itself what gets no response."""

    name = "fast_bitrix24"
    https = False

    def begin(self, place: Place) -> None:
        """Let its waits be skipped."""
        from fast_bitrix24 import srh

        async def sleep(seconds: float) -> None:
            place.clock.skip(seconds)

        srh.sleep = sleep

    def attempt(self, place: Place, intent: Intent, number: int) -> int | None:
        """Call the method."""
        from fast_bitrix24 import BitrixAsync

        async def call() -> Any:
            client = BitrixAsync(place.url, verbose=False)
            return await client.call(WRITE[intent.kind], parameters(intent), raw=True)

        return result_of(intent, asyncio.run(call()))


def result_of(intent: Intent, answer: dict[str, Any]) -> int | None:
    """Return what a response says, as a careful author reads it."""
    if "error" in answer:
        raise RuntimeError(f"the portal says {answer['error']!r}")
    if intent.kind == "add":
        return int(answer["result"])
    if answer["result"] is not True:
        raise RuntimeError(f"the portal says {answer['result']!r}")
    return None
