"""Closed months: frozen as reported, with every later change beside them and its reason. Rows in, rows out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from functions.alerts import months
from governance.duckdb_warehouse import DuckDBWarehouse
from tests.warehouse_rows import Row, event_row, price_rows, store

OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
CLOSING = datetime(2026, 11, 5, 6, tzinfo=UTC)
LIST = price_rows("anthropic", "sonnet", "3", "0.3", "3.75", "6", "15")


@dataclass(frozen=True)
class TrueUp:
    month: date
    provider: str
    team: str | None
    amount_usd: Decimal
    note: str


@pytest.fixture
def warehouse() -> Iterable[DuckDBWarehouse]:
    opened = DuckDBWarehouse(":memory:")
    opened.apply_schema()
    opened.replace("prices", LIST)
    yield opened
    opened.close()


def request(name: str, on: date, **fields: Any) -> Row:
    return event_row(name, occurred_at=datetime(on.year, on.month, on.day, 12, tzinfo=UTC), **fields)


def entries(warehouse: DuckDBWarehouse) -> dict[tuple[date, str], Decimal]:
    rows = warehouse.query(
        "SELECT month, entry, SUM(cost_usd) AS cost_usd FROM tally.monthly_cost GROUP BY month, entry"
    )
    return {(row["month"], row["entry"]): row["cost_usd"] for row in rows}


def test_a_month_is_closed_when_its_day_has_come_and_only_once(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [request("a", date(2026, 9, 30)), request("b", OCTOBER), request("c", NOVEMBER)])
    early = datetime(2026, 11, 4, 23, 59, tzinfo=UTC)
    assert months.close(warehouse, early, 5) == [date(2026, 9, 1)]
    assert months.close(warehouse, CLOSING, 5) == [OCTOBER]
    assert months.close(warehouse, CLOSING, 5) == []
    one = Decimal("0.0045")
    assert entries(warehouse) == {
        (date(2026, 9, 1), "statement"): one,
        (OCTOBER, "statement"): one,
        (NOVEMBER, "open"): one,
    }


@pytest.mark.parametrize(
    ("now", "before"),
    [
        (datetime(2026, 11, 4, tzinfo=UTC), date(2026, 10, 1)),
        (datetime(2026, 11, 5, tzinfo=UTC), date(2026, 11, 1)),
        (datetime(2027, 1, 1, tzinfo=UTC), date(2026, 12, 1)),
        (datetime(2027, 1, 5, tzinfo=UTC), date(2027, 1, 1)),
        (datetime(2026, 2, 28, tzinfo=UTC), date(2026, 2, 1)),
    ],
)
def test_a_month_can_be_closed_from_the_closing_day_of_the_next_one_on(now: datetime, before: date) -> None:
    assert months.closable_before(now, 5) == before


def test_a_wrong_price_corrected_later_moves_the_open_month_and_adjusts_the_closed_one(
    warehouse: DuckDBWarehouse,
) -> None:
    store(warehouse, [request("october", OCTOBER), request("november", NOVEMBER)])
    months.close(warehouse, CLOSING, 5)
    assert months.post(warehouse, (), CLOSING) == 0
    warehouse.replace("prices", price_rows("anthropic", "sonnet", "4", "0.3", "3.75", "6", "20"))
    assert months.post(warehouse, (), CLOSING) == 1
    assert months.post(warehouse, (), CLOSING) == 0  # the next tick sees nothing new
    assert entries(warehouse) == {
        (OCTOBER, "statement"): Decimal("0.0045"),  # as it was reported
        (OCTOBER, "price"): Decimal("0.0015"),  # 1000 tokens a dollar dearer, 100 five dollars
        (NOVEMBER, "open"): Decimal("0.0060"),
    }
    (posted,) = warehouse.query("SELECT month, team, model, reason, cost_usd FROM tally.adjustment_ledger")
    assert posted == {
        "month": OCTOBER, "team": "Search", "model": "sonnet", "reason": "price", "cost_usd": Decimal("0.0015"),
    }  # fmt: skip


def test_a_correction_taken_back_is_posted_back(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [request("october", OCTOBER)])
    months.close(warehouse, CLOSING, 5)
    dearer = price_rows("anthropic", "sonnet", "4", "0.3", "3.75", "6", "20")
    for prices in (dearer, LIST, dearer, LIST):
        warehouse.replace("prices", prices)
        assert months.post(warehouse, (), CLOSING) == 1
    found = warehouse.query("SELECT cost_usd FROM tally.adjustment_ledger ORDER BY cost_usd")
    assert [row["cost_usd"] for row in found] == [Decimal("-0.0015")] * 2 + [Decimal("0.0015")] * 2


def test_a_late_event_of_a_closed_month_is_an_adjustment_at_todays_price(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [request("october", OCTOBER)])
    months.close(warehouse, CLOSING, 5)
    store(warehouse, [request("late", date(2026, 10, 31))])
    warehouse.replace("prices", price_rows("anthropic", "sonnet", "4", "0.3", "3.75", "6", "20"))
    assert months.post(warehouse, (), CLOSING) == 2
    assert entries(warehouse) == {
        (OCTOBER, "statement"): Decimal("0.0045"),
        (OCTOBER, "price"): Decimal("0.0015"),  # of what was reported
        (OCTOBER, "late_event"): Decimal("0.0060"),  # of what was not
    }


def test_a_late_event_of_a_team_that_had_none_is_an_adjustment_too(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [request("october", OCTOBER)])
    months.close(warehouse, CLOSING, 5)
    store(warehouse, [request("late", OCTOBER, team=None, person=None, key_kind="service", model=None)])
    assert months.post(warehouse, (), CLOSING) == 1
    assert months.post(warehouse, (), CLOSING) == 0
    (posted,) = warehouse.query("SELECT team, key_kind, reason, cost_usd FROM tally.adjustment_ledger")
    assert (posted["team"], posted["key_kind"], posted["reason"]) == (None, "service", "late_event")


def test_a_true_up_to_the_bill_is_posted_once_with_its_note(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [request("october", OCTOBER)])
    months.close(warehouse, CLOSING, 5)
    true_up = TrueUp(OCTOBER, "anthropic", None, Decimal("-12.34"), "Credit note 7")
    assert months.post(warehouse, [true_up], CLOSING) == 1
    assert months.post(warehouse, [true_up], CLOSING) == 0
    assert entries(warehouse)[OCTOBER, "reconciliation"] == Decimal("-12.34")


def test_two_ticks_that_post_the_same_change_count_it_once(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [request("october", OCTOBER)])
    months.close(warehouse, CLOSING, 5)
    warehouse.replace("prices", price_rows("anthropic", "sonnet", "4", "0.3", "3.75", "6", "20"))
    months.post(warehouse, (), CLOSING)
    copy = warehouse.query("SELECT * FROM tally.adjustments")
    warehouse.append("adjustments", copy)
    assert entries(warehouse)[OCTOBER, "price"] == Decimal("0.0015")
    assert months.post(warehouse, (), CLOSING) == 0


def test_a_price_change_in_the_middle_of_a_month_is_right_to_the_event(warehouse: DuckDBWarehouse) -> None:
    cheaper = price_rows("anthropic", "sonnet", "2", "0.3", "3.75", "6", "15", valid_from=date(2026, 10, 16))
    warehouse.replace("prices", LIST + cheaper)
    second = datetime(2026, 10, 15, 23, 59, 59, tzinfo=UTC)
    late = datetime(2026, 11, 2, tzinfo=UTC)
    store(warehouse, [event_row("old", occurred_at=second), request("new", date(2026, 10, 16))])
    store(warehouse, [event_row("old-late", late, occurred_at=second), request("new-late", date(2026, 10, 16))])
    months.close(warehouse, CLOSING, 5)
    assert entries(warehouse) == {(OCTOBER, "statement"): 2 * Decimal("0.0045") + 2 * Decimal("0.0035")}
    assert months.post(warehouse, (), CLOSING) == 0
