"""What the journal holds of one key: what was meant, what was sent, the outcome. Plain JSON that a person can read.

The document lives in Airflow's Storage tab or in a SQL table, where people can look at it and newer releases find what
older ones wrote: so it has a version, and every field that is added later has a default.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError

from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Operation = Literal["pay_invoice", "add_crm_payment", "pay_crm_payment"]
Evidence = Literal["answer", "tag", "difference", "state", "person"]
SendResult = Literal["open", "not_sent", "refused", "answered", "unclear", "absent", "not_shown"]
"""``open``: written before sending; whether it left, and the outcome, is not known yet. ``not_sent``, ``refused``:
certainly not executed. ``answered``: the portal said yes. ``unclear``: it said something else. ``absent``: no answer,
and the portal does not show it; or a person has said that it is not there. ``not_shown``: the portal said yes, or
something unclear, and does not show it."""
PROVED: Final = ("answer", "tag")
"""Evidence that cannot be mistaken: the portal itself has said whose the payment is."""
STATES: Final = (
    "nothing sent",
    "unknown",
    "answered",
    "absent",
    "not_shown",
    "incomplete",
    "parked",
    "decided",
    "given_up",
    "done",
    "unreadable",
)
MAY_HAVE_RUN: Final = ("open", "answered", "unclear", "absent", "not_shown")


def _seconds(value: object) -> object:
    """Seconds since the epoch, from what the document has."""
    return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else value


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


PortalTime = Annotated[float, BeforeValidator(_seconds), PlainSerializer(_iso, when_used="json")]
"""Seconds since the epoch by the portal's clock; ISO 8601 in the document, for people."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    def but(self, **changes: Any) -> Self:
        """Return a copy with other values."""
        return self.model_copy(update=changes)


class Send(_Part):
    """One time that the write was sent, or was about to be."""

    at: PortalTime
    """When it was decided."""
    settle_until: PortalTime
    """From when on nothing of it can still arrive."""
    by: str
    """Which attempt of which task."""
    result: SendResult = "open"
    said: str | None = None
    """The portal's words, or what came instead of them."""
    by_our_clock: bool = False
    """Whether its times are by the worker's clock, because the portal told none."""
    told: tuple[str, ...] = ()
    """The tasks that were red because it is not shown, each with its round; clearing a task begins another one."""

    @property
    def may_have_run(self) -> bool:
        """Whether it may have been executed."""
        return self.result in MAY_HAVE_RUN

    def settle(self, result: SendResult, said: str | None, told: str | None) -> Send:
        """Return a copy that knows what became of it.

        :param told: the task that ends red if it is not shown, with its round.
        """
        tell = (told,) if result == "not_shown" and told is not None and told not in self.told else ()
        return self.but(result=result, said=said, told=(*self.told, *tell))


class Decision(_Part):
    """What a person has decided about a key."""

    what: Literal["adopt", "pay_again", "give_up"]
    payment_id: int | None = None
    """The payment to adopt."""
    candidates: tuple[int, ...] = ()
    """The payments that the person was shown; another one since makes "pay again" void."""
    by: str
    at: str
    """ISO 8601."""
    through: str
    """"Airflow" or "command line"."""
    key: str | None = None
    """The key that it is about, where another one may find it."""
    about: str | None = None
    """Digest of the entry that the person was shown."""
    set_aside: tuple[int, ...] = ()
    """Payments that are not this key's, as it says; known when it is carried out."""
    refused: str | None = None
    """Why it was not carried out; None if it was, or is still to be."""

    def is_the_same_as(self, other: Decision) -> bool:
        """Whether it is the same one, whatever has become of it."""
        fields = ("by", "at", "through", "what", "payment_id")
        return all(getattr(self, name) == getattr(other, name) for name in fields)


class Entry(_Part):
    """One key."""

    v: Literal[1] = 1
    key: str
    portal: str
    operation: Operation
    subject: str
    """The object, for people and for finding other keys that write to it: "deal 4", "invoice 2"."""
    parameters: dict[str, Any]
    """What was asked for; compared one by one with what a later attempt asks for."""
    forgotten: bool = False
    """Whether earlier attempts may have sent something of which the journal has lost every note."""
    forgotten_since: PortalTime | None = None
    """When that was noticed; None as long as the portal has not told its time."""
    kept_in: str | None = None
    """The journal that counts, if this is only its copy in the task state."""
    task: str
    """The task that opened it, or, once it was parked, through which a person is asked."""
    decided_at: PortalTime | None = None
    """The portal's clock when it still showed nothing, before the first send."""
    amount: str | None = None
    """The amount of the object before the first send; marks only."""
    currency: str | None = None
    seen: tuple[int, ...] = ()
    """The payments of the object before the first send."""
    dismissed: tuple[int, ...] = ()
    """Payments of which a person has said that they are not ours."""
    sends: tuple[Send, ...] = ()
    payment_id: int | None = None
    """The payment that this key is about, once it is known."""
    evidence: Evidence | None = None
    steps: dict[str, tuple[Send, ...]] = {}
    """What completes the payment, by name ("row 17"): each with its own sends."""
    plan: dict[str, int] = {}
    """Quantity by product row that goes into the payment; JSON has only text as names."""
    receipt: dict[str, Any] | None = None
    """The receipt of the attempt that ended green."""
    question: str | None = None
    """What a person is asked; None if nobody is."""
    candidates: tuple[int, ...] = ()
    """Payments that may be ours."""
    rivals: tuple[str, ...] = ()
    """Keys that wrote to the same object with an unknown outcome, so that its payments cannot be told apart."""
    decision: Decision | None = None
    """A decision that no attempt has carried out yet."""
    decisions: tuple[Decision, ...] = ()
    """Decisions that were carried out, and those that were not: they say why."""

    @property
    def may_have_run(self) -> int:
        """How many of the sends may have been executed."""
        return sum(send.may_have_run for send in self.sends)

    @property
    def free(self) -> bool:
        """Whether certainly nothing of ours was executed, so that everything may begin again."""
        nothing_known = self.receipt is None and self.payment_id is None and not self.may_have_run
        return nothing_known and not self.forgotten

    @property
    def open(self) -> Send | None:
        """The last send, if its outcome is not known."""
        return self.last if self.last is not None and self.last.result == "open" else None

    @property
    def state(self) -> str:
        """In one word of :data:`STATES`, for people."""
        if self.decision is not None:
            return "decided"
        if self.given_up is not None:
            return "given_up"
        if self.receipt is not None:
            return "done"
        if self.question is not None:
            return "parked"
        if self.payment_id is not None:
            return "incomplete"
        if self.free:
            return "nothing sent"
        last = self.last
        if last is None:
            return "unknown"  # forgotten
        return {"open": "unknown", "unclear": "unknown"}.get(last.result, last.result)

    @property
    def known(self) -> str:
        """What is known of it without the portal, as sentences; nothing, if certainly nothing was executed."""
        if self.free:
            return ""
        if self.receipt is not None:
            what = f", with payment {self.payment_id}" if self.payment_id else ""
            return f"{self.task} has succeeded for {self.subject}{what}."
        if self.payment_id is not None:
            return f"Payment {self.payment_id} of {self.subject} is this key's, and may not be complete yet."
        last = self.last
        if last is None:
            return (
                f"The journal has lost what earlier attempts of {self.task} noted: a write for {self.subject} MAY be "
                "on the books of the portal."
            )
        if last.result in ("absent", "not_shown"):
            return f"{last.by} has sent a write for {self.subject}, and the portal did not show it then."
        return f"{last.by} has sent a write for {self.subject}, which MAY be on the books of the portal."

    @property
    def last(self) -> Send | None:
        """The last send that may have been executed: what certainly was not says nothing."""
        return next((send for send in reversed(self.sends) if send.may_have_run), None)

    def goes_on_from(self, earlier: Entry) -> bool:
        """Whether it differs from an earlier state, in which a send was open, by what came of that send alone."""
        if self.open is not None or not earlier.open or len(self.sends) != len(earlier.sends):
            return False
        came = {"kept_in", "sends", "payment_id", "evidence"}
        same = self.model_dump(exclude=came) == earlier.model_dump(exclude=came)
        sent = [(send.at, send.by) for send in self.sends]
        return same and sent == [(send.at, send.by) for send in earlier.sends]

    def last_send(self, **changes: Any) -> Self:
        """Return a copy whose last send that may have been executed has other values."""
        index = max(number for number, send in enumerate(self.sends) if send.may_have_run)
        changed = self.sends[index].model_copy(update=changes)
        return self.but(sends=(*self.sends[:index], changed, *self.sends[index + 1 :]))

    # -- what people decide

    @property
    def carried_out(self) -> tuple[Decision, ...]:
        """The decisions that were carried out, in their order."""
        return tuple(decision for decision in self.decisions if decision.refused is None)

    @property
    def given_up(self) -> Decision | None:
        """The decision by which it was given up, if nobody has taken it up again since."""
        return self.carried_out[-1] if self.carried_out and self.carried_out[-1].what == "give_up" else None

    def unasked(self) -> Self:
        """Return a copy without the question to a person."""
        return self.but(question=None, candidates=(), rivals=())

    def may_have_added(self, payment_id: int) -> bool:
        """Whether a payment of unknown origin may be this key's; after *give up*, only one that was shown."""
        shown = self.given_up.candidates if self.given_up is not None else ()
        return not shown or payment_id in shown

    def decide(self, decision: Decision) -> Self:
        """Return a copy with a decision to carry out; one that was still waiting stays in the record."""
        return self.refuse(f"{decision.by} has decided again").but(decision=decision)

    def knows(self, decision: Decision) -> bool:
        """Whether the decision is waiting or in the record already."""
        waiting = [self.decision] if self.decision is not None else []
        return any(decision.is_the_same_as(one) for one in (*self.decisions, *waiting))

    def has_refused(self, decision: Decision) -> bool:
        """Whether the decision was refused."""
        return any(one.refused is not None and one.is_the_same_as(decision) for one in self.decisions)

    def note(self, decision: Decision) -> Self:
        """Return a copy with one more decision in the record."""
        return self.but(decisions=(*self.decisions, decision))

    def refuse(self, why: str) -> Self:
        """Return a copy in which the decision that waits, if one does, is not carried out."""
        if self.decision is None:
            return self
        return self.note(self.decision.but(refused=why)).but(decision=None)

    def carry_out(self, set_aside: Collection[int] = ()) -> Self:
        """Return a copy in which the decision that waits is carried out.

        :param set_aside: payments that are not this key's from now on.
        """
        assert self.decision is not None  # noqa: S101 - who calls this has looked
        aside = tuple(sorted(set_aside))
        dismissed = tuple(sorted({*self.dismissed, *aside}))
        return self.note(self.decision.but(set_aside=aside)).but(decision=None, dismissed=dismissed)

    def give_up(self) -> Self:
        """Return a copy in which the decision to give up is carried out.

        It lets go of a payment, unless that is proved to be this key's: so a wrong claim ends. Only what was there
        before is set aside: whoever gives up does not say that the other one is somebody else's.
        """
        proved = self.payment_id is None or self.evidence in PROVED
        before = (self.payment_id,) if self.payment_id is not None and self.evidence == "state" else ()
        given_up = self.carry_out(before).unasked()
        return given_up if proved else given_up.but(payment_id=None, evidence=None, steps={}, receipt=None)

    def hear(self, decisions: Iterable[Decision]) -> Self:
        """Return a copy that has taken over what was decided beside it, each decision once, in their order.

        What was decided about another state of things does not stand any more; but whoever gives up need not know it.
        What was decided about another key, which the same task worked on before, is none of this one's business.
        """
        entry, digest = self, self.digest
        for decision in decisions:
            if self.knows(decision) or decision.key not in (None, self.key):
                continue
            if decision.about == digest or (decision.what == "give_up" and self.receipt is None):
                entry = entry.decide(decision)
            else:
                entry = entry.note(decision.but(refused="the task had gone on before it saw the decision"))
        return entry

    @property
    def digest(self) -> str:
        """What tells whether it is still the entry that a person was shown; decisions do not change it."""
        facts = self.model_dump(mode="json", exclude={"decision", "decisions", "kept_in"})
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    # -- as a document

    def document(self) -> dict[str, Any]:
        """Return it as plain JSON, with the state in words in front."""
        return {"state": self.state, **self.model_dump(mode="json")}

    @classmethod
    def read(cls, document: Any, *, where: str) -> Self:
        """Read what :meth:`document` has written.

        :param document: as JSON, in text or read already.
        :param where: where it was found, for the message.
        :raises Bitrix24ConfigError: somebody has damaged it, or a newer release has written it.
        """
        try:
            return cls.model_validate(json.loads(document) if isinstance(document, str) else document)
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc'])) or 'document'}: {first['msg']}"
        except ValueError as error:
            reason = f"no JSON: {error}"
        raise Bitrix24ConfigError(
            f"The journal entry in {where} cannot be read ({reason}): it was changed by hand, or written by a newer "
            "release of airflow-provider-bitrix24. Nothing was sent by this attempt; what earlier ones have sent MAY "
            "be on the books of the portal. Look there first. Then repair the entry, or install that release here; "
            "remove it only if you know that nothing of it is on the portal."
        )


@dataclass(frozen=True)
class Unreadable:
    """An entry that nobody can read."""

    portal: str
    key: str
    why: str
    text: str
    """What is there instead."""
    state: str = "unreadable"

    def document(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {"state": self.state, "key": self.key, "portal": self.portal, "why": self.why, "text": self.text}


def read_or_say(document: Any, *, portal: str, key: str, where: str) -> Entry | Unreadable:
    """Read an entry, or say what is wrong with it, so that the others can be read."""
    try:
        return Entry.read(document, where=where)
    except Bitrix24ConfigError as error:
        text = document if isinstance(document, str) else json.dumps(document)
        return Unreadable(portal=portal, key=key, why=str(error), text=text)
