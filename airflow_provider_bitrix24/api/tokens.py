"""The tokens of an OAuth application: how the first pair is got, and how each pair is changed for the next.

A refresh is a flow like any other call. The old refresh token is dead once the portal has responded, so the code that
runs it holds a lock and keeps what it returns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode, urlsplit

from airflow_provider_bitrix24 import __version__
from airflow_provider_bitrix24.api.credentials import is_token
from airflow_provider_bitrix24.api.envelope import Reply, refusal
from airflow_provider_bitrix24.api.error_codes import to_exception
from airflow_provider_bitrix24.api.io import Effect, NotSent, Request, Unknown
from airflow_provider_bitrix24.api.retry import AttemptResult, RetryReason, send_with_retries
from airflow_provider_bitrix24.exceptions import (
    Bitrix24AuthError,
    Bitrix24ConfigError,
    Bitrix24Error,
    Bitrix24SignInNeeded,
    Bitrix24TokenError,
    tls_advice,
)

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.credentials import OAuthAuth
    from airflow_provider_bitrix24.api.io import Flow, Outcome, Response
    from airflow_provider_bitrix24.api.settings import Settings

REFRESH_TOKEN_LIFE: Final = 180 * 86400
"""Seconds that a refresh token lives if nobody uses it."""
_ACCESS_TOKEN_LIFE: Final = 3600
_METHOD: Final = "oauth/token"
_READ_TIMEOUT: Final = 30.0
_MAX_BYTES: Final = 1024 * 1024
_WRONG_CLIENT: Final = (
    "Login and password of the Airflow connection must be the client id and the client secret (application key) on the "
    "application's card in Bitrix24: the secret was changed there, or the application removed."
)
_WRONG_SCOPE: Final = "Compare the access rights on the application's card in Bitrix24, and sign in again."
_ADVICE: Final = {
    "INVALID_CLIENT": _WRONG_CLIENT,
    "WRONG_CLIENT": _WRONG_CLIENT,
    "INVALID_REQUEST": "Check the extra oauth_url of the Airflow connection: is this the portal's token endpoint?",
    "INSUFFICIENT_SCOPE": _WRONG_SCOPE,
    "INVALID_SCOPE": _WRONG_SCOPE,
    "NOT_INSTALLED": "The application is not installed on this portal any more: install it, and sign in again.",
    "PAYMENT_REQUIRED": "The portal's plan, or its trial, does not include REST applications any more: its "
    "administrator must renew it.",
}
"""What somebody must do for whom there are no tokens, by the endpoint's code."""
_USED_CODE: Final = (
    "A code lives 30 seconds, and can be used once, by the application that asked for it: this one came too late, was "
    "used before, or is another application's. Run the command again, open the address that it prints, and paste what "
    "comes of it at once. Nothing was stored."
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """One pair of tokens, as it is stored."""

    access_token: str | None = field(repr=False)
    """None if only the refresh token is known."""
    refresh_token: str = field(repr=False)
    issued_at: float | None = None
    """Seconds since the epoch; None if a person has brought the pair."""
    expires_at: float | None = None
    """When the access token dies, by the clock of who got it."""

    @property
    def mark(self) -> str:
        """What tells this pair from others without giving it away."""
        return hashlib.sha256(self.refresh_token.encode()).hexdigest()[:16]

    @property
    def refresh_until(self) -> float | None:
        """When the refresh token dies if nobody uses it, seconds since the epoch."""
        return None if self.issued_at is None else self.issued_at + REFRESH_TOKEN_LIFE

    def as_json(self) -> str:
        """Return the pair as text, secrets included."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `as_json` has written.

        :raises ValueError: it is something else.
        """
        values = json.loads(text)
        try:
            tokens = cls(**values)
        except TypeError:
            raise ValueError("no pair of tokens") from None
        if not is_token(tokens.refresh_token) or not (tokens.access_token is None or is_token(tokens.access_token)):
            raise ValueError("no pair of tokens")
        return tokens

    @classmethod
    def first_of(cls, application: OAuthAuth) -> Self | None:
        """The pair that the connection holds, if it does."""
        if application.refresh_token is None:
            return None
        access = application.access_token
        return cls(None if access is None else access.get_secret_value(), application.refresh_token.get_secret_value())


@dataclass(frozen=True, slots=True)
class Issued:
    """What the token endpoint has given out."""

    tokens: Tokens
    portal: str | None
    """Host of the portal that they are for, as the endpoint says; None if it does not say. Nothing is sent there."""


def consent_url(settings: Settings, application: OAuthAuth, state: str) -> str:
    """Return the address on which a person allows the application to act for them."""
    return f"{settings.origin}/oauth/authorize/?{urlencode({'client_id': application.client_id, 'state': state})}"


def exchange(settings: Settings, application: OAuthAuth, code: str) -> Flow[Issued]:
    """Change the code of a consent for the first pair of tokens. A code lives 30 seconds and can be used once.

    :raises Bitrix24SignInNeeded: the code is used up, too old, or another application's.
    :raises Bitrix24AuthError: client id or client secret are wrong.
    :raises Bitrix24TokenError: the token endpoint cannot be reached, or gives no usable response.
    """
    return _ask(settings, application, {"grant_type": "authorization_code", "code": code})


def refresh(settings: Settings, application: OAuthAuth, refresh_token: str) -> Flow[Issued]:
    """Change a refresh token for a new pair; it is dead afterwards.

    :raises Bitrix24SignInNeeded: it was dead before; ``lost_answer`` in its text if that may be our own doing.
    :raises Bitrix24AuthError: client id or client secret are wrong.
    :raises Bitrix24TokenError: the token endpoint cannot be reached, or gives no usable response.
    """
    return _ask(settings, application, {"grant_type": "refresh_token", "refresh_token": refresh_token})


def _ask(settings: Settings, application: OAuthAuth, grant: Mapping[str, str]) -> Flow[Issued]:
    client = {"client_id": application.client_id, "client_secret": application.client_secret.get_secret_value()}
    request = Request(
        url=f"{application.oauth_url}/oauth/token/?{urlencode({**grant, **client})}",
        method=_METHOD,
        params={},
        effect=Effect.IDEMPOTENT,
        verb="GET",
        headers={"Accept": "application/json", "User-Agent": f"airflow-provider-bitrix24/{__version__}"},
        connect_timeout=settings.connect_timeout,
        read_timeout=min(settings.read_timeout, _READ_TIMEOUT),
        max_bytes=_MAX_BYTES,
    )
    endpoint = _Endpoint(settings, application, grant)
    result = yield from send_with_retries(request, endpoint.classify, longest_wait=settings.rate_limit_wait)
    if result.error is not None:
        raise result.error
    assert endpoint.issued is not None  # noqa: S101 - a result without error has tokens
    return endpoint.issued


class _Endpoint:
    """One conversation with the token endpoint. What was lost is asked for again: nothing can be lost by that."""

    def __init__(self, settings: Settings, application: OAuthAuth, grant: Mapping[str, str]) -> None:
        self._settings = settings
        self._secrets = [value for name, value in grant.items() if name != "grant_type"]
        self._host = urlsplit(application.oauth_url).netloc
        self._who = application.kind
        self._server = (
            f"The token endpoint that was asked is {self._host}. If the portal's applications belong to another one, "
            "set the extra oauth_url: the address after a sign-in names it (server_domain)."
        )
        self._dead = f"{_USED_CODE} {self._server}" if "code" in grant else ""
        self.issued: Issued | None = None

    def classify(self, outcome: Outcome) -> AttemptResult:
        if isinstance(outcome, NotSent):
            obstacle = self._redact(outcome.reason)
            advice = tls_advice(outcome.tls, "oauth_ca_bundle")
            return self._trouble(f"no connection to {self._host}: {obstacle}", advice)
        if isinstance(outcome, Unknown):
            return self._without_response(self._redact(outcome.reason))
        if 300 <= outcome.status < 400:
            return AttemptResult(error=self._redirected())
        body = _json_object(outcome.body)
        if body is None:
            return self._without_response(f"HTTP {outcome.status} with a body that is no JSON object")
        if "error" in body:
            return self._refused(outcome, body)
        tokens = _tokens(body, outcome.at)
        if tokens is None:
            return self._without_response(f"HTTP {outcome.status} with JSON that holds no tokens")
        self.issued = Issued(tokens, _portal(body))
        return AttemptResult(Reply(None))

    def _refused(self, response: Response, body: Mapping[str, Any]) -> AttemptResult:
        said = refusal(body, response.status, self._redact)
        code = said.code.upper()
        if code == "INVALID_GRANT":
            return AttemptResult(error=Bitrix24SignInNeeded(said.code, said.status, _METHOD, said.text, self._dead))
        if code in _ADVICE and said.status < 500:
            advice = (
                f"There is no access token, and the call that needs it was not executed. {_ADVICE[code]} {self._server}"
            )
            return AttemptResult(error=Bitrix24AuthError(said.code, said.status, _METHOD, said.text, advice))
        error = to_exception(said, _METHOD, Effect.READ, who=self._who)
        if error.final and said.status < 500:
            return AttemptResult(error=error)
        return self._trouble(f"{self._host} is in trouble: {error.reason}")

    def _without_response(self, reason: str) -> AttemptResult:
        self._dead = self._dead or (
            f"The response to a refresh was lost a moment before ({reason}): the portal has probably given out a new "
            "pair that nobody has."
        )
        return self._trouble(f"no usable response from {self._host}: {reason}")

    def _trouble(self, reason: str, advice: str = "") -> AttemptResult:
        error = Bitrix24TokenError(
            f"No new access token: {reason}.", "Nothing else was sent.", *filter(None, (advice,))
        )
        return AttemptResult(error=error, retry=RetryReason.TROUBLE)

    def _redirected(self) -> Bitrix24Error:
        return Bitrix24ConfigError(
            f"The token endpoint {self._host} responded with a redirect, which is not followed: the client secret "
            "would go there.",
            "Whether it gave out a new pair of tokens before is not known. Check the extra oauth_url "
            "of the connection; if the tokens are not valid any more afterwards, sign in again. Nothing else was sent.",
        )

    def _redact(self, text: str) -> str:
        text = self._settings.redact(text)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _json_object(body: bytes) -> Mapping[str, Any] | None:
    """The body, if it is an object; not redacted, since it holds the tokens."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, Mapping) else None


def _tokens(body: Mapping[str, Any], now: float) -> Tokens | None:
    access, new = body.get("access_token"), body.get("refresh_token")
    if not isinstance(access, str) or not isinstance(new, str) or not is_token(access) or not is_token(new):
        return None
    life = body.get("expires_in")
    if isinstance(life, str) and life.isascii() and life.isdigit() and len(life) < 10:
        life = int(life)
    if not isinstance(life, int) or isinstance(life, bool) or not 0 < life < 10**9:
        life = _ACCESS_TOKEN_LIFE
    return Tokens(access, new, issued_at=now, expires_at=now + life)


def _portal(body: Mapping[str, Any]) -> str | None:
    """The portal's host in lower case; ``domain`` in the same response is that of the token endpoint."""
    endpoint = body.get("client_endpoint")
    try:
        host = urlsplit(endpoint).hostname if isinstance(endpoint, str) else None
    except ValueError:
        return None
    return "".join(filter(str.isprintable, host))[:253] if host else None
