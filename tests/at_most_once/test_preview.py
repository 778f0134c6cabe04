"""What a list of added payments would hold, before the first one is added."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.at_most_once.operations.add_crm_payment import AddCrmPayment
from airflow_provider_bitrix24.at_most_once.preview import Preview, preview_products

if TYPE_CHECKING:
    from conftest import World


def add(deal: int, **options: Any) -> AddCrmPayment:
    return AddCrmPayment(portal="acme.bitrix24.com", key=f"key:{deal}", entity_id=deal, entity_type_id=2, **options)


def preview(world: World, *operations: AddCrmPayment) -> Preview:
    shown: Preview = world.run(preview_products(world.client, operations))
    return shown


def test_all_rows_and_chosen_rows_are_counted(world: World) -> None:
    shown = preview(world, add(1, products={1: 1}))
    whole = preview(world, add(1, fill_products=True))
    assert (shown.to_send, whole.to_send, shown.refused) == (1, 1, 0)
    assert Decimal(0) < shown.amounts[""] < whole.amounts[""]


def test_what_would_be_refused_is_not_counted(world: World) -> None:
    refused = preview(world, add(999, fill_products=True), add(1, products={77: 1}))
    assert (refused.to_send, refused.refused, refused.amounts) == (0, 2, {})
