"""Find secrets in whatever form they may have taken on their way: plain, quoted, in base64, in hex, in capitals."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHORTEST = 8
"""Shorter ones would be found by chance."""


class Needles:
    """Some secrets, by name.

    :param secrets: name -> secret.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        assert all(len(secret) >= SHORTEST for secret in secrets.values())
        self._names: dict[bytes, str] = {}
        either, exact = set(), set()
        for name, secret in secrets.items():
            for form in _in_any_case(secret):
                either.add(form)
                self._names[form.lower()] = name
            for form in _in_base64(secret):
                exact.add(form)
                self._names[form] = name
        self._either = re.compile(b"|".join(map(re.escape, sorted(either, key=len, reverse=True))), re.IGNORECASE)
        self._exact = re.compile(b"|".join(map(re.escape, sorted(exact, key=len, reverse=True))))

    def found_in(self, hay: bytes | str) -> set[str]:
        """Names of the secrets that are in it."""
        raw = hay.encode(errors="surrogatepass") if isinstance(hay, str) else hay
        either = {self._names[match[0].lower()] for match in self._either.finditer(raw)}
        return either | {self._names[match[0]] for match in self._exact.finditer(raw)}


def _in_any_case(secret: str) -> Iterable[bytes]:
    yield secret.encode()
    yield quote(secret).encode()
    yield quote(secret, safe="").encode()
    yield quote(quote(secret, safe=""), safe="").encode()
    yield json.dumps(secret)[1:-1].encode()
    yield secret.encode("utf-16-le")
    yield secret.encode().hex().encode()


def _in_base64(secret: str) -> Iterable[bytes]:
    """The part that does not depend on what stands around it, for each way it can be aligned."""
    for before in range(3):
        padded = b"\0" * before + secret.encode()
        padded = padded[: len(padded) - len(padded) % 3]
        first = 4 if before else 0
        yield base64.b64encode(padded)[first:]
        yield base64.urlsafe_b64encode(padded)[first:]
