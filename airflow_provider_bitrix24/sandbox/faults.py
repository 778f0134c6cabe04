"""Scripted trouble: which calls go wrong, and how. The portal executes it, on its own clock."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

#: The name under which faults strike the OAuth token endpoint; ``"*"`` does not mean it.
TOKEN_METHOD = "oauth.token"  # noqa: S105 - a name, no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of fault: what it does, its defaults, and the methods that can have it."""

    does: str
    when: str = "after"
    """Before or after executing, where both are possible."""
    status: int = 400
    seconds: float | None = None
    of_methods: bool = True
    """Whether REST methods can have it."""
    of_tokens: bool = True
    """Whether the token endpoint can have it, which has no state to lag, no ``time`` block and no numeric codes."""
    spoils_bytes: bool = False
    """Whether it spoils what is written to the socket: see ``hostile``."""


KINDS: dict[str, Kind] = {
    "drop_before": Kind(does="the connection closes, nothing is executed"),
    "drop_after": Kind(does="executed, then the connection closes"),
    "hold": Kind(
        does="the response is held until released or `seconds` have passed; `when` before or after executing",
        when="before",
    ),
    "commit_later": Kind(does="the connection closes; executed after `seconds` or on release"),
    "truncate": Kind(does="executed; half of the body arrives"),
    "slow": Kind(does="executed; the body dribbles for `seconds`", seconds=1.0),
    "html": Kind(does="an HTML page with `status`; `when` before or after executing", when="before", status=502),
    "operation_time_limit": Kind(does="429, not executed"),
    "query_limit_exceeded": Kind(does="503, not executed"),
    "overload_limit": Kind(does="OVERLOAD_LIMIT, not executed"),
    "expired_token": Kind(does="401, not executed"),
    "error": Kind(does="any `code`, `text` and `status`, not executed"),
    "error_after_executing": Kind(does="any `code`, `text` and `status`, executed"),
    "redirect": Kind(does="302 to `location`, not executed"),
    "read_lag": Kind(does="executed, but for `seconds` reads show the state before it", seconds=5.0, of_tokens=False),
    "true_not_applied": Kind(does="the method's success is reported, nothing is changed", of_tokens=False),
    "close_idle": Kind(does="a kept-alive connection closes as the request arrives; not executed"),
    "empty_body": Kind(does="200 without a body; `when` before or after executing (default)"),
    "invalid_json": Kind(does="a body that is no JSON; `when` before or after executing (default)"),
    "internal_server_error": Kind(
        does="INTERNAL_SERVER_ERROR 500; `when` before or after executing (default)", status=500
    ),
    "time_integers": Kind(does="executed; `time` holds whole numbers", of_tokens=False),
    "time_missing": Kind(does="executed; no `time` block", of_tokens=False),
    "numeric_code": Kind(does="executed as usual; a numeric error code is a JSON number", of_tokens=False),
    "flood": Kind(
        does="a body without end, or a byte every `seconds`; `when` before or after executing (default)",
        spoils_bytes=True,
    ),
    "big_html": Kind(
        does="an HTML page of many `megabytes` with `status`; `when` before or after executing (default)",
        status=502,
        spoils_bytes=True,
    ),
    "deep_json": Kind(does="arrays nested to `depth`; `when` before or after executing (default)", spoils_bytes=True),
    "huge_numbers": Kind(does="executed; `literal` stands wherever the response has a number", spoils_bytes=True),
    "wrong_encoding": Kind(does="executed; bytes that are not of the declared `charset`", spoils_bytes=True),
    "gzip_bomb": Kind(
        does="a small body that unpacks to many `megabytes`; `when` before or after executing (default)",
        spoils_bytes=True,
    ),
    "lure": Kind(
        does="executed; the token endpoint's response names the host of `location` as the portal", of_methods=False
    ),
}
HOSTILE = frozenset(name for name, kind in KINDS.items() if kind.spoils_bytes)


@dataclass(kw_only=True)
class Fault:
    """One script. ``method`` is ``"*"`` (every REST request), an exact REST name (inside a batch as well) or
    ``"oauth.token"``, the token endpoint.

    ``occurrence`` is the first matching call (from 1) that it hits, ``times`` how many calls it hits from there on:
    by default one if ``occurrence`` is given, otherwise without end. ``probability`` is drawn for each of them.
    """

    kind: str
    method: str = "*"
    occurrence: int | None = None
    times: int | None = None
    probability: float = 1.0
    seconds: float | None = None
    when: str | None = None
    status: int | None = None
    code: str | int = "0"
    text: str = "Scripted error"
    location: str = "https://renamed.example/rest/"
    megabytes: int = 64
    depth: int = 100_000
    literal: str | None = None
    charset: str = "utf-8"
    id: int = 0
    seen: int = 0
    hits: int = 0
    holding: int = 0

    def __post_init__(self) -> None:
        """Refuse what nobody could act out."""
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault kind {self.kind!r}; known: {', '.join(sorted(KINDS))}")
        defaults = KINDS[self.kind]
        self._check_method(defaults)
        if self.when is None:
            self.when = defaults.when
        if self.when not in ("before", "after"):
            raise ValueError(f"when must be 'before' or 'after', not {self.when!r}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be between 0 and 1, not {self.probability!r}")
        for name in ("occurrence", "times", "megabytes", "depth"):
            number = getattr(self, name)
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
                raise ValueError(f"{name} must be a whole number from 1, not {number!r}")
        if self.seconds is None:
            self.seconds = defaults.seconds
        if self.occurrence is not None and self.times is None:
            self.times = 1
        if self.status is None:
            self.status = defaults.status

    def _check_method(self, kind: Kind) -> None:
        if not kind.of_methods and self.method == "*":
            self.method = TOKEN_METHOD
        if not (kind.of_tokens if self.method == TOKEN_METHOD else kind.of_methods):
            raise ValueError(f"{self.kind} means nothing to {self.method}")

    @property
    def before(self) -> bool:
        """Does it strike before the method has run?"""
        return self.when == "before"

    def concerns(self, method: str, *, inside_batch: bool) -> bool:
        """Is this call one that the script counts?"""
        if self.method == "*":
            return not inside_batch and method != TOKEN_METHOD
        return self.method.lower() == method.lower()

    def strikes(self, rng: random.Random) -> bool:
        """Count this call; does it go wrong?"""
        self.seen += 1
        if self.seen < (self.occurrence or 1) or (self.times is not None and self.hits >= self.times):
            return False
        if rng.random() >= self.probability:
            return False
        self.hits += 1
        return True

    def describe(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass
class Pause:
    """What a request yields when it must stand still; ``answer`` says what its client sees meanwhile."""

    fault: Fault
    until: float | None
    answer: str  # "hold" or "drop"


@dataclass(eq=False)
class Held:
    """A request that stands still. Once ``done`` is set, ``reply`` is what the waiting client gets."""

    run: Generator[Pause, None, Any]
    pause: Pause
    done: threading.Event = field(default_factory=threading.Event)
    reply: Any = None


class Faults:
    """All scripts of a portal, with the calls that they hold."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._rng = random.Random(seed)  # noqa: S311 - trouble must be repeatable, not secret
        self._scripts: list[Fault] = []
        self._next_id = 1
        self.resume: Callable[[int | None], int] = lambda _fault_id: 0

    def add(self, fault: Fault | None = None, /, **options: Any) -> int:
        """Add a script, given as a ``Fault`` or by its fields; returns its id."""
        fault = fault if fault is not None else Fault(**options)
        fault.id = self._next_id
        self._next_id += 1
        self._scripts.append(fault)
        return fault.id

    def add_json(self, data: Mapping[str, Any]) -> int:
        """Add a script that came over the control plane; unknown fields are refused by name."""
        known = {f.name for f in fields(Fault)} - {"id", "seen", "hits", "holding"}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ValueError(f"unknown fault option {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        if "kind" not in data:
            raise ValueError("a fault needs a kind")
        return self.add(**dict(data))

    def striking(self, method: str, *, inside_batch: bool) -> list[Fault]:
        """The scripts that strike this call; every script that it concerns counts it."""
        concerned = [fault for fault in self._scripts if fault.concerns(method, inside_batch=inside_batch)]
        return [fault for fault in concerned if fault.strikes(self._rng)]

    def describe(self) -> list[dict[str, Any]]:
        """All scripts with their hit counts and how many calls each holds right now."""
        return [fault.describe() for fault in self._scripts]

    def release(self, fault_id: int) -> int:
        """Let go what this script holds (or commit what it delays); returns how many calls that were."""
        return self.resume(fault_id)

    def clear(self) -> None:
        """Remove every script; whatever is held goes on, the dice start again."""
        self._scripts.clear()
        self._rng.seed(self._seed)
        self.resume(None)
