"""Seats: the fee by day, the month of one seat, the plan as a group, and a team with them. Worked by hand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from governance.duckdb_warehouse import DuckDBWarehouse
from tests.warehouse_rows import Row, event_row, person_row, price_rows, store

JANUARY, FEBRUARY = date(2026, 1, 1), date(2026, 2, 1)
COST = Decimal("0.0045")  # of a request of event_row at the prices below


@pytest.fixture
def warehouse() -> Iterable[DuckDBWarehouse]:
    opened = DuckDBWarehouse(":memory:")
    opened.apply_schema()
    opened.replace("prices", price_rows("anthropic", "sonnet", "3", "0.3", "3.75", "6", "15"))
    yield opened
    opened.close()


def seat(name: str = "ann", fee: str = "100", valid_from: date = JANUARY, valid_to: date | None = FEBRUARY) -> Row:
    return {
        "person": f"{name}@example.com",
        "provider": "anthropic",
        "plan": "max",
        "usd_per_month": Decimal(fee),
        "valid_from": valid_from,
        "valid_to": valid_to,
    }


def use(name: str, on: date, person: str = "ann", **fields: Any) -> Row:
    given: dict[str, Any] = {"billing_mode": "subscription", **fields}
    at = datetime(on.year, on.month, on.day, 12, tzinfo=UTC)
    return event_row(name, occurred_at=at, person=f"{person}@example.com", **given)


def days(warehouse: DuckDBWarehouse) -> list[tuple[date, Decimal]]:
    rows = warehouse.query("SELECT day, fee_usd FROM tally.seat_days ORDER BY day")
    return [(row["day"], row["fee_usd"]) for row in rows]


def month(warehouse: DuckDBWarehouse, person: str = "ann") -> list[Row]:
    who = {"person": f"{person}@example.com"}
    return warehouse.query("SELECT * FROM tally.seat_months WHERE person = @person ORDER BY month, plan", who)


@pytest.mark.parametrize("fee", ["100", "20", "33.33", "0.01", "199.999999999", "0"])
@pytest.mark.parametrize("first", [JANUARY, FEBRUARY, date(2024, 2, 1), date(2026, 4, 1)])
def test_the_days_of_a_whole_month_add_up_to_the_fee_exactly(warehouse: DuckDBWarehouse, fee: str, first: date) -> None:
    after = (first + timedelta(days=31)).replace(day=1)
    warehouse.replace("seats", [seat(fee=fee, valid_from=first, valid_to=after)])
    found = days(warehouse)
    assert [day for day, _ in found] == [first + timedelta(days=i) for i in range((after - first).days)]
    assert sum(usd for _, usd in found) == Decimal(fee)
    assert max(usd for _, usd in found) - min(usd for _, usd in found) <= Decimal("0.000000001")


def test_a_seat_costs_from_its_first_day_and_not_on_the_day_it_is_given_up(warehouse: DuckDBWarehouse) -> None:
    warehouse.replace("seats", [seat(fee="31", valid_from=date(2026, 1, 30), valid_to=date(2026, 2, 2))])
    assert days(warehouse) == [
        (date(2026, 1, 30), Decimal(1)),
        (date(2026, 1, 31), Decimal(1)),
        (FEBRUARY, Decimal("1.107142857")),  # 31 / 28
    ]


def test_a_seat_that_is_still_held_costs_up_to_today_and_one_of_the_future_nothing(warehouse: DuckDBWarehouse) -> None:
    today = datetime.now(UTC).date()
    later = seat("bob", valid_from=today + timedelta(days=5), valid_to=None)
    warehouse.replace("seats", [seat(valid_from=today - timedelta(days=2), valid_to=None), later])
    assert len(days(warehouse)) in (3, 4)  # 4 past midnight
    assert days(warehouse)[-1][0] in (today, today + timedelta(days=1))


def test_a_month_of_a_seat_tells_fee_days_and_what_its_use_would_have_cost(warehouse: DuckDBWarehouse) -> None:
    warehouse.replace("seats", [seat(fee="0.0062")])
    metered = use("4", date(2026, 1, 6), billing_mode="metered")
    before = use("5", date(2025, 12, 31))  # the seat was not held yet
    other = use("6", date(2026, 1, 7), provider="openai")  # not this seat's provider
    store(warehouse, [use("1", date(2026, 1, 5)), use("2", date(2026, 1, 5)), use("3", date(2026, 1, 9))])
    store(warehouse, [metered, before, other])
    assert month(warehouse) == [
        {
            "month": JANUARY, "person": "ann@example.com", "provider": "anthropic", "plan": "max",
            "fee_usd": Decimal("0.0062"), "days": 31, "active_days": 2, "list_cost_usd": 3 * COST, "idle": False,
            "saved_usd": 3 * COST - Decimal("0.0062"),
        }
    ]  # fmt: skip


def test_a_seat_without_a_request_is_idle_and_saves_nothing(warehouse: DuckDBWarehouse) -> None:
    warehouse.replace("seats", [seat()])
    store(warehouse, [use("1", date(2026, 1, 5), person="bob")])
    (found,) = month(warehouse)
    assert (found["idle"], found["active_days"], found["saved_usd"]) == (True, 0, Decimal(-100))


def test_who_changes_the_plan_within_a_month_has_each_days_use_under_the_plan_of_the_day(
    warehouse: DuckDBWarehouse,
) -> None:
    middle = date(2026, 1, 16)
    warehouse.replace("seats", [seat(valid_to=middle), seat(fee="20", valid_from=middle) | {"plan": "pro"}])
    store(warehouse, [use("1", date(2026, 1, 15)), use("2", middle), use("3", middle)])
    found = {row["plan"]: (row["days"], row["list_cost_usd"]) for row in month(warehouse)}
    assert found == {"max": (15, COST), "pro": (16, 2 * COST)}


def test_use_under_two_plans_of_a_day_is_counted_once(warehouse: DuckDBWarehouse) -> None:
    warehouse.replace("seats", [seat(), seat(fee="20") | {"plan": "pro"}])
    store(warehouse, [use("1", date(2026, 1, 15))])
    assert {row["plan"]: row["list_cost_usd"] for row in month(warehouse)} == {"max": COST, "pro": 0}


def summary(warehouse: DuckDBWarehouse, seats: int, users: int) -> list[tuple[object, ...]]:
    names = [f"p{number}" for number in range(seats)]
    warehouse.replace("seats", [seat(name, fee="0.001") for name in names])
    store(warehouse, [use(f"{number}", date(2026, 1, 5), person=names[number]) for number in range(users)])
    found = warehouse.query("SELECT seats, fee_usd, list_cost_usd, idle_seats, below_fee_seats FROM tally.seat_summary")
    return [tuple(row.values()) for row in found]


@pytest.mark.parametrize(
    ("seats", "users", "idle"),
    [(5, 5, 0), (5, 0, 5), (10, 5, 5), (12, 5, 7)],
)
def test_a_plan_is_told_of_with_its_idle_seats(warehouse: DuckDBWarehouse, seats: int, users: int, idle: int) -> None:
    fees = seats * Decimal("0.001")
    assert summary(warehouse, seats, users) == [(seats, fees, users * COST, idle, idle)]


@pytest.mark.parametrize(("seats", "users"), [(6, 5), (9, 5), (6, 1), (9, 4), (5, 4)])
def test_one_to_four_people_are_never_counted_apart_nor_by_subtraction(
    warehouse: DuckDBWarehouse, seats: int, users: int
) -> None:
    ((_, _, _, idle, below),) = summary(warehouse, seats, users)
    assert (idle, below) == (None, None)


def test_a_plan_of_fewer_than_five_is_not_told_of(warehouse: DuckDBWarehouse) -> None:
    assert summary(warehouse, 4, 4) == []


def test_a_team_costs_its_requests_and_the_seats_of_its_people_of_today(warehouse: DuckDBWarehouse) -> None:
    people = [person_row("ann", "Ads"), person_row("bob", ""), person_row("eve", "Core")]
    warehouse.replace("people", people)
    warehouse.replace("seats", [seat("ann"), seat("bob", fee="20"), seat("gone", fee="3")])
    moved = use("1", date(2026, 1, 5), team="Search", billing_mode="metered")  # Ann was in Search then
    service = use("2", date(2026, 1, 5), team=None, billing_mode="metered", key_kind="service")
    store(warehouse, [moved, service, use("3", date(2026, 1, 6), team="Ads")])
    rows = warehouse.query("SELECT * FROM tally.team_cost ORDER BY team")
    assert rows == [
        {"month": JANUARY, "team": team, "metered_usd": metered, "seats_usd": seats, "cost_usd": metered + seats,
         "list_cost_usd": listed}
        for team, metered, seats, listed in [
            (None, COST, Decimal(23), COST),
            ("Ads", Decimal(0), Decimal(100), COST),
            ("Search", COST, Decimal(0), COST),
        ]
    ]  # fmt: skip
