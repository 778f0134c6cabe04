"""Write what is generated from the registry of REST methods: typed calls, their twins, a page of the docs per family.

``python tests/tools/generate_calls.py`` writes; ``tests/tools/test_generated.py`` compares.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_bitrix24.api import methods
from airflow_provider_bitrix24.api.io import Effect

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.methods.row import Method, Param

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "airflow_provider_bitrix24"
WIDTH = 120

TITLES = {
    "payments": "Payments of deals and smart invoices",
    "pay_systems": "Pay systems",
    "invoices": "Legacy invoices",
    "items": "CRM objects and their orders",
    "product_rows": "Product rows of CRM objects",
    "crm": "Deals, companies, contacts and comments",
    "sale": "Orders of the online store and their payments",
    "events": "Events",
    "system": "Connection, users and messages",
}
EXAMPLES = {
    "payments": 'hook.rest.crm_item_payment_list(entity_id=1, entity_type_id=2, filter={"=paid": "N"})',
    "pay_systems": 'hook.rest.sale_paysystem_list(filter={"=ACTIVE": "Y"}, select=["ID", "NAME", "ACTION_FILE"])',
    "invoices": "hook.rest.crm_invoice_get(id=2)",
    "items": "hook.rest.crm_item_get(entity_type_id=2, id=1)",
    "product_rows": 'hook.rest.crm_item_productrow_list(filter={"=ownerType": "D", "=ownerId": 1})',
    "crm": 'hook.rest.crm_deal_update(id=1, fields={"STAGE_ID": "WON"})',
    "sale": 'hook.rest.sale_payment_list(filter={"=paid": "N", ">sum": 0}, order={"id": "ASC"})',
    "events": "hook.rest.event_offline_get(clear=0, limit=50)",
    "system": 'hook.rest.im_notify_system_add(user_id=1, message="The nightly run has finished.")',
}
TYPES = {
    "id": "int | str",
    "ids": "Iterable[int | str]",
    "int": "int",
    "whole": "int | str",
    "text": "str",
    "texts": "Iterable[str]",
    "flag": "bool | str",
    "bool": "bool",
    "object": "Mapping[str, Any]",
    "objects": "Iterable[Mapping[str, Any]]",
    "attach": "Mapping[str, Any] | Sequence[Any] | str",
    "filter": "Mapping[str, Any]",
    "order": "Mapping[str, str]",
    "select": "Iterable[str]",
    "start": "int",
}
EFFECTS = {Effect.READ: "reads", Effect.IDEMPOTENT: "idempotent", Effect.NON_IDEMPOTENT: "not idempotent"}


def class_name(family: str) -> str:
    return "".join(word.title() for word in family.split("_"))


def ordered(row: Method) -> list[Param]:
    return sorted(row.params, key=lambda param: not param.required)


def result_type(row: Method) -> str:
    return {"model": str(row.model), "models": f"list[{row.model}]", "id": "int", "true": "bool", "raw": "Any"}[
        row.returns
    ]


def signature(row: Method, *, head: str, first: str, result: str, indent: str) -> str:
    """One line if it fits, else a line for each parameter, as ruff writes it."""
    args = [first] if first else []
    if row.params:
        args.append("*")
    for param in ordered(row):
        default = "" if param.required else " | None = None"
        args.append(f"{param.python}: {TYPES[param.type]}{default}")
    line = f"{indent}{head} {row.python}({', '.join(args)}) -> {result}:"
    if len(line) <= WIDTH:
        return line
    inner = "".join(f"{indent}    {arg},\n" for arg in args)
    return f"{indent}{head} {row.python}(\n{inner}{indent}) -> {result}:"


def wrapped(text: str, indent: str, hanging: str = "") -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def needs(row: Method) -> str:
    """What a connection needs to call it."""
    scope = f"scope ``{row.scope}``" if row.scope else "no scope"
    who = ", administrators only" if row.admin else ""
    return f"{scope}{who}{', OAuth applications only' if row.application else ''}"


def guard(row: Method) -> str:
    """What a caller must know about the money."""
    if not row.moves_money:
        return ""
    instead = f": `{row.operator}` does" if row.operator else ""
    return f"It changes payments, and nothing keeps it from being sent twice{instead}."


def documentation(row: Method, indent: str) -> str:
    lines = [wrapped(f'"""{row.does}', indent), ""]
    about = f"REST method ``{row.name}`` ({needs(row)}). {guard(row)}".rstrip()
    if row.rows is not None and row.rows.paged:
        by_page = any(param.type == "start" for param in row.params)
        which = "This is one page" if by_page else "If the portal returns the list in pages, this is the first"
        about += f" {which}: `Bitrix24Hook.iterate` reads all of them."
    lines += [wrapped(about, indent), "", f"{indent}{row.url}", ""]
    lines += [wrapped(f":param {param.python}: {param.meaning}.", indent, "    ") for param in ordered(row)]
    lines.append(wrapped(f":return: {row.result}.", indent, "    "))
    if row.errors:
        codes = "; ".join(
            f"``{code}``: {meaning}" if code else f"no code: {meaning}" for code, meaning in row.errors.items()
        )
        lines.append(wrapped(f":raises Bitrix24ApiError: {codes}.", indent, "    "))
    return "\n".join([*lines, f'{indent}"""'])


def build_call(row: Method) -> str:
    parts = [f'"{row.name}"', *(f"{param.python}={param.python}" for param in ordered(row))]
    line = f"    return build({', '.join(parts)})"
    if len(line) <= WIDTH:
        return line
    inner = "".join(f"        {part},\n" for part in parts)
    return f"    return build(\n{inner}    )"


def send_call(row: Method, *, wait: str) -> str:
    parts = [f"{param.python}={param.python}" for param in ordered(row)]
    name = f"calls.{row.python}"
    line = f"        return {wait}self._send({name}({', '.join(parts)}))"
    if len(line) <= WIDTH:
        return line
    inside = f"            {name}({', '.join(parts)})"
    if len(inside) <= WIDTH:
        return f"        return {wait}self._send(\n{inside}\n        )"
    inner = "".join(f"                {part},\n" for part in parts)
    return f"        return {wait}self._send(\n            {name}(\n{inner}            )\n        )"


def imports(rows: tuple[Method, ...], *, calls: bool) -> str:
    """What the annotations need, for type checkers only."""
    used = " ".join(TYPES[param.type] for row in rows for param in row.params)
    results = " ".join(result_type(row) for row in rows)
    abstract = [name for name in ("Iterable", "Mapping", "Sequence") if name in used]
    typing = ", ".join(["TYPE_CHECKING", *(["Any"] if "Any" in used + results else [])])
    named = sorted({str(row.model) for row in rows if row.returns in ("model", "models")})
    inner = []
    if abstract:
        inner.append(f"    from collections.abc import {', '.join(abstract)}\n")
    ours = [f"    from {PACKAGE}.api.calls.call import Call\n"] if calls else []
    if named:
        ours.append(f"    from {PACKAGE}.api.models import {', '.join(named)}\n")
    checking = "\n".join(["".join(part) for part in (inner, ours) if part])
    outer = f"from {PACKAGE}.api.calls.call import build\n" if calls else f"from {PACKAGE}.api import calls\n"
    if not calls:
        outer += f"from {PACKAGE}.hooks.rest.base import AsyncSender, Sender\n"
    if not checking:
        typing = typing.replace("TYPE_CHECKING, ", "").replace("TYPE_CHECKING", "")
    first = f"from typing import {typing}\n\n" if typing else ""
    return f"{first}{outer}" + (f"\nif TYPE_CHECKING:\n{checking}" if checking else "")


def calls_module(family: str, rows: tuple[Method, ...]) -> str:
    parts = [
        f'"""{TITLES[family]}: calls as values. Generated by tests/tools/generate_calls.py."""\n\n'
        f"from __future__ import annotations\n\n{imports(rows, calls=True)}\n"
        f"__all__ = [\n{''.join(sorted(f'    {row.python!r},' + chr(10) for row in rows))}]\n".replace("'", '"')
    ]
    for row in rows:
        head = signature(row, head="def", first="", result=f"Call[{result_type(row)}]", indent="")
        first = row.does.partition(". ")[0].rstrip(".")
        text = f'    """``{row.name}``: {first[0].lower()}{first[1:]}."""'
        parts.append(f"{head}\n{text}\n{build_call(row)}\n")
    return "\n\n".join(parts)


def rest_module(family: str, rows: tuple[Method, ...]) -> str:
    name = class_name(family)
    text = f'"""{TITLES[family]}: typed calls. Generated by tests/tools/generate_calls.py."""\n\n'
    text += f"from __future__ import annotations\n\n{imports(rows, calls=False)}\n\n"
    text += f'class {name}(Sender):\n    """{TITLES[family]}."""\n'
    for row in rows:
        head = signature(row, head="def", first="self", result=result_type(row), indent="    ")
        text += f"\n{head}\n{documentation(row, ' ' * 8)}\n{send_call(row, wait='')}\n"
    text += f'\n\nclass Async{name}(AsyncSender):\n    """Async twins of `{name}`."""\n'
    for row in rows:
        head = signature(row, head="async def", first="self", result=result_type(row), indent="    ")
        text += f'\n{head}\n        """Async twin of `{name}.{row.python}`."""\n{send_call(row, wait="await ")}\n'
    return text


def calls_package() -> str:
    text = '"""Calls as values, for `Bitrix24Hook.batch`. Generated by tests/tools/generate_calls.py."""\n\n'
    text += "from __future__ import annotations\n\n"
    return text + "".join(f"from {PACKAGE}.api.calls.{family} import *\n" for family in sorted(methods.FAMILIES))


def rest_package() -> str:
    text = '"""Typed calls of all REST methods that are known. Generated by tests/tools/generate_calls.py."""\n\n'
    text += "from __future__ import annotations\n\n"
    families = sorted(methods.FAMILIES)
    for family in families:
        name = class_name(family)
        text += f"from {PACKAGE}.hooks.rest.{family} import Async{name}, {name}\n"
    for prefix, what in (
        ("", "`Bitrix24Hook.rest`: each call is sent as it is made."),
        ("Async", "`Bitrix24Hook.arest`: the async twins."),
    ):
        bases = ", ".join(f"{prefix}{class_name(family)}" for family in families)
        line = f"class {prefix}Rest({bases}):"
        if len(line) > WIDTH:
            inner = "".join(f"    {prefix}{class_name(family)},\n" for family in families)
            line = f"class {prefix}Rest(\n{inner}):"
        text += f'\n\n{line}\n    """{what}"""\n'
    return text


_PAY_INVOICE = "receipt = hook.payments.pay_invoice(invoice_id=2, pay_system_id=31)"
_PAY_PAYMENT = "receipt = hook.payments.pay_crm_payment(payment_id=1034)"
GUARDED = {
    "payments": _PAY_PAYMENT,
    "pay_systems": _PAY_INVOICE,
    "invoices": _PAY_INVOICE,
    "items": """Bitrix24CallOperator(
    task_id="rename",
    method="crm.item.update",
    parameters={"entityTypeId": 2, "id": 1, "fields": {"title": "Invoiced"}},
)""",
    "product_rows": """Bitrix24CallOperator(
    task_id="add_row",
    method="crm.item.productrow.add",
    parameters={"fields": {"ownerType": "D", "ownerId": 1, "productName": "Day", "price": "100.00", "quantity": 2}},
)""",
    "crm": """Bitrix24CallOperator(
    task_id="comment",
    method="crm.timeline.comment.add",
    parameters={"fields": {"ENTITY_ID": 1, "ENTITY_TYPE": "deal", "COMMENT": "Invoiced."}},
)""",
    "sale": _PAY_PAYMENT,
    "events": """Bitrix24CallOperator(
    task_id="forget_events", method="event.offline.clear", parameters={"process_id": "{{ params.process }}"}
)""",
    "system": """Bitrix24CallOperator(
    task_id="tell", method="im.notify.system.add", parameters={"USER_ID": 1, "MESSAGE": "The nightly run has finished."}
)""",
}
"""For each family a guarded call: by `hook.payments` where it changes payments, else by the operator for any method."""


def guarded(family: str) -> str:
    """The part of a page about the guarded call."""
    text = "`hook.rest` sends a call as it is. "
    if "hook.payments" in GUARDED[family]:
        text += "In a `@task` function, a payment is changed at most once by [hook.payments](../operators/taskflow.md):"
    else:
        text += (
            "As a task, [Bitrix24CallOperator](../operators/call.md) sends a write once. If its\noutcome is unknown, "
            "the task fails, and no retry sends it again:"
        )
    return f"{text}\n\n```python\n{GUARDED[family]}\n```\n\n"


def page(family: str, rows: tuple[Method, ...]) -> str:
    """A page of the docs."""
    text = f"# {TITLES[family]}\n\n"
    text += "Generated from the registry; [REST methods](index.md) says how to read it.\n\n"
    text += f"```python\n{EXAMPLES[family]}\n```\n\n"
    text += guarded(family)
    text += "| REST method and typed call | does | | needs |\n| --- | --- | --- | --- |\n"
    for row in rows:
        kind = EFFECTS[row.effect]
        if row.operator:
            kind += f"; use `{row.operator}`"
        elif row.moves_money:
            kind += "; changes payments"
        scope = f"`{row.scope}`" if row.scope else "no scope"
        scope += ", administrator" if row.admin else ""
        scope += ", OAuth" if row.application else ""
        does = row.does.replace("``", "`").replace("|", "\\|")
        args = ", ".join(param.python + ("" if param.required else "=None") for param in ordered(row))
        text += f"| [{row.name}]({row.url})<br>`{row.python}({args})` | {does} | {kind} | {scope} |\n"
    listed = [row for row in rows if row.rows is not None and row.rows.fields is not None]
    if listed:
        text += "\n## Fields of the lists\n"
    for row in listed:
        assert row.rows is not None
        assert row.rows.fields is not None
        names = ", ".join(f"`{name}`" for name in row.rows.fields)
        text += f"\n`{row.name}`: {names}\n"
    return text


def patterns(rows: tuple[Method, ...]) -> list[str]:
    """The methods of a family in short: ``crm.deal.*``; a method that has no relatives, by its name."""
    relatives: dict[str, list[str]] = {}
    for row in rows:
        parts = row.name.split(".")
        relatives.setdefault(".".join(parts[: max(1, len(parts) - 1)]), []).append(row.name)
    found = [names[0] if len(names) == 1 else f"{stem}.*" for stem, names in relatives.items()]
    wide = tuple(pattern[:-1] for pattern in found if pattern.endswith(".*"))
    return [one for one in found if not any(one.startswith(stem) and one != f"{stem}*" for stem in wide)]


def index() -> str:
    """The page about all methods, with the list of the families and their methods."""
    file = ROOT / "docs/methods/index.md"
    rows = "".join(
        f"| [{TITLES[family]}]({family}.md) | {', '.join(f'`{pattern}`' for pattern in patterns(rows))} |\n"
        for family, rows in methods.FAMILIES.items()
    )
    before, head, after = file.read_text().partition("| family | methods |\n| --- | --- |\n")
    assert head
    return f"{before}{head}{rows}\n{after.partition(chr(10) * 2)[2]}"


def generated() -> dict[Path, str]:
    """Every file that is generated, and its text."""
    package = ROOT / PACKAGE
    files = {package / "api/calls/__init__.py": calls_package(), package / "hooks/rest/__init__.py": rest_package()}
    for family, rows in methods.FAMILIES.items():
        files[package / f"api/calls/{family}.py"] = calls_module(family, rows)
        files[package / f"hooks/rest/{family}.py"] = rest_module(family, rows)
        files[ROOT / f"docs/methods/{family}.md"] = page(family, rows)
    files[ROOT / "docs/methods/index.md"] = index()
    return files


if __name__ == "__main__":
    for file, text in generated().items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
