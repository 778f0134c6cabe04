"""Operators that call one REST method: any method, and the link with which a payment can be paid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import parse_qs, urlsplit

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_bitrix24 import api
from airflow_provider_bitrix24.api.values import plain, shown
from airflow_provider_bitrix24.exceptions import (
    NOT_SENT,
    Bitrix24ConfigError,
    Bitrix24Error,
    Bitrix24NoAnswer,
    Bitrix24OutcomeUnknown,
    PaymentRefused,
)
from airflow_provider_bitrix24.failures import fail_if_final
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.links.bitrix24 import CrmPaymentLink
from airflow_provider_bitrix24.operators import safeguards
from airflow_provider_bitrix24.operators.arguments import given, one_of, refuse_lost, switch
from airflow_provider_bitrix24.operators.journals import is_first
from airflow_provider_bitrix24.operators.numbers import read_id, refuse_unless_one
from airflow_provider_bitrix24.operators.rendering import LiteralText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import BaseOperatorLink, Context

    from airflow_provider_bitrix24.api.io import Effect

EFFECTS: Final = ("read", "idempotent", "non_idempotent")
"""From the most harmless to the most dangerous."""


class Bitrix24CallOperator(BaseOperator):
    """Call any REST method of Bitrix24, and return its result.

    https://apidocs.bitrix24.com/

    A read is repeated when its reply is lost. A write is sent once. If it certainly was not executed, Airflow's
    ``retries`` apply; if that is not known, the task fails without a retry. A call that creates something is not sent
    again by a later attempt either, even if the first one's worker has died; clearing the task sends it again.

    Methods that change payments are refused unless ``unguarded=True``: nothing keeps this operator from changing a
    payment twice, and it does not read back. The operators for payments do both.

    :param method: (templated) name of the method, such as ``crm.deal.update``.
    :param parameters: (templated) parameters of the method. Not ``params``, which is Airflow's own argument.
    :param effect: (templated) what executing it does: ``"read"``, ``"idempotent"`` (repeating it leaves the same state)
        or ``"non_idempotent"`` (repeating it creates another one). By default what the registry says; required for
        methods that are not in it.
    :param all_rows: read all pages of a list method; without it, the result is the first page.
    :param result_path: (templated) where to write the result instead of returning it: a path of Airflow's object
        storage, such as ``s3://bucket/deals.json``. JSON; with ``all_rows``, a line for each row.
    :param unguarded: allow a method that changes payments. The kill switch still stops it.
    :param check_names: refuse names of filters and fields that the method does not know.
    :param bitrix24_conn_id: (templated) Airflow connection.
    :return: the result as JSON, fractions as text; with ``result_path`` that path.
    """

    template_fields = ("method", "parameters", "effect", "result_path", "bitrix24_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"parameters": "json"}

    def __init__(
        self,
        *,
        method: str,
        parameters: Mapping[str, Any] | None = None,
        effect: str | None = None,
        all_rows: bool = False,
        result_path: str | None = None,
        unguarded: bool = False,
        check_names: bool = True,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.method = method
        self.parameters = parameters
        self.effect = effect
        self.all_rows = all_rows
        self.result_path = result_path
        self.unguarded = unguarded
        self.check_names = check_names
        self.bitrix24_conn_id = bitrix24_conn_id
        self.were_given = given(self)

    @cached_property
    def hook(self) -> Bitrix24Hook:
        """The connection to the portal."""
        return Bitrix24Hook(self.bitrix24_conn_id)

    def execute(self, context: Context) -> Any:
        """Call the method.

        :raises AirflowFailException: an error that no retry can fix, among them a write whose outcome is unknown.
        :raises Bitrix24Error: an error that is worth a retry: nothing was executed, or the call only reads.
        """
        return fail_if_final(lambda: self._call(context))

    def _call(self, context: Context) -> Any:
        """Call the method; an error says whether something was changed, as far as this attempt knows."""
        effect: Effect | None = None
        try:
            refuse_lost(self, self.were_given)
            method, parameters, effect = self._checked()
            return self._result(context, method, parameters, effect)
        except Bitrix24OutcomeUnknown:
            raise
        except Bitrix24Error as error:
            # Certainly not executed. What an earlier attempt has sent is known only of methods that read.
            if effect is api.io.Effect.READ or is_first(context["ti"]):
                error.sent = "no"
            raise

    def _result(self, context: Context, method: str, parameters: Mapping[str, Any], effect: Effect) -> Any:
        self.log.info(
            "Calling %s (%s) on %s, by the connection %r; parameters: %s.",
            method,
            effect.value,
            self.hook.settings.origin,
            self.bitrix24_conn_id,
            _names_of(parameters),
        )
        if self.all_rows:
            rows = self.hook.iterate(method, parameters, raw=True, check_names=self.check_names)
            if self.result_path is not None:
                return self._write(json.dumps(plain(row), ensure_ascii=False) for row in rows)
            found = [plain(row) for row in rows]
            self.log.info("%s returned %s.", method, _in_words(found))
            return found
        if effect is api.io.Effect.NON_IDEMPOTENT:
            from airflow_provider_bitrix24.operators.send_once import send_once

            retries = self.retries or 0
            result = send_once(context, method, lambda: self._send(method, parameters, effect), retries=retries)
        else:
            result = self._send(method, parameters, effect)
        self.log.info("%s returned %s.", method, _in_words(result))
        if self.result_path is not None:
            return self._write([json.dumps(plain(result), ensure_ascii=False)])
        return plain(result)

    def _send(self, method: str, parameters: Mapping[str, Any], effect: Effect) -> Any:
        reply = self.hook.call_raw(method, parameters, effect=effect, check_names=self.check_names)
        if reply.next is not None:
            self.log.warning("%s has more rows (%s in all): all_rows=True reads them.", method, reply.total)
        return reply.result

    def _checked(self) -> tuple[str, Mapping[str, Any], Effect]:
        """Return the arguments after checking them.

        :raises Bitrix24ConfigError: they cannot be.
        :raises PaymentRefused: the method changes payments.
        """
        for field in ("all_rows", "unguarded", "check_names"):
            switch(getattr(self, field), field)
        if not isinstance(self.method, str) or not self.method.strip():
            raise Bitrix24ConfigError(f"method must be the name of a method, not {shown(self.method)}.", NOT_SENT)
        method, parameters = self.method.strip(), {} if self.parameters is None else self.parameters
        if not isinstance(parameters, Mapping):
            raise Bitrix24ConfigError(f"parameters must be a mapping, not {shown(parameters)}.", NOT_SENT)
        effect = self._known_effect(method)
        if self.all_rows and effect is not api.io.Effect.READ:
            raise Bitrix24ConfigError(f"all_rows is for methods that read, and {method} does not.", NOT_SENT)
        self._refuse_unguarded(method)
        return method, parameters, effect

    def _known_effect(self, method: str) -> Effect:
        wanted = None if self.effect is None else api.io.Effect(one_of(self.effect, "effect", EFFECTS))
        row = api.methods.find(method)
        if row is None and wanted is None:
            close = api.methods.similar(method)
            raise Bitrix24ConfigError(
                f"{method} is not among the methods that this provider knows"
                + (f" (did you mean {close}?)" if close else "")
                + ". Say what executing it does: effect='read', 'idempotent' (repeating it leaves the same state) or "
                "'non_idempotent' (repeating it makes another one).",
                NOT_SENT,
            )
        if row is not None and wanted is not None and EFFECTS.index(wanted.value) < EFFECTS.index(row.effect.value):
            raise Bitrix24ConfigError(
                f"effect={wanted.value!r} is less than what {row.name} does ({row.effect.value!r}).", NOT_SENT
            )
        return wanted or api.methods.effect_of(method)

    def _refuse_unguarded(self, method: str) -> None:
        batch = method.lower().partition(".")[0] == "batch"  # a portal reads batch.json as batch
        if not batch and not api.methods.moves_money(method):
            return
        if not self.unguarded:  # rule: a call by name: methods that change payments are refused
            row = api.methods.find(method)
            instead = (
                f"Use {row.operator}, which does it once for its key" if row and row.operator else "It can happen twice"
            )
            what = (
                "can contain calls that change payments" if batch else "changes payments, and nothing guards this call"
            )
            raise PaymentRefused(
                f"{method} {what}. {instead}, or set unguarded=True if you can rely on something else.", NOT_SENT
            )
        safeguards.refuse_if_stopped(self.bitrix24_conn_id)

    def _write(self, lines: Any) -> str:
        from airflow.sdk import ObjectStoragePath

        path = ObjectStoragePath(str(self.result_path))
        path.parent.mkdir(parents=True, exist_ok=True)
        count = 0
        with path.open("w") as file:  # type: ignore[no-untyped-call]  # Airflow's class
            for line in lines:
                file.write(f"{line}\n")
                count += 1
        self.log.info("Wrote %s line%s to %s.", count, "" if count == 1 else "s", self.result_path)
        return str(self.result_path)


def _names_of(parameters: Mapping[str, Any]) -> str:
    """The parameters by name, with the values of whole numbers only: others may be personal data or secrets."""
    named = [f"{name}={value}" if type(value) is int else str(name) for name, value in parameters.items()]
    return ", ".join(named) or "none"


def _in_words(result: Any) -> str:
    """What a result is, without what it says: that may be personal data or a secret."""
    if isinstance(result, list):
        return f"{len(result)} row{'' if len(result) == 1 else 's'}"
    if isinstance(result, Mapping):
        return f"an object with {', '.join(map(str, list(result)[:20]))}{', ...' if len(result) > 20 else ''}"
    return shown(result) if isinstance(result, bool | int | None) else f"a {type(result).__name__}"


class GetPaymentLinkOperator(LiteralText, BaseOperator):
    """Get the link with which a customer pays a payment of a deal or smart invoice.

    REST method ``salescenter.payment.getPublicUrl``, scope ``salescenter``
    (https://apidocs.bitrix24.com/api-reference/crm/universal/payment/salescenter-payment-get-public-url.html).

    Everybody who has the link can see the order: treat it as a secret. The logs of this task show ``***`` instead of
    it; the XCom that the task returns holds it.

    :param payment_id: (templated) id of the payment.
    :param account_number: (templated) instead of the id: the payment's number that customers see, such as "161/1", as
        text. It is looked up by one read (``sale.payment.list``: the scope ``sale`` and an administrator).
    :param bitrix24_conn_id: (templated) Airflow connection.
    :param multiple_outputs: push every field of the result as its own XCom as well.
    :return: ``payment_id``, ``url``, ``short_url``.
    """

    template_fields = ("payment_id", "account_number", "bitrix24_conn_id")
    operator_extra_links: Sequence[BaseOperatorLink] = (CrmPaymentLink(),)

    def __init__(
        self,
        *,
        payment_id: int | str | None = None,
        account_number: str | None = None,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.payment_id = payment_id
        self.account_number = account_number
        self.bitrix24_conn_id = bitrix24_conn_id
        self.were_given = given(self)
        refuse_unless_one(self, "payment_id")

    def execute(self, context: Context) -> dict[str, Any]:
        """Get the link.

        :raises AirflowFailException: there is no such payment, or the portal has no page for payments.
        :raises Bitrix24Error: an error that is worth a retry.
        """
        return fail_if_final(lambda: self._get(context), changes_nothing=True)

    def _get(self, context: Context) -> dict[str, Any]:
        refuse_lost(self, self.were_given)
        hook = Bitrix24Hook(self.bitrix24_conn_id)
        payment_id = read_id(self, "payment_id", lambda numbers: hook.find_crm_payments(account_numbers=numbers))
        CrmPaymentLink().persist(context, origin=hook.settings.origin, object_id=payment_id)
        method = "salescenter.payment.getPublicUrl"
        result = hook.call(method, {"id": payment_id}, effect=api.io.Effect.READ)  # repeating it gives the same link
        if not isinstance(result, Mapping):
            raise Bitrix24NoAnswer(method, "the result is not an object")
        if "payment" not in result:
            raise Bitrix24ConfigError(
                f"The portal has no link for payment {payment_id}: its site for payments is not set up, or its phone "
                "number is not confirmed (Bitrix24, CRM, Sales Center).",
                "Nothing was changed.",
            )
        link = result["payment"] if isinstance(result["payment"], Mapping) else {}
        url, short_url = link.get("url"), link.get("shortUrl")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise Bitrix24NoAnswer(method, "the result holds no address")
        belongs_to = parse_qs(urlsplit(url).query).get("paymentId", [str(payment_id)])
        if belongs_to != [str(payment_id)]:
            raise Bitrix24NoAnswer(method, f"the link is that of payment {belongs_to[0]:.20}, not {payment_id}")
        from airflow_provider_bitrix24.hooks import masking

        masking.mask(tuple(secret for secret in (url, short_url) if isinstance(secret, str) and secret))
        return {"payment_id": payment_id, "url": url, "short_url": short_url if isinstance(short_url, str) else None}
