"""Everything that is known about one portal before the first call, validated and frozen, from plain values.

No Airflow in here: the hook hands over what its connection holds. The secret never shows in `repr`.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from urllib.parse import SplitResult, quote, urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS = {"https": 443, "http": 80}
_WEBHOOK_PATH = re.compile(r"/*rest/(?:api/)?(?!api/)(?P<user>[^/]+)/(?P<secret>[^/]+)(?:/[^/]*)?/*", re.IGNORECASE)
"""The address that the portal shows; the newer one has api/ in it, and the same user and secret."""
_USER = re.compile(r"(?!\.+$)[\w.@+-]{1,100}")
_SECRET = re.compile(r"(?!\.+$)[A-Za-z0-9._~-]{1,200}")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*(?![0-9]+$){_LABEL}")
"""A name; what ends in a number would be taken for some IP address."""
_PORTAL_ID = re.compile(r"[A-Za-z0-9._:-]{1,255}")
_EXTRA_NAME = re.compile(r"[a-z_]{1,40}")
_TRUE = ("true", "1", "yes", "y", "on")
_FALSE = ("false", "0", "no", "n", "off")


class WebhookAuth(BaseModel):
    """An incoming webhook: who it acts as, and its secret code."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    user_id: str
    """The user in the webhook's address: an id, or a login name."""
    secret: SecretStr

    def path(self, method: str) -> str:
        """The path of a method, with the secret in it."""
        return f"/rest/{quote(self.user_id, safe='')}/{quote(self.secret.get_secret_value(), safe='')}/{method}"


Auth: TypeAlias = WebhookAuth


class Settings(BaseModel):
    """One portal, and how to talk to it. All times are seconds."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    host: str
    """Portal, lower case, without scheme and port."""
    scheme: str = "https"
    port: int | None = None
    """Only if it is not the scheme's own."""
    auth: Auth
    portal_id: str | None = None
    """Name of the portal in keys and receipts; keeps them the same when the portal is renamed."""
    connect_timeout: float = 10
    """For each step of connecting, and a third of what all may take; a term of the settle window."""
    read_timeout: float = 75
    """From sending a request until its whole answer has arrived: longer than the portal's own 60 s cut."""
    lease: float = 5
    """How long after it was decided a write may still leave; a term of the settle window."""
    delivery: float = 10
    """How long sent bytes may be on their way; a term of the settle window."""
    server_limit: float = 120
    """How long the portal may work on a request; a term of the settle window."""
    read_lag: float = 10
    """How long the portal may take to show what it has done; a term of the settle window."""
    rate_limit_wait: float = 120
    """How long one call may wait in all while the portal says that there are too many requests."""
    ca_bundle: str | None = None
    """File or folder of certificates that are trusted instead of the usual ones."""
    allow_http: bool = False
    """Whether plain http is accepted for a host that is not this machine."""
    max_response_bytes: int = 64 * 1024 * 1024

    @property
    def address(self) -> str:
        """Host, and the port if it is unusual."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme and address of the portal, without any secret."""
        return f"{self.scheme}://{self.address}"

    @property
    def portal(self) -> str:
        """The portal's name in keys, receipts and messages."""
        return self.portal_id or self.address

    @property
    def settle_window(self) -> float:
        """Seconds after a write was decided until nothing of it can still arrive."""
        return self.lease + self.connect_timeout + self.delivery + self.server_limit + self.read_lag

    def url(self, method: str) -> str:
        """The address of a method, with the secret in it."""
        return f"{self.origin}{self.auth.path(method)}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown anywhere."""
        return (self.auth.secret.get_secret_value(),)

    def redact(self, text: str) -> str:
        """The text without any secret, in upper or lower case."""
        for secret in self.secrets:
            text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
        return text

    @classmethod
    def from_connection_values(
        cls,
        *,
        host: str | None = None,
        login: str | int | None = None,
        password: str | None = None,
        port: int | str | None = None,
        schema: str | None = None,
        extra: Mapping[str, Any] | None = None,
        conn_type: str | None = None,
    ) -> Self:
        """Settings from what a connection holds, in any of the ways people write it.

        The portal may come as bare host, as an address, or as the whole webhook address, pasted into the host field or
        used as the whole connection (Airflow then leaves the path in ``schema`` and the scheme in ``conn_type``).

        :raises Bitrix24ConfigError: names the field that is wrong; never repeats a secret.
        """
        written = _Written.take_apart(_plain(host), _plain(schema), _plain(conn_type))
        options = _options(extra or {})
        scheme = written.scheme or "https"
        if scheme == "http" and not options.get("allow_http") and not _is_loopback(written.host):
            raise Bitrix24ConfigError(
                "schema: plain http would send the webhook's secret readable to everybody on the way. Use https, or "
                "set the extra allow_http to true if the network is trusted."
            )
        number = _port(port) or written.port
        if written.port not in (None, number):
            raise Bitrix24ConfigError("port and the host say different things: write the port in one place.")
        return cls(
            host=written.host,
            scheme=scheme,
            port=None if number == _PORTS[scheme] else number,
            auth=_webhook(written, _plain(login), _plain(password)),
            **options,
        )


@dataclass(frozen=True)
class _Written:
    """The portal as it was written, taken apart."""

    host: str
    scheme: str | None
    port: int | None
    path: str

    @classmethod
    def take_apart(cls, host: str, schema: str, conn_type: str) -> Self:
        if not host:
            raise Bitrix24ConfigError("host is empty: it must be the portal, such as acme.bitrix24.com.")
        if " " in host or not host.isprintable():
            raise Bitrix24ConfigError("host holds a blank or a control character.")
        try:
            split = urlsplit(host if "://" in host else f"//{_bracketed(host)}")
            port = split.port
        except ValueError:
            raise Bitrix24ConfigError(
                "host is neither a host name nor an address such as https://acme.bitrix24.com."
            ) from None
        if split.username or split.password:
            raise Bitrix24ConfigError("host holds a user or password before an @: use the fields login and password.")
        path, schema_scheme = (schema, "") if schema.lower() not in ("", *_PORTS) else ("", schema.lower())
        scheme = split.scheme.lower() or schema_scheme or (conn_type if conn_type in _PORTS else "")
        if scheme and scheme not in _PORTS:
            raise Bitrix24ConfigError("schema must be https or http.")
        return cls(_host_name(split), scheme or None, port or None, _path(split, path))


def _path(split: SplitResult, schema: str) -> str:
    """What follows the host, either there or in the field schema."""
    path = split.path.strip("/") or schema.strip("/")
    if path.lower() in ("rest", "rest/api"):
        return ""
    if path and _WEBHOOK_PATH.fullmatch(path) is None:
        field = "host" if split.path.strip("/") else "schema"
        raise Bitrix24ConfigError(
            f"{field} holds a path that is no webhook address (https://acme.bitrix24.com/rest/1/SECRET/). "
            "Leave only the host there."
        )
    return path


def _bracketed(host: str) -> str:
    """An IPv6 address in the brackets that an address needs."""
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


def _host_name(split: SplitResult) -> str:
    """The host in lower case and in ASCII."""
    name = (split.hostname or "").removesuffix(".")
    if not name.isascii():
        name = _punycode(unicodedata.normalize("NFC", name))
    if _HOST.fullmatch(name) is None and not _is_ip_address(name):
        raise Bitrix24ConfigError("host is not a host name such as acme.bitrix24.com.")
    return name


def _punycode(name: str) -> str:
    """The ASCII form of a name, if there is only one: older rules make ss of ß, which is somebody else's name."""
    try:
        encoded = name.encode("idna")
        same = encoded.decode("idna") == name
    except UnicodeError:
        same = False
    if not same:
        raise Bitrix24ConfigError(
            "host holds letters that can be read in more than one way: give its ASCII form, which begins with xn--."
        )
    return encoded.decode("ascii")


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    if _is_ip_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _webhook(written: _Written, login: str, password: str) -> WebhookAuth:
    """The webhook, from the fields or from the pasted address; both are fine as long as they agree."""
    pasted = _WEBHOOK_PATH.fullmatch(written.path)
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


def _plain(value: object) -> str:
    """Text without blanks around it, where nothing is empty text."""
    return "" if value is None else str(value).strip()


def _port(value: object) -> int | None:
    """A port, where nothing, empty text and 0 mean none."""
    text = _plain(value)
    if text in ("", "0"):
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536):
        raise Bitrix24ConfigError("port must be a number between 1 and 65535, or empty.")
    return int(text)


def _options(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The extras as values of `Settings`; what is empty is left to its default."""
    options: dict[str, Any] = {}
    for name, value in extra.items():
        if name not in _EXTRAS:
            near = difflib.get_close_matches(name, _EXTRAS, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(_EXTRAS)}."
            which = repr(name) if _EXTRA_NAME.fullmatch(name) else "a name that is not shown"
            raise Bitrix24ConfigError(f"extra: {which} is not known; {hint}")
        if value is not None and _plain(value):
            option = _EXTRAS[name](name, value)
            if option is not None:
                options[name] = option
    options.pop("auth", None)
    return options


def _seconds(name: str, value: object) -> float:
    """Seconds, 0 or more."""
    try:
        seconds = -1.0 if isinstance(value, bool) else float(_plain(value))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise Bitrix24ConfigError(f"extra: {name} must be a number of seconds between 0 and 86400.")
    return seconds


def _seconds_above_zero(name: str, value: object) -> float | None:
    """Seconds, where 0 means not given: that is what an untouched number field of the form sends."""
    return _seconds(name, value) or None


def _bytes(name: str, value: object) -> int | None:
    """A number of bytes, where 0 means not given."""
    text = _plain(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 13):
        raise Bitrix24ConfigError(f"extra: {name} must be a whole number of bytes.")
    return int(text) or None


def _switch(name: str, value: object) -> bool:
    """A switch; the extras of a URI are text."""
    text = _plain(value).lower()
    if text not in _TRUE + _FALSE:
        raise Bitrix24ConfigError(f"extra: {name} must be true or false.")
    return text in _TRUE


def _name(name: str, value: object) -> str:
    """A text."""
    if not isinstance(value, str) or len(value) > 1000:
        raise Bitrix24ConfigError(f"extra: {name} must be a text.")
    return value.strip()


def _portal_name(name: str, value: object) -> str:
    """A name of the portal; whole addresses, which may hold a secret, are none."""
    text = _name(name, value)
    if _PORTAL_ID.fullmatch(text) is None:
        raise Bitrix24ConfigError(
            f"extra: {name} must be a name such as acme.bitrix24.com: up to 255 letters, digits and . _ : -"
        )
    return text


def _webhook_only(name: str, value: object) -> None:
    """The way to authenticate, of which there is one."""
    if _plain(value).lower() != "webhook":
        raise Bitrix24ConfigError(
            f"extra: {name} must be webhook: there is no other way to authenticate in this version."
        )


_EXTRAS = {
    "portal_id": _portal_name,
    "connect_timeout": _seconds_above_zero,
    "read_timeout": _seconds_above_zero,
    "lease": _seconds_above_zero,
    "delivery": _seconds,
    "server_limit": _seconds,
    "read_lag": _seconds,
    "rate_limit_wait": _seconds,
    "ca_bundle": _name,
    "allow_http": _switch,
    "max_response_bytes": _bytes,
    "auth": _webhook_only,
}
