"""Where the tokens of an OAuth application live between tasks: what every store can do, and the Airflow Variable.

A Connection cannot be written by a task, a Variable can: Airflow encrypts it, and its name makes Airflow star it out.
What it cannot do is to lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, Self

from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError, Bitrix24StoreError
from airflow_provider_bitrix24.hooks.token_cipher import TokenCipher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from airflow_provider_bitrix24.api.tokens import Tokens

_LONGEST_KEY: Final = 200
_DESCRIPTION: Final = "OAuth tokens of a Bitrix24 application, kept by airflow-provider-bitrix24. Do not edit."
_NOT_WRITTEN: Final = "what was written cannot be read back"
"""Before 3.3, Airflow only logs that it could not write a Variable: what counts is what is read afterwards."""


@dataclass(frozen=True, slots=True)
class Note:
    """Written before a refresh: who has begun to change which pair, and when."""

    mark: str
    """Of the pair; see `Tokens.mark`."""
    since: float
    """Seconds since the epoch."""
    by: str

    @classmethod
    def now(cls, tokens: Tokens) -> Self:
        """Return the note for this process."""
        return cls(tokens.mark, time.time(), f"{socket.gethostname()} (process {os.getpid()})")


class Held(Protocol):
    """The store while nobody else refreshes, as far as it can lock."""

    def read(self) -> Tokens | None:
        """Return the pair that is stored now."""

    def save(self, tokens: Tokens) -> None:
        """Put a pair in the place of the one that was there."""


class TokenStore(Protocol):
    """One portal's and client's tokens. All methods block, and raise `Bitrix24StoreError` if the store is away."""

    locks: ClassVar[bool]
    """Whether `exclusive` keeps other processes out."""
    reliable: ClassVar[bool]
    """Whether "there is nothing" is certain, and not perhaps "could not be read"."""
    place: str
    """What messages call it."""

    def read(self) -> Tokens | None:
        """Return the pair that is stored, without any lock."""

    def note(self, tokens: Tokens) -> Note | None:
        """Write down, before a refresh, that it begins.

        :return: the note of an earlier refresh of the same pair, which did not come to its end.
        """

    def exclusive(self) -> AbstractContextManager[Held]:
        """Hold the store while refreshing; what was saved is certain when this ends without an error."""


class VariableTokenStore:
    """An Airflow Variable, ``bitrix24_token_PORTAL_CLIENT``; notes go into a second one, so as not to undo a pair.

    The tokens in it are encrypted by us too: at the level DEBUG, Airflow logs the values that a task writes.

    :param portal: the portal's name.
    :param client_id: of the application.
    :param key: secret that the tokens are encrypted with.
    """

    locks: ClassVar[bool] = False
    reliable: ClassVar[bool] = False

    def __init__(self, portal: str, client_id: str, key: str) -> None:
        self._cipher = TokenCipher(key, salt=f"{portal} {client_id}")
        name = f"bitrix24_token_{portal}_{client_id}"
        if len(name) > _LONGEST_KEY:
            name = f"bitrix24_token_{hashlib.sha256(name.encode()).hexdigest()}"
        self.key = name
        self.place = f"the Airflow Variable {name!r}"

    def read(self) -> Tokens | None:
        """Return the pair that is stored; None also if Airflow could not be asked, which looks the same."""
        text = self._guarded(lambda: _get(self.key))
        return None if text is None else self._parsed(text)

    def note(self, tokens: Tokens) -> Note | None:
        """Write down that a refresh begins, unless an earlier one of the same pair did not end."""
        text = self._guarded(lambda: _get(f"{self.key}_refresh"))
        earlier = _note(text)
        if earlier is not None and earlier.mark == tokens.mark:
            return earlier
        self._guarded(lambda: _set(f"{self.key}_refresh", json.dumps(asdict(Note.now(tokens)))))
        written = _note(self._guarded(lambda: _get(f"{self.key}_refresh")))
        if written is None or written.mark != tokens.mark:  # of two tasks at once, either's note will do
            raise Bitrix24StoreError(self.place, _NOT_WRITTEN)
        return None

    @contextmanager
    def exclusive(self) -> Iterator[Held]:
        """Hold nothing: other processes go on."""
        yield self

    def save(self, tokens: Tokens) -> None:
        """Store a pair, and see that this is what will be read."""
        text = self._cipher.encrypt(tokens)
        self._guarded(lambda: _set(self.key, text))
        found = self._guarded(lambda: _get(self.key))
        if found is None:
            raise Bitrix24StoreError(self.place, _NOT_WRITTEN)
        if found != text:
            raise Bitrix24StoreError(
                self.place,
                "what is read is not what was written: Airflow could not write it (the log says why), or it is also "
                "defined in a secrets backend or an environment variable. Remove it there",
            )

    def _parsed(self, text: str) -> Tokens:
        try:
            return self._cipher.decrypt(text)
        except ValueError:
            pass
        raise Bitrix24ConfigError(
            f"{self.place[:1].upper()}{self.place[1:]} cannot be read with this connection's token_key (or, without "
            "one, its client secret).",
            "Give it the one the tokens were stored with, or delete the Variable and sign in again.",
            NOT_SENT,
        )

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """Do it; Airflow's errors may hold values, so only their kind gets out."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - Airflow has many
            trouble = type(error).__name__
        raise Bitrix24StoreError(self.place, trouble)


def _note(text: str | None) -> Note | None:
    try:
        return None if text is None else Note(**json.loads(text))
    except (ValueError, TypeError):
        return None


def _variable() -> Any:
    """Airflow's Variable: of the SDK in tasks and triggers, else, in commands and the API server, the database's."""
    if getattr(sys.modules.get("airflow.sdk.execution_time.task_runner"), "SUPERVISOR_COMMS", None) is not None:
        from airflow.sdk import Variable

        return Variable
    from airflow.models import Variable as Stored

    return Stored


def _get(key: str) -> str | None:
    variable = _variable()
    default = {"default": None} if variable.__module__.startswith("airflow.sdk") else {"default_var": None}
    text: str | None = variable.get(key, **default)
    return text


def _set(key: str, text: str) -> None:
    _variable().set(key, text, description=_DESCRIPTION)
