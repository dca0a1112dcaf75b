"""A room for the alerts tick: DuckDB in memory, an SQLite registry, a clock that stands, a channel that keeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from functions.alerts.tick import Room
from governance.events import UsageEvent
from governance.gate import GATEWAYS
from governance.messages import DeliveryError, Message
from governance.registry import ANY, Document, Registry, RegistryError, open_registry
from governance.warehouse import Warehouse, open_warehouse
from tests.warehouse_rows import price_rows

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
PEOPLE = """email,name,team,role,joined_on,left_on
ada@example.com,Ada,Search,engineer,2020-01-06,
bob@example.com,Bob,Search,lead,2020-01-06,
eve@example.com,Eve,Data,finance,2020-01-06,
joe@example.com,Joe,Data,admin,2020-01-06,
"""


@dataclass
class Clock:
    """The time, as a test says."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **how_long: float) -> None:
        self.now += timedelta(**how_long)


class Killed(BaseException):
    """kill -9, as near as a call comes to it."""


@dataclass(eq=False)
class Board:
    """A channel that keeps what it is given; it can be down."""

    name: str = "mail"
    private_too: bool = True
    down: bool = False
    taken: list[Message] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, message: Message) -> None:
        if self.down:
            raise DeliveryError("the board is down")
        with self._lock:
            self.taken.append(message)

    @property
    def subjects(self) -> list[str]:
        return [message.subject.removeprefix("Tally: ") for message in self.taken]


@dataclass(eq=False)
class Fails(Registry):
    """A registry whose nth write, counted from 1, does not come through, or is made and not answered."""

    inner: Registry
    fails: Mapping[int, str] = field(default_factory=dict)  # write to before or after
    collection: str = ""  # only these writes count; '' all
    writes: int = 0

    def _reached(self, when: str) -> None:
        if self.fails.get(self.writes) == when:
            raise RegistryError("away" if when == "before" else "no answer")

    def get(self, collection: str, id: str) -> Document | None:
        return self.inner.get(collection, id)

    def put(self, collection: str, id: str, fields: Mapping[str, Any], version: str | None = None) -> str:
        if self.collection not in ("", collection):
            return self.inner.put(collection, id, fields, version)
        self.writes += 1
        self._reached("before")
        written = self.inner.put(collection, id, fields, version)
        self._reached("after")
        return written

    def delete(self, collection: str, id: str, version: str = ANY) -> None:
        self.inner.delete(collection, id, version)

    def find(self, collection: str, **equal: Any) -> list[Document]:
        return self.inner.find(collection, **equal)


def flat_book(patch: pytest.MonkeyPatch) -> None:
    """A price book in which a million tokens of any kind cost ten dollars."""
    first = date(1970, 1, 1)
    rows = [row for name in (("test", "ten"), ("*", "*")) for row in price_rows(*name, *("10",) * 5, valid_from=first)]
    patch.setattr("governance.prices.rows_for_warehouse", lambda contract=None: rows)


def make_room(
    folder: Path,
    channels: Sequence[Board],
    clock: Clock,
    budgets: str,
    company: str = "alerts: {digests: []}\n",
    people: str = PEOPLE,
) -> Room:
    """A room with its policy in the folder; `budgets` are the lines below `budgets:`."""
    (folder / "people.csv").write_text(people)
    (folder / "budgets.yaml").write_text(f"budgets:\n{budgets}")
    (folder / "company.yaml").write_text(company)
    warehouse = open_warehouse("duckdb://:memory:")
    warehouse.apply_schema()
    registry = open_registry(f"sqlite://{folder}/registry.db")
    return Room(warehouse, registry, list(channels), folder, "https://tally.example.com", 86400.0, 5, clock)


_numbers: Iterator[int] = iter(range(10**9))


def spend(
    warehouse: Warehouse,
    usd: float,
    at: datetime,
    received_at: datetime | None = None,
    person: str = "ada@example.com",
    team: str = "Search",
) -> None:
    """One request that cost so many dollars; it arrived two seconds later, or when it is said."""
    event = UsageEvent(
        event_id=f"event-{next(_numbers):08}", request_id="request-1", occurred_at=at, person=person, team=team,
        route="messages", provider="test", model="ten", status="ok", usage_source="provider",
        output_tokens=round(usd * 100_000),
    )  # fmt: skip
    assert warehouse.append("events", [{**event.row(), "received_at": received_at or at + timedelta(seconds=2)}]) == {}


def beat(registry: Registry, last_event_at: datetime, instance: str = "gateway-1") -> None:
    """A gateway's sign of life, as proxy_service/heartbeat.py writes it up to half a minute after the event."""
    at = last_event_at + timedelta(seconds=30)
    fields = {"instance": instance, "at": at.isoformat(), "last_event_at": last_event_at.isoformat()}
    registry.put(GATEWAYS, instance, fields, ANY)
