"""A flow whose requests carry an access token, and which pauses when the portal says that the token has expired.

The portal says so before the method runs, so the very same request goes out again, whatever it does; if its deadline
has passed meanwhile, the driver holds it back. Where tokens come from is not known here: the runner of the flow gets a
new one between two runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from airflow_provider_bitrix24.api.envelope import ErrorReply, open_envelope
from airflow_provider_bitrix24.api.io import Request, Response

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.io import Flow, Outcome, Slot
    from airflow_provider_bitrix24.exceptions import Bitrix24Error

T = TypeVar("T")
EXPIRED = "EXPIRED_TOKEN"


class Authorised(Generic[T]):
    """A flow on its way, run in stretches with one access token each.

    :param flow: what to do.
    """

    value: T
    """What the flow has returned."""

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self._waiting: Request | None = None

    @property
    def method(self) -> str:
        """The REST method that waits for a token."""
        return self._waiting.method if self._waiting else ""

    def stretch(
        self, access_token: str | None, *, last: bool = False, error: Bitrix24Error | None = None
    ) -> Flow[bool]:
        """Go on.

        :param access_token: for all requests of this stretch; None if there is none yet.
        :param last: whether the token was made for the waiting request, which therefore does not wait again.
        :param error: to be raised in the flow, in the place of sending what waits.
        :return: True when the flow has ended, False when it needs another access token.
        """
        try:
            if error is not None:
                command = self._flow.throw(error)
            elif self._waiting is not None:
                command = self._waiting
            else:
                command = next(self._flow)
            while True:
                if not isinstance(command, Request):
                    command = self._flow.send((yield command))
                    continue
                self._waiting = command
                outcome = None if access_token is None else (yield _bearing(command, access_token))
                if outcome is None or (not last and has_expired(outcome)):
                    return False
                self._waiting, last = None, False
                command = self._flow.send(outcome)
        except StopIteration as end:
            self.value = end.value
            return True


def has_expired(outcome: Outcome | Slot) -> bool:
    """Tell whether the portal refused the token for its age; nothing was executed then."""
    if not isinstance(outcome, Response) or EXPIRED.encode() not in outcome.body.upper():
        return False
    reply = open_envelope(outcome, str)
    return isinstance(reply, ErrorReply) and reply.code.upper() == EXPIRED


def _bearing(request: Request, access_token: str) -> Request:
    return replace(request, headers={**request.headers, "Authorization": f"Bearer {access_token}"})
