"""Texts that look the same are one key, or are refused."""

from __future__ import annotations

import pytest

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.identifiers import portal_name
from airflow_provider_bitrix24.operators.arguments import business_key

pytestmark = pytest.mark.libraries


@pytest.mark.parametrize("dash", ["\u2010", "\u2011", "\u2012", "\u2013", "\u2212", "\uff0d"])
def test_a_dash_is_a_dash(dash: str) -> None:
    assert business_key(f"order{dash}17") == "order-17"


@pytest.mark.parametrize("blanks", ["  ", "   ", " \u00a0", "\u2009\u3000"])
def test_blanks_in_a_row_are_one(blanks: str) -> None:
    assert business_key(f" order{blanks}17 ") == "order 17"


@pytest.mark.parametrize("character", ["\U0001d159", "\U00016fe4", "\u200b", "\u2028"])
def test_what_nobody_sees_is_refused(character: str) -> None:
    with pytest.raises(Bitrix24ConfigError, match="invisible character"):
        business_key(f"order{character}17")


def test_a_portal_has_one_name() -> None:
    assert portal_name("acme\u2011x.bitrix24.com") == portal_name("ACME-x.bitrix24.com")
