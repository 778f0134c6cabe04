"""The clients that are compared: each does all that is to be done, as its documentation says.

An attempt uses new client objects, as a new process would. What an attempt has not done is the next one's work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import requests
from clock import CLOCK, run_async

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox

BATCH = 50
PAY_SYSTEM = 31
RETRIES = 3
START = 1.0
"""Seconds from one mapped task to the next: what Airflow's scheduler takes."""


@dataclass(frozen=True)
class Job:
    """What is done to each object of a list."""

    title: str
    method: str
    parameters: Callable[[int], dict[str, int]]
    events: tuple[str, ...]
    """What the portal's ledger says when it was done, once more included."""
    subject: str
    """Field of the ledger that holds the id."""


JOBS = {
    "pay": Job(
        "Pay {:,} invoices",
        "sale.paysystem.pay.invoice",
        lambda number: {"INVOICE_ID": number, "PAY_SYSTEM_ID": PAY_SYSTEM},
        ("invoice_paid", "invoice_changed"),
        "invoice_id",
    ),
    "mark": Job(
        "Mark {:,} payments as paid",
        "crm.item.payment.pay",
        lambda number: {"id": number},
        ("payment_paid",),
        "payment_id",
    ),
    "add": Job(
        "Add {0:,} payments to {0:,} deals",
        "crm.item.payment.add",
        lambda number: {"entityId": number, "entityTypeId": 2},
        ("payment_added",),
        "entity_id",
    ),
}


@dataclass
class Report:
    """What a client says after an attempt."""

    done: dict[int, Any] = field(default_factory=dict)
    """Object -> what the client knows: the id of the added payment, or true."""
    for_a_person: set[int] = field(default_factory=set)
    """Objects of which it says that somebody has to look."""


class Client(Protocol):
    """One way to do a job."""

    name: str
    https: bool
    """Whether it speaks nothing else."""

    def attempt(self, portal: Sandbox, job: str, ids: Sequence[int]) -> Report:
        """Do what is left."""


class Plain:
    """A mapped task for each object, which posts with requests and believes the response."""

    name, https = "requests, one by one", False

    def attempt(self, portal: Sandbox, job: str, ids: Sequence[int]) -> Report:
        """Post."""
        report, one = Report(), JOBS[job]
        for number in ids:
            CLOCK.skip(START)
            try:
                reply = requests.post(f"{portal.webhook_url}{one.method}", json=one.parameters(number), timeout=75)
                reply.raise_for_status()
                report.done[number] = reply.json()["result"]
            except (requests.RequestException, ValueError, LookupError, TypeError):  # also one that says nothing
                continue
        return report


class Sdk:
    """Bitrix24's own SDK: batches of 50; it repeats what is refused with 503. A failed batch is the next attempt's."""

    name, https = "b24pysdk, call_batch", True

    def attempt(self, portal: Sandbox, job: str, ids: Sequence[int]) -> Report:
        """Send the batches."""
        report, client = Report(), sdk(portal)
        calls = {
            "pay": lambda number: client.sale.paysystem.pay.invoice(invoice_id=number, pay_system_id=PAY_SYSTEM),
            "mark": lambda number: client.crm.item.payment.pay(bitrix_id=number),
            "add": lambda number: client.crm.item.payment.add(entity_id=number, entity_type_id=2),
        }
        for begin in range(0, len(ids), BATCH):
            batch = {str(number): calls[job](number) for number in ids[begin : begin + BATCH]}
            try:
                results = client.call_batch(batch).result.result
            except (requests.RequestException, RuntimeError, _sdk_error()):
                continue
            report.done |= {int(number): result for number, result in dict(results or {}).items()}
        return report


class Fast:
    """The most used client that is not Bitrix24's own: the whole list in one call, which repeats by itself."""

    name, https = "fast_bitrix24, call", False

    def attempt(self, portal: Sandbox, job: str, ids: Sequence[int]) -> Report:
        """Call the method for the list; one error, and nothing is known of any of them."""
        from fast_bitrix24 import BitrixAsync
        from fast_bitrix24.server_response import ErrorInServerResponseException

        one = JOBS[job]

        async def call() -> Sequence[Any]:
            return await BitrixAsync(portal.webhook_url, verbose=False).call(one.method, list(map(one.parameters, ids)))

        try:
            results = wait_less(portal, call())
        except (ErrorInServerResponseException, RuntimeError, OSError):
            return Report()
        return Report(dict(zip(ids, results, strict=False)))


def sdk(portal: Sandbox) -> Any:
    """Return Bitrix24's SDK for the portal."""
    import b24pysdk

    _, _, domain, _, user, secret, _ = portal.webhook_url.split("/")
    return b24pysdk.Client(b24pysdk.BitrixWebhook(domain=domain, webhook_token=f"{user}/{secret}"))


def _sdk_error() -> type[Exception]:
    from b24pysdk.errors import BitrixSDKException

    return BitrixSDKException  # type: ignore[no-any-return]


def wait_less(portal: Sandbox, coroutine: Any) -> Any:
    """Run a coroutine of fast_bitrix24 with waits that are skipped, but never while a request is on its way."""
    import aiohttp

    send, on_their_way = aiohttp.ClientSession._request, [0]

    async def counted(*arguments: Any, **options: Any) -> Any:
        on_their_way[0] += 1
        try:
            return await send(*arguments, **options)
        finally:
            on_their_way[0] -= 1

    aiohttp.ClientSession._request = counted  # type: ignore[method-assign]
    try:
        return run_async(coroutine, lambda: on_their_way[0] > 0)
    finally:
        aiohttp.ClientSession._request = send  # type: ignore[method-assign]
