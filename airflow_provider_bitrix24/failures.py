"""Final errors end a task for good; everything else is left to Airflow's retries."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24.exceptions import Bitrix24Error

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def fail_if_final(work: Callable[[], T], *, spare: tuple[type[Bitrix24Error], ...] = ()) -> T:
    """Do the work; turn an error that no retry can mend into :class:`AirflowFailException`.

    :param work: what to do, without arguments.
    :param spare: final errors that the caller deals with itself.
    :return: what the work returns.
    :raises AirflowFailException: a :class:`Bitrix24Error` that is final. It carries the class and the words of the
        error and nothing else: no cause and no context, so that a log shows one error.
    :raises Bitrix24Error: one that is worth an ordinary retry, or is spared, unchanged.
    """
    try:
        return work()
    except spare:
        raise
    except Bitrix24Error as error:
        if not error.final:
            raise
        failure = AirflowFailException(f"{type(error).__name__}: {error}")
    # Raised outside the handler, so that Python does not chain the first error to it.
    raise failure
