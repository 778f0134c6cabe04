"""Which errors end a task for good."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_bitrix24 import exceptions
from airflow_provider_bitrix24.exceptions import Bitrix24Error
from airflow_provider_bitrix24.failures import fail_if_final
from airflow_provider_bitrix24.sandbox.faults import Fault
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer
from tests.tools.airflow_home import airflow_env
from tests.tools.connections import connection_to

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent

needs_callbacks = pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="dag.test() runs no callbacks before Airflow 3.3")

EXAMPLES: list[Bitrix24Error] = [
    exceptions.Bitrix24ConfigError("wrong"),
    exceptions.Bitrix24NotSent("crm.deal.get", "refused"),
    exceptions.Bitrix24NoAnswer("crm.deal.get", "silence"),
    exceptions.Bitrix24OutcomeUnknown("crm.item.payment.add"),
    *(
        kind("0", 400, "crm.deal.get", "words")
        for kind in (
            exceptions.Bitrix24ApiError,
            exceptions.Bitrix24AuthError,
            exceptions.Bitrix24PermissionError,
            exceptions.Bitrix24NotFound,
            exceptions.Bitrix24InvalidRequest,
            exceptions.Bitrix24RateLimited,
            exceptions.Bitrix24Overloaded,
            exceptions.Bitrix24ServerError,
        )
    ),
    exceptions.Bitrix24StoreError("the database", "away"),
    exceptions.PaymentInProgress("busy"),
    exceptions.PaymentUnresolved("unreadable"),
    exceptions.PaymentRefused("refused"),
    exceptions.PaymentNotApplied("not applied"),
    exceptions.PaymentAmbiguous("ambiguous", candidates=(1, 2)),
    exceptions.PaymentMismatch("mismatch"),
]
RETRIED = (
    "Bitrix24NotSent",
    "Bitrix24NoAnswer",
    "Bitrix24RateLimited",
    "Bitrix24ServerError",
    "Bitrix24StoreError",
    "PaymentInProgress",
    "PaymentUnresolved",
)


def raising(error: BaseException) -> Any:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_is_either_final_or_retried(error: Bitrix24Error) -> None:
    expected: Any = type(error) if type(error).__name__ in RETRIED else AirflowFailException
    with pytest.raises(expected) as caught:
        fail_if_final(raising(error))
    assert str(caught.value) == str(error)  # a log puts the class before it
    if expected is AirflowFailException:
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert isinstance(caught.value, type(error))
        assert (caught.value.args, vars(caught.value)) == (error.args, vars(error))
        assert (caught.value.code, caught.value.candidates) == (error.code, error.candidates)
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (type(copy), str(copy), vars(copy)) == (type(caught.value), str(caught.value), vars(error))
        assert type(copy).__name__ == type(error).__name__


def test_a_final_error_that_the_caller_deals_with_passes() -> None:
    error = exceptions.PaymentAmbiguous("ambiguous", candidates=(1, 2))
    with pytest.raises(exceptions.PaymentAmbiguous) as caught:
        fail_if_final(raising(error), spare=(exceptions.PaymentAmbiguous,))
    assert caught.value is error
    with pytest.raises(AirflowFailException):
        fail_if_final(raising(exceptions.PaymentMismatch("mismatch")), spare=(exceptions.PaymentAmbiguous,))


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_what_is_not_ours_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        fail_if_final(raising(error))
    assert caught.value is error


def test_a_result_passes() -> None:
    assert fail_if_final(lambda: 7) == 7


def test_every_class_has_a_code_of_its_own_that_the_docs_list() -> None:
    classes = [kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, Bitrix24Error)]
    codes = {kind.code: kind.__name__ for kind in classes}
    assert len(codes) == len(classes)
    page = (HERE.parents[1] / "docs" / "errors.md").read_text()
    assert [name for code, name in codes.items() if f"| `{code}` | `{name}` |" not in page] == []


# -- in a real Airflow


@pytest.fixture(scope="module")
def seen(new_airflow_home: Callable[[], Path], short_waits: dict[str, Any]) -> dict[str, Any]:
    """What the callback of each DAG saw, and under "printed" what Airflow logged."""
    home = new_airflow_home()
    portal = Portal()
    portal.faults.add(Fault(kind="drop_after", method="crm.item.payment.add"))
    with SandboxServer(portal) as server:
        env = airflow_env(home, HERE / "failing") | {
            "AIRFLOW_CONN_BITRIX24_DEFAULT": connection_to(server, short_waits),
            "SEEN": str(home),
        }
        command = [sys.executable, str(HERE / "run_dags.py"), *DAGS]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout + done.stderr
    found = {dag_id: json.loads((home / f"{dag_id}.json").read_text()) for dag_id in DAGS}
    return {**found, "printed": done.stdout + done.stderr}


DAGS = ["refused", "misspelled", "ambiguous"]


@pytest.mark.slow
@needs_callbacks
@pytest.mark.parametrize(
    ("dag_id", "kind", "code", "sent", "candidates"),
    [
        ("refused", "PaymentRefused", "payment.refused", "no", []),
        ("misspelled", "Bitrix24ConfigError", "config.invalid", "no", []),
        ("ambiguous", "PaymentAmbiguous", "payment.ambiguous", "unknown", [1033]),
    ],
)
def test_a_callback_is_given_our_error(
    seen: dict[str, Any], dag_id: str, kind: str, code: str, sent: str, candidates: list[int]
) -> None:
    error = seen[dag_id]
    assert error["classes"][0] == kind
    assert {"Bitrix24Error", "AirflowFailException"} <= set(error["classes"])
    assert (error["code"], error["sent"], error["candidates"]) == (code, sent, candidates)
    printed = seen["printed"].replace("\\'", "'")
    assert f"{kind}: {error['words']}" in printed
    assert f"{kind}: {kind}: " not in printed


@pytest.mark.slow
@needs_callbacks
def test_the_example_of_the_docs_tells_people(seen: dict[str, Any]) -> None:
    assert "Finance decides: which of the payments 1033 is that of pay?" in seen["printed"]
    assert "payment.refused (something was sent: no): " in seen["printed"]
