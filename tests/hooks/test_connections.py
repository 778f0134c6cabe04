"""A setting that was given and cannot be read is refused, wherever a connection is used, and named in words."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS

from airflow_provider_bitrix24.__main__ import main
from airflow_provider_bitrix24.api.settings import Settings
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24ConnectionNotFound
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.sql import Database

if TYPE_CHECKING:
    from pathlib import Path

CONNECTION = "AIRFLOW_CONN_BITRIX24_DEFAULT"
SECRET = "c4n4rys3cr3tc0de"
UNREADABLE = {
    '{"portal_id": "old.bitrix24.ru",}': "not valid JSON",
    '{"auth": "oauth",': "not valid JSON",
    "{'auth': 'oauth'}": "not valid JSON",
    "portal_id=old.bitrix24.ru": "not valid JSON",
    "\ufeff{}": "not valid JSON",
    '["portal_id"]': "a list",
    '"portal_id"': "a text",
    "null": "null",
    "7": "a number",
    "true": "true or false",
    '{"portal_id": "a", "portal_id": "b"}': "gives one name twice",
}
FIELDS = {"conn_type": "bitrix24", "host": "127.0.0.1", "port": 1, "schema": "http", "login": "1", "password": SECRET}


@pytest.fixture(params=UNREADABLE, ids=lambda extra: extra[:40])
def extra(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An extra that is there and cannot be read."""
    monkeypatch.setenv(CONNECTION, json.dumps({**FIELDS, "extra": request.param}))
    return str(request.param)


def said_well(text: str, extra: str, conn_id: str = "bitrix24_default") -> None:
    ours = f"The Airflow connection '{conn_id}' cannot be used: its field extra"
    airflows = rf"The Airflow connection '{conn_id}' \([\w-]+\) exists in \w+, but cannot be read: its field extra"
    assert ours in text or (not AIRFLOW_V_3_2_PLUS and re.search(airflows, text))
    assert UNREADABLE[extra] in text
    assert "Nothing was sent." in text
    assert SECRET not in text
    assert "old.bitrix24.ru" not in text


@pytest.mark.needs_connection_errors
def test_the_hook_refuses(extra: str) -> None:
    with pytest.raises(Bitrix24ConfigError) as caught:
        _ = Bitrix24Hook().portal
    said_well(str(caught.value), extra)
    assert caught.value.final
    with pytest.raises(Bitrix24ConfigError) as caught:
        asyncio.run(Bitrix24Hook().aclient())
    said_well(str(caught.value), extra)


@pytest.mark.needs_connection_errors
def test_the_connection_test_refuses(extra: str) -> None:
    works, text = Bitrix24Hook().test_connection()
    assert not works
    said_well(text, extra)


@pytest.mark.needs_connection_errors
def test_the_sign_in_refuses(extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    assert main(["oauth", "--code", "c0d3"]) == 1
    said_well(capsys.readouterr().err, extra)


@pytest.mark.needs_connection_errors
def test_a_database_refuses(extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With an extra that counts as empty, `sslmode` would be gone, and the password sent in the clear."""
    for conn_type, host in (("postgres", "127.0.0.1"), ("sqlite", str(tmp_path / "journal.db"))):
        monkeypatch.setenv("AIRFLOW_CONN_JOURNAL", json.dumps({"conn_type": conn_type, "host": host, "extra": extra}))
        with pytest.raises(Bitrix24ConfigError) as caught:
            Database.from_connection("journal")
        said_well(str(caught.value), extra, "journal")


@pytest.mark.needs_connection_errors
@pytest.mark.parametrize("extra", ["", " ", "\n", "{}", ' {"portal_id": ""} ', {}, {"portal_id": None}])
def test_what_is_empty_is_not_given(extra: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTION, json.dumps({**FIELDS, "extra": extra}))
    if not AIRFLOW_V_3_2_PLUS and isinstance(extra, str) and extra.isspace():  # Airflow 3.1 reads it itself
        with pytest.raises(Bitrix24ConfigError, match="cannot be read: its field extra is not valid JSON"):
            _ = Bitrix24Hook().portal
        return
    assert Bitrix24Hook().portal == "127.0.0.1:1"
    assert asyncio.run(Bitrix24Hook().aclient()).settings.portal == "127.0.0.1:1"


@pytest.mark.needs_connection_errors
@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (json.dumps({**FIELDS, "login": 1}), "its field login is a number"),
        (json.dumps({**FIELDS, "password": 12345678}), "its field password is a number"),
        (json.dumps({**FIELDS, "host": ["127.0.0.1"]}), "its field host is a list"),
        (json.dumps({**FIELDS, "schema": True}), "its field schema is true or false"),
        (json.dumps({**FIELDS, "port": "https"}), "port must be a whole number"),
        (json.dumps({**FIELDS, "pasword": SECRET}), "a field that Airflow does not know"),
        (json.dumps(FIELDS).replace("}", ",}"), "it is not valid JSON"),
        (json.dumps({**FIELDS, "extra": "[" * 100_000}), "its field extra is not valid JSON (nested too deeply)"),
        (f"bitrix24://1:{SECRET}@127.0.0.1:https", "it is neither a URI"),
        (f"bitrix24://[{SECRET}", "it is neither a URI"),
    ],
)
def test_a_connection_that_cannot_be_parsed_exists(monkeypatch: pytest.MonkeyPatch, stored: str, words: str) -> None:
    monkeypatch.setenv(CONNECTION, stored)
    texts = [Bitrix24Hook().test_connection()[1]]
    with pytest.raises(Bitrix24ConfigError) as caught:
        _ = Bitrix24Hook().portal
    texts.append(str(caught.value))
    with pytest.raises(Bitrix24ConfigError) as caught:
        asyncio.run(Bitrix24Hook().aclient())
    texts.append(str(caught.value))
    for text in texts:
        assert "'bitrix24_default'" in text
        assert "cannot be read" in text
        assert words in text
        assert SECRET not in text
        assert "12345678" not in text


@pytest.mark.needs_connection_errors
def test_a_connection_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_NOWHERE", raising=False)
    with pytest.raises(Bitrix24ConnectionNotFound, match=r"'nowhere' \(bitrix24_conn_id\) was not found"):
        _ = Bitrix24Hook("nowhere").portal
    with pytest.raises(Bitrix24ConnectionNotFound, match=r"'nowhere' \(bitrix24_conn_id\) was not found"):
        asyncio.run(Bitrix24Hook("nowhere").aclient())


@pytest.mark.parametrize(
    "values",
    [
        {"conn_type": "http"},
        {"conn_type": "https"},
        {"conn_type": "HTTP", "host": "https://acme.bitrix24.com"},
        {"conn_type": "postgres"},
        {"conn_type": "generic"},
        {"conn_type": "http", "host": "https://acme.bitrix24.com/rest/"},
    ],
)
def test_a_connection_of_another_type_is_refused(values: dict[str, str]) -> None:
    fields = {"host": "acme.bitrix24.com", "login": "1", "password": SECRET, **values}
    with pytest.raises(Bitrix24ConfigError, match=r"conn_type is .* and not bitrix24"):
        Settings.from_connection_values(**fields)  # type: ignore[arg-type]
