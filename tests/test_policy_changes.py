"""What the audit log says of policy/: what was loaded, what is new, gone and different in it, each once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from functions.alerts import audit_shipping, policy_changes
from functions.alerts.reference import load_reference
from functions.alerts.tick import Room
from governance import audit, keys
from governance.audit import AUDIT
from governance.budgets import Budget
from governance.keys import KeyRecord
from governance.policy import read_policy
from governance.registry import ANY, RegistryError
from tests.alerts_room import NOON, PEOPLE, Board, Clock, Fails, Killed, make_room
from tests.warehouse_rows import price_rows

BUDGETS = "  - {scope: company, amount_usd: 1000}\n  - {scope: team, name: Search, amount_usd: 100}\n"
FIRST = date(1970, 1, 1)
CANARY = "cAnArY-4711"
Said = tuple[str, str, Any, Any]


class Book:
    """The price book, as a test writes it: dollars for a million tokens of each model."""

    def __init__(self) -> None:
        self.usd = {("test", "ten"): "10", ("test", "one"): "1", ("*", "*"): "10"}

    def rows(self, contract: object = None) -> list[dict[str, Any]]:
        return [row for name, usd in self.usd.items() for row in price_rows(*name, *(usd,) * 5, valid_from=FIRST)]


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Book:
    book = Book()
    monkeypatch.setattr("governance.prices.rows_for_warehouse", book.rows)
    return book


@pytest.fixture
def room(tmp_path: Path, book: Book) -> Room:
    return make_room(tmp_path, [Board()], Clock(), BUDGETS)


@pytest.fixture
def load(room: Room) -> Callable[..., list[Said]]:
    """Load policy/ as a tick does; what the audit log says since then."""
    seen: set[str] = set()

    def loaded(**other: Any) -> list[Said]:
        given = replace(room, **other)
        load_reference(given.warehouse, given.registry, read_policy(given.policy_dir), NOON)
        entries = [entry for entry in room.registry.find(AUDIT) if entry.id not in seen]
        seen.update(entry.id for entry in entries)
        return sorted(
            ((e.fields["action"], e.fields["subject"], *map(_read, (e.fields["before"], e.fields["after"])))
             for e in entries),
            key=lambda said: said[:2],
        )  # fmt: skip

    return loaded


def _read(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def test_the_first_load_says_how_much_was_loaded_and_every_budget(load: Callable[..., list[Said]]) -> None:
    said = load()
    assert [each[:2] for each in said] == [
        ("budget.added", "company-month"), ("budget.added", "team-Search-month"),
        ("policy.loaded", "company"), ("policy.loaded", "people"), ("policy.loaded", "prices"),
    ]  # fmt: skip
    _, search, rules, people, prices = said
    assert search[2:] == (None, {
        "action": "warn", "amount_usd": "100", "grace_percent": 0, "name": "Search", "period": "month",
        "scope": "team", "tell": [], "thresholds": [80, 100],
    })  # fmt: skip
    assert rules[2] is None
    assert rules[3]["time_zone"] == "UTC"
    assert people[2:] == ({"rows": 0}, {"rows": 4})
    assert prices[2:] == ({"rows": 0}, {"rows": 15})


def test_the_same_again_says_nothing_however_often(load: Callable[..., list[Said]]) -> None:
    load()
    assert load() == load() == []


def test_the_real_book_and_every_table_come_back_from_the_warehouse_as_they_went(
    load: Callable[..., list[Said]], room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    (room.policy_dir / "teams.csv").write_text("team,cost_centre\nSearch,0100\n")
    seats = "email,provider,plan,usd_per_month,from,to\n" + "ada@example.com,anthropic,Max,100.50,2026-01-01,\n"
    (room.policy_dir / "seats.csv").write_text(seats)
    load()
    (room.policy_dir / "teams.csv").write_text("team,cost_centre\nSearch,0100\nData,0200\n")
    (room.policy_dir / "seats.csv").write_text(seats + "bob@example.com,anthropic,Max,100,2026-02-01,2026-03-01\n")
    price = "usd_per_million: {input: 1, output: 2.50}"
    override = f"{{provider: openai, model: my-own, valid_from: 2026-01-01, why: own, {price}}}"
    (room.policy_dir / "prices.yaml").write_text(f"overrides: [{override}]\n")
    said = {(action, subject): after for action, subject, _, after in load()}
    assert said["policy.loaded", "teams"] == {"rows": 2, "added": ["Data"], "added_count": 1}
    assert said["policy.loaded", "seats"]["added"] == ["bob@example.com / anthropic / Max / 2026-02-01"]
    assert {"changed", "removed"}.isdisjoint(said["policy.loaded", "seats"])
    assert said["policy.loaded", "prices"]["added"] == ["openai / my-own"]
    assert [subject for action, subject in said if action == "price.changed"] == ["openai / my-own"]


def test_people_who_come_go_and_change_are_named(load: Callable[..., list[Said]], room: Room) -> None:
    load()
    changed = PEOPLE.replace("Eve,Data", "Eve,Search").replace("joe@example.com,Joe", "sue@example.com,Sue")
    (room.policy_dir / "people.csv").write_text(changed)
    assert load() == [
        ("policy.loaded", "people", {"rows": 4}, {
            "rows": 4, "added": ["sue@example.com"], "added_count": 1, "changed": ["eve@example.com"],
            "changed_count": 1, "removed": ["joe@example.com"], "removed_count": 1,
        })
    ]  # fmt: skip


def test_many_at_once_are_counted_and_some_named(load: Callable[..., list[Said]], room: Room) -> None:
    load()
    more = "".join(f"p{n}@example.com,P {n},Search,engineer,2020-01-06,\n" for n in range(400))
    (room.policy_dir / "people.csv").write_text(PEOPLE + more)
    ((*_, after),) = load()
    assert (after["added_count"], len(after["added"])) == (400, 50)


def test_a_budget_that_is_new_gone_or_different_is_one_entry_with_what_it_was(
    load: Callable[..., list[Said]], room: Room
) -> None:
    load()
    new = "  - {scope: company, amount_usd: 2000, action: block}\n  - {scope: person, amount_usd: 10}\n"
    (room.policy_dir / "budgets.yaml").write_text(f"budgets:\n{new}")
    said = load()
    assert [(action, subject) for action, subject, *_ in said] == [
        ("budget.added", "person-month"), ("budget.changed", "company-month"), ("budget.removed", "team-Search-month"),
    ]  # fmt: skip
    added, different, removed = said
    assert (added[2], removed[3]) == (None, None)
    assert [each["amount_usd"] for each in different[2:]] == ["1000", "2000"]
    assert [each["action"] for each in different[2:]] == ["warn", "block"]
    assert removed[2]["amount_usd"] == "100"


def test_a_price_is_one_entry_for_each_model_with_what_it_was(load: Callable[..., list[Said]], book: Book) -> None:
    load()
    book.usd[("test", "ten")] = "12.50"
    book.usd[("test", "new")] = "3"
    del book.usd[("test", "one")]
    *prices, loaded = sorted(load(), key=lambda said: said[0] == "policy.loaded")
    assert loaded[3]["changed"] == ["test / ten"]
    assert [said[:2] for said in prices] == [
        ("price.changed", "test / new"), ("price.changed", "test / one"), ("price.changed", "test / ten"),
    ]  # fmt: skip
    new, gone, ten = prices
    assert (new[2], gone[3]) == (None, None)
    assert [{row["usd_per_million"] for row in each["of_them"]} for each in ten[2:]] == [{"10"}, {"12.5"}]
    assert [each["rows"] for each in ten[2:]] == [5, 5]


def test_of_the_rules_only_those_that_changed_are_told(load: Callable[..., list[Said]], room: Room) -> None:
    load()
    (room.policy_dir / "company.yaml").write_text("time_zone: Europe/Berlin\nalerts: {digests: []}\nkeys: {days: 30}\n")
    ((action, subject, before, after),) = load()
    assert (action, subject, set(after)) == ("policy.loaded", "company", {"time_zone", "keys"})
    assert (before["time_zone"], after["time_zone"]) == ("UTC", "Europe/Berlin")
    assert (before["keys"]["days"], after["keys"]["days"]) == (90, 30)


def test_what_changes_to_and_fro_on_one_day_is_told_each_time(load: Callable[..., list[Said]], room: Room) -> None:
    load()
    told = []
    for amount in (200, 100, 200, 100):
        (room.policy_dir / "budgets.yaml").write_text(f"budgets:\n{BUDGETS.replace(' 100}', f' {amount}}}')}")
        ((action, _, before, after),) = load()
        told.append((action, before["amount_usd"], after["amount_usd"]))
        audit_shipping.ship(room.warehouse, room.registry)
    assert told == [("budget.changed", "100", "200"), ("budget.changed", "200", "100")] * 2
    (row,) = room.warehouse.query("SELECT COUNT(*) AS n FROM tally.audit_log WHERE action = 'budget.changed'")
    assert row["n"] == 4


def test_a_table_that_somebody_emptied_is_loaded_again_and_told(load: Callable[..., list[Said]], room: Room) -> None:
    load()
    for _ in range(2):
        room.warehouse.replace("people", [])
        assert load() == [("policy.loaded", "people", {"rows": 0}, {"rows": 4})]


# Once, whatever dies


class Dies:
    """A warehouse in which whoever writes a table anew is killed, before or after."""

    def __init__(self, inner: Any, when: str) -> None:
        self._inner, self._when = inner, when

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def replace(self, table: str, rows: Any) -> None:
        if self._when == "after":
            self._inner.replace(table, rows)
        raise Killed


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_tick_that_dies_between_entry_and_load_says_it_once(
    load: Callable[..., list[Said]], room: Room, book: Book, when: str
) -> None:
    load()
    book.usd[("test", "ten")] = "20"
    with pytest.raises(Killed):
        load(warehouse=Dies(room.warehouse, when))
    audit_shipping.ship(room.warehouse, room.registry)
    load()
    load()
    audit_shipping.ship(room.warehouse, room.registry)
    sql = "SELECT action, COUNT(*) AS n FROM tally.audit_log WHERE subject LIKE '%prices' OR subject LIKE '%ten'"
    counted = {row["action"]: row["n"] for row in room.warehouse.query(f"{sql} GROUP BY action")}
    assert counted == {"policy.loaded": 2, "price.changed": 1}
    rows = room.warehouse.query("SELECT usd_per_million AS usd FROM tally.prices WHERE model = 'ten'")
    assert {row["usd"] for row in rows} == {Decimal(20)}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", [1, 2, 3, 6, 9])
def test_whichever_write_to_the_registry_fails_the_first_load_is_told_once(
    load: Callable[..., list[Said]], room: Room, write: int, when: str
) -> None:
    with pytest.raises(RegistryError):
        load(registry=Fails(room.registry, {write: when}))
    load()
    entries = [(entry.fields["action"], entry.fields["subject"]) for entry in room.registry.find(AUDIT)]
    assert len(entries) == len(set(entries)) == 5


def test_two_loads_at_once_say_it_once(load: Callable[..., list[Said]], room: Room, book: Book) -> None:
    load()
    book.usd[("test", "ten")] = "20"

    class Other(Fails):
        """Another tick loads the same between this one's look and its first write."""

        def put(self, collection: str, id: str, fields: Any, version: str | None = None) -> str:
            if not self.writes:
                load_reference(room.warehouse, room.registry, read_policy(room.policy_dir), NOON)
            return super().put(collection, id, fields, version)

    said = load(registry=Other(room.registry))
    assert [each[:2] for each in said] == [("policy.loaded", "prices"), ("price.changed", "test / ten")]


def test_no_secret_and_no_hash_of_a_key_is_ever_in_an_entry(load: Callable[..., list[Said]], room: Room) -> None:
    record = KeyRecord(key_id="k1", person="ada@example.com", team="Search", last4="9999", created_at=NOON)
    room.registry.put(keys.COLLECTION, f"{CANARY}-hash", record.document(), ANY)
    (room.policy_dir / "budgets.yaml").write_text(f"budgets:\n{BUDGETS}  - {{scope: key, name: k1, amount_usd: 5}}\n")
    load(channels=[Board(f"{CANARY}-hook")], dashboard_url=CANARY)
    for entry in room.registry.find(AUDIT):
        assert CANARY not in json.dumps(entry.fields)
        assert not re.search(r"9999|sk-", json.dumps(entry.fields))


# Pure


def test_entries_say_the_time_of_the_tick_and_who_speaks() -> None:
    budget = Budget(scope="company", amount_usd=Decimal(5))
    (entry,) = policy_changes.budget_changes({}, [budget], NOON + timedelta(hours=1))
    assert (entry.at, entry.actor, entry.origin) == (NOON + timedelta(hours=1), "policy", "tick")
    assert entry.after == audit.told(policy_changes.as_fields(budget))
    assert list(policy_changes.budget_changes({budget.key: policy_changes.as_fields(budget)}, [budget], NOON)) == []
