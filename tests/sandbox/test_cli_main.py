"""The command in process: its options, and one start and end in a thread of this test."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from airflow_provider_bitrix24.sandbox import cli

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 300  # seconds; a safety net, never what a test measures


class Command:
    """``cli.main`` in a thread, which gets the signals that a terminal would send."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        self._capsys = capsys
        self.code: int | None = None
        self.out = ""
        self._thread = threading.Thread(target=self._run, args=(list(arguments),))
        self._thread.start()

    def _run(self, arguments: list[str]) -> None:
        self.code = cli.main(arguments)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while text not in self.out:
            assert time.monotonic() < deadline, self.out
            assert self._thread.is_alive(), self.out
            time.sleep(0.01)
            self.out += self._capsys.readouterr().out

    def line(self, beginning: str) -> str:
        return next(line for line in self.out.splitlines() if line.startswith(beginning)).rpartition(" ")[2]

    def end(self) -> int | None:
        if self._thread.is_alive() and self._thread.ident is not None:
            signal.pthread_kill(self._thread.ident, signal.SIGTERM)
        self._thread.join(TIMEOUT)
        self.out += self._capsys.readouterr().out
        return self.code


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=TIMEOUT, trust_env=False)


def test_serves_until_it_is_told_to_end(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ("--secret", "abc123", "--db", str(tmp_path / "p.sqlite"), "--rate-limit", "50/2", "--oauth", "--tls")
    command = Command(capsys, *arguments)
    try:
        command.wait_for("Press Ctrl-C to end.")
        url = command.line("Bitrix24 sandbox portal:")
        assert url.startswith("https://127.0.0.1:")
        assert command.line("Webhook:") == f"{url}/rest/1/abc123/"
        assert command.line("Sign in:").startswith(f"{url}/oauth/authorize/?client_id=local.")
        exports = [line for line in command.out.splitlines() if line.startswith("export AIRFLOW_CONN_")]
        webhook, oauth = (shlex.split(line)[1].partition("=")[2] for line in exports)
        ca_file = command.line("CA certificate:")
        assert json.loads(webhook)["extra"] == {"ca_bundle": ca_file}
        assert json.loads(oauth)["login"] == command.line("OAuth application:")
        assert {"access_token", "refresh_token"} < set(json.loads(oauth)["extra"])
    finally:
        assert command.end() == 0
    assert "The sandbox portal has ended." in command.out
    with pytest.raises(httpx.ConnectError):
        get(f"{url}/")


def test_without_options_there_is_no_application(capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(capsys)
    try:
        command.wait_for("Press Ctrl-C to end.")
        assert "OAuth" not in command.out
        assert get(command.line("Bitrix24 sandbox portal:") + "/_sandbox/state").json()["applications"] == []
    finally:
        assert command.end() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "must be between 0 and 65535"),
        (["--port", "http"], "--port"),
        (["--rate-limit", "50"], "must be two numbers such as 50/2"),
        (["--rate-limit", "0/2"], "must be above 0"),
        (["--operating-limit", "inf"], "must be a number of seconds"),
        (["--operating-cost", "1.2"], "must be METHOD=SECONDS"),
        (["--operating-cost", "*=-1"], "must be a number of seconds"),
        (["--customers-pay-after", "-1"], "must be a number of seconds"),
        (["--secret", "a/b"], "must consist of letters and digits"),
        (["--dialect", "latin"], "invalid choice"),
        (["--seed", "1", "--no-seed"], "not allowed with argument"),
        (["--require-https"], "--require-https needs --tls"),
        (["--access-token-lifetime", "60"], "--access-token-lifetime needs --oauth"),
        (["--oauth", "--access-token-lifetime", "soon"], "--access-token-lifetime"),
        (["--por", "1"], "unrecognized arguments"),
    ],
)
def test_wrong_options(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in ("--port", "--secret", "--oauth", "--access-token-lifetime", "--tls", "--db", "--dialect"):
        assert option in text


class TestCannotStart:
    """Each in the main thread, which gets its signal mask back."""

    @pytest.fixture(autouse=True)
    def _mask(self) -> object:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        yield
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def test_port_is_taken(self, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            assert cli.main(["--port", str(taken.getsockname()[1])]) == 1
        assert "is taken by another program" in capsys.readouterr().err

    def test_file_is_no_database(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "letter").write_text("Dear Anna, " * 100)
        assert cli.main(["--db", str(tmp_path / "letter")]) == 1
        assert "cannot use" in capsys.readouterr().err

    def test_lifetime_of_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["--oauth", "--access-token-lifetime", "0"]) == 1
        assert "access_token_lifetime: must be a number of seconds above 0" in capsys.readouterr().err

    def test_extra_is_missing(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "airflow_provider_bitrix24.sandbox.server", raising=False)
        monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if it were not installed
        assert cli.main([]) == 1
        assert "pip install 'airflow-provider-bitrix24[sandbox]'" in capsys.readouterr().err


def test_options_of_the_portal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = ["payment_list_pages=true", "unknown_token_error=NO_AUTH_FOUND"]
    command = Command(capsys, "--db", str(tmp_path / "db"), *(each for text in given for each in ("--option", text)))
    try:
        command.wait_for("Press Ctrl-C to end.")
        options = get(f"{command.line('Bitrix24 sandbox portal:')}/_sandbox/state").json()["options"]
        assert (options["payment_list_pages"], options["unknown_token_error"]) == (True, "NO_AUTH_FOUND")
    finally:
        command.end()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("payment_list_pages", "must be NAME=VALUE"), ("a=1", "unknown option 'a'"), ("any_http_method=1", "type bool")],
)
def test_wrong_option(text: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--option", text])
    assert complaint in capsys.readouterr().err


def test_scopes_of_the_webhook(capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(capsys, "--scopes", "crm, im")
    try:
        command.wait_for("Press Ctrl-C to end.")
        assert get(f"{command.line('Webhook:')}scope").json()["result"] == ["crm", "im"]
    finally:
        command.end()
    with pytest.raises(SystemExit):
        cli.main(["--scopes", "crm,everything"])
    assert "unknown: everything; known: crm, im, pay_system" in capsys.readouterr().err
