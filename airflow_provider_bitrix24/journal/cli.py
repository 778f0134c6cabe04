"""``python -m airflow_provider_bitrix24 journal``: what was sent for which key, and a person's decision about it."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24Error
from airflow_provider_bitrix24.journal.entry import Decision
from airflow_provider_bitrix24.journal.shelves import SqlShelf, TaskShelf, find

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_bitrix24.journal.entry import Entry, Send
    from airflow_provider_bitrix24.journal.shelves import Drawer, Shelf
    from airflow_provider_bitrix24.sql import Database

WIDTH: Final = 80
URL: Final = "AIRFLOW_URL"
TOKEN: Final = "AIRFLOW_API_TOKEN"  # noqa: S105 - a name, no secret
_RESULTS: Final = {
    "open": "result not known",
    "not_sent": "was not sent",
    "refused": "refused by the portal",
    "answered": "answered by the portal",
    "unclear": "answered unclearly",
    "absent": "no answer, and not on the portal",
    "not_shown": "answered, and not on the portal",
}
_ENDS: Final = {
    "adopt": "the task ends with that payment",
    "pay_again": "it is sent once more, unless something new is on the portal",
    "give_up": "the task ends red, and nothing is sent",
}


def main(argv: list[str]) -> int:
    """Run the command; returns the exit code: 0 if it did what was asked, 1 if not."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command != "migrate" and (options.conn_id is None) == (options.dag is None):
        parser.error("say where the journal is: either --conn-id, or --dag and --run")
    if options.dag is not None and options.run is None:
        parser.error("--dag needs --run, the run's id")
    if options.command in ("show", "resolve") and options.conn_id is not None and options.key is None:
        parser.error("a SQL journal needs the KEY; `journal list` shows the keys")
    try:
        return int(options.work(options))
    except Bitrix24Error as error:
        print(textwrap.fill(f"{type(error).__name__}: {error}", WIDTH), file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_bitrix24 journal",
        description="Look into the journal of the payment operators, and settle what they leave to a person.",
        epilog="Where the journal is: --conn-id for a SQL journal; --dag, --run and, if the run has several, --task "
        f"and --map-index for task state (Airflow 3.3), through Airflow's API at --airflow-url or ${URL}, with the "
        f"token in ${TOKEN} unless Airflow runs without a login.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    place = _place()
    listing = commands.add_parser("list", parents=[place], help="all keys, the last ones first", allow_abbrev=False)
    listing.add_argument("--state", help="only those in this state, such as parked, unknown or done")
    listing.set_defaults(work=_list)
    show = commands.add_parser("show", parents=[place], help="one key's whole story", allow_abbrev=False)
    show.add_argument("key", nargs="?", metavar="KEY")
    show.set_defaults(work=_show)
    resolve = commands.add_parser("resolve", parents=[place], help="decide about a key", allow_abbrev=False)
    resolve.add_argument("key", nargs="?", metavar="KEY")
    decision = resolve.add_mutually_exclusive_group(required=True)
    decision.add_argument("--adopt", type=_payment_id, metavar="ID", help="this payment is the key's")
    decision.add_argument("--pay-again", action="store_true", help="send once more")
    decision.add_argument("--give-up", action="store_true", help="send nothing; the task ends red")
    resolve.add_argument("--by", default=None, help="who decides; by default the user of this machine")
    resolve.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    resolve.set_defaults(work=_resolve)
    migrate = commands.add_parser("migrate", help="make or update the tables of a SQL journal", allow_abbrev=False)
    migrate.add_argument("--conn-id", required=True, help="Airflow connection of the database")
    migrate.set_defaults(work=_migrate, dag=None)
    return parser


def _place() -> argparse.ArgumentParser:
    """The options that say where the journal is."""
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--conn-id", help="Airflow connection of the SQL journal")
    place.add_argument("--dag", help="DAG id, for task state")
    place.add_argument("--run", help="run id")
    place.add_argument("--task", help="task id; by default all tasks of the run")
    place.add_argument("--map-index", type=int, help="map index; by default all of the task")
    place.add_argument(
        "--airflow-url", default=os.environ.get(URL, "http://localhost:8080"), help="address of Airflow's UI"
    )
    place.add_argument("--json", action="store_true", help="print JSON")
    return place


def _list(options: argparse.Namespace) -> int:
    entries = [drawer.entry for drawer in find(_shelf(options), lambda entry: options.state in (None, entry.state))]
    if options.json:
        print(json.dumps([entry.document() for entry in entries], indent=2))
        return 0
    for entry in entries:
        print(f"{entry.state:<13}{entry.subject:<20}{_last_time(entry)}")
        print(textwrap.fill(entry.key, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))
    print(f"{len(entries)} keys" if len(entries) != 1 else "1 key")
    return 0


def _show(options: argparse.Namespace) -> int:
    entry = _one(options).entry
    print(json.dumps(entry.document(), indent=2) if options.json else "\n".join(_story(entry)))
    return 0


def _resolve(options: argparse.Namespace) -> int:
    drawer = _one(options)
    entry = drawer.entry
    decision = Decision(
        what="adopt" if options.adopt else "pay_again" if options.pay_again else "give_up",
        payment_id=options.adopt,
        candidates=entry.candidates,
        by=options.by or getpass.getuser(),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        through="command line",
    )
    refuse_senseless(entry, decision)
    print("\n".join(_story(entry)), file=sys.stderr)
    print(f"\n{_words(decision)}: {_ENDS[decision.what]}.", file=sys.stderr)
    if not options.yes and not _confirmed():
        print("Nothing was changed.", file=sys.stderr)
        return 1
    decided = entry.but(decision=decision)
    drawer.replace(decided)
    if options.json:
        print(json.dumps(decided.document(), indent=2))
    else:
        print(textwrap.fill("It is in the journal. Clear the task now: it reads the portal and carries it out.", WIDTH))
    return 0


def _migrate(options: argparse.Namespace) -> int:
    from airflow_provider_bitrix24.journal.database import SCHEMA

    before, after = _database(options.conn_id).migrate(SCHEMA)
    print(f"The journal's tables have version {after}" + (f"; it was {before}." if before != after else " already."))
    return 0


def refuse_senseless(entry: Entry, decision: Decision) -> None:
    """Refuse a decision that no attempt could carry out.

    :raises Bitrix24ConfigError: says why.
    """
    why = None
    if entry.kept_in is not None:
        why = f"this is only a copy; its journal is {entry.kept_in}: decide there, with --conn-id"
    elif entry.state == "nothing sent":
        why = "nothing of it was sent, so there is nothing to decide: clear the task, and it begins anew"
    elif entry.receipt is not None and decision.what != "pay_again":
        why = "it is done: only --pay-again makes sense, if the portal does not show the payment any more"
    elif decision.what == "adopt" and entry.operation != "add_crm_payment":
        why = "it marks something as paid, and a mark is there or not: decide --pay-again or --give-up"
    elif decision.what == "adopt" and entry.payment_id is not None and entry.payment_id != decision.payment_id:
        why = f"its payment is known: {entry.payment_id}. Clear the task, and it is completed"
    elif decision.what == "adopt" and entry.candidates and decision.payment_id not in entry.candidates:
        listed = ", ".join(map(str, entry.candidates))
        why = f"payment {decision.payment_id} is none of those that may be its own ({listed})"
    elif decision.what == "adopt" and decision.payment_id in entry.seen:
        why = f"payment {decision.payment_id} was there before anything was sent for this key"
    if why is not None:
        raise Bitrix24ConfigError(f"{entry.key}: {why}. Nothing was changed.")


def _shelf(options: argparse.Namespace) -> Shelf:
    if options.conn_id is None:
        from airflow_provider_bitrix24.journal.airflow_api import AirflowApi

        api = AirflowApi(options.airflow_url, os.environ.get(TOKEN))
        return TaskShelf(api, options.dag, options.run, options.task, options.map_index)
    from airflow_provider_bitrix24.journal.database import SqlJournal

    return SqlShelf(SqlJournal(_database(options.conn_id), f"command line:{getpass.getuser()}"))


def _database(conn_id: str) -> Database:
    # As Airflow's own commands do: connections that were made in its UI are in its database.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    from airflow_provider_bitrix24.sql import Database

    return Database.from_connection(conn_id)


def _one(options: argparse.Namespace) -> Drawer:
    """Return the one entry that was asked for."""
    found = find(_shelf(options), lambda entry: options.key in (None, entry.key))
    if len(found) == 1:
        return found[0]
    if not found:
        raise Bitrix24ConfigError(
            f"There is no key {options.key!r} here." if options.key else "There is nothing in the journal here."
        )
    listed = ", ".join(drawer.entry.key for drawer in found[:5])
    raise Bitrix24ConfigError(f"There are {len(found)} entries here ({listed}, …): give the KEY, or --task.")


def _confirmed() -> bool:
    print("Write it into the journal? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# -- for people


def _story(entry: Entry) -> Sequence[str]:
    lines = [
        *_field("key", entry.key),
        *_field("portal", entry.portal),
        *_field("what", f"{entry.operation}, {entry.subject}"),
        *_field("state", entry.state),
        *_field("opened by", entry.task),
        *_field("wanted", ", ".join(f"{name}={value}" for name, value in entry.parameters.items())),
    ]
    if entry.payment_id is not None:
        lines += _field("payment", f"{entry.payment_id} (evidence: {entry.evidence})")
    lines += _sends("sent", entry.sends)
    for name, sends in entry.steps.items():
        lines += _sends(name, sends)
    for decision in (*entry.decisions, *([entry.decision] if entry.decision else [])):
        pending = " - not carried out yet" if decision is entry.decision else ""
        lines += _field("decided", f"{decision.at} {_words(decision)} ({decision.through}){pending}")
    if entry.receipt is not None:
        lines += _field("receipt", ", ".join(f"{name}={value}" for name, value in entry.receipt.items()))
    if entry.question is not None:
        lines += _field("question", entry.question)
    if entry.candidates:
        lines += _field("candidates", ", ".join(map(str, entry.candidates)))
    return lines


def _sends(name: str, sends: Iterable[Send]) -> Sequence[str]:
    lines: list[str] = []
    for send in sends:
        said = f": {send.said}" if send.said else ""
        lines += _field(name, f"{_time(send.at)} {_RESULTS[send.result]}{said}, by {send.by}")
    return lines


def _field(name: str, text: Any) -> Sequence[str]:
    return textwrap.wrap(
        f"{name:<12}{text}", WIDTH, subsequent_indent=" " * 12, break_on_hyphens=False, drop_whitespace=True
    )


def _words(decision: Decision) -> str:
    which = f" {decision.payment_id}" if decision.payment_id else ""
    return f"{decision.by} decides: {decision.what.replace('_', ' ')}{which}"


def _last_time(entry: Entry) -> str:
    if entry.sends:
        return f"sent {_time(entry.sends[-1].at)}"
    return "never sent"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _payment_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be the id of a payment, not {text!r}")
    return int(text)
