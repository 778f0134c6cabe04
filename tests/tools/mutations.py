"""Take the rules of the protocol out of a copy of the package, one by one, and see that a test turns red each time.

``python tests/tools/mutations.py [words of a rule]``: 1 if a rule can be taken out unnoticed, or cannot be found in the
source any more.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_ONCE = 4
"""So many processes: more than there are cores, because some tests wait."""
IMPORTED_BY_MOST = ("airflow.sdk", "httpx", "hypothesis", "pendulum", "pydantic", "requests", "sqlalchemy", "uvicorn")
"""Nothing of ours, which each process has to read from its own copy."""
ALREADY_IMPORTED = "Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"
"""What pytest says of them; the tests themselves are rewritten."""
ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "airflow_provider_bitrix24"
TESTS = "tests/proof/test_rules.py"
PEOPLE = "tests/proof/test_people.py"
TERMINAL = "tests/proof/test_terminal.py"
DECISIONS = "tests/proof/test_decisions.py"
DEATH = "tests/proof/test_death_before_red.py"
HALF_KNOWN = "tests/proof/test_half_known.py"
PACING = "tests/once/test_pacing.py"
PORTALS = "tests/journal/test_portals.py"
HUMAN_RESPONSE = "tests/operators/test_human_response.py"
JOURNALS = "tests/operators/test_journals.py"
RENDERING = "tests/operators/test_rendering.py"
OPTIONS = "tests/operators/test_options.py"
SETTINGS = "tests/unit/test_settings.py"
UNDECIDED = "tests/proof/test_undecided.py"
PERMISSION = "tests/once/test_permission.py"
CLIENT = "tests/core/test_client.py"
LISTS = "tests/core/test_whole_lists.py"
FORGOTTEN = "tests/once/test_forgotten.py"
CLEARED = "tests/operators/test_forgotten.py"
SAFEGUARDS = "tests/operators/test_safeguards.py"
LOOPS = "tests/operators/test_loops.py"
SEND_ONCE = "tests/operators/test_send_once.py"
CALLS = "tests/operators/test_calls.py"


@dataclass(frozen=True)
class Mutation:
    """A rule, where it stands, what stands there without it, and which tests must notice."""

    rule: str
    file: str
    old: str
    new: str
    tests: str
    where: str = TESTS


MUTATIONS = [
    Mutation(
        "the switch is read right before each send",
        "once/attempt.py",
        "        self.safeguard()\n",
        "        pass\n",
        "test_a_switch_that_is_set_during_a_wait",
        PERMISSION,
    ),
    Mutation(
        "a wait ends what permits a send",
        "once/attempt.py",
        "        self._observed = None\n        self.run(pause(seconds, reason))\n",
        "        self.run(pause(seconds, reason))\n",
        "test_even_a_short_wait",
        PERMISSION,
    ),
    Mutation(
        "an unpaid payment counts before every send",
        "once/add.py",
        "self._existing() if story.entry.free else self._return_unpaid()",
        "self._existing() if story.entry.free else None",
        "test_an_unpaid_payment_of_another_key_counts",
    ),
    Mutation(
        "one too many with our tag is noticed",
        "once/complete.py",
        "    if others:\n        raise PaymentMismatch(",
        "    if False:\n        raise PaymentMismatch(",
        "test_two_payments_with_our_tag",
        PERMISSION,
    ),
    Mutation(
        "one too many without a tag is noticed",
        "once/read_back.py",
        "    if unexplained:\n",
        "    if False:\n",
        "test_a_repeated_request_is_noticed",
    ),
    Mutation(
        "also by the attempt after one that died",
        "once/add.py",
        'if self.story.entry.evidence == "answer":',
        "if False:",
        "test_one_too_many_is_noticed_by_the_attempt_after_one_that_died",
        PERMISSION,
    ),
    Mutation(
        "what was deleted while it was looked for is gone for good",
        "once/marking.py",
        "        if gone:\n",
        "        if False:\n",
        "test_a_payment_that_is_deleted_while_it_is_looked_for_is_gone",
        "tests/once/test_pay_crm_payment.py",
    ),
    Mutation(
        "a redirect does not deny a write",
        "api/client.py",
        "        if request.effect is Effect.READ:\n            return Bitrix24ConfigError",
        "        if True:\n            return Bitrix24ConfigError",
        "test_a_redirect_names_the_new_host",
        CLIENT,
    ),
    Mutation(
        "what comes before writing is known by method",
        "api/error_codes.py",
        "elif kind is None and _says_before_writing(method, code, refusal.text):",
        "elif kind is None:",
        "test_an_add_that_does_not_find_its_own_payment",
        CLIENT,
    ),
    Mutation(
        "a full page is not the whole list",
        "api/paging.py",
        "(total is not None and total > rows) or rows == PAGE_SIZE",
        "(total is not None and total > rows)",
        "test_the_rest_of_a_list",
        LISTS,
    ),
    Mutation(
        "a list that leaves out what was there is no answer",
        "api/tags.py",
        "    if found:\n        ids = ",
        "    if False:\n        ids = ",
        "test_what_was_there_before",
        LISTS,
    ),
    Mutation(
        "intent before send",
        "once/attempt.py",
        """        intent.write()
        # Whatever comes of it, the next write needs another look, unless this one has succeeded; and a slot of its own.
        observed, self._observed, self._has_slot = self._observed, None, False
        answer, doubt = None, None
        try:
            answer = self.run(write(deadline, digest))
""",
        """        observed, self._observed, self._has_slot = self._observed, None, False
        answer, doubt = None, None
        try:
            answer = self.run(write(deadline, digest))
            intent.write()
""",
        "test_a_worker_that_dies_after_sending_has_left_its_intent",
    ),
    Mutation(
        "a write has its slot of the rate limit",
        "once/attempt.py",
        "        waited = self._take_slot()\n",
        "        waited = 0.0\n",
        "test_a_write_waits_for_its_slot_before_the_read_that_permits_it",
        PACING,
    ),
    Mutation(
        "what was read before the slot permits nothing",
        "once/attempt.py",
        "            self._observed = None if waited else self._observed\n",
        "            self._observed = self._observed if waited else self._observed\n",
        "test_even_a_short_wait_for_a_slot_is_followed_by_another_read",
        PACING,
    ),
    Mutation(
        "without a slot nothing is sent",
        "api/retry.py",
        "if not slot.granted:",
        "if False:",
        "test_without_a_slot_in_time_nothing_is_saved_and_nothing_sent",
        PACING,
    ),
    Mutation(
        "send_deadline",
        "once/attempt.py",
        "monotonic=self._observed[0] + settings.send_deadline, wall=self._observed[1] + settings.send_deadline",
        "monotonic=decided + 1e9, wall=self.clock.time() + 1e9",
        "test_who_wakes_up_after_the_deadline_sends_nothing",
    ),
    Mutation(
        "answer before read back: a payment",
        "once/add.py",
        """        story.identify(payment_id, "answer", sends=story.entry.last_send(result="answered").sends)
        attempt.log.info("The portal added payment %s to %s; reading it back.", payment_id, addition.of)
        return read_back(addition, payment_id, on_unknown=self.on_unknown)
""",
        """        payment = read_back(addition, payment_id, on_unknown=self.on_unknown)
        story.identify(payment_id, "answer", sends=story.entry.last_send(result="answered").sends)
        return payment
""",
        "test_the_answer_is_written_before_anything_else_is_asked",
    ),
    Mutation(
        "answer before read back: a mark",
        "once/marking.py",
        """            self.story.settle("answered")
""",
        """            pass
""",
        "test_the_answer_is_written_before_anything_else_is_asked",
    ),
    Mutation(
        "snapshot of the first intent",
        "once/story.py",
        "        if not self.entry.may_have_run:\n            # Nothing of an earlier try counts",
        "        if True:\n            # Nothing of an earlier try counts",
        "test_the_snapshot_stays_that_of_the_first_intent",
    ),
    Mutation(
        "unfiltered count",
        "once/addition.py",
        "new = [payment.id for payment in shown.payments if payment.id not in known]",
        "new = [one.id for one in shown.payments if one.id not in known and one.id in (shown.fitting or ())]",
        "test_a_payment_that_fits_no_filter_still_counts",
    ),
    Mutation(
        "filters turn green into red",
        "once/evidence.py",
        "if shown.fitting is not None and payment.id not in shown.fitting",
        "if False",
        "test_what_somebody_else_adds_is_not_taken_for_ours",
    ),
    Mutation(
        "two reads prove an absence",
        "once/attempt.py",
        "if proofs >= sent.proofs:",
        "if proofs >= 1:",
        "test_two_reads_after_the_settle_window_prove_an_absence",
    ),
    Mutation(
        "absence only after the settle window: the same attempt",
        "once/attempt.py",
        "absent_after=decided + settings.settle_window, proofs=2",
        "absent_after=decided, proofs=2",
        "test_nothing_is_absent_before_the_settle_window_is_over",
    ),
    Mutation(
        "absence only after the settle window: a later attempt",
        "once/story.py",
        "left = max(0.0, send.settle_until - self.clock.at_the_earliest)",
        "left = 0.0",
        "test_nothing_is_absent_before_the_settle_window_is_over",
    ),
    Mutation(
        "the portal's clock goes on while it answers",
        "once/portal_clock.py",
        "return shown.at + max(monotonic - shown.left[0], wall - shown.left[1])",
        "return shown.at + max(monotonic - shown.came[0], wall - shown.came[1])",
        "test_the_settle_window_begins_when_the_portal_may_have_answered",
    ),
    Mutation(
        "one re-send",
        "once/story.py",
        "SENDS_ALLOWED: Final = 2",
        "SENDS_ALLOWED: Final = 3",
        "test_what_is_absent_is_sent_once_more_and_then_a_person_decides",
    ),
    Mutation(
        "compare rows",
        "api/tags.py",
        'if not all(row.get("xmlId") == tag for row in rows):',
        "if False:",
        "test_rows_of_a_dropped_filter_are_not_tagged",
    ),
    Mutation(
        "who paid",
        "once/marking.py",
        "seen.paid_at is None or seen.paid_by_id != self.view.user_id",
        "seen.paid_at is None",
        "test_who_paid_decides_whose_mark_it_is",
    ),
    Mutation(
        "compare parameters",
        "once/story.py",
        "        if not self.differing:\n            return\n",
        "        if self.wanted:\n            return\n",
        "test_other_parameters_are_refused or test_an_open_intent_is_resolved_with_its_own_parameters_first",
    ),
    Mutation(
        "claims",
        "journal/database.py",
        "        if payment_id is None:\n            return\n        found = connection",
        "        if True:\n            return\n        found = connection",
        "test_a_payment_of_another_key_is_not_claimed",
    ),
    Mutation(
        "rivals",
        "once/evidence.py",
        "if journal.knows_rivals and not rivals and shown.fitting is not None:",
        "if journal.knows_rivals and shown.fitting is not None:",
        "test_what_a_rival_may_have_added_is_for_a_person",
    ),
    Mutation(
        "rivals since the snapshot",
        "journal/database.py",
        'values["snapshot_after"] = self._read_at',
        'values["snapshot_after"] = now',
        "test_a_rival_counts_from_the_snapshot_on",
    ),
    Mutation(
        "who has no terms is a rival",
        "journal/database.py",
        "sa.or_(since.is_(None), _KEYS.c.settle_until.is_(None), _KEYS.c.settle_until >= since)",
        "_KEYS.c.settle_until >= since",
        "is_a_rival",
        HALF_KNOWN,
    ),
    Mutation(
        "an answer that only the task state knows",
        "journal/database.py",
        "return noted if noted.goes_on_from(entry) else entry",
        "return entry",
        "not_forgotten",
        HALF_KNOWN,
    ),
    Mutation(
        "unless a person has decided since",
        "journal/entry.py",
        "return same and sent ==",
        "return sent ==",
        "test_what_a_person_has_decided_since_counts_more",
        HALF_KNOWN,
    ),
    Mutation(
        "times by the worker's clock tell nothing",
        "once/story.py",
        "told = self.clock.is_told and not send.by_our_clock",
        "told = self.clock.is_told",
        "test_a_window_by_the_workers_clock_is_waited_for_as_a_whole",
        HALF_KNOWN,
    ),
    Mutation(
        "a refusal is judged by the journal of now",
        "once/__init__.py",
        "if again or not story.outdated:",
        "if again or story is not None:",
        "test_a_refusal_is_not_believed_if_the_key_has_gone_on",
    ),
    Mutation(
        "one host, one portal name",
        "journal/portals.py",
        """            known = self._insert(database, portal)
        if known != portal:
""",
        """            known = self._insert(database, portal)
        if known is None:
""",
        "test_a_host_that_is_known_under_another_name_is_refused",
        PORTALS,
    ),
    Mutation(
        "a portal keeps its name while a key is written",
        "journal/database.py",
        "self._host.hold(connection, self._portal)",
        "pass",
        "test_an_attempt_that_began_before_sends_nothing_after",
        PORTALS,
    ),
    Mutation(
        "nothing that may still arrive is renamed",
        "journal/renaming.py",
        "        _refuse_open(rows, now)\n",
        "",
        "test_what_may_still_arrive_is_not_renamed",
        PORTALS,
    ),
    Mutation(
        "the owner of a row is one attempt",
        "journal/database.py",
        'return f"{who}:{secrets.token_hex(8)}"',
        "return who",
        "test_two_airflows_that_share_a_database_are_two_owners",
        JOURNALS,
    ),
    Mutation(
        "keys that look the same are one",
        "operators/arguments.py",
        'text = normalised(value) if isinstance(value, str) else ""',
        'text = value.strip() if isinstance(value, str) else ""',
        "test_two_spellings_of_a_key_are_one_payment",
        JOURNALS,
    ),
    Mutation(
        "a portal has one name however it is written",
        "api/extras.py",
        "return portal_name(text)",
        "return text",
        "test_a_portal_has_one_name_however_it_is_written",
        SETTINGS,
    ),
    Mutation(
        "a text stays a text with native types",
        "operators/rendering.py",
        'return "".join(map(str, parts))',
        "return jinja2.nativetypes.native_concat(parts)",
        "test_a_text_stays_as_it_is_written",
        RENDERING,
    ),
    Mutation(
        "one option stops all payments",
        "operators/safeguards.py",
        """    _refuse_if_all_are_stopped(so_far)
    #""",
        "    #",
        "test_one_option_stops_all_payments",
        OPTIONS,
    ),
    Mutation(
        "epoch",
        "journal/database.py",
        ".where(*self._mine(_KEYS), _KEYS.c.epoch == self._epoch, sa.not_(held_by_others))",
        ".where(*self._mine(_KEYS), sa.not_(held_by_others))",
        "test_who_is_overtaken_in_sql_sends_nothing",
    ),
    Mutation(
        "fence",
        "journal/task_state.py",
        "    if overtaken:\n",
        "    if overtaken:\n        return None\n    if overtaken:\n",
        "test_whom_airflow_has_given_up_sends_nothing",
    ),
    Mutation(
        "fence before SQL",
        "journal/database.py",
        "            self._fence.write(entry.but(kept_in=self._database.name))\n",
        "            pass\n",
        "test_the_task_state_is_a_fence_for_sql_too",
    ),
    Mutation(
        "an answered row is not sent again",
        "once/complete.py",
        "        if intent.answered:\n",
        "        if intent is None:\n",
        "test_a_row_that_was_answered_is_not_sent_again",
    ),
    Mutation(
        "decisions know their candidates",
        "once/decisions.py",
        "        if unseen:\n",
        "        if not decision:\n",
        "test_paying_again_is_void_if_another_candidate_has_appeared",
    ),
    Mutation(
        "decisions are about what was shown",
        "journal/entry.py",
        "if decision.about == digest or",
        "if decision or",
        "test_who_decides_while_a_retry_begins_takes_nothing_from_it",
        TERMINAL,
    ),
    Mutation(
        "decisions stay in the record",
        "journal/entry.py",
        "return self.note(self.decision.but(refused=why)).but(decision=None)",
        "return self.but(decision=None)",
        "stays_in_the_record",
        PEOPLE,
    ),
    Mutation(
        "claims end",
        "journal/database.py",
        "        if entry.decisions:",
        "        if False:",
        "test_a_wrong_claim_is_ended_by_a_person",
        PEOPLE,
    ),
    Mutation(
        "what was undone is not sent again: a mark",
        "once/marking.py",
        "        if self.story.entry.receipt is not None:\n"
        "            return self._done_before(self.story.entry.receipt)\n",
        "",
        "test_what_somebody_has_undone_is_never_sent_again",
    ),
    Mutation(
        "what was undone is not sent again: a payment",
        "once/add.py",
        "        if self.story.entry.receipt is not None:\n            return self._done_before()\n"
        "        if self.story.entry.payment_id is not None:\n"
        "            return self._go_on(self._read_again(self.story.entry.payment_id))\n",
        "",
        "test_what_somebody_has_undone_is_never_sent_again",
    ),
    Mutation(
        "one refresh for all workers: the lock",
        "hooks/token_table.py",
        "        with self._database.begin() as connection:\n            if self._database.dialect",
        "        with self._database.begin(reads=True) as connection:\n            if self._database.dialect",
        "test_one_refresh_for_each_expiry",
        "tests/oauth/test_many_workers.py",
    ),
    Mutation(
        "one refresh for all workers: reading again under the lock",
        "hooks/tokens.py",
        "                if stored.mark != tokens.mark:\n                    return self._take(stored), False\n",
        "                stored = tokens\n",
        "test_one_refresh_for_each_expiry",
        "tests/oauth/test_many_workers.py",
    ),
    Mutation(
        "a refresh does not undo a sign-in",
        "hooks/tokens.py",
        "        if stored is None or stored.mark == old.mark:\n",
        "        if stored is None or new:\n",
        "test_somebody_signs_in_while_a_task_refreshes",
        "tests/oauth/test_variable.py",
    ),
    Mutation(
        "a sign-in waits for a refresh",
        "hooks/token_table.py",
        "        with self._database.begin() as connection:\n            if self._database.dialect",
        "        with self._database.begin(reads=True) as connection:\n            if self._database.dialect",
        "test_a_sign_in_waits_for_a_refresh_and_is_the_last_word",
        "tests/oauth/test_trouble.py",
    ),
    Mutation(
        "only what is proved is certainly another key's",
        "once/addition.py",
        "one not in claims or (claims[one] not in PROVED and one in fitting)",
        "one not in claims",
        "test_what_another_key_has_wrongly_claimed_is_not_absent",
        DECISIONS,
    ),
    Mutation(
        "a conclusion is no answer",
        "journal/database.py",
        'entry.payment_id if entry.evidence == "answer" else None',
        "entry.payment_id",
        "test_what_an_overtaken_attempt_wanted_to_return_is_not_taken_for_the_portals_answer",
        DECISIONS,
    ),
    Mutation(
        "nobody pays again beside the key's own payment",
        "once/decisions.py",
        'if entry.payment_id in shown and entry.evidence != "state":',
        "if False:",
        "test_nobody_pays_again_beside",
        DECISIONS,
    ),
    Mutation(
        "what others were told is learned before anybody decides",
        "once/add.py",
        """        self._learn_from_the_overtaken()
        decision = heed(
            self.story, self.addition.candidates(self.view.shown), {one.id for one in self.view.shown.payments}
        )
""",
        """        decision = heed(
            self.story, self.addition.candidates(self.view.shown), {one.id for one in self.view.shown.payments}
        )
        self._learn_from_the_overtaken()
""",
        "test_nobody_pays_again_beside_what_the_portal_has_told",
        DECISIONS,
    ),
    Mutation(
        "paying again is about the same object",
        "once/decisions.py",
        """        story.refuse_other_parameters(f"{decision.by} decided to pay again for the former ones.")
""",
        "",
        "test_paying_again_is_about_the_same_object",
        DECISIONS,
    ),
    Mutation(
        "a mark that is not shown is not sent by a retry",
        "once/marking.py",
        """            self._refuse_if_nobody_has_looked(last)
""",
        "",
        "test_nothing_is_sent and invoice",
        DEATH,
    ),
    Mutation(
        "nor is an addition",
        "once/evidence.py",
        'if self.settled_before and (last.result == "absent" or story.task.was_cleared_since(last)):',
        "if self.settled_before:",
        "test_nothing_is_sent and add",
        DEATH,
    ),
    Mutation(
        "nor is a product row",
        "once/complete.py",
        'if intent.last is not None and intent.last.result == "not_shown" and _may_be_sent(intent):',
        "if False:",
        "test_nothing_is_sent and fill",
        DEATH,
    ),
    Mutation(
        "another task is told before it sends",
        "once/task.py",
        "(bool(told) and self.round not in told)",
        "self.round not in told",
        "test_another_task_with_the_key or test_who_was_killed",
        DEATH,
    ),
    Mutation(
        "what was not sent at all says nothing of what was",
        "once/intent.py",
        "return next((send for send in reversed(self.sends) if send.may_have_run), None)",
        "return self.sends[-1] if self.sends else None",
        "test_a_row_that_another_task",
        DEATH,
    ),
    Mutation(
        "a decision to pay again needs no clearing",
        "once/decisions.py",
        """        return entry.last_send(result="absent")
""",
        """        return entry
""",
        "test_what_a_person_decides",
        DEATH,
    ),
    Mutation(
        "a parked key sends only after a decision",
        "once/story.py",
        "        if entry.question is not None:\n            raise PaymentAmbiguous(\n",
        "        if False:\n            raise PaymentAmbiguous(\n",
        "test_what_is_deleted_meanwhile_is_no_decision",
        UNDECIDED,
    ),
    Mutation(
        "what is left of several proves nothing",
        "once/evidence.py",
        "        if not self._gone(shown) and not (entry.decisions and entry.decisions[-1].refused):\n",
        "        if entry:\n",
        "test_what_is_left_of_several or test_what_a_person_has_chosen_wrongly",
        UNDECIDED,
    ),
    Mutation(
        "who gives up is always heard",
        "once/story.py",
        'given_up = decision.what == "give_up" and entry.receipt is None',
        "given_up = False",
        "test_who_gives_up_is_always_heard",
        UNDECIDED,
    ),
    Mutation(
        "an answer that does not apply begins nothing",
        "once/decisions.py",
        "        _refuse_if_turned_down(story)\n",
        "",
        "test_an_answer_about_what_the_journal_does_not_know_sends_nothing",
        UNDECIDED,
    ),
    Mutation(
        "a decision that was begun still counts",
        "once/decisions.py",
        "entry = entry.unasked().but(receipt=None, payment_id=None, evidence=None, steps={}, forgotten=False)",
        "entry = entry.but(receipt=None, payment_id=None, evidence=None, steps={}, forgotten=False)",
        "test_what_is_deleted_meanwhile_is_sent_once or test_a_decision_that_a_dying_attempt",
        UNDECIDED,
    ),
    Mutation(
        "who gave another key up was shown what may be its own",
        "journal/entry.py",
        "return not shown or payment_id in shown",
        "return not shown",
        "test_who_gave_the_other_key_up",
        UNDECIDED,
    ),
    Mutation(
        "a temporary run pays nothing",
        "operators/safeguards.py",
        "        refuse_temporary_run(self.context)\n",
        "",
        "test_a_temporary_run_pays_nothing",
        "tests/operators/test_safeguards.py",
    ),
    Mutation(
        "an extra that cannot be read is refused",
        "connections.py",
        """    trouble = _problem_in_extra(extra)
    if trouble:
        raise""",
        """    trouble = _problem_in_extra(extra)
    if not trouble and trouble:
        raise""",
        "test_the_hook_refuses",
        "tests/hook/test_connections.py",
    ),
    Mutation(
        "the tail of a double is no money",
        "api/models.py",
        "    number = portal_number(amount)\n",
        "    number = decimal_number(amount)\n",
        "test_what_is_filled_may_be_as_much_as_the_limit",
        "tests/once/test_spellings.py",
    ),
    Mutation(
        "a guard may not be left empty",
        "operators/base.py",
        "        refuse_lost(self, self.were_given)\n",
        "",
        "test_an_id_or_a_guard_may_not_be_left_empty",
        "tests/operators/test_operators.py",
    ),
    Mutation(
        "what a forgotten attempt may have sent just now is waited for before an add",
        "once/add.py",
        "        self._await_forgotten()\n",
        "",
        "test_a_person_is_asked_when_a_forgotten_add_has_arrived",
        FORGOTTEN,
    ),
    Mutation(
        "and before a mark",
        "once/marking.py",
        "        self._await_forgotten()\n",
        "",
        "test_a_forgotten_mark_that_arrives_late_is_found",
        FORGOTTEN,
    ),
    Mutation(
        "what is forgotten is waited for before it is paid again",
        "once/story.py",
        'if not entry.forgotten or not (unknown or what == "pay_again"):',
        "if not entry.forgotten or not unknown:",
        "test_pay_again_waits_for_what_is_in_flight_though_a_person_was_asked_at_once",
        FORGOTTEN,
    ),
    Mutation(
        "no key of a payment is that of a step",
        "once/complete.py",
        "{addition.story.entry.key}\\npayment:",
        "{addition.story.entry.key}:payment:",
        "test_no_key_is_that_of_a_step",
        "tests/once/test_recovery.py",
    ),
    Mutation(
        "a whole list has as many rows as were told",
        "api/payments.py",
        "if len(there) < promised:",
        "if False:",
        "test_a_whole_with_fewer_rows_than_were_told_is_no_answer",
        LISTS,
    ),
    Mutation(
        "and every row that a part of it has shown",
        "api/payments.py",
        "if lost := ids_of(shape, rows) - there:",
        "if lost := set():",
        "test_a_whole_without_a_row_that_a_part_has_shown_is_no_answer",
        LISTS,
    ),
    Mutation(
        "only the portal itself tells its time",
        "api/envelope.py",
        "at=_portal_time(time),",
        "at=_portal_time(time) or pendulum.from_timestamp(1),",
        "test_the_clock_of_a_gateway_is_not_that_of_the_portal",
        "tests/once/test_recovery.py",
    ),
    Mutation(
        "a second send is tried again",
        "once/attempt.py",
        """        # It has left: what is sent after its outcome is known is tried again.
        del self._tries[digest]
""",
        "",
        "test_the_second_send_has_a_wait_of_its_own_for_its_slot",
        PACING,
    ),
    Mutation(
        "what changes a legacy invoice changes whether it is paid",
        "api/methods/invoices.py",
        """        moves_money=True,
        page=f"{_PAGE}update",
""",
        """        page=f"{_PAGE}update",
""",
        "test_a_legacy_invoice_is_not_marked_by_its_fields_behind_the_guards",
        CALLS,
    ),
    Mutation(
        "dashes that look the same are one",
        "identifiers.py",
        '_DASHES.sub("-", unicodedata.normalize("NFKC", text))',
        'unicodedata.normalize("NFKC", text)',
        "test_a_dash_is_a_dash",
        "tests/unit/test_identifiers.py",
    ),
    Mutation(
        "blanks in a row are one",
        "identifiers.py",
        'return re.sub(" +", " ", one_form)',
        "return one_form",
        "test_blanks_in_a_row_are_one",
        "tests/unit/test_identifiers.py",
    ),
    Mutation(
        "an empty journal that must know something has forgotten it",
        "once/story.py",
        "if (self.task.lost or self.page.forgot) and not knows_us:",
        "if False:",
        "test_nothing_is_sent_and_every_later_attempt_knows_that_notes_are_lost",
        FORGOTTEN,
    ),
    Mutation(
        "the free entry of another task does not speak for this one",
        "once/story.py",
        "knows_us = entry is not None and (not entry.free or entry.task == self.task.identity)",
        "knows_us = entry is not None",
        "test_the_note_of_another_task_does_not_speak_for_this_one",
        FORGOTTEN,
    ),
    Mutation(
        "what is forgotten is not known to be nothing",
        "journal/entry.py",
        "return nothing_known and not self.forgotten",
        "return nothing_known",
        "test_nothing_is_sent_and_every_later_attempt_knows_that_notes_are_lost",
        FORGOTTEN,
    ),
    Mutation(
        "a document that was written is looked for",
        "journal/task_state.py",
        'self.forgot = _DOCUMENT_GONE if self._attempts.opened else ""',
        'self.forgot = ""',
        "test_a_document_that_was_there_and_is_gone_is_noticed",
        FORGOTTEN,
    ),
    Mutation(
        "a cleared task is no first attempt",
        "operators/journals.py",
        "        lost = _lost_by_clearing(state, database=database)\n",
        '        lost = ""\n',
        "test_a_cleared_task_without_its_notes_is_no_first_attempt",
        CLEARED,
    ),
    Mutation(
        "a retry whose journal is empty is no first attempt",
        "operators/journals.py",
        "        lost = _EMPTIED if before else _UNNOTED\n",
        '        lost = ""\n',
        "test_a_task_state_that_somebody_has_emptied_is_noticed",
        CLEARED,
    ),
    Mutation(
        "a retry that is not told of its earlier attempts does not take them for none",
        "operators/journals.py",
        "return None if keys is None or (AIRFLOW_V_3_4_PLUS and ti.try_number > 1) else False",
        "return None if keys is None else False",
        "test_a_task_state_that_somebody_has_emptied_is_noticed",
        CLEARED,
    ),
    Mutation(
        "an attempt that was overtaken says what the portal has just answered",
        "once/story.py",
        "                ended = self._overtaken_with(entry, error)\n",
        "                ended = error\n",
        "test_an_answer_that_cannot_be_kept_is_told",
        FORGOTTEN,
    ),
    Mutation(
        "the answer to a question whose note is gone is read before it is asked again",
        "operators/questions.py",
        "    if before is None and parked is not None:\n",
        "    if False:\n",
        "test_an_answer_that_airflow_holds_is_read_before_anything_is_asked",
        HUMAN_RESPONSE,
    ),
    Mutation(
        "a question that Airflow does not know is asked again",
        "operators/questions.py",
        '    if answer == "not asked":\n',
        "    if False:\n",
        "test_a_question_that_airflow_does_not_know_is_asked_again",
        HUMAN_RESPONSE,
    ),
    Mutation(
        "a rescheduled attempt is no first one",
        "operators/journals.py",
        "return ti.try_number == 1 and not is_rescheduled(ti) and not begun_before(ti)",
        "return ti.try_number == 1",
        "test_a_rescheduled_attempt_is_no_first_one",
        CLEARED,
    ),
    Mutation(
        "decisions count as missing only after several reads",
        "journal/task_state.py",
        "_guarded(lambda: patient_read(store, DECISIONS))",
        "_guarded(lambda: store.get(DECISIONS))",
        "test_a_decision_at_a_terminal_is_heard_after_a_wrong_not_found",
        CLEARED,
    ),
    Mutation(
        "only Airflow itself says that it has given an attempt up",
        "journal/task_state.py",
        "return reason_of(error) in _OVERTAKEN",
        "return True",
        "test_a_fence_is_written_first",
        "tests/journal/test_database.py",
    ),
    Mutation(
        "that an earlier attempt has begun is handed on",
        "operators/journals.py",
        "    if before:\n",
        "    if False:\n",
        "test_an_attempt_that_does_not_reach_its_journal_hands_on_that_there_was_one",
        CLEARED,
    ),
    Mutation(
        "what is written is read again before it is believed to be kept",
        "journal/task_state.py",
        "if not first and _guarded(lambda: self._store.get(ATTEMPTS)) != document:",
        "if False:",
        "test_a_lasting_not_found_is_not_believed_either",
        CLEARED,
    ),
    Mutation(
        "the journal knows of an attempt before a brake stops it",
        "once/__init__.py",
        """            try:
                if self._brake is not None:
                    self._brake.check()
                return work(story)
""",
        """            try:
                return work(story)
""",
        "test_somebody_has_stopped_the_payments",
        SAFEGUARDS,
    ),
    Mutation(
        "not found counts only if Airflow lists its Variables without it",
        "operators/safeguards.py",
        "        _refuse_if_listed(key)\n",
        "        pass\n",
        "test_not_found_counts_only_if_airflow_itself_says_so",
        SAFEGUARDS,
    ),
    Mutation(
        "each iteration of a loop has a key of its own",
        "operators/journals.py",
        """f":loop:{context['loop'].index}" if "loop" in context else """,
        "",
        "test_an_iteration_has_an_identity_of_its_own",
        LOOPS,
    ),
    Mutation(
        "a creating call: note before it is sent",
        "operators/send_once.py",
        '{"method": method, "sending": True, "try_number"',
        '{"method": method, "sending": False, "try_number"',
        "test_a_worker_that_died_while_sending_has_left_its_note",
        SEND_ONCE,
    ),
    Mutation(
        "a creating call: a note that is not found does not prove that nothing was sent",
        "operators/send_once.py",
        "    if note is None and not _has_sent_nothing(ti, retries):\n",
        "    if False:\n",
        "test_a_note_that_is_lost_is_no_proof",
        SEND_ONCE,
    ),
    Mutation(
        "a creating call: its note counts as missing only after several reads",
        "operators/send_once.py",
        "note = patient_read(store, NOTE)",
        "note = store.get(NOTE)",
        "test_a_note_is_read_again_before_it_counts_as_missing",
        SEND_ONCE,
    ),
    Mutation(
        "a creating call: only a person sends it again",
        "operators/send_once.py",
        """        if ti.max_tries <= note.get("max_tries", 0):
""",
        """        if False:
""",
        "test_a_write_whose_outcome_is_unknown_fails_without_a_retry",
        SEND_ONCE,
    ),
    Mutation(
        "a call by name: methods that change payments are refused",
        "operators/calls.py",
        """        if not self.unguarded:
""",
        """        if False:
""",
        "test_what_changes_payments_is_refused",
        CALLS,
    ),
]


def _copy(folder: Path) -> None:
    """The package, and what the tests need; with what is compiled, which holds as long as its source is the same."""
    shutil.copytree(ROOT / PACKAGE, folder / PACKAGE)
    for tests in ("core", "hook", "journal", "oauth", "once", "operators", "proof", "security", "tools", "unit"):
        shutil.copytree(ROOT / "tests" / tests, folder / "tests" / tests)
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests" / "conftest.py")
    shutil.copy(ROOT / "pyproject.toml", folder / "pyproject.toml")


def _take_out(mutation: Mutation, folder: Path) -> None:
    """Take the rule out of a copy.

    :raises LookupError: it does not stand there exactly once.
    """
    file = folder / PACKAGE / mutation.file
    source = file.read_text()
    found = source.count(mutation.old)
    if found != 1:
        raise LookupError(f"{mutation.file} holds the text of this rule {found} times: bring this script up to date")
    file.write_text(source.replace(mutation.old, mutation.new))


def _red(folder: Path, where: str, selection: str) -> tuple[list[str], str]:
    """Run tests of a copy in this process; the names of those that failed, or what went wrong with running them."""
    import pytest

    os.chdir(folder)
    sys.path.insert(0, str(folder))
    output = folder / "output"
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    arguments = ["-q", "-rf", "--tb=no", "-p", "no:cacheprovider", "-W", f"ignore:{ALREADY_IMPORTED}", where]
    if selection:
        arguments += ["-k", selection]
    code = int(pytest.main(arguments))
    sys.stdout.flush()
    said = output.read_text(errors="replace")
    if code not in (0, 1):
        return [], f"the tests did not run (pytest said {code}):\n{said[-4000:]}"
    return re.findall(r"^FAILED \S+::(\S+)", said, re.MULTILINE), ""


def _judge(mutation: Mutation) -> tuple[bool, str]:
    """Take one rule out, or none, and say whether the tests saw it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _copy(folder)
        if mutation.old:
            try:
                _take_out(mutation, folder)
            except LookupError as error:
                return False, f"{mutation.rule}: {error}"
        red, trouble = _red(folder, mutation.where, mutation.tests)
    if not mutation.old:
        return not red and not trouble, f"{mutation.rule}: {trouble or red or 'all green, as it must be'}"
    if trouble or not red:
        return False, f"{mutation.rule}: {trouble or 'TAKEN OUT, AND NO TEST TURNED RED'}"
    return True, f"{mutation.rule}: {len(red)} red, {', '.join(red[:3])}{', ...' if len(red) > 3 else ''}"


def _nothing_taken_out() -> list[Mutation]:
    """The tests of all rules, by file, in a copy that is whole."""
    tests: dict[str, list[str]] = {}
    for one in MUTATIONS:
        tests.setdefault(one.where, []).append(f"({one.tests})")
    return [
        Mutation(f"every rule in its place, {where}", "", "", "", "" if where == TESTS else " or ".join(named), where)
        for where, named in tests.items()
    ]


def _each_in_a_process(mutations: list[Mutation], at_once: int, folder: Path) -> Iterator[tuple[bool, str]]:
    """Judge each in a copy of this process, in which what they all import is there already."""
    waiting, running = list(enumerate(mutations)), dict[int, tuple[int, Mutation]]()
    while waiting or running:
        if waiting and len(running) < at_once:
            number, mutation = waiting.pop(0)
            sys.stdout.flush()
            child = os.fork()
            if not child:
                _end_with_verdict(mutation, folder / str(number))
            running[child] = (number, mutation)
            continue
        child, _ = os.wait()
        number, mutation = running.pop(child)
        verdict = folder / str(number)
        yield json.loads(verdict.read_text()) if verdict.exists() else (False, f"{mutation.rule}: its process ended")


def _end_with_verdict(mutation: Mutation, file: Path) -> NoReturn:
    try:
        file.write_text(json.dumps(_judge(mutation)))
    except BaseException:
        file.write_text(json.dumps([False, f"{mutation.rule}: {traceback.format_exc()}"]))
    finally:
        os._exit(0)


def main(wanted: str) -> int:
    """Do it for all of them, or for those whose name holds these words, some at a time."""
    passed, chosen = True, [mutation for mutation in MUTATIONS if wanted in mutation.rule]
    with tempfile.TemporaryDirectory() as name:
        os.environ["AIRFLOW_HOME"] = name
        for module in IMPORTED_BY_MOST:
            importlib.import_module(module)
        for module in [module for module in sys.modules if module.partition(".")[0] == PACKAGE]:
            del sys.modules[module]  # Airflow has looked for its providers
        todo = chosen if wanted else [*_nothing_taken_out(), *chosen]
        for good, words in _each_in_a_process(todo, AT_ONCE, Path(name)):
            passed &= good
            print(f"{'ok  ' if good else 'FAIL'} {words}", flush=True)
    print(f"{len(chosen)} rules taken out one by one: {'each was noticed' if passed else 'NOT each was noticed'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
