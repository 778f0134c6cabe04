"""The registry of REST methods: one row per method, one module per family; an unknown method counts as creating.

Effect, scope, parameters, list shape and documentation of a method come from its row.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.api.methods import (
    crm,
    events,
    invoices,
    items,
    pay_systems,
    payments,
    product_rows,
    sale,
    system,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.api.methods.row import Method

FAMILIES: Final[Mapping[str, tuple[Method, ...]]] = {
    "payments": payments.METHODS,
    "pay_systems": pay_systems.METHODS,
    "invoices": invoices.METHODS,
    "items": items.METHODS,
    "product_rows": product_rows.METHODS,
    "crm": crm.METHODS,
    "sale": sale.METHODS,
    "events": events.METHODS,
    "system": system.METHODS,
}
"""Name of the module -> its methods."""

METHODS: Final[Mapping[str, Method]] = {row.name.lower(): row for rows in FAMILIES.values() for row in rows}
"""All methods that are known, by their name in lower case: the portal reads names in any case."""

_READS: Final = frozenset({"events", "user.current"})
_READING_ENDS: Final = (".get", ".list", ".fields", ".getfields")
_MONEY: Final = ("crm.invoice.", "crm.item.payment.", "sale.order.", "sale.payment.", "sale.paysystem.pay.")
"""Families whose unknown methods are taken for what changes payments."""
_OLD_PREFIXES: Final = (
    ("sale.paysystem.", "pay_system"),
    ("salescenter.", "salescenter"),
    ("sale.", "sale"),
    ("crm.", "crm"),
)


def find(method: str) -> Method | None:
    """The row of a method, or None if it is not known."""
    return METHODS.get(method.lower())


def effect_of(method: str) -> Effect:
    """Return the effect of a method: from its row, or, for an unknown method, from its name."""
    row = find(method)
    if row is not None:
        return row.effect
    name = method.lower()
    return Effect.READ if name in _READS or name.endswith(_READING_ENDS) else Effect.NON_IDEMPOTENT


def strongest(commands: Mapping[str, tuple[str, Any]]) -> Effect:
    """The strongest effect among the commands of a batch."""
    effects = {effect_of(method) for method, _params in commands.values()}
    return next((effect for effect in (Effect.NON_IDEMPOTENT, Effect.IDEMPOTENT) if effect in effects), Effect.READ)


def scope_of(method: str) -> str | None:
    """Return the scope that a method needs: from its row, or, for an unknown method, from its name."""
    row = find(method)
    if row is not None:
        return row.scope
    return next((scope for prefix, scope in _OLD_PREFIXES if method.lower().startswith(prefix)), None)


def moves_money(method: str) -> bool:
    """Whether a method adds, deletes, pays or changes payments; an unknown method of such a family counts as one."""
    row = find(method)
    if row is not None:
        return row.moves_money
    name = method.lower()
    return name.startswith(_MONEY) and effect_of(method) is not Effect.READ


def similar(method: str) -> str | None:
    """Return the known method whose name is closest to this one."""
    close = get_close_matches(method.lower(), METHODS, n=1)
    return METHODS[close[0]].name if close else None
