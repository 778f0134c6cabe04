"""Print the frames of the provider that are on the stack when a payment leaves through the socket."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_task import Task
from tables import show

from airflow_provider_bitrix24.operators.payments import PayInvoiceOperator
from airflow_provider_bitrix24.sandbox.address import connection_json, oauth_connection_json
from airflow_provider_bitrix24.sandbox.portal import Portal
from airflow_provider_bitrix24.sandbox.server import SandboxServer

if TYPE_CHECKING:
    from argparse import Namespace

PACKAGE = "airflow_provider_bitrix24"
MOST = 9
"""How many frames of ours there may be."""


def frames_at_the_socket(connection: str) -> list[str]:
    """Pay an invoice by the operator, and return our frames at the moment when the mark leaves, outermost first."""
    os.environ["AIRFLOW_CONN_BITRIX24_DEFAULT"] = connection
    found: list[list[str]] = []
    sendall = socket.socket.sendall

    def watched(self: socket.socket, data: Any, *flags: int) -> None:
        if b"sale.paysystem.pay.invoice" in bytes(data[:200]):
            found.append(_ours(sys._getframe(1)))
        sendall(self, data, *flags)

    socket.socket.sendall = watched  # type: ignore[method-assign]
    try:
        PayInvoiceOperator(task_id="pay", invoice_id=2, pay_system_id=31).execute(Task("pay").context)
    finally:
        socket.socket.sendall = sendall  # type: ignore[method-assign]
    return found[0]


def _ours(frame: Any) -> list[str]:
    frames = []
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if PACKAGE in file.parts and "sandbox" not in file.parts:
            where = Path(*file.parts[file.parts.index(PACKAGE) + 1 :])
            frames.append(f"{where}:{frame.f_lineno} {frame.f_code.co_qualname}")
        frame = frame.f_back
    return frames[::-1]


def measure(options: Namespace) -> list[tuple[str, str, str]]:
    """Print the stacks, with a webhook and with an OAuth application."""
    figures = []
    for kind in ("webhook", "OAuth application"):
        portal = Portal()
        with SandboxServer(portal) as server, tempfile.TemporaryDirectory() as folder:
            connection = connection_json(server.url, portal.webhook)
            if kind != "webhook":
                application = portal.add_application(scopes=("crm", "sale", "pay_system"))
                fields = json.loads(oauth_connection_json(server.url, application, portal.grant(application, 1)))
                os.environ["AIRFLOW_CONN_TOKENS"] = json.dumps({"conn_type": "sqlite", "host": f"{folder}/tokens.db"})
                connection = json.dumps({**fields, "extra": {**fields["extra"], "token_conn_id": "tokens"}})
            frames = frames_at_the_socket(connection)
        show(f"\n**The stack at the socket: {kind}**\n")
        for number, frame in enumerate(frames, 1):
            show(f"    {number:2}  {frame}")
        figures.append((f"frames of the provider on the stack at the socket, {kind}", str(len(frames)), f"≤ {MOST}"))
    return figures
