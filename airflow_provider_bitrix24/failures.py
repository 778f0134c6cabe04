"""Final errors end a task for good; everything else is left to Airflow's retries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_bitrix24.exceptions import Bitrix24Error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


def fail_if_final(
    work: Callable[[], T], *, spare: tuple[type[Bitrix24Error], ...] = (), changes_nothing: bool = False
) -> T:
    """Run a function; turn an error that no retry can fix into one that Airflow does not retry.

    :param work: what to do, without arguments.
    :param spare: final errors that the caller deals with itself.
    :param changes_nothing: whether the task only reads, so that its errors can say that it has changed nothing.
    :return: what the work returns.
    :raises AirflowFailException: a :class:`Bitrix24Error` that is final, as :func:`failure_of` makes it. It has no
        cause and no context, so that a log shows one error.
    :raises Bitrix24Error: one that is worth an ordinary retry, or is spared, unchanged.
    """
    try:
        return work()
    except spare:
        raise
    except Bitrix24Error as error:
        if changes_nothing:
            error.sent = "no"
        if not error.final:
            raise
        failure = failure_of(error)
    # Raised outside the handler, so that Python does not chain the first error to it.
    raise failure


class TaskFailure(AirflowFailException):
    """The exception that ends a task without a retry; each instance also has the provider's own class and fields."""

    kind: ClassVar[type[Bitrix24Error]]

    def __str__(self) -> str:
        return self.kind.__str__(cast("Bitrix24Error", self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _build_failure, (self.kind, self.args, self.__dict__)


def failure_of(error: Bitrix24Error) -> TaskFailure:
    """Return the error as one that ends a task without a retry: of the provider's class and of Airflow's."""
    return _build_failure(type(error), error.args, error.__dict__)


def _build_failure(kind: type[Bitrix24Error], arguments: tuple[Any, ...], fields: Mapping[str, Any]) -> TaskFailure:
    failure = _class_for(kind)
    built = failure.__new__(failure, *arguments)
    built.__dict__.update(fields)
    return built


_CLASSES: Final[dict[type[Bitrix24Error], type[TaskFailure]]] = {}


def _class_for(kind: type[Bitrix24Error]) -> type[TaskFailure]:
    """Return the class that combines both; logs show it by the name of the provider's own class."""
    if kind not in _CLASSES:
        own = {"kind": kind, "__doc__": kind.__doc__, "__module__": kind.__module__}
        _CLASSES[kind] = type(kind.__name__, (TaskFailure, kind), own)
    return _CLASSES[kind]
