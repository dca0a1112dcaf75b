"""Data health and the books: the views with numbers worked by hand, and what the pages make of their rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from governance import rollup
from governance.duckdb_warehouse import DuckDBWarehouse
from streamlit_app import books, health, wording
from tests.warehouse_rows import Row, event_row, person_row, price_rows, store

NOW = datetime.now(UTC).replace(microsecond=0)
TODAY = NOW.date()
YESTERDAY = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC) - timedelta(days=1)
SECOND = timedelta(seconds=1)
PRICES = price_rows("anthropic", "sonnet", "3", "0.3", "3.75", "6", "15")
FALLBACK = price_rows("*", "*", "5", "0.5", "6.25", "10", "25")


@pytest.fixture
def warehouse() -> Iterable[DuckDBWarehouse]:
    opened = DuckDBWarehouse(":memory:")
    opened.apply_schema()
    opened.replace("prices", PRICES + FALLBACK)
    yield opened
    opened.close()


def at(when: datetime, name: str, lag_s: float = 5, **fields: Any) -> Row:
    """An event that was stored `lag_s` after it took place."""
    return event_row(name, when + lag_s * SECOND, occurred_at=when, **fields)


def checks(warehouse: DuckDBWarehouse) -> dict[str, Row]:
    return {row["name"]: row for row in warehouse.query("SELECT * FROM tally.data_checks")}


def status(warehouse: DuckDBWarehouse, name: str) -> tuple[float | None, str]:
    row = checks(warehouse)[name]
    return row["value"], row["status"]


# data_lag


def test_lag_is_told_by_day_and_a_second_copy_does_not_count(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [at(YESTERDAY, f"{n}", lag_s=n) for n in range(1, 22)])  # 1 to 21 seconds
    store(warehouse, [at(YESTERDAY, "1", lag_s=90_000), at(YESTERDAY - timedelta(days=1), "late", lag_s=7_200)])
    store(warehouse, [at(YESTERDAY - timedelta(days=8), "long ago")])
    assert warehouse.query("SELECT * FROM tally.data_lag ORDER BY day") == [
        {
            "day": YESTERDAY.date() - timedelta(days=1),
            "events": 1,
            "late_events": 1,
            "lag_p50_s": 7200.0,
            "lag_p95_s": 7200.0,
            "lag_max_s": 7200.0,
        },
        {
            "day": YESTERDAY.date(),
            "events": 21,
            "late_events": 0,
            "lag_p50_s": 11.0,
            "lag_p95_s": 20.0,
            "lag_max_s": 21.0,
        },
    ]


# data_by_route


def test_only_metered_calls_with_the_providers_usage_are_compared(warehouse: DuckDBWarehouse) -> None:
    told = Decimal("0.004")
    store(
        warehouse,
        [
            at(YESTERDAY, "1", gateway_cost_usd=told),  # ours: 1000 at 3 $ and 100 at 15 $, 0.0045
            at(YESTERDAY, "2", gateway_cost_usd=told, usage_source="counted"),
            at(YESTERDAY, "3", gateway_cost_usd=told, billing_mode="subscription"),
            at(NOW, "4", gateway_cost_usd=told, status="error"),
            at(YESTERDAY - timedelta(days=30), "old", gateway_cost_usd=told),
        ],
    )
    assert warehouse.query("SELECT * FROM tally.data_by_route") == [
        {
            "provider": "anthropic",
            "model": "sonnet",
            "route": "messages",
            "calls": 4,
            "compared_calls": 2,
            "counted_share": 0.25,
            "ours_usd": Decimal("0.009"),
            "gateway_usd": Decimal("0.008"),
            "difference_usd": Decimal("0.001"),
        }
    ]


# data_shelved, data_unattributed


def test_a_shelved_message_counts_once_however_often_it_came(warehouse: DuckDBWarehouse) -> None:
    one = {"shelved_at": NOW, "message_id": "m1", "reason": "not JSON", "raw": b"?"}
    warehouse.append("shelved", [one, one | {"shelved_at": NOW + SECOND}, one | {"message_id": None}])
    assert warehouse.query("SELECT * FROM tally.data_shelved") == [
        {
            "day": TODAY,
            "reason": "not JSON",
            "messages": 2,
            "deliveries": 3,
            "first_at": NOW,
            "last_at": NOW + SECOND,
        }
    ]


def test_calls_of_nobody_are_found_and_services_need_no_person(warehouse: DuckDBWarehouse) -> None:
    store(
        warehouse,
        [
            at(YESTERDAY, "somebody's"),
            at(YESTERDAY, "a service", person=None, key_kind="service"),
            at(YESTERDAY, "lacks both", person=None, team=None),
            at(NOW, "no person", person=None),
            at(NOW, "no team", person=None, team=None, key_kind="service"),
        ],
    )
    found = warehouse.query("SELECT day, reason, calls FROM tally.data_unattributed ORDER BY day, reason")
    assert found == [
        {"day": YESTERDAY.date(), "reason": "no person", "calls": 1},
        {"day": TODAY, "reason": "no person", "calls": 1},
        {"day": TODAY, "reason": "no team", "calls": 1},
    ]


# data_checks


def test_a_warehouse_without_faults_passes_every_check(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [at(NOW, "1", gateway_cost_usd=Decimal("0.0045")), at(YESTERDAY, "2")])
    found = checks(warehouse)
    assert min(found.values(), key=lambda row: row["place"])["name"] == "Fresh"
    warned = {name: row["status"] for name, row in found.items() if row["status"] != "ok"}
    assert warned == {"As the gateway says": "warn", "As the bill says": "none", "Alerts arrive": "none"}


def test_an_empty_warehouse_has_nothing_to_look_at(warehouse: DuckDBWarehouse) -> None:
    found = checks(warehouse)
    assert {row["status"] for row in found.values()} == {"none", "ok"}
    assert health.passed(list(found.values())) == (1, 1)  # no message was unreadable
    assert health.result(found["Fresh"]["value"], "seconds") == wording.NOTHING


def test_each_fault_has_its_check(warehouse: DuckDBWarehouse) -> None:
    warehouse.replace("prices", PRICES + FALLBACK + price_rows("anthropic", "gift", "0", "0", "0", "0", "0"))
    store(
        warehouse,
        [
            at(NOW - timedelta(days=2), "1", lag_s=7_200),
            at(NOW - timedelta(days=2), "2", usage_source="counted"),
            at(NOW - timedelta(days=2), "3", model="mystery", model_requested="mystery"),
            at(NOW - timedelta(days=2), "4", model="gift", model_requested="gift", person=None),
            at(NOW - timedelta(days=2), "4", lag_s=6, model="gift", model_requested="gift", person=None),
        ],
    )
    warehouse.append("shelved", [{"shelved_at": NOW, "message_id": "m1", "reason": "not JSON", "raw": b"?"}])
    assert status(warehouse, "Fresh")[1] == "fail"
    assert status(warehouse, "On time") == (0.25, "fail")
    assert status(warehouse, "Usage from the provider") == (0.25, "fail")
    assert status(warehouse, "In the price book") == (1.0, "warn")
    assert status(warehouse, "Nothing is free") == (1.0, "warn")
    assert status(warehouse, "Somebody pays") == (0.25, "fail")
    assert status(warehouse, "Delivered once") == (0.2, "warn")
    assert status(warehouse, "Read, not shelved") == (1.0, "warn")
    warehouse.replace("prices", [])
    assert status(warehouse, "Priced at all") == (4.0, "fail")


def test_a_rollup_that_is_behind_is_noticed_until_it_is_refreshed(warehouse: DuckDBWarehouse) -> None:
    warehouse.append("events", [at(YESTERDAY, f"{n}") for n in range(4)])
    assert status(warehouse, "Rollup equals events") == (1.0, "fail")
    rollup.refresh(warehouse)
    assert status(warehouse, "Rollup equals events") == (0.0, "ok")


def test_the_bill_has_its_check(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [at(YESTERDAY, "1")])  # 0.0045 $
    line = {
        "provider": "anthropic",
        "day": YESTERDAY.date(),
        "model": "sonnet",
        "fetched_at": NOW,
    }
    warehouse.append(
        "bills",
        [
            line | {"report": "usage", "token_kind": "input", "quantity": 1000, "fetch_id": "u"},
            line | {"report": "cost", "token_kind": "input", "amount_usd": Decimal("0.005"), "fetch_id": "c"},
        ],
    )
    value, said = status(warehouse, "As the bill says")
    assert said == "fail"
    assert value == pytest.approx(0.1)  # 0.0005 of 0.005


# deliveries


def attempt(number: int, state: str, ago: timedelta, channel: str = "mail", **fields: Any) -> Row:
    """One attempt at the same message."""
    row: Row = {
        "delivery_id": f"d-{channel}", "about": "company-month", "period": "2026-11", "threshold": 80,
        "audience_kind": "all", "channel": channel, "state": state, "attempt": number,
        "reason": None if state == "sent" else f"answered {500 + number}", "tried_at": NOW - ago,
    }  # fmt: skip
    return row | fields


def test_a_channel_fails_until_it_has_taken_a_message_again(warehouse: DuckDBWarehouse) -> None:
    hour = timedelta(hours=1)
    warehouse.append("deliveries", [attempt(1, "failed", 30 * hour), attempt(2, "failed", 2 * hour)] * 2)
    assert status(warehouse, "Alerts arrive") == (1.0, "fail")
    (row,) = warehouse.query("SELECT * FROM tally.data_deliveries")
    assert row == {
        "channel": "mail", "sent": 0, "failed": 2, "unreachable": 0, "failed_24h": 1, "last_sent_at": None,
        "last_failed_at": NOW - 2 * hour, "last_reason": "answered 502", "failing": True,
    }  # fmt: skip
    assert warehouse.query("SELECT * FROM tally.alerts_sent") == []
    warehouse.append("deliveries", [attempt(3, "sent", hour), attempt(9, "unreachable", 0 * hour, about="other")])
    assert status(warehouse, "Alerts arrive") == (0.0, "ok")
    (row,) = warehouse.query("SELECT failing, last_sent_at, unreachable FROM tally.data_deliveries")
    assert row == {"failing": False, "last_sent_at": NOW - hour, "unreachable": 1}


def test_a_message_is_one_row_by_channel_however_many_heard_it(warehouse: DuckDBWarehouse) -> None:
    minute = timedelta(minutes=1)
    sent = [
        attempt(1, "failed", 9 * minute, delivery_id="lead"),
        attempt(2, "sent", 8 * minute, delivery_id="lead"),
        attempt(1, "sent", 7 * minute, delivery_id="person"),
        attempt(1, "sent", 7 * minute, "slack"),
    ]
    warehouse.append("deliveries", sent + sent[1:2])
    said = warehouse.query("SELECT channel, audiences, attempts, first_at, last_at FROM tally.alerts_sent")
    assert sorted(said, key=lambda row: row["channel"]) == [
        {
            "channel": "mail",
            "audiences": 2,
            "attempts": 3,
            "first_at": NOW - 8 * minute,
            "last_at": NOW - 7 * minute,
        },
        {"channel": "slack", "audiences": 1, "attempts": 1, "first_at": NOW - 7 * minute, "last_at": NOW - 7 * minute},
    ]


# group_chargeback


def test_small_teams_are_folded_and_cost_centres_keep_their_name(warehouse: DuckDBWarehouse) -> None:
    people = [
        person_row(f"{team}{n}", team) for team, size in (("Ads", 6), ("Core", 4), ("Data", 3)) for n in range(size)
    ]
    warehouse.replace("people", people)
    warehouse.replace("teams", [{"team": "Data", "cost_centre": "Research"}])
    store(
        warehouse,
        [
            at(YESTERDAY, "1", team="Ads"),
            at(YESTERDAY, "2", team="Core"),
            at(YESTERDAY, "3", team="Data"),
            at(YESTERDAY, "4", team=None),
            at(YESTERDAY, "5", team=None, person=None, key_kind="service"),
        ],
    )
    rows = warehouse.query("SELECT cost_centre, entry, requests, cost_usd FROM tally.group_chargeback")
    assert sorted((row["cost_centre"], row["entry"], row["requests"], row["cost_usd"]) for row in rows) == [
        ("Ads", "open", 1, Decimal("0.0045")),
        ("Research", "open", 1, Decimal("0.0045")),
        ("Services", "open", 1, Decimal("0.0045")),
        ("Small teams", "open", 2, Decimal("0.009")),
    ]


# what the pages make of it


def test_a_result_is_said_as_a_person_would() -> None:
    assert health.result(64.4, "seconds") == "64\u00a0seconds"
    assert health.result(7_200, "seconds") == "2\u00a0hours"
    assert health.result(0.0002, "share") == "<0.1%"
    assert health.result(1, "calls") == "1\u00a0call"
    assert health.result(1_200, "messages") == "1,200\u00a0messages"


def test_the_causes_add_up_to_the_gap() -> None:
    bill = dict.fromkeys(health.CAUSES, Decimal("1.5"))
    found = health.causes([bill, bill | {"timing_usd": Decimal(-3)}])
    assert [row["cause"] for row in found] == list(health.CAUSES.values())
    assert sum(row["usd"] for row in found) == Decimal("13.5")
    assert health.gap_share(Decimal(0), Decimal(0)) is None
    assert health.gap_share(Decimal(200), Decimal(-1)) == -0.005


OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)


def line(month: date, centre: str, entry: str, cost: str, requests: int = 0) -> Row:
    return {
        "month": month,
        "cost_centre": centre,
        "provider": "anthropic",
        "entry": entry,
        "requests": requests,
        "cost_usd": Decimal(cost),
        "list_cost_usd": Decimal(cost),
    }


def test_a_month_is_its_statement_what_was_added_and_its_seats() -> None:
    rows = [
        line(OCTOBER, "R&D", "statement", "100", 7),
        line(OCTOBER, "R&D", "late_event", "2.5"),
        line(OCTOBER, "R&D", "price", "-1"),
        line(OCTOBER, "Sales", "seats", "40"),
        line(NOVEMBER, "R&D", "open", "12", 3),
    ]
    (newest, november), (_, october) = books.months(rows)
    assert (newest, november.closed, november.total_usd) == (NOVEMBER, False, Decimal(12))
    assert (october.name, october.closed, october.requests) == ("October 2026", True, 7)
    assert (october.use_usd, october.adjustments_usd, october.seats_usd) == (Decimal(100), Decimal("1.5"), Decimal(40))
    assert october.total_usd == Decimal("141.5")
    first, second = books.cost_centres(rows, OCTOBER)
    assert (first.name, first.total_usd, first.changes_usd["price"]) == ("R&D", Decimal("101.5"), Decimal(-1))
    assert (second.name, second.closed, second.total_usd) == ("Sales", True, Decimal(40))
    assert first.total_usd + second.total_usd == october.total_usd


def test_an_export_of_charges_names_no_small_team() -> None:
    groups = [
        {"team": "Ads", "shown_as": "Ads"},
        {"team": "Core", "shown_as": "Small teams"},
        {"team": "", "shown_as": "Small teams"},
    ]

    def charge(team: str, centre: str) -> Row:
        price = f"anthropic/sonnet/all|statement|2026-10-02|{team}"
        return {
            "SubAccountId": team,
            "SubAccountName": team,
            "Tags": f'{{"cost_centre": "{centre}"}}',
            "SkuPriceId": price,
            "BilledCost": Decimal(1),
        }

    rows = [charge("Ads", "Ads"), charge("Core", "Core"), charge("Core", "R&D"), charge("Gone", "Gone")]
    made = books.folded([*rows, charge("Services", "Services"), charge("No team", "No team")], groups)
    assert [row["SubAccountName"] for row in made] == [
        "Ads", "Small teams", "Small teams", "Small teams", "Services", "Small teams",
    ]  # fmt: skip
    assert made[2]["Tags"] == '{"cost_centre": "R&D"}'
    assert not {word for row in made for word in ("Core", "Gone") if word in str(row)}
