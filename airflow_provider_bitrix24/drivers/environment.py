"""Read what the connection and the environment say about sockets: proxy, trusted certificates, TCP options."""

from __future__ import annotations

import os
import socket
import ssl
from functools import lru_cache
from typing import TYPE_CHECKING

import httpx
import requests  # noqa: TID253 - the drivers load when the hook first uses them
import urllib3
import urllib3.connection

from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.settings import Settings


def socket_options(settings: Settings) -> list[tuple[int, int, int]]:
    """Bytes that nobody acknowledges are given up, where the system can do that."""
    options = list(urllib3.connection.HTTPConnection.default_socket_options)
    if hasattr(socket, "TCP_USER_TIMEOUT") and settings.network_delay:
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.network_delay * 1000)))
    return options


def proxy_for(settings: Settings) -> str | None:
    """The proxy that the environment names for the portal."""
    proxies = requests.utils.get_environ_proxies(settings.origin)
    proxy: str | None = requests.utils.select_proxy(settings.origin, proxies)
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    scheme, _, rest = proxy.partition("://")
    proxy = f"{scheme.lower()}://{rest}"
    if not proxy.startswith(("http://", "https://")) or not _has_host(proxy):
        raise Bitrix24ConfigError(
            "The environment names a proxy for this portal that is no http proxy; set NO_PROXY or another HTTPS_PROXY.",
            NOT_SENT,
        )
    return proxy


def _has_host(address: str) -> bool:
    """Whether both libraries can read an address."""
    try:
        return bool(urllib3.util.parse_url(address).host and httpx.URL(address).host)
    except (urllib3.exceptions.LocationParseError, httpx.InvalidURL):
        return False


def trusted_certificates(settings: Settings) -> str:
    """File or folder of trusted certificates: the connection's, else the environment's, else the usual ones."""
    variables = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    chosen = settings.ca_bundle or next((os.environ[name] for name in variables if os.environ.get(name)), None)
    return chosen or requests.utils.DEFAULT_CA_BUNDLE_PATH


@lru_cache(maxsize=8)
def tls_context(certificates: str) -> ssl.SSLContext:
    """Make the TLS context that trusts these certificates.

    :raises Bitrix24ConfigError: they cannot be read.
    """
    try:
        if os.path.isdir(certificates):
            return ssl.create_default_context(capath=certificates)
        return ssl.create_default_context(cafile=certificates)
    except OSError:
        pass
    raise Bitrix24ConfigError(f"ca_bundle: {certificates!r} is no file or folder of certificates that can be read.")
