"""Whether memory stays flat while `iterate` walks through 100,000 rows."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

if TYPE_CHECKING:
    from argparse import Namespace
    from multiprocessing.connection import Connection

PAGE = 50
ROWS = (20_000, 100_000)
"""Both are long enough to be read side by side."""


class Deals(BaseHTTPRequestHandler):
    """A portal with nothing but deals, made up as they are asked for, so that only the reader needs memory."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one write
    rows = 0

    def page(self, after: int) -> list[dict[str, str]]:
        """Return the deals after an id."""
        last = min(after + PAGE, self.rows)
        return [{"ID": str(number), "TITLE": f"Deal {number}"} for number in range(after + 1, last + 1)]

    def do_POST(self) -> None:
        """Answer `crm.deal.list` with the page after the id in the filter, or a batch of such pages, or at offsets."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer: dict[str, object]
        if "cmd" in asked:
            (first, *_) = re.findall(r"%3EID\]=(\d+)", next(iter(asked["cmd"].values())))
            offsets = [re.search(r"[?&]start=(\d+)", command) for command in asked["cmd"].values()]
            begins = [int(found[1]) if found else PAGE * index for index, found in enumerate(offsets)]
            pages = {key: self.page(int(first) + begin) for key, begin in zip(asked["cmd"], begins, strict=True)}
            answer = {"result": {"result": pages, "result_error": []}}
        else:
            after = int(asked.get("filter", {}).get(">ID", 0))
            answer = {"result": self.page(after), "total": self.rows - after}
        body = json.dumps({**answer, "time": {"date_start": "2026-11-22T10:00:00+00:00"}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def serve(rows: int, told: Connection) -> None:
    """Serve `rows` deals in a process of its own, and tell the port."""
    Deals.rows = rows
    with ThreadingHTTPServer(("127.0.0.1", 0), Deals) as server:
        told.send(server.server_port)
        server.serve_forever()


def peak_of(rows: int) -> int:
    """Return the most bytes that were held while all rows were read."""
    here, there = multiprocessing.Pipe()
    portal = multiprocessing.Process(target=serve, args=(rows, there), daemon=True)
    portal.start()
    try:
        connection = {"conn_type": "bitrix24", "host": "127.0.0.1", "schema": "http", "port": here.recv()}
        connection |= {"login": "1", "password": "secret123"}
        os.environ["AIRFLOW_CONN_BITRIX24_DEFAULT"] = json.dumps(connection)
        os.environ["AIRFLOW__BITRIX24__RATE_LIMIT"] = "off"
        hook = Bitrix24Hook()
        tracemalloc.start()
        count = sum(1 for _ in hook.iterate("crm.deal.list"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        portal.terminate()
        portal.join()
    if count != rows:
        raise RuntimeError(f"{count} rows instead of {rows}")
    return peak


def measure(options: Namespace) -> list[tuple[str, str, str]]:
    """Compare the peaks of few and of many rows; a first walk loads what is loaded once."""
    peak_of(ROWS[0])
    few, many = (peak_of(rows) for rows in ROWS)
    what = f"peak memory of iterating {ROWS[1]:,} rows ({ROWS[0]:,} rows)"
    return [(what, f"{many / 2**20:.1f} MiB ({few / 2**20:.1f} MiB)", "flat")]
