"""Data that is late blocks nobody and is told once, a quiet night is no outage, data that returns sets all right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from functions.alerts import freshness
from functions.alerts.freshness import Freshness, Past
from functions.alerts.tick import Room, tick
from governance import gate, raises
from governance.gate import GATE, GATEWAYS, HEAD, Limit, Snapshot
from governance.registry import ANY, Registry, RegistryError, open_registry
from tests.alerts_room import NOON, Board, Clock, Fails, Killed, beat, flat_book, make_room, spend

BUDGETS = """
  - {scope: team, name: Search, amount_usd: 100, action: block}
  - {scope: person, amount_usd: 50, action: block}
"""
LATE, AGAIN = "usage data does not arrive", "usage data arrives again"
MISSED = "budgets were not judged"
LIMIT, AGE = timedelta(minutes=15), timedelta(days=1)


@pytest.fixture(autouse=True)
def book(monkeypatch: pytest.MonkeyPatch) -> None:
    flat_book(monkeypatch)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def room(tmp_path: Path, board: Board, clock: Clock) -> Room:
    return make_room(tmp_path, [board], clock, BUDGETS)


def used(room: Room, usd: float, at: datetime, *, arrives: datetime | None = None, **whose: str) -> Callable[[], None]:
    """A request that a gateway made an event of; what lets it arrive, at once where no later time is given."""
    beat(room.registry, at)

    def arrive() -> None:
        spend(room.warehouse, usd, at, arrives, **whose)

    if arrives is None:
        arrive()
    return arrive


def limits(room: Room, *subjects: tuple[str, str]) -> list[Limit]:
    snapshot = gate.read(room.registry)
    assert isinstance(snapshot, Snapshot)
    return snapshot.limits_for(subjects)


def operators(board: Board) -> list[str]:
    return [message.subject.removeprefix("Tally: ") for message in board.taken if message.audience == "operator"]


# The acceptance line


def test_events_stop_for_thirty_minutes(room: Room, board: Board, clock: Clock) -> None:
    used(room, 60, NOON - timedelta(minutes=1), person="bob@example.com")  # over 50: blocked, and stays so
    tick(room)
    board.taken.clear()
    stopped = clock.now
    late = []
    while clock.now < stopped + timedelta(minutes=30):
        sent_at = clock.now + timedelta(minutes=4)
        late.append(used(room, 10, sent_at, arrives=stopped + timedelta(minutes=31)))  # 6 of them: Ada's budget is gone
        clock.pass_(minutes=5)
        done = tick(room)
    assert done["stale"]
    assert operators(board) == board.subjects == [LATE]
    (said,) = board.taken
    assert said.to == ("joe@example.com",)
    assert "since 18 November 2026, 12:04 UTC" in said.text
    assert "https://tally.example.com/data_health" in said.text
    blocked = {limit.name: limit.blocked for limit in limits(room, ("team", "Search"), ("person", "bob@example.com"))}
    assert blocked == {"Search": False, "bob@example.com": True}
    assert [limit.blocked for limit in limits(room, ("person", "ada@example.com"))] == [False]
    snapshot = gate.read(room.registry)
    assert snapshot is not None
    assert (snapshot.head.stale, snapshot.head.written_at) == (True, clock.now)

    clock.pass_(minutes=1)
    for arrive in late:
        arrive()
    clock.pass_(seconds=20)
    done = tick(room)
    assert (done["stale"], done["blocked"]) == (False, 3)  # Search has used 120 of 100, Ada 60 of 50
    snapshot = gate.read(room.registry)
    assert snapshot is not None
    assert not snapshot.head.stale
    assert [limit.blocked for limit in snapshot.limits_for([("team", "Search"), ("person", "ada@example.com")])] == [
        True, True,
    ]  # fmt: skip
    assert operators(board) == [LATE, AGAIN]
    told = sorted((message.subject, message.to) for message in board.taken if message.audience == "person")
    assert told == [
        ("Tally: requests are refused: you have used up your monthly budget (November 2026)", ("ada@example.com",)),
        ("Tally: you have passed 80% of your monthly budget (November 2026)", ("ada@example.com",)),
    ]
    count = len(board.taken)
    clock.pass_(minutes=5)
    tick(room)
    assert len(board.taken) == count


def test_while_data_is_late_a_raise_is_asked_decided_and_lifts(room: Room, board: Board, clock: Clock) -> None:
    used(room, 60, NOON - timedelta(minutes=1))
    tick(room)
    used(room, 1, NOON + timedelta(seconds=1), arrives=NOON + timedelta(hours=2))
    clock.pass_(minutes=20)
    assert tick(room)["stale"]
    board.taken.clear()
    (ada,) = limits(room, ("person", "ada@example.com"))
    wish = raises.ask(room.registry, ada, ada.limit_usd, ada.name, "release", clock.now, 100)
    tick(room)
    raises.decide(room.registry, wish.id, True, "bob@example.com", clock.now)
    (lifted,) = limits(room, ("person", "ada@example.com"))
    assert (ada.blocked, lifted.blocked, lifted.limit_usd) == (True, False, Decimal(100))
    tick(room)
    assert [(message.subject, message.to) for message in board.taken] == [
        ("Tally: a raise of $50.00 is asked for", ("bob@example.com",)),
        ("Tally: your raise was granted", ("ada@example.com",)),
    ]
    assert not limits(room, ("person", "ada@example.com"))[0].blocked


# What is an outage, and what is none


@dataclass
class Night:
    """Ticks without a warehouse and without budgets: what gateways sent, what arrived, and what is made of it."""

    registry: Registry
    now: datetime = NOON
    newest: datetime | None = None
    told: list[str] = field(default_factory=list)

    def sent(self, minutes: float, *, arrives: float | None = None, instance: str = "gateway-1") -> None:
        """An event of so many minutes after noon, arrived then, if at all."""
        beat(self.registry, NOON + timedelta(minutes=minutes), instance)
        if arrives is not None:
            self.arrived(arrives)

    def arrived(self, minutes: float) -> None:
        self.newest = NOON + timedelta(minutes=minutes)

    def tick(self, minutes: float, registry: Registry | None = None) -> Freshness:
        self.now = NOON + timedelta(minutes=minutes)
        seen = freshness.freshness(registry or self.registry, self.newest, self.now, LIMIT, AGE)
        names = [f"late {seen.since:%H:%M}"] if seen.since else []
        names += [f"{past.kind} over {past.since:%H:%M}" for past in seen.past]
        self.told = list(dict.fromkeys((*self.told, *names)))
        self.registry.put(GATE, HEAD, {"written_at": self.now.isoformat()}, ANY)
        return seen


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(open_registry(f"sqlite://{tmp_path}/registry.db"))


def test_a_quiet_night_and_a_long_holiday_are_no_outage(night: Night) -> None:
    night.sent(0, arrives=0.1)
    for hour in (0.1, 1, 12, 24, 60, 24 * 5):
        assert night.tick(60 * hour) == Freshness(stale=False)
        freshness.prune(night.registry, night.now)
    assert night.told == []


def test_sparse_traffic_with_some_seconds_of_lag_is_no_outage(night: Night) -> None:
    night.sent(-40, arrives=-39.9)
    for n in range(12):
        night.sent(20 * n)
        assert not night.tick(20 * n + 0.05).stale  # before it has arrived
        night.arrived(20 * n + 0.1)
        assert not night.tick(20 * n + 16).stale
    assert night.told == []


def test_a_stream_that_is_always_some_seconds_behind_is_no_outage_and_ends_one(night: Night) -> None:
    for n in range(24):
        night.sent(5 * n, arrives=5 * n - 0.5)
        assert not night.tick(5 * n + 0.1).stale
    for n in range(24, 30):
        night.sent(5 * n)
        night.tick(5 * n + 0.1)
    assert night.told == ["late 14:00"]
    night.sent(150, arrives=149.5)
    assert not night.tick(150.1).stale
    assert night.told == ["late 14:00", "late over 14:00"]


def test_one_event_that_never_arrives_is_an_outage_though_nothing_else_is_sent(night: Night) -> None:
    night.sent(0, arrives=0.1)
    night.sent(0.5)
    assert [night.tick(minute).stale for minute in (1, 10, 15, 20)] == [False, False, False, True]
    assert night.told == ["late 12:00"]


def test_an_outage_in_which_some_events_trickle_in_is_one_outage(night: Night) -> None:
    night.sent(0, arrives=0.1)
    stale = []
    for n in range(1, 25):
        night.sent(5 * n)
        stale.append(night.tick(5 * n + 2).stale)
        if n % 6 == 5:  # one in half an hour
            night.arrived(5 * n + 2.5)
    assert night.told == ["late 12:05"]
    assert stale.count(True) > 5  # long enough after each of them
    night.sent(125, arrives=125.1)
    assert not night.tick(127).stale
    assert night.told == ["late 12:05", "late over 12:05"]


def test_of_several_gateways_the_one_that_sent_last_is_waited_for(night: Night) -> None:
    night.sent(0, arrives=0.1, instance="gone")
    night.sent(30, instance="here")
    assert night.tick(46).stale
    night.arrived(46.5)
    assert not night.tick(47).stale


def test_without_any_gateway_only_the_age_of_the_newest_row_is_known(night: Night) -> None:
    assert not night.tick(0).stale  # nothing ever: nothing to be late
    night.arrived(0)
    assert [night.tick(60 * hour).stale for hour in (1, 24, 24.1)] == [False, False, True]
    assert night.told == []


def test_gateways_that_are_gone_are_forgotten_but_for_the_last_to_speak(night: Night) -> None:
    night.sent(0, instance="old")
    night.sent(1, instance="newer")
    freshness.prune(night.registry, NOON + timedelta(days=2, minutes=1))
    assert [document.id for document in night.registry.find(GATEWAYS)] == ["newer"]


# Told once, whatever dies


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", [1, 2, 3])
def test_an_outage_is_noted_and_ended_once_whichever_write_fails(night: Night, when: str, write: int) -> None:
    flaky = Fails(night.registry, {write: when}, collection="loaded")
    for minute in range(0, 60, 5):
        night.sent(minute, arrives=minute + 0.1 if not 5 < minute < 45 else None)
        for attempt in range(2):
            try:
                night.tick(minute + 1 + attempt, flaky)
            except RegistryError:
                continue
            break
    assert flaky.writes >= 3
    assert night.told == ["late 12:10", "late over 12:10"]


def test_two_ticks_at_once_agree(night: Night) -> None:
    night.sent(0)
    night.tick(1)

    class Second(Fails):
        """Another tick sees the same between this one's look and its write."""

        def put(self, collection: str, id: str, fields: Any, version: str | None = None) -> str:
            self.writes += 1
            if self.writes == 1:
                freshness.freshness(self.inner, night.newest, night.now, LIMIT, AGE)
            return super().put(collection, id, fields, version)

    assert night.tick(17, Second(night.registry)) == Freshness(True, NOON)


class Dies(Board):
    """A channel that kills who sends to it, once."""

    def send(self, message: Any) -> None:
        if not self.down:
            self.down = True
            raise Killed
        self.taken.append(message)


@pytest.mark.parametrize("fault", ["the tick dies", "the channel is down"])
def test_the_end_of_an_outage_is_told_once_though_it_could_not_be_told_at_once(
    room: Room, board: Board, clock: Clock, fault: str
) -> None:
    arrive = used(room, 1, NOON, arrives=NOON + timedelta(minutes=20))
    tick(room)
    clock.pass_(minutes=20)
    tick(room)
    assert board.subjects == [LATE]
    arrive()
    clock.pass_(minutes=1)
    if fault == "the tick dies":
        with pytest.raises(Killed):
            tick(replace(room, channels=[Dies()]))
    else:
        board.down = True
        tick(room)
        board.down = False
    for _ in range(3):
        clock.pass_(minutes=5)
        tick(room)
    assert board.subjects == [LATE, AGAIN]


@pytest.mark.parametrize(("sent", "told"), [(True, [MISSED]), (False, [])])
def test_a_missed_tick_is_told_once_and_only_where_there_was_something_to_judge(
    room: Room, board: Board, clock: Clock, sent: bool, told: list[str]
) -> None:
    used(room, 1, NOON - timedelta(minutes=1))
    tick(room)
    if sent:
        used(room, 1, NOON + timedelta(minutes=10))
    clock.pass_(minutes=40)
    board.down = True  # it is told when it can be
    tick(room)
    board.down = False
    for _ in range(2):
        clock.pass_(minutes=5)
        tick(room)
    assert board.subjects == told
    if told:
        assert "Between 18 November 2026, 12:00 UTC and 18 November 2026, 12:40 UTC no tick" in board.taken[0].text


def test_what_is_over_is_offered_for_a_day(night: Night) -> None:
    night.sent(0)
    night.tick(0)
    night.tick(20)
    night.arrived(21)
    seen = night.tick(22)
    assert seen.past == (Past("late", NOON, datetime(2026, 11, 18, 12, 22, tzinfo=UTC)),)
    night.registry.put(GATE, HEAD, {"written_at": (NOON + timedelta(hours=24)).isoformat()}, ANY)
    assert night.tick(60 * 24 + 21).past == seen.past
    assert night.tick(60 * 24 + 22).past == ()
