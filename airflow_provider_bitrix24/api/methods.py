"""What executing each known REST method does; what is not known is taken for the most dangerous thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.api.effects import Effect

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.batch import Commands

_READS: Final = frozenset(
    {"scope", "methods", "profile", "events", "server.time", "app.info", "user.current", "user.admin"}
)
_READING_ENDS: Final = (".get", ".list", ".fields", ".getfields", ".getavailableforpayment")
_READS_THAT_TAKE: Final = frozenset({"event.offline.get"})
"""By default it deletes what it returns."""

_SETS: Final = frozenset(
    {
        "crm.item.payment.update",
        "crm.item.payment.pay",
        "crm.item.payment.unpay",
        "crm.item.payment.delete",
        "crm.item.payment.product.setquantity",
        "crm.item.payment.product.delete",
        "crm.item.payment.delivery.setdelivery",
        "crm.item.payment.delivery.delete",
        "sale.payment.update",
        "sale.payment.delete",
        "sale.paysystem.pay.invoice",
        "sale.paysystem.pay.payment",
        "salescenter.payment.getpublicurl",
    }
)


def effect_of(method: str) -> Effect:
    """`Effect.READ` and `Effect.SET` for methods that are known to be that, else `Effect.CREATE`."""
    name = method.lower()
    if name in _SETS:
        return Effect.SET
    reads = name in _READS or (name.endswith(_READING_ENDS) and name not in _READS_THAT_TAKE)
    return Effect.READ if reads else Effect.CREATE


def strongest(commands: Commands) -> Effect:
    """The strongest effect among the commands of a batch."""
    effects = {effect_of(method) for method, _params in commands.values()}
    return next((effect for effect in (Effect.CREATE, Effect.SET) if effect in effects), Effect.READ)
