"""The certificates made on the spot are accepted by a strict client, and only with their own authority."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from airflow_provider_bitrix24.sandbox.tls import make_certificates

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.libraries


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, hostname: str) -> None:
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(ours, server_side=True).close()
        except (ssl.SSLError, OSError):
            ours.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(theirs, server_hostname=hostname).close()
    finally:
        theirs.close()
        thread.join()


def test_certificate_is_accepted_with_its_authority_only(tmp_path: Path) -> None:
    files = make_certificates(tmp_path / "new" / "directory")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.key)

    strict = ssl.create_default_context(cafile=str(files.authority))
    strict.verify_flags |= ssl.VERIFY_X509_STRICT  # Python 3.13's default
    for name in ("127.0.0.1", "localhost"):
        handshake(server, strict, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, strict, "example.com")

    other = make_certificates(tmp_path / "other").authority
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, ssl.create_default_context(cafile=str(other)), "localhost")


def test_key_is_private(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert b"PRIVATE" not in files.authority.read_bytes() + files.certificate.read_bytes()
