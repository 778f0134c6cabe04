"""Say in the event of an asset how a list has ended: one event for each run, with counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.sdk import Context

    from airflow_provider_bitrix24.at_most_once.attempt import Log

TOLD: Final = ("total", "succeeded", "already_paid", "failed", "statuses", "amounts")
"""What an event tells of the summary."""


def tell_outlets(
    context: Context, outlets: Iterable[Any], summary: Mapping[str, Any], log: Log, *, portal: str, path: str
) -> None:
    """Put the counts into the events of the task's outlets that are assets of Bitrix24.

    Airflow itself emits the event of an asset when the task succeeds. An asset alias gets the asset of the portal.

    :param path: the asset of the portal that the list is about: ``invoices`` or ``payments``.
    """
    from airflow.sdk import Asset, AssetAlias

    from airflow_provider_bitrix24.assets.bitrix24 import create_asset

    counts = {name: summary[name] for name in TOLD}
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            try:
                asset = create_asset(portal=portal, path=path)
            except ValueError:
                log.warning("The portal's name %r cannot be that of an asset: %s gets no event.", portal, outlet.name)
            else:
                context["outlet_events"][outlet].add(asset, extra=counts)
        elif isinstance(outlet, Asset) and outlet.uri.startswith("bitrix24:"):
            context["outlet_events"][outlet].extra.update(counts)
