"""What a connection can and cannot do, found out by reading only, and said in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.methods import scope_of
from airflow_provider_bitrix24.api.models import Profile
from airflow_provider_bitrix24.api.payments import read

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.batch import BatchReply
    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow

FEATURES: Final[Mapping[str, tuple[str, ...]]] = {
    "pay legacy invoices (PayInvoiceOperator)": ("sale.paysystem.pay.invoice", "crm.invoice.get"),
    "wait for legacy invoices (InvoicePaidSensor)": ("crm.invoice.get", "crm.invoice.list"),
    "add payments to deals and smart invoices (AddCrmPaymentOperator)": (
        "crm.item.payment.add",
        "crm.item.payment.get",
        "crm.item.payment.list",
    ),
    "fill payments with products (its fill_products)": (
        "crm.item.payment.product.add",
        "crm.item.productrow.getAvailableForPayment",
    ),
    "mark payments as paid (PayCrmPaymentOperator)": ("crm.item.payment.pay", "crm.item.payment.get"),
    "wait for payments (CrmPaymentPaidSensor)": ("crm.item.payment.get", "crm.item.payment.list"),
}
"""What the provider offers, and by what -> the methods it takes, to do it and to verify it."""

_METHODS: Final = tuple(dict.fromkeys(method for methods in FEATURES.values() for method in methods))


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """What was found out."""

    works: bool
    """Whether the connection can do any of it."""
    who: str
    """The user that it acts as: name, id, administrator or not."""
    problems: tuple[str, ...]
    """What it cannot do, and why: said first, since the form shows the text for some seconds only."""
    greeting: str
    abilities: tuple[str, ...]
    """What it can do, its scopes, the portal's clock, and the tariff if it is known."""
    limits: tuple[str, ...]
    """What is different for somebody who is no administrator."""

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join((*self.problems, self.greeting, *self.abilities, *self.limits))


def check(client: ApiClient) -> Flow[ConnectionReport]:
    """Ask the portal who we act as there, what we may do, and what time it is: one request, nothing is written.

    :raises Bitrix24Error: the portal cannot be reached, or does not accept the webhook or the access token.
    """
    probes: dict[str, tuple[str, dict[str, Any]]] = {
        "profile": ("profile", {}),
        "scope": ("scope", {}),
        "clock": ("server.time", {}),
    }
    if client.settings.application is not None:
        probes["app"] = ("app.info", {})  # a webhook may not ask
    probes |= {_key(method): ("method.get", {"name": method}) for method in _METHODS}
    reply = yield from client.batch(probes)
    profile = read("profile", Profile.from_wire, reply.value("profile"))
    scopes, kind = _scopes(reply), client.settings.auth.kind
    able, unable = [], []
    for feature, methods in FEATURES.items():
        missing = _missing(reply, scopes, methods, kind)
        if missing:
            unable.append(f"{feature}: {missing}")
        else:
            able.append(feature)
    who = _who(profile)
    clock = reply.results.get("clock") or reply.at
    return ConnectionReport(
        works=bool(able),
        who=who,
        problems=(f"The {kind} cannot {'; '.join(unable)}.",) if unable else (),
        greeting=f"Connected to {client.settings.portal} as {who}.",
        abilities=(
            # Without the names of operators: the text is shown for some seconds.
            *([f"The {kind} can {', '.join(feature.partition(' (')[0] for feature in able)}."] if able else []),
            f"Scopes: {', '.join(sorted(scopes)) or 'none'}; the portal's clock says {clock}.",
            *_tariff(reply),
        ),
        limits=() if profile.is_admin else _limits(scopes),
    )


def _who(profile: Profile) -> str:
    who = f"{profile.name} (user {profile.user_id})" if profile.name else f"user {profile.user_id}"
    return f"{who}, {'an administrator' if profile.is_admin else 'not an administrator'}"


def _limits(scopes: set[str]) -> tuple[str, ...]:
    """What somebody who is no administrator does without."""
    limits = {
        "pay_system": "Only an administrator sees pay systems, so invoices are paid without checking beforehand "
        "whether the pay system can do it; the result is verified in any case.",
        "crm": "Which deals and invoices this user may see and change depends on the user's role in the CRM.",
        "sale": "Only an administrator sees tags, so AddCrmPaymentOperator's tag=True will not work.",
    }
    return tuple(sentence for scope, sentence in limits.items() if scope in scopes)


def _tariff(reply: BatchReply) -> tuple[str, ...]:
    """The name of the portal's tariff, which only an application is told; nobody is told its limits."""
    info = reply.results.get("app")
    name = info.get("LICENSE") if isinstance(info, Mapping) else None
    if not isinstance(name, str) or not name:
        return ()
    return (f"The tariff is {name}; whether it still allows new payments is known when one is added.",)


def _key(method: str) -> str:
    return method.replace(".", "_")


def _scopes(reply: BatchReply) -> set[str]:
    granted = reply.value("scope")
    return {str(scope) for scope in granted} if isinstance(granted, list) else set()


def _missing(reply: BatchReply, scopes: set[str], methods: tuple[str, ...], kind: str) -> str:
    """Why a feature does not work, or empty text."""
    lacking = sorted({scope for method in methods if (scope := scope_of(method)) and scope not in scopes})
    if lacking:
        return f"the {kind} lacks the scope {' and '.join(lacking)}"
    for method in methods:
        found = reply.results.get(_key(method))
        if isinstance(found, Mapping) and found.get("isExisting") is False:
            return f"this portal, or its tariff, has no method {method}"
        if isinstance(found, Mapping) and found.get("isAvailable") is False:
            return f"the {kind}'s user may not call {method}"
    return ""
