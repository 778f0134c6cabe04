"""The three operators over real HTTP; the portal's ledger says what happened."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import DAG

from airflow_provider_bitrix24.exceptions import Bitrix24NotSent, Bitrix24RateLimited
from airflow_provider_bitrix24.operators.payments import (
    AddCrmPaymentOperator,
    PayCrmPaymentOperator,
    PayInvoiceOperator,
)

if TYPE_CHECKING:
    from conftest import Task

OPERATORS = {
    "pay_invoice": lambda **kwargs: PayInvoiceOperator(
        task_id="pay", **{"invoice_id": 2, "pay_system_id": 31, **kwargs}
    ),
    "pay_crm_payment": lambda **kwargs: PayCrmPaymentOperator(task_id="pay", **{"payment_id": 1001, **kwargs}),
    "add_crm_payment": lambda **kwargs: AddCrmPaymentOperator(task_id="pay", **{"entity_id": 1, **kwargs}),
}
WRITES = {
    "pay_invoice": "sale.paysystem.pay.invoice",
    "pay_crm_payment": "crm.item.payment.pay",
    "add_crm_payment": "crm.item.payment.add",
}
EACH = pytest.mark.parametrize("operation", list(OPERATORS))
MARKS = pytest.mark.parametrize("operation", ["pay_invoice", "pay_crm_payment"])


def http_requests(portal: Any) -> list[str]:
    return [request["method"] for request in portal.requests if not request["inside_batch"]]


def end_before_anything_is_sent(portal: Any, task: Task, operation: str) -> None:
    """An attempt that leaves its notes, and sends nothing: without notes, Airflow 3.4 does not tell that it ran."""
    portal.fault("operation_time_limit", "*")
    with pytest.raises(Bitrix24RateLimited):
        OPERATORS[operation]().execute(task.context)
    portal.clear_faults()


def write_requests(portal: Any, operation: str) -> list[str]:
    return [request["method"] for request in portal.requests if request["method"] == WRITES[operation]]


@EACH
def test_three_requests_one_entry_and_a_plain_receipt(portal: Any, task: Task, operation: str) -> None:
    receipt = OPERATORS[operation]().execute(task.context)
    assert len(http_requests(portal)) == 3
    (entry,) = [entry for entry in portal.ledger if entry["event"] != "order_created"]
    assert entry["by"] == "rest"
    assert entry["idempotency_key"] == hashlib.sha256(receipt["idempotency_key"].encode()).hexdigest()
    assert receipt["operation"] == operation
    assert receipt["outcome"] == ("created" if operation == "add_crm_payment" else "paid")
    assert json.loads(json.dumps(receipt)) == receipt
    assert portal.secret not in json.dumps(receipt) + json.dumps(task.xcoms)


@EACH
def test_the_link_is_stored_before_anything_is_sent(portal: Any, task: Task, operation: str) -> None:
    seen: list[tuple[str, Any, int]] = []
    task.ti.xcom_push = lambda key, value: seen.append((key, value, len(portal.requests)))
    OPERATORS[operation]().execute(task.context)
    key, path = {
        "pay_invoice": ("_link_InvoiceLink", "/crm/invoice/show/2/"),
        "pay_crm_payment": ("_link_CrmPaymentLink", "/shop/orders/payment/details/1001/"),
        "add_crm_payment": ("_link_DealLink", "/crm/deal/details/1/"),
    }[operation]
    assert (key, portal.url + path, 0) in seen


def test_a_smart_invoice_and_the_new_payment_have_links(portal: Any, task: Task) -> None:
    AddCrmPaymentOperator(task_id="add", entity_id="101", entity_type_id="smart_invoice").execute(task.context)
    assert {key: value for key, value in task.xcoms.items() if key.startswith("_link_")} == {
        "_link_SmartInvoiceLink": f"{portal.url}/crm/type/31/details/101/",
        "_link_CrmPaymentLink": f"{portal.url}/shop/orders/payment/details/1033/",
    }


def test_the_key_of_an_added_payment_is_the_task(portal: Any, task: Task) -> None:
    receipt = OPERATORS["add_crm_payment"]().execute(task.context)
    address = portal.url.removeprefix("http://")
    assert receipt["idempotency_key"] == f"{address}:dag:finance:run:manual__1:task:pay:map_index:-1"


def test_products_are_filled_in(portal: Any, task: Task) -> None:
    receipt = OPERATORS["add_crm_payment"](fill_products=True).execute(task.context)
    assert receipt["amount"] == "1020.00"
    assert Decimal(str(portal.payment(receipt["payment_id"])["sum"])) == 1020


def adopting(operation: str) -> dict[str, str]:
    """The argument that takes a new payment for ours, for the operation that has it."""
    return {"on_unknown": "adopt"} if operation == "add_crm_payment" else {}


# -- arguments


@pytest.mark.parametrize("value", [True, "None", 123.0, "", [2], None, 0, -1, "1.5", Decimal(2), {"id": 2}])
@pytest.mark.parametrize(
    ("operation", "field"),
    [
        ("pay_invoice", "invoice_id"),
        ("pay_invoice", "pay_system_id"),
        ("pay_crm_payment", "payment_id"),
        ("add_crm_payment", "entity_id"),
        ("add_crm_payment", "pay_system_id"),
    ],
)
def test_what_is_no_id_is_refused_by_name(portal: Any, task: Task, operation: str, field: str, value: Any) -> None:
    if value in (None, "None", "") and field == "pay_system_id":
        return  # not given: see test_an_optional_argument_may_be_left_empty
    if value is None and field in ("invoice_id", "payment_id"):
        return  # not given: the constructor refuses that, see test_account_numbers.py
    with pytest.raises(AirflowFailException, match=f"{field} must be a whole positive number"):
        OPERATORS[operation](**{field: value}).execute(task.context)
    assert portal.requests == []


@pytest.mark.parametrize(
    ("operation", "arguments", "words"),
    [
        ("pay_invoice", {"pay_system_id": None}, "exactly one of pay_system_id and bx_rest_handler"),
        ("pay_invoice", {"bx_rest_handler": "x"}, "exactly one of pay_system_id and bx_rest_handler"),
        ("pay_invoice", {"pay_system_id": None, "bx_rest_handler": " "}, "exactly one of"),
        ("pay_invoice", {"pay_system_id": "", "bx_rest_handler": "None"}, "exactly one of"),
        ("pay_invoice", {"pay_system_id": None, "bx_rest_handler": 7}, "bx_rest_handler must be the code"),
        ("pay_invoice", {"expected_amount": "1,500.00"}, "expected_amount must be an amount"),
        ("pay_invoice", {"expected_amount": "None"}, "expected_amount must be an amount"),
        ("pay_invoice", {"expected_amount": True}, "expected_amount must be an amount"),
        ("pay_invoice", {"expected_amount": float("nan")}, "expected_amount must be an amount"),
        ("pay_invoice", {"expected_currency": "Euro"}, "expected_currency must be three letters"),
        ("pay_invoice", {"expected_currency": 978}, "expected_currency must be three letters"),
        ("pay_invoice", {"if_paid": "ignore"}, "if_paid must be one of succeed, skip, fail, not 'ignore'"),
        ("pay_crm_payment", {"if_paid": 0}, "if_paid must be one of"),
        ("pay_crm_payment", {"allow_zero": "False"}, "allow_zero must be True or False"),
        ("add_crm_payment", {"entity_type_id": 1}, "entity_type_id must be 2 or 'deal', 31 or 'smart_invoice'"),
        ("add_crm_payment", {"entity_type_id": "lead"}, "entity_type_id must be 2"),
        ("add_crm_payment", {"fill_products": "yes"}, "fill_products must be True or False"),
        ("add_crm_payment", {"if_unpaid_exists": "x"}, "if_unpaid_exists must be one of add, return, fail"),
        ("add_crm_payment", {"on_unknown": "retry"}, "on_unknown must be one of fail, ask, adopt"),
        ("pay_invoice", {"on_unknown": "adopt"}, "on_unknown must be one of fail, ask, not 'adopt'"),
        ("pay_crm_payment", {"on_unknown": False}, "on_unknown must be one of fail, ask"),
        ("pay_invoice", {"max_amount": "a lot"}, "max_amount must be an amount"),
        ("add_crm_payment", {"max_amount": -1}, "max_amount must be an amount"),
        ("pay_crm_payment", {"ask_timeout": 60}, "ask_timeout must be a timedelta above 0"),
        ("pay_crm_payment", {"ask_timeout": timedelta(0)}, "ask_timeout must be a timedelta above 0"),
        ("pay_invoice", {"allow_backfill": "no"}, "allow_backfill must be True or False"),
        ("pay_invoice", {"journal_conn_id": " "}, "journal_conn_id must be the id of an Airflow connection"),
        ("add_crm_payment", {"journal_conn_id": "None"}, "journal_conn_id must be the id of an Airflow connection"),
        ("add_crm_payment", {"tag": "yes"}, "tag must be True or False"),
        ("add_crm_payment", {"idempotency_key": ""}, "idempotency_key must be a text of 1 to 255 printable"),
        ("add_crm_payment", {"idempotency_key": "None"}, "idempotency_key must be a text"),
        ("add_crm_payment", {"idempotency_key": "a\nb"}, r"invisible character, U\+000A \(a control character\)"),
        ("add_crm_payment", {"idempotency_key": "a\u00adb"}, r"invisible character, U\+00AD \(SOFT HYPHEN\)"),
        ("add_crm_payment", {"idempotency_key": "a\ufe0f"}, r"invisible character, U\+FE0F \(VARIATION SELECTOR-16\)"),
        ("add_crm_payment", {"idempotency_key": "a\u3164b"}, r"invisible character, U\+1160"),
        ("add_crm_payment", {"idempotency_key": "a\u034fb"}, r"invisible character, U\+034F"),
        ("add_crm_payment", {"idempotency_key": 4711}, "idempotency_key must be a text"),
        ("add_crm_payment", {"idempotency_key": "x" * 256}, "idempotency_key must be a text"),
        ("add_crm_payment", {"idempotency_key": True}, "idempotency_key must be a text"),
        ("add_crm_payment", {"idempotency_key": 4.5}, "idempotency_key must be a text"),
    ],
)
def test_other_wrong_arguments_are_refused_by_name(
    portal: Any, task: Task, operation: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(AirflowFailException, match=words) as caught:
        OPERATORS[operation](**arguments).execute(task.context)
    assert "Nothing was sent" in str(caught.value)
    assert portal.requests == []


@pytest.mark.parametrize(
    ("operation", "field", "template"),
    [
        ("pay_invoice", "invoice_id", "{{ ti.xcom_pull('x') }}"),
        ("pay_invoice", "expected_amount", "{{ ti.xcom_pull('x') }}"),
        ("pay_invoice", "expected_currency", "{{ ti.xcom_pull('x') }}"),
        ("pay_crm_payment", "expected_amount", "{{ ti.xcom_pull('x') }}"),
        ("pay_crm_payment", "expected_currency", "{{ ti.xcom_pull('x') }}"),
        ("add_crm_payment", "if_unpaid_exists", "{{ ti.xcom_pull('x') }}"),
        ("add_crm_payment", "idempotency_key", "{{ ti.xcom_pull('x') }}"),
        ("add_crm_payment", "journal_conn_id", "{{ ti.xcom_pull('x') }}"),
        ("pay_invoice", "max_amount", "{{ ti.xcom_pull('x') }}"),
        ("add_crm_payment", "entity_type_id", "{{ ti.xcom_pull('x') }}"),
    ],
)
def test_what_rendered_to_none_is_refused_by_name(
    portal: Any, task: Task, operation: str, field: str, template: str
) -> None:
    operator = OPERATORS[operation](**{field: template})
    setattr(operator, field, None)  # what native rendering makes of it
    with pytest.raises(AirflowFailException, match=f"{field} was given, but rendered to None. Nothing was sent"):
        operator.execute(task.context)
    assert portal.requests == []


EMPTY = pytest.mark.parametrize("empty", [None, "None", "", " "])
"""What templates and form fields make of nothing."""


@EMPTY
@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("pay_invoice", ("bx_rest_handler",)),
        ("pay_invoice", ("bx_rest_handler", "if_paid", "on_unknown")),
        ("pay_crm_payment", ("if_paid", "on_unknown")),
        ("add_crm_payment", ("pay_system_id", "on_unknown")),
    ],
)
def test_an_optional_argument_may_be_left_empty(
    portal: Any, task: Task, operation: str, fields: tuple[str, ...], empty: Any
) -> None:
    operator = OPERATORS[operation](**dict.fromkeys(fields, "{{ params.x }}"))
    for field in fields:
        setattr(operator, field, empty)
    receipt = operator.execute(task.context)
    assert receipt["outcome"] == ("created" if operation == "add_crm_payment" else "paid")
    assert len(write_requests(portal, operation)) == 1


@EMPTY
@pytest.mark.parametrize(
    ("operation", "field"),
    [
        ("pay_invoice", "invoice_id"),
        ("pay_invoice", "expected_amount"),
        ("pay_invoice", "expected_currency"),
        ("pay_invoice", "max_amount"),
        ("pay_invoice", "journal_conn_id"),
        ("pay_crm_payment", "payment_id"),
        ("add_crm_payment", "entity_id"),
        ("add_crm_payment", "entity_type_id"),
        ("add_crm_payment", "idempotency_key"),
        ("add_crm_payment", "if_unpaid_exists"),
        ("pay_crm_payment", "bitrix24_conn_id"),
    ],
)
def test_an_id_or_a_guard_may_not_be_left_empty(
    portal: Any, task: Task, operation: str, field: str, empty: Any
) -> None:
    operator = OPERATORS[operation](**{field: "{{ params.x }}"})
    setattr(operator, field, empty)
    words = rf"{field} (was given, but rendered to None|must be .*(\(a template.* gave None\)|\(an empty text\)))"
    with pytest.raises(AirflowFailException, match=words) as caught:
        operator.execute(task.context)
    assert "Nothing was sent" in str(caught.value)
    assert portal.requests == []


class Text(str):
    """A text of another class, such as numpy's or Markup."""

    def __repr__(self) -> str:
        return f"np.str_({str(self)!r})"


class Float(float):
    """A float of another class, such as numpy's."""

    def __repr__(self) -> str:
        return f"np.float64({float(self)!r})"

    __str__ = __repr__


class Cents(Decimal):
    """A `Decimal` of another class."""

    def __repr__(self) -> str:
        return f"Cents('{self}')"


class Whole:
    """A whole number of another class, such as numpy's, which is no `int`."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __int__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"np.int64({self.value})"

    numerator = property(__int__)
    denominator = 1


Integral.register(Whole)


class Single:
    """A number of fewer digits, such as numpy's float32, which is no `float`."""

    def __repr__(self) -> str:
        return "np.float32(1500.1)"


Real.register(Single)


@pytest.mark.parametrize(
    "amount",
    [Float(1500.0), Text("1500.00"), Cents("1500.00"), Whole(1500), Fraction(3000, 2), 1500.0, Text(" 1500 ")],
)
def test_an_exact_number_of_another_class_is_its_value(portal: Any, task: Task, amount: Any) -> None:
    operator = OPERATORS["pay_invoice"](
        invoice_id=Whole(2), pay_system_id=Text("31"), expected_amount=amount, max_amount=amount
    )
    assert operator.execute(task.context)["amount"] == "1500.00"


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (Fraction(1, 3), r"not Fraction\(1, 3\)"),
        (Single(), "a Single may have lost digits, so give a text"),
        (Float("nan"), "expected_amount must be an amount"),
        (Float("inf"), "expected_amount must be an amount"),
        (Cents("-1"), r"not Cents\('-1'\)"),
        ("1.999,99", "write it with a decimal point and without thousands separators, such as '1999.99'"),
        ("1,999.99", "write it with a decimal point"),
        ("1 999.99", "write it with a decimal point"),
        ("1\u00a0999,99", "write it with a decimal point"),
        ("1'999.99", "write it with a decimal point"),
        ("310,00", "write it with a decimal point"),
    ],
)
def test_what_is_no_exact_amount_is_refused_in_words(portal: Any, task: Task, amount: Any, words: str) -> None:
    with pytest.raises(AirflowFailException, match=words) as caught:
        OPERATORS["pay_invoice"](expected_amount=amount).execute(task.context)
    assert "Nothing was sent" in str(caught.value)
    assert portal.requests == []


@pytest.mark.parametrize("amount", [1500.0, "1500", 1500, Decimal("1500.00"), " 1500.00 "])
def test_the_expected_amount_in_all_the_forms_a_person_means(portal: Any, task: Task, amount: Any) -> None:
    operator = OPERATORS["pay_invoice"](expected_amount=amount, expected_currency="eur")
    assert operator.execute(task.context)["outcome"] == "paid"


def test_constructors_only_assign() -> None:
    for make in OPERATORS.values():
        operator = make(bitrix24_conn_id="there_is_none")
        for field in operator.template_fields:
            assert hasattr(operator, field)
        assert operator.multiple_outputs is True


# -- errors


@MARKS
@pytest.mark.parametrize(
    ("if_paid", "outcome"), [("succeed", None), ("skip", AirflowSkipException), ("fail", AirflowFailException)]
)
def test_what_is_paid_already(portal: Any, task: Task, operation: str, if_paid: str, outcome: Any) -> None:
    paid = {"pay_invoice": {"invoice_id": 1}, "pay_crm_payment": {"payment_id": 1002}}[operation]
    operator = OPERATORS[operation](**paid, if_paid=if_paid)
    if outcome is None:
        assert operator.execute(task.context)["outcome"] == "already_paid"
    else:
        with pytest.raises(outcome, match=r"(invoice_id 1|payment_id 1002) for .* is paid already, since 20"):
            operator.execute(task.context)
    assert portal.ledger == []


@MARKS
@pytest.mark.parametrize("if_paid", ["skip", "fail"])
def test_without_a_journal_an_earlier_attempt_may_have_marked_it(
    portal: Any, forgetful_task: Task, operation: str, if_paid: str, capfd: pytest.CaptureFixture[str]
) -> None:
    task = forgetful_task
    OPERATORS[operation]().execute(task.context)  # the worker dies here
    task.again()
    receipt = OPERATORS[operation](if_paid=if_paid).execute(task.context)
    assert receipt["outcome"] == "already_paid"
    assert "may be that of an earlier one" in capfd.readouterr().out
    assert len([entry for entry in portal.ledger if entry["event"].endswith("_paid")]) == 1


@MARKS
@pytest.mark.parametrize(
    ("if_paid", "outcome"), [("skip", AirflowSkipException), ("fail", AirflowFailException), ("succeed", None)]
)
@pytest.mark.parametrize(("by_us", "try_number"), [(True, 1), (False, 2)])
def test_if_paid_applies_to_what_no_earlier_attempt_can_have_marked(
    portal: Any, task: Task, operation: str, if_paid: str, outcome: Any, by_us: bool, try_number: int
) -> None:
    user_id = 1 if by_us else 7
    if operation == "pay_invoice":
        portal.act.pay_invoice(2, by="person", user_id=user_id)
    else:
        portal.act.pay_payment(1001, by="person", user_id=user_id)
    task.ti.try_number = try_number
    operator = OPERATORS[operation](if_paid=if_paid)
    if outcome is None:
        assert operator.execute(task.context)["outcome"] == "already_paid"
    else:
        with pytest.raises(outcome, match="is paid already"):
            operator.execute(task.context)


@MARKS
def test_another_persons_mark_after_ours_was_sent_is_no_reason_to_skip(portal: Any, task: Task, operation: str) -> None:
    hold = portal.fault("commit_later", WRITES[operation], times=1)
    if operation == "pay_invoice":
        read = portal.fault("hold", "crm.invoice.get", occurrence=2, when="before")
    else:
        read = portal.fault("hold", "crm.item.payment.get", occurrence=2, when="before")
    import threading
    import time

    def is_held() -> bool:
        return any(script["id"] == read and script["holding"] for script in portal.portal.faults.describe())

    def person() -> None:
        while not is_held():  # the mark has been sent, and is looked for
            time.sleep(0.01)
        if operation == "pay_invoice":
            portal.act.pay_invoice(2, by="person", user_id=7)
        else:
            portal.act.pay_payment(1001, by="customer")
        portal.release(read)

    meanwhile = threading.Thread(target=person, daemon=True)
    meanwhile.start()
    receipt = OPERATORS[operation](if_paid="skip").execute(task.context)
    meanwhile.join()
    portal.release(hold)
    assert receipt["outcome"] == "already_paid"


@EACH
def test_a_request_that_got_lost_is_sent_once_more(portal: Any, task: Task, operation: str) -> None:
    portal.fault("drop_before", WRITES[operation], times=1)
    receipt = OPERATORS[operation]().execute(task.context)
    assert (receipt["outcome"], receipt["recovered"]) == (
        "created" if operation == "add_crm_payment" else "paid",
        False,
    )
    assert len(write_requests(portal, operation)) == 2
    assert len([entry for entry in portal.ledger if entry["event"].endswith(("_paid", "_added"))]) == 1


@EACH
@pytest.mark.parametrize("fault", ["drop_after", "truncate", "html", "empty_body", "hold"])
def test_a_lost_answer_is_resolved_in_the_same_attempt(portal: Any, task: Task, operation: str, fault: str) -> None:
    portal.fault(fault, WRITES[operation], times=1, **({"when": "after"} if fault in ("html", "hold") else {}))
    receipt = OPERATORS[operation](**adopting(operation)).execute(task.context)
    assert receipt["evidence"] == ("only_new_payment" if operation == "add_crm_payment" else "portal_state")
    assert len(write_requests(portal, operation)) == 1
    assert len([entry for entry in portal.ledger if entry["event"].endswith(("_paid", "_added"))]) == 1


@EACH
def test_a_portal_that_is_away_is_a_passing_error(task: Task, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {
        "conn_type": "bitrix24",
        "host": "127.0.0.1",
        "schema": "http",
        "port": 9,
        "login": "1",
        "password": "canarycanary",
        "extra": {"allow_http": True, "connect_timeout": 0.2},
    }
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", json.dumps(connection))
    with pytest.raises(Bitrix24NotSent, match="Cannot connect to") as caught:
        OPERATORS[operation]().execute(task.context)
    assert "canarycanary" not in str(caught.value)


def test_a_link_that_cannot_be_stored_afterwards_does_not_hide_the_payment(
    portal: Any, task: Task, capfd: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []

    def push(key: str, value: str) -> None:
        order.append(capfd.readouterr().out)
        if key == "_link_CrmPaymentLink":
            raise RuntimeError("the API server is away")

    task.ti.xcom_push = push
    receipt = OPERATORS["add_crm_payment"]().execute(task.context)
    assert receipt["payment_id"] == 1033
    # The receipt was in the log before the link was tried.
    assert "'payment_id': 1033" in order[-1]
    assert "The link to payment 1033 could not be stored" in capfd.readouterr().out


@EACH
def test_a_link_that_cannot_be_stored_before_stops_the_task(portal: Any, task: Task, operation: str) -> None:
    def push(key: str, value: str) -> None:
        raise RuntimeError("the API server is away")

    task.ti.xcom_push = push
    with pytest.raises(RuntimeError, match="away"):
        OPERATORS[operation]().execute(task.context)
    assert portal.requests == []


def test_without_a_journal_a_second_attempt_that_cannot_tell_adds_nothing(portal: Any, forgetful_task: Task) -> None:
    forgetful_task.again()
    with pytest.raises(AirflowFailException, match=r"attempt 2, and there is no journal.*deal 1") as caught:
        OPERATORS["add_crm_payment"]().execute(forgetful_task.context)
    assert "Nothing was sent by this attempt" in str(caught.value)
    assert write_requests(portal, "add_crm_payment") == []
    assert forgetful_task.xcoms == {"_link_DealLink": f"{portal.url}/crm/deal/details/1/"}


@MARKS
def test_a_second_attempt_marks(portal: Any, task: Task, operation: str) -> None:
    end_before_anything_is_sent(portal, task, operation)
    task.again()
    assert OPERATORS[operation]().execute(task.context)["outcome"] == "paid"
    assert len(write_requests(portal, operation)) == 1


@EACH
def test_a_connection_that_is_wrong_is_told_without_its_secret(
    task: Task, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BITRIX24_DEFAULT", '{"conn_type": "bitrix24", "host": "", "password": "canary12"}')
    with pytest.raises(AirflowFailException, match="'bitrix24_default' cannot be used: host is empty") as caught:
        OPERATORS[operation]().execute(task.context)
    assert "canary12" not in str(caught.value)


@pytest.mark.parametrize("guard", ["expected_amount", "max_amount"])
def test_a_guard_that_is_mapped_to_none_does_not_switch_itself_off(portal: Any, task: Task, guard: str) -> None:
    with DAG("mapped"):
        before = AddCrmPaymentOperator(task_id="before", entity_id=1)
        mapped = PayInvoiceOperator.partial(task_id="pay", invoice_id=2, pay_system_id=31).expand(
            **{guard: before.output}
        )
    with pytest.raises(AirflowFailException, match=f"{guard} was given, but rendered to None"):
        mapped.unmap({guard: None}).execute(task.context)
    assert portal.ledger == []
