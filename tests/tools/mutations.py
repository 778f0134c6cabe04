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
TESTS = "tests/simulation/test_rules.py"
PEOPLE = "tests/simulation/test_people.py"
TERMINAL = "tests/simulation/test_terminal.py"
DECISIONS = "tests/simulation/test_decisions.py"
SQL_JOURNAL = "tests/journal/test_sql_journal.py"
TWO_JOURNALS = "tests/simulation/test_two_journals.py"
DEATH = "tests/simulation/test_death_before_red.py"
HALF_KNOWN = "tests/simulation/test_half_known.py"
PACING = "tests/at_most_once/test_pacing.py"
PORTALS = "tests/journal/test_portals.py"
HUMAN_RESPONSE = "tests/operators/test_human_response.py"
JOURNALS = "tests/operators/test_journals.py"
RENDERING = "tests/operators/test_rendering.py"
OPTIONS = "tests/operators/test_options.py"
SETTINGS = "tests/api/test_settings.py"
UNDECIDED = "tests/simulation/test_undecided.py"
PERMISSION = "tests/at_most_once/test_permission.py"
CLIENT = "tests/api/test_client.py"
LISTS = "tests/api/test_whole_lists.py"
FORGOTTEN = "tests/at_most_once/test_forgotten.py"
CLEARED = "tests/operators/test_forgotten.py"
SAFEGUARDS = "tests/operators/test_safeguards.py"
LOOPS = "tests/operators/test_loops.py"
SEND_ONCE = "tests/operators/test_send_once.py"
CALLS = "tests/operators/test_calls.py"
PAY_CRM_PAYMENT = "tests/at_most_once/test_pay_crm_payment.py"
RECOVERY = "tests/at_most_once/test_recovery.py"
STEPS = "tests/at_most_once/test_next_step.py"
MANY = "tests/at_most_once/test_lists.py"
LOCKSTEP = "tests/at_most_once/test_lockstep.py"
MANY_WORKERS = "tests/hooks/oauth/test_many_workers.py"
VARIABLE = "tests/hooks/oauth/test_variable.py"
TROUBLE = "tests/hooks/oauth/test_trouble.py"
CONNECTIONS = "tests/hooks/test_connections.py"
SPELLINGS = "tests/at_most_once/test_spellings.py"
OPERATORS = "tests/operators/test_operators.py"
IDENTIFIERS = "tests/test_identifiers.py"
REFUSED_READS = "tests/at_most_once/test_refused_reads.py"
WORKING_TIME = "tests/at_most_once/test_working_time.py"
LONG_WAITS = "tests/operators/test_working_time.py"
REPLIES = "tests/api/test_working_time.py"
LIST_REQUESTS = "tests/operators/test_list_requests.py"
SHOWN = "tests/at_most_once/test_shown.py"
NUMBERS = "tests/operators/test_account_numbers.py"


@dataclass(frozen=True)
class Mutation:
    """A rule, what stands in its line without it, and which tests must notice.

    :param rule: the words after ``# rule:`` at the end of the rule's line, or in the line above it.
    :param new: what stands in that line instead.
    """

    rule: str
    new: str
    tests: str
    where: str = TESTS


MUTATIONS = [
    Mutation(
        "the switch is read right before each send",
        "pass",
        "test_a_switch_that_is_set_during_a_wait",
        PERMISSION,
    ),
    Mutation(
        "a wait ends what permits a send",
        "pass",
        "test_even_a_short_wait",
        PERMISSION,
    ),
    Mutation(
        "an unpaid payment counts before every send",
        "unpaid: list[Payment] = []",
        "test_an_unpaid_payment_of_another_key_counts",
    ),
    Mutation(
        "one too many with our tag is noticed",
        "if False:",
        "test_two_payments_with_our_tag",
        PERMISSION,
    ),
    Mutation(
        "one too many without a tag is noticed",
        "if False:",
        "test_a_repeated_request_is_noticed",
    ),
    Mutation(
        "also by the attempt after one that died",
        'if attempt.record.evidence == "response" and attempt.sent_now:',
        "test_one_too_many_is_noticed_by_the_attempt_after_one_that_died",
        PERMISSION,
    ),
    Mutation(
        "what was deleted while it was looked for is gone",
        "if False:",
        "test_a_payment_that_is_deleted_while_it_is_looked_for_is_gone",
        PAY_CRM_PAYMENT,
    ),
    Mutation(
        "intent before send",
        "attempt.record = intent",
        "test_a_worker_that_dies_after_sending_has_left_its_intent",
    ),
    Mutation(
        "a write has its slot of the rate limit",
        "pass",
        "test_a_write_waits_for_its_slot_before_the_read_that_permits_it",
        PACING,
    ),
    Mutation(
        "what was read before the slot permits nothing",
        "pass",
        "test_even_a_short_wait_for_a_slot_is_followed_by_another_read",
        PACING,
    ),
    Mutation(
        "send_deadline",
        "deadline = type(attempt.deadline())(monotonic=1e12, wall=1e12)",
        "test_who_wakes_up_after_the_deadline_sends_nothing",
    ),
    Mutation(
        "reply before read back: a payment",
        'attempt.record = attempt.record.identified(result, "response").acknowledged()',
        "test_the_answer_is_written_before_anything_else_is_asked",
    ),
    Mutation(
        "reply before read back: a mark",
        "self.attempt.record = self.attempt.record.acknowledged(step=self.step)",
        "test_the_answer_is_written_before_anything_else_is_asked",
    ),
    Mutation(
        "snapshot of the first intent",
        "if True:",
        "test_the_snapshot_stays_that_of_the_first_intent",
    ),
    Mutation(
        "unfiltered count",
        "new = [one.id for one in shown.payments if one.id not in known and one.id in (shown.fitting or ())]",
        "test_a_payment_that_fits_no_filter_still_counts",
    ),
    Mutation(
        "filters make a success a failure",
        "unfit = False",
        "test_what_somebody_else_adds_is_not_taken_for_ours",
    ),
    Mutation(
        "two reads prove an absence",
        '"pending": 1,',
        "test_two_reads_after_the_settle_window_prove_an_absence",
    ),
    Mutation(
        "absent after the settle window: same attempt",
        "write.watch = Watch(absent_after=decided, doubt=doubt)",
        "test_nothing_is_absent_before_the_settle_window_is_over",
    ),
    Mutation(
        "absent after the settle window: later attempt",
        "left = 0.0",
        "test_nothing_is_absent_before_the_settle_window_is_over",
    ),
    Mutation(
        "the portal's clock goes on while it replies",
        "return shown.at + max(monotonic - shown.came[0], wall - shown.came[1])",
        "test_the_settle_window_begins_when_the_portal_may_have_answered",
    ),
    Mutation(
        "one automatic second send",
        "sends: int = 3",
        "test_what_is_absent_is_sent_once_more_and_then_a_person_decides",
    ),
    Mutation(
        "who paid",
        "if since is None or target.paid_at is None:",
        "test_who_paid_decides_whose_mark_it_is",
    ),
    Mutation(
        "compare parameters",
        "if False:",
        "test_other_parameters_are_refused or test_an_open_intent_is_resolved_with_its_own_parameters_first",
    ),
    Mutation(
        "claims",
        "if False:",
        "claimed",
        TWO_JOURNALS,
    ),
    Mutation(
        "other keys with an unknown outcome",
        "elif attempt.journal.is_shared and shown.fitting is not None:",
        "test_what_a_rival_may_have_added_is_for_a_person",
    ),
    Mutation(
        "other keys since the snapshot",
        'values["snapshot_after"] = 1e12',
        "test_a_rival_counts_from_the_snapshot_on",
    ),
    Mutation(
        "a key without times counts",
        "return bool(settle_until and since and settle_until >= since)",
        "is_a_rival",
        HALF_KNOWN,
    ),
    Mutation(
        "a reply that only the task state knows",
        "return record",
        "not_forgotten",
        HALF_KNOWN,
    ),
    Mutation(
        "unless a person has decided since",
        "same = True",
        "test_what_a_person_has_decided_since_counts_more",
        HALF_KNOWN,
    ),
    Mutation(
        "times by the worker's clock tell nothing",
        "if clock.is_told:",
        "test_a_window_by_the_workers_clock_is_waited_for_as_a_whole",
        HALF_KNOWN,
    ),
    Mutation(
        "a refusal is judged by the journal of now",
        "if True:",
        "test_a_refusal_is_not_believed_if_the_key_has_gone_on",
    ),
    Mutation(
        "one host, one portal name",
        "if known is None:",
        "test_a_host_that_is_known_under_another_name_is_refused",
        PORTALS,
    ),
    Mutation(
        "a portal keeps its name while a key is written",
        "pass",
        "test_an_attempt_that_began_before_sends_nothing_after",
        PORTALS,
    ),
    Mutation(
        "nothing that may still arrive is renamed",
        "pass",
        "test_what_may_still_arrive_is_not_renamed",
        PORTALS,
    ),
    Mutation(
        "the owner of a row is one attempt",
        "return who",
        "test_two_airflows_that_share_a_database_are_two_owners",
        JOURNALS,
    ),
    Mutation(
        "epoch",
        "elif row is not None and not row.leased:",
        "overtaken",
        SQL_JOURNAL,
    ),
    Mutation(
        "fence",
        "if overtaken:\n        return None  # type: ignore[return-value]\n    if overtaken:",
        "test_whom_airflow_has_given_up_sends_nothing",
    ),
    Mutation(
        "fence before SQL",
        "fenced: dict[str, Saved] = {}",
        "test_the_task_state_is_a_fence_for_sql_too",
    ),
    Mutation(
        "decisions know their candidates",
        "if False:",
        "test_paying_again_is_void_if_another_candidate_has_appeared",
    ),
    Mutation(
        "decisions are about what was shown",
        "stands = True",
        "test_who_decides_while_a_retry_begins_takes_nothing_from_it",
        TERMINAL,
    ),
    Mutation(
        "decisions stay in the record",
        "pass",
        "stays_in_the_record",
        PEOPLE,
    ),
    Mutation(
        "claims end",
        "if False:",
        "test_a_wrong_claim_is_ended_by_a_person",
        PEOPLE,
    ),
    Mutation(
        "what was undone is not sent again: a mark",
        "return False",
        "test_what_somebody_has_undone_is_never_sent_again",
    ),
    Mutation(
        "only what is proved is another key's",
        "return [one for one in new if one not in claims]",
        "test_what_another_key_has_wrongly_claimed_is_not_absent",
        DECISIONS,
    ),
    Mutation(
        "a conclusion is no reply",
        "proved = True",
        "test_what_an_overtaken_attempt_wanted_to_return_is_not_taken_for_the_portals_answer",
        DECISIONS,
    ),
    Mutation(
        "nothing is sent beside the key's own payment",
        "if False:",
        "test_nobody_pays_again_beside",
        DECISIONS,
    ),
    Mutation(
        "what others were told is learned first",
        "pass",
        "test_nobody_pays_again_beside_what_the_portal_has_told",
        DECISIONS,
    ),
    Mutation(
        "sending again is about the same object",
        "pass",
        "test_paying_again_is_about_the_same_object",
        DECISIONS,
    ),
    Mutation(
        "what was not applied is not sent by a retry",
        'if record.last in ("acknowledged", "inconclusive"):',
        "test_nothing_is_sent",
        DEATH,
    ),
    Mutation(
        "another task is told before it sends",
        "return self.round is None or self.round not in told",
        "test_another_task_with_the_key or test_who_was_killed",
        DEATH,
    ),
    Mutation(
        "what was not sent says nothing of what was",
        "return next(reversed(self.sends_of(step)), None)",
        "test_a_row_that_another_task",
        DEATH,
    ),
    Mutation(
        "a decision to send again needs no clearing",
        "return done",
        "test_what_a_person_decides",
        DEATH,
    ),
    Mutation(
        "a key that needs a decision sends only after it",
        "if False:",
        "test_what_is_deleted_meanwhile_is_no_decision",
        UNDECIDED,
    ),
    Mutation(
        "what is left of several proves nothing",
        "if False:",
        "test_what_is_left_of_several or test_what_a_person_has_chosen_wrongly",
        UNDECIDED,
    ),
    Mutation(
        "who abandons is always heard",
        "abandons = False",
        "test_who_gives_up_is_always_heard",
        UNDECIDED,
    ),
    Mutation(
        "a decision that does not apply begins nothing",
        "pass",
        "test_an_answer_about_what_the_journal_does_not_know_sends_nothing",
        UNDECIDED,
    ),
    Mutation(
        "a decision that was begun still counts",
        "self._carried_out({*candidates, *shown, *known}),",
        "test_what_is_deleted_meanwhile_is_sent_once or test_a_decision_that_a_dying_attempt",
        UNDECIDED,
    ),
    Mutation(
        "who abandoned another key was shown what may be its own",
        "return not shown",
        "test_who_gave_the_other_key_up",
        UNDECIDED,
    ),
    Mutation(
        "lost notes are waited for before a send",
        "pass",
        "test_a_person_is_asked_when_a_forgotten_add_has_arrived or test_a_forgotten_mark_that_arrives_late_is_found",
        FORGOTTEN,
    ),
    Mutation(
        "lost notes are waited for before sending again",
        "if not record.forgotten or not unknown:",
        "test_pay_again_waits_for_what_is_in_flight_though_a_person_was_asked_at_once",
        FORGOTTEN,
    ),
    Mutation(
        "no key of a payment is that of a step",
        "key = f\"{attempt.key}:payment:{payment_id}:{step.replace(' ', ':')}\"",
        "test_no_key_is_that_of_a_step",
        RECOVERY,
    ),
    Mutation(
        "a second send is tried again",
        "pass",
        "test_the_second_send_has_a_wait_of_its_own_for_its_slot",
        PACING,
    ),
    Mutation(
        "an empty journal that must know has forgotten",
        "if False:",
        "test_nothing_is_sent_and_every_later_attempt_knows_that_notes_are_lost",
        FORGOTTEN,
    ),
    Mutation(
        "another task's record does not speak for this one",
        "knows_us = record is not None",
        "test_the_note_of_another_task_does_not_speak_for_this_one",
        FORGOTTEN,
    ),
    Mutation(
        "what is forgotten is not known to be nothing",
        "return nothing_known",
        "test_nothing_is_sent_and_every_later_attempt_knows_that_notes_are_lost",
        FORGOTTEN,
    ),
    Mutation(
        "a document that was written is looked for",
        "pass",
        "test_a_document_that_was_there_and_is_gone_is_noticed",
        FORGOTTEN,
    ),
    Mutation(
        "who was overtaken says what the portal replied",
        "if False:",
        "test_an_answer_that_cannot_be_kept_is_told",
        FORGOTTEN,
    ),
    Mutation(
        "decisions are missing only after several reads",
        "read.decisions = self._get(DECISIONS) or []",
        "test_a_decision_at_a_terminal_is_heard_after_a_wrong_not_found",
        CLEARED,
    ),
    Mutation(
        "only Airflow says that it has given an attempt up",
        "overtaken = True",
        "test_a_wrong_not_found_does_not_stop_the_write_of_an_answer",
        FORGOTTEN,
    ),
    Mutation(
        "what is written is read again",
        "if False:",
        "test_a_lasting_not_found_is_not_believed_either",
        CLEARED,
    ),
    Mutation(
        "the journal knows of an attempt before it is stopped",
        "pass",
        "test_somebody_has_stopped_the_payments",
        SAFEGUARDS,
    ),
    Mutation(
        "what the portal shows is not sent",
        "if False:",
        "test_what_the_portal_shows_is_done",
        STEPS,
    ),
    Mutation(
        "an absence is proved before it counts",
        "if False:",
        "test_an_absence_needs_its_reads",
        STEPS,
    ),
    Mutation(
        "a send is permitted by what was read after the last wait",
        "if False:",
        "test_the_first_send_needs_a_fresh_observation or test_either_clock",
        STEPS,
    ),
    Mutation(
        "two adds to one object never share a batch",
        "if alone and chunk:",
        "test_two_payments_are_never_added_to_one_object_in_one_batch",
        MANY,
    ),
    Mutation(
        "an untagged add travels alone if the journal knows no others",
        "alone = False",
        "test_untagged_payments_travel_alone",
        MANY,
    ),
    Mutation(
        "a key that another task holds is revisited at the end",
        "if False:",
        "test_a_key_that_another_task_holds_is_revisited_at_the_end",
        MANY,
    ),
    Mutation(
        "a time limit is told to the rest",
        "pass",
        "test_a_time_limit_in_the_middle_is_told_to_the_rest",
        MANY,
    ),
    Mutation(
        "smaller batches after an unknown outcome",
        "trouble = self._slow",
        "test_a_batch_is_halved_after_an_unknown_outcome",
        MANY,
    ),
    Mutation(
        "what refers to another command halts",
        "halt = False",
        "test_tagged_payments_are_added_in_linked_batches",
        MANY,
    ),
    Mutation(
        "what is sent at once fits into one request",
        "permitted = [key for key, one in permits.items() if one.with_tag is with_tag]",
        "test_replies_to_one_batch or test_each_batch_has_its_slot",
        LOCKSTEP,
    ),
    Mutation(
        "a reply is saved before the portal is asked again",
        "Check: self._check_all,",
        "test_a_reply_that_cannot_be_saved_is_tried_again",
        LOCKSTEP,
    ),
    Mutation(
        "a task knows what its other keys have added",
        "for key, document in ():",
        "test_two_keys_of_one_task_never_share_a_payment",
        LOCKSTEP,
    ),
    Mutation(
        "a halt is no failed try",
        "if False:",
        "test_others_that_halt_a_batch",
        LOCKSTEP,
    ),
    Mutation(
        "other parameters use no existing payment",
        "if False:",
        "test_other_parameters_are_refused_before",
        LOCKSTEP,
    ),
    Mutation(
        "what was sent is a person's to decide about",
        "pass",
        "test_a_key_that_needs_a_decision_does_not_return",
        LOCKSTEP,
    ),
    Mutation(
        "the keys of one object share no batch",
        "names = {operation.key}",
        "test_operations_on_one_payment",
        LOCKSTEP,
    ),
    Mutation(
        "a redirect does not deny a write",
        "if True:",
        "test_a_redirect_names_the_new_host",
        CLIENT,
    ),
    Mutation(
        "what comes before writing is known by method",
        "elif kind is None:",
        "test_an_add_that_does_not_find_its_own_payment",
        CLIENT,
    ),
    Mutation(
        "a full page is not the whole list",
        "return next is not None or (total is not None and total > rows)",
        "test_the_rest_of_a_list",
        LISTS,
    ),
    Mutation(
        "a list that leaves out what was there is no answer",
        "if False:",
        "test_what_was_there_before",
        LISTS,
    ),
    Mutation(
        "without a slot nothing is sent",
        "if False:",
        "test_without_a_slot_in_time_nothing_is_saved_and_nothing_sent",
        PACING,
    ),
    Mutation(
        "compare rows",
        "if False:",
        "test_rows_of_a_dropped_filter_are_not_tagged",
    ),
    Mutation(
        "keys that look the same are one",
        'text = value.strip() if isinstance(value, str) else ""',
        "test_two_spellings_of_a_key_are_one_payment",
        JOURNALS,
    ),
    Mutation(
        "a portal has one name however it is written",
        "return text",
        "test_a_portal_has_one_name_however_it_is_written",
        SETTINGS,
    ),
    Mutation(
        "a text stays a text with native types",
        "return jinja2.nativetypes.native_concat(parts)",
        "test_a_text_stays_as_it_is_written",
        RENDERING,
    ),
    Mutation(
        "one option stops all payments",
        "pass",
        "test_one_option_stops_all_payments",
        OPTIONS,
    ),
    Mutation(
        "one refresh for all workers: the lock",
        "with self._database.begin(reads=True) as connection:",
        "test_one_refresh_for_each_expiry",
        MANY_WORKERS,
    ),
    Mutation(
        "one refresh for all workers: reading again under the lock",
        "if (stored := tokens) is None:",
        "test_one_refresh_for_each_expiry",
        MANY_WORKERS,
    ),
    Mutation(
        "a refresh does not undo a sign-in",
        "if stored is None or new:",
        "test_somebody_signs_in_while_a_task_refreshes",
        VARIABLE,
    ),
    Mutation(
        "a sign-in waits for a refresh",
        "with self._database.begin(reads=True) as connection:",
        "test_a_sign_in_waits_for_a_refresh_and_is_the_last_word",
        TROUBLE,
    ),
    Mutation(
        "a temporary run pays nothing",
        "pass",
        "test_a_temporary_run_pays_nothing",
        SAFEGUARDS,
    ),
    Mutation(
        "an extra that cannot be read is refused",
        "if not trouble and trouble:",
        "test_the_hook_refuses",
        CONNECTIONS,
    ),
    Mutation(
        "the tail of a double is no money",
        "number = decimal_number(amount)",
        "test_what_is_filled_may_be_as_much_as_the_limit",
        SPELLINGS,
    ),
    Mutation(
        "a guard may not be left empty",
        "pass",
        "test_an_id_or_a_guard_may_not_be_left_empty",
        OPERATORS,
    ),
    Mutation(
        "a whole list has as many rows as the portal said",
        "if False:",
        "test_a_whole_with_fewer_rows_than_were_told_is_no_answer",
        LISTS,
    ),
    Mutation(
        "and every row that a part of it has shown",
        "if lost := set():",
        "test_a_whole_without_a_row_that_a_part_has_shown_is_no_answer",
        LISTS,
    ),
    Mutation(
        "only the portal itself tells its time",
        "at=_portal_time(time) or pendulum.from_timestamp(1),",
        "test_the_clock_of_a_gateway_is_not_that_of_the_portal",
        RECOVERY,
    ),
    Mutation(
        "what changes a legacy invoice changes whether it is paid",
        "moves_money=False,",
        "test_a_legacy_invoice_is_not_marked_by_its_fields_behind_the_guards",
        CALLS,
    ),
    Mutation(
        "dashes that look the same are one",
        'one_form = unicodedata.normalize("NFKC", text).strip()',
        "test_a_dash_is_a_dash",
        IDENTIFIERS,
    ),
    Mutation(
        "blanks in a row are one",
        "return one_form",
        "test_blanks_in_a_row_are_one",
        IDENTIFIERS,
    ),
    Mutation(
        "a cleared task is no first attempt",
        'lost = ""',
        "test_a_cleared_task_without_its_notes_is_no_first_attempt",
        CLEARED,
    ),
    Mutation(
        "a retry whose journal is empty is no first attempt",
        'lost = ""',
        "test_a_task_state_that_somebody_has_emptied_is_noticed",
        CLEARED,
    ),
    Mutation(
        "a retry that is not told of its earlier attempts does not take them for none",
        "return None if keys is None else False",
        "test_a_task_state_that_somebody_has_emptied_is_noticed",
        CLEARED,
    ),
    Mutation(
        "the answer to a question whose note is gone is read before it is asked again",
        "if False:",
        "test_an_answer_that_airflow_holds_is_read_before_anything_is_asked",
        HUMAN_RESPONSE,
    ),
    Mutation(
        "a question that Airflow does not know is asked again",
        "if False:",
        "test_a_question_that_airflow_does_not_know_is_asked_again",
        HUMAN_RESPONSE,
    ),
    Mutation(
        "a rescheduled attempt is no first one",
        "return ti.try_number == 1",
        "test_a_rescheduled_attempt_is_no_first_one",
        CLEARED,
    ),
    Mutation(
        "that an earlier attempt has begun is handed on",
        "if False:",
        "test_an_attempt_that_does_not_reach_its_journal_hands_on_that_there_was_one",
        CLEARED,
    ),
    Mutation(
        "not found counts only if Airflow lists its Variables without it",
        "pass",
        "test_not_found_counts_only_if_airflow_itself_says_so",
        SAFEGUARDS,
    ),
    Mutation(
        "each iteration of a loop has a key of its own",
        'iteration = ""',
        "test_an_iteration_has_an_identity_of_its_own",
        LOOPS,
    ),
    Mutation(
        "a creating call: note before it is sent",
        '_write(store, {"method": method, "sending": False, "try_number": ti.try_number, "max_tries": ti.max_tries})',
        "test_a_worker_that_died_while_sending_has_left_its_note",
        SEND_ONCE,
    ),
    Mutation(
        "a creating call: a note that is not found does not prove that nothing was sent",
        "if False:",
        "test_a_note_that_is_lost_is_no_proof",
        SEND_ONCE,
    ),
    Mutation(
        "a creating call: its note counts as missing only after several reads",
        "note = store.get(NOTE)",
        "test_a_note_is_read_again_before_it_counts_as_missing",
        SEND_ONCE,
    ),
    Mutation(
        "a creating call: only a person sends it again",
        "if False:",
        "test_a_write_whose_outcome_is_unknown_fails_without_a_retry",
        SEND_ONCE,
    ),
    Mutation(
        "a call by name: methods that change payments are refused",
        "if False:",
        "test_what_changes_payments_is_refused",
        CALLS,
    ),
    Mutation(
        "nothing is sent that the portal would refuse for its working time",
        "refused = {}",
        "test_nothing_is_sent_that_the_portal_would_refuse",
        WORKING_TIME,
    ),
    Mutation(
        "a batch takes no longer than half of what the portal allows it",
        "pass",
        "test_a_batch_takes_no_longer_than_half_of_what_the_portal_allows",
        WORKING_TIME,
    ),
    Mutation(
        "a time limit that is over stops nothing more",
        "pass",
        "test_an_attempt_that_knows_nothing_goes_on_after_the_refusal",
        WORKING_TIME,
    ),
    Mutation(
        "without a journal, only what was not sent is carried out again",
        "if isinstance(result, Failure) and result.error.is_time_limit",
        "test_without_a_journal_a_retry_does_not_carry_out_again",
        WORKING_TIME,
    ),
    Mutation(
        "what was read before it could not arrive any more shows no absence",
        "if pending and not self.shows(self.view.shown):",
        "test_a_read_before_nothing_could_arrive_any_more_shows_no_absence",
        RECOVERY,
    ),
    Mutation(
        "whose a new payment is the portal is asked",
        "if False:",
        "test_a_payment_that_appears_at_the_last_read_is_asked_about",
        RECOVERY,
    ),
    Mutation(
        "a time limit of a step is that of the operation",
        "if False:",
        "test_a_step_that_is_refused_pauses_the_list",
        WORKING_TIME,
    ),
    Mutation(
        "what the time limit has refused to read is read later",
        "if False:",
        "test_a_list_in_which_any_call_is_refused and True-invoices",
        REFUSED_READS,
    ),
    Mutation(
        "a read-back that the time limit refused is no failed read",
        "if False:",
        "test_a_list_in_which_any_call_is_refused and invoices",
        REFUSED_READS,
    ),
    Mutation(
        "without a journal, a step that the time limit refused is waited for",
        "if True:",
        "test_without_a_journal_a_step_that_is_refused_is_waited_for",
        WORKING_TIME,
    ),
    Mutation(
        "a portal that only refuses is not waited for without end",
        "if False:",
        "test_a_portal_that_only_refuses_is_waited_for_once",
        LONG_WAITS,
    ),
    Mutation(
        "nobody waits by a clock that was not compared with the portal's",
        "if False:",
        "test_a_deferrable_list_waits_in_the_triggerer",
        LONG_WAITS,
    ),
    Mutation(
        "without a journal that a later attempt reads, a list does not leave the worker",
        "leaves = self.deferrable or limit_waits.RESCHEDULES_ALL",
        "test_a_task_that_cannot_come_back_later_waits_on_the_worker",
        LONG_WAITS,
    ),
    Mutation(
        "a list leaves the worker again only after it has sent something: reading may have used up the time",
        "if self._leave is not None and seconds >= SHORT:",
        "test_a_list_that_has_come_back_and_sent_nothing_does_not_leave_again",
        LONG_WAITS,
    ),
    Mutation(
        "without such a journal, a task for one payment does not leave the worker",
        'if not is_rescheduled(context["ti"]):',
        "test_a_single_operator_without_a_journal_fails_and_does_not_leave",
        LONG_WAITS,
    ),
    Mutation(
        "a number that has moved pays nothing in the same task",
        "if False:",
        "test_a_number_that_has_moved_pays_nothing_more",
        NUMBERS,
    ),
    Mutation(
        "numbers that are not noted any more pay nothing if one may have moved",
        "if False:",
        "test_a_number_that_may_have_moved_pays_nothing",
        NUMBERS,
    ),
    Mutation(
        "notes that are gone stay gone once something was sent",
        "if known != before:",
        "test_a_number_whose_document_is_gone_pays_nothing",
        NUMBERS,
    ),
    Mutation(
        "what is read counts as well",
        "calls = [writes for writes, _ in wanted]",
        "test_reading_counts_as_well",
        LONG_WAITS,
    ),
    Mutation(
        "reads stop before the limit",
        "while False:",
        "test_reading_counts_as_well",
        LONG_WAITS,
    ),
    Mutation(
        "a list whose reading takes up the time does not leave the worker",
        "return True",
        "test_a_list_that_would_read_too_much_again_waits_on_the_worker",
        LONG_WAITS,
    ),
    Mutation(
        "a list is read before the first write, and not again after a wait, unless its sum is limited",
        "preview = self.preview(items) if items else None",
        "test_a_long_list_leaves_the_worker_for_each_wait_of_a_minute and payments",
        LIST_REQUESTS,
    ),
    Mutation(
        "a run whose beginning is not known is read again",
        'return f"run:{start_date}:cleared:{cleared}"',
        "test_a_run_that_does_not_tell_when_it_began_is_read_again",
        LIST_REQUESTS,
    ),
    Mutation(
        "what the portal has shown in another round is read again",
        "if False:",
        "test_all_else_is_read_again",
        SHOWN,
    ),
    Mutation(
        "what a person has decided about is read again",
        "if False:",
        "test_all_else_is_read_again",
        SHOWN,
    ),
    Mutation(
        "what another attempt works on, and what the journal does not hold itself, is read again",
        "if False:",
        "test_all_else_is_read_again",
        SHOWN,
    ),
    Mutation(
        "what is forgotten is read again",
        "if False:",
        "test_all_else_is_read_again",
        SHOWN,
    ),
    Mutation(
        "what is asked for in another way is read again",
        "if False:",
        "test_all_else_is_read_again",
        SHOWN,
    ),
    Mutation(
        "what is for other money than expected is read again",
        "return receipt",
        "test_what_is_for_other_money_than_is_expected_now_is_read_again",
        SHOWN,
    ),
    Mutation(
        "a portal that loses every reply to a write is not tried for the whole list",
        "lost = False",
        "test_a_portal_that_fails_everything and html",
        LIST_REQUESTS,
    ),
    Mutation(
        "a clock that was far ahead is forgotten",
        "return self",
        "test_a_clock_that_was_far_ahead_blocks_nothing",
        REPLIES,
    ),
]


def _copy(folder: Path) -> None:
    """The package and the tests, with what is compiled, which holds as long as its source is the same."""
    unfinished = shutil.ignore_patterns("*.pyc.*")  # what another process is compiling just now
    shutil.copytree(ROOT / PACKAGE, folder / PACKAGE, ignore=unfinished)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=unfinished)
    shutil.copy(ROOT / "pyproject.toml", folder / "pyproject.toml")


def marked(package: Path) -> dict[str, list[tuple[Path, int]]]:
    """Where each rule is marked: file, and number of the rule's line."""
    found: dict[str, list[tuple[Path, int]]] = {}
    for file in sorted(package.rglob("*.py")):
        for number, line in enumerate(file.read_text().split("\n")):
            before, mark, rule = line.partition("# rule: ")
            if mark:
                found.setdefault(rule, []).append((file, number if before.strip() else number + 1))
    return found


def without_rule(mutation: Mutation, places: list[tuple[Path, int]]) -> str:
    """The text of the module in which the rule is marked, with the rule taken out.

    :raises LookupError: it is not marked exactly once.
    """
    if len(places) != 1:
        raise LookupError(f"the rule is marked {len(places)} times in the package")
    [(file, number)] = places
    lines = file.read_text().split("\n")
    indent = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
    lines[number] = indent + mutation.new
    return "\n".join(lines)


def _take_out(mutation: Mutation, folder: Path) -> None:
    places = marked(folder / PACKAGE).get(mutation.rule, [])
    text = without_rule(mutation, places)
    [(file, _)] = places
    file.write_text(text)


def _red(folder: Path, where: str, selection: str) -> tuple[list[str], str]:
    """Run tests of a copy in this process; the names of those that failed, or what went wrong with running them."""
    import pytest

    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)  # of the processes that tests start
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
        if mutation.new:
            try:
                _take_out(mutation, folder)
            except LookupError as error:
                return False, f"{mutation.rule}: {error}"
        red, trouble = _red(folder, mutation.where, mutation.tests)
    if not mutation.new:
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
        Mutation(f"every rule in its place, {where}", "", "" if where == TESTS else " or ".join(named), where)
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
