"""How a request becomes parameters, the way PHP and Bitrix24 read it: query, form and JSON, nested by brackets."""

from __future__ import annotations

import email
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from airflow_provider_bitrix24.sandbox.portal.php import DEEPEST, parse_query


def _refuse(constant: str) -> None:
    """Python reads ``NaN`` and ``Infinity``; JSON has neither."""
    raise ValueError(constant)


def _number(text: str) -> Decimal | str:
    """A number with a fraction or an exponent, exactly; what PHP takes for infinite is no number here."""
    return Decimal(text) if math.isfinite(float(text)) else "INF"


def _is_shallow(value: Any) -> bool:
    """Are the arrays of a parsed body nested less deeply than the portal takes?"""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        level = [below for each in level for below in (each.values() if isinstance(each, dict) else each)]
        level = [below for below in level if isinstance(below, dict | list)]
        if not level:
            return True
    return False


def from_json(body: bytes) -> dict[str, Any]:
    """Return the parameters of a JSON body; a body that does not parse, or is no object, has none and is no error."""
    try:
        parsed = json.loads(body, parse_float=_number, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return {}
    if not _is_shallow(parsed):
        return {}
    if isinstance(parsed, list):
        return {str(number): item for number, item in enumerate(parsed)}
    return parsed if isinstance(parsed, dict) else {}


def from_multipart(content_type: str, body: bytes) -> dict[str, Any]:
    """Return the parameters of a ``multipart/form-data`` body; files in it are no parameters."""
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    pairs = []
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes) and part.get_filename() is None:
            pairs.append((name, content.decode("utf-8", errors="replace")))
    return parse_query(urlencode(pairs))


def merged(query: str, content_type: str, body: bytes) -> dict[str, Any]:
    """
    Return what a method is called with: the query's parameters, overridden name by name by the body's.

    JSON is read as JSON only when the content type says so; a body of any unknown type is no source of parameters.
    """
    parameters = parse_query(query)
    match content_type.partition(";")[0].strip().lower():
        case "application/json":
            parameters |= from_json(body)
        case "application/x-www-form-urlencoded":
            parameters |= parse_query(body.decode("utf-8", errors="replace"))
        case "multipart/form-data":
            parameters |= from_multipart(content_type, body)
    return parameters


def to_json(value: Any) -> str:
    """Return ``value`` as JSON text; a ``Decimal`` becomes a number with exactly its digits (``350.00`` is ``350``)."""
    if isinstance(value, Decimal):
        text = format(value, "f") if value else "0"
        return text.rstrip("0").rstrip(".") if "." in text else text
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except TypeError:  # a Decimal is in it
        if isinstance(value, Mapping):
            return "{" + ",".join(f"{json.dumps(str(name))}:{to_json(item)}" for name, item in value.items()) + "}"
        if isinstance(value, list | tuple):
            return "[" + ",".join(to_json(item) for item in value) + "]"
        raise
