"""Wait until an object of the portal satisfies a condition: a deal is in a stage, an order is cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, conf

from airflow_provider_bitrix24 import api
from airflow_provider_bitrix24.api.values import plain, shown
from airflow_provider_bitrix24.exceptions import NOT_SENT, Bitrix24ConfigError, Bitrix24NotFound
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook
from airflow_provider_bitrix24.operators.arguments import given
from airflow_provider_bitrix24.sensors.payments import PaidSensor
from airflow_provider_bitrix24.triggers.poll_result import PollResult, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_provider_bitrix24.triggers.payments import WaitTrigger


class Bitrix24RecordSensor(PaidSensor):
    """Wait until an object satisfies a condition, such as a deal that is to be in a stage.

    REST method: any one that reads one object, such as ``crm.deal.get``
    (https://apidocs.bitrix24.com/api-reference/crm/deals/crm-deal-get.html).

    A condition is written like a filter: ``{"STAGE_ID": "WON"}``, ``{"@STAGE_ID": ["WON", "C1:WON"]}``,
    ``{">=OPPORTUNITY": 100}``; all its parts must hold. The fields are those of the result, or of what the result holds
    under its only key (``item`` of ``crm.item.get``).

    An object that does not exist fails the task at once and for good, and so does ``fail_when``; ``soft_fail=True``
    turns that, like a timeout, into *skipped*. A portal that cannot be read is an ordinary error.

    :param method: (templated) REST method that reads one object.
    :param condition: (templated) what is waited for: field with an operator (=, !=, >, >=, <, <=, @, !@) -> value.
    :param parameters: (templated) the method's parameters. Not ``params``, which is Airflow's own argument.
    :param fail_when: (templated) a condition that ends the wait as a failure, such as ``{"STAGE_ID": "LOSE"}``.
    :param bitrix24_conn_id: (templated) Airflow connection.
    :param deferrable: wait in the triggerer; default is Airflow's ``[operators] default_deferrable``. The first look is
        always on the worker.
    :return: the object as JSON, fractions as text.
    """

    template_fields = ("method", "parameters", "condition", "fail_when", "bitrix24_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "parameters": "json",
        "condition": "json",
        "fail_when": "json",
    }
    id_field = "record"

    def __init__(
        self,
        *,
        method: str,
        condition: Mapping[str, Any],
        parameters: Mapping[str, Any] | None = None,
        fail_when: Mapping[str, Any] | None = None,
        bitrix24_conn_id: str = Bitrix24Hook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(bitrix24_conn_id=bitrix24_conn_id, deferrable=deferrable, **kwargs)
        self.method = method
        self.parameters = parameters
        self.condition = condition
        self.fail_when = fail_when
        self.were_given = given(self)

    def read_arguments(self) -> tuple[list[int], bool]:
        """Check all arguments; there are no ids."""
        self._checked()
        return [], False

    def look(self, ids: Sequence[int]) -> PollResult:
        """Read the object and judge it."""
        from airflow_provider_bitrix24.triggers.records import gone, judge_record

        method, parameters, condition, fail_when = self._checked()
        try:
            result = self.hook.call(method, parameters)
        except Bitrix24NotFound as error:
            return gone(method, error)
        return judge_record(method, result, condition, fail_when)

    def trigger(self, ids: Sequence[int], **waiting: Any) -> WaitTrigger:
        """Return the trigger for this object."""
        method, parameters, condition, fail_when = self._checked()
        from airflow_provider_bitrix24.triggers.records import RecordTrigger

        return RecordTrigger(method=method, parameters=parameters, condition=condition, fail_when=fail_when, **waiting)

    def persist_links(self, context: Context, ids: Sequence[int]) -> None:
        """Store no link, because the kind of the object is not known."""

    def execute_complete(self, context: Context, event: Any = None, waited_for: Any = None) -> Any:
        """Turn the trigger's event into the object or an error.

        :param event: what the trigger reported.
        :param waited_for: always None; other sensors look up ids.
        :raises AirflowFailException: the wait cannot end well.
        :raises AirflowSensorTimeout: the time is over.
        :raises Bitrix24NoAnswer: the portal could not be read many times in a row.
        :raises ValueError: the event is not one of this sensor's.
        """
        try:
            result = PollResult(
                reason=Reason(event["reason"]), message=str(event["message"]), items=list(event["items"])
            )
        except (KeyError, TypeError, ValueError):
            result = None
        if result is None or result.reason is Reason.WAITING or (result.reason is Reason.MET) != bool(result.items):
            raise ValueError(f"The trigger's event is not of this version's form: {event!r}. Nothing is decided.")
        self.log.info("%s", result.message)
        return self._conclude(result, many=False)

    def _conclude(self, result: PollResult, many: bool) -> Any:
        if result.reason is Reason.TIMEOUT:
            raise AirflowSensorTimeout(f"Not within {self.timeout:g} s: {result.message}")
        return super()._conclude(result, many)

    def _checked(self) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, Any] | None]:
        """Return the arguments after checking them, as JSON values, because they are passed to the triggerer."""
        from airflow_provider_bitrix24.api.conditions import check_condition
        from airflow_provider_bitrix24.api.methods import effect_of, find

        if not isinstance(self.method, str) or effect_of(self.method.strip()) is not api.io.Effect.READ:
            raise Bitrix24ConfigError(
                f"method must be a REST method that reads, such as crm.deal.get, not {shown(self.method)}.",
                "A sensor calls it again and again.",
                NOT_SENT,
            )
        row = find(self.method.strip())
        if row is not None and row.rows is not None:
            raise Bitrix24ConfigError(
                f"{row.name} reads a list: wait with a method that reads one object, such as crm.deal.get.", NOT_SENT
            )
        if not isinstance(self.parameters, Mapping | None):
            raise Bitrix24ConfigError(f"parameters must be a mapping, not {shown(self.parameters)}.", NOT_SENT)
        fail_when = None if self.fail_when is None else _json(check_condition(self.fail_when, "fail_when"))
        return (
            self.method.strip(),
            _json(self.parameters or {}),
            _json(check_condition(self.condition, "condition")),
            fail_when,
        )


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values to JSON: times to ISO 8601, sets to lists."""
    return {name: _json_value(value) for name, value in values.items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _json_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json_value(inner) for inner in value]
    return value.isoformat() if hasattr(value, "isoformat") else plain(value)
