"""Render templates without reading their text as Python: with native types, Airflow makes the int 47111 of "4711_1"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jinja2


class LiteralText:
    """A mixin for operators whose text arguments must stay as written, because they are identifiers and amounts.

    ``render_template_as_native_obj`` does two things. An expression alone in its template keeps its object (a list, a
    number, None): that is kept here. Any text is then parsed as a Python literal, so that ``4711_1`` and ``471_11``
    become one number and ``1500.10`` loses its zero: that is left out. Without native types, this changes nothing.

    :meta private:
    """

    def _render(self, template: jinja2.Template, context: Mapping[str, Any], dag: Any = None) -> Any:
        """Render a template. Airflow calls it for ordinary and for mapped tasks."""
        import jinja2

        try:
            parts = list(template.root_render_func(template.new_context(dict(context))))
        except Exception:  # noqa: BLE001 - raised again by jinja2, with the template's own line
            template.environment.handle_exception()
        if len(parts) == 1 and not isinstance(parts[0], jinja2.Undefined):
            return parts[0]
        return "".join(map(str, parts))  # rule: a text stays a text with native types
