"""Assets of a portal, by the scheme that the provider registers with Airflow."""

from __future__ import annotations

import importlib

import pytest
from airflow.sdk import Asset

from airflow_provider_bitrix24.assets.bitrix24 import create_asset
from airflow_provider_bitrix24.get_provider_info import get_provider_info


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("bitrix24://acme.bitrix24.com/invoice/2", "bitrix24://acme.bitrix24.com/invoice/2"),
        ("bitrix24://ACME.bitrix24.com/payment/1033/", "bitrix24://acme.bitrix24.com/payment/1033"),
        ("Bitrix24://acme.bitrix24.com/payments", "bitrix24://acme.bitrix24.com/payments"),
        ("bitrix24://127.0.0.1:40123/invoices", "bitrix24://127.0.0.1:40123/invoices"),
    ],
)
def test_airflow_keeps_one_spelling(written: str, kept: str) -> None:
    assert Asset(uri=written).uri == kept


@pytest.mark.parametrize(
    "uri",
    [
        "bitrix24://acme.bitrix24.com",
        "bitrix24://acme.bitrix24.com/",
        "bitrix24://acme.bitrix24.com/deal/1",
        "bitrix24://acme.bitrix24.com/invoice/",
        "bitrix24://acme.bitrix24.com/invoice/0",
        "bitrix24://acme.bitrix24.com/invoice/02",
        "bitrix24://acme.bitrix24.com/invoice/x",
        "bitrix24://acme.bitrix24.com/payment/1?x=1",
        "bitrix24:///payment/1",
        "bitrix24://acme bitrix24/payment/1",
    ],
)
def test_other_addresses_are_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="The URI of a Bitrix24 asset is"):
        Asset(uri=uri)


def test_a_secret_never_becomes_part_of_an_asset() -> None:
    from urllib.parse import urlsplit

    from airflow_provider_bitrix24.assets.bitrix24 import sanitize_uri

    assert sanitize_uri(urlsplit("bitrix24://1:c4n4ry@acme.bitrix24.com/payments")).netloc == "acme.bitrix24.com"


def test_the_factory_makes_the_same_asset() -> None:
    made = create_asset(portal="Acme.bitrix24.com", path="payment/1033", extra={"order": 7}, name="payment")
    assert (made.uri, made.extra, made.name) == ("bitrix24://acme.bitrix24.com/payment/1033", {"order": 7}, "payment")


def test_what_the_provider_registers_can_be_imported() -> None:
    (registered,) = get_provider_info()["asset-uris"]
    assert registered["schemes"] == ["bitrix24"]
    for name in ("handler", "factory"):
        module, _, function = registered[name].rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))
