"""The front door: a webhook's path or an application's token becomes a user with scopes, or a refusal."""

from __future__ import annotations

import secrets as random_secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal.envelope import auth_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_bitrix24.sandbox.portal.model import Webhook
    from airflow_provider_bitrix24.sandbox.portal.oauth import OAuth, TokenPair


@dataclass(frozen=True)
class Auth:
    """Who knocks, and how: the webhook's two path parts, the source address, TLS or not, a reused connection or not."""

    user_id: int | str | None = None
    secret: str | None = field(default=None, repr=False)
    source_ip: str = "127.0.0.1"
    secure: bool = True
    kept_alive: bool = True


@dataclass(frozen=True)
class Access:
    """Who came in: the acting user, what it may touch, the account that limits are counted on, a token's pair."""

    user_id: int
    scopes: tuple[str, ...]
    account: str = field(repr=False)
    pair: TokenPair | None = None


def token_of(headers: Mapping[str, str], params: Mapping[str, Any]) -> str | None:
    """The access token of a request: the header, whose names are lower-cased here, beats the parameters."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    found = (params.get(name) for name in ("auth", "access_token"))
    return next((value for value in found if isinstance(value, str) and value), None)


def by_webhook(auth: Auth, webhooks: Iterable[Webhook], *, require_https: bool) -> Access:
    """Who an incoming webhook acts as."""
    if require_https and not auth.secure:
        raise auth_error("INVALID_REQUEST", "Https required.")
    for webhook in webhooks:
        if str(webhook.user_id) == str(auth.user_id) and random_secrets.compare_digest(
            webhook.secret.encode(), (auth.secret or "").encode()
        ):
            return Access(webhook.user_id, tuple(webhook.scopes), webhook.secret)
    raise auth_error("INVALID_CREDENTIALS", "Invalid request credentials")


def by_token(token: str | None, oauth: OAuth) -> Access:
    """Who an application acts as: the person who has signed in to it."""
    if token is None:
        raise auth_error("NO_AUTH_FOUND", "Wrong authorization data")
    application, pair = oauth.check(token)
    return Access(pair.user_id, tuple(application.scopes), application.client_id, pair)
