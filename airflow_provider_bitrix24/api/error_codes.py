"""Decide what an error of the portal means, by method and the portal's code first, and by the HTTP status second.

For a write it must be known whether the method ran. It did not if the error is one of the REST server itself, which
come before any method runs, or one that `_BEFORE_WRITING` lists for the method. Every other error of a write is an
unknown outcome. A read changes nothing, so its error may be guessed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import pendulum

from airflow_provider_bitrix24.api.io import Effect
from airflow_provider_bitrix24.exceptions import (
    TOO_MANY_REQUESTS,
    TOO_MUCH_TIME,
    Bitrix24ApiError,
    Bitrix24AuthError,
    Bitrix24Error,
    Bitrix24InvalidRequest,
    Bitrix24NotFound,
    Bitrix24OutcomeUnknown,
    Bitrix24Overloaded,
    Bitrix24PermissionError,
    Bitrix24RateLimited,
    Bitrix24ServerError,
)

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.envelope import ErrorReply

NO_SCOPE: Final = "INSUFFICIENT_SCOPE"

_IN_TROUBLE = frozenset({"INTERNAL_SERVER_ERROR", "ERROR_UNEXPECTED_ANSWER", "ERROR_CORE"})
"""Codes that say that something broke, and not whether the method had run by then."""

_BAD_PARAMETER = "100"

_CERTAIN: Final[dict[str, type[Bitrix24ApiError]]] = {
    **dict.fromkeys(
        (
            "NO_AUTH_FOUND",
            "EXPIRED_TOKEN",
            "INVALID_TOKEN",
            "INVALID_CREDENTIALS",
            "INVALID_REQUEST",
            "INVALID_CLIENT",
            "INVALID_GRANT",
            "WRONG_CLIENT",
            "NOT_INSTALLED",
            "PAYMENT_REQUIRED",
            "AUTHORIZATION_ERROR",
            "APPLICATION_NOT_FOUND",
            "PORTAL_DELETED",
        ),
        Bitrix24AuthError,
    ),
    **dict.fromkeys(
        (
            NO_SCOPE,
            "ACCESS_DENIED",
            "USER_ACCESS_ERROR",
            "ALLOWED_ONLY_INTRANET_USER",
            "WRONG_AUTH_TYPE",
            "WRONG_LICENSE",
        ),
        Bitrix24PermissionError,
    ),
    **dict.fromkeys(
        (
            _BAD_PARAMETER,
            "ERROR_METHOD_NOT_FOUND",
            "ERROR_BATCH_LENGTH_EXCEEDED",
            "ERROR_BATCH_METHOD_NOT_ALLOWED",
        ),
        Bitrix24InvalidRequest,
    ),
    TOO_MANY_REQUESTS: Bitrix24RateLimited,
    TOO_MUCH_TIME: Bitrix24RateLimited,
    "OVERLOAD_LIMIT": Bitrix24Overloaded,
    "CONNECTION_ERROR": Bitrix24ServerError,  # the portal could not check the credentials
}
"""Codes of the REST server itself, which come before any method runs."""

_OF_METHODS: Final[dict[str, type[Bitrix24ApiError]]] = {
    **dict.fromkeys(("200040300010", "200040300020"), Bitrix24PermissionError),
    **dict.fromkeys(("ERROR_INTERNAL_INVOICE_NOT_FOUND", "NOT_FOUND", "200640400001"), Bitrix24NotFound),
    **dict.fromkeys(
        (
            "ERROR_CHECK_FAILURE",
            "ERROR_PAY_SYSTEM_NOT_FOUND",
            "ERROR_PERSON_TYPE_NOT_FOUND",
            "ERROR_HANDLER_NOT_FOUND",
            "ERROR_HANDLER_ALREADY_EXIST",
            "ERROR_INVOICE_NO_SUPPORTED",
            "ERROR_PAY_INVOICE_NOT_SUPPORTED",
            "ENTITY_TYPE_NOT_SUPPORTED",
            "OWNER_NOT_FOUND",
        ),
        Bitrix24InvalidRequest,
    ),
}
"""Codes of the methods: their classes for a read, and for a write that gives them before it executes."""

_DENIED: Final = re.compile(r"(access denied|insufficient permissions)[.!]?", re.I)
_NO_OBJECT: Final = re.compile(r"entity with identifier \D*\d+ does not exist\.?", re.I)
_NO_PAYMENT: Final = re.compile(r"payment has not been found\.?", re.I)
_NO_ITEM: Final = re.compile(r"payable item has not been found\.?", re.I)
_NO_PAY_SYSTEM: Final = re.compile(r"payment system has not been found\.?", re.I)
_NO_FIELDS: Final = re.compile(r"empty fields\.?", re.I)
_NO_TYPE: Final = re.compile(r"invalid crm object type\.?", re.I)
_NO_CRM_OBJECT: Final = re.compile(r"the provided crm object was not found\.?", re.I)
_NO_PAYMENT_OR_DENIED: Final = re.compile(r"payment not found or access denied\.?", re.I)
_NO_PRODUCT: Final = re.compile(r"product item not found\.?", re.I)
_QUANTITY_NOT_POSITIVE: Final = re.compile(r"product quantity cannot be less than or equal to 0\.?", re.I)
_QUANTITY_TOO_LARGE: Final = re.compile(r"insufficient product quantity to add to payment\.?", re.I)

_SPEAKING: Final[tuple[tuple[re.Pattern[str], type[Bitrix24ApiError]], ...]] = (
    (_DENIED, Bitrix24PermissionError),
    (_NO_OBJECT, Bitrix24NotFound),
    (_NO_PAYMENT, Bitrix24NotFound),
    (_NO_ITEM, Bitrix24NotFound),
    (_NO_PAY_SYSTEM, Bitrix24InvalidRequest),
    (_NO_FIELDS, Bitrix24InvalidRequest),
    (_NO_TYPE, Bitrix24InvalidRequest),
    (_NO_CRM_OBJECT, Bitrix24NotFound),
    (_NO_PAYMENT_OR_DENIED, Bitrix24NotFound),
    (_NO_PRODUCT, Bitrix24NotFound),
    (_QUANTITY_NOT_POSITIVE, Bitrix24InvalidRequest),
    (_QUANTITY_TOO_LARGE, Bitrix24InvalidRequest),
)
"""Texts whose code says nothing (``0`` or empty)."""


class _Checks(NamedTuple):
    """The errors that a writing method can give only before it has written anything."""

    codes: tuple[str, ...] = ()
    texts: tuple[re.Pattern[str], ...] = ()


_PAYING: Final = _Checks(
    codes=(
        "ERROR_CHECK_FAILURE",
        "ERROR_INTERNAL_INVOICE_NOT_FOUND",
        "ERROR_INVOICE_NO_SUPPORTED",
        "ERROR_PAY_INVOICE_NOT_SUPPORTED",
    )
)
_ONE_PAYMENT: Final = _Checks(texts=(_DENIED, _NO_PAYMENT, _NO_PAYMENT_OR_DENIED))
_ONE_ITEM: Final = _Checks(texts=(_DENIED, _NO_ITEM))
_SALE_RIGHTS: Final = _Checks(codes=("200040300020",))
_SALE_PAYMENT: Final = _Checks(codes=("200040300020", "200640400001"))
_PAY_SYSTEM: Final = _Checks(
    codes=(
        "ERROR_CHECK_FAILURE",
        "ERROR_PAY_SYSTEM_NOT_FOUND",
        "ERROR_PERSON_TYPE_NOT_FOUND",
        "ERROR_HANDLER_NOT_FOUND",
    )
)
_HANDLER: Final = _Checks(codes=("ERROR_CHECK_FAILURE", "ERROR_HANDLER_NOT_FOUND", "ERROR_HANDLER_ALREADY_EXIST"))

_BEFORE_WRITING: Final[dict[str, _Checks]] = {
    # It looks for "its" payment after it has added it: "Payment has not been found" proves nothing here.
    "crm.item.payment.add": _Checks(texts=(_DENIED, _NO_OBJECT, _NO_TYPE, _NO_CRM_OBJECT)),
    "crm.item.payment.pay": _ONE_PAYMENT,
    "crm.item.payment.unpay": _ONE_PAYMENT,
    "crm.item.payment.delete": _ONE_PAYMENT,
    "crm.item.payment.update": _Checks(texts=(*_ONE_PAYMENT.texts, _NO_PAY_SYSTEM, _NO_FIELDS)),
    "crm.item.payment.product.add": _Checks(
        texts=(_DENIED, _NO_PAYMENT, _NO_PRODUCT, _QUANTITY_NOT_POSITIVE, _QUANTITY_TOO_LARGE)
    ),
    "crm.item.payment.product.setquantity": _Checks(
        texts=(*_ONE_ITEM.texts, _NO_PRODUCT, _QUANTITY_NOT_POSITIVE, _QUANTITY_TOO_LARGE)
    ),
    "crm.item.payment.product.delete": _Checks(texts=(*_ONE_ITEM.texts, _NO_PRODUCT)),
    "crm.item.payment.delivery.add": _ONE_PAYMENT,
    "crm.item.payment.delivery.setdelivery": _ONE_ITEM,
    "crm.item.payment.delivery.delete": _ONE_ITEM,
    "sale.payment.add": _SALE_RIGHTS,
    "sale.payment.update": _SALE_PAYMENT,
    "sale.payment.delete": _SALE_PAYMENT,
    "sale.paysystem.pay.invoice": _PAYING,
    "sale.paysystem.pay.payment": _PAYING,
    "sale.paysystem.add": _PAY_SYSTEM,
    "sale.paysystem.update": _PAY_SYSTEM,
    "sale.paysystem.delete": _PAY_SYSTEM,
    "sale.paysystem.settings.update": _PAY_SYSTEM,
    "sale.paysystem.handler.add": _HANDLER,
    "sale.paysystem.handler.update": _HANDLER,
    "sale.paysystem.handler.delete": _HANDLER,
    "salescenter.payment.getpublicurl": _Checks(codes=("200640400001",)),
}
"""Per method that writes. A method that is not here has no checks that are known, so its own errors prove nothing."""

_CODE_WITHOUT_MEANING = ("", "0")
_MISSING = re.compile(r"\bnot (been )?found\b|\b(does|is|do) not exists?\b", re.I)
_MISSING_INVOICE = re.compile(r"(invoice|payment)\b.*\bnot found", re.I)

_SCOPES = (
    ("sale.paysystem.", "pay_system"),
    ("salescenter.", "salescenter"),
    ("sale.", "sale"),
    ("crm.", "crm"),
)


def scope_of(method: str) -> str | None:
    """The scope that a method needs, as far as this provider knows."""
    return next((scope for prefix, scope in _SCOPES if method.lower().startswith(prefix)), None)


def to_exception(
    refusal: ErrorReply, method: str, effect: Effect, resets_at: float | None = None, *, who: str = Bitrix24ApiError.who
) -> Bitrix24Error:
    """What an error of the portal means for who called.

    :param refusal: the error.
    :param method: REST method.
    :param effect: what executing the method does.
    :param resets_at: the method's last known ``operating_reset_at``; errors themselves do not carry it.
    :param who: what the connection is: a webhook, or an application.
    :return: the exception to raise.
    """
    error = _exception_for(refusal, method, effect, resets_at)
    if isinstance(error, Bitrix24ApiError):
        error.who = who
    return error


def _exception_for(refusal: ErrorReply, method: str, effect: Effect, resets_at: float | None) -> Bitrix24Error:
    code = refusal.code.upper()
    kind = _CERTAIN.get(code)
    if effect is Effect.READ:
        kind = kind or _of_the_method(code, refusal.text) or _guess(code, refusal)
    elif code == _BAD_PARAMETER and refusal.status >= 500:
        kind = None
    # rule: what comes before writing is known by method
    elif kind is None and _says_before_writing(method, code, refusal.text):
        kind = _of_the_method(code, refusal.text)
    if kind is None:
        ended = code not in _IN_TROUBLE and refusal.status < 500
        return Bitrix24OutcomeUnknown(method, ended, refusal.code, refusal.text)
    known = (refusal.code, refusal.status, method, refusal.text)
    if kind is Bitrix24RateLimited:
        return Bitrix24RateLimited(*known, *_comes_back(code, refusal, resets_at))
    if kind is Bitrix24PermissionError:
        scope = scope_of(method)
        return Bitrix24PermissionError(*known, (scope,) if scope and code == NO_SCOPE else ())
    return kind(*known)


def _says_before_writing(method: str, code: str, text: str) -> bool:
    """Whether a writing method can give this error only before it has written anything."""
    checks = _BEFORE_WRITING.get(method.lower(), _Checks())
    if code in _CODE_WITHOUT_MEANING:
        return any(pattern.fullmatch(text) for pattern in checks.texts)
    return code in checks.codes


def _of_the_method(code: str, text: str) -> type[Bitrix24ApiError] | None:
    """Return the class for an error code of a method, or None if the code is not known."""
    if code == "ERROR_CHECK_FAILURE" and _MISSING_INVOICE.match(text):
        return Bitrix24NotFound
    if code in _CODE_WITHOUT_MEANING:
        return next((speaking for pattern, speaking in _SPEAKING if pattern.fullmatch(text)), None)
    return _OF_METHODS.get(code)


def _guess(code: str, refusal: ErrorReply) -> type[Bitrix24ApiError]:
    """The class of a read's failure, where nothing is at stake."""
    if code in _IN_TROUBLE or refusal.status >= 500:
        return Bitrix24ServerError
    return Bitrix24NotFound if code.endswith("NOT_FOUND") or _MISSING.search(refusal.text) else Bitrix24ApiError


def _comes_back(
    code: str, refusal: ErrorReply, resets_at: float | None
) -> tuple[float | None, pendulum.DateTime | None]:
    """When to come back: seconds, and the point in time."""
    after = refusal.retry_after
    if code == TOO_MUCH_TIME and resets_at is not None and refusal.now is not None and resets_at > refusal.now:
        after = max(after or 0.0, resets_at - refusal.now)
    if after is None or refusal.now is None:
        return after, None
    return after, pendulum.from_timestamp(refusal.now + after)
