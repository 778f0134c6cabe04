"""Everything that is known about one portal before the first call, validated and frozen, from plain values.

No Airflow in here: the hook hands over what its connection holds. Secrets never show in `repr`.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

from pydantic import BaseModel, ConfigDict

from airflow_provider_bitrix24.api.address import PORTS, Written, bracketed, is_loopback, read_port
from airflow_provider_bitrix24.api.credentials import Auth, OAuthAuth, read_credentials
from airflow_provider_bitrix24.api.extras import plain, read_extras
from airflow_provider_bitrix24.api.pacing import STANDARD, Limits
from airflow_provider_bitrix24.api.working_time import STANDARD_LIMIT
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


_SHORTEST_FORM: Final = 8
"""Characters in base64: a shorter part could be of anything."""


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
    """From sending a request until its whole response has arrived: longer than the portal's own 60 s cut."""
    send_deadline: float = 5
    """How long after the portal was read a write may still leave; a term of the settle window."""
    network_delay: float = 10
    """How long sent bytes may be on their way; a term of the settle window."""
    server_time_limit: float = 120
    """How long the portal may work on a request; a term of the settle window."""
    read_lag: float = 10
    """How long the portal may take to show what it has done; a term of the settle window."""
    rate_limit: Limits = STANDARD
    """How many requests the portal takes; requests wait so that there are no more."""
    rate_limit_wait: float = 120
    """How long one call may wait in all for the portal's rate limit."""
    working_time_limit: float = STANDARD_LIMIT
    """How long the portal may work on one method in ten minutes; 0 if nothing is planned with it."""
    ca_bundle: str | None = None
    """File or folder of certificates that are trusted instead of the usual ones."""
    allow_http: bool = False
    """Whether plain http is accepted for a host that is not this machine."""
    max_response_bytes: int = 64 * 1024 * 1024
    conn_id: str | None = None
    """The Airflow connection that all of this comes from, for messages."""

    @property
    def address(self) -> str:
        """Host, and the port if it is unusual."""
        return bracketed(self.host, self.port)

    @property
    def origin(self) -> str:
        """Scheme and address of the portal, without any secret."""
        return f"{self.scheme}://{self.address}"

    @property
    def place(self) -> str:
        """The portal's address for messages: its origin and the Airflow connection."""
        return f"{self.origin} (connection {self.conn_id!r})" if self.conn_id else self.origin

    @property
    def portal(self) -> str:
        """The portal's name in keys, receipts and messages."""
        return self.portal_id or self.address

    @property
    def settle_window(self) -> float:
        """Seconds after a write was decided until nothing of it can still arrive."""
        return self.send_deadline + self.connect_timeout + self.network_delay + self.server_time_limit + self.read_lag

    def url(self, method: str) -> str:
        """The address of a method, with the webhook's secret in it."""
        return f"{self.origin}{self.auth.path(method)}"

    @property
    def application(self) -> OAuthAuth | None:
        """The OAuth application, if the connection is not a webhook's."""
        return self.auth if isinstance(self.auth, OAuthAuth) else None

    def at(self, origin: str) -> Self:
        """Return the settings for the token endpoint at another origin, without what is meant for the portal only."""
        written = Written.take_apart(origin)
        own = self.application.oauth_ca_bundle if self.application else None
        ca_bundle = own or (self.ca_bundle if written.host == self.host else None)
        return self.model_copy(
            update={"host": written.host, "scheme": written.scheme, "port": written.port, "ca_bundle": ca_bundle}
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown anywhere."""
        return self.auth.secrets

    def redact(self, text: str) -> str:
        """Remove all known secrets from a text: in any case, in base64, in hexadecimal, or percent-encoded."""
        text = _any_of(self.secrets).sub("***", text)
        return _percent_encoded(self.secrets).sub("***", text) if "%" in text else text

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
        written = Written.take_apart(plain(host), plain(schema), plain(conn_type))
        _refuse_other_type(plain(conn_type).lower(), written)
        options = read_extras(extra or {}, of_address=plain(conn_type).lower() in PORTS)
        allow_http = options.get("allow_http", False)
        scheme = written.scheme or "https"
        if scheme == "http" and not allow_http and not is_loopback(written.host):
            raise Bitrix24ConfigError(
                "schema: plain http would send the secret readable to everybody on the way.",
                "Use https, or set the extra allow_http to true if the network is trusted.",
            )
        number = read_port(port) or written.port
        if written.port not in (None, number):
            raise Bitrix24ConfigError("port and the host say different things: write the port in one place.")
        return cls(
            host=written.host,
            scheme=scheme,
            port=None if number == PORTS[scheme] else number,
            auth=read_credentials(written, plain(login), plain(password), options, allow_http=allow_http),
            **{name: value for name, value in options.items() if name in cls.model_fields and name != "auth"},
        )


def _refuse_other_type(conn_type: str, written: Written) -> None:
    """Refuse a connection that was made for something else, such as an API that is called by HTTP.

    :raises Bitrix24ConfigError: names the type.
    """
    if conn_type in ("", "bitrix24") or (conn_type in PORTS and written.path):
        return
    which = f" {conn_type!r}" if conn_type.isascii() and conn_type.isidentifier() else ""
    raise Bitrix24ConfigError(
        f"conn_type is{which} and not bitrix24, so it was made for something else.",
        "Set the connection's type to "
        "bitrix24, or use a whole webhook address (https://acme.bitrix24.com/rest/1/SECRET/) as the connection.",
    )


@lru_cache(maxsize=64)
def _any_of(secrets: tuple[str, ...]) -> re.Pattern[str]:
    """The longest first: one may be part of another."""
    forms = {form for secret in secrets for form in (secret, secret.encode().hex(), *_in_base64(secret))}
    return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))), re.IGNORECASE)


@lru_cache(maxsize=64)
def _percent_encoded(secrets: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern for secrets of which any character is percent-encoded, once or several times."""
    ordered = sorted(secrets, key=len, reverse=True)
    return re.compile("|".join("".join(map(_or_encoded, secret)) for secret in ordered), re.IGNORECASE)


def _or_encoded(character: str) -> str:
    code = "".join(f"%(?:25)*{byte:02x}" for byte in character.encode())
    return f"(?:{re.escape(character)}|{code})"


def _in_base64(secret: str) -> set[str]:
    """Return the forms that a secret can have inside a base64 text, at any position."""
    forms = set()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret.encode())
        # What the neighbours of the secret have a part in is cut off.
        inner = encoded.decode()[4 if before else 0 : (before + len(secret.encode())) // 3 * 4]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return {form for form in forms if len(form) >= _SHORTEST_FORM}
