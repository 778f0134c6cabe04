"""Settings of the whole portal that a test may turn, and both behaviours where the facts do not decide."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What the portal has and allows.
_PORTAL: dict[str, Any] = {
    "payments_limit_reached": False,
    "subscription": True,
    "legacy_invoices_supported": True,
    "phone_confirmed": True,
    "public_url_available": True,
    "features": ["rest_offline_extended"],
}
#: Neither the documentation nor the server's code decides these. The default is the likelier one.
_UNDECIDED: dict[str, Any] = {
    "any_http_method": False,  # PUT, PATCH and DELETE are served like POST instead of refused with 405
    "batch_needs_commands": False,  # batch without cmd, or with a text as cmd: error 100 instead of an empty result
    "missing_owner_has_no_rows": False,  # crm.item.productrow.*: an empty list instead of an error
    "operating_billed_to": "methods",  # or batch: the methods inside it cost time of batch, not their own
    "order_entity_refuses_unknown_filters": False,  # crm.orderentity.list: error instead of dropping them
    "payment_list_pages": False,  # crm.item.payment.list: 50 rows, next and total instead of all rows
    "sale_filters_drop_what_does_not_convert": False,  # sale.*.list: "=id": "abc" and arrays are no filter at all
    "unknown_token_error": "invalid_token",  # or NO_AUTH_FOUND, expired_token
    "webhook_without_method": "NO_AUTH_FOUND",  # or ERROR_METHOD_NOT_FOUND
}
_CHOICES = {
    "operating_billed_to": ("methods", "batch"),
    "unknown_token_error": ("invalid_token", "NO_AUTH_FOUND", "expired_token"),
    "webhook_without_method": ("NO_AUTH_FOUND", "ERROR_METHOD_NOT_FOUND"),
}
_DEFAULTS = _PORTAL | _UNDECIDED


def defaults() -> dict[str, Any]:
    """All options with their default values, as a fresh copy."""
    return copy.deepcopy(_DEFAULTS)


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options from outside; ``ValueError`` names the one that is unknown or has an impossible value."""
    for name, value in given.items():
        if name not in _DEFAULTS:
            raise ValueError(f"unknown option {name!r}; known: {', '.join(sorted(_DEFAULTS))}")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ValueError(f"{name} must be one of {', '.join(_CHOICES[name])}, not {value!r}")
        if not isinstance(value, type(_DEFAULTS[name])):
            kind = type(_DEFAULTS[name]).__name__
            raise ValueError(f"{name} must be of type {kind}, not {value!r}")  # noqa: TRY004 - like the others
    return copy.deepcopy(dict(given))
