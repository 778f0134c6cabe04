"""``bitrix24-airflow sandbox``: a portal on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.sandbox import address

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.server import SandboxServer

MISSING = "The sandbox needs the package {!r}: pip install 'airflow-provider-bitrix24[sandbox]'"
_ENDING = (signal.SIGINT, signal.SIGTERM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bitrix24-airflow sandbox",
        description="Serve a Bitrix24 portal on 127.0.0.1 for developing and testing. No money moves.",
        allow_abbrev=False,
    )
    parser.add_argument("--port", type=_port, default=0, help="TCP port; 0, the default, takes a free one")
    parser.add_argument("--secret", type=_secret, help="the webhook's secret code; made at random if not given")
    parser.add_argument(
        "--scopes",
        type=_scopes,
        metavar="NAMES",
        help="scopes of the webhook, such as crm,sale,pay_system,salescenter (the default) or more: im,user",
    )
    seed = parser.add_mutually_exclusive_group()
    seed.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the dice for faults with a probability")
    seed.add_argument("--no-seed", action="store_true", help="start with the users alone, without anything to pay")
    parser.add_argument(
        "--rate-limit",
        type=_rate,
        metavar="BURST/LEAK",
        help="refuse requests above this with 503: '50/2' allows 50 at once and 2 a second; default: no limit",
    )
    parser.add_argument(
        "--operating-limit",
        type=_seconds,
        metavar="SECONDS",
        help="refuse a method with 429 above this operating time in ten minutes; default: no limit",
    )
    parser.add_argument(
        "--operating-cost",
        type=_cost,
        action="append",
        default=[],
        metavar="METHOD=SECONDS",
        help="operating time of one call of a method, '*' for all others; default: 0.2; may be repeated",
    )
    parser.add_argument(
        "--dialect",
        choices=("source", "docs"),
        default="source",
        help="where the server's code and its documentation differ, behave like this; default: source",
    )
    parser.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="turn an option of the portal, such as payment_list_pages=true; may be repeated",
    )
    parser.add_argument("--oauth", action="store_true", help="make an OAuth application too, and print how to use it")
    parser.add_argument(
        "--access-token-lifetime",
        type=_seconds,
        metavar="SECONDS",
        help="with --oauth: how long an access token of a new application lives; default: 3600",
    )
    parser.add_argument("--tls", action="store_true", help="serve https, with a CA made on the spot")
    parser.add_argument("--require-https", action="store_true", help="refuse REST over http, as the cloud does")
    parser.add_argument(
        "--customers-pay-after",
        type=_seconds,
        metavar="SECONDS",
        help="customers pay every new payment with a sum that long after its last item was added; what the portal "
        "starts with stays unpaid",
    )
    parser.add_argument(
        "--db", type=Path, metavar="FILE", help="keep the state in this SQLite file; default: in memory"
    )
    return parser


def main(argv: list[str]) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code: 0 after a clean end, 1 if it could not start."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.require_https and not options.tls:
        parser.error("--require-https needs --tls, or nobody could call anything")
    if options.access_token_lifetime is not None and not options.oauth:
        parser.error("--access-token-lifetime needs --oauth")
    try:
        return _serve(options)
    except ModuleNotFoundError as missing:
        print(MISSING.format(missing.name), file=sys.stderr)
    except (OSError, ValueError) as error:
        print(error.strerror if isinstance(error, OSError) and error.strerror else error, file=sys.stderr)
    return 1


def _serve(options: argparse.Namespace) -> int:
    from airflow_provider_bitrix24.sandbox.portal import SCOPES, Portal
    from airflow_provider_bitrix24.sandbox.server import SandboxServer
    from airflow_provider_bitrix24.sandbox.storage import Storage

    # Blocked here and waited for below: a handler could strike anywhere, also in the middle of the start.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    portal = Portal(
        dialect=options.dialect,
        seed=not options.no_seed,
        rate_limit=options.rate_limit,
        operating_limit=options.operating_limit,
        operating_costs=dict(options.operating_cost),
        secret=options.secret,
        require_https=options.require_https,
        customers_pay_after=options.customers_pay_after,
        random_seed=options.seed,
        options=dict(options.option),
        scopes=options.scopes or SCOPES,
    )
    with contextlib.ExitStack() as stack:
        storage = None
        if options.db is not None:
            storage = stack.enter_context(contextlib.closing(Storage(options.db)))
            if storage.load(portal) and options.secret not in (None, portal.webhook.secret):
                raise ValueError(f"--secret: {options.db} has a webhook with another secret; leave the option out.")
            portal.set_options(dict(options.option))
        if options.oauth and not portal.oauth.applications:
            lifetime = options.access_token_lifetime
            portal.add_application(**({} if lifetime is None else {"access_token_lifetime": lifetime}))
        server = stack.enter_context(SandboxServer(portal, port=options.port, tls=options.tls, storage=storage))
        print(_greeting(server, with_oauth=options.oauth), flush=True)
        signal.sigwait(_ENDING)
        print("The sandbox portal has ended.", flush=True)
    return 0


def _greeting(server: SandboxServer, *, with_oauth: bool) -> str:
    webhook = server.portal.webhook
    lines = [
        f"Bitrix24 sandbox portal: {server.url}",
        f"Page:                    {server.url}/",
        f"Webhook:                 {address.webhook_url(server.url, webhook)}",
        f"As a connection URI:     {address.connection_uri(server.url, webhook, server.ca_file)}",
        "",
        "Airflow connection bitrix24_default, which is the webhook:",
        address.export_line(address.connection_json(server.url, webhook, server.ca_file)),
    ]
    if with_oauth:
        lines += _oauth_lines(server)
    if server.ca_file is not None:
        lines += [
            "",
            f"CA certificate:          {server.ca_file}",
            f"export REQUESTS_CA_BUNDLE={server.ca_file} SSL_CERT_FILE={server.ca_file}",
        ]
    return "\n".join([*lines, "", "Press Ctrl-C to end."])


def _oauth_lines(server: SandboxServer) -> list[str]:
    application = next(iter(server.portal.oauth.applications.values()))
    connection = address.oauth_connection_json(
        server.url, application, server.portal.grant(application), server.ca_file
    )
    return [
        "",
        f"OAuth application:       {application.client_id}",
        f"Sign in:                 {address.authorize_url(server.url, application)}",
        "Airflow connection bitrix24_oauth, which is the application, with the tokens of a first sign-in:",
        address.export_line(connection, address.APPLICATION_VARIABLE),
    ]


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"must be between 0 and 65535, not {number}")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds, not {text}")
    return number


def _cost(text: str) -> tuple[str, float]:
    method, equals, seconds = text.partition("=")
    if not (method and equals):
        raise argparse.ArgumentTypeError(f"must be METHOD=SECONDS, not {text!r}")
    return method, _seconds(seconds)


def _rate(text: str) -> tuple[float, float]:
    burst, _, leak = text.partition("/")
    try:
        rate = float(burst), float(leak)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be two numbers such as 50/2, not {text!r}") from None
    if not all(0 < number < float("inf") for number in rate):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text!r}")
    return rate


def _scopes(text: str) -> tuple[str, ...]:
    from airflow_provider_bitrix24.sandbox.portal.registry import METHODS

    known = {scope for method in METHODS.values() for scope in (method.scope, *method.other_scopes) if scope}
    names = tuple(name.strip() for name in text.split(","))
    if unknown := sorted(set(names) - known):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return names


def _option(text: str) -> tuple[str, Any]:
    from airflow_provider_bitrix24.sandbox.portal.options import checked

    name, equals, value = text.partition("=")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    if not equals:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, not {text!r}")
    try:
        return next(iter(checked({name: parsed}).items()))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _secret(text: str) -> str:
    if not text.isascii() or not text.isalnum():
        raise argparse.ArgumentTypeError(
            "must consist of letters and digits: it becomes a part of the webhook's address"
        )
    return text
