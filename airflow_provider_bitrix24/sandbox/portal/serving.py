"""One request from the front door to the reply: limits, rights, the trouble that strikes it, its line in the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox.faults import TOKEN_METHOD
from airflow_provider_bitrix24.sandbox.portal import fault_effects
from airflow_provider_bitrix24.sandbox.portal.access import Access, Auth, by_token, by_webhook
from airflow_provider_bitrix24.sandbox.portal.batch import run_batch
from airflow_provider_bitrix24.sandbox.portal.envelope import (
    Cut,
    PortalReply,
    RestError,
    auth_error,
    json_reply,
    time_block,
)
from airflow_provider_bitrix24.sandbox.portal.model import State, User
from airflow_provider_bitrix24.sandbox.portal.oauth import lured
from airflow_provider_bitrix24.sandbox.portal.registry import METHODS, Call, Listing, Method

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from airflow_provider_bitrix24.sandbox.faults import Fault, Pause
    from airflow_provider_bitrix24.sandbox.portal.core import Portal


#: What an unknown token may be answered with instead of ``invalid_token``.
_UNKNOWN_TOKEN = {
    "NO_AUTH_FOUND": "Wrong authorization data",
    "expired_token": "The access token provided has expired.",
}


_log = logging.getLogger(__name__)


@dataclass
class Request:
    """One HTTP request while it is served."""

    auth: Auth
    idempotency_key: str | None = None
    token: str | None = field(default=None, repr=False)
    user: User = field(default_factory=lambda: User(0))
    access: Access = field(default_factory=lambda: Access(0, (), ""))
    process: dict[str, Any] = field(default_factory=dict)
    after: list[Fault] = field(default_factory=list)
    scratch: State | None = None
    command: str | None = None  # the name of the batch's command that runs now


class Serving:
    """Serves the requests of one portal, whose lock its caller holds."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.lags: list[tuple[float, State]] = []

    def rest(
        self, request: Request, method: str, params: dict[str, Any], entry: dict[str, Any]
    ) -> Generator[Pause, None, PortalReply]:
        """Serve a REST method."""
        return self._serve(request, entry, self._called(request, method, params, entry))

    def token(
        self, request: Request, params: dict[str, Any], url: str, entry: dict[str, Any]
    ) -> Generator[Pause, None, PortalReply]:
        """Serve the token endpoint."""
        return self._serve(request, entry, self._asked_for_tokens(request, params, url, entry))

    def _serve(
        self, request: Request, entry: dict[str, Any], run: Generator[Pause, None, dict[str, Any]]
    ) -> Generator[Pause, None, PortalReply]:
        try:
            body = yield from run
            reply = json_reply(200, body, self.portal.now)
        except Cut as cut:
            reply = cut.reply
        except RestError as error:
            entry["error"] = str(error.code)
            reply = json_reply(error.http_status(self.portal.dialect), error.body(self.portal.dialect), self.portal.now)
        except Exception:  # noqa: BLE001 - an error of the sandbox: logged, and told to the client as portals do it
            _log.exception("The sandbox failed at %s.", entry["method"])
            entry["error"] = "INTERNAL_SERVER_ERROR"
            body = {"error": entry["error"], "error_description": "Internal server error"}
            reply = json_reply(500, body, self.portal.now)
        for fault in request.after:
            reply = fault_effects.mangle(reply, fault, self.portal.now)
        entry |= {"status": reply.status, "transport": reply.transport}
        return reply

    def _called(
        self, request: Request, method: str, params: dict[str, Any], entry: dict[str, Any]
    ) -> Generator[Pause, None, dict[str, Any]]:
        if self.portal.bucket is not None and not self.portal.bucket.admit(request.auth.source_ip, self.portal.now):
            raise RestError("QUERY_LIMIT_EXCEEDED", "Too many requests", 503)
        self._authenticate(request)
        entry["user_id"] = request.user.id
        entry["token"] = request.access.pair.number if request.access.pair else None
        return (yield from self.command(request, method, params, entry))

    def _authenticate(self, request: Request) -> None:
        if request.auth.user_id is not None and request.auth.secret:
            request.access = by_webhook(request.auth, self.portal.webhooks, require_https=self.portal.require_https)
        else:
            request.access = self._by_token(request)
        request.user = self.portal.state.users[request.access.user_id]
        if not self.portal.state.options["subscription"]:
            raise auth_error("ACCESS_DENIED", "REST is available only by subscription.")
        if not request.user.active:
            raise auth_error("authorization_error", "Unable to authorize user")

    def _by_token(self, request: Request) -> Access:
        try:
            return by_token(request.token, self.portal.oauth)
        except RestError as error:
            instead = self.portal.state.options["unknown_token_error"]
            if error.code == "invalid_token" and instead in _UNKNOWN_TOKEN:
                raise auth_error(instead, _UNKNOWN_TOKEN[instead]) from None
            raise

    def of_version_3(self, request: Request, entry: dict[str, Any]) -> PortalReply:
        """Refuse a request to an address of REST 3.0, which has no method of this portal, in its own shape."""
        try:
            self._authenticate(request)
            entry["user_id"] = request.user.id
            refusal = RestError("ERROR_METHOD_NOT_FOUND", "Method not found!", 404)
        except RestError as error:
            refusal = error
        status = refusal.http_status(self.portal.dialect)
        entry |= {"status": status, "error": str(refusal.code)}
        body = {"error": {"code": str(refusal.code), "message": refusal.text}}
        return json_reply(status, body, self.portal.now)

    def _asked_for_tokens(
        self, request: Request, params: dict[str, Any], url: str, entry: dict[str, Any]
    ) -> Generator[Pause, None, dict[str, Any]]:
        fired = self._fired(request, TOKEN_METHOD, entry)
        run = self._exchange(params, url, fired, entry["fault"])
        try:
            return (yield from fault_effects.around(fired, run, request.after, lambda: self.portal.now))
        except RestError as error:
            self.portal.oauth.refuse(params, error.code, entry["fault"])
            raise
        finally:
            self.portal.touch()

    def _exchange(
        self, params: dict[str, Any], url: str, fired: list[Fault], fault: str | None
    ) -> Generator[Pause, None, dict[str, Any]]:
        yield from ()  # nothing in it stands still
        if not self.portal.state.options["subscription"]:
            raise RestError("PAYMENT_REQUIRED", "Payment required")
        answer = self.portal.oauth.exchange(params, url, fault)
        for each in fired:
            if each.kind == "lure":
                answer = lured(answer, each.location)
        return answer

    def _fired(self, request: Request, name: str, entry: dict[str, Any]) -> list[Fault]:
        fired = [
            fault
            for fault in self.portal.faults.striking(name, inside_batch=entry["inside_batch"])
            if fault.kind != "close_idle" or request.auth.kept_alive
        ]
        entry["fault"] = ", ".join(fault.kind for fault in fired) or None
        return fired

    def command(
        self, request: Request, name: str, params: dict[str, Any], entry: dict[str, Any]
    ) -> Generator[Pause, None, dict[str, Any]]:
        """One method, alone or inside a batch, with the trouble that strikes it; returns the envelope's parts."""
        fired = self._fired(request, name, entry)
        if request.access.pair is not None and any(fault.kind == "expired_token" for fault in fired):
            self.portal.oauth.expire(pair=request.access.pair)  # it stays expired: only a refresh helps
        run = self._execute(request, name, params, fired)
        return (yield from fault_effects.around(fired, run, request.after, lambda: self.portal.now))

    def _execute(
        self, request: Request, name: str, params: dict[str, Any], fired: list[Fault]
    ) -> Generator[Pause, None, dict[str, Any]]:
        started = self.portal.now
        method = self._admit(request, name)
        state, scratch = self._state_for(request, method, fired)
        operating = None
        if method.writes:
            self.portal.touch()
        billed, caller = self._billed(request, method), request.access.account
        own = billed == method.name  # a command that is billed to its batch was let in with it
        if own and self.portal.operating.blocked(method.name, caller, started):
            raise RestError("OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.", 429)
        if method.name == "batch":
            outer, request.scratch = request.scratch, scratch or request.scratch
            try:
                answer: object = yield from run_batch(self, request, params)
            finally:
                request.scratch = outer
                self._keep_counters(scratch)
            if billed is not None:
                operating = self.portal.operating.charge(billed, caller, started)
        else:
            try:
                answer = method.invoke(self._call(request, method, params, state))
            finally:
                operating = self.portal.operating.charge(billed or method.name, caller, started, run=method.name)
                self._keep_counters(scratch)
        listing = answer if isinstance(answer, Listing) else Listing(answer)
        body = {"result": listing.result, "next": listing.next, "total": listing.total}
        body = {key: value for key, value in body.items() if key == "result" or value is not None}
        return body | {"time": time_block(started, self.portal.now, operating)}

    def _billed(self, request: Request, method: Method) -> str | None:
        """The method whose operating time a call costs; None: nobody's."""
        if self.portal.state.options["operating_billed_to"] == "methods":
            return None if method.name == "batch" else method.name
        return method.name if request.command is None else "batch"

    def _keep_counters(self, scratch: State | None) -> None:
        if scratch is not None:  # like a database's, ids that were rolled back are used up
            self.portal.state.counters = dict(scratch.counters)

    def _admit(self, request: Request, name: str) -> Method:
        method = METHODS.get(name.lower())
        if method is None:
            raise RestError("ERROR_METHOD_NOT_FOUND", "Method not found!", 404)
        if not method.open_to(request.access.scopes):
            raise auth_error(
                "insufficient_scope", "The request requires higher privileges than provided by the access token"
            )
        if method.application_only and request.access.pair is None:
            raise RestError("WRONG_AUTH_TYPE", "Current authorization type is denied for this method", 403)
        return method

    def _state_for(self, request: Request, method: Method, fired: list[Fault]) -> tuple[State, State | None]:
        """The state to run on; the second is set if it is a scratch copy whose changes are thrown away."""
        changes = method.writes or method.name == "batch"
        live = request.scratch or self.portal.state
        self.lags = [(until, old) for until, old in self.lags if until > self.portal.now]
        if not changes:
            return (self.lags[0][1] if self.lags else live), None
        for fault in fired:
            if fault.kind == "read_lag":
                self.lags.append((self.portal.now + (fault.seconds or 0.0), self.portal.state.copy()))
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
            request.access.scopes,
            self.portal.now,
            self.portal.dialect,
            self.portal.uniqid,
            request.process,
            request.idempotency_key,
            request.access.pair.client_id if request.access.pair else None,
            request.command,
        )

    def log_inside(self, request: Request, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Log a command of a batch."""
        entry = self.portal.log.add(method, params, request.user.id, inside_batch=True)
        entry["command"] = request.command
        return entry
