"""Every object of ours that there is after a lot of trouble: none shows a secret, and none takes one along in a pickle.

Nobody keeps a list of classes here: whatever of this package is alive is looked at, so a new class is not forgotten.
"""

from __future__ import annotations

import gc
import inspect
import json
import pickle
import pkgutil
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

import airflow_provider_bitrix24
from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.payments import (
    AddCrmPaymentOperator,
    PayCrmPaymentOperator,
    PayInvoiceOperator,
)
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.pytest_plugin import Sandbox
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from airflow_provider_bitrix24.sensors.payments import CrmPaymentPaidSensor, InvoicePaidSensor
from airflow_provider_bitrix24.triggers.payments import WaitForInvoicesTrigger, WaitForPaymentsTrigger
from tests.e2e.security.needles import Needles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PACKAGE = airflow_provider_bitrix24.__name__
FAULTS: list[dict[str, Any]] = [
    {"kind": "drop_after"},
    {"kind": "html", "status": 502},
    {"kind": "error", "code": "INVALID_CREDENTIALS", "status": 401, "text": "?"},
    {"kind": "error_after_executing", "code": "0", "text": "?"},
    {"kind": "query_limit_exceeded"},
    {"kind": "expired_token"},
    {"kind": "redirect", "location": "https://new.bitrix24.example/"},
    {"kind": "invalid_json"},
]
HOLDERS = {"Settings", "WebhookAuth", "OAuthAuth", "ApiClient", "Request", "Tokens", "Issued"}
"""What a secret is for: these hold one in memory, do not show it, and are never pickled by anybody."""
ARGUMENTS = {"access_token"}
"""What the one generator that puts it into a header is given; Airflow's own log prints no locals."""
CALLS: list[Callable[[Bitrix24Hook], Any]] = [
    lambda hook: hook.call("profile"),
    lambda hook: hook.get_crm_payment(payment_id=1001),
    lambda hook: hook.get_crm_payments(payment_ids=[1001]),
    lambda hook: hook.get_invoice(invoice_id=1),
    lambda hook: hook.update_crm_payment(payment_id=1001, pay_system_id=8),
    lambda hook: hook.rest.crm_item_payment_add(entity_id=1, entity_type_id=2),
]


def connections(sandbox: Sandbox, folder: Path) -> Iterator[tuple[str, str]]:
    """Airflow connections of each kind."""
    extra = {"allow_http": True, "rate_limit_wait": 0, "read_timeout": 2}
    webhook = json.loads(sandbox.connection)
    yield "webhook", json.dumps(webhook | {"extra": extra})
    application = sandbox.add_application(client_secret="c4n4ryc113nts3cr3t")
    oauth = json.loads(sandbox.oauth_connection_of(application, sandbox.grant(application)))
    kept = {"token_conn_id": "tokens", "token_key": "c4n4ryt0k3nk3y0fs0m31ength"}
    yield "oauth", json.dumps(oauth | {"extra": oauth["extra"] | extra | kept})
    yield "tokens", json.dumps({"conn_type": "sqlite", "host": str(folder / "t.db"), "password": "c4n4ryd4t4b4s3"})


def is_ours(thing: object) -> bool:
    """Whether it is an instance of a class of the runtime package."""
    module = getattr(type(thing), "__module__", None)
    return isinstance(module, str) and module.startswith(PACKAGE) and not module.startswith(f"{PACKAGE}.sandbox")


def shown(thing: object) -> str:
    """All that print, a log or an error page would make of it."""
    text = f"{thing!r} {thing} {thing:}"
    if isinstance(thing, BaseException):
        text += f"{thing.args!r} {vars(thing)!r}" + "".join(traceback.format_exception(thing))
        text += f"{thing.__cause__!r} {thing.__context__!r}"
    return text


Everything: TypeAlias = tuple[list[Any], list[BaseException], Needles]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    """Make many calls under many faults, and keep all results."""
    with pytest.MonkeyPatch.context() as environment, SandboxServer(Portal()) as server:
        environment.setenv("no_proxy", "127.0.0.1")
        sandbox = Sandbox(server)
        for name, connection in connections(sandbox, tmp_path_factory.mktemp("tokens")):
            environment.setenv(f"AIRFLOW_CONN_{name.upper()}", connection)
        gc.freeze()  # what other tests have left is none of our business
        yield get_into_trouble(sandbox)
        gc.unfreeze()


def get_into_trouble(sandbox: Sandbox) -> Everything:
    kept: list[Any] = []
    errors: list[BaseException] = []
    for conn_id in ("webhook", "oauth"):
        hook = Bitrix24Hook(conn_id)
        hook.call("profile")
        kept += [
            hook,
            hook.settings,
            PayInvoiceOperator(task_id="a", invoice_id=1, pay_system_id=31, bitrix24_conn_id=conn_id),
            AddCrmPaymentOperator(task_id="b", entity_id=1, bitrix24_conn_id=conn_id),
            PayCrmPaymentOperator(task_id="c", payment_id=1, bitrix24_conn_id=conn_id),
            InvoicePaidSensor(task_id="d", invoice_id=1, bitrix24_conn_id=conn_id),
            CrmPaymentPaidSensor(task_id="e", payment_id=1, bitrix24_conn_id=conn_id),
        ]
        for fault in [None, *FAULTS]:
            for call in CALLS:
                sandbox.clear_faults()
                if fault is not None:
                    sandbox.fault(**fault, times=3)
                try:
                    kept.append(call(hook))
                except Bitrix24Error as error:
                    errors.append(error)
        kept.append(hook.test_connection())
    secrets = [sandbox.secret, "c4n4ryc113nts3cr3t", "c4n4ryt0k3nk3y0fs0m31ength", "c4n4ryd4t4b4s3"]
    secrets += sandbox.portal.oauth.secrets()
    return kept, errors, Needles({f"{number} {secret[:4]}": secret for number, secret in enumerate(secrets)})


def test_nothing_that_is_alive_shows_a_secret(everything: Everything) -> None:
    kept, errors, needles = everything
    alive = [thing for thing in gc.get_objects() if is_ours(thing)]
    classes = {type(thing).__name__ for thing in alive}
    wanted = {"Bitrix24Hook", "Settings", "WebhookAuth", "OAuthAuth", "ApiClient", "Payment", "Invoice", "Money"}
    wanted |= {"PayInvoiceOperator", "CrmPaymentPaidSensor", "Bitrix24OutcomeUnknown", "Bitrix24AuthError"}
    assert wanted <= classes, wanted - classes
    assert len(errors) > 50
    for thing in [*alive, *kept]:
        assert not needles.found_in(shown(thing)), type(thing)
    assert needles.found_in(kept[1].secrets[0])  # it does find one where there is one


def test_no_pickle_takes_a_secret_along(everything: Everything) -> None:
    kept, errors, needles = everything
    pickled = set()
    for thing in [*kept, *errors]:
        if type(thing).__name__ not in HOLDERS:
            assert not needles.found_in(pickle.dumps(thing)), type(thing)
            pickled.add(type(thing).__name__)
    assert {"Bitrix24Hook", "PayInvoiceOperator", "Payment", "Invoice", "Bitrix24ConfigError"} <= pickled
    assert needles.found_in(pickle.dumps(kept[1]))  # it does find one where there is one


def test_no_frame_of_ours_shows_a_secret(everything: Everything) -> None:
    """Some error trackers send the locals of each frame along."""
    _, errors, needles = everything
    frames = 0
    for error in errors:
        for frame in traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), capture_locals=True):
            if PACKAGE in frame.filename:
                frames += 1
                said = {name for name, value in (frame.locals or {}).items() if needles.found_in(value)} - ARGUMENTS
                assert not said, f"{frame.filename}:{frame.lineno} {frame.name}"
    assert frames > 500


def test_triggers_take_ids_along_and_nothing_else(bitrix24_sandbox: Any) -> None:
    needles = Needles({"webhook": bitrix24_sandbox.secret})
    for trigger in (
        WaitForInvoicesTrigger(bitrix24_conn_id="bitrix24_default", invoice_ids=[1], poke_interval=1, end_time=0),
        WaitForPaymentsTrigger(bitrix24_conn_id="bitrix24_default", payment_ids=[1], poke_interval=1, end_time=0),
    ):
        assert not needles.found_in(f"{trigger!r} {trigger.serialize()!r} {vars(trigger)!r}")


def test_no_public_name_holds_a_secret(everything: Everything) -> None:
    """Not in a module, nor on a class, nor in a cache that a module keeps."""
    _, _, needles = everything
    seen = 0
    for module in pkgutil.walk_packages(airflow_provider_bitrix24.__path__, f"{PACKAGE}."):
        if module.name.endswith("__main__") or ".sandbox" in module.name:
            continue
        for name, value in vars(import_module(module.name)).items():
            if name.startswith("__"):
                continue
            seen += 1
            said = repr(value) + (repr(vars(value)) if inspect.isclass(value) else "")
            assert not needles.found_in(said), f"{module.name}.{name}"
    assert seen > 300
