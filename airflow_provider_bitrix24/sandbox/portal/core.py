"""The portal itself: its face, its parts, and what is done to it behind the scenes."""

from __future__ import annotations

import secrets as random_secrets
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_bitrix24.sandbox import seed as seeds
from airflow_provider_bitrix24.sandbox.clock import SystemClock
from airflow_provider_bitrix24.sandbox.faults import TOKEN_METHOD, Faults
from airflow_provider_bitrix24.sandbox.portal import orders, php
from airflow_provider_bitrix24.sandbox.portal.access import Auth, token_of
from airflow_provider_bitrix24.sandbox.portal.held_requests import HeldRequests
from airflow_provider_bitrix24.sandbox.portal.limits import LeakyBucket, OperatingTime
from airflow_provider_bitrix24.sandbox.portal.model import State, Webhook
from airflow_provider_bitrix24.sandbox.portal.oauth import (
    ACCESS_TOKEN_LIFETIME,
    REFRESH_TOKEN_LIFETIME,
    Application,
    OAuth,
    TokenPair,
    public_parameters,
)
from airflow_provider_bitrix24.sandbox.portal.objects import create_object
from airflow_provider_bitrix24.sandbox.portal.options import checked
from airflow_provider_bitrix24.sandbox.portal.people import People, pay_what_is_due
from airflow_provider_bitrix24.sandbox.portal.request_log import RequestLog
from airflow_provider_bitrix24.sandbox.portal.serving import Request, Serving
from airflow_provider_bitrix24.sandbox.portal.view import view_row, view_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_bitrix24.sandbox.clock import Clock
    from airflow_provider_bitrix24.sandbox.portal.envelope import Dialect, PortalReply

T = TypeVar("T")
SCOPES = ("crm", "sale", "pay_system", "salescenter")


class Portal:
    """A Bitrix24 portal in memory.

    ``rate_limit`` is ``(requests in the bucket, requests leaking per second)``, ``operating_limit`` the seconds of
    operating time per method and webhook in ten minutes, ``operating_costs`` what a call of a method costs there (0.2;
    ``"*"`` stands for every method that is not named).
    ``customers_pay_after`` lets customers pay every new payment that has a sum, that many seconds after its last item.
    ``options`` are those of ``options.py``; a reset sets them again.
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
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if dialect not in ("source", "docs"):
            raise ValueError(f"dialect must be 'source' or 'docs', not {dialect!r}")
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.dialect: Dialect = dialect
        self.require_https = require_https
        self.customers_pay_after = customers_pay_after
        self.lock = threading.RLock()
        self.faults = Faults(random_seed)
        self._parking = HeldRequests(self.lock, lambda: self.now)
        self.faults.resume = self._parking.resume
        self.bucket = LeakyBucket(*rate_limit) if rate_limit is not None else None
        costs = {name.lower(): cost for name, cost in (operating_costs or {}).items()}
        self.operating = OperatingTime(operating_limit, costs)
        self.act = People(self)
        self.oauth = OAuth(lambda: self.now)
        self.log = RequestLog(lambda: self.now, self._secrets)
        self.revision = 0
        self._seed = seed
        self._options = checked(options or {})
        self._serving = Serving(self)
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
            request = Request(auth, lowered.get("idempotency-key"), token_of(lowered, params))
            entry = self.log.add(method, params, auth.user_id, inside_batch=False)
            return self._parking.drive(self._serving.rest(request, method, dict(params), entry))

    def handle_version_3(
        self, method: str, params: Mapping[str, Any], *, auth: Auth, headers: Mapping[str, str] | None = None
    ) -> PortalReply:
        """Serve one request to an address of REST 3.0 (``/rest/api/…``), which knows none of these methods."""
        with self.lock:
            self.tick()
            lowered = {name.lower(): value for name, value in (headers or {}).items()}
            request = Request(auth, token=token_of(lowered, params))
            entry = self.log.add(method, params, auth.user_id, inside_batch=False)
            return self._serving.of_version_3(request, entry)

    def set_options(self, given: Mapping[str, Any]) -> None:
        """Turn options of the portal; ``ValueError`` names what is unknown or impossible."""
        with self.lock:
            self.state.options |= checked(given)
            self.touch()

    def handle_token(self, params: Mapping[str, Any], *, url: str, auth: Auth | None = None) -> PortalReply:
        """Serve one request to the token endpoint; ``url`` is the portal's address, which the response names."""
        with self.lock:
            self.tick()
            request = Request(auth or Auth())
            public = public_parameters(params, self.oauth.applications)
            entry = self.log.add(TOKEN_METHOD, public, None, inside_batch=False)
            return self._parking.drive(self._serving.token(request, dict(params), url, entry))

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

    def add_application(
        self,
        client_id: str | None = None,
        client_secret: str | None = None,
        scopes: Sequence[str] = SCOPES,
        redirect_uri: str | None = None,
        access_token_lifetime: float = ACCESS_TOKEN_LIFETIME,
        refresh_token_lifetime: float = REFRESH_TOKEN_LIFETIME,
    ) -> Application:
        """A new OAuth application; lifetimes in seconds. Without ``redirect_uri`` people copy their code."""
        with self.lock:
            client_id = client_id or f"local.{random_secrets.token_hex(7)}.{random_secrets.randbelow(10**8):08}"
            client_secret = client_secret or random_secrets.token_hex(25)
            lifetimes = access_token_lifetime, refresh_token_lifetime
            self.touch()
            return self.oauth.add(Application(client_id, client_secret, list(scopes), redirect_uri, *lifetimes))

    def sign_in(self, application: Application, user_id: int = 1) -> str:
        """A person signs in and consents; returns the code, which works once, for 30 seconds."""
        return self._for_user(self.oauth.sign_in, application, user_id)

    def grant(self, application: Application, user_id: int = 1) -> TokenPair:
        """The first pair of tokens, as if this person had signed in and the application had exchanged the code."""
        return self._for_user(self.oauth.grant, application, user_id)

    def _for_user(self, do: Callable[[Application, int], T], application: Application, user_id: int) -> T:
        with self.lock:
            if user_id not in self.state.users:
                raise ValueError(f"no user {user_id}")
            self.touch()
            return do(application, user_id)

    def expire_access_tokens(self, client_id: str | None = None) -> None:
        """End the access tokens (of one application) before their time; the refresh tokens go on working."""
        with self.lock:
            self.oauth.expire(client_id=client_id)
            self.touch()

    def revoke_grants(self, client_id: str | None = None, user_id: int | None = None) -> None:
        """Make all tokens (of one application, of one person) worthless: only a new sign-in helps."""
        with self.lock:
            self.oauth.revoke(client_id=client_id, user_id=user_id)
            self.touch()

    def remove_application(self, client_id: str) -> None:
        """Uninstall an application; ``KeyError`` if there is none."""
        with self.lock:
            self.oauth.applications[client_id].installed = False
            self.touch()

    def create(self, kind: str, fields: Mapping[str, Any]) -> int | Webhook | Application:
        """An object made behind the scenes; returns its id (or the webhook, or the application)."""
        with self.lock:
            if kind == "webhook":
                return self.add_webhook(**dict(fields))
            if kind == "application":
                return self.add_application(**dict(fields))
            number = create_object(self.state, kind, dict(fields), self.now)
            self.touch()
            return number

    def reset(self, *, scopes: Sequence[str] | None = None, secret: str | None = None) -> None:
        """Back to the beginning: fresh state, no faults, empty logs; the first webhook and the applications stay."""
        with self.lock:
            first = self._webhooks[0] if self._webhooks else Webhook(1, secret or random_secrets.token_hex(8))
            if scopes is not None:
                first.scopes = list(scopes)
            self.faults.clear()
            self.state = State()
            self.state.options |= checked(self._options)
            self._serving.lags.clear()
            self.log.entries.clear()
            self.oauth.forget_grants()
            self._webhooks = [first]
            self._started = self.now
            seeds.plant(self.state, self.now, objects=self._seed)
            self.touch()

    def dump(self) -> dict[str, Any]:
        """The whole state as JSON-able data: tables, ledger, webhooks and tokens (with secrets) and the logs."""
        with self.lock:
            hooks = [{"user_id": w.user_id, "secret": w.secret, "scopes": list(w.scopes)} for w in self._webhooks]
            return {
                "version": 1,
                "state": self.state.dump(),
                "webhooks": hooks,
                "oauth": self.oauth.dump(),
                "requests": [dict(entry) for entry in self.requests],
            }

    def load(self, data: Mapping[str, Any]) -> None:
        """Become what ``dump`` has written. Faults and parked requests are not part of it."""
        with self.lock:
            if data.get("version") != 1:
                raise ValueError(f"this is no dump of a sandbox portal: version {data.get('version')!r}")
            self.state = State.load(data["state"])
            self._webhooks = [Webhook(**hook) for hook in data["webhooks"]]
            self.log.entries[:] = [dict(entry) for entry in data["requests"]]
            if "oauth" in data:  # a file of the first version has none
                self.oauth.load(data["oauth"])
            self.touch()

    def view(self, newest: int | None = None) -> dict[str, Any]:
        """What is on the portal, for people: no secrets. With ``newest``, only so many rows of each table."""
        with self.lock:
            return view_state(self.state, newest)

    def view_of(self, table: str, number: int) -> dict[str, Any] | None:
        """One row as ``view`` shows it, None if there is none."""
        with self.lock:
            row = getattr(self.state, table).get(number)
            return None if row is None else view_row(self.state, row)

    def payments_of(self, entity_type_id: int, entity_id: int) -> list[dict[str, Any]]:
        """The payments of a deal (2) or smart invoice (31) as ``view`` shows them, oldest first."""
        with self.lock:
            order_ids = {order.id for order in orders.orders_of(self.state, entity_type_id, entity_id)}
            return [view_row(self.state, payment) for payment in orders.payments_of(self.state, order_ids)]

    @property
    def now(self) -> float:
        """The portal's time, epoch seconds."""
        return self.clock.time()

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """The ground truth: every effective change, in order."""
        return self.state.ledger

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What clients asked, in order."""
        return self.log.entries

    @property
    def tokens_log(self) -> list[dict[str, Any]]:
        """What happened to the tokens, in order: issued, refreshed, refused, expired, revoked. No secrets."""
        return self.oauth.log

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

    def uniqid(self) -> str:
        """PHP's uniqid by the portal's clock, never the same twice."""
        self._last_uniqid = max(self._last_uniqid + 1, int(self.now * 1_000_000))
        return php.uniqid(self._last_uniqid)

    def _secrets(self) -> list[str]:
        return [*(webhook.secret for webhook in self._webhooks), *self.oauth.secrets()]
