"""``bitrix24-airflow journal``: what was sent for which key, and a person's decision about it."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.at_most_once.record import STATES, CorruptEntry, Decision
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError, Bitrix24Error
from airflow_provider_bitrix24.identifiers import normalised, portal_name
from airflow_provider_bitrix24.journal import report
from airflow_provider_bitrix24.journal.inspect import SqlEntrySource, TaskEntrySource, readable

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_bitrix24.at_most_once.record import Record
    from airflow_provider_bitrix24.journal.inspect import EntryHandle, EntrySource
    from airflow_provider_bitrix24.sql import Database

URL: Final = "AIRFLOW_URL"
TOKEN: Final = "AIRFLOW_API_TOKEN"  # noqa: S105 - a name, no secret
_ENDS: Final = {
    "use_payment": "the task ends with that payment",
    "send_again": "it is sent once more, unless its own payment or something new is on the portal",
    "abandon": "the task fails, and nothing is sent; a payment that is not proved to be its own is released",
}


def main(argv: list[str]) -> int:
    """Run the command; returns the exit code: 0 if it did what was asked, 1 if not."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command in ("list", "show", "resolve"):
        if (options.conn_id is None) == (options.dag is None):
            parser.error("say where the journal is: either --conn-id, or --dag and --run")
        if options.dag is not None and options.run is None:
            parser.error("--dag needs --run, the run's id")
        if options.conn_id is not None and options.command != "list" and options.key is None:
            parser.error("a SQL journal needs the KEY; `journal list` shows the keys")
    try:
        return int(options.work(options))
    except Bitrix24Error as error:
        print("\n".join(report.wrap(f"{type(error).__name__}: {error}")), file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bitrix24-airflow journal",
        description="Show the journal of the payment operators, and decide what they leave to a person.",
        epilog="Where the journal is: --conn-id for a SQL journal; --dag, --run and, if the run has several, --task "
        "and --map-index (in a task loop --region and --region-index) for task "
        f"state (Airflow 3.3), through Airflow's API at --airflow-url, ${URL} or its option "
        f"[api] base_url, with the token in ${TOKEN} unless Airflow runs without a login.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, work: Callable[..., int], text: str, **more: Any) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=text, allow_abbrev=False, **more)
        added.set_defaults(work=work)
        return added

    place = _place()
    listing = command("list", _list, "all keys, the last ones first", parents=[place])
    listing.add_argument("--state", choices=STATES, help="only those in this state (%(choices)s)", metavar="STATE")
    show = command("show", _show, "everything about one key", parents=[place])
    show.add_argument("key", nargs="?", metavar="KEY")
    resolve = command("resolve", _resolve, "decide about a key", parents=[place])
    resolve.add_argument("key", nargs="?", metavar="KEY")
    decision = resolve.add_mutually_exclusive_group(required=True)
    decision.add_argument("--use-payment", type=_payment_id, metavar="ID", help="this payment is the key's")
    decision.add_argument("--send-again", action="store_true", help="send once more")
    decision.add_argument("--abandon", action="store_true", help="send nothing; the task fails")
    resolve.add_argument("--by", default=None, help="who decides; by default the user of this machine")
    resolve.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    migrate = command("migrate", _migrate, "create or update the tables of a SQL journal")
    migrate.add_argument("--conn-id", required=True, help="Airflow connection of the database")
    rename = command("rename-portal", _rename, "give a portal another name in all keys of a SQL journal")
    rename.add_argument("old", metavar="OLD", help="its name in the journal")
    rename.add_argument("new", metavar="NEW", help="portal_id of all its connections from now on, or their host")
    rename.add_argument("--conn-id", required=True, help="Airflow connection of the SQL journal")
    return parser


def _place() -> argparse.ArgumentParser:
    """The options that say where the journal is."""
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--conn-id", help="Airflow connection of the SQL journal")
    place.add_argument("--dag", help="DAG id, for task state")
    place.add_argument("--run", help="run id")
    place.add_argument("--task", help="task id; by default all tasks of the run")
    place.add_argument("--map-index", type=_map_index, help="map index; by default all of the task")
    place.add_argument("--region", help="region of an iteration of a task loop (Airflow 3.4), a UUID")
    place.add_argument("--region-index", type=int, help="index in that region; by default all of it")
    place.add_argument("--airflow-url", help="address of Airflow's UI")
    place.add_argument("--json", action="store_true", help="print JSON")
    return place


def _list(options: argparse.Namespace) -> int:
    found = [handle.entry for handle in _source(options).entries()]
    unreadable = sum(isinstance(entry, CorruptEntry) for entry in found)
    # What nobody can read may be in any state.
    entries = [entry for entry in found if options.state in (None, entry.state) or isinstance(entry, CorruptEntry)]
    if options.json:
        print(json.dumps([entry.document() for entry in entries], indent=2))
    else:
        for entry in entries:
            print("\n".join(report.line(entry)))
        print(_counted(len(entries), "key"))
    if unreadable:
        print(f"{unreadable} of them cannot be read.", file=sys.stderr)
    return int(unreadable > 0)


def _show(options: argparse.Namespace) -> int:
    entry = _one(options, part=True).entry
    print(json.dumps(entry.document(), indent=2) if options.json else "\n".join(report.details(entry)))
    return int(isinstance(entry, CorruptEntry))


def _resolve(options: argparse.Namespace) -> int:
    by = options.by or _user()
    if by is None:
        raise Bitrix24ConfigError(
            "The user of this machine has no name, as in many containers: say by --by NAME who decides.",
            "Nothing was changed.",
        )
    handle = _one(options)
    entry = readable(handle.entry)
    decision = Decision(
        what="use_payment" if options.use_payment else "send_again" if options.send_again else "abandon",
        payment_id=options.use_payment,
        candidates=entry.candidates,
        by=by,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        through="command line",
        about=entry.digest,
    )
    refuse_senseless(entry, decision)
    print("\n".join(report.details(entry)), file=sys.stderr)
    print("", *report.wrap(f"{report.words(decision)}: {_ENDS[decision.what]}."), sep="\n", file=sys.stderr)
    if not options.yes and not _confirmed():
        print("Nothing was changed.", file=sys.stderr)
        return 1
    decided, todo = handle.decide(decision)
    print(json.dumps(decided.document(), indent=2) if options.json else "\n".join(report.wrap(todo)))
    return 0


def _migrate(options: argparse.Namespace) -> int:
    from airflow_provider_bitrix24.journal.tables import SCHEMA

    before, after = _database(options.conn_id).migrate(SCHEMA)
    print(f"The journal's tables have version {after}" + (f"; it was {before}." if before != after else " already."))
    return 0


def _rename(options: argparse.Namespace) -> int:
    from airflow_provider_bitrix24.journal.renaming import rename_portal
    from airflow_provider_bitrix24.journal.sql import SqlJournal

    old, new = _portal(options.old), _portal(options.new)
    database = _database(options.conn_id)
    SqlJournal(database, "command line").require()
    keys, hosts = rename_portal(database, old, new)
    told = (
        f"The portal {old!r} is named {new!r} now, with {_counted(keys, 'key')} and {_counted(hosts, 'host')}. "
        f"Set the extra portal_id to {new!r} in all of its connections whose host has another name, before their next "
        "task runs."
    )
    print("\n".join(report.wrap(told)))
    return 0


def _portal(text: str) -> str:
    try:
        return portal_name(text)
    except ValueError:
        pass
    raise Bitrix24ConfigError(
        "OLD and NEW must be names of a portal such as acme.bitrix24.com, as `list` prints them in front of the keys.",
        "Nothing was changed.",
    )


def refuse_senseless(entry: Record, decision: Decision) -> None:
    """Refuse a decision that no attempt could carry out.

    :raises Bitrix24ConfigError: says why.
    """
    why = _why_senseless(entry, decision.payment_id if decision.what == "use_payment" else None)
    if why is not None:
        raise Bitrix24ConfigError(f"{entry.key}: {why}.", "Nothing was changed.")


def _why_senseless(entry: Record, payment_id: int | None) -> str | None:
    """Why a decision is senseless, if it is.

    :param payment_id: the payment to use; None for another decision.
    """
    if entry.kept_in is not None:
        return f"this is only a copy; its journal is {entry.kept_in}: decide there, with --conn-id"
    if entry.nothing_executed and entry.state in ("new", "incomplete"):
        return "it was not sent itself, so there is nothing to decide: clear the task, and it starts from the beginning"
    if payment_id is None:
        return None
    if entry.operation != "add_crm_payment":
        return "it adds no payment, so there is none to use: decide --send-again or --abandon"
    if entry.receipt is not None and entry.abandonment is None and entry.payment_id == payment_id:
        return f"payment {payment_id} is its own already: clear the task"
    # Beside a known payment, candidates are only remarks.
    if entry.candidates and entry.payment_id is None and payment_id not in entry.candidates:
        listed = ", ".join(map(str, entry.candidates))
        return f"payment {payment_id} is none of those that may be its own ({listed})"
    if payment_id in entry.payment_ids_before:
        return f"payment {payment_id} was there before anything was sent for this key"
    return None


def _source(options: argparse.Namespace) -> EntrySource:
    if options.conn_id is None:
        from airflow_provider_bitrix24.journal.airflow_api import AirflowApi

        api = AirflowApi(options.airflow_url or os.environ.get(URL) or _configured_url(), os.environ.get(TOKEN))
        region = options.region, options.region_index
        return TaskEntrySource(api, options.dag, options.run, options.task, options.map_index, region)
    from airflow_provider_bitrix24.journal.sql import SqlJournal, owner_of

    owner = owner_of(f"command line:{_user() or 'somebody'}")
    return SqlEntrySource(SqlJournal(_database(options.conn_id), owner))


def _user() -> str | None:
    """The user of this machine; None if it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):
        return None


def _configured_url() -> str:
    from airflow.providers.common.compat.sdk import conf

    return conf.get("api", "base_url", fallback="") or "http://localhost:8080"


def _database(conn_id: str) -> Database:
    # As Airflow's own commands do: connections that were made in its UI are in its database.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    from airflow_provider_bitrix24.sql import Database

    return Database.from_connection(conn_id, named_by="--conn-id")


def _one(options: argparse.Namespace, *, part: bool = False) -> EntryHandle:
    """Return the one entry that was asked for.

    :param part: the beginning or the end of its key is enough, if no other key begins or ends so.
    """
    source, key = _source(options), options.key
    # As given first: the identity of a DAG may hold letters that keys of authors never hold.
    ways = [(key, False), (normalised(key), False), (normalised(key), part)] if key else [(None, False)]
    found: list[EntryHandle] = []
    for text, is_part in dict.fromkeys(ways):
        found = found or list(source.entries(text, part=is_part))
    if len(found) == 1:
        return found[0]
    if not found:
        needed = "its beginning or its end is enough" if part else "the whole key is needed"
        raise Bitrix24ConfigError(
            f"There is no key {key!r} here ({needed}, as `list` prints it)."
            if key
            else "There is nothing in the journal here."
        )
    listed = ", ".join(handle.entry.key for handle in found[:5])
    more = ", …" if len(found) > 5 else ""
    raise Bitrix24ConfigError(f"There are {len(found)} entries here ({listed}{more}): give the whole KEY, or --task.")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _confirmed() -> bool:
    print("Write it into the journal? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _map_index(text: str) -> int:
    # Python's own reading takes 1_2 for 12.
    if not re.fullmatch(r"-1|[0-9]{1,9}", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"must be a map index such as 0, or -1 for a task that is not mapped, not {text!r}"
        )
    return int(text)


def _payment_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be the id of a payment, not {text!r}")
    return int(text)
