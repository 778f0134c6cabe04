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
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from flask_babel import lazy_gettext  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from wtforms import BooleanField, PasswordField, StringField  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from wtforms.validators import Optional, any_of  # type: ignore[import-not-found,import-untyped,unused-ignore]

    fields = {}
    for name, field in _connection_type()["conn-fields"].items():
        label, description, schema = lazy_gettext(field["label"]), field["description"], field["schema"]
        if "boolean" in schema["type"]:
            fields[name] = BooleanField(label, description=description, default=False)
            continue
        masked = schema.get("format") == "password"
        validators = [Optional(), *([any_of(schema["enum"])] if "enum" in schema else [])]
        fields[name] = (PasswordField if masked else StringField)(
            label,
            validators=validators,
            widget=(BS3PasswordFieldWidget if masked else BS3TextFieldWidget)(),
            description=description,
            default=schema.get("default"),
        )
    return fields


def _connection_type() -> dict[str, Any]:
    [connection_type] = get_provider_info()["connection-types"]
    return dict(connection_type)
