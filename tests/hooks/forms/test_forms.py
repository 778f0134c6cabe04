"""The connection form and its Test button, asked of the running API server of the installed Airflow."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_bitrix24.get_provider_info import get_provider_info
from tests.tools.printed import printed_json

if TYPE_CHECKING:
    from tests.hooks.forms.conftest import Forms

pytestmark = pytest.mark.slow

(DECLARED,) = get_provider_info()["connection-types"]
FIELDS: dict[str, dict[str, Any]] = DECLARED["conn-fields"]
AIRFLOW_3_1_0 = version("apache-airflow-core") == "3.1.0"
"""It shows no provider's own fields without Flask AppBuilder, and outside of a task no hook reads its database."""
READ = """
import json, sys
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
hook = Bitrix24Hook(sys.argv[1])
settings = hook.settings
print(json.dumps([settings.origin, settings.read_timeout, settings.portal, hook.call("profile")["ID"]]))
"""


def body(forms: Forms, **fields: Any) -> dict[str, Any]:
    """Everything that the form sends when only the portal and the webhook are filled in."""
    webhook = forms.portal.add_webhook()
    sent = {
        "connection_id": "from_the_form",
        "conn_type": "bitrix24",
        "description": "",
        "host": forms.url,
        "schema": "",
        "login": str(webhook.user_id),
        "password": webhook.secret,
        "port": 0,
        "extra": json.dumps(untouched(forms)),
    }
    return sent | fields


def untouched(forms: Forms) -> dict[str, Any]:
    """What the fields hold that nobody has touched: their defaults, where text is empty text and a number 0."""
    empty = {"string": "", "number": 0, "integer": 0, "boolean": False}
    return {
        name: field["value"] or empty[next(kind for kind in field["schema"]["type"] if kind != "null")]
        for name, field in (forms.meta()["extra_fields"] or {}).items()
    }


def test_the_standard_fields(forms: Forms) -> None:
    meta = forms.meta()
    assert meta["hook_class_name"] == DECLARED["hook-class-name"]
    assert meta["hook_name"] == "Bitrix24"
    standard = meta["standard_fields"]
    if AIRFLOW_3_1_0:
        assert standard is None
        return
    assert standard["url_schema"]["hidden"] is True
    behaviour = DECLARED["ui-field-behaviour"]
    for name in ("host", "login", "password", "port"):
        assert standard[name]["hidden"] is False
        assert standard[name]["title"] == behaviour["relabeling"].get(name)
        assert standard[name]["placeholder"] == behaviour["placeholders"][name]
    assert all(len(behaviour["placeholders"][name]) > 0 for name in ("host", "login", "password", "port"))


def test_the_other_fields(forms: Forms) -> None:
    shown = forms.meta()["extra_fields"]
    if AIRFLOW_3_1_0:
        assert shown is None
        return
    assert list(shown) == list(FIELDS)
    for name, field in shown.items():
        assert field["schema"]["title"] == FIELDS[name]["label"], name
        assert FIELDS[name]["description"] in (field["description"], field["schema"].get("description")), name
        assert "null" in field["schema"]["type"], name  # or the form would insist on it
        assert field["value"] in (FIELDS[name]["schema"].get("default"), False), name


def test_secrets_are_masked_and_choices_are_offered(forms: Forms) -> None:
    shown = forms.meta()["extra_fields"] or {}
    assert (not shown) is AIRFLOW_3_1_0
    if AIRFLOW_3_1_0:
        return
    masked = {name for name, field in shown.items() if field["schema"].get("format") == "password"}
    assert masked == {name for name, field in FIELDS.items() if field["schema"].get("format") == "password"}
    assert not [name for name in FIELDS if name.endswith(("token", "key")) and name not in masked]
    for name, field in FIELDS.items():
        assert shown[name]["schema"].get("enum") == field["schema"].get("enum"), name


def test_what_was_not_filled_in_is_not_given(forms: Forms) -> None:
    saved = body(forms)
    forms.send("", saved)
    stored = forms.airflow.get("connections/from_the_form")
    assert saved["password"] not in json.dumps(stored)
    if AIRFLOW_3_1_0:
        return
    done = subprocess.run(
        [sys.executable, "-c", READ, "from_the_form"],
        env=forms.airflow.env | {"_AIRFLOW_PROCESS_CONTEXT": "server"},  # reads the database as the API server does
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    origin, read_timeout, portal, user = printed_json(done.stdout)
    assert (origin, read_timeout, user) == (forms.url, 75, "1")
    assert portal == forms.url.removeprefix("http://")


def test_the_test_button(forms: Forms) -> None:
    """The API server exports the connection under a random id and calls `test_connection`."""
    forms.asked()
    sent = body(forms, connection_id="never_saved")
    answer = forms.send("/test", sent).json()
    assert answer["status"] is True, answer
    assert "as Anna Berg (user 1), an administrator" in answer["message"]
    assert "The webhook can pay legacy invoices" in answer["message"]
    assert sent["password"] not in answer["message"]
    assert forms.asked() == ["batch"]
    assert forms.portal.ledger == []


def test_the_test_button_says_the_one_thing_to_fix(forms: Forms) -> None:
    for fields, words in (
        ({"password": "c4n4rys3cr3tc0de"}, "Check the webhook"),
        ({"password": ""}, "password is empty"),
        ({"host": ""}, "host is empty"),
        ({"host": "http://127.0.0.1:1"}, "connection refused"),
        ({"extra": '{"read_timeout": "soon"}'}, "read_timeout must be a number"),
    ):
        answer = forms.send("/test", body(forms, connection_id="never_saved", **fields)).json()
        assert (answer["status"], words in answer["message"]) == (False, True), answer
        assert "c4n4rys3cr3tc0de" not in answer["message"]


@pytest.mark.parametrize(("secret", "state"), [(None, "success"), ("c4n4rys3cr3tc0de", "failed")])
def test_the_test_on_a_worker(forms: Forms, secret: str | None, state: str) -> None:
    """New in Airflow 3.3: the executor runs the test, and the caller asks for the answer by a token."""
    sent = body(forms, connection_id="never_saved_either")
    if not AIRFLOW_V_3_3_PLUS:
        assert forms.airflow.api.post("/connections/enqueue-test", json=sent).status_code in (404, 405)
        return
    forms.asked()
    queued = forms.send("/enqueue-test", sent | ({"password": secret} if secret else {})).json()
    deadline = time.monotonic() + 1200
    while (found := _poll(forms, queued["token"]))["state"] not in ("success", "failed"):
        forms.airflow.processes.check()
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    assert found["state"] == state, found
    words = "as Anna Berg (user 1), an administrator" if secret is None else "Check the webhook"
    assert words in found["result_message"]
    assert (secret or sent["password"]) not in found["result_message"]
    assert forms.asked() == ["batch"]


def _poll(forms: Forms, token: str) -> dict[str, Any]:
    headers = {"Airflow-Connection-Test-Token": token}
    answer = forms.airflow.api.get("/connections/enqueue-test", headers=headers)
    return dict(answer.raise_for_status().json())
