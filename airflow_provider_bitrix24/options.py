"""The section [bitrix24] of Airflow's configuration: defaults for all DAGs. An operator's argument takes precedence.

What the options mean is in `get_provider_info`, where ``airflow config list`` finds it.
"""

from __future__ import annotations

from typing import Final

from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError

SECTION: Final = "bitrix24"
_TRUE: Final = ("true", "t", "1", "yes", "y", "on")
_FALSE: Final = ("false", "f", "0", "no", "n", "off")


def name_of(option: str) -> str:
    """The name of an option in messages."""
    return f"[{SECTION}] {option}"


def read(option: str) -> str | None:
    """Return the text of an option; None if it is not set, or empty.

    :raises Bitrix24ConfigError: Airflow cannot read it.
    """
    from airflow.providers.common.compat.sdk import conf

    try:
        value = conf.get(SECTION, option, fallback=None)
    except Exception as error:  # noqa: BLE001 - its message may hold the value of another option
        trouble = type(error).__name__
    else:
        return str(value or "").strip() or None
    raise Bitrix24ConfigError(f"{name_of(option)} of Airflow's configuration cannot be read ({trouble}).", NOT_SENT)


def switch(option: str) -> bool:
    """Return whether an option is on; False if it is not set.

    :raises Bitrix24ConfigError: it is neither true nor false.
    """
    text = (read(option) or "false").lower()
    if text not in _TRUE + _FALSE:
        raise Bitrix24ConfigError(
            f"{name_of(option)} of Airflow's configuration must be True or False, not {text[:60]!r}.", NOT_SENT
        )
    return text in _TRUE
