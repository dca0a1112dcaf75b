"""The file behind the local Pub/Sub: topics, subscriptions, and each message until its last subscriber has taken it.

SQLite with a write-ahead log: what a transaction has written outlives the process, also when it is killed.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

Change = tuple[str, tuple[object, ...]]  # one SQL statement and its parameters

_SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS subscriptions (name TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, data BLOB NOT NULL, attributes TEXT NOT NULL,
                                     ordering_key TEXT NOT NULL, published_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (message INTEGER, subscription TEXT, attempts INTEGER NOT NULL,
                                       PRIMARY KEY (message, subscription)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Message:
    """A message as its publisher sent it. `published_at` is RFC 3339, UTC."""

    id: int
    data: bytes
    attributes: dict[str, str]
    ordering_key: str
    published_at: str


class Journal:
    """Reads on the caller's thread, writes on any other: each has its own connection."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute("PRAGMA synchronous = NORMAL")
        self._writer.executescript(_SCHEMA)
        self._reader = sqlite3.connect(path, isolation_level=None)
        self._lock = threading.Lock()

    def apply(self, changes: Iterable[Change]) -> None:
        """All the changes in one transaction. Raises sqlite3.Error, with none of them made."""
        with self._lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                for sql, parameters in changes:
                    self._writer.execute(sql, parameters)
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    def topics(self) -> list[bytes]:
        """Every topic, as serialised."""
        return [row[0] for row in self._reader.execute("SELECT body FROM topics")]

    def subscriptions(self) -> list[bytes]:
        """Every subscription, as serialised."""
        return [row[0] for row in self._reader.execute("SELECT body FROM subscriptions")]

    def undelivered(self, subscription: str) -> list[tuple[int, int]]:
        """(message id, attempts so far) of what the subscription has not yet taken, oldest first."""
        sql = "SELECT message, attempts FROM deliveries WHERE subscription = ? ORDER BY message"
        return list(self._reader.execute(sql, (subscription,)))

    def message(self, id: int) -> Message:
        """A message that some subscription still waits for. Raises KeyError when there is none."""
        sql = "SELECT data, attributes, ordering_key, published_at FROM messages WHERE id = ?"
        row = self._reader.execute(sql, (id,)).fetchone()
        if row is None:
            raise KeyError(id)
        return Message(id, row[0], json.loads(row[1]), row[2], row[3])

    def close(self) -> None:
        """Close the file; nothing can be read or written afterwards."""
        with self._lock:
            self._reader.close()
            self._writer.close()


def topic_added(name: str, body: bytes) -> list[Change]:
    """A topic is there, as `body` describes it."""
    return [("INSERT OR REPLACE INTO topics VALUES (?, ?)", (name, body))]


def subscription_added(name: str, body: bytes) -> list[Change]:
    """A subscription is there, as `body` describes it."""
    return [("INSERT OR REPLACE INTO subscriptions VALUES (?, ?)", (name, body))]


def subscription_deleted(name: str) -> list[Change]:
    """A subscription is gone, and so is what only it was waiting for."""
    return [
        ("DELETE FROM subscriptions WHERE name = ?", (name,)),
        ("DELETE FROM deliveries WHERE subscription = ?", (name,)),
        ("DELETE FROM messages WHERE id NOT IN (SELECT message FROM deliveries)", ()),
    ]


def published(message: Message, subscriptions: Iterable[str]) -> list[Change]:
    """A message waits for each of the subscriptions."""
    attributes = json.dumps(message.attributes)
    row = (message.id, message.data, attributes, message.ordering_key, message.published_at)
    return [
        ("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", row),
        *(("INSERT INTO deliveries VALUES (?, ?, 0)", (message.id, name)) for name in subscriptions),
    ]


def failed(message: int, subscription: str, attempts: int) -> list[Change]:
    """The subscriber did not take the message, for the `attempts`th time."""
    return [
        ("UPDATE deliveries SET attempts = ? WHERE message = ? AND subscription = ?", (attempts, message, subscription))
    ]


def taken(message: int, subscription: str) -> list[Change]:
    """The subscription needs the message no more."""
    return [
        ("DELETE FROM deliveries WHERE message = ? AND subscription = ?", (message, subscription)),
        ("DELETE FROM messages WHERE id = ? AND id NOT IN (SELECT message FROM deliveries WHERE message = ?)",
         (message, message)),
    ]  # fmt: skip
