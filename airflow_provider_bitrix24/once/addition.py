"""What is to be added to which object, for the modules that add, find and complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow_provider_bitrix24.api import payments
from airflow_provider_bitrix24.api.tags import read_evidence, tag_of
from airflow_provider_bitrix24.api.values import ENTITY_NAMES
from airflow_provider_bitrix24.exceptions import PaymentMismatch
from airflow_provider_bitrix24.journal.entry import PROVED
from airflow_provider_bitrix24.once.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from decimal import Decimal

    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.api.models import Payment
    from airflow_provider_bitrix24.api.tags import Shown
    from airflow_provider_bitrix24.once.story import Story


class Addition:
    """One payment to add, as the key's first attempt wanted it.

    :param story: what is known about the key.
    :param tag: whether the key is written into the payment.
    :param max_amount: the largest sum that the payment may have.
    """

    def __init__(self, story: Story, tag: bool, max_amount: Decimal | None = None) -> None:
        self.story = story
        self.attempt = story.attempt
        self.tag = tag_of(story.entry.portal, story.entry.key) if tag else None
        self.user_id = 0
        self.max_amount = max_amount
        self.judged: set[int] = set()
        """The payments that the last search has judged."""
        self.prices: Mapping[int, Decimal] = {}
        """What the product rows that are still available cost now, by row."""

    @property
    def _parameters(self) -> Mapping[str, Any]:
        """What is wanted; of a key that has sent something already, what was wanted then."""
        return self.story.entry.parameters

    @property
    def entity_id(self) -> int:
        """Deal or smart invoice."""
        return int(self._parameters["entity_id"])

    @property
    def entity_type_id(self) -> int:
        """2 or 31."""
        return int(self._parameters["entity_type_id"])

    @property
    def pay_system_id(self) -> int | None:
        """None leaves the choice to the portal."""
        found: int | None = self._parameters.get("pay_system_id")
        return found

    @property
    def fill_products(self) -> bool:
        """Whether product rows go into the payment."""
        return bool(self._parameters.get("fill_products") or self.products)

    @property
    def products(self) -> dict[int, int]:
        """Quantity by product row, as the author has chosen them; empty otherwise."""
        return {int(row_id): int(quantity) for row_id, quantity in self._parameters.get("products", {}).items()}

    @property
    def rows(self) -> dict[int, int]:
        """Quantity by product row; empty if the payment is to stay empty."""
        return {int(row_id): quantity for row_id, quantity in self.story.entry.plan.items()}

    @property
    def of(self) -> str:
        """The object, for messages: "deal 1"."""
        return f"{ENTITY_NAMES[self.entity_type_id]} {self.entity_id}"

    @property
    def is_ours(self) -> bool:
        """Whether this key has added the payment: it was not there before, and nobody else added it."""
        entry = self.story.entry
        return bool(entry.may_have_run) and entry.evidence != "state"

    def read_payments(self, *payment_ids: int) -> Flow[list[Payment]]:
        """Read payments of the object; without ids all of them, unfiltered."""
        return payments.list_crm_payments(
            self.attempt.client,
            entity_id=self.entity_id,
            entity_type_id=self.entity_type_id,
            filter={"@id": list(payment_ids)} if payment_ids else None,
        )

    def read_evidence(self) -> Flow[Shown]:
        """Read all payments of the object, and which of them the connection's user has added since the first send."""
        entry = self.story.entry
        first, last = entry.sends[0], entry.sends[-1]
        return read_evidence(
            self.attempt.client,
            entity_id=self.entity_id,
            entity_type_id=self.entity_type_id,
            user_id=self.user_id,
            since=first.at if entry.decided_at is None else min(first.at, entry.decided_at),
            until=last.settle_until,
            tag=self.tag,
            known=entry.seen,
        )

    def candidates(self, shown: Shown) -> list[int]:
        """The payments that have appeared since before the first send, and are not known to be somebody else's.

        When that was is not known of what the journal has forgotten: then all of them may be ours.

        That another key has claimed one says so only if the portal has proved it, or if it does not fit us anyway: else
        the other key may have taken ours.
        """
        entry = self.story.entry
        if not entry.may_have_run and not entry.forgotten:
            return []
        known = {*entry.seen, *entry.dismissed}
        new = [payment.id for payment in shown.payments if payment.id not in known]
        claims = self.story.page.claimed_by_others(new) if new else {}
        fitting = set(new) if shown.fitting is None else shown.fitting
        return [one for one in new if one not in claims or (claims[one] not in PROVED and one in fitting)]

    def tagged(self, shown: Shown) -> Payment | None:
        """The payment that carries this key's tag.

        :raises PaymentAmbiguous: several do.
        :raises PaymentMismatch: that of another object does.
        """
        known = set(self.story.entry.dismissed)
        if shown.tagged_elsewhere - known:
            listed = ", ".join(map(str, sorted(shown.tagged_elsewhere)))
            raise PaymentMismatch(
                f"The key {self.story.entry.key!r} was used before for payment {listed}, which belongs to another "
                f"object than {self.of}. Nothing was sent by this attempt. Give every payment a key of its own."
            )
        tagged = [payment for payment in shown.payments if payment.id in shown.tagged - known]
        if len(tagged) > 1:
            self.leave_to_a_person([payment.id for payment in tagged])
        return tagged[0] if tagged else None

    def leave_to_a_person(self, candidates: Collection[int]) -> NoReturn:
        """Leave it to a person, if this key was sent as often as it may be, or several payments carry its tag."""
        if candidates:
            listed = ", ".join(map(str, sorted(candidates)))
            happened = f"The payments {listed} of {self.of} all carry the tag of one key"
        else:
            times = self.story.entry.may_have_run
            last = self.story.entry.last
            assert last is not None  # noqa: S101 - it was sent as often as it may be
            happened = (
                f"A payment for {self.of} was sent {times} times for one key, and the portal shows none that may be "
                f"its own (the last time: {last.said or 'no response'})"
            )
        self.story.park(
            f"{happened}.{self.story.set_aside} Nothing is sent again automatically. {self.what_to_do}", candidates
        )

    @property
    def what_to_do(self) -> str:
        """Advice for a person."""
        if not self.story.journal.durable:
            return (
                f"There is no journal that would keep a decision. What to do: look at the payments of {self.of} in "
                "Bitrix24. If the payment is there, go on with it by hand; if not, start a new run of the DAG."
            )
        return (
            f"What to do: look at the payments of {self.of} in Bitrix24, and decide, to adopt one, to pay again, or to "
            f"give up, by {self.story.how_to_decide()}; then clear this task."
        )

    def look_for(self, payment_id: int) -> str:
        """Advice about one payment."""
        return (
            f"Look at the payments of {self.of} in Bitrix24: if payment {payment_id} is there, go on with it; add "
            "another one only if it is not."
        )

    def receipt(self, payment: Payment, *, outcome: Literal["created", "existing"], recovered: bool) -> Receipt:
        """Return the receipt for what the portal shows."""
        return Receipt(
            operation="add_crm_payment",
            outcome=outcome,
            portal=self.attempt.portal,
            subject={"entity_type_id": self.entity_type_id, "entity_id": self.entity_id, "payment_id": payment.id},
            pay_system_id=payment.pay_system_id,
            money=payment.money,
            paid_at=None,
            idempotency_key=self.story.entry.key,
            evidence=self.story.entry.evidence or "state",
            sent=self.story.sent_now,
            recovered=recovered,
        )
