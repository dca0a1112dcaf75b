"""Digests: in the morning, once, to whom they are for; no digest of nothing, nobody's use told to anybody else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from functions.alerts.digest_texts import Span
from functions.alerts.digests import digests, due
from functions.alerts.notices import Notice
from governance.budgets import Budget
from governance.company import AlertRules, Company
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.messages import Message
from governance.policy import Person, Policy
from governance.schema import read_tables, read_views
from governance.standings import Spent, Standing, standing
from tests.googlesql import Reference
from tests.warehouse_rows import Row, event_row, price_rows, store

MONDAY = datetime(2026, 11, 23, 8, 3, tzinfo=UTC)
BOTH = ("daily", "weekly")
_ids = iter(range(10**9))


def person(name: str, team: str, role: str = "engineer", left_on: date | None = None) -> Person:
    return Person(
        email=f"{name}@example.com", name=name, team=team, role=role, joined_on=date(2020, 1, 6), left_on=left_on
    )


PEOPLE = (
    *(person(f"s{n}", "Search") for n in range(7)),
    person("lea", "Search", "lead"),
    *(person(f"d{n}", "Data") for n in range(3)),
    person("dora", "Data", "lead"),
    person("fin", "Data", "finance"),
    person("amy", "Data", "admin"),
    person("gone", "Data", left_on=date(2026, 11, 1)),
)
POLICY = Policy(PEOPLE, ())


@pytest.fixture
def warehouse() -> Iterator[DuckDBWarehouse]:
    opened = DuckDBWarehouse(":memory:")
    opened.apply_schema()
    opened.replace("prices", price_rows("anthropic", "sonnet", *("10",) * 5))
    yield opened
    opened.close()


def used(usd: float, name: str | None, team: str | None, ago: int = 1, **fields: Any) -> Row:
    """A request that costs so much, so many days before Monday."""
    given = {
        "occurred_at": MONDAY.replace(hour=20) - timedelta(days=ago),
        "person": name and f"{name}@example.com",
        "team": team,
        "input_tokens": 0,
        "output_tokens": round(usd * 100_000),
    }
    return event_row(f"{next(_ids):08}", **given | fields)


def stood(spent: str, **budget: Any) -> Standing:
    given = Budget(**{"amount_usd": 100} | budget)
    return standing(given, Spent(Decimal(spent)), MONDAY)


def company() -> list[Row]:
    rows = [used(10 + n, f"s{n}", "Search", model_requested="opus") for n in range(6)]
    rows += [used(1, f"d{n}", "Data") for n in range(3)]
    return [*rows, used(50, None, None, key_kind="service", model="opus", tool="other"), used(7, "s0", "Search", ago=9)]


def by_name(notices: list[Notice]) -> dict[tuple[str, str], Message]:
    return {(notice.about, notice.period): notice.message for notice in notices}


# When


@pytest.mark.parametrize(
    ("now", "zone", "keys"),
    [
        (MONDAY.replace(hour=7, minute=59), "UTC", []),
        (MONDAY, "UTC", ["2026-11-22", "2026-W47"]),
        (MONDAY.replace(hour=13, minute=59), "UTC", ["2026-11-22", "2026-W47"]),
        (MONDAY.replace(hour=14, minute=0), "UTC", []),
        (MONDAY + timedelta(days=1), "UTC", ["2026-11-23"]),
        (MONDAY.replace(hour=15), "America/New_York", ["2026-11-22", "2026-W47"]),
        (MONDAY.replace(hour=12), "America/New_York", []),
        (datetime(2026, 11, 22, 23, 59, tzinfo=UTC), "Asia/Tokyo", []),  # 8:59 there, and the day has not ended in UTC
        (datetime(2026, 11, 23, 0, 0, tzinfo=UTC), "Asia/Tokyo", ["2026-11-22", "2026-W47"]),
        (datetime(2027, 1, 4, 8, 0, tzinfo=UTC), "UTC", ["2027-01-03", "2026-W53"]),
    ],
)  # fmt: skip
def test_digests_are_due_in_the_companys_morning_of_days_that_are_over(
    now: datetime, zone: str, keys: list[str]
) -> None:
    assert [span.key for span in due(now, ZoneInfo(zone), 8, BOTH)] == keys


def test_a_week_is_from_monday_to_sunday_and_each_kind_can_be_left_out() -> None:
    (week,) = due(MONDAY, ZoneInfo("UTC"), 8, ("weekly",))
    assert week == Span("2026-W47", date(2026, 11, 16), date(2026, 11, 22))
    assert [span.key for span in due(MONDAY, ZoneInfo("UTC"), 8, ("daily",))] == ["2026-11-22"]
    assert due(MONDAY, ZoneInfo("UTC"), 8, ()) == []


# What, and to whom


def test_finance_and_admins_read_of_the_company_and_of_no_person(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, company())
    standings = [
        stood("60", scope="company", amount_usd=1000),
        stood("120", scope="team", name="Search"),
        stood("99", scope="model", name="opus", action="block", amount_usd=50),
        stood("400", scope="person", name="s0@example.com"),
        stood("1", scope="tool", name="codex"),
    ]
    notices = by_name(digests(warehouse, POLICY, standings, MONDAY, dashboard_url="https://tally.example.com/"))
    message = notices["digest-company", "2026-11-22"]
    assert (message.to, message.private) == (("fin@example.com", "amy@example.com"), False)
    assert message.subject == "Tally: $128.00 on 22 November"
    assert message.text.splitlines() == [
        "The company used $128.00 on 22 November (UTC), in 10 requests.",
        "Most of it: sonnet $78.00, opus $50.00.",
        "9 people were active.",
        "Budget for November 2026: $60.00 of $1,000.00 (6%); at this pace about $78.75 by its end.",
        "Over or at risk: Team Search (over, November 2026), Model opus (blocked, November 2026).",
        "More: https://tally.example.com",
    ]
    week = notices["digest-company", "2026-W47"]
    assert "in the week from 16 November to 22 November (UTC), in 10 requests, $7.00 the week before." in week.text


def test_a_lead_reads_of_the_own_team_alone(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, company())
    standings = [stood("75", scope="team", name="Search"), stood("3", scope="team", name="Data")]
    notices = by_name(digests(warehouse, POLICY, standings, MONDAY))
    message = notices["digest-team-Search", "2026-11-22"]
    assert (message.to, message.private, message.audience) == (("lea@example.com",), True, "lead")
    assert "Team Search used $75.00" in message.text
    assert "Budget for November 2026: $75.00 of $100.00 (75%)" in message.text
    assert not any(word in message.text for word in ("Data", "@", "s0"))


def test_how_many_were_active_is_said_from_five_up_and_not_where_less_than_five_would_be_left(
    warehouse: DuckDBWarehouse,
) -> None:
    store(warehouse, company())
    notices = by_name(digests(warehouse, POLICY, [], MONDAY))
    assert "9 people were active" in notices["digest-company", "2026-11-22"].text
    assert "active" not in notices["digest-team-Search", "2026-11-22"].text  # six, and nine less six is three
    assert "active" not in notices["digest-team-Data", "2026-11-22"].text
    store(warehouse, [used(1, f"x{n}", "Core") for n in range(2)])
    notices = by_name(digests(warehouse, POLICY, [], MONDAY))
    assert "6 people were active" in notices["digest-team-Search", "2026-11-22"].text
    assert "active" not in notices["digest-team-Data", "2026-11-22"].text


def test_on_mondays_each_person_reads_of_the_own_week_and_what_is_left(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [*company(), used(2, "s0", "Search", ago=3, tool="codex"), used(9, "gone", "Data")])
    standings = [
        replace(stood("30", scope="person", amount_usd=40), name=f"{name}@example.com") for name in ("s0", "s1")
    ]
    notices = by_name(digests(warehouse, POLICY, standings, MONDAY, dashboard_url="https://t.example.com"))
    message = notices["digest-s0@example.com", "2026-W47"]
    assert (message.to, message.private, message.audience) == (("s0@example.com",), True, "person")
    assert message.text.splitlines() == [
        "Your keys used $12.00 in the week from 16 November to 22 November, in 2 requests with claude_code, codex. "
        "Only you are told.",
        "Of your budget for November 2026, $10.00 of $40.00 is left.",
        "Each request: https://t.example.com/my_usage",
    ]
    people = {about for about, period in notices if "@" in about}
    assert people == {f"digest-{name}@example.com" for name in [*(f"s{n}" for n in range(6)), "d0", "d1", "d2"]}
    assert not [about for about, period in notices if "@" in about and period == "2026-11-22"]


def test_there_is_no_digest_of_nothing_and_none_by_late_data(warehouse: DuckDBWarehouse) -> None:
    assert digests(warehouse, POLICY, [], MONDAY) == []
    store(warehouse, [used(5, "s0", "Search", ago=2)])
    assert {(notice.about, notice.period) for notice in digests(warehouse, POLICY, [], MONDAY)} == {
        ("digest-company", "2026-W47"), ("digest-team-Search", "2026-W47"), ("digest-s0@example.com", "2026-W47"),
    }  # fmt: skip
    assert digests(warehouse, POLICY, [], MONDAY, stale=True) == []


def test_a_company_may_want_none(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, company())
    quiet = Policy(PEOPLE, (), company=Company(alerts=AlertRules(digests=())))
    assert digests(warehouse, quiet, [], MONDAY) == []


def test_the_names_stay_the_same_while_they_are_tried(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, company())
    first = set(by_name(digests(warehouse, POLICY, [], MONDAY)))
    store(warehouse, [used(500, "s1", "Search", ago=0)])
    assert set(by_name(digests(warehouse, POLICY, [], MONDAY + timedelta(hours=5)))) == first


def test_bigquery_would_accept_every_statement_and_nothing_is_asked_at_other_hours() -> None:
    google = Reference()
    for table in read_tables():
        google.add(table.name, [(field.name, field.type) for field in table.fields], [])
    for view in read_views():
        columns, _ = google.query(view.sql)
        google.add(view.name, columns, [])

    class Overheard(DuckDBWarehouse):
        def query(self, sql: str, params: Any = None) -> list[dict[str, Any]]:
            google.analyse(sql, params)
            asked.append(sql)
            return super().query(sql, params)

    asked: list[str] = []
    listening = Overheard(":memory:")
    listening.apply_schema()
    digests(listening, POLICY, [], MONDAY.replace(hour=16))
    assert asked == []
    digests(listening, POLICY, [], MONDAY)
    assert len(asked) == 5
    listening.close()
