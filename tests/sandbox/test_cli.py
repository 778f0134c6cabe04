"""The command: what it prints works, what it keeps is there again, and it ends cleanly."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "airflow_provider_bitrix24"]
TIMEOUT = 300  # seconds; a safety net, never what a test measures


class Running:
    def __init__(self, process: subprocess.Popen[str], lines: list[str]) -> None:
        self.process = process
        self.lines = lines
        self.url = lines[0].rpartition(" ")[2]

    @property
    def exports(self) -> list[str]:
        return [line for line in self.lines if line.startswith("export AIRFLOW_CONN_")]

    @property
    def uri(self) -> str:
        return next(line.rpartition(" ")[2] for line in self.lines if line.startswith("As a connection URI:"))

    @property
    def webhook(self) -> str:
        return next(line.rpartition(" ")[2] for line in self.lines if line.startswith("Webhook:"))

    def call(self, method: str, **params: Any) -> Any:
        return httpx.post(self.webhook + method, json=params, timeout=TIMEOUT, trust_env=False).json()

    def state(self) -> Any:
        return httpx.get(f"{self.url}/_sandbox/state", timeout=TIMEOUT, trust_env=False).json()

    def tokens(self) -> Any:
        return httpx.get(f"{self.url}/_sandbox/tokens", timeout=TIMEOUT, trust_env=False).json()["tokens"]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out + err


@contextmanager
def running(*options: str) -> Iterator[Running]:
    with subprocess.Popen(
        [*COMMAND, "sandbox", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            lines = []
            for line in process.stdout:  # ends if the command does
                lines.append(line.rstrip("\n"))
                if line.startswith("Press Ctrl-C"):
                    break
            assert lines, process.communicate(timeout=TIMEOUT)[1]
            yield Running(process, lines)
        finally:
            process.kill()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_prints_what_works_and_ends_cleanly(number: int) -> None:
    with running("--port", "0", "--secret", "abc123") as portal:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", portal.url)
        assert portal.webhook == f"{portal.url}/rest/1/abc123/"
        assert httpx.get(f"{portal.url}/", trust_env=False).status_code == 200
        assert portal.call("profile")["result"]["ADMIN"] is True

        [(variable, as_json)] = [shlex.split(line)[1].split("=", 1) for line in portal.exports]
        assert variable == "AIRFLOW_CONN_BITRIX24_DEFAULT"
        port = int(portal.url.rpartition(":")[2])
        assert json.loads(as_json) == {
            "conn_type": "bitrix24",
            "host": "127.0.0.1",
            "schema": "http",
            "port": port,
            "login": "1",
            "password": "abc123",
            "extra": {"allow_http": True},
        }
        assert portal.uri == f"bitrix24://1:abc123@127.0.0.1:{port}/http?allow_http=true"
        assert portal.end(number) == (0, "The sandbox portal has ended.\n")
        with pytest.raises(httpx.ConnectError):
            portal.state()


def test_ends_cleanly_with_a_held_request() -> None:
    with running() as portal:
        httpx.post(f"{portal.url}/_sandbox/faults", json={"kind": "hold"}, trust_env=False)
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(portal.webhook + "profile", timeout=0.3, trust_env=False)
        with httpx.Client(trust_env=False) as idle:
            idle.get(f"{portal.url}/_sandbox/faults")
            assert portal.end()[0] == 0


def test_secret_is_random_unless_given() -> None:
    with running() as one, running("--no-seed") as two:
        assert one.webhook.split("/")[-2] != two.webhook.split("/")[-2]
        assert len(one.state()["deals"]) == 6
        assert two.state()["deals"] == []
        assert two.state()["invoices"] == []
        assert [user["id"] for user in two.state()["users"]] == [1, 7]


def test_limits_and_dialect() -> None:
    with running("--rate-limit", "3/0.001", "--dialect", "docs") as portal:
        assert portal.call("crm.item.payment.get", id=99)["error"] == 0
        answers = [portal.call("profile") for _ in range(3)]
        assert "result" in answers[1]
        assert answers[2]["error"] == "QUERY_LIMIT_EXCEEDED"
    with running("--operating-limit", "0.3") as portal:
        codes = [portal.call("crm.deal.get", id=1).get("error") for _ in range(10)]
        assert codes[0] is None
        assert codes[-1] == "OPERATION_TIME_LIMIT"


def refresh(portal: Running, connection: Any) -> Any:
    params = {
        "grant_type": "refresh_token",
        "client_id": connection["login"],
        "client_secret": connection["password"],
        "refresh_token": connection["extra"]["refresh_token"],
    }
    return httpx.get(f"{portal.url}/oauth/token/", params=params, timeout=TIMEOUT, trust_env=False).json()


def test_application_survives_even_a_kill(tmp_path: Path) -> None:
    file = str(tmp_path / "portal.sqlite")
    with running("--db", file, "--oauth", "--access-token-lifetime", "90") as portal:
        sign_in = next(line.rpartition(" ")[2] for line in portal.lines if line.startswith("Sign in:"))
        assert httpx.get(sign_in, timeout=TIMEOUT, trust_env=False).status_code == 200
        exports = dict(shlex.split(line)[1].split("=", 1) for line in portal.exports)
        # Who copies all of it has both: none takes the place of another.
        assert list(exports) == ["AIRFLOW_CONN_BITRIX24_DEFAULT", "AIRFLOW_CONN_BITRIX24_OAUTH"]
        assert len(portal.exports) == 2
        connection = json.loads(exports["AIRFLOW_CONN_BITRIX24_OAUTH"])
        assert connection["extra"]["oauth_url"] == portal.url
        fresh = refresh(portal, connection)
        assert fresh["expires_in"] == 90
        portal.process.send_signal(signal.SIGKILL)
        portal.process.wait(TIMEOUT)
    with running("--db", file, "--oauth") as portal:
        assert f"OAuth application:       {connection['login']}" in portal.lines
        headers = {"Authorization": f"Bearer {fresh['access_token']}"}
        profile = httpx.post(f"{portal.url}/rest/profile", headers=headers, timeout=TIMEOUT, trust_env=False)
        assert profile.json()["result"]["ID"] == "1"
        assert refresh(portal, connection)["error"] == "invalid_grant"
        connection["extra"]["refresh_token"] = fresh["refresh_token"]
        assert refresh(portal, connection)["expires_in"] == 90
        assert [entry["event"] for entry in portal.tokens()] == [
            "issued",
            "refreshed",
            "issued",
            "refused",
            "refreshed",
        ]


def test_customers_pay() -> None:
    with running("--customers-pay-after", "0") as portal:
        portal.call("crm.item.payment.add", entityTypeId=2, entityId=1)
        portal.call("crm.item.payment.product.add", paymentId=1033, rowId=1, quantity=1)
        deadline = time.monotonic() + TIMEOUT
        while next(row for row in portal.state()["payments"] if row["id"] == 1033)["paid"] != "Y":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        state = portal.state()
        assert {row["id"]: row["paid"] for row in state["payments"]} == {
            1001: "N",
            1002: "Y",
            1003: "N",
            1004: "N",
            1033: "Y",
        }
        assert [entry["by"] for entry in state["ledger"] if entry["event"] == "payment_paid"] == ["customer"]


def test_database_survives_even_a_kill(tmp_path: Path) -> None:
    file = str(tmp_path / "portal.sqlite")
    with running("--db", file) as portal:
        portal.call("crm.item.payment.add", entityTypeId=2, entityId=1)
        portal.call("sale.paysystem.pay.invoice", INVOICE_ID=2, PAY_SYSTEM_ID=31)
        portal.call("crm.deal.add", fields={"TITLE": "Kept", "OPPORTUNITY": 1999.99})
        before, webhook = portal.state(), portal.webhook
        portal.process.send_signal(signal.SIGKILL)
        portal.process.wait(TIMEOUT)
    with running("--db", file) as portal:
        after = portal.state()
        for name in ("payments", "invoices", "deals", "orders", "ledger", "requests"):
            assert after[name] == before[name], name
        assert portal.webhook.split("/")[-2] == webhook.split("/")[-2]
        assert portal.call("crm.item.payment.add", entityTypeId=2, entityId=1)["result"] == 1034
        assert portal.end()[0] == 0
    other = run("sandbox", "--db", file, "--secret", "another")
    assert other.returncode == 1
    assert "--secret" in other.stderr


def test_reset_reaches_the_database(tmp_path: Path) -> None:
    file = str(tmp_path / "portal.sqlite")
    with running("--db", file) as portal:
        portal.call("crm.item.payment.add", entityTypeId=2, entityId=1)
        httpx.post(f"{portal.url}/_sandbox/reset", trust_env=False)
        portal.call("crm.item.payment.add", entityTypeId=2, entityId=4)
        before = portal.state()
        portal.end()
    with running("--db", file) as portal:
        assert portal.state()["ledger"] == before["ledger"]
        assert portal.state()["requests"] == before["requests"]


def test_tls() -> None:
    import ssl

    with running("--tls", "--require-https") as portal:
        authority = next(line.rpartition(" ")[2] for line in portal.lines if line.startswith("CA certificate:"))
        assert f"export REQUESTS_CA_BUNDLE={authority} SSL_CERT_FILE={authority}" in portal.lines
        context = ssl.create_default_context(cafile=authority)
        answer = httpx.get(portal.webhook + "profile", verify=context, trust_env=False)
        assert answer.status_code == 200
        connection = json.loads(shlex.split(portal.exports[0])[1].partition("=")[2])
        assert connection["schema"] == "https"
        assert connection["extra"] == {"ca_bundle": authority}
        assert f"/https?ca_bundle={quote(authority, safe='')}" in portal.uri
        assert portal.end()[0] == 0
        assert not os.path.exists(authority)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--host", "0.0.0.0"], 2, "unrecognized arguments: --host"),
        (["--port", "70000"], 2, "between 0 and 65535"),
        (["--rate-limit", "50"], 2, "two numbers"),
        (["--rate-limit", "0/2"], 2, "above 0"),
        (["--operating-limit", "nan"], 2, "number of seconds"),
        (["--customers-pay-after", "-1"], 2, "number of seconds"),
        (["--secret", "a/b"], 2, "letters and digits"),
        (["--dialect", "klingon"], 2, "invalid choice"),
        (["--seed", "1", "--no-seed"], 2, "not allowed with"),
        (["--require-https"], 2, "--require-https needs --tls"),
        (["--db", os.devnull + "/x"], 1, "cannot use"),
    ],
)
def test_wrong_options(arguments: list[str], code: int, message: str) -> None:
    done = run("sandbox", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear Anna, " * 100)
    done = run("sandbox", "--db", str(tmp_path / "letter.txt"))
    assert done.returncode == 1
    assert "not a database" in done.stderr
    assert "Traceback" not in done.stderr


def test_port_that_is_taken() -> None:
    with running() as portal:
        done = run("sandbox", "--port", portal.url.rpartition(":")[2])
        assert done.returncode == 1
        assert "is taken" in done.stderr
        assert "Traceback" not in done.stderr


def test_dispatcher() -> None:
    for arguments in ([], ["--help"]):
        done = run(*arguments)
        assert done.returncode == 0
        assert "sandbox" in done.stdout
    wrong = run("sandpit")
    assert wrong.returncode == 2
    assert "no command 'sandpit'" in wrong.stderr


def test_dispatcher_imports_no_command() -> None:
    code = "import sys, airflow_provider_bitrix24.__main__; print([m for m in sys.modules if 'sandbox' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT)
    assert done.stdout.strip() == "[]"
