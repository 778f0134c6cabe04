"""Every documented request by three clients, each on a portal of its own that is the same: what they get is the same.

The provider's typed calls, Bitrix24's own SDK (`b24pysdk`), and `fast_bitrix24`.
"""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.api.calls.call import build
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.sandbox.address import connection_json, oauth_connection_json, webhook_url
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.sandbox.test_documented_examples import EXAMPLES
from tests.tools.documented_calls import OPTIONS, arguments, prepare, request_of, row_of, unmake

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_bitrix24.sandbox.portal import Portal as AnyPortal
    from tests.sandbox.test_documented_examples_of_applications import Caller

# What the other libraries and theirs warn about is their own affair.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("unmeasured")]


def by_sdk(method: str, server: SandboxServer, caller: Caller | None) -> Any:
    from b24pysdk import BitrixApp, BitrixToken, BitrixWebhook

    domain, webhook = f"127.0.0.1:{server.port}", server.portal.webhook
    if caller is None:
        token: Any = BitrixWebhook(domain=domain, webhook_token=f"{webhook.user_id}/{webhook.secret}")
    else:
        app = BitrixApp(client_id=caller.application.client_id, client_secret=caller.application.client_secret)
        token = BitrixToken(domain=domain, auth_token=caller.token, bitrix_app=app)
    return token.call_method(row_of(method).name, request_of(method))["result"]


def by_fast_bitrix24(method: str, server: SandboxServer, caller: Caller | None) -> Any:
    from fast_bitrix24 import BitrixAsync

    async def token() -> str:
        assert caller is not None
        return caller.token

    async def call() -> Any:
        if caller is None:
            client = BitrixAsync(webhook_url(server.url, server.portal.webhook), verbose=False)
        else:
            client = BitrixAsync(f"{server.url}/rest/", token_func=token, verbose=False)
        return await client.call(row_of(method).name, request_of(method), raw=True)

    return asyncio.run(call())["result"]


def on_a_fresh_portal(
    client: Callable[[str, SandboxServer, Caller | None], Any], method: str, *, tls: bool = False
) -> tuple[Any, AnyPortal]:
    """What a client gets, and the portal afterwards."""
    with SandboxServer(Portal(**OPTIONS), tls=tls) as server:
        caller = prepare(server.portal, method)
        unmake(server.portal, method)
        if server.ca_file:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
                return client(method, server, caller), server.portal
        return client(method, server, caller), server.portal


@pytest.mark.parametrize("method", EXAMPLES)
def test_three_clients_get_the_same(method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = row_of(method)

    def by_typed_call(_method: str, server: SandboxServer, caller: Caller | None) -> Any:
        if caller is None:
            connection = connection_json(server.url, server.portal.webhook)
        else:
            connection = oauth_connection_json(server.url, caller.application, caller.pair)
            tokens = {"conn_type": "sqlite", "host": str(tmp_path / "tokens.db")}
            monkeypatch.setenv("AIRFLOW_CONN_TOKENS", json.dumps(tokens))
            fields = json.loads(connection)
            fields["extra"]["token_conn_id"] = "tokens"
            connection = json.dumps(fields)
        monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", connection)
        return getattr(Bitrix24Hook().rest, row.python)(**arguments(row, request_of(method)))

    ours, portal = on_a_fresh_portal(by_typed_call, method)
    call = build(method, **arguments(row, request_of(method)))
    for client, tls in ((by_sdk, True), (by_fast_bitrix24, False)):
        theirs, other = on_a_fresh_portal(client, method, tls=tls)
        assert call.read(json.loads(json.dumps(theirs), parse_float=Decimal)) == ours
        assert books(other) == books(portal)


def books(portal: AnyPortal) -> list[Any]:
    """The ledger without what only the provider sends along."""
    return [{**entry, "idempotency_key": None} for entry in portal.ledger]
