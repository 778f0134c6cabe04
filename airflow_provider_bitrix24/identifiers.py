"""Bring identifiers into one spelling, so that texts that look the same, or name one host, are one key."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import Final

_HIDDEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
)
"""Characters that nobody sees, although their category does not say so: fillers, joiners and variation selectors."""
_DASHES: Final = re.compile("[\u2010-\u2013\u2212]")
"""Hyphens, the dash of ranges and the minus sign, which office programs write instead of ``-``."""
_PORTAL: Final = re.compile(r"[a-z0-9._:\[\]-]{1,255}")


def normalised(text: str) -> str:
    """Return a text in Unicode's form NFKC: full-width digits become digits, é one letter.

    Blanks around it do not count, several in a row are one, and short dashes are ``-``.
    """
    one_form = _DASHES.sub("-", unicodedata.normalize("NFKC", text)).strip()  # rule: dashes that look the same are one
    return re.sub(" +", " ", one_form)  # rule: blanks in a row are one


def hidden_character(text: str) -> str | None:
    """Return number and name of the first invisible character of a text; None if there is none."""
    for character in text:
        if not character.isprintable() or _HIDDEN.match(character):
            return f"U+{ord(character):04X} ({unicodedata.name(character, 'a control character')})"
    return None


def host_name(text: str) -> str:
    """Return the one spelling of a host: ASCII, lower case, no final dot; IP addresses as Python writes them.

    :raises ValueError: its letters can be read in more than one way.
    """
    name = unicodedata.normalize("NFC", text).lower().removesuffix(".")
    try:
        return ipaddress.ip_address(name).compressed
    except ValueError:
        pass
    if name.isascii():
        return name
    encoded = name.encode("idna")
    # Older rules make ss of ß, which is somebody else's name.
    if encoded.decode("idna") != name:
        raise ValueError("more than one reading")
    return encoded.decode("ascii")


def portal_name(text: str) -> str:
    """Return the one spelling of a portal's name, as used in keys: a host, with its port if that is unusual.

    :raises ValueError: it is no such name.
    """
    host, colon, port = normalised(text).removesuffix(":443").partition(":")
    name = f"{host_name(host)}{colon}{port}".lower()
    if _PORTAL.fullmatch(name) is None:
        raise ValueError("no name of a portal")
    return name
