"""The command ``bitrix24-airflow``, also ``python -m airflow_provider_bitrix24``: run the given subcommand."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

_CUT_OFF: Final = 141
"""Exit code of a program whose reader is gone, as shells know it: 128 and the number of SIGPIPE."""

# Named, not imported: the provider at work never loads what only a command needs.
COMMANDS = {
    "oauth": ("airflow_provider_bitrix24.hooks.oauth_cli", "sign in as an OAuth application, for its first tokens"),
    "journal": ("airflow_provider_bitrix24.journal.cli", "look into the journal, and settle what needs a person"),
    "sandbox": ("airflow_provider_bitrix24.sandbox.cli", "serve a local Bitrix24 portal for developing and testing"),
}


def main(argv: list[str]) -> int:
    """Run the command named first in ``argv`` with the rest of it; returns the exit code."""
    command, *rest = argv or ["--help"]
    if command in COMMANDS:
        module, _ = COMMANDS[command]
        code: int = importlib.import_module(module).main(rest)
        return code
    usage = ["usage: bitrix24-airflow COMMAND [options]", "", "commands:"]
    usage += [f"  {name:<10}{what}" for name, (_, what) in COMMANDS.items()]
    if command in ("-h", "--help"):
        print("\n".join(usage))
        return 0
    print(f"There is no command {command!r}.", *usage, sep="\n", file=sys.stderr)
    return 2


def console() -> int:
    """Run the command line's arguments; the entry point of the script ``bitrix24-airflow``."""
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # of `... | head`
        # What is left in the buffer would fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CUT_OFF
    return code


if __name__ == "__main__":
    sys.exit(console())
