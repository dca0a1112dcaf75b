"""The rollup: the same answers as from the events themselves, whatever came late, twice or in another order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from governance import rollup
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.warehouse import WarehouseError
from tests.warehouse_rows import NOON, Row, event_row, price_rows, random_company, store

PRICES = (
    price_rows("anthropic", "sonnet", "3", "0.3", "3.75", "6", "15")
    + price_rows("anthropic", "sonnet", "2", "0.2", "2.5", "4", "10", valid_from=date(2026, 3, 5))
    + price_rows("openai", "gpt", "1.25", "0.125", "1.25", "1.25", "10")
    + price_rows("*", "*", "5", "0.5", "6.25", "10", "25", valid_from=date(1970, 1, 1))
)
MEASURES = """
COUNT(*) AS calls, COUNTIF(NOT superseded) AS requests, SUM(input_tokens) AS input_tokens,
SUM(cache_read_tokens) AS cache_read_tokens, SUM(output_tokens) AS output_tokens, SUM(cost_usd) AS cost_usd,
SUM(list_cost_usd) AS list_cost_usd"""
SUMS = ("calls", "requests", "input_tokens", "cache_read_tokens", "output_tokens", "cost_usd", "list_cost_usd")
SUMMED = ", ".join(f"SUM({name}) AS {name}" for name in SUMS)


@contextmanager
def opened(prices: list[Row] = PRICES) -> Iterator[DuckDBWarehouse]:
    warehouse = DuckDBWarehouse(":memory:")
    warehouse.apply_schema()
    warehouse.replace("prices", prices)
    yield warehouse
    warehouse.close()


def grouped(warehouse: DuckDBWarehouse, view: str, measures: str, keys: str) -> dict[tuple[Any, ...], Row]:
    rows = warehouse.query(f"SELECT {keys}, {measures} FROM tally.{view} GROUP BY {keys}")
    names = [name.strip() for name in keys.split(",")]
    return {tuple(row.pop(name) for name in names): row for row in rows}


KEYS = "day, team, key_kind, tool, route, provider, model, billing_mode, usage_source, price_source"


@pytest.mark.parametrize("seed", range(8))
def test_the_rollup_answers_as_the_events_do_in_any_order_of_refreshes(seed: int) -> None:
    company, dice = random_company(seed, events=250), random.Random(seed)
    rows = company["events"]
    dice.shuffle(rows)
    with opened(company["prices"]) as warehouse:
        while rows:  # some now, some later; the days in between are refreshed or not
            some = [rows.pop() for _ in range(min(len(rows), dice.randrange(1, 120)))]
            assert warehouse.append("events", some) == {}
            if dice.random() < 0.7:
                rollup.refresh(warehouse, dice.choice([rollup.BEGINNING, rollup.recent(datetime.now(UTC))]))
        rollup.refresh(warehouse)
        assert rollup.refresh(warehouse) == []
        raw = grouped(warehouse, "requests", MEASURES, KEYS)
        assert grouped(warehouse, "team_daily", SUMMED, KEYS) == raw
        own = grouped(warehouse, "requests", "SUM(cost_usd) AS cost_usd", "day, person, tool, provider, model, key_id")
        rolled = grouped(
            warehouse, "person_daily", "SUM(cost_usd) AS cost_usd", "day, person, tool, provider, model, key_id"
        )
        assert rolled == own


def test_only_days_whose_events_changed_are_made_anew() -> None:
    days = [NOON + timedelta(days=n) for n in range(4)]
    with opened() as warehouse:
        store(warehouse, [event_row(f"{n}", occurred_at=at) for n, at in enumerate(days)])
        late = event_row("late", received_at=NOON + timedelta(days=40), occurred_at=days[1])
        copy = event_row("3", received_at=NOON + timedelta(days=5), occurred_at=days[3])
        warehouse.append("events", [late, copy])
        assert rollup.refresh(warehouse) == [days[1].date(), days[3].date()]
        (row,) = warehouse.query("SELECT requests, duplicates, late_events FROM tally.data_freshness")
        assert row == {"requests": 5, "duplicates": 1, "late_events": 1}


def test_a_refresh_of_the_last_days_leaves_the_others_to_the_whole_one() -> None:
    now = datetime.now(UTC)
    old, new = now - timedelta(days=40), now - timedelta(days=1)
    with opened() as warehouse:
        warehouse.append("events", [event_row("old", occurred_at=old), event_row("new", occurred_at=new)])
        assert rollup.refresh(warehouse, rollup.recent(now)) == [new.date()]
        assert rollup.refresh(warehouse) == [old.date()]


def test_today_is_read_live_and_counted_once_when_it_is_rolled_up_too() -> None:
    with opened() as warehouse:
        warehouse.append("events", [event_row("now", occurred_at=datetime.now(UTC))])
        before = warehouse.query("SELECT requests, cost_usd FROM tally.daily_cost")
        rollup.refresh(warehouse)
        assert before == warehouse.query("SELECT requests, cost_usd FROM tally.daily_cost")
        assert before == [{"requests": 1, "cost_usd": Decimal("0.0030")}]  # at the prices since 5 March


def test_a_corrected_price_costs_all_of_history_anew_without_a_refresh() -> None:
    with opened() as warehouse:
        store(warehouse, [event_row("1", provider="openai", model="gpt"), event_row("2")])
        warehouse.replace("prices", price_rows("openai", "gpt", "2", "0.2", "2", "2", "20") + PRICES[:10])
        rows = warehouse.query("SELECT provider, cost_usd FROM tally.daily_cost ORDER BY provider")
        assert [row["cost_usd"] for row in rows] == [Decimal("0.0045"), Decimal("0.004")]


def test_a_rewrite_that_fails_changes_nothing() -> None:
    with opened() as warehouse:
        store(warehouse, [event_row("1")])
        before = warehouse.query("SELECT * FROM tally.team_rollup")
        for table, view, column in (
            ("team_rollup", "price_names", "day"),
            ("team_rollup", "nothing", "day"),
            ("team_rollup", "team_usage", "nothing"),
        ):
            with pytest.raises(WarehouseError):
                warehouse.rewrite(table, view, column, [NOON.date()])
        assert warehouse.query("SELECT * FROM tally.team_rollup") == before


# properties


def _event(number: int, drawn: tuple[int, ...]) -> Row:
    hour, kind, tokens, read, output = drawn
    provider, model = [("anthropic", "sonnet"), ("openai", "gpt"), ("openai", "new"), ("anthropic", None)][kind % 4]
    return event_row(
        f"{number}",
        occurred_at=NOON + timedelta(hours=hour),
        provider=provider,
        model=model,
        team=["Search", "Ads", None][hour % 3],
        tool=["codex", "claude-code"][tokens % 2],
        service_tier=["standard", "flex", None][output % 3],
        input_tokens=tokens,
        cache_read_tokens=read,
        output_tokens=output,
        billing_mode=["metered", "metered", "subscription"][read % 3],
    )


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 60), st.integers(0, 3), st.integers(0, 10**9), st.integers(0, 400_000), st.integers(0, 10**6)
    ),
    min_size=1,
    max_size=12,
)
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def totals(batches: Sequence[list[Row]]) -> Row:
    with opened() as warehouse:
        for batch in batches:
            store(warehouse, batch)
        (row,) = warehouse.query(f"SELECT {SUMMED} FROM tally.team_daily")
        return row


@SLOW
@given(EVENTS, st.randoms(use_true_random=False), st.integers(1, 4), st.integers(1, 3))
def test_permuting_splitting_and_replaying_events_leaves_every_total_unchanged(
    drawn: list[tuple[int, ...]], dice: random.Random, parts: int, replays: int
) -> None:
    rows = [_event(number, each) for number, each in enumerate(drawn)]
    again = [row | {"received_at": row["received_at"] + timedelta(hours=n)} for n in range(replays) for row in rows]
    dice.shuffle(again)
    assert totals([rows]) == totals([again[part::parts] for part in range(parts)])


@SLOW
@given(EVENTS, st.sets(st.sampled_from(KEYS.split(", "))))
def test_the_sum_over_any_grouping_equals_the_total_exactly(drawn: list[tuple[int, ...]], keys: set[str]) -> None:
    rows = [_event(number, each) for number, each in enumerate(drawn)]
    with opened() as warehouse:
        store(warehouse, rows)
        (whole,) = warehouse.query(f"SELECT {SUMMED} FROM tally.team_daily")
        by = ", ".join(sorted(keys))
        groups = warehouse.query(f"SELECT {SUMMED} FROM tally.team_daily" + (f" GROUP BY {by}" if by else ""))
        assert {name: sum(row[name] for row in groups) for name in SUMS} == whole
        (raw,) = warehouse.query(f"SELECT {MEASURES} FROM tally.requests")
        assert raw == whole


def test_todays_part_is_left_out_on_request_and_what_is_read_is_the_same() -> None:
    now = datetime.now(UTC)
    with opened() as warehouse:
        warehouse.append(
            "events", [event_row("1", occurred_at=now), event_row("2", occurred_at=now - timedelta(days=1))]
        )
        assert rollup.refresh(warehouse, today_too=False) == [now.date() - timedelta(days=1)]
        before = grouped(warehouse, "team_daily", "SUM(requests) AS requests", "day")
        assert rollup.refresh(warehouse) == [now.date()]
        assert grouped(warehouse, "team_daily", "SUM(requests) AS requests", "day") == before
        assert len(before) == 2
