"""Which errors end a task for good."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24 import exceptions
from airflow_provider_bitrix24.failures import fail_if_final

if TYPE_CHECKING:
    from airflow_provider_bitrix24.exceptions import Bitrix24Error

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
    exceptions.PaymentAmbiguous("ambiguous", (1, 2)),
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
    assert str(error) in str(caught.value)
    if expected is AirflowFailException:
        assert str(caught.value).startswith(f"{type(error).__name__}: ")
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_final_error_that_the_caller_deals_with_passes() -> None:
    error = exceptions.PaymentAmbiguous("ambiguous", (1, 2))
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
