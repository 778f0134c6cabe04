"""Assets of a portal: ``bitrix24://acme.bitrix24.com/invoice/2``, ``…/payment/1033``, ``…/invoices``, ``…/payments``.

The plural ones stand for whatever is paid on the portal; watch those. ``…/lists/pay_invoices`` and its siblings stand
for what operators for lists have done: their events hold counts, which a DAG that waits for payments does not expect.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from urllib.parse import SplitResult

    from airflow.sdk import Asset, Context

_LISTS = r"lists/(pay_invoices|pay_crm_payments|add_crm_payments)"
_PATH = re.compile(rf"/(invoices|payments|(invoice|payment)/[1-9]\d{{0,17}}|{_LISTS})", re.ASCII)
_PORTAL = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?", re.ASCII)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check the address of an asset; the portal is written in lower case.

    :raises ValueError: it is not the address of an invoice, a payment, or all of them.
    """
    portal = uri.netloc.rpartition("@")[2].lower()
    if _PORTAL.fullmatch(portal) is None or _PATH.fullmatch(uri.path) is None or uri.query:
        raise ValueError(
            "The URI of a Bitrix24 asset is bitrix24://PORTAL/invoice/ID, bitrix24://PORTAL/payment/ID, "
            "bitrix24://PORTAL/invoices, bitrix24://PORTAL/payments or bitrix24://PORTAL/lists/OPERATION "
            "(pay_invoices, pay_crm_payments or add_crm_payments), such as bitrix24://acme.bitrix24.com/payment/1033."
        )
    return uri._replace(netloc=portal)


def create_asset(*, portal: str, path: str, extra: dict[str, Any] | None = None, **options: Any) -> Asset:
    """Create an asset of a portal.

    :param portal: its host, as in receipts (``hook.portal``).
    :param path: ``invoice/2``, ``payment/1033``, ``invoices``, ``payments``, or ``lists/pay_invoices``.
    :param extra: what Airflow keeps with the asset.
    :param options: other arguments of Airflow's ``Asset``, such as ``watchers``.
    """
    from airflow.sdk import Asset

    return Asset(uri=f"bitrix24://{portal}/{path}", extra=extra or {}, **options)


def add_to_events(
    context: Context, outlets: Iterable[Any], extra: Mapping[str, Any], *, portal: str, path: str
) -> None:
    """Put something into the event that a task emits for each of its outlets.

    :param outlets: assets, and aliases, which stand for an asset of the portal then.
    :param extra: what a DAG that is scheduled on the asset finds in the event.
    :param path: that of the asset, for aliases.
    """
    from airflow.sdk import Asset, AssetAlias

    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            context["outlet_events"][outlet].add(create_asset(portal=portal, path=path), extra=dict(extra))
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra.update(extra)
