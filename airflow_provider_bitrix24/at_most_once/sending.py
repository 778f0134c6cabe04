"""Writes on their way to the portal: one as a plain call, many as one batch, each with the digest of its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_bitrix24.api.batch import MOST_COMMANDS
from airflow_provider_bitrix24.api.client import keyed
from airflow_provider_bitrix24.api.io import Effect, SendDeadline
from airflow_provider_bitrix24.api.tags import commands_of_tagging
from airflow_provider_bitrix24.exceptions import Bitrix24Error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_bitrix24.api.batch import BatchReply
    from airflow_provider_bitrix24.api.client import ApiClient
    from airflow_provider_bitrix24.api.io import Flow
    from airflow_provider_bitrix24.at_most_once.course import SendCall


def send_one(client: ApiClient, send: SendCall) -> Flow[Any]:
    """Send one write: a plain call, or, with a tag, a batch of three linked commands.

    :return: the result, as the call reads it.
    :raises Bitrix24OutcomeUnknown: it may have been executed.
    :raises Bitrix24Error: it was not executed.
    """
    call, headers = send.call, keyed(send.digest)
    if send.tag is None:
        reply = yield from client.call(
            call.row.name, call.params, effect=call.row.effect, deadline=send.deadline, headers=headers
        )
        return call.read(reply.result)
    commands = {"add": (call.row.name, call.params), **commands_of_tagging(send.tag)}
    replies = yield from client.batch(
        commands, halt=True, effect=Effect.NON_IDEMPOTENT, deadline=send.deadline, headers=headers
    )
    return call.read(replies.value("add"))


def most_sends(*, with_tag: bool) -> int:
    """How many writes fit into one batch; with a tag, each is three commands."""
    return MOST_COMMANDS // 3 if with_tag else MOST_COMMANDS


def send_many(client: ApiClient, sends: Mapping[str, SendCall]) -> Flow[dict[str, Any]]:
    """Send many writes in one batch; the name of each command is the digest of its key.

    :param sends: by key; with a tag all of them, or none.
    :return: by key, the result as the call reads it, or the error of this one write.
    """
    commands: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for send in sends.values():
        commands[send.digest] = (send.call.row.name, send.call.params)
        if send.tag is not None:
            get, name = f"{send.digest[:60]}_get", f"{send.digest[:60]}_tag"
            commands |= commands_of_tagging(send.tag, add=send.digest, get=get, name=name)
    effects = {send.call.row.effect for send in sends.values()}
    effect = Effect.NON_IDEMPOTENT if Effect.NON_IDEMPOTENT in effects else Effect.IDEMPOTENT
    deadlines = [send.deadline for send in sends.values()]
    deadline = SendDeadline(monotonic=min(one.monotonic for one in deadlines), wall=min(one.wall for one in deadlines))
    # What refers to the result of a command that failed would get all results: so the portal stops there.
    halt = any(send.tag is not None for send in sends.values())  # rule: what refers to another command halts
    try:
        reply = yield from client.batch(commands, halt=halt, effect=effect, deadline=deadline)
    except Bitrix24Error as error:
        return dict.fromkeys(sends, error)
    return {key: _result(send, reply) for key, send in sends.items()}


def _result(send: SendCall, reply: BatchReply) -> Any:
    """What the batch says about one write; its error as a value."""
    try:
        return send.call.read(reply.value(send.digest))
    except Exception as error:  # noqa: BLE001 - what nobody expected is the trouble of this write, not of the others
        return error
