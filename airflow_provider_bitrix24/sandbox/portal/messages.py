"""``im.notify.system.add``, ``im.message.add``, ``crm.timeline.comment.add``: what tells people about payments."""

from __future__ import annotations

import re
from typing import Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.filters import as_list
from airflow_provider_bitrix24.sandbox.portal.model import DEAL, LEAD, SMART_INVOICE
from airflow_provider_bitrix24.sandbox.portal.registry import Call, rest
from airflow_provider_bitrix24.sandbox.portal.side_tables import Message

_LONGEST_ATTACHMENT = 60_000
#: Type in the timeline -> table, and the first word of the rights.
_OWNERS: dict[str, tuple[str, str, int | None]] = {
    "deal": ("deals", "deal", DEAL),
    "lead": ("leads", "lead", LEAD),
    "dynamic_31": ("smart_invoices", "smart_invoice", SMART_INVOICE),
    "smart_invoice": ("smart_invoices", "smart_invoice", SMART_INVOICE),
    "company": ("companies", "company", None),
    "contact": ("contacts", "contact", None),
    "order": ("orders", "order", None),
}


def _store(call: Call, kind: str, target: str, text: str, **more: Any) -> int:
    number = call.state.new_id("messages")
    call.state.messages[number] = Message(number, kind, target, call.user.id, text, call.now, **more)
    return number


def _text_or_attachment(call: Call) -> str:
    text, attachment = php.to_text(call.legacy("MESSAGE")).strip(), call.legacy("ATTACH")
    if not text and not php.truthy(attachment):
        raise RestError("MESSAGE_EMPTY", "Message can't be empty")
    if len(str(attachment or "")) > _LONGEST_ATTACHMENT:
        raise RestError("ATTACH_OVERSIZE", "You have exceeded the maximum allowable size of attach")
    return text


@rest("im.notify.system.add", scope="im", writes=True)
def notify_system_add(call: Call) -> object:
    """Notify a user; an earlier notification with the same tag disappears."""
    user_id = php.to_int(call.legacy("USER_ID"))
    if user_id <= 0:
        raise RestError("USER_ID_EMPTY", "User ID can't be empty")
    text = php.to_text(call.legacy("MESSAGE")).strip()
    if not text:
        raise RestError("MESSAGE_EMPTY", "Message can't be empty")
    _text_or_attachment(call)
    if user_id not in call.state.users:
        return False
    tag = php.to_text(call.legacy("TAG"))
    target = f"user {user_id}"
    if tag:
        same = [m.id for m in call.state.messages.having("tag", tag) if m.kind == "notification"]
        for number in same:
            del call.state.messages[number]
    number = _store(call, "notification", target, text, tag=tag)
    call.record("notification_added", message_id=number, target=target)
    return number


def _dialog(call: Call) -> str:
    """Where a message goes: ``5`` is a user, ``chat5`` a chat, ``sg5`` the chat of a group."""
    dialog = php.to_text(call.legacy("DIALOG_ID"))
    match = re.fullmatch(r"(chat|sg)?(\d+)", dialog)
    if match is None or int(match.group(2)) <= 0:
        raise RestError("USER_ID_EMPTY", "User ID can't be empty")
    number = int(match.group(2))
    if match.group(1) is None:
        if number not in call.state.users:
            raise RestError("USER_NOT_FOUND", "User not found")
        return f"user {number}"
    if match.group(1) == "sg" or number not in call.state.chats:
        raise RestError("CHAT_ID", "Error creating message")
    return f"chat {number}"


@rest("im.message.add", scope="im", writes=True)
def message_add(call: Call) -> object:
    """Send a message to a user or a chat."""
    target = _dialog(call)
    text = _text_or_attachment(call)
    reply_to = call.legacy("REPLY_ID")
    if php.truthy(reply_to):
        answered = call.state.messages.get(php.to_int(reply_to))
        if answered is None:
            raise RestError("REPLY_ACCESS_ERROR", "Action unavailable")
        if answered.target != target:
            raise RestError("REPLY_FROM_OTHER_CHAT_ERROR", "You can only reply to a message within the same chat")
    number = _store(call, "message", target, text)
    call.record("message_added", message_id=number, target=target)
    return number


@rest("crm.timeline.comment.add", scope="crm", writes=True)
def comment_add(call: Call, fields: dict[str, Any]) -> object:
    """Comment on an object; only ``fields`` in small letters is read."""
    missing = [name for name in ("ENTITY_ID", "ENTITY_TYPE") if not php.truthy(fields.get(name))]
    if missing:
        raise RestError(100, f"Required fields: {', '.join(missing)}")
    comment = php.to_text(fields.get("COMMENT")).strip()
    if not comment:
        raise RestError("INVALID_ARG_VALUE", "Empty comment message.")
    kind = php.to_text(fields["ENTITY_TYPE"]).lower()
    if kind not in _OWNERS:
        raise RestError("OWNER_NOT_FOUND", "Owner was not found")
    table, right, entity_type_id = _OWNERS[kind]
    number = php.to_int(fields["ENTITY_ID"])
    if not call.may(f"{right}.update"):
        raise RestError("ACCESS_DENIED", "Access denied.")
    if number not in getattr(call.state, table):
        raise RestError("NOT_FOUND", "Not found.")
    files = [php.to_text(each[0]) for each in map(as_list, as_list(fields.get("FILES"))) if each]
    made = _store(call, "comment", f"{kind} {number}", comment, files=files)
    owner = {"entity_type_id": entity_type_id, "entity_id": number} if entity_type_id else {}
    call.record("comment_added", message_id=made, target=f"{kind} {number}", **owner)
    return made
