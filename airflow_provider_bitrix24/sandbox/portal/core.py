"""The portal itself: one request from the front door to the reply, with limits, rights, faults and the log."""

from __future__ import annotations

import secrets as random_secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox import seed as seeds
from airflow_provider_bitrix24.sandbox.clock import SystemClock
from airflow_provider_bitrix24.sandbox.faults import Faults
from airflow_provider_bitrix24.sandbox.portal import php, trouble
from airflow_provider_bitrix24.sandbox.portal.batch import run_batch
from airflow_provider_bitrix24.sandbox.portal.envelope import (
    Cut,
    Dialect,
    PortalReply,
    RestError,
    auth_error,
    json_reply,
    time_block,
)
from airflow_provider_bitrix24.sandbox.portal.limits import LeakyBucket, OperatingTime
from airflow_provider_bitrix24.sandbox.portal.model import State, User, Webhook
from airflow_provider_bitrix24.sandbox.portal.objects import create_object
from airflow_provider_bitrix24.sandbox.portal.parking import Parking
from airflow_provider_bitrix24.sandbox.portal.people import People, pay_what_is_due
from airflow_provider_bitrix24.sandbox.portal.registry import BASIC, METHODS, Call, Listing, Method
from airflow_provider_bitrix24.sandbox.portal.view import view_state

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from airflow_provider_bitrix24.sandbox.clock import Clock
    from airflow_provider_bitrix24.sandbox.faults import Fault, Pause

#: How many requests the log remembers.
KEPT_REQUESTS = 10_000
SCOPES = ("crm", "sale", "pay_system", "salescenter")


@dataclass(frozen=True)
class Auth:
    """Who knocks, and how: the webhook's two path parts, the source address, TLS or not, a reused connection or not."""

    user_id: int | str | None = None
    secret: str | None = field(default=None, repr=False)
    source_ip: str = "127.0.0.1"
    secure: bool = True
    kept_alive: bool = True


@dataclass
class Request:
    """One HTTP request while it is served."""

    auth: Auth
    idempotency_key: str | None
    user: User = field(default_factory=lambda: User(0))
    webhook: Webhook = field(default_factory=lambda: Webhook(0, ""))
    process: dict[str, Any] = field(default_factory=dict)
    after: list[Fault] = field(default_factory=list)
    scratch: State | None = None


class Portal:
    """A Bitrix24 portal in memory.

    ``rate_limit`` is ``(requests in the bucket, requests leaking per second)``, ``operating_limit`` the seconds of
    operating time per method and webhook in ten minutes, ``operating_costs`` what a call of a method costs there.
    ``customers_pay_after`` lets customers pay every new payment that has a sum, that many seconds after its creation.
    Every public method may be called from any thread.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        dialect: Dialect = "source",
        seed: bool = True,
        rate_limit: tuple[float, float] | None = None,
        operating_limit: float | None = None,
        operating_costs: Mapping[str, float] | None = None,
        scopes: Sequence[str] = SCOPES,
        secret: str | None = None,
        require_https: bool = False,
        customers_pay_after: float | None = None,
        random_seed: int = 0,
    ) -> None:
        if dialect not in ("source", "docs"):
            raise ValueError(f"dialect must be 'source' or 'docs', not {dialect!r}")
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.dialect: Dialect = dialect
        self.require_https = require_https
        self.customers_pay_after = customers_pay_after
        self.lock = threading.RLock()
        self.faults = Faults(random_seed)
        self._parking = Parking(self.lock, lambda: self.now)
        self.faults.resume = self._parking.resume
        self.bucket = LeakyBucket(*rate_limit) if rate_limit is not None else None
        costs = {name.lower(): cost for name, cost in (operating_costs or {}).items()}
        self.operating = OperatingTime(operating_limit, costs)
        self.act = People(self)
        self.requests: list[dict[str, Any]] = []
        self.revision = 0
        self._seed = seed
        self._lags: list[tuple[float, State]] = []
        self._last_uniqid = 0
        self._webhooks: list[Webhook] = []
        self.reset(scopes=scopes, secret=secret)

    # -- the face -----------------------------------------------------------------------------------------------------

    def handle(
        self, method: str, params: Mapping[str, Any], *, auth: Auth, headers: Mapping[str, str] | None = None
    ) -> PortalReply:
        """Serve one request. ``params`` are parsed (JSON body or PHP-style form); ``headers`` those of the request."""
        with self.lock:
            self.tick()
            lowered = {name.lower(): value for name, value in (headers or {}).items()}
            request = Request(auth, lowered.get("idempotency-key"))
            entry = self._log(method, params, auth.user_id, inside_batch=False)
            return self._parking.drive(self._serve(request, method, dict(params), entry))

    def tick(self) -> None:
        """Do what has become due: held and delayed requests go on, customers pay."""
        with self.lock:
            self._parking.resume_what_is_due()
            if self.customers_pay_after is not None:
                pay_what_is_due(self, self.customers_pay_after, since=self._started)

    def add_webhook(self, user_id: int = 1, scopes: Sequence[str] = SCOPES, secret: str | None = None) -> Webhook:
        """A new incoming webhook of this user."""
        with self.lock:
            if user_id not in self.state.users:
                raise ValueError(f"no user {user_id}")
            webhook = Webhook(user_id, secret or random_secrets.token_hex(8), list(scopes))
            self._webhooks.append(webhook)
            self.touch()
            return webhook

    def create(self, kind: str, fields: Mapping[str, Any]) -> int | Webhook:
        """An object made behind the scenes; returns its id (or the webhook)."""
        with self.lock:
            if kind == "webhook":
                return self.add_webhook(**dict(fields))
            number = create_object(self.state, kind, dict(fields), self.now)
            self.touch()
            return number

    def reset(self, *, scopes: Sequence[str] | None = None, secret: str | None = None) -> None:
        """Back to the beginning: fresh state, no faults, empty log; the first webhook stays the same."""
        with self.lock:
            first = self._webhooks[0] if self._webhooks else Webhook(1, secret or random_secrets.token_hex(8))
            if scopes is not None:
                first.scopes = list(scopes)
            self.faults.clear()
            self.state = State()
            self._lags.clear()
            self.requests.clear()
            self._webhooks = [first]
            self._started = self.now
            seeds.plant(self.state, self.now, objects=self._seed)
            self.touch()

    def dump(self) -> dict[str, Any]:
        """The whole state as JSON-able data: books, ledger, webhooks (with secrets) and the request log."""
        with self.lock:
            hooks = [{"user_id": w.user_id, "secret": w.secret, "scopes": list(w.scopes)} for w in self._webhooks]
            return {
                "version": 1,
                "state": self.state.dump(),
                "webhooks": hooks,
                "requests": [dict(entry) for entry in self.requests],
            }

    def load(self, data: Mapping[str, Any]) -> None:
        """Become what ``dump`` has written. Faults and parked requests are not part of it."""
        with self.lock:
            if data.get("version") != 1:
                raise ValueError(f"this is no dump of a sandbox portal: version {data.get('version')!r}")
            self.state = State.load(data["state"])
            self._webhooks = [Webhook(**hook) for hook in data["webhooks"]]
            self.requests = [dict(entry) for entry in data["requests"]]
            self.touch()

    def view(self) -> dict[str, Any]:
        """What is on the books, for people: no secrets."""
        with self.lock:
            return view_state(self.state)

    @property
    def now(self) -> float:
        """The portal's time, epoch seconds."""
        return self.clock.time()

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """The ground truth: every effective change, in order."""
        return self.state.ledger

    @property
    def webhook(self) -> Webhook:
        """The first webhook, made with the portal."""
        return self._webhooks[0]

    @property
    def webhooks(self) -> tuple[Webhook, ...]:
        """All webhooks."""
        return tuple(self._webhooks)

    def touch(self) -> None:
        """Say that something may have changed (``revision`` counts it)."""
        self.revision += 1

    # -- one request --------------------------------------------------------------------------------------------------

    def _serve(
        self, request: Request, method: str, params: dict[str, Any], entry: dict[str, Any]
    ) -> Generator[Pause, None, PortalReply]:
        try:
            self._limit(request)
            self._authenticate(request)
            entry["user_id"] = request.user.id
            body = yield from self.command(request, method, params, entry)
            reply = json_reply(200, body, self.now)
        except Cut as cut:
            reply = cut.reply
        except RestError as error:
            entry["error"] = str(error.code)
            reply = json_reply(error.http_status(self.dialect), error.body(self.dialect), self.now)
        for fault in request.after:
            reply = trouble.mangle(reply, fault, self.now)
        entry |= {"status": reply.status, "transport": reply.transport}
        return reply

    def _limit(self, request: Request) -> None:
        if self.bucket is not None and not self.bucket.admit(request.auth.source_ip, self.now):
            raise RestError("QUERY_LIMIT_EXCEEDED", "Too many requests", 503)

    def _authenticate(self, request: Request) -> None:
        auth = request.auth
        if self.require_https and not auth.secure:
            raise auth_error("INVALID_REQUEST", "Https required.")
        if auth.user_id is None or not auth.secret:
            raise auth_error("NO_AUTH_FOUND", "Wrong authorization data")
        for webhook in self._webhooks:
            if str(webhook.user_id) == str(auth.user_id) and random_secrets.compare_digest(
                webhook.secret.encode(), auth.secret.encode()
            ):
                request.webhook, request.user = webhook, self.state.users[webhook.user_id]
                break
        else:
            raise auth_error("INVALID_CREDENTIALS", "Invalid request credentials")
        if not self.state.options["subscription"]:
            raise auth_error("ACCESS_DENIED", "REST is available only by subscription.")
        if not request.user.active:
            raise auth_error("authorization_error", "Unable to authorize user")

    def command(
        self, request: Request, name: str, params: dict[str, Any], entry: dict[str, Any]
    ) -> Generator[Pause, None, dict[str, Any]]:
        """One method, alone or inside a batch, with the trouble that strikes it; returns the envelope's parts."""
        fired = [
            fault
            for fault in self.faults.striking(name, inside_batch=entry["inside_batch"])
            if fault.kind != "close_idle" or request.auth.kept_alive
        ]
        entry["fault"] = ", ".join(fault.kind for fault in fired) or None
        trouble.refuse(fired, self.now)
        yield from trouble.pauses(fired, "before", self.now)
        failure: RestError | None = None
        body: dict[str, Any] = {}
        try:
            body = yield from self._execute(request, name, params, fired)
        except RestError as error:
            failure = error
        yield from trouble.pauses(fired, "after", self.now)
        trouble.fail_after(fired)
        request.after += [fault for fault in fired if trouble.strikes_reply(fault)]
        if failure is not None:
            failure.numeric = any(fault.kind == "numeric_code" for fault in fired)
            raise failure
        return trouble.retime(body, fired)

    def _execute(
        self, request: Request, name: str, params: dict[str, Any], fired: list[Fault]
    ) -> Generator[Pause, None, dict[str, Any]]:
        started = self.now
        method = self._admit(request, name)
        state, scratch = self._state_for(request, method, fired)
        operating = None
        if method.writes:
            self.touch()
        if method.name == "batch":
            outer, request.scratch = request.scratch, scratch or request.scratch
            try:
                answer: object = yield from run_batch(self, request, params)
            finally:
                request.scratch = outer
                self._keep_counters(scratch)
        else:
            caller = request.webhook.secret
            if self.operating.blocked(method.name, caller, started):
                raise RestError("OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.", 429)
            try:
                answer = method.invoke(self._call(request, method, params, state))
            finally:
                operating = self.operating.charge(method.name, caller, started)
                self._keep_counters(scratch)
        listing = answer if isinstance(answer, Listing) else Listing(answer)
        body = {"result": listing.result, "next": listing.next, "total": listing.total}
        body = {key: value for key, value in body.items() if key == "result" or value is not None}
        return body | {"time": time_block(started, self.now, operating)}

    def _keep_counters(self, scratch: State | None) -> None:
        if scratch is not None:  # like a database's, ids that were rolled back are used up
            self.state.counters = dict(scratch.counters)

    def _admit(self, request: Request, name: str) -> Method:
        method = METHODS.get(name.lower())
        if method is None:
            raise RestError("ERROR_METHOD_NOT_FOUND", "Method not found!", 404)
        if method.scope != BASIC and method.scope not in request.webhook.scopes:
            raise auth_error(
                "insufficient_scope", "The request requires higher privileges than provided by the access token"
            )
        if method.application_only:
            raise RestError("WRONG_AUTH_TYPE", "Current authorization type is denied for this method", 403)
        return method

    def _state_for(self, request: Request, method: Method, fired: list[Fault]) -> tuple[State, State | None]:
        """The state to run on; the second is set if it is a scratch copy whose changes are thrown away."""
        changes = method.writes or method.name == "batch"
        live = request.scratch or self.state
        self._lags = [(until, old) for until, old in self._lags if until > self.now]
        if not changes:
            return (self._lags[0][1] if self._lags else live), None
        for fault in fired:
            if fault.kind == "read_lag":
                self._lags.append((self.now + (fault.seconds or 0.0), self.state.copy()))
        if any(fault.kind == "true_not_applied" for fault in fired):
            scratch = live.copy()
            return scratch, scratch
        return live, None

    def _call(self, request: Request, method: Method, params: dict[str, Any], state: State) -> Call:
        return Call(
            method,
            params,
            state,
            state.users.get(request.user.id, request.user),
            tuple(request.webhook.scopes),
            self.now,
            self.dialect,
            self.uniqid,
            request.process,
            request.idempotency_key,
        )

    def uniqid(self) -> str:
        """PHP's uniqid by the portal's clock, never the same twice."""
        self._last_uniqid = max(self._last_uniqid + 1, int(self.now * 1_000_000))
        return php.uniqid(self._last_uniqid)

    # -- the log ------------------------------------------------------------------------------------------------------

    def _log(self, method: str, params: Mapping[str, Any], user_id: object, *, inside_batch: bool) -> dict[str, Any]:
        number = php.to_int(user_id) if user_id is not None else None
        entry: dict[str, Any] = {
            "at": php.iso(self.now),
            "method": method,
            "params": self._redacted(dict(params)),
            "user_id": number,
            "status": None,
            "error": None,
            "fault": None,
            "transport": None,
            "inside_batch": inside_batch,
        }
        self.requests.append(entry)
        del self.requests[:-KEPT_REQUESTS]
        return entry

    def log_inside(self, request: Request, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Log a command of a batch."""
        return self._log(method, params, request.user.id, inside_batch=True)

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, dict):
            hidden = ("auth", "access_token")
            return {key: "***" if key in hidden else self._redacted(below) for key, below in value.items()}
        if isinstance(value, list | tuple):
            return [self._redacted(below) for below in value]
        if isinstance(value, str):
            for webhook in self._webhooks:
                value = value.replace(webhook.secret, "***")
        return php.jsonable(value)
