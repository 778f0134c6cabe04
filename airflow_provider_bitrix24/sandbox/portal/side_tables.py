"""Rows beside the money: companies and contacts, chats and messages, event handlers and the queue of offline events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_provider_bitrix24.sandbox.portal.tables import Row


@dataclass
class Client(Row):
    """A company or a contact. ``fields`` holds its columns in capital letters, PHONE and EMAIL as lists."""

    id: int
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class Chat(Row):
    """A chat that messages can be sent to."""

    id: int
    title: str = ""


@dataclass
class Message(Row):
    """A notification, a chat message or a comment; ``target`` is ``user 7``, ``chat 1`` or ``deal 4``."""

    id: int
    kind: str
    target: str
    author_id: int
    text: str
    at: float = 0.0
    tag: str = ""
    files: list[str] = field(default_factory=list)


@dataclass
class EventHandler(Row):
    """What an application has bound to an event; offline ones fill the queue instead of being called."""

    id: int
    client_id: str
    event: str
    handler: str = ""
    auth_type: int = 0
    offline: bool = False
    connector: str = ""


@dataclass
class OfflineEvent(Row):
    """An entry of an application's queue. ``process_id`` is set while somebody has reserved it."""

    id: int
    client_id: str
    event: str
    at: float
    data: Any = False
    additional: Any = False
    message_id: str = ""
    process_id: str = ""
    error: int = 0
    connector: str = ""
