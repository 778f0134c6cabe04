"""A call as a value: a method of the registry with checked parameters, and how its result is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from airflow_provider_bitrix24.api import methods, models
from airflow_provider_bitrix24.api.filters import check_names, check_rows
from airflow_provider_bitrix24.api.paging import rows_in
from airflow_provider_bitrix24.api.payments import read, read_rows, read_single
from airflow_provider_bitrix24.api.values import positive_id, shown
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError, Bitrix24Error, Bitrix24OutcomeUnknown

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.batch import BatchReply
    from airflow_provider_bitrix24.api.methods.row import Method, ParamType

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call that has not been sent: `Bitrix24Hook.send` sends it, `Bitrix24Hook.batch` takes it."""

    row: Method
    params: Mapping[str, Any]
    """Parameters as they go over the wire."""

    def read(self, result: Any) -> T:
        """The result as the typed call returns it.

        :raises Bitrix24OutcomeUnknown: a write was called a success without what its success consists of.
        :raises Bitrix24NoAnswer: a read returned something else than documented, or rows that the filter excludes.
        """
        return _READERS[self.row.returns](self, result)  # type: ignore[no-any-return]  # the generated call says T


def build(method: str, **values: Any) -> Call[Any]:
    """A call of a method of the registry.

    :param method: name of the method.
    :param values: Python name of a parameter -> value; None leaves it out.
    :raises Bitrix24ConfigError: a value cannot be meant, a required one is missing, or a name would be ignored.
    """
    row = methods.METHODS[method.lower()]
    params = {}
    for param in row.params:
        value = values.get(param.python)
        if value is not None:
            params[param.wire] = _TAKES[param.type](value, param.python)
        if param.required and params.get(param.wire) in (None, "", {}, []):
            raise Bitrix24ConfigError(f"{param.python} is missing: {row.name} needs it.", NOT_SENT)
    if row.any_of and not set(row.any_of) & set(params):
        choice = " or ".join(param.python for param in row.params if param.wire in row.any_of)
        raise Bitrix24ConfigError(f"{row.name} needs {choice}.", NOT_SENT)
    check_names(row.name, params)
    return Call(row, params)


Command: TypeAlias = Call[Any] | tuple[str, Mapping[str, Any]]
"""What a batch takes: a call, or a method and its parameters."""


def read_batch(reply: BatchReply, commands: Mapping[str, Command]) -> BatchReply:
    """A batch whose results are what the typed calls return; what cannot be read becomes the error of its command."""
    results, errors = dict(reply.results), dict(reply.errors)
    for key, command in commands.items():
        if key not in results:
            continue
        try:
            if isinstance(command, Call):
                results[key] = command.read(results[key])
            else:
                method, params = command
                check_rows(method, params, rows_in(method, results[key]) or [])
        except Bitrix24Error as error:
            errors[key] = error
            del results[key]
    return replace(reply, results=results, errors=errors)


def row_reader(method: str, params: Mapping[str, Any]) -> Callable[[dict[str, Any]], Any]:
    """How `iterate` reads each row: as the model of the method, unless a select may leave fields out."""
    row = methods.find(method)
    if row is None or row.rows is None or row.model is None or any(name.lower() == "select" for name in params):
        return lambda found: found
    from_wire, name = _model(row).from_wire, row.name
    return lambda found: read(name, from_wire, found)


# ---------------------------------------------------------------------------------------------------------- parameters


def _must(field: str, what: str, value: object) -> Bitrix24ConfigError:
    return Bitrix24ConfigError(f"{field} must be {what}, not {shown(value)}.", NOT_SENT)


def _whole(value: Any, field: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise _must(field, "a whole number of 0 or more", value)


def _start(value: Any, field: str) -> int:
    return -1 if value == -1 else _whole(value, field)


def _text(value: Any, field: str) -> str:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise _must(field, "a text", value)


def _flag(value: Any, field: str) -> str:
    if isinstance(value, bool):
        return "Y" if value else "N"
    if value in ("Y", "N"):
        return str(value)
    raise _must(field, "True or False", value)


def _bool(value: Any, field: str) -> bool:
    if isinstance(value, bool):
        return value
    raise _must(field, "True or False", value)


def _object(value: Any, field: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise _must(field, "a mapping", value)


def _attachment(value: Any, field: str) -> Any:
    if isinstance(value, Mapping | str | list | tuple):
        return value
    raise _must(field, "a mapping, a list or JSON text", value)


def _many(take: Callable[[Any, str], Any]) -> Callable[[Any, str], list[Any]]:
    def many(value: Any, field: str) -> list[Any]:
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise _must(field, "a list", value)
        return [take(one, field) for one in value]

    return many


_TAKES: Final[Mapping[ParamType, Callable[[Any, str], Any]]] = {
    "id": positive_id,
    "ids": _many(positive_id),
    "int": _whole,
    "whole": positive_id,
    "text": _text,
    "texts": _many(_text),
    "flag": _flag,
    "bool": _bool,
    "object": _object,
    "objects": _many(_object),
    "attach": _attachment,
    "filter": _object,
    "order": _object,
    "select": _many(_text),
    "start": _start,
}

# -------------------------------------------------------------------------------------------------------------- results


def _model(row: Method) -> Any:
    return getattr(models, str(row.model))


def _read_model(call: Call[Any], result: Any) -> Any:
    from_wire = _model(call.row).from_wire
    if "id" in call.params:
        return read_single(call.row.name, from_wire, result, call.params["id"])
    return read(call.row.name, from_wire, result)


def _read_models(call: Call[Any], result: Any) -> Any:
    rows = rows_in(call.row.name, result)
    check_rows(call.row.name, call.params, rows or [])
    return read_rows(call.row.name, _model(call.row).from_wire, rows)


def _read_raw(call: Call[Any], result: Any) -> Any:
    check_rows(call.row.name, call.params, rows_in(call.row.name, result) or [])
    return result


def _read_true(call: Call[Any], result: Any) -> bool:
    if result is not True:
        raise Bitrix24OutcomeUnknown(call.row.name, answered=True, text="a success without the value true")
    return True


def _read_id(call: Call[Any], result: Any) -> int:
    try:
        return positive_id(result, "result")
    except Bitrix24ConfigError:
        pass
    raise Bitrix24OutcomeUnknown(call.row.name, answered=True, text="a success without an id")


_READERS: Final[Mapping[str, Callable[[Call[Any], Any], Any]]] = {
    "model": _read_model,
    "models": _read_models,
    "raw": _read_raw,
    "true": _read_true,
    "id": _read_id,
}
