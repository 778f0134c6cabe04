"""The control plane at ``/_sandbox``: how tests and people script the portal from outside. JSON, loopback only."""

from __future__ import annotations

import inspect
import json
import math
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_bitrix24.sandbox.address import authorize_url, webhook_url
from airflow_provider_bitrix24.sandbox.clock import ManualClock
from airflow_provider_bitrix24.sandbox.faults import Fault
from airflow_provider_bitrix24.sandbox.parameters import to_json
from airflow_provider_bitrix24.sandbox.portal import Application, Webhook
from airflow_provider_bitrix24.sandbox.portal.objects import KINDS
from airflow_provider_bitrix24.sandbox.portal.people import ACTIONS
from airflow_provider_bitrix24.sandbox.portal.php import iso

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_bitrix24.sandbox.portal import Portal

    Handler = Callable[[Request], Awaitable[dict[str, Any]]]

_LOOPBACK = {"127.0.0.1", "localhost"}


class Refused(Exception):
    """A request that the control plane cannot do; the text says why."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class Control:
    """The handlers of one portal; each returns the JSON response, or raises ``Refused`` with what was wrong."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal

    async def ledger(self, _: Request) -> dict[str, Any]:
        """What really happened on the portal."""
        with self.portal.lock:
            return {"entries": list(self.portal.ledger)}

    async def requests(self, _: Request) -> dict[str, Any]:
        """What clients asked."""
        with self.portal.lock:
            return {"requests": list(self.portal.requests)}

    async def tokens(self, _: Request) -> dict[str, Any]:
        """What happened to the OAuth tokens."""
        with self.portal.lock:
            return {"tokens": list(self.portal.tokens_log)}

    async def state(self, request: Request) -> dict[str, Any]:
        """Everything that the page shows, in one piece; with ``newest``, so many rows of each table and log."""
        newest = _newest(request.query_params.get("newest"))
        with self.portal.lock:
            view = self.portal.view(newest)
            logs = {"ledger": self.portal.ledger, "requests": self.portal.requests}
            view["totals"] |= {name: len(log) for name, log in logs.items()}
            return {
                **view,
                "time": iso(self.portal.now),
                "applications": self.portal.oauth.view(),
                **{name: log[-(newest or len(log)) :] for name, log in logs.items()},
                "faults": self.portal.faults.describe(),
            }

    async def faults(self, _: Request) -> dict[str, Any]:
        """The scripts, with their hit counts and how many requests each holds."""
        with self.portal.lock:
            return {"faults": self.portal.faults.describe()}

    async def add_fault(self, request: Request) -> dict[str, Any]:
        """Add a script; its fields are those of ``Fault``."""
        body = await _body(request)
        _check_arguments(Fault, body)
        with self.portal.lock:
            return {"id": _understood(self.portal.faults.add_json, body)}

    async def clear_faults(self, _: Request) -> dict[str, Any]:
        """Remove all scripts; what is held goes on."""
        with self.portal.lock:
            self.portal.faults.clear()
        return {}

    async def release(self, request: Request) -> dict[str, Any]:
        """Let go what a script holds or delays."""
        number: int = request.path_params["id"]
        with self.portal.lock:
            if all(fault["id"] != number for fault in self.portal.faults.describe()):
                raise Refused(f"There is no fault {number}; GET /_sandbox/faults lists them.", 404)
            return {"released": self.portal.faults.release(number)}

    async def act(self, request: Request) -> dict[str, Any]:
        """Let a customer or a colleague do something."""
        body = await _body(request)
        name = body.pop("action", None)
        if name not in ACTIONS:
            raise Refused(f"action: must be one of {', '.join(ACTIONS)}, not {name!r}.")
        action = getattr(self.portal.act, name)
        if isinstance(body.get("amount"), int | float):
            body["amount"] = str(body["amount"])
        _check_arguments(action, body)
        if body.get("by", "customer") not in ("customer", "person"):
            raise Refused(f"by: must be customer or person, not {body['by']!r}.")
        result = _understood(action, **body)
        return {} if result is None else {"id": result}

    async def objects(self, request: Request) -> dict[str, Any]:
        """Make an object behind the scenes."""
        body = await _body(request, known=("kind", "fields"))
        kind, fields = body.get("kind"), body.get("fields", {})
        kinds = sorted([*KINDS, "grant"])
        if not isinstance(kind, str) or kind not in kinds:
            raise Refused(f"kind: must be one of {', '.join(kinds)}, not {kind!r}.")
        if not isinstance(fields, dict):
            raise Refused(f"fields: must be an object, not {fields!r}.")
        if kind == "grant":
            return self._grant(fields)
        if kind in ("webhook", "application"):
            _check_arguments(getattr(self.portal, f"add_{kind}"), fields, prefix="fields.")
        made = _understood(self.portal.create, kind, fields)
        match made:
            case Webhook():
                url = webhook_url(origin_of(request), made)
                return {"user_id": made.user_id, "secret": made.secret, "scopes": list(made.scopes), "url": url}
            case Application():
                return {
                    "client_id": made.client_id,
                    "client_secret": made.client_secret,
                    "scopes": list(made.scopes),
                    "redirect_uri": made.redirect_uri,
                    "authorize_url": authorize_url(origin_of(request), made),
                }
        return {"id": made}

    def _grant(self, fields: dict[str, Any]) -> dict[str, Any]:
        client_id, user_id = fields.get("client_id"), fields.get("user_id", 1)
        application = self.portal.oauth.applications.get(client_id) if isinstance(client_id, str) else None
        if application is None or not set(fields) <= {"client_id", "user_id"}:
            raise Refused("fields: must be the client_id of an application and, if not 1, the user_id.")
        pair = _understood(self.portal.grant, application, user_id)
        return {"number": pair.number, "access_token": pair.access_token, "refresh_token": pair.refresh_token}

    async def clock(self, request: Request) -> dict[str, Any]:
        """Advance a manual clock."""
        body = await _body(request, known=("advance",))
        seconds = body.get("advance")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            raise Refused(f"advance: must be a number of seconds, 0 or more, not {seconds!r}.")
        if not isinstance(self.portal.clock, ManualClock):
            raise Refused("This portal runs on the machine's clock, which cannot be advanced.", 409)
        with self.portal.lock:
            self.portal.clock.advance(seconds)
            self.portal.tick()
            return {"time": iso(self.portal.now)}

    async def options(self, request: Request) -> dict[str, Any]:
        """Turn options of the portal; the response has all of them."""
        _understood(self.portal.set_options, await _body(request))
        with self.portal.lock:
            return {"options": dict(self.portal.state.options)}

    async def reset(self, _: Request) -> dict[str, Any]:
        """Back to the beginning; the first webhook stays the same."""
        self.portal.reset()
        return {}


def control_routes(portal: Portal, save: Callable[[], None]) -> list[Route]:
    """Return the routes of the control plane; ``save`` is called after each one that may have changed something."""
    control = Control(portal)
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/ledger", control.ledger),
        ("GET", "/requests", control.requests),
        ("GET", "/tokens", control.tokens),
        ("GET", "/state", control.state),
        ("GET", "/faults", control.faults),
        ("POST", "/faults", control.add_fault),
        ("DELETE", "/faults", control.clear_faults),
        ("POST", "/faults/{id:int}/release", control.release),
        ("POST", "/act", control.act),
        ("POST", "/objects", control.objects),
        ("POST", "/clock", control.clock),
        ("POST", "/options", control.options),
        ("POST", "/reset", control.reset),
    ]
    return [Route(f"/_sandbox{path}", _endpoint(handler, save), methods=[verb]) for verb, path, handler in table]


def _endpoint(handler: Handler, save: Callable[[], None]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            refuse_other_sites(request)
            answer, status = await handler(request), 200
        except Refused as refused:
            answer, status = {"error": str(refused)}, refused.status
        except ClientDisconnect:
            answer, status = {}, 400  # nobody reads it
        save()
        return Response(to_json(answer), status, {"Cache-Control": "no-store"}, "application/json")

    return endpoint


def origin_of(request: Request) -> str:
    """Return the portal's address as this client knows it, without a trailing slash."""
    return f"{request.url.scheme}://{request.url.netloc}"


def refuse_other_sites(request: Request) -> None:
    """A page of the internet open in a browser on this machine must not get at the portal."""
    origin = request.headers.get("origin")
    if request.url.hostname not in _LOOPBACK:
        raise Refused("Host: this responds to 127.0.0.1 and localhost only.", 403)
    if origin is not None and urlsplit(origin).netloc != request.url.netloc:
        raise Refused("Origin: this responds to its own page only.", 403)


def _newest(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not 0 < int(text) <= 10_000:
        raise Refused(f"newest: must be a whole number from 1 to 10000, not {text!r}.")
    return int(text)


async def _body(request: Request, known: tuple[str, ...] | None = None) -> dict[str, Any]:
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise Refused(f"The body must be a JSON object, but it does not parse: {error}.") from None
    if not isinstance(body, dict):
        raise Refused(f"The body must be a JSON object, not {type(body).__name__}.")
    unknown = sorted(set(body) - set(known)) if known is not None else []
    if known is not None and unknown:
        raise Refused(f"{unknown[0]}: unknown; known: {', '.join(known)}.")
    return body


def _check_arguments(function: Callable[..., Any], arguments: dict[str, Any], prefix: str = "") -> None:
    """Compare with the signature, so that a misspelt, missing or mistyped field is named."""
    parameters = inspect.signature(function).parameters
    for name, value in arguments.items():
        if name not in parameters:
            raise Refused(f"{prefix}{name}: unknown; known: {', '.join(parameters)}.")
        if not _fits(str(parameters[name].annotation), value):
            raise Refused(f"{prefix}{name}: must be {parameters[name].annotation}, not {value!r}.")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise Refused(f"{prefix}{name}: missing.")


def _fits(annotation: str, value: object) -> bool:
    names = {name.strip().partition("[")[0] for name in annotation.split("|")}
    match value:
        case None:
            return "None" in names
        case bool():
            return "bool" in names
        case int():
            return bool(names & {"int", "float"})
        case float():
            return "float" in names and math.isfinite(value)
        case str():
            return "str" in names and ("Decimal" not in names or _is_amount(value))
        case _:
            return bool(names & ({"list", "Sequence"} if isinstance(value, list) else {"dict", "Mapping"}))


def _is_amount(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _understood(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call the portal; what it cannot make sense of becomes a clear 400."""
    try:
        return function(*arguments, **options)
    except KeyError as error:
        text = f"the portal has no {error.args[0]!r}"
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        text = str(error) or type(error).__name__
    raise Refused(f"{text}.")
