"""What counts against a budget: exactly the calls between the period's two midnights on the company's own clock."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from functions.alerts.evaluation import few_behind, key_budgets, stand
from functions.alerts.spending import Spending, parameters, spending_at
from functions.alerts.spending_sql import statement
from governance.budgets import Budget
from governance.company import DEFAULTS
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.gate import Granted, granted_sums
from governance.keys import KeyBudget, KeyRecord
from governance.periods import KINDS, period_of
from governance.policy import Person, Policy
from governance.standings import Spent
from tests.googlesql import Reference
from tests.warehouse_rows import Row, random_company

ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Los_Angeles")
COLUMNS = [
    ("day", "DATE"),
    *((name, "STRING") for name in ("person", "team", "key_id", "tool", "provider", "model")),
    ("cost_usd", "BIGNUMERIC"),
]
_DATED = re.compile(r"[-@](latest|20[0-9]{2}-?[0-9]{2}-?[0-9]{2})$")


@contextmanager
def filled(seed: int) -> Iterator[DuckDBWarehouse]:
    warehouse = DuckDBWarehouse(":memory:")
    warehouse.apply_schema()
    for table, rows in random_company(seed, events=250).items():
        warehouse.append(table, rows)
    yield warehouse
    warehouse.close()


def counted(requests: list[Row], now: datetime, zone: ZoneInfo) -> dict[tuple[str, str, str], Decimal]:
    """The same sums, call by call."""
    sums: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for kind in KINDS:
        period = period_of(kind, now, zone)
        for row in requests:
            if period.starts_at <= row["occurred_at"] < period.ends_at:
                for scope in ("team", "person", "key", "model", "provider", "tool"):
                    name = row["key_id" if scope == "key" else scope]
                    if name is not None:
                        name = _DATED.sub("", name) if scope == "model" else name
                        sums[kind, scope, name] += row["cost_usd"]
                sums[kind, "company", ""] += row["cost_usd"]
    return sums


@pytest.mark.parametrize("seed", range(4))
def test_every_sum_is_that_of_the_calls_themselves_in_every_time_zone(seed: int) -> None:
    dice = random.Random(seed)
    with filled(seed) as warehouse:
        requests = warehouse.query("SELECT * FROM tally.requests")
        for zone in ZONES:
            now = datetime.now(UTC) - timedelta(days=dice.randrange(40), seconds=dice.randrange(86_400))
            found = spending_at(warehouse, now, ZoneInfo(zone))
            assert {key: spent.usd for key, spent in found.sums.items()} == counted(requests, now, ZoneInfo(zone))


def test_persons_and_keys_are_left_out_where_no_budget_asks_for_them() -> None:
    with filled(1) as warehouse:
        found = spending_at(warehouse, datetime.now(UTC), ZoneInfo("UTC"), persons=False, keys=False)
        assert {scope for _, scope, _ in found.sums} == {"company", "team", "model", "provider", "tool"}


@pytest.mark.parametrize(("seed", "zone"), [(2, "UTC"), (3, "Asia/Kathmandu")])
def test_googlesql_gives_the_same_rows(seed: int, zone: str) -> None:
    now = datetime.now(UTC)
    periods = {kind: period_of(kind, now, ZoneInfo(zone)) for kind in KINDS}
    given, sql = parameters(periods), statement(persons=True, keys=True, edges=True)
    with filled(seed) as warehouse:
        google = Reference()
        for view in ("team_daily", "person_costs", "requests"):
            rows = warehouse.query(f"SELECT * FROM tally.{view}")
            google.add(view, [*COLUMNS, *([("occurred_at", "TIMESTAMP")] if view == "requests" else [])], rows)
        _, wanted = google.query(sql, given)
        rows = warehouse.query(sql, given)

    def plain(listed: list[dict[str, Any]]) -> dict[tuple[str, ...], tuple[Any, ...]]:
        return {
            (row["period"], row["scope"], row["name"]): (
                row["cost_usd"],
                *(f"{row[name]:.9g}" for name in ("squares", "weekdays_usd")),  # sums of floats, in any order
            )
            for row in listed
        }

    assert plain(rows) == plain(wanted)
    assert len(rows) > 20


# Which budgets those sums are held against

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


def budgets(*listed: Budget) -> Policy:
    return Policy((), listed)


def spending(**sums: str) -> Spending:
    """month, by `scope__name`."""
    periods = {kind: period_of(kind, NOW, DEFAULTS.zone) for kind in KINDS}
    named = {tuple(name.split("__")): Decimal(usd) for name, usd in sums.items()}
    return Spending(periods, {("month", *name): Spent(usd) for name, usd in named.items()})  # type: ignore[misc]


def budget(scope: Any, name: str | None, amount: str, **more: Any) -> Budget:
    return Budget(scope=scope, name=name, amount_usd=Decimal(amount), **more)


def test_each_persons_budget_is_judged_for_everybody_who_spent_and_a_named_one_takes_its_place() -> None:
    policy = budgets(budget("person", None, "100", action="block"), budget("person", "ada", "500"))
    stood = stand(policy, (), spending(person__ada="450", person__bob="120"), {}, NOW)
    assert [(s.budget.key, s.name, s.blocked, s.crossed) for s in stood] == [
        ("person-month", "bob", True, (80, 100)),
        ("person-ada-month", "ada", False, (80,)),
    ]


def test_a_named_budget_of_a_day_leaves_each_persons_of_the_month_alone() -> None:
    policy = budgets(budget("person", None, "100"), budget("person", "ada", "9", period="day"))
    stood = stand(policy, (), spending(person__ada="85"), {}, NOW)
    assert [(s.budget.key, s.name) for s in stood] == [("person-month", "ada"), ("person-ada-day", "ada")]


def test_a_keys_own_budget_and_the_tags_of_keys_are_judged_by_what_the_keys_spent() -> None:
    own = KeyBudget(amount_usd=Decimal(10), period="month", action="block")
    keys = [
        KeyRecord(key_id="k1", last4="aaaa", created_at=NOW, tags=("project=apollo",), budget=own),
        KeyRecord(key_id="k2", last4="bbbb", created_at=NOW, tags=("project=apollo", "cost_centre=1")),
    ]
    assert [b.key for b in key_budgets(keys)] == ["key-k1-month"]
    policy = budgets(budget("tag", "project=apollo", "20"), budget("tag", "project=gemini", "20"))
    stood = stand(policy, keys, spending(key__k1="12", key__k2="7"), {}, NOW)
    assert [(s.budget.key, s.spent_usd, s.blocked) for s in stood] == [
        ("tag-project=apollo-month", Decimal(19), False),
        ("tag-project=gemini-month", Decimal(0), False),
        ("key-k1-month", Decimal(12), True),
    ]


def test_what_was_granted_counts_for_its_period_and_subject_alone_and_somebody_granted_more_is_judged() -> None:
    policy = budgets(budget("person", None, "100", action="block"))
    granted = [
        Granted("1", "person-month", "ada", "2026-11", Decimal(50)),
        Granted("2", "person-month", "ada", "2026-10", Decimal(999)),
        Granted("3", "person-month", "eve", "2026-11", Decimal(5)),
    ]
    stood = stand(policy, (), spending(person__ada="120", person__bob="120"), granted_sums(granted), NOW)
    assert {s.name: (s.limit_usd, s.blocked) for s in stood} == {
        "ada": (Decimal(150), False), "bob": (Decimal(100), True), "eve": (Decimal(105), False),
    }  # fmt: skip


def test_a_team_or_tag_of_fewer_than_five_people_is_hidden_and_a_services_tag_is_not() -> None:
    def person(number: int, team: str, left_on: date | None = None) -> Person:
        email = f"p{number}@example.com"
        return Person(email=email, name="P", team=team, role="engineer", joined_on=date(2020, 1, 6), left_on=left_on)

    people = [person(n, "Five") for n in range(5)] + [person(n, "Four") for n in range(5, 9)]
    people.append(person(9, "Four", date(2026, 1, 1)))  # has left
    keys = [
        KeyRecord(key_id=f"k{n}", last4="aaaa", created_at=NOW, person=f"p{n}@example.com", tags=tags)
        for n, tags in enumerate([("a=5",)] * 4 + [("a=5", "a=1")])
    ]
    keys.append(KeyRecord(key_id="s", last4="aaaa", created_at=NOW, kind="service", tags=("a=service",)))
    few = few_behind(Policy(tuple(people), ()), keys, NOW.date())
    assert few == {("team", "Four"), ("tag", "a=1")}
