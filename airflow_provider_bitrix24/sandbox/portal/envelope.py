"""The shape of replies: success, errors in both dialects, the ``time`` block, and what the transport does to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_bitrix24.sandbox.portal.php import http_date, iso

if TYPE_CHECKING:
    from airflow_provider_bitrix24.sandbox.faults import Fault, Held

Dialect = Literal["source", "docs"]
Transport = Literal["drop", "hold", "truncate", "slow", "close_idle", "hostile"]

#: HTTP statuses of authentication errors in the documentation; the source throws all of them as 401.
_DOCUMENTED_STATUS = {
    "INVALID_CREDENTIALS": 403,
    "insufficient_scope": 403,
    "user_access_error": 403,
    "ACCESS_DENIED": 403,
    "INVALID_REQUEST": 400,
    "OVERLOAD_LIMIT": 503,
}


@dataclass
class PortalReply:
    """What goes back. ``transport`` asks the HTTP server to misbehave; None means: just send it.

    ``drop``: close without a byte. ``close_idle``: the same, as if the connection had been closed before. ``truncate``:
    half of the body, then close. ``slow``: the body over ``seconds``. ``hold``: wait for ``held.done``, calling the
    portal's ``tick()`` meanwhile, then send ``held.reply`` (which may have a transport of its own). ``hostile``: send
    what ``hostile.spoiled`` makes of it and of ``fault``.
    """

    status: int
    headers: dict[str, str]
    body: dict[str, Any] | str
    transport: Transport | None = None
    seconds: float | None = None
    held: Held | None = field(default=None, repr=False)
    fault: Fault | None = field(default=None, repr=False)


class RestError(Exception):
    """An error reply. An integer ``code`` is a number in the documentation's dialect and a string in the source's."""

    def __init__(
        self,
        code: str | int,
        text: str,
        status: int = 400,
        *,
        docs: tuple[str | int, str] | None = None,
        docs_status: int | None = None,
        exact: bool = False,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.status = status
        self.numeric = False
        self._exact = exact
        self._docs = docs or (code, text)
        self._docs_status = docs_status or status

    def http_status(self, dialect: Dialect) -> int:
        """The HTTP status in this dialect."""
        return self._docs_status if dialect == "docs" else self.status

    def body(self, dialect: Dialect) -> dict[str, Any]:
        """The JSON body in this dialect; ``numeric`` set on the error forces the older servers' numbers."""
        code, text = self._docs if dialect == "docs" else (self.code, self.text)
        if self.numeric and str(code).isdigit():
            code = int(code)
        elif dialect == "source" and not self._exact:
            code = str(code)
        return {"error": code, "error_description": text}


class Cut(Exception):
    """The whole request ends here with this reply, even in the middle of a batch."""

    def __init__(self, reply: PortalReply) -> None:
        super().__init__("cut")
        self.reply = reply


def auth_error(code: str, text: str) -> RestError:
    """An authentication failure: nothing has run."""
    return RestError(code, text, 401, docs_status=_DOCUMENTED_STATUS.get(code, 401))


def access_denied(status: int = 403, text: str = "Access denied!") -> RestError:
    """The refusal of the pay system methods."""
    return RestError("ACCESS_DENIED", text, status)


def item_access_denied() -> RestError:
    """The refusal of ``crm.item.payment.*``: the dialects differ in code and text."""
    return RestError("ACCESS_DENIED", "Access denied", docs=(0, "Insufficient permissions"))


def json_reply(status: int, body: dict[str, Any], now: float) -> PortalReply:
    """A JSON reply."""
    return PortalReply(status, {"Content-Type": "application/json; charset=utf-8", "Date": http_date(now)}, body)


def html_reply(status: int, now: float) -> PortalReply:
    """What a proxy or a dying PHP shows instead of a response."""
    page = f"<html>\n<head><title>{status}</title></head>\n<body><center><h1>{status}</h1></center></body>\n</html>\n"
    return PortalReply(status, {"Content-Type": "text/html; charset=utf-8", "Date": http_date(now)}, page)


def time_block(start: float, finish: float, operating: tuple[float, int] | None) -> dict[str, Any]:
    """The ``time`` block of a success; ``operating`` is the cloud's addition."""
    block: dict[str, Any] = {
        "start": start,
        "finish": finish,
        "duration": finish - start,
        "processing": finish - start,
        "date_start": iso(start),
        "date_finish": iso(finish),
    }
    if operating is not None:
        block["operating_reset_at"] = operating[1]
        block["operating"] = operating[0]
    return block
