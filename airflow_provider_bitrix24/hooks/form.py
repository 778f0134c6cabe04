"""The connection form of Airflow 3.1, made from the same metadata that newer versions read by themselves."""

from __future__ import annotations

from typing import Any

from airflow_provider_bitrix24.get_provider_info import get_provider_info


def field_behaviour() -> dict[str, Any]:
    """The standard fields, in the spelling of the older form."""
    behaviour = _connection_type()["ui-field-behaviour"]
    return {name.replace("-", "_"): value for name, value in behaviour.items()}


def widgets() -> dict[str, Any]:
    """The other fields; Airflow puts stand-ins in the place of these packages where they are not installed."""
    # Neither typed nor a dependency: Airflow 3.1 provides them, or stand-ins.
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from flask_babel import lazy_gettext  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from wtforms import BooleanField, StringField  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from wtforms.validators import Optional  # type: ignore[import-not-found,import-untyped,unused-ignore]

    fields = {}
    for name, field in _connection_type()["conn-fields"].items():
        label, description = lazy_gettext(field["label"]), field["description"]
        if "boolean" in field["schema"]["type"]:
            fields[name] = BooleanField(label, description=description, default=False)
        else:
            fields[name] = StringField(
                label, validators=[Optional()], widget=BS3TextFieldWidget(), description=description
            )
    return fields


def _connection_type() -> dict[str, Any]:
    [connection_type] = get_provider_info()["connection-types"]
    return dict(connection_type)
