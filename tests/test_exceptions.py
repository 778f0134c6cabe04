"""The exception tree: every class says whether to retry, survives pickling, and speaks to a person."""

from __future__ import annotations

import ast
import copy
import datetime
import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_bitrix24 import exceptions
from airflow_provider_bitrix24.exceptions import (
    NOT_SENT,
    Bitrix24ApiError,
    Bitrix24Error,
    Bitrix24NoAnswer,
    Bitrix24NotSent,
    Bitrix24OutcomeUnknown,
    Bitrix24PermissionError,
    Bitrix24RateLimited,
    Bitrix24StoreError,
    Denial,
    PaymentAmbiguous,
    PaymentRefused,
)

pytestmark = pytest.mark.libraries

CLASSES = [value for value in vars(exceptions).values() if inspect.isclass(value) and issubclass(value, Bitrix24Error)]
RETRIED = {
    "Bitrix24ConnectionNotFound",
    "Bitrix24NotSent",
    "Bitrix24NoAnswer",
    "Bitrix24RateLimited",
    "Bitrix24ServerError",
    "PaymentListUnfinished",
    "PaymentNotStarted",
    "Bitrix24StoreError",
    "Bitrix24TokenError",
    "PaymentInProgress",
    "PaymentUnresolved",
}
NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)


def make(kind: type[Bitrix24Error]) -> Bitrix24Error:
    special: dict[type, tuple[Any, ...]] = {
        Bitrix24NotSent: ("crm.deal.get", "connection refused", True),
        Bitrix24NoAnswer: ("crm.deal.get", "reset"),
        Bitrix24OutcomeUnknown: ("crm.deal.add", True, "0", "words", "what to do"),
        Bitrix24PermissionError: ("insufficient_scope", 401, "crm.deal.get", "words", ("crm",)),
        Bitrix24RateLimited: ("OPERATION_TIME_LIMIT", 429, "crm.deal.get", "words", 90.0, NOON),
        Bitrix24StoreError: ("the database", "it is away"),
        PaymentAmbiguous: ("Which one?", "Look."),
    }
    if kind in special:
        return kind(*special[kind])
    return kind("0", 400, "crm.deal.get", "words") if issubclass(kind, Bitrix24ApiError) else kind("what to do")


@pytest.mark.parametrize("kind", CLASSES)
def test_pickled_and_copied_they_stay_the_same(kind: type[Bitrix24Error]) -> None:
    error = make(kind)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert (twin.args, vars(twin), str(twin)) == (error.args, vars(error), str(error))


@pytest.mark.parametrize("kind", CLASSES)
def test_each_says_whether_airflow_may_retry(kind: type[Bitrix24Error]) -> None:
    assert kind.final is (kind.__name__ not in RETRIED)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_tree_in_the_docstring_is_complete(kind: type[Bitrix24Error]) -> None:
    (line,) = [line for line in exceptions.__doc__.splitlines() if f" {kind.__name__} " in f" {line.lstrip('│├└─ ')} "]
    if kind is not Bitrix24Error:
        assert line.endswith("final" if kind.final else "retry")


def test_what_a_person_reads() -> None:
    assert str(make(Bitrix24NotSent)) == (
        "crm.deal.get was not sent to Bitrix24 (connection refused). This call changed nothing on the portal."
    )
    assert str(Bitrix24OutcomeUnknown("crm.deal.add", False, None, "reset")) == (
        "Bitrix24 gave no usable response to crm.deal.add (reset). It may have been executed: look at the object on "
        "the portal before anything is sent again."
    )
    assert "responded unclearly to crm.deal.add (code 0, odd)" in str(
        Bitrix24OutcomeUnknown("crm.deal.add", True, "0", "odd")
    )
    assert "(no details)" in str(Bitrix24OutcomeUnknown("crm.deal.add"))
    assert str(make(Bitrix24OutcomeUnknown)) == "what to do"
    assert str(make(PaymentAmbiguous)) == "Which one? Look."
    assert "It only reads, so nothing was changed." in str(make(Bitrix24NoAnswer))
    assert str(Bitrix24ApiError("", 400, "crm.deal.get", "No.")) == (
        "Bitrix24 refused crm.deal.get (code '', HTTP 400): No."
    )
    assert "Come back in 90 s." in str(make(Bitrix24RateLimited))
    assert "an Airflow pool" in str(Bitrix24RateLimited("x", 503, "crm.deal.get"))
    assert "lacks the scope crm" in str(make(Bitrix24PermissionError))
    assert "may lack the right" in str(Bitrix24PermissionError("ACCESS_DENIED", 403, "crm.deal.get"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (make(Bitrix24NotSent), "connection refused"),
        (Bitrix24NotSent("crm.deal.get", "connection refused"), "no connection: connection refused"),
        (make(Bitrix24NoAnswer), "crm.deal.get: no usable response, reset"),
        (make(Bitrix24OutcomeUnknown), "Bitrix24 responded unclearly to crm.deal.add (code 0, words)"),
        (
            Bitrix24RateLimited("QUERY_LIMIT_EXCEEDED", 503, "m", "Too many requests"),
            "m: QUERY_LIMIT_EXCEEDED Too many requests",
        ),
        (Bitrix24ApiError("", 400, "m", "No. Not here."), "m: no code No. Not here"),
        (
            exceptions.Bitrix24ConfigError(
                "acme.bitrix24.com responded with a redirect.", Denial.NOT_EXECUTED, "Check it."
            ),
            "acme.bitrix24.com responded with a redirect",
        ),
    ],
)
def test_the_reason_holds_no_verdict_and_no_advice(error: Bitrix24Error, reason: str) -> None:
    assert error.reason == reason


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_a_reason_without_a_full_stop(kind: type[Bitrix24Error]) -> None:
    reason = make(kind).reason
    assert reason
    assert not reason.endswith(".")


def test_a_later_attempt_denies_only_what_it_has_sent_itself() -> None:
    error = PaymentRefused("Invoice 2 is cancelled.", NOT_SENT, "Open it.")
    assert str(error) == "Invoice 2 is cancelled. Nothing was sent. Open it."
    assert str(error.after("Try 1 sent it.")) == (
        "Invoice 2 is cancelled. Nothing was sent by this attempt. Try 1 sent it. Open it."
    )
    assert str(error.after("", sent=True)) == "Invoice 2 is cancelled. Nothing more was sent. Open it."
    told = error.after("Try 1 sent it.")
    assert str(told.after("And so did try 2.")) == str(told)
    assert (error.reason, error.explanation) == ("Invoice 2 is cancelled", "Invoice 2 is cancelled. Open it.")
    assert str(PaymentRefused("It is off.", Denial.NOT_BEGUN).after("Try 1 sent it.")) == (
        "It is off. This attempt read and sent nothing. Try 1 sent it."
    )


def test_a_database_in_trouble_says_first_what_is_known_of_the_portal() -> None:
    error = Bitrix24StoreError("the database", "it is away")
    assert (
        str(error.after("The portal answered.")) == "The portal answered. The database cannot be used now: it is away."
    )
    switch = Bitrix24StoreError("the Variable", "it is away", NOT_SENT, "The next attempt looks again.")
    assert str(switch.after("Try 1 sent it.")) == (
        "The Variable cannot be used now: it is away. Nothing was sent by this attempt. Try 1 sent it. "
        "The next attempt looks again."
    )


def test_no_message_denies_a_send_in_its_text() -> None:
    """A denial is a part of its own, so that the error of a later attempt can say it otherwise."""
    package = Path(exceptions.__file__).parent
    files = [file for file in package.rglob("*.py") if "sandbox" not in file.parts and file.name != "exceptions.py"]
    texts = {
        f"{file.relative_to(package)}:{node.lineno}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant | ast.JoinedStr)
        for denial in Denial
        if denial.value in ast.unparse(node)
    }
    assert files
    assert not texts
