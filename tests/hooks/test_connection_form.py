"""The connection form: what Test says in sentences, and the fields as Airflow 3.1 wants them."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_bitrix24.exceptions import Bitrix24NotSent
from airflow_provider_bitrix24.get_provider_info import get_provider_info
from airflow_provider_bitrix24.hooks import connection_test
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTION = "AIRFLOW_CONN_BITRIX24_DEFAULT"


def use(monkeypatch: pytest.MonkeyPatch, sandbox: Any, webhook: Any, **extra: Any) -> None:
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    fields = {
        "host": host,
        "port": int(port),
        "schema": "http",
        "login": str(webhook.user_id),
        "password": webhook.secret,
    }
    monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "bitrix24", **fields, "extra": extra}))


def test_all_is_well(bitrix24_sandbox: Any) -> None:
    works, text = Bitrix24Hook().test_connection()
    assert works
    assert "as Anna Berg (user 1), an administrator. The webhook can pay legacy invoices, wait for" in text
    assert "Scopes: crm, pay_system, sale, salescenter; the portal's clock says" in text
    assert "cannot" not in text
    assert "No SQL journal is configured here ([bitrix24] journal_conn_id)" in text
    assert bitrix24_sandbox.secret not in text
    sent = [request["method"] for request in bitrix24_sandbox.requests if not request["inside_batch"]]
    assert sent == ["batch"]
    assert bitrix24_sandbox.ledger == []


def test_a_journal_that_is_configured_is_not_asked_for(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__BITRIX24__JOURNAL_CONN_ID", "payments_journal")
    works, text = Bitrix24Hook().test_connection()
    assert works
    assert "SQL journal" not in text


def test_missing_scopes_are_said_by_feature(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, bitrix24_sandbox, bitrix24_sandbox.add_webhook(user_id=7, scopes=["crm"]))
    works, text = Bitrix24Hook().test_connection()
    assert works
    assert "not an administrator" in text
    assert "cannot pay legacy invoices (PayInvoiceOperator): the webhook lacks the scope pay_system." in text
    assert text.startswith("The webhook cannot pay legacy invoices (PayInvoiceOperator): the webhook lacks the scope")
    assert "mark payments as paid" in text.partition("The webhook can ")[2]
    use(monkeypatch, bitrix24_sandbox, bitrix24_sandbox.add_webhook(user_id=7, scopes=["pay_system"]))
    works, text = Bitrix24Hook().test_connection()
    assert not works
    assert "pay legacy invoices (PayInvoiceOperator): the webhook lacks the scope crm" in text
    assert "Only an administrator sees pay systems" in text


def test_a_secret_in_the_host_is_to_be_moved(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for form in (
        f"{bitrix24_sandbox.url}/rest/1/{bitrix24_sandbox.secret}/",
        json.dumps({"conn_type": "bitrix24", "host": f"{bitrix24_sandbox.url}/rest/1/{bitrix24_sandbox.secret}/"}),
    ):
        monkeypatch.setenv(CONNECTION, form)
        works, text = Bitrix24Hook().test_connection()
        assert works
        assert "The host holds the webhook's secret, where everybody can read it: put it into the password" in text
        assert bitrix24_sandbox.secret not in text


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        ("bitrix24://1:c4n4rys3cr3tc0de@portal.invalid", "cannot be resolved"),
        ("bitrix24://1:c4n4rys3cr3tc0de@", "host is empty"),
        ("bitrix24://1:c4n4rys3cr3tc0de@127.0.0.1:1", "connection refused"),
        ("bitrix24://1:c4n4rys3cr3tc0de@127.0.0.1:1/?ca_bundle=nowhere", "ca_bundle"),
        pytest.param(None, "was not found", marks=pytest.mark.needs_connection_errors),
        ("no connection at all", "cannot be"),
    ],
)
def test_what_does_not_work_is_a_sentence(monkeypatch: pytest.MonkeyPatch, connection: str | None, words: str) -> None:
    monkeypatch.delenv(CONNECTION, raising=False)
    if connection is not None:
        monkeypatch.setenv(CONNECTION, connection)
    works, text = Bitrix24Hook().test_connection()
    assert not works
    assert words in text
    assert "c4n4rys3cr3tc0de" not in text


def test_a_wrong_secret_and_a_silent_portal(bitrix24_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = types.SimpleNamespace(user_id=1, secret="c4n4rys3cr3tc0de")
    use(monkeypatch, bitrix24_sandbox, wrong)
    works, text = Bitrix24Hook().test_connection()
    assert not works
    assert "Check the webhook in the Airflow connection" in text
    assert "c4n4rys3cr3tc0de" not in text
    monkeypatch.setattr("airflow_provider_bitrix24.hooks.connection_test.TIMES", {"read_timeout": 0.2})
    monkeypatch.setenv(CONNECTION, bitrix24_sandbox.connection)
    bitrix24_sandbox.fault("hold", times=1, when="before")
    works, text = Bitrix24Hook().test_connection()
    assert (works, "no complete response within 0.2 s" in text) == (False, True)


def test_a_proxy_that_answers_byte_by_byte(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def dribbles(peer: Any) -> None:
        peer.read_request()
        peer.dribble(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 500)

    for name in ("NO_PROXY", "no_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{serve(dribbles).port}")
    monkeypatch.setattr("airflow_provider_bitrix24.hooks.connection_test.TIMES", {"connect_timeout": 0.2})
    monkeypatch.setenv(CONNECTION, "bitrix24://1:c4n4rys3cr3tc0de@portal.invalid")
    works, text = Bitrix24Hook().test_connection()
    assert (works, "no connection within 0.6 s" in text) == (False, True)


def test_nobody_looks_at_the_form_for_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of connecting and one answer are bounded, as the tests above and those of the drivers show."""
    monkeypatch.undo()  # the limits of the other tests
    assert (
        3 * connection_test.TIMES["connect_timeout"] + connection_test.TIMES["read_timeout"]
        < connection_test.LIMIT
        < 10
    )
    assert connection_test.TIMES["rate_limit_wait"] == 0


class Hanging:
    """Stands where nothing ends before it is released; what waits in it has not come to its end by then."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self.left: list[object] = []

    def __call__(self, *arguments: object, **options: object) -> Any:
        self.entered.set()
        self.released.wait(300)
        self.left.append(arguments)
        raise socket.gaierror


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    stands = Hanging()
    monkeypatch.setattr(connection_test, "LIMIT", 0.5)
    yield stands
    stands.released.set()
    for thread in threading.enumerate():
        if thread.name == "bitrix24-impatient":
            assert thread.daemon  # or a process that wants to end would wait for the name server
            thread.join()


def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, hanging: Hanging) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    monkeypatch.setenv(CONNECTION, "bitrix24://1:c4n4rys3cr3tc0de@acme.bitrix24.com")
    works, text = Bitrix24Hook().test_connection()
    assert hanging.left == []  # it still waits, and we have a response
    assert hanging.entered.wait(300)
    assert not works
    assert "No result within 0.5 s" in text
    assert "c4n4rys3cr3tc0de" not in text


def test_what_the_test_hangs_in_is_said(monkeypatch: pytest.MonkeyPatch, hanging: Hanging) -> None:
    """The step that it is in when its time is over."""
    monkeypatch.setenv(CONNECTION, "bitrix24://1:c4n4rys3cr3tc0de@acme.bitrix24.com")
    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    attempt = connection_test._Attempt("bitrix24_default", Bitrix24Hook.get_connection)
    assert "reading the Airflow connection" in attempt.hangs_in
    hanging.released.set()
    with contextlib.suppress(Bitrix24NotSent):
        attempt.run()
    assert "acme.bitrix24.com was not reached; does the name server (DNS) of this machine" in attempt.hangs_in


def test_a_secrets_backend_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, hanging: Hanging) -> None:
    monkeypatch.setattr(Bitrix24Hook, "get_connection", hanging)
    works, text = Bitrix24Hook().test_connection()
    assert hanging.left == []
    assert not works
    assert "reading the Airflow connection takes longer" in text


# -- Airflow 3.1's form -------------------------------------------------------------------------------------------


def test_standard_fields_of_the_older_form() -> None:
    behaviour = Bitrix24Hook.get_ui_field_behaviour()
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
    assert behaviour["relabeling"]["password"] == "Webhook or client secret"


def test_other_fields_of_the_older_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 3.1 itself puts stand-ins in the place of these packages where they are missing."""

    class Field:
        def __init__(self, label: str, **options: Any) -> None:
            self.label, self.options = label, options

    class Boolean(Field):
        pass

    class Password(Field):
        pass

    stand_ins = {
        "wtforms": {"StringField": Field, "BooleanField": Boolean, "PasswordField": Password},
        "wtforms.validators": {"Optional": object, "any_of": list},
        "flask_babel": {"lazy_gettext": str},
        "flask_appbuilder": {},
        "flask_appbuilder.fieldwidgets": {"BS3TextFieldWidget": object, "BS3PasswordFieldWidget": object},
    }
    for name, content in stand_ins.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    fields = Bitrix24Hook.get_connection_form_widgets()
    (declared,) = (kind["conn-fields"] for kind in get_provider_info()["connection-types"])
    assert {name: field.label for name, field in fields.items()} == {
        name: field["label"] for name, field in declared.items()
    }
    assert isinstance(fields["allow_http"], Boolean)
    assert {name for name, field in fields.items() if isinstance(field, Password)} == {"refresh_token", "token_key"}
    assert ["webhook", "oauth"] in fields["auth"].options["validators"]
    assert fields["auth"].options["default"] == "webhook"
    assert all(field.options["description"] for field in fields.values())


def test_the_form_asks_only_for_what_the_settings_know() -> None:
    from airflow_provider_bitrix24.api.extras import EXTRAS

    (declared,) = (kind["conn-fields"] for kind in get_provider_info()["connection-types"])
    assert set(declared) <= set(EXTRAS)
    for field in declared.values():
        assert "null" in field["schema"]["type"]  # or the form would insist on it
