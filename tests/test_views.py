"""The views of `sql/`: rows in, rows out, with numbers worked by hand."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from governance import prices
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.price_list import DATE_IN_NAME, THRESHOLDS
from governance.schema import read_views
from tests.warehouse_rows import NOON, TOKEN_KINDS, Row, event_row, person_row, price_rows, store

VIEWS = read_views()
TODAY = datetime.now(UTC).date()


@pytest.fixture
def warehouse() -> Iterable[DuckDBWarehouse]:
    opened = DuckDBWarehouse(":memory:")
    opened.apply_schema()
    opened.replace("prices", price_rows("anthropic", "sonnet", "3", "0.3", "3.75", "6", "15") + FALLBACK)
    yield opened
    opened.close()


FALLBACK = price_rows("*", "*", "5", "0.5", "6.25", "10", "25", valid_from=date(1970, 1, 1))


def one(warehouse: DuckDBWarehouse, sql: str, **params: Any) -> Row:
    (row,) = warehouse.query(sql, params)
    return row


# requests


def test_cost_is_tokens_times_price_by_hand(warehouse: DuckDBWarehouse) -> None:
    store(
        warehouse,
        [
            event_row(
                "1",
                input_tokens=1_000,  # at 3 $: 0.003
                cache_read_tokens=10_001,  # at 0.30 $: 0.0030003
                cache_write_5m_tokens=200,  # at 3.75 $: 0.00075
                cache_write_1h_tokens=7,  # at 6 $: 0.000042
                output_tokens=333,  # at 15 $: 0.004995
                reasoning_tokens=300,  # part of the output: nothing more
            )
        ],
    )
    row = one(warehouse, "SELECT cost_usd, list_cost_usd, price_source, day FROM tally.requests")
    assert row["cost_usd"] == row["list_cost_usd"] == Decimal("0.0117873")
    assert (row["price_source"], row["day"]) == ("book", NOON.date())


def test_cost_is_exact_for_every_model_and_modifier_of_the_book(warehouse: DuckDBWarehouse) -> None:
    warehouse.replace("prices", prices.rows_for_warehouse())
    dice = random.Random(7)
    book = {(row["provider"], row["model"]): row for row in prices.rows_for_warehouse()} | {("openai", "new"): {}}
    rows, expected = [], {}
    for number, (provider, model) in enumerate(sorted(book) * 4):
        counts: Row = {f"{kind}_tokens": dice.choice([0, 1, dice.randrange(10**6)]) for kind in TOKEN_KINDS}
        audio, searches = dice.randrange(counts["input_tokens"] + 1), dice.choice([0, dice.randrange(9)])
        tier, place = dice.choice(["standard", "flex", "priority", "fast", "batch"]), dice.choice(["", "us"])
        rows.append(
            event_row(
                f"n{number:04}", provider=provider, model=model, model_requested=None, service_tier=tier,
                residency=place, input_audio_tokens=audio, web_searches=searches, **counts,
            )
        )  # fmt: skip
        prompt = sum(counts.values()) - counts["output_tokens"]
        price = prices.usd_per_million(provider, model, NOON.date(), tier, place, prompt)
        million = sum(counts[f"{kind}_tokens"] * price[kind] for kind in TOKEN_KINDS)
        million += audio * (price["input_audio"] - price["input"]) + searches * price["web_search"]
        expected[f"event-n{number:04}"] = million / 10**6
    store(warehouse, rows)
    found = warehouse.query("SELECT event_id, cost_usd FROM tally.requests")
    assert {row["event_id"]: row["cost_usd"] for row in found} == expected


def test_the_views_and_the_price_book_agree_on_names_and_lengths() -> None:
    sql = {view.name: view.sql for view in VIEWS}
    assert tuple(map(int, re.findall(r"prompt_tokens > (\d+)", sql["events_once"]))) == THRESHOLDS[::-1]
    patterns = set(re.findall(r"REGEXP_REPLACE\([\w.]+, r'(.+?)', ''\)", sql["requests"]))
    assert patterns == {DATE_IN_NAME.pattern.replace("(?:", "(")}


def test_an_event_replayed_three_times_in_any_order_is_counted_once(warehouse: DuckDBWarehouse) -> None:
    dice = random.Random(3)
    rows = [event_row(f"n{n:04}", occurred_at=NOON + timedelta(hours=n), input_tokens=n) for n in range(200)]
    totals = "SELECT COUNT(*) AS n, SUM(input_tokens) AS input, SUM(cost_usd) AS cost_usd FROM tally.requests"
    store(warehouse, rows)
    before = one(warehouse, totals)
    for replay in range(1, 4):
        again = [row | {"received_at": row["received_at"] + timedelta(minutes=replay)} for row in rows]
        dice.shuffle(again)
        store(warehouse, again)
    assert one(warehouse, totals) == before == {"n": 200, "input": 19900, "cost_usd": Decimal("0.3597")}
    assert one(warehouse, "SELECT duplicates FROM tally.data_freshness") == {"duplicates": 600}


def test_of_two_copies_the_first_received_counts(warehouse: DuckDBWarehouse) -> None:
    late, early = NOON + timedelta(hours=2), NOON + timedelta(hours=1)
    store(warehouse, [event_row("1", late), event_row("1", early)])
    assert one(warehouse, "SELECT received_at FROM tally.requests") == {"received_at": early}


def test_an_unknown_model_costs_the_fallback_and_says_so(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [event_row("1", model="mystery", model_requested="mystery-latest")])
    row = one(warehouse, "SELECT cost_usd, price_source FROM tally.requests")
    assert row == {"cost_usd": Decimal("0.0075"), "price_source": "fallback"}  # 1000 at 5 $ and 100 at 25 $


def test_a_model_the_book_lacks_is_priced_as_the_one_asked_for(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [event_row("1", model="sonnet-20260304", model_requested="sonnet")])
    row = one(warehouse, "SELECT cost_usd, price_source FROM tally.requests")
    assert row == {"cost_usd": Decimal("0.0045"), "price_source": "book"}


def test_the_same_model_of_another_provider_has_another_price(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [event_row("1", provider="openrouter")])
    assert one(warehouse, "SELECT price_source FROM tally.requests") == {"price_source": "fallback"}


def test_a_request_without_tokens_has_no_price(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [event_row("1", input_tokens=0, output_tokens=0, usage_source="none", status="error")])
    row = one(warehouse, "SELECT cost_usd, price_source FROM tally.requests")
    assert row == {"cost_usd": 0, "price_source": "none"}


def test_tokens_without_any_price_are_told(warehouse: DuckDBWarehouse) -> None:
    warehouse.replace("prices", [])
    store(warehouse, [event_row("1")])
    assert one(warehouse, "SELECT price_source, cost_usd FROM tally.requests") == {
        "price_source": "missing",
        "cost_usd": 0,
    }
    assert one(warehouse, "SELECT unpriced_requests FROM tally.data_freshness") == {"unpriced_requests": 1}


def test_a_price_change_holds_from_the_first_moment_of_its_day(warehouse: DuckDBWarehouse) -> None:
    cheaper = price_rows("anthropic", "sonnet", "2", "0.3", "3.75", "6", "15", valid_from=date(2026, 3, 5))
    warehouse.replace("prices", price_rows("anthropic", "sonnet", "3", "0.3", "3.75", "6", "15") + cheaper)
    midnight, instant = datetime(2026, 3, 5, tzinfo=UTC), timedelta(microseconds=1)
    late = midnight + timedelta(days=3)  # when it came in does not matter
    for name, at in (("before", midnight - instant), ("at", midnight), ("after", midnight + instant)):
        store(warehouse, [event_row(f"{name}-the-change", late, occurred_at=at)])
    found = warehouse.query("SELECT cost_usd FROM tally.requests ORDER BY occurred_at")
    assert [row["cost_usd"] for row in found] == [Decimal("0.0045"), Decimal("0.0035"), Decimal("0.0035")]
    days = warehouse.query("SELECT day, cost_usd FROM tally.daily_cost ORDER BY day")
    assert [row["cost_usd"] for row in days] == [Decimal("0.0045"), Decimal("0.0070")]


def test_every_kind_and_modifier_has_its_own_price_by_hand(warehouse: DuckDBWarehouse) -> None:
    flex = price_rows(
        "anthropic", "sonnet", "1.5", "0.15", "1.875", "3", "7.5", service_tier="flex",
        more={"input_audio": "16", "output_audio": "32", "web_search": "10000"},
    )  # fmt: skip
    long = price_rows("anthropic", "sonnet", "6", "0.6", "7.5", "12", "22.5", context_above=200_000)
    american = price_rows("anthropic", "sonnet", "3.3", "0.33", "4.125", "6.6", "16.5", residency="us")
    plain = price_rows("anthropic", "sonnet", "3", "0.3", "3.75", "6", "15")
    warehouse.replace("prices", plain + flex + long + american + FALLBACK)
    cases: dict[str, tuple[Row, str]] = {
        "flex": ({"service_tier": "flex"}, "0.00225"),  # 1000 at 1.50 $, 100 at 7.50 $
        "sound": ({"service_tier": "flex", "input_audio_tokens": 400, "output_audio_tokens": 10}, "0.008295"),
        "searches": ({"service_tier": "flex", "web_searches": 3}, "0.03225"),  # and three at a cent
        "american": ({"residency": "us"}, "0.00495"),
        "long": ({"input_tokens": 1, "cache_read_tokens": 200_000}, "0.122256"),
        "just not long": ({"input_tokens": 0, "cache_read_tokens": 200_000}, "0.0615"),
        "an unknown tier": ({"service_tier": "priority"}, "0.0045"),
    }
    store(warehouse, [event_row(name, **fields) for name, (fields, _) in cases.items()])
    found = {row["event_id"]: row for row in warehouse.query("SELECT * FROM tally.requests")}
    assert {name: found[f"event-{name:0>4}"]["cost_usd"] for name in cases} == {
        name: Decimal(cost) for name, (_, cost) in cases.items()
    }
    sources = {name: found[f"event-{name:0>4}"]["price_source"] for name in cases}
    assert sources == dict.fromkeys(cases, "book") | {"an unknown tier": "approximate"}


def test_the_company_pays_its_contract_and_the_list_stays_beside_it(warehouse: DuckDBWarehouse) -> None:
    contract = price_rows("anthropic", "sonnet", "2.7", "0.27", "3.375", "5.4", "13.5", price_list="contract")
    warehouse.replace("prices", price_rows("anthropic", "sonnet", "3", "0.3", "3.75", "6", "15") + contract)
    store(warehouse, [event_row("1")])
    row = one(warehouse, "SELECT cost_usd, list_cost_usd FROM tally.requests")
    assert row == {"cost_usd": Decimal("0.00405"), "list_cost_usd": Decimal("0.0045")}


def test_what_the_provider_says_it_costs_is_what_it_costs(warehouse: DuckDBWarehouse) -> None:
    told = Decimal("0.000123456789012")
    store(warehouse, [event_row("1", provider="openrouter", model="a/b", provider_cost_usd=told)])
    row = one(warehouse, "SELECT cost_usd, list_cost_usd, price_source FROM tally.requests")
    assert row == {"cost_usd": told, "list_cost_usd": told, "price_source": "reported"}
    assert one(warehouse, "SELECT cost_usd FROM tally.daily_cost") == {"cost_usd": told}


def test_a_call_that_was_replaced_costs_and_is_no_request(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [event_row("1", superseded=True, status="error"), event_row("2")])
    row = one(warehouse, "SELECT requests, errors, cost_usd FROM tally.daily_cost")
    assert row == {"requests": 1, "errors": 0, "cost_usd": Decimal("0.009")}


def test_the_views_that_price_do_it_by_the_same_lines() -> None:
    def pricing(sql: str) -> str:
        return sql.partition("-- Pricing, from here")[2].partition("-- Pricing, to here")[0]

    found = {view.name: pricing(view.sql) for view in VIEWS if pricing(view.sql)}
    assert found.keys() == {"requests", "team_daily", "person_costs", "statements_repriced"}
    assert len(set(found.values())) == 1


def test_before_the_first_price_of_a_model_the_fallback_holds(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [event_row("1", occurred_at=datetime(2024, 12, 31, 23, 59, tzinfo=UTC))])
    assert one(warehouse, "SELECT price_source FROM tally.requests") == {"price_source": "fallback"}


def test_a_subscription_costs_nothing_and_keeps_its_list_cost(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [event_row("1", billing_mode="subscription")])
    row = one(warehouse, "SELECT cost_usd, list_cost_usd FROM tally.requests")
    assert row == {"cost_usd": 0, "list_cost_usd": Decimal("0.0045")}


# daily_cost, person_daily, person_requests


def test_daily_cost_adds_up_a_day(warehouse: DuckDBWarehouse) -> None:
    store(
        warehouse,
        [
            event_row("1", cache_write_5m_tokens=3, cache_write_1h_tokens=4, gateway_cost_usd=Decimal("0.01")),
            event_row("2", status="error", usage_source="counted", occurred_at=NOON + timedelta(hours=11)),
            event_row("3", occurred_at=NOON + timedelta(hours=12)),  # the next day
            event_row("4", team="Ads"),
        ],
    )
    row = one(warehouse, "SELECT * FROM tally.daily_cost WHERE day = @day AND team = 'Search'", day=NOON.date())
    last = NOON + timedelta(hours=11)
    assert row == {
        "day": NOON.date(),
        "team": "Search",
        "key_kind": "human",
        "tool": "claude_code",
        "provider": "anthropic",
        "model": "sonnet",
        "billing_mode": "metered",
        "requests": 2,
        "calls": 2,
        "used_calls": 2,
        "copies": 2,
        "late_events": 0,
        "unpriced_requests": 0,
        "fallback_cost_usd": 0,
        "last_at": last,
        "newest_received_at": last,
        "errors": 1,
        "counted_requests": 1,
        "input_tokens": 2000,
        "cache_read_tokens": 0,
        "cache_write_tokens": 7,
        "output_tokens": 200,
        "reasoning_tokens": 0,
        "cost_usd": Decimal("0.00903525"),  # 2 x 0.0045 + 3 at 3.75 $ + 4 at 6 $
        "list_cost_usd": Decimal("0.00903525"),
        "gateway_cost_usd": Decimal("0.01"),
    }


def test_a_person_sees_their_own_requests_and_no_service(warehouse: DuckDBWarehouse) -> None:
    store(
        warehouse,
        [event_row("1"), event_row("2", person="bob@example.com"), event_row("3", person=None, key_kind="service")],
    )
    own = {"person": "ann@example.com"}
    assert one(warehouse, "SELECT requests FROM tally.person_daily WHERE person = @person", **own) == {"requests": 1}
    row = one(warehouse, "SELECT event_id FROM tally.person_requests WHERE person = @person", **own)
    assert row == {"event_id": "event-0001"}
    assert one(warehouse, "SELECT COUNT(*) AS n FROM tally.person_requests") == {"n": 2}


# team_groups, group_daily_cost


def groups(warehouse: DuckDBWarehouse, **sizes: int) -> dict[str, tuple[str, int]]:
    people = [person_row(f"{team}{i}", team) for team, size in sizes.items() for i in range(size)]
    warehouse.replace("people", people)
    found = warehouse.query("SELECT team, shown_as, people FROM tally.team_groups")
    return {row["team"]: (row["shown_as"], row["people"]) for row in found}


def test_a_team_of_five_is_shown_and_smaller_ones_together(warehouse: DuckDBWarehouse) -> None:
    assert groups(warehouse, Ads=5, Core=4, Data=1) == {
        "Ads": ("Ads", 5),
        "Core": ("Small teams", 5),
        "Data": ("Small teams", 5),
    }


def test_the_next_smallest_team_joins_small_teams_that_are_too_few(warehouse: DuckDBWarehouse) -> None:
    assert groups(warehouse, Ads=9, Core=6, Data=3) == {
        "Ads": ("Ads", 9),
        "Core": ("Small teams", 9),
        "Data": ("Small teams", 9),
    }


def test_without_small_teams_every_team_is_shown(warehouse: DuckDBWarehouse) -> None:
    assert groups(warehouse, Ads=9, Core=5) == {"Ads": ("Ads", 9), "Core": ("Core", 5)}


def test_only_those_who_are_here_today_make_up_a_team(warehouse: DuckDBWarehouse) -> None:
    away = [
        person_row("left", "Ads", left_on=TODAY),
        person_row("leaves", "Ads", left_on=TODAY + timedelta(days=2)),
        person_row("comes", "Ads", joined_on=TODAY + timedelta(days=2)),
    ]
    here = [person_row(f"a{i}", "Ads") for i in range(4)] + [person_row(f"c{i}", "Core") for i in range(6)]
    warehouse.replace("people", away + here)
    rows = warehouse.query("SELECT team, people FROM tally.team_groups ORDER BY team")
    assert rows == [{"team": "Ads", "people": 5}, {"team": "Core", "people": 6}]


def test_pages_see_small_and_vanished_teams_only_together(warehouse: DuckDBWarehouse) -> None:
    store(
        warehouse,
        [
            event_row("1", team="Ads"),
            event_row("2", team="Data"),
            event_row("3", team="Renamed since"),
            event_row("4", team=None),
            event_row("5", team=None, person=None, key_kind="service"),
        ],
    )
    groups(warehouse, Ads=9, Core=6, Data=3)
    rows = warehouse.query("SELECT shown_as, requests, cost_usd FROM tally.group_daily_cost ORDER BY shown_as")
    assert rows == [
        {"shown_as": "Ads", "requests": 1, "cost_usd": Decimal("0.0045")},
        {"shown_as": "Services", "requests": 1, "cost_usd": Decimal("0.0045")},
        {"shown_as": "Small teams", "requests": 3, "cost_usd": Decimal("0.0135")},
    ]


# weekly_active


def test_weekly_active_counts_people_and_hides_fewer_than_five(warehouse: DuckDBWarehouse) -> None:
    monday = TODAY - timedelta(days=TODAY.weekday())
    last, before = (datetime.combine(monday - timedelta(weeks=n), datetime.min.time(), UTC) for n in (1, 3))
    warehouse.replace("people", [person_row(f"p{i}", "Ads") for i in range(8)])
    store(
        warehouse,
        [event_row(f"last-{i}", occurred_at=last, person=f"p{i % 6}@example.com") for i in range(12)]
        + [event_row(f"before-{i}", occurred_at=before, person=f"p{i}@example.com") for i in range(4)]
        + [
            event_row("no-output", occurred_at=last, person="p6@example.com", output_tokens=0),
            event_row("an-error", occurred_at=last, person="p6@example.com", status="error"),
            event_row("a-service", occurred_at=last, person="p6@example.com", key_kind="service"),
        ],
    )
    assert warehouse.query("SELECT * FROM tally.weekly_active ORDER BY week") == [
        {"week": monday - timedelta(weeks=3), "active_people": None, "roster_people": 8, "complete": True},
        {"week": monday - timedelta(weeks=2), "active_people": None, "roster_people": 8, "complete": True},
        {"week": monday - timedelta(weeks=1), "active_people": 6, "roster_people": 8, "complete": True},
        {"week": monday, "active_people": None, "roster_people": 8, "complete": False},
    ]


# data_freshness


def test_data_freshness_tells_how_sure_the_numbers_are(warehouse: DuckDBWarehouse) -> None:
    later = NOON + timedelta(minutes=1)
    store(
        warehouse,
        [
            event_row("1"),
            event_row("1", later),
            event_row("2", usage_source="counted", model="mystery", model_requested=None),
            event_row("3", usage_source="none", input_tokens=0, output_tokens=0),
        ],
    )
    shelved = {"shelved_at": NOON, "reason": "not JSON", "raw": b"{"}
    warehouse.append("shelved", [shelved | {"message_id": "m1"}, shelved | {"message_id": "m1"}, shelved])
    row = one(warehouse, "SELECT * FROM tally.data_freshness")
    assert row.pop("fallback_share") == pytest.approx(0.0075 / (0.0075 + 0.0045))
    assert row == {
        "newest_event_at": NOON,
        "newest_received_at": later,
        "requests": 3,
        "duplicates": 1,
        "counted_share": 0.5,
        "unpriced_requests": 0,
        "late_events": 0,
        "shelved": 2,
    }


def test_an_empty_warehouse_has_one_row_of_freshness_and_no_numbers(warehouse: DuckDBWarehouse) -> None:
    row = one(warehouse, "SELECT requests, newest_event_at, counted_share FROM tally.data_freshness")
    assert row == {"requests": 0, "newest_event_at": None, "counted_share": None}
    for view in VIEWS:
        if not view.name.startswith(("data_", "price_")):
            assert warehouse.query(f"SELECT * FROM tally.{view.name}") == []
