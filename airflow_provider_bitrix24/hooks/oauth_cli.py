"""``bitrix24-airflow oauth``: sign in, and store the first pair of tokens.

For a shell that sees Airflow's configuration: connections and Variables are Airflow's.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
from getpass import getpass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from airflow_provider_bitrix24 import api, connections
from airflow_provider_bitrix24.api.address import Written, same_host
from airflow_provider_bitrix24.exceptions import Bitrix24AuthError, Bitrix24ConfigError, Bitrix24Error

if TYPE_CHECKING:
    from airflow_provider_bitrix24.api.credentials import OAuthAuth
    from airflow_provider_bitrix24.api.settings import Settings
    from airflow_provider_bitrix24.api.tokens import Tokens
    from airflow_provider_bitrix24.hooks.tokens import TokenManager

_CODE = re.compile(r"[A-Za-z0-9._~-]{1,200}")
_EXPLAINED = """\
Open this address in a browser in which you are signed in to {host} as the user that the tasks are to act as:

  {address}

Allow the application what it asks for. The browser is then sent to the application's redirect address, with a code that
lives for 30 seconds. Paste that whole address here (or the code alone).
"""


def main(argv: list[str]) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(argv)
    # Without this the SDK would not look into Airflow's database, where connections are.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    try:
        return _sign_in(options.conn_id, options.code, options.state)
    except Bitrix24Error as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    except Exception as error:  # noqa: BLE001 - Airflow has many, and some hold what must not be shown
        print(f"The Airflow connection {options.conn_id!r} cannot be read ({type(error).__name__}).", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bitrix24-airflow oauth",
        description="Sign in to a portal as an OAuth application, and store the first pair of tokens.",
    )
    parser.add_argument("--conn-id", default="bitrix24_default", help="Airflow connection (default: %(default)s)")
    parser.add_argument("--code", help="the code, or the whole address with it; asked for if not given")
    parser.add_argument("--state", help="the state of the address that was opened, if this is not the same run")
    return parser


def _sign_in(conn_id: str, answer: str | None, state: str | None) -> int:
    from airflow_provider_bitrix24.hooks import masking
    from airflow_provider_bitrix24.hooks.settings import read_settings
    from airflow_provider_bitrix24.hooks.tokens import make_token_manager

    connection = connections.find(conn_id, "--conn-id")
    settings = read_settings(connection, connections.read_extra(connection, conn_id), conn_id)
    masking.mask(settings.secrets)
    application = settings.application
    if application is None:
        raise Bitrix24ConfigError(
            f"The Airflow connection {conn_id!r} is a webhook's.",
            "Set its extra auth to oauth, login to the client id and password to the client secret.",
        )
    manager = make_token_manager(settings, application, conn_id)
    manager.get_ready()
    if answer is None:
        state = state or secrets.token_urlsafe(16)
        address = api.tokens.consent_url(settings, application, state)
        print(_EXPLAINED.format(host=settings.host, address=address), flush=True)
        answer = getpass("Address or code: ") if sys.stdin.isatty() else sys.stdin.readline()
    tokens = _exchange(manager, read_code(answer, settings, state), _hint_of_other_server(answer, application))
    _say_who(settings, tokens)
    print(f"The tokens are in {manager.place}, and tasks can begin.")
    return 0


def _exchange(manager: TokenManager, code: str, hint: str) -> Tokens:
    try:
        return manager.sign_in(code)
    except Bitrix24AuthError as error:
        refused = error
    advice = f"{hint} {refused.advice}".strip()
    raise type(refused)(refused.portal_code, refused.status, refused.method, refused.description, advice)


def _hint_of_other_server(answer: str, application: OAuthAuth) -> str:
    """Say what to correct if the pasted address names another token endpoint than the connection; else empty."""
    server = _pasted_fields(answer).get("server_domain", [""])[-1]
    if not server or same_host(server, application.oauth_url):
        return ""
    try:
        host = Written.take_apart(server).host
    except Bitrix24ConfigError:
        return ""
    return (
        f"The pasted address says that the token endpoint is {host} (server_domain): set the connection's extra "
        f"oauth_url to https://{host}."
    )


def _pasted_fields(answer: str) -> dict[str, list[str]]:
    """Return the query fields of a pasted address; none if it is a code alone."""
    text = answer.strip()
    return parse_qs(urlsplit(text).query or text.partition("?")[2] or text) if set("?=") & set(text) else {}


def _say_who(settings: Settings, tokens: Tokens) -> None:
    """Name the user that the tasks will act as: the one who was signed in to the portal in that browser."""
    from airflow_provider_bitrix24.hooks import connection_test

    found, trouble = None, "it calls the new access token expired"
    try:
        found = connection_test.ask(settings, tokens.access_token)
    except Bitrix24Error as error:
        trouble = str(error)
    if found is None:
        print(f"Signed in to {settings.portal}.")
        print(f"Warning: the portal does not say as whom, or what that user may do: {trouble}", file=sys.stderr)
        return
    print("\n".join([f"Signed in to {settings.portal} as {found.who}.", *found.problems, *found.abilities]))
    if found.limits:
        print("Warning: this user is not an administrator.", *found.limits, file=sys.stderr)


def read_code(answer: str, settings: Settings, state: str | None) -> str:
    """Return the code in what a person has pasted.

    :param answer: the code alone, or the address that the browser was sent to.
    :param settings: the portal that must have sent it.
    :param state: what must come back with it, if it is known; a code alone comes without.
    :raises Bitrix24ConfigError: there is no code in it, or it is the answer to something else.
    """
    found = _pasted_fields(answer) or {"code": [answer.strip()]}
    code = found.get("code", [""])[-1]
    if _CODE.fullmatch(code) is None:
        raise Bitrix24ConfigError("There is no code in that.", "Open the address again: a new code is made each time.")
    if state is not None and "state" in found and found["state"] != [state]:
        raise Bitrix24ConfigError(
            "That is the answer to another request (its state is not ours).",
            "Nothing was stored. Open the address that was printed, and paste what the browser shows then.",
        )
    if not same_host(found.get("domain", [settings.host])[-1], settings.host):
        raise Bitrix24ConfigError(
            f"The consent was given at another portal than {settings.host}, which the connection is for.",
            f"Nothing was stored. Open the address in a browser in which you are signed in to {settings.host}.",
        )
    return code
