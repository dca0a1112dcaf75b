"""A whole month of a company, tick by tick: exactly the messages and blocks that arithmetic says, whatever dies."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from functions.alerts.tick import Room, tick
from governance import audit, gate, keys, raises
from governance.events import UsageEvent
from governance.keys import KeyRecord
from governance.messages import Message
from governance.registry import ANY, Registry, open_registry
from governance.warehouse import Warehouse, open_warehouse
from tests import month
from tests.month import LEAVER, RAISED_AT, Expected, Oracle, Request

SEED = 7
EXTRA = Decimal(60)


class Killed(BaseException):
    """kill -9, as near as a call comes to it."""


class Fate:
    """Kills a tick somewhere within its calls to the outside; not more than a few times in a row."""

    def __init__(self, seed: int | None) -> None:
        self._dice, self._left, self.killed = random.Random(seed), 0, 0
        self._seed = seed

    def begin(self, attempt: int) -> None:
        """Draw where this tick dies; from the fifth attempt on it lives."""
        lives = self._seed is None or attempt > 3 or self._dice.random() < 0.5
        self._left = 10**9 if lives else self._dice.randrange(1, 140)

    def reached(self) -> None:
        """One more call to the outside."""
        self._left -= 1
        if self._left == 0:
            self.killed += 1
            raise Killed


@dataclass(eq=False)
class Fated:
    """A registry, a warehouse or a channel whose every call may be the tick's last: before it, or after."""

    inner: Any
    fate: Fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def called(*given: Any, **named: Any) -> Any:
            self.fate.reached()
            answer = found(*given, **named)
            self.fate.reached()
            return answer

        return called


class Board:
    """A channel that keeps what it was handed, once by its id: as a receiver that drops what it has already does."""

    def __init__(self, name: str, private_too: bool) -> None:
        self.name, self.private_too = name, private_too
        self.taken: dict[str, Message] = {}
        self.times: Counter[str] = Counter()

    def send(self, message: Message) -> None:
        self.taken.setdefault(message.id, message)
        self.times[message.id] += 1


@dataclass
class Company:
    """The month as it runs: the real tick over a real registry and warehouse, beside the oracle."""

    registry: Registry
    warehouse: Warehouse
    policy_dir: Path
    fate: Fate
    mail: Board
    hook: Board
    now: datetime = month.FIRST

    def __post_init__(self) -> None:
        self.oracle = Oracle(EXTRA)
        self.again = 0
        for n in range(120):
            person = f"p{n:03}@example.com"
            record = KeyRecord(
                key_id=month.key_id(person),
                person=person,
                team=month.TEAMS[n % 9],
                last4="0000",
                created_at=month.FIRST,
                tags=("project=apollo",) if person in month.APOLLO else (),
            )
            self.registry.put(keys.COLLECTION, f"hash-{n}", record.document())

    def run(self) -> None:
        """From the first tick to the last."""
        due, wanted = month.ticks(), month.requests(SEED)
        position = 0
        for at in due:
            rows, snapshot, left = [], gate.read(self.registry), self._left()
            while position < len(wanted) and wanted[position].at < at:
                request = wanted[position]
                position += 1
                gone = request.person == LEAVER and left
                passes = not gone and not self._refused(snapshot, request)
                assert self.oracle.ask(request, gone) == passes, (request, at)
                if passes:
                    rows.append(request)
            self._store(rows)
            self._heartbeat()
            self._tick(at)
            if RAISED_AT - timedelta(hours=6) <= at < RAISED_AT:
                self._raise()

    def _left(self) -> bool:
        document = self.registry.get(keys.COLLECTION, f"hash-{int(LEAVER[1:4])}")
        return document is not None and KeyRecord.model_validate(document.fields).revoked_at is not None

    def _refused(self, snapshot: gate.Snapshot | None, request: Request) -> bool:
        subjects = [
            ("company", ""), ("team", request.team), ("person", request.person), ("key", request.key_id),
            ("model", request.model), ("provider", request.provider), ("tool", request.tool),
            *([("tag", "project=apollo")] if request.person in month.APOLLO else []),
        ]  # fmt: skip
        limits = snapshot.limits_for(subjects) if snapshot else []
        return any(limit.blocked and request.at < limit.ends_at for limit in limits)

    def _store(self, requests: Sequence[Request]) -> None:
        """What the gateway sent, as far as it has arrived; the rest arrives when the outage is over."""
        self._underway = [*getattr(self, "_underway", ()), *requests]
        self._sent_at = requests[-1].at if requests else getattr(self, "_sent_at", None)

    def _arrive(self, at: datetime) -> None:
        rows = [_row(request) for request in self._underway if request.received_at <= at]
        self._underway = [request for request in self._underway if request.received_at > at]
        if rows:
            assert self.warehouse.append("events", rows) == {}

    def _heartbeat(self) -> None:
        if self._sent_at is not None:
            beat = {"instance": "g1", "at": self._sent_at.isoformat(), "last_event_at": self._sent_at.isoformat()}
            self.registry.put(gate.GATEWAYS, "g1", beat, ANY)

    def _tick(self, at: datetime) -> None:
        """One tick; where it dies the scheduler makes it again, two minutes later and up to four times."""
        self._arrive(at)
        self.oracle.tick(at)
        head = self.registry.get(gate.GATE, gate.HEAD)
        if head is not None:  # the ticks of the hours before, which are left out, have found nothing either
            before = (at - timedelta(minutes=5)).isoformat()
            self.registry.put(gate.GATE, gate.HEAD, {**head.fields, "written_at": before}, ANY)
        room = Room(
            Fated(self.warehouse, self.fate),
            Fated(self.registry, self.fate),
            [Fated(self.mail, self.fate), Fated(self.hook, self.fate)],
            self.policy_dir,
            "",
            86_400,
            5,
            lambda: self.now,
        )
        for attempt in range(5):
            self.now = at + timedelta(minutes=2 * attempt)
            self.fate.begin(attempt)
            with suppress(Killed):
                tick(room)
                return
            self.again += 1

    def _raise(self) -> None:
        """Somebody who is refused asks for more, and the lead grants it."""
        snapshot = gate.read(self.registry)
        assert snapshot is not None
        blocked = sorted(
            limit.name
            for limits in snapshot.by_subject.values()
            for limit in limits
            if limit.blocked and limit.budget == "person-month" and limit.name != LEAVER
        )
        (limit,) = (x for x in snapshot.limits_for([("person", blocked[0])]) if x.budget == "person-month")
        wish = raises.ask(self.registry, limit, EXTRA, limit.name, "release", RAISED_AT, 100)
        raises.decide(self.registry, wish.id, True, "p000@example.com", RAISED_AT + timedelta(minutes=1))
        self.oracle.grant("person-month", limit.name, "2026-10", wish.id)
        self.raised = limit.name


def _row(request: Request) -> dict[str, Any]:
    event = UsageEvent(
        event_id=f"event-{request.number:06}", request_id=f"request-{request.number:06}", occurred_at=request.at,
        person=request.person, team=request.team, key_id=request.key_id, tool=request.tool, route="messages",
        provider=request.provider, model_requested=request.model, model=request.model, status="ok",
        usage_source="provider", input_tokens=request.input_tokens, output_tokens=request.output_tokens,
    )  # fmt: skip
    return {**event.row(), "received_at": request.received_at}


def _digest(name: str, channel: str) -> str:
    return hashlib.sha256(f"{name}|{channel}".encode()).hexdigest()[:32]


def _company(folder: Path, fate: Fate) -> Company:
    month.write_policy(folder)
    warehouse = open_warehouse("duckdb://:memory:")
    warehouse.apply_schema()
    registry = open_registry(f"sqlite://{folder}/registry.db")
    return Company(registry, warehouse, folder, fate, Board("mail", True), Board("hook", False))


def _acts(company: Company, kind: str) -> list[Mapping[str, Any]]:
    """Entries of the audit log of one kind, those still on their way to the warehouse among them."""
    entries = {entry.id: entry.fields for entry in company.registry.find(audit.AUDIT)}
    entries |= {row["audit_id"]: row for row in company.warehouse.query("SELECT * FROM tally.audit_log")}
    return [fields for fields in entries.values() if fields["action"].startswith(kind)]


def _blocks(company: Company) -> list[tuple[str, str, str, str]]:
    """Changes of blocks: set or lifted, budget, name, period."""
    told = [(fields["subject"], json.loads(fields["after"])) for fields in _acts(company, "block.")]
    return [(after["state"], budget, after.get("name") or "", after["period"]) for budget, after in told]


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [None, 11], ids=["undisturbed", "ticks killed at random"])
def test_a_month_brings_exactly_the_messages_and_blocks_that_arithmetic_says(seed: int | None, tmp_path: Path) -> None:
    company = _company(tmp_path, Fate(seed))
    company.run()
    expected: Expected = company.oracle.expected
    names = {_digest(name, "mail"): name for name in expected.messages}
    assert {names.get(id, message.about): message.to for id, message in company.mail.taken.items()} == expected.messages
    shared = {name for name in expected.messages if name not in expected.private}
    assert {message.about for message in company.hook.taken.values()} == {name.split("|")[0] for name in shared}
    assert set(company.hook.taken) == {_digest(name, "hook") for name in shared}
    assert Counter(_blocks(company)) == Counter(expected.blocks)
    assert (company.fate.killed > 50) == (seed is not None)
    assert [act["subject"] for act in _acts(company, "key.revoked")] == [month.key_id(LEAVER)]
    # Enough has happened for this to mean something.
    assert len(expected.messages) > 150
    assert len({about for _, about, _, _ in expected.blocks}) > 4
    assert {state for state, *_ in expected.blocks} == {"set", "lifted"}
    assert 500 < len(expected.refused) < 20_000
    if seed is None:
        assert set(company.mail.times.values()) | set(company.hook.times.values()) == {1}
