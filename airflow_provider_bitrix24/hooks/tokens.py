"""The access token of a connection: from the store, and changed for a new one when the portal says that it is too old.

A refresh kills the old pair, so it is never done twice, and its response never thrown away: it runs under the store's
lock, in a thread that nothing interrupts, and what it returns is stored before it is used.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import pendulum

from airflow_provider_bitrix24.api import tokens as protocol
from airflow_provider_bitrix24.api.address import same_host
from airflow_provider_bitrix24.exceptions import (
    NOT_SENT,
    Bitrix24ConfigError,
    Bitrix24Error,
    Bitrix24NotSent,
    Bitrix24SignInNeeded,
    Bitrix24StoreError,
    Bitrix24TokenError,
)
from airflow_provider_bitrix24.hooks import masking
from airflow_provider_bitrix24.hooks.token_store import VariableTokenStore

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.credentials import OAuthAuth
    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.api.settings import Settings
    from airflow_provider_bitrix24.api.tokens import Issued, Tokens
    from airflow_provider_bitrix24.hooks.token_store import Held, Note, TokenStore

log = logging.getLogger(__name__)

_WARN_BEFORE: Final = 30 * 86400
"""Seconds before the end of an unused refresh token from which on the log says so."""
_PAUSES: Final = (0.0, 1.0, 2.0)
"""Seconds before each look whether another task has stored the pair that our refresh token was changed for."""
_STORE_AGAIN: Final = (1.0, 2.0, 5.0)
"""Seconds before each further try to store a pair that nobody else has."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """The outcome of a request for another access token.

    :param access_token: the token; None if there is none.
    :param fresh: whether it was made just now, by us.
    :param error: why there is none.
    """

    access_token: str | None = field(default=None, repr=False)
    fresh: bool = False
    error: Bitrix24Error | None = None


class TokenManager:
    """The tokens of one connection.

    :param settings: the portal.
    :param application: who asks for tokens.
    :param store: where they live.
    :param conn_id: the Airflow connection, for messages.
    """

    def __init__(self, settings: Settings, application: OAuthAuth, store: TokenStore, conn_id: str) -> None:
        self._settings = settings
        self._application = application
        self._store = store
        self._conn_id = conn_id
        self.last = Renewal()
        """The last access token known; may have expired."""

    @property
    def place(self) -> str:
        """What messages call the store."""
        return self._store.place

    def load(self) -> Tokens:
        """Return the pair that is stored, else the connection's first; asks the portal nothing.

        :raises Bitrix24SignInNeeded: there is none.
        :raises Bitrix24StoreError: the store is away.
        """
        tokens = self._store.read() or protocol.Tokens.first_of(self._application)
        if tokens is None:
            raise self._nothing_yet()
        return self._take(tokens)

    def get_fresh(self, stale: str | None, method: str) -> Renewal:
        """Return another access token than the one that has expired; never raises one of our errors.

        :param stale: the expired one; None if there was none yet.
        :param method: the REST method that waits for it.
        """
        try:
            with _one_at_a_time(os.getpid(), self._store.place):
                tokens = self.load()
                if tokens.access_token not in (None, stale):
                    return Renewal(tokens.access_token)
                if self._application.refreshed_by == "operator":
                    raise self._not_ours_to_refresh()
                tokens, fresh = self._refresh(tokens)
                return Renewal(tokens.access_token, fresh)
        except (Bitrix24TokenError, Bitrix24StoreError) as error:
            # The portal has refused the old token before the method ran, or has not been asked at all.
            return Renewal(error=Bitrix24NotSent(method, f"no access token: {error.reason}"))
        except Bitrix24Error as error:
            return Renewal(error=error)

    def refresh(self, min_lifetime: float) -> tuple[bool, Tokens]:
        """Refresh, unless the access token lives long enough.

        :param min_lifetime: seconds.
        :return: whether the pair is new, and the pair.
        :raises Bitrix24Error: there is no new pair.
        """
        with _one_at_a_time(os.getpid(), self._store.place):
            tokens = self.load()
            if tokens.access_token and tokens.expires_at and tokens.expires_at - time.time() >= min_lifetime:
                return False, tokens
            tokens, fresh = self._refresh(tokens)
            return fresh, tokens

    def get_ready(self) -> None:
        """See that the store is there, and load what takes time: a code lives 30 seconds.

        :raises Bitrix24StoreError: the store is away.
        """
        from airflow_provider_bitrix24 import drivers

        drivers.make_session(self._settings).close()
        with self._store.exclusive():
            pass

    def sign_in(self, code: str) -> Tokens:
        """Change the code of a consent for the first pair, and store it in the place of any other.

        :raises Bitrix24ConfigError: the consent was given at another portal.
        :raises Bitrix24Error: there is no pair, or it cannot be stored.
        """
        issued = self._ask(protocol.exchange(self._settings, self._application, code))
        if self._is_elsewhere(issued):
            raise Bitrix24ConfigError(
                f"The consent was given at the portal {issued.portal}, and the connection {self._conn_id!r} is for "
                f"{self._settings.host}.",
                "Nothing was stored. Open the address in a browser in which you are signed in "
                f"to {self._settings.host}, or correct the host of the connection.",
            )
        with self._store.exclusive() as held:
            held.save(issued.tokens)
        return self._take(issued.tokens)

    def _refresh(self, tokens: Tokens) -> tuple[Tokens, bool]:
        """Return the pair that comes after this one, and whether it was us who made it."""
        if not self._store.locks and self._application.refreshed_by == "tasks":
            log.warning(
                "Refreshing the tokens in %s, which cannot be locked: of two tasks that do so in the same moment one "
                "may fail for good, a sign-in in that moment may be undone, and Bitrix24 may block an application for "
                "refreshing so often. Let one DAG with RefreshTokenOperator do it and set the connection's extra "
                "refreshed_by to operator, or keep the tokens in a database (token_conn_id).",
                self._store.place,
            )
        earlier = self._store.note(tokens)
        try:
            return self._change(tokens)
        except Bitrix24SignInNeeded as error:
            dead = error
        return self._changed_by_another(tokens, dead, earlier), False

    def _change(self, tokens: Tokens) -> tuple[Tokens, bool]:
        issued: Issued | None = None
        try:
            with self._store.exclusive() as held:
                stored = held.read() or tokens
                if stored.mark != tokens.mark:  # rule: one refresh for all workers: reading again under the lock
                    return self._take(stored), False
                issued = self._ask(protocol.refresh(self._settings, self._application, stored.refresh_token))
                kept = self._store_unless_replaced(held, tokens, issued.tokens)
        except Bitrix24StoreError as error:
            if issued is None:
                raise
            log.warning("%s The portal has given out new tokens meanwhile: storing them is tried again.", error)
            kept = self._retry_store(tokens, issued.tokens)
        return (self._made(issued), True) if kept == issued.tokens else (self._take(kept), False)

    def _store_unless_replaced(self, held: Held, old: Tokens, new: Tokens) -> Tokens:
        """Store a pair in the place of the one that it comes from; return what is stored then."""
        stored = held.read()  # once more: not every store keeps others out while the portal is asked
        if stored is None or stored.mark == old.mark:  # rule: a refresh does not undo a sign-in
            held.save(new)
            return new
        if stored.mark != new.mark:
            log.warning(
                "While the tokens of %s were refreshed, somebody has signed in again: their tokens in %s stay, and the "
                "refreshed ones are thrown away.",
                self._settings.portal,
                self._store.place,
            )
        return stored

    def _made(self, issued: Issued) -> Tokens:
        if self._is_elsewhere(issued):
            log.warning(
                "The token endpoint says that the new tokens are for the portal %s, and this connection is for %s. "
                "They are kept, because the old ones are not valid any more, and nothing is sent to that portal. If "
                "yours was renamed, set the connection's host to the new name; if not, ask Bitrix24.",
                issued.portal,
                self._settings.host,
            )
        log.info("The tokens of %s have been refreshed.", self._settings.portal)
        return self._take(issued.tokens)

    def _ask(self, flow: Flow[Issued]) -> Issued:
        from airflow_provider_bitrix24 import drivers

        with drivers.make_session(self._settings.at(self._application.oauth_url)) as session:
            issued = drivers.run(flow, session)
        self._hide(issued.tokens)
        return issued

    def _is_elsewhere(self, issued: Issued) -> bool:
        return issued.portal is not None and not same_host(issued.portal, self._settings.host)

    def _changed_by_another(self, tokens: Tokens, dead: Bitrix24SignInNeeded, earlier: Note | None) -> Tokens:
        """The pair that somebody else has got for ours, if that is why ours is dead.

        :raises Bitrix24SignInNeeded: it is not.
        """
        for pause in _PAUSES[:1] if self._store.locks else _PAUSES:
            time.sleep(pause)
            stored = self._store.read()
            if stored is not None and stored.mark != tokens.mark:
                return self._take(stored)
        raise Bitrix24SignInNeeded(
            dead.portal_code, dead.status, dead.method, dead.description, self._what_happened(dead, earlier)
        )

    def _retry_store(self, old: Tokens, new: Tokens) -> Tokens:
        trouble: Bitrix24StoreError | None = None
        for pause in _STORE_AGAIN:
            time.sleep(pause)
            try:
                with self._store.exclusive() as held:
                    kept = self._store_unless_replaced(held, old, new)
            except Bitrix24StoreError as error:
                trouble = error
            else:
                return kept
        assert trouble is not None  # noqa: S101 - every way out of the loop but one sets it
        raise Bitrix24StoreError(
            self._store.place,
            f"{trouble.trouble}. The portal has given out a new pair of tokens, which could not be stored and is lost. "
            f"Once the store is back: {self._advice()}",
        )

    def _take(self, tokens: Tokens) -> Tokens:
        self._hide(tokens)
        self.last = Renewal(tokens.access_token)
        if tokens.refresh_until is not None and tokens.refresh_until - time.time() < _WARN_BEFORE:
            log.warning(
                "The refresh token of %s was not used for long and expires on %s. Any refresh before that day makes a "
                "new one; RefreshTokenOperator does it by the clock.",
                self._settings.portal,
                pendulum.from_timestamp(tokens.refresh_until).to_date_string(),
            )
        return tokens

    def _hide(self, tokens: Tokens) -> None:
        secrets = tuple(filter(None, (tokens.access_token, tokens.refresh_token)))
        if not set(secrets) <= set(self._application.secrets):
            self._application.learn(secrets)
            masking.mask(secrets)

    # -- what a person is told -----------------------------------------------------------------------------------

    def _nothing_yet(self) -> Bitrix24Error:
        if self._store.reliable:
            words = f"There are no tokens yet, neither in {self._store.place} nor in the connection {self._conn_id!r}"
            return Bitrix24SignInNeeded("no_tokens", 0, "oauth/token", words, self._advice())
        return Bitrix24TokenError(
            f"No tokens in {self._store.place}, or Airflow could not be asked for it.",
            NOT_SENT,
            f"If nobody has signed in yet: {self._advice()}",
        )

    def _not_ours_to_refresh(self) -> Bitrix24TokenError:
        return Bitrix24TokenError(
            f"The access token has expired, and by refreshed_by of the connection {self._conn_id!r} only "
            "RefreshTokenOperator refreshes it: its DAG is late, paused or failing.",
            "A retry after its next run will do. This call was not executed.",
        )

    def _what_happened(self, dead: Bitrix24SignInNeeded, earlier: Note | None) -> str:
        happened = dead.advice
        if not happened and earlier is not None:
            began = pendulum.from_timestamp(earlier.since).to_datetime_string()
            happened = (
                f"A refresh of this very pair began at {began} UTC on {earlier.by} and did not end: the portal has "
                "probably given out a new pair then, which nobody has."
            )
        happened = happened or (
            "The refresh token is older than 180 days, the application was removed or changed, or somebody else has "
            f"used the token that is in {self._store.place}."
        )
        return f"{happened} This call was not executed. {self._advice()}"

    def _advice(self) -> str:
        return (
            f"Sign in again: `bitrix24-airflow oauth --conn-id {self._conn_id}`. Where no command "
            "can be run, put a new refresh_token into the connection's extra and delete the old pair from "
            f"{self._store.place}."
        )


def make_token_manager(settings: Settings, application: OAuthAuth, conn_id: str) -> TokenManager:
    """Return the manager of a connection's tokens, with the store that the connection names."""
    store: TokenStore
    key = (application.token_key or application.client_secret).get_secret_value()
    if application.token_conn_id is None:
        store = VariableTokenStore(settings.portal, application.client_id, key)
    else:
        from airflow_provider_bitrix24.hooks.token_table import SqlTokenStore
        from airflow_provider_bitrix24.sql import Database

        named_by = f"extra token_conn_id of the connection {conn_id!r}"
        database = Database.from_connection(application.token_conn_id, named_by=named_by)
        store = SqlTokenStore(database, settings.portal, application.client_id, key)
    return TokenManager(settings, application, store, conn_id)


@lru_cache(maxsize=64)
def _one_at_a_time(_pid: int, _place: str) -> threading.Lock:
    """One lock for all hooks of this process; another process's lock may be held by a thread that was not forked."""
    return threading.Lock()
