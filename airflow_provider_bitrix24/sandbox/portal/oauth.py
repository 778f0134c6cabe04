"""OAuth 2.0 as portal and authorisation server play it: applications, codes of 30 seconds, pairs of tokens that rotate.

Tokens live in memory as they are: like the webhook's secret, they are shown to nobody but the one who asks for them.
"""

from __future__ import annotations

import secrets as random_secrets
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError, auth_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ACCESS_TOKEN_LIFETIME = 3600.0
REFRESH_TOKEN_LIFETIME = 180 * 86_400.0
CODE_LIFETIME = 30.0
#: How many events the token log remembers.
KEPT_EVENTS = 10_000
_GRANT_TYPES = ("authorization_code", "refresh_token")


@dataclass
class Application:
    """A local application. Lifetimes: seconds on the portal's clock; without ``redirect_uri`` people copy the code."""

    client_id: str
    client_secret: str = field(repr=False)
    scopes: list[str] = field(default_factory=list)
    redirect_uri: str | None = None
    access_token_lifetime: float = ACCESS_TOKEN_LIFETIME
    refresh_token_lifetime: float = REFRESH_TOKEN_LIFETIME
    installed: bool = True


@dataclass
class TokenPair:
    """What a sign-in or a refresh gives; ``number`` names it in logs, ``grant`` is the sign-in that it goes back to."""

    number: int
    client_id: str
    user_id: int
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    access_expires: float
    refresh_expires: float
    grant: int
    spent: bool = False
    revoked: bool = False
    expiry_noted: bool = False


@dataclass
class _Code:
    """What a person's consent gives: exchanged once, within its 30 seconds."""

    text: str = field(repr=False)
    client_id: str
    user_id: int
    expires: float
    spent: bool = False


class OAuth:
    """Applications and their grants, with a log of what happened to the tokens."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.member_id = random_secrets.token_hex(16)
        self.applications: dict[str, Application] = {}
        self.forget_grants()

    def forget_grants(self) -> None:
        """Nobody has ever signed in; the applications stay."""
        self.log: list[dict[str, Any]] = []
        self._pairs: list[TokenPair] = []
        self._by_access: dict[str, TokenPair] = {}
        self._by_refresh: dict[str, TokenPair] = {}
        self._codes: dict[str, _Code] = {}

    # -- behind the scenes --------------------------------------------------------------------------------------------

    def add(self, application: Application) -> Application:
        """Register an application; raises ``ValueError`` naming what is wrong with it."""
        if application.client_id in self.applications:
            raise ValueError(f"client_id: there is an application {application.client_id!r} already")
        uri = urlsplit(application.redirect_uri or "http://none")
        if uri.scheme not in ("http", "https") or not uri.netloc:
            raise ValueError("redirect_uri: must be an http or https address")
        for name in ("access_token_lifetime", "refresh_token_lifetime"):
            if not 0 < getattr(application, name) < float("inf"):
                raise ValueError(f"{name}: must be a number of seconds above 0, not {getattr(application, name)!r}")
        self.applications[application.client_id] = application
        return application

    def sign_in(self, application: Application, user_id: int) -> str:
        """A person consents; returns the code."""
        code = _Code(random_secrets.token_hex(16), application.client_id, user_id, self._now() + CODE_LIFETIME)
        self._codes[code.text] = code
        return code.text

    def grant(self, application: Application, user_id: int) -> TokenPair:
        """A person has signed in and the application has exchanged the code: its first pair."""
        pair = self._issue(application, user_id)
        self._note("issued", pair)
        return pair

    def expire(self, *, client_id: str | None = None, pair: TokenPair | None = None) -> None:
        """End the access tokens of all, of one application or of one pair before their time; grants stay."""
        for each in self._pairs if pair is None else [pair]:
            if client_id in (None, each.client_id) and each.access_expires > self._now():
                each.access_expires = self._now()
                self._note_expiry(each)

    def revoke(self, *, client_id: str | None = None, user_id: int | None = None) -> None:
        """Withdraw consent: the tokens of all, of one application or of one person are worth nothing any more."""
        for each in self._pairs:
            if client_id in (None, each.client_id) and user_id in (None, each.user_id) and not each.revoked:
                each.revoked = True
                self._note("revoked", each)

    # -- what clients ask ---------------------------------------------------------------------------------------------

    def exchange(self, params: Mapping[str, Any], url: str, fault: str | None) -> dict[str, Any]:
        """The token endpoint's success: a code or a refresh token becomes a new pair. Raises ``RestError``."""
        application = self._client(params)
        previous = None
        match _required(params, "grant_type"):
            case "authorization_code":
                user_id = self._redeem(application, _required(params, "code")).user_id
                pair = self._issue(application, user_id)
            case "refresh_token":
                previous = self._spend(application, _required(params, "refresh_token"))
                pair = self._issue(application, previous.user_id, previous.grant)
            case _:
                raise RestError("invalid_request", "Unsupported grant_type")
        self._note(
            "refreshed" if previous else "issued",
            pair,
            grant_type=params["grant_type"],
            previous=previous.number if previous else None,
            previous_expired=previous.access_expires <= self._now() if previous else None,
            fault=fault,
        )
        answer: dict[str, Any] = {
            "access_token": pair.access_token,
            "client_endpoint": f"{url}/rest/",
            "domain": urlsplit(url).netloc,
            "expires_in": int(application.access_token_lifetime),
            "member_id": self.member_id,
            "refresh_token": pair.refresh_token,
            "scope": ",".join(application.scopes),
            "server_endpoint": f"{url}/rest/",
            "status": "L",
        }
        return answer | {"expires": int(pair.access_expires), "user_id": pair.user_id} if previous else answer

    def refuse(self, params: Mapping[str, Any], error: str | int, fault: str | None) -> None:
        """Note a refusal; what the client sent is noted only where it is known to be no secret."""
        client_id, grant_type = public_parameters(params, self.applications).values()
        self._note("refused", client_id=client_id, grant_type=grant_type, error=str(error), fault=fault)

    def check(self, access_token: str) -> tuple[Application, TokenPair]:
        """The application and the pair of a REST call; raises ``RestError`` if the token opens nothing."""
        pair = self._by_access.get(access_token)
        if pair is None or pair.revoked:
            raise auth_error("invalid_token", "Unable to get application by token")
        if pair.access_expires <= self._now():
            self._note_expiry(pair)
            raise auth_error("expired_token", "The access token provided has expired.")
        application = self.applications[pair.client_id]
        if not application.installed:
            raise auth_error("APPLICATION_NOT_FOUND", "Application not found")
        return application, pair

    def _client(self, params: Mapping[str, Any]) -> Application:
        application = self.applications.get(_required(params, "client_id"))
        secret = _required(params, "client_secret")
        if (
            application is None
            or not application.installed
            or not random_secrets.compare_digest(application.client_secret.encode(), secret.encode())
        ):
            raise RestError("invalid_client", "Invalid client data, or the application is not installed", 401)
        if "scope" in params and not set(str(params["scope"]).split(",")) <= set(application.scopes):
            raise RestError("invalid_scope", "The requested scope exceeds the scope of the application")
        return application

    def _redeem(self, application: Application, text: str) -> _Code:
        code = self._codes.get(text)
        if code is None or code.spent or code.expires <= self._now():
            raise _invalid_grant()
        if code.client_id != application.client_id:
            raise _wrong_client()
        code.spent = True
        return code

    def _spend(self, application: Application, refresh_token: str) -> TokenPair:
        pair = self._by_refresh.get(refresh_token)
        if pair is None or pair.spent or pair.revoked or pair.refresh_expires <= self._now():
            raise _invalid_grant()
        if pair.client_id != application.client_id:
            raise _wrong_client()
        pair.spent = True
        return pair

    def _issue(self, application: Application, user_id: int, grant: int | None = None) -> TokenPair:
        number = len(self._pairs) + 1
        pair = TokenPair(
            number,
            application.client_id,
            user_id,
            random_secrets.token_hex(32),
            random_secrets.token_hex(32),
            self._now() + application.access_token_lifetime,
            self._now() + application.refresh_token_lifetime,
            number if grant is None else grant,
        )
        self._keep(pair)
        return pair

    def _keep(self, pair: TokenPair) -> None:
        self._pairs.append(pair)
        self._by_access[pair.access_token] = pair
        self._by_refresh[pair.refresh_token] = pair

    # -- what is kept and shown ---------------------------------------------------------------------------------------

    def _note_expiry(self, pair: TokenPair) -> None:
        if not pair.expiry_noted:
            pair.expiry_noted = True
            self._note("expired", pair)

    def _note(self, event: str, pair: TokenPair | None = None, **facts: Any) -> None:
        entry: dict[str, Any] = {
            "at": php.iso(self._now()),
            "event": event,
            "grant_type": None,
            "client_id": pair.client_id if pair else None,
            "user_id": pair.user_id if pair else None,
            "number": pair.number if pair else None,
            "previous": None,
            "previous_expired": None,
            "error": None,
            "fault": None,
        }
        self.log.append(entry | facts)
        del self.log[:-KEPT_EVENTS]

    def secrets(self) -> Iterator[str]:
        """Everything that must be shown to nobody."""
        for application in self.applications.values():
            yield application.client_secret
        yield from self._by_access
        yield from self._by_refresh
        yield from self._codes

    def view(self) -> list[dict[str, Any]]:
        """The applications for people, without secrets: who has signed in, how often each refreshed and was refused."""
        return [self._shown(application) for application in self.applications.values()]

    def _shown(self, application: Application) -> dict[str, Any]:
        values = asdict(application)
        del values["client_secret"]
        pairs = [pair for pair in self._pairs if pair.client_id == application.client_id]
        alive = [p for p in pairs if not (p.spent or p.revoked) and p.refresh_expires > self._now()]
        events = [entry["event"] for entry in self.log if entry["client_id"] == application.client_id]
        return values | {
            "users": sorted({pair.user_id for pair in alive}),
            "refreshed": events.count("refreshed"),
            "refused": events.count("refused"),
        }

    def dump(self) -> dict[str, Any]:
        """As JSON-able data, with secrets."""
        return {
            "member_id": self.member_id,
            "applications": [asdict(application) for application in self.applications.values()],
            "pairs": [asdict(pair) for pair in self._pairs],
            "codes": [asdict(code) for code in self._codes.values()],
            "log": [dict(entry) for entry in self.log],
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """Become what ``dump`` has written."""
        self.forget_grants()
        self.member_id = data["member_id"]
        self.applications = {row["client_id"]: Application(**row) for row in data["applications"]}
        for row in data["pairs"]:
            self._keep(TokenPair(**row))
        self._codes = {row["text"]: _Code(**row) for row in data["codes"]}
        self.log = [dict(entry) for entry in data["log"]]


def public_parameters(params: Mapping[str, Any], applications: Mapping[str, Application]) -> dict[str, str | None]:
    """The parameters of a token request that are no secret, each None unless it is one of the known values."""
    client_id, grant_type = params.get("client_id"), params.get("grant_type")
    return {
        "client_id": client_id if isinstance(client_id, str) and client_id in applications else None,
        "grant_type": grant_type if grant_type in _GRANT_TYPES else None,
    }


def lured(answer: dict[str, Any], location: str) -> dict[str, Any]:
    """A token response that names another host wherever it names one."""
    parts = urlsplit(location)
    endpoint = f"{parts.scheme}://{parts.netloc}/rest/"
    return answer | {"client_endpoint": endpoint, "server_endpoint": endpoint, "domain": parts.netloc}


def _required(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise RestError("invalid_request", f"Parameter {name} is missing")
    return value


def _invalid_grant() -> RestError:
    return RestError("invalid_grant", "Invalid authorization tokens")


def _wrong_client() -> RestError:
    # The one error that is known to come with a success's status.
    return RestError("WRONG_CLIENT", "Wrong client", 200)
