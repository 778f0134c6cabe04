"""Where a portal is, in any of the ways people write it: taken apart, checked, never believed."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError
from airflow_provider_bitrix24.identifiers import host_name

if TYPE_CHECKING:
    from urllib.parse import SplitResult

PORTS: Final = {"https": 443, "http": 80}
WEBHOOK_PATH: Final = re.compile(
    r"/*rest/(?:api/)?(?!api/)(?P<user>[^/]+)/(?P<secret>[^/]+)(?:/[^/]*)?/*", re.IGNORECASE
)
"""The address that the portal shows; the newer one has api/ in it, and the same user and secret."""
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*(?!(?:[0-9]+|0x[0-9a-f]*)$){_LABEL}")
"""A name; what ends in a number would be taken for some IP address."""


@dataclass(frozen=True)
class Written:
    """The portal as it was written, taken apart."""

    host: str
    scheme: str | None
    port: int | None
    path: str

    @classmethod
    def take_apart(cls, host: str, schema: str = "", conn_type: str = "", *, field: str = "host") -> Self:
        """Read what was written.

        :param host: a bare host, an address, or the whole webhook address.
        :param schema: Airflow's field; holds the path where the whole connection is an address.
        :param conn_type: Airflow's field; holds the scheme where the whole connection is an address.
        :param field: what messages call the first.
        :raises Bitrix24ConfigError: names the field that is wrong; never repeats a secret.
        """
        if not host:
            raise Bitrix24ConfigError(f"{field} is empty: it must be the portal, such as acme.bitrix24.com.")
        if " " in host or not host.isprintable():
            raise Bitrix24ConfigError(f"{field} holds a blank or a control character.")
        try:
            split = urlsplit(host if "://" in host else f"//{_bracketed(host)}")
            port = split.port
        except ValueError:
            raise Bitrix24ConfigError(
                f"{field} is neither a host name nor an address such as https://acme.bitrix24.com."
            ) from None
        if split.username or split.password:
            raise Bitrix24ConfigError(
                f"{field} holds a user or password before an @: use the fields login and password."
            )
        if split.query or split.fragment:
            raise Bitrix24ConfigError(
                f"{field} holds a ? or # and what follows it: leave it out, and the name of a method before it."
            )
        path, schema_scheme = (schema, "") if schema.lower() not in ("", *PORTS) else ("", schema.lower())
        scheme = split.scheme.lower() or schema_scheme or (conn_type if conn_type in PORTS else "")
        if scheme and scheme not in PORTS:
            raise Bitrix24ConfigError("schema must be https or http.")
        return cls(_host_name(split, field), scheme or None, port or None, _path(split, path, field))


def bracketed(host: str, port: int | None = None) -> str:
    """Return a host as it stands in an address, with its port if there is one."""
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def same_host(one: str, other: str) -> bool:
    """Tell whether two addresses, or hosts without a scheme, name the same host.

    Case, a dot at the end, the port, and letters or their ASCII form make no difference.
    """
    return _host_of(one) == _host_of(other)


def _host_of(address: str) -> str:
    try:
        return Written.take_apart(address.strip().partition("/rest/")[0].rstrip("/")).host
    except Bitrix24ConfigError:
        return address.strip().lower()


def is_loopback(host: str) -> bool:
    """Tell whether this is the machine itself."""
    if _is_ip_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def read_port(value: object) -> int | None:
    """Return a port, where nothing, empty text and 0 mean none."""
    text = "" if value is None else str(value).strip()
    if text in ("", "0"):
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536):
        raise Bitrix24ConfigError("port must be a number between 1 and 65535, or empty.")
    return int(text)


def _path(split: SplitResult, schema: str, field: str) -> str:
    """What follows the host, either there or in the field schema."""
    path = split.path.strip("/") or schema.strip("/")
    if path.lower() in ("rest", "rest/api"):
        return ""
    if path and WEBHOOK_PATH.fullmatch(path) is None:
        field = field if split.path.strip("/") else "schema"
        raise Bitrix24ConfigError(
            f"{field} holds a path that is no webhook address (https://acme.bitrix24.com/rest/1/SECRET/).",
            "Leave only the host there.",
        )
    return path


def _bracketed(host: str) -> str:
    """An IPv6 address in the brackets that an address needs."""
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


def _host_name(split: SplitResult, field: str) -> str:
    """Return the host in its one spelling, or refuse it."""
    try:
        name = host_name(split.hostname or "")
    except ValueError:
        name = None
    if name is None:
        raise Bitrix24ConfigError(
            f"{field} holds letters that can be read in more than one way: give its ASCII form, which begins with xn--."
        )
    if _HOST.fullmatch(name) is None and not _is_ip_address(name):
        raise Bitrix24ConfigError(f"{field} is not a host name such as acme.bitrix24.com.")
    return name


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
