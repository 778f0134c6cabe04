"""Tell that a payment is deleted, in whatever language the portal says "not found".

``crm.item.payment.get`` has one error code for everything, and words in the language of the portal. So the same request
also asks for a payment that no portal has: what the portal says of that is how it says "not found".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_bitrix24.api import preflight
from airflow_provider_bitrix24.api.models import Payment
from airflow_provider_bitrix24.api.payments import read_single
from airflow_provider_bitrix24.exceptions import Bitrix24ApiError, Bitrix24NotFound, Bitrix24PermissionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pendulum

    from airflow_provider_bitrix24.api.batch import BatchReply, Commands
    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.api.models import Profile

NO_PAYMENT: Final = 2**31 - 1
"""The largest id that the portal's database can have."""
_GET: Final = "crm.item.payment.get"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A payment, or None if it is deleted."""

    payment: Payment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupView:
    """What the portal shows of a payment that an earlier attempt may have deleted."""

    at: pendulum.DateTime | None
    """The portal's clock."""
    profile: Profile
    payment: Payment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentIfThere:
    """A payment that may be deleted."""

    payment_id: int

    def commands(self) -> Commands:
        """The commands."""
        return _commands(self.payment_id)

    def read(self, client: ApiClient, reply: BatchReply) -> Flow[Lookup]:
        """The payment; None if the portal says that there is no such payment."""
        yield from ()
        if _is_gone(reply):
            return Lookup(payment=None)
        return Lookup(payment=read_single(_GET, Payment.from_wire, reply.value("payment"), self.payment_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentIfThereBefore:
    """A payment that an earlier attempt may have deleted, and who we are."""

    payment_id: int

    def commands(self) -> Commands:
        """The commands."""
        return {**preflight.commands_before_mark(self.payment_id), **_commands(self.payment_id)}

    def read(self, client: ApiClient, reply: BatchReply) -> Flow[LookupView]:
        """See `preflight.payment_view_in`, but None instead of an error for a payment that is deleted."""
        yield from ()
        gone = _is_gone(reply)
        profile = preflight.profile_in(client, reply, needed=("crm",))
        if gone:
            return LookupView(at=reply.at, profile=profile, payment=None)
        payment = read_single(_GET, Payment.from_wire, reply.value("payment"), self.payment_id)
        return LookupView(at=reply.at, profile=profile, payment=payment)


def _commands(payment_id: int) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    return {"payment": (_GET, {"id": payment_id}), "no_payment": (_GET, {"id": NO_PAYMENT})}


def _is_gone(reply: BatchReply) -> bool:
    """Whether the portal says of the payment what it says of one that does not exist."""
    said, of_none = reply.errors.get("payment"), reply.errors.get("no_payment")
    if isinstance(said, Bitrix24NotFound):
        return True
    if not isinstance(said, Bitrix24ApiError) or not isinstance(of_none, Bitrix24ApiError):
        return False
    if isinstance(said, Bitrix24PermissionError) or not said.final:
        return False
    return (said.portal_code, said.description) == (of_none.portal_code, of_none.description)
