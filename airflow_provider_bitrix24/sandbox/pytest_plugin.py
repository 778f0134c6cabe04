"""The pytest fixture ``bitrix24_sandbox``: a fresh Bitrix24 portal of your own for each test, over real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.sandbox import address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_bitrix24.sandbox.portal import Application, Portal, TokenPair, Webhook
    from airflow_provider_bitrix24.sandbox.portal.people import People
    from airflow_provider_bitrix24.sandbox.server import SandboxServer

MARKER = "bitrix24_sandbox"


class Sandbox:
    """
    A running portal, as a test sees it.

    Money is text (``"1500.00"``), flags are Bitrix24's ``"Y"`` and ``"N"``. The portal's fixed objects are in the docs,
    on the page about the sandbox.
    """

    def __init__(self, server: SandboxServer) -> None:
        self.server = server
        self.portal: Portal = server.portal

    def __repr__(self) -> str:
        return f"Sandbox({self.url!r})"

    @property
    def url(self) -> str:
        """The portal's address without a trailing slash, ``http://127.0.0.1:PORT``."""
        return self.server.url

    @property
    def secret(self) -> str:
        """The secret code of the first webhook (user 1, all scopes)."""
        return self.portal.webhook.secret

    @property
    def webhook_url(self) -> str:
        """The first webhook's URL, ``http://127.0.0.1:PORT/rest/1/SECRET/``."""
        return address.webhook_url(self.url, self.portal.webhook)

    @property
    def connection(self) -> str:
        """The Airflow connection of the first webhook, as JSON for ``AIRFLOW_CONN_BITRIX24_DEFAULT``."""
        return self.connection_of(self.portal.webhook)

    @property
    def token_log(self) -> list[dict[str, Any]]:
        """The history of the OAuth tokens: ``event``, ``number``, ``previous``, ``error``, …; no secrets."""
        with self.portal.lock:
            return list(self.portal.tokens_log)

    def connection_of(self, webhook: Webhook) -> str:
        """Return the Airflow connection of any webhook (see ``add_webhook``), as JSON."""
        return address.connection_json(self.url, webhook, self.server.ca_file)

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """What really happened on the portal, in order: the ground truth to assert against."""
        with self.portal.lock:
            return list(self.portal.ledger)

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What clients asked, in order: ``method``, ``params``, ``status``, ``error``, ``fault``, …; no secrets."""
        with self.portal.lock:
            return list(self.portal.requests)

    def payments(self, entity_type_id: int, entity_id: int) -> list[dict[str, Any]]:
        """Return the payments of a deal (2) or smart invoice (31), oldest first."""
        return self.portal.payments_of(entity_type_id, entity_id)

    def payment(self, payment_id: int) -> dict[str, Any]:
        """Return one payment; ``LookupError`` if there is none."""
        return self._row("payments", payment_id)

    def invoice(self, invoice_id: int) -> dict[str, Any]:
        """Return one legacy invoice; ``LookupError`` if there is none."""
        return self._row("invoices", invoice_id)

    def _row(self, table: str, number: int) -> dict[str, Any]:
        row = self.portal.view_of(table, number)
        if row is None:
            raise LookupError(f"The sandbox has no {number} among its {table}.")
        return row

    def fault(self, kind: str, method: str = "*", **options: Any) -> int:
        """Script trouble, such as ``fault("drop_after", "crm.item.payment.add", occurrence=1)``; returns its id."""
        with self.portal.lock:
            return self.portal.faults.add_json({"kind": kind, "method": method, **options})

    def release(self, fault_id: int) -> int:
        """Let go what a ``hold`` or ``commit_later`` keeps back; returns how many requests that were."""
        with self.portal.lock:
            return self.portal.faults.release(fault_id)

    def clear_faults(self) -> None:
        """Remove all trouble; what is held goes on."""
        with self.portal.lock:
            self.portal.faults.clear()

    @property
    def act(self) -> People:
        """The people in the portal and their customers: ``act.pay_payment(payment_id=1001)``, …."""
        return self.portal.act

    def add_webhook(self, **options: Any) -> Webhook:
        """Make another webhook: ``user_id`` (default 1), ``scopes``, ``secret``."""
        return self.portal.add_webhook(**options)

    def add_application(self, **options: Any) -> Application:
        """
        Make an OAuth application.

        Options: ``client_id``, ``client_secret``, ``scopes``, ``redirect_uri``, and in seconds
        ``access_token_lifetime`` (3600) and ``refresh_token_lifetime`` (180 days).
        """
        return self.portal.add_application(**options)

    def grant(self, application: Application, user_id: int = 1) -> TokenPair:
        """Return the first pair of tokens, as if this user had signed in: ``access_token``, ``refresh_token``."""
        return self.portal.grant(application, user_id)

    def sign_in(self, application: Application, user_id: int = 1) -> str:
        """Return the code that this user would copy from the authorize page; it works once, for 30 seconds."""
        return self.portal.sign_in(application, user_id)

    def oauth_connection_of(self, application: Application, pair: TokenPair | None = None) -> str:
        """Return the Airflow connection of an application as JSON, with the tokens of its first ``pair`` if given."""
        return address.oauth_connection_json(self.url, application, pair, self.server.ca_file)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(**options): options of the portal for the bitrix24_sandbox fixture, such as dialect='docs', "
        "seed=False, rate_limit=(50, 2), operating_limit=480, customers_pay_after=1, tls=True.",
    )


@pytest.fixture
def bitrix24_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """
    Run a fresh Bitrix24 portal for one test; ``AIRFLOW_CONN_BITRIX24_DEFAULT`` leads to it.

    Options go into a marker: ``@pytest.mark.bitrix24_sandbox(dialect="docs")``.
    """
    try:
        from airflow_provider_bitrix24.sandbox.portal import Portal
        from airflow_provider_bitrix24.sandbox.server import SandboxServer
    except ModuleNotFoundError as missing:
        pytest.fail(
            f"The bitrix24_sandbox fixture needs the package {missing.name!r}: "
            "pip install 'airflow-provider-bitrix24[sandbox]'",
            pytrace=False,
        )
    options: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers(MARKER))):  # the closest one wins
        options |= marker.kwargs
    tls = options.pop("tls", False)
    with SandboxServer(Portal(**options), tls=tls) as server:
        sandbox = Sandbox(server)
        monkeypatch.setenv(address.CONNECTION_VARIABLE, sandbox.connection)
        yield sandbox
