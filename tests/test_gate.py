"""What the tick writes is what the gateways read; raises and trips reach them beside it, whoever writes at once."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance import audit, gate, raises
from governance.gate import Granted, Head, Limit, Trip
from governance.registry import Conflict, Document, Registry, SqliteRegistry

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ENDS = datetime(2026, 12, 1, tzinfo=UTC)
HEAD = Head(NOW, NOW - timedelta(seconds=9), stale=False, stale_after_s=900)


class Counting(SqliteRegistry):
    """An SQLite registry that counts look-ups and writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gets = self.puts = 0

    def get(self, collection: str, id: str) -> Document | None:
        self.gets += 1
        return super().get(collection, id)

    def put(self, collection: str, id: str, fields: Mapping[str, Any], version: str | None = None) -> str:
        self.puts += 1
        return super().put(collection, id, fields, version)


@pytest.fixture
def registry(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "registry.sqlite")


def limit(scope: str, name: str, spent: str = "1", amount: str = "10", *, blocks: bool = True) -> Limit:
    key = "-".join(part for part in (scope, name, "month") if part)
    usd, used = Decimal(amount), Decimal(spent)
    at = usd if blocks else None
    return Limit(key, scope, name, "2026-11", ENDS, usd, used, at, at is not None and used >= at, "ada@example.com")


DEFAULT = Limit("person-month", "person", "*", "2026-11", ENDS, Decimal(5), Decimal(0), Decimal(5), False)


def test_what_is_written_is_what_is_read(registry: Counting) -> None:
    limits = [limit("company", ""), limit("team", "Search", "12.000000001"), limit("model", "kimi-k2", blocks=False)]
    limits[1] = replace(limits[1], hidden=True)
    gate.write(registry, HEAD, limits)
    snapshot = gate.read(registry)
    assert snapshot is not None
    assert replace(snapshot.head, shards=()) == HEAD
    assert snapshot.limits_for([("company", ""), ("team", "Search"), ("model", "kimi-k2"), ("tool", "x")]) == limits


def test_before_the_first_tick_nothing_is_known(registry: Counting) -> None:
    assert gate.read(registry) is None


def test_a_look_that_finds_nothing_new_costs_three_look_ups(registry: Counting) -> None:
    gate.write(registry, HEAD, [limit("person", f"p{n}@example.com") for n in range(500)])
    known = gate.read(registry)
    registry.gets = 0
    again = gate.read(registry, known)
    assert registry.gets == 3
    assert again == known


def test_a_tick_writes_the_shards_that_changed_and_a_gateway_reads_those(registry: Counting) -> None:
    limits = {n: limit("person", f"p{n}@example.com") for n in range(500)}
    gate.write(registry, HEAD, limits.values())
    known = gate.read(registry)
    limits[7] = replace(limits[7], spent_usd=Decimal(3))
    registry.gets = registry.puts = 0
    assert gate.write(registry, HEAD, limits.values()) == 1
    assert registry.puts == 2
    registry.gets = 0
    snapshot = gate.read(registry, known)
    assert registry.gets == 4
    assert snapshot is not None
    assert snapshot.limits_for([("person", "p7@example.com"), ("person", "p8@example.com")]) == [limits[7], limits[8]]


def test_what_is_not_written_any_more_is_gone(registry: Counting) -> None:
    gate.write(registry, HEAD, [limit("team", "Search")])
    known = gate.read(registry)
    gate.write(registry, HEAD, [])
    snapshot = gate.read(registry, known)
    assert snapshot is not None
    assert snapshot.limits_for([("team", "Search")]) == []


def test_a_person_without_a_row_has_each_persons_limit_and_one_with_a_row_that_one(registry: Counting) -> None:
    own = replace(DEFAULT, name="ada@example.com", spent_usd=Decimal(2))
    named = replace(DEFAULT, budget="person-bob@example.com-month", name="bob@example.com", limit_usd=Decimal(99))
    gate.write(registry, replace(HEAD, defaults=(DEFAULT,)), [own, named])
    snapshot = gate.read(registry)
    assert snapshot is not None
    assert snapshot.limits_for([("person", "ada@example.com")]) == [own]
    assert snapshot.limits_for([("person", "bob@example.com")]) == [named]
    assert snapshot.limits_for([("person", "eve@example.com")]) == [replace(DEFAULT, name="eve@example.com")]


def test_a_raise_lifts_a_block_at_once_and_is_not_added_again_by_the_next_tick(registry: Counting) -> None:
    gate.write(registry, replace(HEAD, defaults=(DEFAULT,)), [limit("team", "Search", "10")])
    gate.grant(registry, Granted("r1", "team-Search-month", "Search", "2026-11", Decimal(4)))
    gate.grant(registry, Granted("r2", "person-month", "eve@example.com", "2026-11", Decimal(3)))
    snapshot = gate.read(registry)
    assert snapshot is not None
    (team,), (eve,) = (snapshot.limits_for([s]) for s in (("team", "Search"), ("person", "eve@example.com")))
    assert (team.limit_usd, team.blocks_at_usd, team.blocked) == (Decimal(14), Decimal(14), False)
    assert (eve.limit_usd, eve.blocks_at_usd) == (Decimal(8), Decimal(8))
    counted = replace(limit("team", "Search", "10", "14"), extra_usd=Decimal(4))
    gate.write(registry, HEAD, [counted])
    snapshot = gate.read(registry, snapshot)
    assert snapshot is not None
    assert snapshot.limits_for([("team", "Search")]) == [counted]


def test_raises_and_trips_written_at_once_are_all_kept(registry: Counting) -> None:
    def write(number: int) -> None:
        gate.grant(registry, Granted(f"r{number}", "team-Search-month", "Search", "2026-11", Decimal(1)))
        gate.trip(registry, [Trip("team-Search-month", f"T{number}", "2026-11", Decimal(10), NOW)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert {each.id for each in gate.granted(registry)} == {"r0", "r1", "r2", "r3"}
    assert {each.name for each in gate.tripped(registry)} == {"T0", "T1", "T2", "T3"}
    gate.keep_trips(registry, lambda trip: trip.name == "T1")
    gate.keep_raises(registry, lambda granted: granted.id == "r2")
    assert [each.name for each in gate.tripped(registry)] == ["T1"]
    assert [each.id for each in gate.granted(registry)] == ["r2"]


def test_stale_is_said_and_all_else_stays(registry: Counting) -> None:
    gate.write(registry, HEAD, [limit("team", "Search", "10")])
    gate.mark_stale(registry, NOW + timedelta(minutes=5))
    snapshot = gate.read(registry)
    assert snapshot is not None
    assert (snapshot.head.stale, snapshot.head.written_at) == (True, NOW + timedelta(minutes=5))
    assert [each.blocked for each in snapshot.limits_for([("team", "Search")])] == [True]


@given(st.lists(st.tuples(st.sampled_from(["team", "person", "tag"]), st.text(max_size=9)), max_size=40, unique=True))
def test_every_subject_is_found_whatever_it_is_called(
    tmp_path_factory: pytest.TempPathFactory, subjects: list[tuple[str, str]]
) -> None:
    registry = SqliteRegistry(tmp_path_factory.mktemp("gate") / "registry.sqlite")
    gate.write(registry, HEAD, [limit(scope, name) for scope, name in subjects])
    snapshot = gate.read(registry)
    assert snapshot is not None
    assert {each.subject for each in snapshot.limits_for(subjects)} == set(subjects)


# Raises


def test_a_raise_is_asked_for_granted_once_and_known_to_the_gateways(registry: Counting) -> None:
    asked = raises.ask(registry, limit("team", "Search"), Decimal(5), "ada@example.com", "release week", NOW, 100)
    assert gate.granted(registry) == ()
    done = raises.decide(registry, asked.id, True, "bob@example.com", NOW)
    assert (done.state, done.decided_by) == ("granted", "bob@example.com")
    assert raises.decide(registry, asked.id, True, "bob@example.com", NOW).state == "granted"  # a double click
    with pytest.raises(raises.Decided):
        raises.decide(registry, asked.id, False, "eve@example.com", NOW)
    assert gate.granted(registry) == (raises.as_granted(done),)
    assert raises.of_periods(registry, ["2026-11", "2026-11"]) == [done]


def test_no_more_may_be_asked_for_than_the_rules_allow_in_one_period(registry: Counting) -> None:
    raised = replace(limit("team", "Search", amount="14"), extra_usd=Decimal(4))
    with pytest.raises(raises.TooMuch) as caught:
        raises.ask(registry, raised, Decimal("1.01"), "ada@example.com", "", NOW, 50)
    assert caught.value.left_usd == 1
    raises.ask(registry, raised, Decimal(1), "ada@example.com", "", NOW, 50)


def test_two_who_decide_at_once_leave_one_decision(registry: Registry) -> None:
    asked = raises.ask(registry, limit("team", "Search"), Decimal(5), "ada@example.com", "", NOW, 100)

    def decide(name: str) -> str:
        try:
            return raises.decide(registry, asked.id, name == "yes", f"{name}@example.com", NOW).state
        except raises.Decided as told:
            return f"late: {told.decided.state}"

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(decide, ["yes", "no"]))
    assert outcomes in (["granted", "late: granted"], ["late: refused", "refused"])
    assert len(gate.granted(registry)) == (outcomes[0] == "granted")


def test_a_raise_of_a_period_that_is_over_is_told_to_no_gateway(registry: Counting) -> None:
    asked = raises.ask(registry, limit("team", "Search"), Decimal(5), "ada@example.com", "", NOW, 100)
    raises.decide(registry, asked.id, True, "bob@example.com", ENDS)
    assert gate.granted(registry) == ()


# Audit


def test_an_entry_with_an_id_of_its_own_is_written_once(registry: Counting) -> None:
    entry = audit.Entry(
        NOW, "tally", "block.set", "team-Search-month", "tick", None, audit.told({"spent_usd": 1, "x": None})
    )
    audit.record(registry, entry, "block|team-Search-month|2026-11")
    with pytest.raises(Conflict):
        audit.record(registry, entry, "block|team-Search-month|2026-11")
    first, second = audit.record(registry, entry), audit.record(registry, entry)
    assert first != second
    (kept, *rest) = registry.find(audit.AUDIT, action="block.set")
    assert len(rest) == 2
    assert kept.fields["after"] == '{"spent_usd": 1}'
