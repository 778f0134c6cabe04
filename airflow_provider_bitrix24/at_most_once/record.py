"""The typed journal record of one key, and its transitions. A record is plain JSON in the journal.

Airflow's Storage tab and a SQL table hold it, where people read it and newer releases find it. So the document has a
version, every field added later has a default, and a document with a field this release does not know is refused.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import JsonValue, TypeAdapter, ValidationError

from airflow_provider_bitrix24.at_most_once.record_fields import RecordFields
from airflow_provider_bitrix24.at_most_once.record_parts import (
    PROOF,
    STATES,
    Decision,
    Evidence,
    Parameter,
    Scalar,
    Send,
    SendResult,
    Snapshot,
    State,
)
from airflow_provider_bitrix24.exceptions import Bitrix24ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = [
    "PROOF",
    "STATES",
    "CorruptEntry",
    "Decision",
    "Evidence",
    "Parameter",
    "Record",
    "Scalar",
    "Send",
    "SendResult",
    "Snapshot",
    "State",
    "read_or_corrupt",
]

_NOT_IN_DIGEST: Final = ("state", "decision", "decisions", "kept_in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(RecordFields):
    """One key: what was wanted, what was sent, and the outcome.

    A transition returns a changed copy. Transitions with the parameter ``step`` change the sends of the step of that
    name (such as "row 17") that completes a payment; without it, those of the write itself.
    """

    def continues(self, earlier: Record) -> bool:
        """Whether it differs from an earlier record, in which a send was pending, by the outcome of that send alone."""
        if self.pending_send() is not None or earlier.pending_send() is None:
            return False
        before = replace(earlier, kept_in=self.kept_in, payment_id=self.payment_id, evidence=self.evidence)
        sent = [(send.at, send.by) for send in self.sends]
        same = self == replace(before, sends=self.sends)  # rule: unless a person has decided since
        return same and sent == [(send.at, send.by) for send in earlier.sends]

    # -- an attempt begins

    def renewed(self, wanted: Record) -> Record:
        """If nothing was executed: a copy with the present arguments and all that people were asked and said."""
        if not self.nothing_executed:
            return self
        return replace(
            self._with_arguments_of(wanted),
            question=self.question,
            candidates=self.candidates,
            unresolved_keys=self.unresolved_keys,
            decision=self.decision,
        )

    def repeated(self, wanted: Record) -> Record:
        """What was done has been undone by an operation of ours: it may be done once more, but not by the same task."""
        senders = {send.by.rpartition(":try:")[0] for send in self.possible_sends}
        earlier = tuple(sorted({*self.earlier_tasks, self.task, *senders}))
        return replace(wanted, dismissed=self.dismissed, place=self.place, earlier_tasks=earlier)

    def placed(self, place: int) -> Record:
        """It is sent after every operation on its object that has ended."""
        return replace(self, place=place)

    def notes_lost(self, task: str) -> Record:
        """The journal has lost what earlier attempts of the task noted."""
        return replace(self, task=task, forgotten=True, forgotten_since=None)

    def loss_noticed(self, at: float) -> Record:
        """The portal has told its time for the first time since the notes were lost."""
        return replace(self, forgotten_since=at)

    def recalled(self) -> Record:
        """The lost notes are replaced by what the portal shows."""
        return replace(self, forgotten=False)

    def copied_from(self, journal: str | None) -> Record:
        """The copy of a record of another journal; None for the record itself."""
        return replace(self, kept_in=journal)

    # -- sending

    def restarted(self, wanted: Record, snapshot: Snapshot) -> Record:
        """A copy with what is wanted now, as the portal shows it now; what people have said stays."""
        return replace(
            self._with_arguments_of(wanted),
            snapshot_at=snapshot.at,
            amount=snapshot.amount,
            currency=snapshot.currency,
            payment_ids_before=snapshot.payment_ids,
            plan=snapshot.plan,
        )

    def prepared(self, wanted: Record, snapshot: Snapshot) -> Record:
        """The write is about to be sent: the snapshot of the first send is kept as long as it may have been executed.

        The parameters, and the amount of what is marked as paid, are those of this send.
        """
        if not self.possible_sends:  # rule: snapshot of the first intent
            return self.restarted(wanted, snapshot).unasked()
        amount, currency = snapshot.amount or self.amount, snapshot.currency or self.currency
        return replace(self, parameters=wanted.parameters, amount=amount, currency=currency).unasked()

    def sending(self, send: Send, *, step: str | None = None) -> Record:
        """The intent of a send; earlier ones that certainly were not executed leave the list."""
        possible = tuple(one for one in self.sends_of(step) if one.may_have_run)
        return self._with_sends((*possible, send), step).unasked()

    def withdrawn(self, result: Literal["not_sent", "refused"], why: str, *, step: str | None = None) -> Record:
        """The last send certainly was not executed."""
        return self._settled(result, why, step=step)

    def acknowledged(self, *, step: str | None = None) -> Record:
        """The portal said yes to the last send, or shows it."""
        return self._settled("acknowledged", None, step=step)

    def inconclusive(self, portal_message: str | None, *, step: str | None = None) -> Record:
        """The reply to the last send is neither yes nor a refusal."""
        return self._settled("inconclusive", portal_message, step=step)

    def absent(self, portal_message: str | None = None, *, step: str | None = None) -> Record:
        """No reply came to the last send, and the portal certainly does not show it."""
        return self._settled("absent", portal_message, step=step)

    def not_applied(
        self, portal_message: str | None = None, *, report_to: str | None, step: str | None = None
    ) -> Record:
        """A reply came to the last send, and the portal does not show it.

        :param report_to: the round of the task that fails because of it; see :attr:`Send.reported_to`.
        """
        return self._settled("not_applied", portal_message, report_to, step=step)

    # -- the outcome

    def identified(self, payment_id: int, evidence: Evidence, *, plan: Mapping[str, int] | None = None) -> Record:
        """It is known which payment is this key's.

        :param plan: the product rows that go into it; None leaves the plan as it is.
        """
        plan = self.plan if plan is None else plan
        return replace(self.unasked(), payment_id=payment_id, evidence=evidence, plan=plan)

    def finished(self, receipt: Mapping[str, JsonValue], shown_in: str | None = None) -> Record:
        """The task succeeds with this receipt."""
        return replace(self.unasked(), receipt=receipt, shown_in=shown_in)

    def reopened(self) -> Record:
        """It is not done yet, although it has a receipt."""
        return replace(self, receipt=None, shown_in=None)

    # -- people

    def unasked(self) -> Record:
        """Nobody is asked any more."""
        return replace(self, question=None, candidates=(), unresolved_keys=())

    def needs_decision(
        self,
        question: str,
        candidates: Collection[int] = (),
        *,
        unresolved_keys: Collection[str] = (),
        task: str,
        refuse: str,
    ) -> Record:
        """A person has to decide, through this task.

        :param refuse: why a decision that waits is not carried out.
        """
        waiting = self.decision_refused(refuse)
        shown = tuple(sorted(candidates))
        return replace(waiting, question=question, candidates=shown, unresolved_keys=tuple(unresolved_keys), task=task)

    def decided(self, decision: Decision) -> Record:
        """A decision waits to be carried out; one that was still waiting stays among the decisions."""
        return replace(self.decision_refused(f"{decision.by} has decided again"), decision=decision)

    def noted(self, decision: Decision) -> Record:
        """One more decision among those that wait no longer."""
        return replace(self, decisions=(*self.decisions, decision))

    def decision_refused(self, why: str, candidates: Collection[int] | None = None) -> Record:
        """The decision that waits, if one does, is not carried out.

        :param candidates: the payments to show to the person who decides again; None leaves them as they are.
        """
        shown = self.candidates if candidates is None else tuple(sorted(candidates))
        record = self
        if self.decision is not None:
            record = self.noted(self.decision.refused_because(why))  # rule: decisions stay in the record
        return replace(record, decision=None, candidates=shown)

    def adopted(self, payment_id: int, plan: Mapping[str, int]) -> Record:
        """The decision to use a payment is carried out. What was put into another payment does not count for it."""
        same = payment_id == self.payment_id
        done = self._carried_out().unasked()
        return replace(
            done,
            payment_id=payment_id,
            evidence=self.evidence if same and self.evidence else "person",
            steps=self.steps if same else {},
            plan=plan,
            receipt=None,
            shown_in=None,
            forgotten=False,
        )

    def permitted_again(self, candidates: Collection[int]) -> Record:
        """The decision to send again is carried out: nothing on the portal is this key's.

        :param candidates: the payments that might have been; they are set aside.
        """
        known = (self.payment_id,) if self.payment_id is not None else ()
        shown = self.decision.candidates if self.decision is not None else ()
        done = replace(
            self._carried_out({*candidates, *shown, *known}).unasked(),  # rule: a decision that was begun still counts
            receipt=None,
            shown_in=None,
            payment_id=None,
            evidence=None,
            steps={},
            forgotten=False,
        )
        last = self.last_send()
        if last is not None and last.result in ("acknowledged", "inconclusive", "not_applied"):
            return done.absent(last.portal_message)  # rule: a decision to send again needs no clearing
        return done

    def abandoned(self) -> Record:
        """The decision to abandon is carried out.

        It releases a payment, unless that is proved to be this key's: so a wrong claim ends. Only what was there before
        is set aside: abandoning does not say that the other one is somebody else's.
        """
        proved = self.payment_id is None or self.evidence in PROOF
        before = (self.payment_id,) if self.payment_id is not None and self.evidence == "portal_state" else ()
        done = self._carried_out(before).unasked()
        if proved:
            return done
        return replace(done, payment_id=None, evidence=None, steps={}, receipt=None, shown_in=None)

    def with_decisions(self, decisions: Iterable[Decision]) -> Record:
        """Take over what was decided beside the record, each decision once, in their order.

        A decision about another state of the record is refused; but to abandon, nobody needs to know the state. A
        decision about another key is ignored.
        """
        record, digest = self, self.digest
        for decision in decisions:
            if self.knows(decision) or decision.key not in (None, self.key):
                continue
            stands = decision.about == digest  # rule: decisions are about what was shown
            if stands or (decision.what == "abandon" and self.receipt is None):
                record = record.decided(decision)
            else:
                record = record.noted(decision.refused_because("the task had gone on before it saw the decision"))
        return record

    # -- as a document

    @property
    def digest(self) -> str:
        """Tells whether it is still the record that a person was shown; decisions do not change it."""
        facts = {name: value for name, value in self.document().items() if name not in _NOT_IN_DIGEST}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def document(self) -> dict[str, Any]:
        """Return it as plain JSON, with its state in front and without what has its default."""
        facts = _records().dump_python(self, mode="json", exclude_defaults=True)
        return {"state": self.state, "v": self.v, **facts}

    @classmethod
    def read(cls, document: object, *, where: str) -> Record:
        """Read what :meth:`document` has written.

        :param document: as JSON, in text or read already.
        :param where: where it was found, for the message.
        :raises Bitrix24ConfigError: somebody has damaged it, or a newer release has written it.
        """
        try:
            found = json.loads(document) if isinstance(document, str) else document
            facts = {name: value for name, value in found.items() if name != "state"} if isinstance(found, dict) else 0
            return _records().validate_json(json.dumps(facts))
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc'])) or 'document'}: {first['msg']}"
        except (ValueError, TypeError) as error:
            reason = f"no JSON: {error}"
        raise Bitrix24ConfigError(
            f"The journal entry in {where} cannot be read ({reason}): it was changed by hand, or written by a newer "
            "release of airflow-provider-bitrix24.",
            "Nothing was sent by this attempt; money may have been recorded by earlier ones. Look at the portal "
            "first. Then repair the entry, or install that release here; remove it only if you know that nothing of "
            "it is on the portal.",
        )

    # -- parts

    def _with_arguments_of(self, wanted: Record) -> Record:
        """What is wanted now, with what was sent and decided, and its place among other operations on the object."""
        return replace(
            wanted,
            sends=self.sends,
            steps=self.steps,
            decisions=self.decisions,
            dismissed=self.dismissed,
            place=self.place,
            earlier_tasks=self.earlier_tasks,
        )

    def _with_sends(self, sends: tuple[Send, ...], step: str | None) -> Record:
        if step is None:
            return replace(self, sends=sends)
        return replace(self, steps={**self.steps, step: sends})

    def _settled(
        self, result: SendResult, portal_message: str | None, report_to: str | None = None, *, step: str | None
    ) -> Record:
        """The outcome of the last send that may have been executed."""
        sends = list(self.sends_of(step))
        index = max(number for number, send in enumerate(sends) if send.may_have_run)
        sends[index] = sends[index].settled(result, portal_message, report_to)
        return self._with_sends(tuple(sends), step)

    def _carried_out(self, set_aside: Collection[int] = ()) -> Record:
        """The decision that waits is carried out.

        :param set_aside: payments that are not this key's from now on.
        """
        if self.decision is None:
            raise ValueError(f"no decision about {self.key!r} waits")
        aside = tuple(sorted(set_aside))
        done = self.noted(replace(self.decision, set_aside=aside))
        return replace(done, decision=None, dismissed=tuple(sorted({*self.dismissed, *aside})))


@functools.cache
def _records() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


@dataclass(frozen=True, slots=True)
class CorruptEntry:
    """An entry of the journal that cannot be read."""

    portal: str
    key: str
    why: str
    text: str
    """What is there instead of a record."""
    state: State = "corrupt"

    def document(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {"state": self.state, "key": self.key, "portal": self.portal, "why": self.why, "text": self.text}


def read_or_corrupt(document: object, *, portal: str, key: str, where: str) -> Record | CorruptEntry:
    """Read a record, or say why it cannot be read, so that the others can be."""
    try:
        return Record.read(document, where=where)
    except Bitrix24ConfigError as error:
        text = document if isinstance(document, str) else json.dumps(document)
        return CorruptEntry(portal=portal, key=key, why=str(error), text=text)
