"""One request on its way to the portal and back, and what the portal is told to do to it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api.io import Effect, NotSent, Request, Response, Unknown
from airflow_provider_bitrix24.sandbox.faults import Fault
from tests.simulation.strikes import DEATHS, FREEZES, SLOWNESS, Broken, Killed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.world import Worker

HALF_WAY: Final = 0.1
"""Seconds from the worker to the portal, and back."""
LAG: Final = 1.5
"""How far reads are behind when they are: less than the term."""
_REFUSALS = ("QUERY_LIMIT_EXCEEDED", "OPERATION_TIME_LIMIT", "OVERLOAD_LIMIT", "EXPIRED_TOKEN")


def digest(key: str) -> str:
    """What the header of a write says of its key."""
    return hashlib.sha256(key.encode()).hexdigest()


class Wire:
    """One request on its way to the portal and back."""

    def __init__(self, worker: Worker, request: Request) -> None:
        self.worker, self.world, self.request = worker, worker.world, request

    @property
    def label(self) -> str:
        """What it is, for people."""
        params = self.request.params
        return f"{self.request.method} {list(params['cmd']) if 'cmd' in params else dict(params)}"

    @property
    def digest(self) -> str:
        """Whose write it is."""
        return self.request.headers.get("Idempotency-Key", "")

    @property
    def digests(self) -> list[str]:
        """Whose writes are in it."""
        return [self.digest] if self.digest else digests_in(self.request)

    def _executed(self, body: Any) -> list[tuple[str, str]]:
        """The writes that may have been executed: digest of the key, REST method."""
        if self.digest:
            return [(self.digest, self.request.method)]
        commands, result = self.request.params["cmd"], body.get("result") if isinstance(body, dict) else None
        result = result if isinstance(result, dict) else {}
        failed, done = result.get("result_error") or {}, result.get("result") or {}
        executed = []
        for name in digests_in(self.request):
            refused = name in failed and _error_of(failed[name]) in _REFUSALS
            # With halt, what comes after a command that failed is not mentioned.
            halted = bool(self.request.params.get("halt")) and bool(failed) and name not in failed and name not in done
            if not refused and not halted:
                executed.append((name, commands[name].partition("?")[0]))
        return executed

    def struck(self, strike: str | None) -> Any:
        """Let it happen under a strike."""
        act, _, when = (strike or "").rpartition(" ")
        if strike not in (*DEATHS, *FREEZES, *SLOWNESS):
            return self._with(strike)
        if when == "before":
            self.worker.befall(act)
            return self._with(None)
        outcome = self._with(None)
        self.worker.befall(act)
        return outcome

    def _with(self, strike: str | None) -> Any:
        if strike is None:
            return self.go()
        if strike.startswith("people: "):
            self.world.people(strike.removeprefix("people: "))
            return self.go()
        if strike.startswith("outage "):
            self.world.outage_until = self.world.time() + float(strike.removeprefix("outage "))
            return self.go()
        if strike == "not sent":
            self.world.advance(HALF_WAY)
            return NotSent("connection refused")
        if strike == "redirect after":
            # A gateway speaks up when the portal has executed it.
            outcome = self.go()
            moved = {"location": "https://elsewhere.example/"}
            return replace(outcome, status=302, headers=moved, body=b"") if isinstance(outcome, Response) else outcome
        if strike.startswith("orphan"):
            self._script("commit_latest" if "latest" in strike else "commit_soon", lagging="lagging" in strike)
            self.go()
            self.worker.dead = True
            raise Killed
        if strike.startswith("inside "):
            _, position, kind = strike.split(" ", 2)
            self._inside(int(position), kind)
            return self.go()
        name, _, more = strike.partition(", ")
        self._script(name, lagging=more == "lagging")
        return self.go()

    def _script(self, name: str, *, lagging: bool) -> None:
        method = self.request.method
        for options in _faults(name, self):
            self.world.portal.faults.add(Fault(method=method, occurrence=1, **options))
        if lagging:
            self.world.portal.faults.add(Fault(kind="read_lag", method=method, occurrence=1, seconds=LAG))

    def _inside(self, position: int, kind: str) -> None:
        commands = list(self.request.params.get("cmd", {}).values())
        if position < len(commands):
            methods = [command.partition("?")[0] for command in commands[: position + 1]]
            options = next(_faults(kind, self))
            self.world.portal.faults.add(Fault(method=methods[-1], occurrence=methods.count(methods[-1]), **options))

    def go(self) -> Any:
        """Send it, if its deadline allows that, and bring back what comes."""
        world, worker, request = self.world, self.worker, self.request
        if world.time() < world.outage_until:
            world.advance(HALF_WAY)
            return NotSent("connection refused")
        deadline = request.not_after
        if deadline and (worker.monotonic() > deadline.monotonic or worker.time() > deadline.wall):
            return NotSent("the deadline has passed", deadline_passed=True)
        if request.effect is not Effect.READ and deadline is None:
            raise Broken(f"{request.method} is sent without a deadline")
        again = world.answered.intersection(self.digests)
        if request.effect is Effect.NON_IDEMPOTENT and world.journal != "none" and again:
            raise Broken(f"{request.method} is sent again although the journal has its answer")
        world.advance(HALF_WAY)
        reply = world.portal.handle(request.method, json.loads(request.body), auth=world.auth, headers=request.headers)
        if reply.transport == "hold":
            world.advance(request.read_timeout)
        body = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        if request.effect is not Effect.READ:
            # Only what the portal plainly refuses has certainly not run.
            error = reply.body.get("error") if isinstance(reply.body, dict) else None
            refused = reply.transport is None and str(error).upper() in _REFUSALS
            if not refused and reply.status != 302:
                world.sends += self._executed(reply.body)
        if reply.transport is not None:
            return Unknown(f"the connection ended ({reply.transport})")
        world.advance(HALF_WAY)
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return Response(status=reply.status, headers=headers, body=body.encode(), at=worker.time())


def _error_of(failed: Any) -> str:
    """The portal's code for a command that failed."""
    return str(failed.get("error") if isinstance(failed, dict) else failed).upper()


def _faults(name: str, wire: Wire) -> Iterator[dict[str, Any]]:
    """The sandbox's scripts for one named strike."""
    world, request = wire.world, wire.request
    kind, _, when = name.partition(" ")
    if kind == "hold":
        yield {"kind": kind, "when": when, "seconds": world.later(HALF_WAY + request.read_timeout + 1) - HALF_WAY}
    elif kind == "commit_soon":
        yield {"kind": "commit_later", "seconds": world.later(HALF_WAY + 0.5) - HALF_WAY}
    elif kind == "commit_latest":
        yield {"kind": "commit_later", "seconds": world.later(_latest(wire)) - HALF_WAY}
    elif kind == "error_after":
        yield {"kind": "error_after_executing", "code": 0, "text": "Strange"}
    elif kind == "error":
        yield {"kind": kind, "code": 0, "text": "Strange"}
    elif kind == "read_lag":
        yield {"kind": kind, "seconds": LAG}
    elif when:
        yield {"kind": kind, "when": when}
    else:
        yield {"kind": kind}


def _latest(wire: Wire) -> float:
    """Seconds until the latest moment at which the portal may execute what leaves now."""
    deadline, terms = wire.request.not_after, wire.world.settings
    left = deadline.wall - wire.worker.time() if deadline else 0.0
    return left + terms.connect_timeout + terms.network_delay + terms.server_time_limit


def clear_answers(request: Request, response: Response) -> dict[str, str]:
    """The writes that were clearly answered: by digest of the key, the answer in words."""
    try:
        body = json.loads(response.body)
    except ValueError:
        return {}
    if response.status != 200 or not isinstance(body, dict) or "result" not in body:
        return {}
    result, key = body["result"], request.headers.get("Idempotency-Key")
    results = {key or "": result}
    if request.method == "batch":
        parts = result.get("result") if isinstance(result, dict) else None
        parts = parts if isinstance(parts, dict) else {}
        results = {key: parts.get("add")} if key else {name: parts.get(name) for name in digests_in(request)}
    return {
        whose: f"the answer {one} to {request.method}"
        for whose, one in results.items()
        if one is True or (isinstance(one, int) and one > 0)
    }


def digests_in(request: Request) -> list[str]:
    """The names of a batch's commands that are digests of keys."""
    return [name for name in request.params.get("cmd", {}) if re.fullmatch(r"[0-9a-f]{64}", name)]
