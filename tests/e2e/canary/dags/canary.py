"""Every code path under every fault, with secrets that the test looks for afterwards; nobody would write such DAGs.

The names begin with a word that is no secret: where the test does not find that, it would not find a leak either.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import urllib.request
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.sdk import DAG, chain, task

from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.payments import (
    AddCrmPaymentOperator,
    PayCrmPaymentOperator,
    PayInvoiceOperator,
)
from airflow_provider_bitrix24.operators.tokens import RefreshTokenOperator
from airflow_provider_bitrix24.sensors.payments import CrmPaymentPaidSensor, InvoicePaidSensor

CONTROL = "c0ntr0l"
SANDBOX = os.environ.get("CANARY_SANDBOX", "")
ELSEWHERE = "https://new.bitrix24.example/rest/"
log = logging.getLogger(__name__)

SHUT_OUT = {"kind": "error", "code": "INVALID_CREDENTIALS", "text": "?", "status": 401}
FAULTS: list[dict[str, Any]] = [
    {"kind": "drop_before"},
    {"kind": "drop_after"},
    {"kind": "truncate"},
    {"kind": "html", "status": 502},
    {"kind": "html", "status": 200, "when": "after"},
    {"kind": "operation_time_limit"},
    {"kind": "query_limit_exceeded"},
    {"kind": "overload_limit"},
    {"kind": "expired_token"},
    SHUT_OUT,
    {"kind": "error_after_executing", "code": "", "text": "", "status": 400},
    {"kind": "redirect", "location": ELSEWHERE},
    {"kind": "empty_body"},
    {"kind": "invalid_json"},
    {"kind": "internal_server_error"},
    {"kind": "wrong_encoding"},
    {"kind": "deep_json"},
]
FAULTS_WITH_TOKENS = [
    fault for fault in FAULTS if fault["kind"] in ("drop_after", "error", "expired_token", "redirect")
]
TOKEN_FAULTS: list[dict[str, Any]] = [
    {"kind": "drop_before"},
    {"kind": "html", "status": 502},
    {"kind": "redirect", "location": ELSEWHERE},
    {"kind": "error", "code": "invalid_client", "text": "?", "status": 401},
    {"kind": "error", "code": "PAYMENT_REQUIRED", "text": "?", "status": 402},
    {"kind": "lure", "location": ELSEWHERE},
]


def sandbox(verb: str, path: str, body: Any = None) -> None:
    """A word to the sandbox's control plane."""
    request = urllib.request.Request(f"{SANDBOX}/_sandbox/{path}", method=verb, data=json.dumps(body or {}).encode())
    with urllib.request.urlopen(request, timeout=300):
        pass


def trouble(fault: dict[str, Any], context: Any = None) -> None:
    """End all trouble, and begin another one."""
    sandbox("DELETE", "faults")
    sandbox("POST", "faults", fault)


CALLS = {
    "read": lambda hook: hook.get_crm_payment(payment_id=1001),
    "write": lambda hook: hook.update_crm_payment(payment_id=1001, pay_system_id=8),
    "batch": lambda hook: hook.get_crm_payments(payment_ids=[1001, 1002]),
    "test": lambda hook: hook.test_connection(),
    "async": lambda hook: asyncio.run(hook.aupdate_crm_payment(payment_id=1001, pay_system_id=8)),
}


def say_all(hook: Bitrix24Hook, name: str) -> None:
    """Make a call, and log all that can be said about its end."""
    try:
        log.info("%s gave %r", name, CALLS[name](hook))
    except Exception as error:
        log.exception("%s failed: %s %r", name, error, error.args)
    log.debug("%r %s %r", hook, hook, vars(hook))


def try_everything(conn_id: str, *, oauth: bool) -> str:
    """Every call under every fault."""
    for name in ("", "urllib3", "requests", "httpx", "httpcore", "airflow_provider_bitrix24", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    sandbox("DELETE", "faults")
    hook = Bitrix24Hook(conn_id)
    for name in CALLS:
        say_all(hook, name)
    for fault in FAULTS_WITH_TOKENS if oauth else FAULTS:
        for name in CALLS:
            trouble(fault)
            say_all(hook, name)
    for fault in TOKEN_FAULTS if oauth else []:
        for name in ("read", "async"):
            trouble(fault | {"method": "oauth.token"})
            sandbox("POST", "act", {"action": "expire_access_tokens"})
            say_all(Bitrix24Hook(conn_id), name)
    sandbox("DELETE", "faults")
    say_all(hook, "read")
    return f"{CONTROL}: done"


def under(fault: dict[str, Any] | None, kind: Any, task_id: str, **arguments: Any) -> Any:
    """An operator that meets a fault."""
    before = partial(trouble, fault) if fault else lambda context: sandbox("DELETE", "faults")
    return kind(task_id=task_id, pre_execute=before, **arguments)


def operators() -> list[Any]:
    """What a task says when a fault ends it; one connection is enough for that."""
    lost = {"kind": "drop_after", "method": "sale.paysystem.pay.invoice"}
    moved = {"kind": "redirect", "location": ELSEWHERE}
    unknown = {"kind": "html", "status": 502, "method": "crm.item.payment.add"}
    stumbling = {"kind": "html", "occurrence": 2, "times": 2}
    soon = {"deferrable": True, "poke_interval": 0.2, "timeout": 6}
    return [
        under(lost, PayInvoiceOperator, "lost", invoice_id=8, bx_rest_handler="{{ 'sandbox_bank' }}"),
        under(moved, AddCrmPaymentOperator, "moved", entity_id=2),
        under(unknown, AddCrmPaymentOperator, "unknown", entity_id=3),
        under({"kind": "html", "times": 1}, InvoicePaidSensor, "looked", invoice_id=1),
        under(stumbling, CrmPaymentPaidSensor, "stumbled", payment_id=1002, **soon),
    ]


def refreshers() -> list[Any]:
    """The operator that refreshes, when all is well and under every fault of the token endpoint."""
    soon = {"min_lifetime": timedelta(days=1)}  # always
    faults = [fault | {"method": "oauth.token"} for fault in (*TOKEN_FAULTS, {"kind": "drop_after"})]
    # Nobody ever gets the pair that the last one makes.
    return [
        under(None, RefreshTokenOperator, "refreshed", **soon),
        *(under(fault, RefreshTokenOperator, f"refresh_{number}", **soon) for number, fault in enumerate(faults)),
    ]


def with_connection(conn_id: str, *, invoice_id: int) -> None:
    """A DAG that takes one connection everywhere, one task after another, because faults strike whoever comes."""
    oauth = "oauth" in conn_id
    arguments = {"trigger_rule": "all_done", "retries": 0, "bitrix24_conn_id": conn_id}
    later = {"deferrable": True, "poke_interval": 0.5, "timeout": timedelta(minutes=10)}
    with DAG(conn_id, default_args=arguments):
        chain(
            task(task_id="every_fault")(try_everything)(conn_id, oauth=oauth),
            under(None, PayInvoiceOperator, "paid", invoice_id=invoice_id, pay_system_id=31),
            *(() if oauth else operators()),
            under(SHUT_OUT, PayCrmPaymentOperator, "refused", payment_id=1001),
            under(
                SHUT_OUT | {"occurrence": 2, "times": 1000}, CrmPaymentPaidSensor, "shut_out", payment_id=1003, **later
            ),
            under(None, CrmPaymentPaidSensor, "waits", payment_id=1003, **later),
            *(refreshers() if oauth else ()),
        )


with_connection(f"{CONTROL}_webhook", invoice_id=7)
with_connection(f"{CONTROL}_oauth", invoice_id=9)
with_connection(f"{CONTROL}_oauth_sql", invoice_id=10)

with DAG(f"{CONTROL}_journals", default_args={"retries": 0}, max_active_tasks=1):
    for place in ("journal", "journal_away"):
        PayInvoiceOperator(
            task_id=place,
            invoice_id=12,
            pay_system_id=31,
            bitrix24_conn_id=f"{CONTROL}_webhook",
            journal_conn_id=f"{CONTROL}_{place}",
        )
