"""The one loop: a call is sent, its outcome judged by "did it run?", and either repeated, answered or raised.

Every flow here is a generator that a driver runs; see `effects`. There is no socket and no clock in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, assert_never

from airflow_provider_bitrix24 import __version__
from airflow_provider_bitrix24.api import batch as batches
from airflow_provider_bitrix24.api import filters, methods
from airflow_provider_bitrix24.api.address import same_host
from airflow_provider_bitrix24.api.envelope import ErrorReply, Redirect, Reply, UnusableReply, open_envelope
from airflow_provider_bitrix24.api.error_codes import to_exception
from airflow_provider_bitrix24.api.io import Effect, NotSent, Request, Response, Unknown
from airflow_provider_bitrix24.api.paging import Page, page_params, read_page, shape_of
from airflow_provider_bitrix24.api.retry import (
    TRIES,
    AttemptResult,
    RetryQuota,
    RetryReason,
    send_with_retries,
    wait_for_slot,
)
from airflow_provider_bitrix24.api.values import shown, whole
from airflow_provider_bitrix24.api.working_time import BATCH, UsageReport, WorkingTime
from airflow_provider_bitrix24.exceptions import (
    NOT_SENT,
    TOO_MUCH_TIME,
    Bitrix24ConfigError,
    Bitrix24Error,
    Bitrix24NoAnswer,
    Bitrix24NotSent,
    Bitrix24OutcomeUnknown,
    Bitrix24RateLimited,
    Bitrix24ServerError,
    Denial,
)

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.batch import BatchReply, Commands
    from airflow_provider_bitrix24.api.io import Flow, Outcome, SendDeadline
    from airflow_provider_bitrix24.api.settings import Settings

_METHOD = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_KEY_HEADER: Final = "Idempotency-Key"


class ApiClient:
    """One portal: its settings, and what is remembered between calls.

    :param settings: the portal.
    :param tries: how often one call may fail on the way before it gives up.
    :param paced: whether each request takes a slot of the portal's rate limit, for a driver that keeps them.
    """

    def __init__(self, settings: Settings, tries: int = TRIES, *, paced: bool = False) -> None:
        self.settings = settings
        self._tries = tries
        self._paced = paced
        self._quota = RetryQuota()
        self.working_time = WorkingTime(settings.working_time_limit)

    def reserve(self) -> Flow[float]:
        """Wait for the rate limit slot of a write, before its deadline is set and before its intent is saved.

        :return: the seconds waited; what was read before is as old as that.
        :raises Bitrix24RateLimited: there is none within ``rate_limit_wait``.
        """
        if not self._paced:
            return 0.0
        return (yield from wait_for_slot("The write", within=self.settings.rate_limit_wait))

    def out_of_time(self, method: str, now: float) -> Bitrix24RateLimited | None:
        """Return the error of a call that the portal would refuse for the working time of its method; None if it fits.

        :param now: our clock.
        """
        if self.working_time.fits((method,), now):
            return None
        wait = self.working_time.wait((method,), now)
        words = f"Not sent: the portal's working-time limit. {method}: {self.working_time.describe(method, now)}."
        return Bitrix24RateLimited(TOO_MUCH_TIME, 0, method, words, retry_after=wait)

    def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        effect: Effect,
        deadline: SendDeadline | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Flow[Reply]:
        """Call one REST method.

        :param method: name, such as ``crm.item.payment.get``.
        :param params: parameters; dates become ISO 8601, `Decimal` becomes text.
        :param effect: what executing it does; decides whether it may be repeated.
        :param deadline: until when a write may leave; `reserve` comes before it. With a deadline, it is sent once,
            whatever the outcome.
        :param headers: more HTTP headers.
        :raises Bitrix24Error: see `airflow_provider_bitrix24.exceptions`.
        """
        request = self._request(method, params or {}, effect, deadline, headers or {})
        # The code that set a deadline decides again before another try.
        result = yield from send_with_retries(
            request,
            lambda outcome: self._classify(request, outcome),
            longest_wait=0 if deadline else self.settings.rate_limit_wait,
            tries=1 if deadline else self._tries,
            quota=self._quota,
            paced=self._paced,
        )
        if result.error is not None:
            raise result.error
        if result.reply is None:
            raise AssertionError(f"{method} ended with neither a reply nor an error")
        return result.reply

    def batch(
        self,
        commands: Commands,
        *,
        halt: bool = False,
        effect: Effect = Effect.READ,
        deadline: SendDeadline | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Flow[BatchReply]:
        """Call up to 50 methods in one request; the portal runs them one after another.

        :param commands: key -> (method, parameters). A batch carries texts: True and False become ``"Y"`` and ``"N"``.
        :param halt: stop at the first error. Nothing that ran before is undone.
        :param effect: the strongest effect among the commands.
        :param deadline: until when a write may leave.
        :param headers: more HTTP headers.
        :raises Bitrix24ConfigError: too many commands, or a value that cannot travel in a batch.
        """
        plain = {key: (_known_method(method), _plain(params)) for key, (method, params) in commands.items()}
        encoded = batches.encode(plain, halt=halt)
        reply = yield from self.call(
            "batch", {"halt": int(halt), "cmd": encoded}, effect=effect, deadline=deadline, headers=headers
        )
        decoded = batches.decode(
            reply,
            plain,
            halt=halt,
            effect=effect,
            resets_at=self.working_time.resets_at,
            clock_offset=self.working_time.clock_offset,
            redact=self.settings.redact,
            who=self.settings.auth.kind,
        )
        if decoded is None:
            raise _no_response("batch", effect, "the result is not that of a batch")
        self.working_time.learn_batch([method for method, _ in plain.values()], decoded.working_time)
        return decoded

    def page(self, method: str, params: Mapping[str, Any] | None = None, *, after: int | None = None) -> Flow[Page]:
        """Read one page of a list method: the rows with the smallest ids after the given one, or those after an offset.

        :param method: a list method; one without a row in the registry is read by the offset that its reply names, and
            its call is repeated only if its name says that it reads.
        :param params: parameters without start, and without order where the method is read by id.
        :param after: id, or offset, to go on after.
        :return: up to 50 rows and where to go on; all rows where the method has no pages.
        :raises Bitrix24NoAnswer: among others if a row does not satisfy the filter.
        """
        shape = shape_of(method)
        asked = page_params(shape, params or {}, after)
        reply = yield from self.call(method, asked, effect=methods.effect_of(method))
        page = read_page(method, shape, reply, after)
        filters.check_rows(method, asked, page.rows)
        return page

    def _request(
        self,
        method: str,
        params: Mapping[str, Any],
        effect: Effect,
        deadline: SendDeadline | None,
        headers: Mapping[str, str],
    ) -> Request:
        for name, value in headers.items():
            if not (value.isascii() and value.isprintable() and 0 < len(value) <= 255):
                raise Bitrix24ConfigError(f"The header {name} must be 1 to 255 printable ASCII characters.")
        return Request(
            url=self.settings.url(_known_method(method)),
            method=method,
            params=_plain(params),
            effect=effect,
            headers={
                "Accept": "application/json",
                "Content-Type": "application/json",
                "User-Agent": f"airflow-provider-bitrix24/{__version__}",
                **headers,
            },
            connect_timeout=self.settings.connect_timeout,
            read_timeout=self.settings.read_timeout,
            max_bytes=self.settings.max_response_bytes,
            not_after=deadline,
        )

    def _classify(self, request: Request, outcome: Outcome) -> AttemptResult:
        """What an outcome means: the retry table."""
        if isinstance(outcome, NotSent):
            obstacle = self.settings.redact(outcome.reason)
            error = Bitrix24NotSent(
                request.method,
                obstacle,
                outcome.deadline_passed,
                "" if outcome.deadline_passed else self.settings.place,
                outcome.tls,
            )
            return AttemptResult(error=error, retry=None if outcome.deadline_passed else RetryReason.TROUBLE)
        if isinstance(outcome, Unknown):
            return self._lost(request, outcome.reason)
        if isinstance(outcome, Response):
            return self._classify_response(request, outcome)
        assert_never(outcome)

    def _classify_response(self, request: Request, response: Response) -> AttemptResult:
        reply = open_envelope(response, self.settings.redact)
        if isinstance(reply, Reply):
            self._learn(request, reply)
            return AttemptResult(reply)
        if isinstance(reply, ErrorReply):
            return self._refused(request, reply)
        if isinstance(reply, Redirect):
            return AttemptResult(error=self._moved(request, reply))
        if isinstance(reply, UnusableReply):
            return self._lost(request, f"{reply.reason}{self._no_rest(reply)}")
        assert_never(reply)

    def _learn(self, request: Request, reply: Reply) -> None:
        """Learn how long the method has worked."""
        if reply.at is not None:
            self.working_time.known_clock_offset = reply.at.timestamp() - reply.received
        if reply.operating is None and reply.operating_reset_at is None:
            return
        self.working_time.learn(
            UsageReport(
                method=request.method,
                at=reply.received + self.working_time.clock_offset,
                operating=reply.operating,
                resets_at=reply.operating_reset_at,
                took=0.0 if request.method == BATCH else reply.duration,
            )
        )

    def _refused(self, request: Request, refusal: ErrorReply) -> AttemptResult:
        resets_at = self.working_time.resets_at(request.method)
        error = to_exception(refusal, request.method, request.effect, resets_at, who=self.settings.auth.kind)
        if isinstance(error, Bitrix24RateLimited) and not error.is_time_limit:
            return AttemptResult(error=error, retry=RetryReason.BUSY, retry_after=refusal.retry_after)
        if isinstance(error, Bitrix24RateLimited) and refusal.now is not None:
            self.working_time.learn(UsageReport(method=request.method, at=refusal.now, refused=True))
        trouble = isinstance(error, Bitrix24ServerError) and request.effect is Effect.READ
        return AttemptResult(error=error, retry=RetryReason.TROUBLE if trouble else None)

    def _lost(self, request: Request, reason: str) -> AttemptResult:
        """No usable response: a read is repeated, a write never."""
        error = _no_response(request.method, request.effect, self.settings.redact(reason))
        return AttemptResult(error=error, retry=RetryReason.TROUBLE if request.effect is Effect.READ else None)

    def _no_rest(self, garbled: UnusableReply) -> str:
        """Say what to check if a web page came instead of a REST response."""
        if not garbled.page:
            return ""
        return (
            f": is {self.settings.place} the address of the portal? Check host and port, and what stands before the "
            "portal (a proxy, a firewall, a login page)"
        )

    def _moved(self, request: Request, moved: Redirect) -> Bitrix24Error:
        """Return the error for a redirect, which is never followed; after a write, its outcome is unknown."""
        target = "another path on the same host" if moved.relative else moved.host or "an address it did not name"
        if moved.relative:
            advice = (
                f"Bitrix24's REST has no call like that: {self.settings.origin} may be a web server, a proxy or a "
                "login page before the portal. Open the address in a browser, and correct host and port of the "
                "connection."
            )
        elif moved.host and same_host(moved.host, self.settings.host):
            advice = f"Check the schema (it points to {moved.scheme or 'the same'}) and the port of the connection."
        else:
            advice = (
                "If the portal was renamed, set the connection's host to the new name and its extra portal_id to "
                f"{self.settings.portal!r}, so that receipts and keys stay the same. If it was not, somebody "
                "redirects your portal."
            )
        happened = (
            f"{self.settings.address} responded with a redirect to {target}, which is not followed: the "
            f"{self.settings.auth.kind}'s secret would go there"
        )
        if request.effect is Effect.READ:  # rule: a redirect does not deny a write
            return Bitrix24ConfigError(f"{happened}.", Denial.NOT_EXECUTED, advice)
        return Bitrix24OutcomeUnknown(
            request.method, answered=False, text=f"HTTP {moved.status}: {happened}. {advice.rstrip('.')}"
        )


def _no_response(method: str, effect: Effect, reason: str) -> Bitrix24Error:
    """The error for a response that never came, by what was at stake."""
    if effect is Effect.READ:
        return Bitrix24NoAnswer(method, reason)
    return Bitrix24OutcomeUnknown(method, answered=False, text=reason)


def keyed(idempotency: str | None) -> dict[str, str]:
    """The header that carries a key; v2 of the portal's REST ignores it, REST 3.0 honours it."""
    return {} if idempotency is None else {_KEY_HEADER: idempotency}


def _known_method(method: str) -> str:
    """The method, if it can be one: it becomes part of the address."""
    if _METHOD.fullmatch(method) is None:
        raise Bitrix24ConfigError(f"{shown(method)} is no REST method such as crm.item.payment.get.", NOT_SENT)
    return method


def _plain(value: Any, name: str = "params") -> Any:
    """JSON values only, exactly: no float can say 10.10."""
    if value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    number = whole(value)
    if number is not None and abs(number) < 2**63:
        return number
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, f"{name}[{key}]") for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner, f"{name}[{index}]") for index, inner in enumerate(value)]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    if isinstance(value, float) and Decimal(value).is_finite():
        return value
    raise Bitrix24ConfigError(f"{name} cannot be sent to Bitrix24: {shown(value)}.", NOT_SENT)
