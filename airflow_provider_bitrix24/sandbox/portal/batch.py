"""``batch``: up to 50 commands in one process, one after the other, with references to earlier results."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.registry import BASIC, METHODS, Method

if TYPE_CHECKING:
    from collections.abc import Generator

    from airflow_provider_bitrix24.sandbox.faults import Pause
    from airflow_provider_bitrix24.sandbox.portal.serving import Request, Serving

MAX_COMMANDS = 50
_NOT_INSIDE = {"batch", "download", "upload"}
_REFERENCE = re.compile(r"\$(result|error|total|next|time)((?:\[[^\[\]]*\])+)", re.IGNORECASE)


def run_batch(serving: Serving, request: Request, params: dict[str, Any]) -> Generator[Pause, None, dict[str, Any]]:
    """Run the commands; an error of one is an entry of ``result_error``, not of the batch."""
    commands = params.get("cmd")
    if serving.portal.state.options["batch_needs_commands"] and not isinstance(commands, list | dict):
        raise _no_commands(commands)
    if isinstance(commands, list):
        commands = {str(index): command for index, command in enumerate(commands)}
    halt = php.truthy(params.get("halt"))
    maps: dict[str, dict[str, Any]] = {name: {} for name in ("result", "error", "total", "next", "time")}
    handled = 0
    for key, command in (commands if isinstance(commands, dict) else {}).items():
        if not isinstance(command, str):
            continue  # PHP skips it: neither a result nor an error
        handled += 1
        try:
            request.command = serving.portal.log.redacted(key)
            body = yield from _run_one(serving, request, command, maps, handled)
        except RestError as error:
            maps["error"][key] = error.body(serving.portal.dialect)
            if halt:
                break
            continue
        for name, value in body.items():
            maps[name][key] = value
    request.command = None
    return {name if name == "result" else f"result_{name}": php.json_array(found) for name, found in maps.items()}


def _no_commands(commands: Any) -> RestError:
    if commands is None:
        return RestError(100, "Could not find value for parameter {cmd}")
    text = f"Invalid value {{{php.to_text(commands)}}} to match with parameter {{cmd}}. Should be value of type array."
    return RestError(100, text)


METHODS["batch"] = Method("batch", BASIC, False, run_batch, ())


def _run_one(
    serving: Serving, request: Request, command: str, maps: dict[str, dict[str, Any]], handled: int
) -> Generator[Pause, None, dict[str, Any]]:
    path, _, query = command.partition("#")[0].partition("?")
    name = path.strip("/")
    if handled > MAX_COMMANDS:
        raise RestError("ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded")
    params = resolve(php.parse_query(query), maps)
    entry = serving.log_inside(request, name, params)
    try:
        _check_allowed(name)
        return (yield from serving.command(request, name, params, entry))
    except RestError as error:
        entry["error"] = str(error.code)
        raise


def _check_allowed(name: str) -> None:
    if name.lower() in _NOT_INSIDE:
        raise RestError("ERROR_BATCH_METHOD_NOT_ALLOWED", "Method is not allowed for batch usage")


def resolve(value: Any, maps: dict[str, dict[str, Any]]) -> Any:
    """Replace references: a value that is nothing but one keeps its type, one inside a text must be a scalar."""
    if isinstance(value, dict):
        return {php.to_text(resolve(key, maps)): resolve(below, maps) for key, below in value.items()}
    if isinstance(value, list):
        return [resolve(below, maps) for below in value]
    whole = _REFERENCE.fullmatch(value)
    if whole is not None:
        return _walk(whole, maps)
    return _REFERENCE.sub(lambda match: _embedded(match, maps), value)


def _embedded(match: re.Match[str], maps: dict[str, dict[str, Any]]) -> str:
    found = _walk(match, maps)
    is_scalar = isinstance(found, str | int | float) and not isinstance(found, bool)
    return php.to_text(found) if is_scalar else match.group(0)


def _walk(match: re.Match[str], maps: dict[str, dict[str, Any]]) -> Any:
    """Follow the path as far as it exists; what is reached there is substituted, even the whole map."""
    found: Any = maps[match.group(1).lower()]
    for key in re.findall(r"\[([^\[\]]*)\]", match.group(2)):
        if isinstance(found, list):
            found = {str(index): below for index, below in enumerate(found)}
        if not isinstance(found, dict) or key not in found:
            break
        found = found[key]
    return found
