"""What a row of the method registry says: one REST method, its parameters, its result, its list shape."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.api.io import Effect

PAGES: Final = "https://apidocs.bitrix24.com/"

ParamType = Literal[
    "id", "ids", "int", "whole", "text", "texts", "flag", "bool", "object", "objects", "attach",
    "filter", "order", "select", "start",
]  # fmt: skip
"""What a parameter takes; `calls.call` turns a Python value into the value on the wire."""
FieldKind = Literal["number", "text", "flag", "time", "other"]
"""What a field of a list holds; decides whether a row can be compared with a filter."""
Paging = Literal["id", "start", "none"]
"""By id: the rows after an id. By start: the offset that the reply names, if it names one; also if the documentation
says nothing about pages. None: all rows in one reply."""


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a REST method."""

    wire: str
    """Name on the wire."""
    type: ParamType
    meaning: str
    required: bool = False
    names: tuple[str, ...] = ()
    """The names that an object may have as its keys, where all of them are known."""

    @property
    def python(self) -> str:
        """Name as a Python argument: ``entityTypeId`` is ``entity_type_id``."""
        return snake_case(self.wire)


@dataclass(frozen=True, slots=True)
class ListShape:
    """How a list method answers, and what can be filtered."""

    wrapper: str | None = None
    """Key of the rows inside the result; None if the result is the rows."""
    id_field: str = "id"
    paging: Paging = "id"
    fields: Mapping[str, FieldKind] | None = None
    """The fields that can be filtered, selected and sorted; None if they are not known."""
    any_case: bool = False
    """Whether the method reads the names of fields in any case."""

    @property
    def paged(self) -> bool:
        """Whether all rows may take more than one request."""
        return self.paging != "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One REST method."""

    name: str
    does: str
    """What it does, as a sentence in the imperative."""
    effect: Effect
    scope: str | None
    """The scope it needs; None if every webhook and application may call it."""
    admin: bool = False
    """Whether only an administrator (of the portal, or of its CRM) may call it."""
    application: bool = False
    """Whether it needs an OAuth application; a webhook is refused."""
    params: tuple[Param, ...] = ()
    any_of: tuple[str, ...] = ()
    """Wire names of which at least one is needed."""
    any_case: bool = False
    """Whether the names of its parameters may be given in any case: true of methods of the old kind. Others want them
    exactly, and ignore what is written otherwise."""
    result: str
    """What the reply's ``result`` is, in words."""
    model: str | None = None
    """Class of `api.models` that an object of the result is read as."""
    rows: ListShape | None = None
    """Only of list methods."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """Error codes of the method itself -> what they mean."""
    moves_money: bool = False
    """Whether it adds or deletes a payment, or can change what is paid."""
    operator: str | None = None
    """The operator that does this once, or sets it, and reads it back; only of methods that move money."""
    page: str
    """Path of its page below `PAGES`."""

    @property
    def url(self) -> str:
        """Address of its documentation."""
        return f"{PAGES}{self.page}.html"

    @property
    def returns(self) -> Literal["model", "models", "id", "true", "raw"]:
        """How the typed call reads the result. A list whose select may leave fields out stays as it came."""
        if self.model is not None and self.rows is None:
            return "model"
        if self.model is not None and not any(param.type == "select" for param in self.params):
            return "models"
        if self.result.startswith("id of") and ";" not in self.result:
            return "id"
        return "true" if self.result == "true" or self.result.startswith("true, ") else "raw"

    @property
    def python(self) -> str:
        """Name of the typed call: ``crm.item.payment.setQuantity`` is ``crm_item_payment_set_quantity``."""
        return "_".join(snake_case(part) for part in self.name.split("."))


def snake_case(name: str) -> str:
    """Convert a name of the REST API to snake case: ``entityTypeId``, ``PAY_SYSTEM_ID``, ``useOriginalUfNames``."""
    return name.lower() if name.isupper() else re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def fields(
    *, number: str = "", text: str = "", flag: str = "", time: str = "", other: str = ""
) -> Mapping[str, FieldKind]:
    """Return field name -> kind, from one text of names per kind, separated by blanks."""
    kinds: tuple[tuple[FieldKind, str], ...] = (
        ("number", number), ("text", text), ("flag", flag), ("time", time), ("other", other),
    )  # fmt: skip
    return {name: kind for kind, names in kinds for name in names.split()}


def one(wire: str, meaning: str, type: ParamType = "id") -> Param:
    """Return a required parameter."""
    return Param(wire, type, meaning, required=True)


def listing(*, upper: bool = False, select: bool = True, start: bool = True) -> tuple[Param, ...]:
    """Return the parameters that list methods share."""
    params = [
        Param("filter", "filter", "field with an operator as prefix -> value, such as ``{'>id': 1033}``"),
        Param("order", "order", "field -> ``'ASC'`` or ``'DESC'``"),
        *([Param("select", "select", "fields that the rows shall have")] if select else []),
    ]
    if upper:
        params = [Param(param.wire.upper(), param.type, param.meaning) for param in params]
    if start:
        params.append(
            Param("start", "start", "offset of the page, a multiple of 50; -1 for the first without counting")
        )
    return tuple(params)


PARAMETERS_MISSING: Final = {"100": "a required parameter is missing or has the wrong type"}
OTHER: Final = {"0": "any other error, among them pre-checks and failures while saving"}
