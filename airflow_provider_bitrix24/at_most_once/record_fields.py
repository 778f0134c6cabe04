"""The fields of a journal record, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import ConfigDict, JsonValue

from airflow_provider_bitrix24.at_most_once.record_parts import (
    CONFIG,
    STATES_OF,
    Decision,
    Evidence,
    Parameter,
    PortalTime,
    Send,
    State,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFields:
    """What is known of one key, and what that says."""

    __pydantic_config__: ClassVar[ConfigDict] = CONFIG

    v: Literal[1] = 1
    key: str
    portal: str
    operation: str
    """Name of the operation: "pay_invoice"."""
    subject: str
    """The object, for people and for finding other keys that write to it: "deal 4", "invoice 2"."""
    parameters: Mapping[str, Parameter]
    """What was asked for; compared one by one with what a later attempt asks for."""
    forgotten: bool = False
    """Whether earlier attempts may have sent something of which the journal has lost every note."""
    forgotten_since: PortalTime | None = None
    """When that was noticed; None as long as the portal has not told its time."""
    kept_in: str | None = None
    """The journal that counts, if this is only its copy in the task state."""
    task: str
    """The task that opened it, or, once it needs a decision, through which a person is asked."""
    snapshot_at: PortalTime | None = None
    """The portal's clock when it still showed nothing, before the first send."""
    amount: str | None = None
    """The amount of the object before the first send, if the write marks something as paid."""
    currency: str | None = None
    payment_ids_before: tuple[int, ...] = ()
    """The payments of the object before the first send."""
    dismissed: tuple[int, ...] = ()
    """Payments of which a person has said that they are not this key's."""
    sends: tuple[Send, ...] = ()
    payment_id: int | None = None
    """The payment that this key is about, once it is known."""
    evidence: Evidence | None = None
    steps: Mapping[str, tuple[Send, ...]] = field(default_factory=dict)
    """What completes the payment, by name: each with its own sends."""
    plan: Mapping[str, int] = field(default_factory=dict)
    """Quantity by product row that goes into the payment; JSON has only text as names."""
    place: int | None = None
    """Its place among the operations on its object: higher than that of every one that had ended when it was sent."""
    earlier_tasks: tuple[str, ...] = ()
    """Tasks that have sent it before an operation of ours undid it."""
    receipt: Mapping[str, JsonValue] | None = None
    """The receipt of the attempt that succeeded."""
    shown_in: str | None = None
    """In which round of which run the portal showed what the receipt says; None if Airflow did not tell."""
    question: str | None = None
    """What a person is asked; None if nobody is."""
    candidates: tuple[int, ...] = ()
    """Payments that may be this key's."""
    unresolved_keys: tuple[str, ...] = ()
    """Keys that wrote to the same object with an unknown outcome, so that its payments cannot be told apart."""
    decision: Decision | None = None
    """A decision that no attempt has carried out yet."""
    decisions: tuple[Decision, ...] = ()
    """Decisions that were carried out, and those that were refused, with the reason."""

    @property
    def possible_sends(self) -> tuple[Send, ...]:
        """The sends of the write itself that may have been executed."""
        return tuple(send for send in self.sends if send.may_have_run)

    @property
    def nothing_executed(self) -> bool:
        """Whether certainly nothing of this key was executed, so that everything may begin again."""
        nothing_known = self.receipt is None and self.payment_id is None and not self.possible_sends
        return nothing_known and not self.forgotten  # rule: what is forgotten is not known to be nothing

    @property
    def possible_step_sends(self) -> tuple[Send, ...]:
        """The sends of steps that may have been executed."""
        return tuple(send for sends in self.steps.values() for send in sends if send.may_have_run)

    def sends_of(self, step: str | None = None) -> tuple[Send, ...]:
        """The sends of a step, or of the write itself."""
        return self.sends if step is None else tuple(self.steps.get(step, ()))

    def last_send(self, step: str | None = None) -> Send | None:
        """The last send that may have been executed: what certainly was not executed says nothing."""
        # rule: what was not sent says nothing of what was
        return next((send for send in reversed(self.sends_of(step)) if send.may_have_run), None)

    def pending_send(self, step: str | None = None) -> Send | None:
        """The last send, if its outcome is not known."""
        last = self.last_send(step)
        return last if last is not None and last.result == "pending" else None

    @property
    def state(self) -> State:
        """Its state in one word, for people."""
        if self.decision is not None:
            return "decision_pending"
        if self.abandonment is not None:
            return "abandoned"
        if self.receipt is not None:
            return "done"
        if self.question is not None:
            return "needs_decision"
        if self.payment_id is not None:
            return "incomplete"
        if self.nothing_executed:
            return "incomplete" if self.possible_step_sends else "new"
        last = self.last_send()
        if last is None:
            return "unknown"  # forgotten
        return STATES_OF[last.result]

    def differing(self, wanted: Mapping[str, Parameter]) -> dict[str, tuple[Parameter, Parameter]]:
        """Parameters that the record has otherwise: name -> what it has, what is wanted.

        One that an older record lacks counts as its default, which is nothing.
        """
        names = sorted(wanted.keys() | self.parameters.keys())
        pairs = {name: (self.parameters.get(name), wanted.get(name)) for name in names}
        return {name: (has, wants) for name, (has, wants) in pairs.items() if (has or None) != (wants or None)}

    @property
    def decisions_carried_out(self) -> tuple[Decision, ...]:
        """The decisions that were carried out, in their order."""
        return tuple(decision for decision in self.decisions if decision.refused is None)

    @property
    def abandonment(self) -> Decision | None:
        """The decision by which it was abandoned, if nobody has decided otherwise since."""
        done = self.decisions_carried_out
        return done[-1] if done and done[-1].what == "abandon" else None

    def knows(self, decision: Decision) -> bool:
        """Whether the decision is waiting or noted already."""
        waiting = (self.decision,) if self.decision is not None else ()
        return any(decision.is_the_same_as(one) for one in (*self.decisions, *waiting))

    def has_refused(self, decision: Decision) -> bool:
        """Whether the decision was refused."""
        return any(one.refused is not None and one.is_the_same_as(decision) for one in self.decisions)

    def may_have_added(self, payment_id: int) -> bool:
        """Whether a payment of unknown origin may be this key's; once abandoned, only one that was shown."""
        shown = self.abandonment.candidates if self.abandonment is not None else ()
        return not shown or payment_id in shown  # rule: who abandoned another key was shown what may be its own
