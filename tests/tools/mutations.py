"""Take the rules of the protocol out of a copy of the package, one by one, and see that a test turns red each time.

``python tests/tools/mutations.py [words of a rule]``: 1 if a rule can be taken out unnoticed, or cannot be found in the
source any more.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "airflow_provider_bitrix24"
TESTS = "tests/proof/test_rules.py"
PEOPLE = "tests/proof/test_people.py"
TERMINAL = "tests/proof/test_terminal.py"
DECISIONS = "tests/proof/test_decisions.py"
DEATH = "tests/proof/test_death_before_red.py"
HALF_KNOWN = "tests/proof/test_half_known.py"
SENT = "tests/operators/test_sent.py"
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
        "intent before send",
        "once/attempt.py",
        """            intent.write()
            answer, doubt = None, None
            try:
                answer = self.run(write(lease, digest))
""",
        """            answer, doubt = None, None
            try:
                answer = self.run(write(lease, digest))
                intent.write()
""",
        "test_a_worker_that_dies_after_sending_has_left_its_intent",
    ),
    Mutation(
        "lease",
        "once/attempt.py",
        "Lease(monotonic=decided + settings.lease, wall=self.clock.time() + settings.lease)",
        "Lease(monotonic=decided + 1e9, wall=self.clock.time() + 1e9)",
        "test_who_wakes_up_after_the_lease_sends_nothing",
    ),
    Mutation(
        "answer before read back: a payment",
        "once/add.py",
        """        story.identify(payment_id, "answer", sends=story.entry.last_send(result="answered").sends)
        attempt.log.info("The portal added payment %s to %s; reading it back.", payment_id, addition.of)
        return self._read_back_sent(payment_id)
""",
        """        payment = self._read_back_sent(payment_id)
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
        'for row in rows if row.get("xmlId") == tag)',
        "for row in rows)",
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
        "        elif intent.answered:\n",
        "        elif intent is None:\n",
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
        "            return self._go_on(self._read_back(self.story.entry.payment_id))\n",
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
        'elif intent.last is not None and intent.last.result == "not_shown" and _may_be_sent(intent):',
        "elif False:",
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
        "a creating call: note before it is sent",
        "operators/sent.py",
        '{"method": method, "sending": True, "try_number"',
        '{"method": method, "sending": False, "try_number"',
        "test_a_worker_that_died_while_sending_has_left_its_note",
        SENT,
    ),
    Mutation(
        "a creating call: only a person sends it again",
        "operators/sent.py",
        """        if ti.max_tries <= note.get("max_tries", 0):
""",
        """        if False:
""",
        "test_a_write_whose_outcome_is_unknown_fails_without_a_retry",
        SENT,
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
    """The package, and what the tests need."""
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / PACKAGE, folder / PACKAGE, ignore=without)
    for tests in ("core", "operators", "proof", "oauth"):
        shutil.copytree(ROOT / "tests" / tests, folder / "tests" / tests, ignore=without)
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
    """Run tests in a copy; the names of those that failed, or what went wrong with running them."""
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider", where]
    environment = {**os.environ, "PYTHONPATH": str(folder), "AIRFLOW_HOME": str(folder / "airflow"), "COLUMNS": "200"}
    done = subprocess.run(
        [*command, "-k", selection] if selection else command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        return [], f"the tests did not run (pytest said {done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return re.findall(r"^FAILED \S+::(\S+)", done.stdout, re.MULTILINE), ""


def _judge(mutation: Mutation | None) -> tuple[bool, str]:
    """Take one rule out, or none, and say whether the tests saw it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _copy(folder)
        if mutation is None:
            red, trouble = _red(folder, TESTS, "")
            for one in MUTATIONS:
                if one.where != TESTS and not trouble:
                    more, trouble = _red(folder, one.where, one.tests)
                    red += more
            return not red and not trouble, f"every rule in its place: {trouble or red or 'all green, as it must be'}"
        try:
            _take_out(mutation, folder)
        except LookupError as error:
            return False, f"{mutation.rule}: {error}"
        red, trouble = _red(folder, mutation.where, mutation.tests)
    if trouble or not red:
        return False, f"{mutation.rule}: {trouble or 'TAKEN OUT, AND NO TEST TURNED RED'}"
    return True, f"{mutation.rule}: {len(red)} red, {', '.join(red[:3])}{', ...' if len(red) > 3 else ''}"


def main(wanted: str) -> int:
    """Do it for all of them, or for those whose name holds these words, two at a time."""
    passed, chosen = True, [mutation for mutation in MUTATIONS if wanted in mutation.rule]
    with ThreadPoolExecutor(2) as pool:
        for good, words in pool.map(_judge, chosen if wanted else [None, *chosen]):
            passed &= good
            print(f"{'ok  ' if good else 'FAIL'} {words}", flush=True)
    print(f"{len(chosen)} rules taken out one by one: {'each was noticed' if passed else 'NOT each was noticed'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
