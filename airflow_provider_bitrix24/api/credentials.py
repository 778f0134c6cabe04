"""Who a connection acts as: an incoming webhook with its secret, or an OAuth application whose tokens rotate."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, PrivateAttr, SecretStr

from airflow_provider_bitrix24.api.address import PORTS, WEBHOOK_PATH, Written, bracketed, is_loopback
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OAUTH_URL: Final = "https://oauth.bitrix.info"
"""The token endpoint's host, unless the portal is self-hosted or of another region."""
_USER = re.compile(r"(?!\.+$)[\w.@+-]{1,100}")
_SECRET = re.compile(r"(?!\.+$)[A-Za-z0-9._~-]{1,200}")
_CLIENT_ID = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,100}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{8,2000}")
_OF_OAUTH: Final = (
    "oauth_url",
    "oauth_ca_bundle",
    "refresh_token",
    "access_token",
    "refreshed_by",
    "token_conn_id",
    "token_key",
)
_REMEMBERED: Final = 8


class WebhookAuth(BaseModel):
    """An incoming webhook: who it acts as, and its secret code."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    kind: ClassVar[str] = "webhook"
    """What messages call it."""
    more_rights: ClassVar[str] = "Add it in Bitrix24: Developer resources, the webhook's access rights"

    user_id: str
    """The user in the webhook's address: an id, or a login name."""
    secret: SecretStr

    def path(self, method: str) -> str:
        """The path of a method, with the secret in it."""
        return f"/rest/{quote(self.user_id, safe='')}/{quote(self.secret.get_secret_value(), safe='')}/{method}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown anywhere."""
        return (self.secret.get_secret_value(),)


class OAuthAuth(BaseModel):
    """An OAuth application. Its tokens change; what a connection holds of them is only the first pair."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    kind: ClassVar[str] = "application"
    """What messages call it."""
    more_rights: ClassVar[str] = (
        "Add it in Bitrix24: Developer resources, the application's access rights; if it is still missing then, sign "
        "in again"
    )

    client_id: str
    client_secret: SecretStr
    oauth_url: str = OAUTH_URL
    """Origin of the token endpoint."""
    oauth_ca_bundle: str | None = None
    """File or folder of certificates that are trusted there; else the portal's if both are one host, or the usual."""
    refresh_token: SecretStr | None = None
    """The first one; used only as long as the token store has none."""
    access_token: SecretStr | None = None
    """The first one."""
    refreshed_by: Literal["tasks", "operator"] = "tasks"
    """Who refreshes: every task that needs to, or nobody but `RefreshTokenOperator`."""
    token_conn_id: str | None = None
    """Airflow connection of a SQL database that keeps the tokens; else an Airflow Variable does."""
    token_key: SecretStr | None = None
    """What tokens in the SQL database are encrypted with; else the client secret."""
    _learned: deque[str] = PrivateAttr(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def path(self, method: str) -> str:
        """The path of a method."""
        return f"/rest/{method}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown anywhere, as far as it is known by now."""
        given = (self.client_secret, self.refresh_token, self.access_token, self.token_key)
        return (*(secret.get_secret_value() for secret in given if secret is not None), *self._learned)

    def learn(self, secrets: Iterable[str]) -> None:
        """Remember new tokens as secrets: the one thing about this object that changes."""
        self._learned.extend(secret for secret in secrets if secret not in self._learned)


Auth: TypeAlias = WebhookAuth | OAuthAuth


def read_credentials(
    written: Written, login: str, password: str, options: Mapping[str, Any], *, allow_http: bool
) -> Auth:
    """Return who the connection acts as.

    :param written: the portal, with the webhook's path if the whole address was pasted.
    :param login: the webhook's user id, or the application's client id.
    :param password: the webhook's secret, or the client secret.
    :param options: the extras.
    :param allow_http: whether plain http is accepted for a token endpoint that is not this machine.
    :raises Bitrix24ConfigError: names the field that is wrong; never repeats a secret.
    """
    if options.get("auth") == "oauth":
        return _application(written, login, password, options, allow_http=allow_http)
    foreign = next((name for name in _OF_OAUTH if name in options), None)
    if foreign is not None:
        raise Bitrix24ConfigError(
            f"extra: {foreign} is for an OAuth application: set auth to oauth, or leave {foreign} empty."
        )
    return _webhook(written, login, password)


def is_token(text: object) -> bool:
    """Tell whether this can be an access or refresh token."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


def _application(
    written: Written, login: str, password: str, options: Mapping[str, Any], *, allow_http: bool
) -> OAuthAuth:
    if written.path:
        raise Bitrix24ConfigError(
            "host holds a webhook's address, but auth is oauth: leave only the host there, or set auth to webhook."
        )
    if _CLIENT_ID.fullmatch(login) is None:
        raise Bitrix24ConfigError(
            f"login {'must be' if login else 'is empty: it must be'} the client id of the OAuth application, such as "
            "local.5c8bb1b0917420.10000000."
        )
    if _SECRET.fullmatch(password) is None:
        raise Bitrix24ConfigError(
            f"password {'must be' if password else 'is empty: it must be'} the client secret of the OAuth application "
            "(application key), without slashes and spaces."
        )
    for name in ("refresh_token", "access_token"):
        if name in options and not is_token(options[name]):
            raise Bitrix24ConfigError(f"extra: {name} must be the token alone, 8 to 2000 characters without spaces.")
    if "access_token" in options and "refresh_token" not in options:
        raise Bitrix24ConfigError(
            "extra: an access_token lives for an hour: give a refresh_token beside it, or neither."
        )
    if "token_key" in options and len(options["token_key"]) < 16:
        raise Bitrix24ConfigError("extra: token_key must have at least 16 characters.")
    given = {name: options[name] for name in _OF_OAUTH if name in options}
    if "oauth_url" in given:
        given["oauth_url"] = _origin(given["oauth_url"], allow_http=allow_http)
    return OAuthAuth(client_id=login, client_secret=SecretStr(password), **given)


def _origin(oauth_url: str, *, allow_http: bool) -> str:
    """The token endpoint's scheme, host and port; its path is always the same."""
    written = Written.take_apart(oauth_url, field="extra: oauth_url")
    if written.path:
        raise Bitrix24ConfigError(f"extra: oauth_url must be an address without a path, such as {OAUTH_URL}.")
    scheme = written.scheme or "https"
    if scheme == "http" and not allow_http and not is_loopback(written.host):
        raise Bitrix24ConfigError(
            "extra: oauth_url: plain http would send the client secret readable to everybody on the way.",
            "Use https, or set the extra allow_http to true if the network is trusted.",
        )
    return f"{scheme}://{bracketed(written.host, None if written.port == PORTS[scheme] else written.port)}"


def _webhook(written: Written, login: str, password: str) -> WebhookAuth:
    """The webhook, from the fields or from the pasted address; both are fine as long as they agree."""
    pasted = WEBHOOK_PATH.fullmatch(written.path)
    user, secret = (pasted["user"], pasted["secret"]) if pasted else ("", "")
    for field, value, other in (("login", login, user), ("password", password, secret)):
        if value and other and value != other:
            raise Bitrix24ConfigError(
                f"{field} and the webhook address in the host say different things: leave one of them."
            )
    user, secret = user or login, secret or password
    if not user:
        raise Bitrix24ConfigError(
            "login is empty: it must be the user id of the webhook, the number after /rest/ in its address."
        )
    if _USER.fullmatch(user) is None or user.lower() == "api":
        raise Bitrix24ConfigError("login must be the user id of the webhook, the number after /rest/ in its address.")
    if not secret:
        raise Bitrix24ConfigError(
            "password is empty: it must be the webhook's secret code, the last part of its address."
        )
    if _SECRET.fullmatch(secret) is None:
        raise Bitrix24ConfigError(
            "password must be the webhook's secret code alone, the last part of its address, without slashes "
            "and spaces."
        )
    return WebhookAuth(user_id=user, secret=SecretStr(secret))
