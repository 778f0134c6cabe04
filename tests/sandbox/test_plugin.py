"""The pytest plugin as a DAG author gets it: in a pytest of its own, and in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox

pytestmark = pytest.mark.libraries

PLUGIN = "airflow_provider_bitrix24.sandbox.pytest_plugin"
TIMEOUT = 300  # seconds; a safety net, never what a test measures


def call(sandbox: Sandbox, method: str, **params: Any) -> Any:
    return httpx.post(sandbox.webhook_url + method, json=params, timeout=TIMEOUT, trust_env=False).json()


def test_fixture_is_a_portal_over_http(bitrix24_sandbox: Sandbox) -> None:
    assert bitrix24_sandbox.webhook_url == f"{bitrix24_sandbox.url}/rest/1/{bitrix24_sandbox.secret}/"
    assert call(bitrix24_sandbox, "crm.item.payment.add", entityTypeId=2, entityId=1)["result"] == 1033
    (payment,) = bitrix24_sandbox.payments(2, 1)
    assert (payment["id"], payment["sum"], payment["paid"]) == (1033, "0.00", "N")
    assert [entry["event"] for entry in bitrix24_sandbox.ledger][-1] == "payment_added"
    assert [request["method"] for request in bitrix24_sandbox.requests] == ["crm.item.payment.add"]
    assert bitrix24_sandbox.secret not in str(bitrix24_sandbox.requests)
    assert bitrix24_sandbox.secret not in repr(bitrix24_sandbox)


def test_each_test_has_a_fresh_portal(bitrix24_sandbox: Sandbox) -> None:
    assert bitrix24_sandbox.ledger == []
    assert bitrix24_sandbox.payments(2, 1) == []


def test_connection_leads_to_the_portal(bitrix24_sandbox: Sandbox) -> None:
    from airflow.sdk import Connection

    assert os.environ["AIRFLOW_CONN_BITRIX24_DEFAULT"] == bitrix24_sandbox.connection
    assert json.loads(bitrix24_sandbox.connection)["extra"] == {"allow_http": True}
    connection = Connection.from_json(bitrix24_sandbox.connection, conn_id="bitrix24_default")
    assert f"{connection.schema}://{connection.host}:{connection.port}" == bitrix24_sandbox.url
    assert (connection.login, connection.password) == ("1", bitrix24_sandbox.secret)
    assert connection.extra_dejson == {"allow_http": True}


def test_connection_uri_says_the_same_to_airflow(bitrix24_sandbox: Sandbox) -> None:
    from airflow.sdk import Connection

    from airflow_provider_bitrix24.sandbox.address import connection_uri

    as_json = Connection.from_json(bitrix24_sandbox.connection, conn_id="x")
    as_uri = Connection.from_uri(connection_uri(bitrix24_sandbox.url, bitrix24_sandbox.portal.webhook), conn_id="x")
    for name in ("conn_type", "host", "schema", "port", "login", "password"):
        assert getattr(as_uri, name) == getattr(as_json, name), name
    assert as_uri.extra_dejson == {"allow_http": "true"}


def test_customers_colleagues_and_objects(bitrix24_sandbox: Sandbox) -> None:
    bitrix24_sandbox.act.pay_payment(payment_id=1001)
    bitrix24_sandbox.act.decline_invoice(invoice_id=2)
    assert bitrix24_sandbox.payment(1001)["paid"] == "Y"
    assert bitrix24_sandbox.invoice(2)["status_id"] == "D"
    assert [(entry["event"], entry["by"]) for entry in bitrix24_sandbox.ledger] == [
        ("payment_paid", "customer"),
        ("invoice_declined", "person"),
    ]
    with pytest.raises(LookupError, match="no 99999 among its payments"):
        bitrix24_sandbox.payment(99999)
    with pytest.raises(LookupError, match="no 99999 among its invoices"):
        bitrix24_sandbox.invoice(99999)


def test_another_webhook(bitrix24_sandbox: Sandbox) -> None:
    webhook = bitrix24_sandbox.add_webhook(user_id=7, scopes=("crm",))
    connection = json.loads(bitrix24_sandbox.connection_of(webhook))
    assert (connection["login"], connection["password"]) == ("7", webhook.secret)


def test_application(bitrix24_sandbox: Sandbox) -> None:
    from airflow.sdk import Connection

    application = bitrix24_sandbox.add_application(access_token_lifetime=60, scopes=("crm",))
    assert json.loads(bitrix24_sandbox.oauth_connection_of(application))["extra"] == {
        "auth": "oauth",
        "oauth_url": bitrix24_sandbox.url,
        "allow_http": True,
    }
    pair = bitrix24_sandbox.grant(application, user_id=7)
    connection = Connection.from_json(bitrix24_sandbox.oauth_connection_of(application, pair), conn_id="x")
    assert f"{connection.schema}://{connection.host}:{connection.port}" == bitrix24_sandbox.url
    assert (connection.login, connection.password) == (application.client_id, application.client_secret)
    assert connection.extra_dejson == {
        "auth": "oauth",
        "oauth_url": bitrix24_sandbox.url,
        "access_token": pair.access_token,
        "refresh_token": pair.refresh_token,
        "allow_http": True,
    }
    params = {
        "grant_type": "authorization_code",
        "client_id": application.client_id,
        "client_secret": application.client_secret,
        "code": bitrix24_sandbox.sign_in(application),
    }
    answer = httpx.get(f"{bitrix24_sandbox.url}/oauth/token/", params=params, timeout=TIMEOUT, trust_env=False)
    assert answer.json()["expires_in"] == 60
    bitrix24_sandbox.act.expire_access_tokens()
    assert [(entry["event"], entry["user_id"], entry["number"]) for entry in bitrix24_sandbox.token_log] == [
        ("issued", 7, 1),
        ("issued", 1, 2),
        ("expired", 7, 1),
        ("expired", 1, 2),
    ]
    assert pair.refresh_token not in repr(pair) + repr(bitrix24_sandbox.token_log)
    assert application.client_secret not in repr(application)


def test_trouble(bitrix24_sandbox: Sandbox) -> None:
    fault = bitrix24_sandbox.fault("hold", "crm.item.payment.pay", when="after")
    answer: dict[str, Any] = {}
    waiting = threading.Thread(target=lambda: answer.update(call(bitrix24_sandbox, "crm.item.payment.pay", id=1001)))
    waiting.start()
    while bitrix24_sandbox.payment(1001)["paid"] == "N":
        waiting.join(0.01)
    assert answer == {}
    assert bitrix24_sandbox.release(fault) == 1
    waiting.join(TIMEOUT)
    assert answer["result"] is True

    bitrix24_sandbox.fault("error", method="profile", code="X", text="Y")
    assert call(bitrix24_sandbox, "profile")["error"] == "X"
    bitrix24_sandbox.clear_faults()
    assert "result" in call(bitrix24_sandbox, "profile")
    with pytest.raises(ValueError, match="meteor"):
        bitrix24_sandbox.fault("meteor")


@pytest.mark.bitrix24_sandbox(dialect="docs", seed=False)
class TestMarker:
    def test_options_reach_the_portal(self, bitrix24_sandbox: Sandbox) -> None:
        assert bitrix24_sandbox.portal.dialect == "docs"
        assert bitrix24_sandbox.portal.view()["deals"] == []

    @pytest.mark.bitrix24_sandbox(dialect="source", tls=True)
    def test_the_closest_marker_wins(self, bitrix24_sandbox: Sandbox) -> None:
        assert bitrix24_sandbox.portal.dialect == "source"
        assert bitrix24_sandbox.portal.view()["deals"] == []
        assert bitrix24_sandbox.url.startswith("https://")


def run(tmp_path: Path, test: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """A pytest of its own, whose only plugin is ours; ``before`` runs in its conftest."""
    (tmp_path / "conftest.py").write_text(before)
    (tmp_path / "test_dag.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-W", "error", str(tmp_path)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def test_plugin_costs_nothing_until_it_is_used_and_never_imports_airflow(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "import sys\n"
        "def test_before():\n"
        "    assert not {'starlette', 'uvicorn', 'airflow'} & set(sys.modules)\n"
        "def test_during(bitrix24_sandbox):\n"
        "    assert 'uvicorn' in sys.modules\n"
        "    assert not {'airflow', 'requests', 'httpx', 'cryptography'} & set(sys.modules)\n"
        "    ours = {name.split('.')[1] for name in sys.modules if name.startswith('airflow_provider_bitrix24.')}\n"
        "    assert ours == {'sandbox'}\n",
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_missing_extra_is_explained(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "def test_it(bitrix24_sandbox): pass\n",
        "import sys\nsys.modules['uvicorn'] = None  # as if it were not installed\n",
    )
    assert done.returncode == 1
    assert "pip install 'airflow-provider-bitrix24[sandbox]'" in done.stdout
    assert "Traceback" not in done.stdout


def test_failing_test_leaves_nothing_behind(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "import os, threading\n"
        "def test_fails(bitrix24_sandbox):\n"
        "    raise RuntimeError('on purpose')\n"
        "def test_after():\n"
        "    assert 'AIRFLOW_CONN_BITRIX24_DEFAULT' not in os.environ\n"
        "    assert threading.active_count() == 1\n",
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
