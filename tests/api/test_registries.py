"""The registry of the client beside that of the sandbox, which was written without it: what they say of a method."""

from __future__ import annotations

import pytest

import airflow_provider_bitrix24.sandbox.portal.serving  # noqa: F401 - registers the methods of the sandbox
from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.methods import METHODS
from airflow_provider_bitrix24.sandbox.portal import registry

CLIENT = {name.lower(): row for name, row in METHODS.items()}
SANDBOX = registry.METHODS
SPELLED_AS_DOCUMENTED = {"sale.paymentitembasket.getfields"}
"""Names that the sandbox spells as Bitrix24's others; both read names in any case."""
MAY_WRITE = {
    "batch": "its commands decide",
    "salescenter.payment.getpublicurl": "the portal may create a short link",
}
"""Methods that the client treats with more caution than the sandbox needs."""


def test_the_sandbox_serves_the_methods_of_the_registry() -> None:
    assert CLIENT.keys() - SANDBOX.keys() == set()


@pytest.mark.parametrize("name", sorted(CLIENT.keys() & SANDBOX.keys()))
def test_both_registries_say_the_same_of_a_method(name: str) -> None:
    client, sandbox = CLIENT[name], SANDBOX[name]
    assert client.name == sandbox.name or name in SPELLED_AS_DOCUMENTED
    assert (client.scope or registry.BASIC) == sandbox.scope
    assert (client.effect is not Effect.READ) == (sandbox.writes or name in MAY_WRITE)
