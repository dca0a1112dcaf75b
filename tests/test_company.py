"""The synthetic company is believable, and its past is the same however often it is told."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import Any

import pytest

from governance.events import UsageEvent
from governance.policy import Person, read_people
from governance.warehouse import open_warehouse
from local.billed_history import BYPASSED, MISPRICED, MISPRICED_FACTOR, bill_rows
from local.company import (
    DAYS,
    LAUNCH_DAY,
    PILOT_DAY,
    PILOT_TEAM,
    PILOT_WEEKS,
    PREVIEW,
    SERVICES,
    is_holiday,
    key_terms,
    members,
)
from local.history import draw_day, missing, seed
from local.ledger import Ledger
from tests.conftest import ROOT

NOW = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)
FIRST = NOW.date() - timedelta(days=DAYS)
PEOPLE = read_people(ROOT / "policy" / "people.csv")
KEY_IDS = {person.email: f"{number:012x}" for number, person in enumerate(PEOPLE)} | {name: name for name in SERVICES}
Row = dict[str, Any]


def prices(
    provider: str, model: str, day: date, tier: str, residency: str, prompt_tokens: int
) -> Mapping[str, Decimal]:
    """List prices of the kind the big models have."""
    kinds = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
    return dict(zip(kinds, map(Decimal, ("5", "0.5", "6.25", "10", "25")), strict=True))


@pytest.fixture(scope="module")
def past() -> list[Row]:
    """Ninety days of the whole company."""
    return [row for _, _, rows in missing(PEOPLE, KEY_IDS, None, None, NOW, prices) for row in rows]


@pytest.fixture(scope="module")
def by_day(past: list[Row]) -> dict[date, list[Row]]:
    days: dict[date, list[Row]] = defaultdict(list)
    for row in past:
        if row["person"]:
            days[row["occurred_at"].date()].append(row)
    return days


def test_the_past_is_as_long_as_it_should_be(past: list[Row]) -> None:
    assert 100_000 <= len(past) <= 200_000
    assert past[0]["occurred_at"].date() == FIRST
    assert past[-1]["occurred_at"] <= NOW


def test_every_row_is_an_event(past: list[Row]) -> None:
    for row in past[::97]:
        event = UsageEvent.model_validate({k: v for k, v in row.items() if k != "received_at"})
        assert event.row() == {k: v for k, v in row.items() if k != "received_at"}


def test_ids_are_unique(past: list[Row]) -> None:
    assert len({row["event_id"] for row in past}) == len(past)


def test_weekends_and_holidays_are_quiet(by_day: dict[date, list[Row]]) -> None:
    work = [len(rows) for day, rows in by_day.items() if day.weekday() < 5 and not is_holiday(day)][:-1]
    rest = [len(by_day.get(FIRST + timedelta(days=n), [])) for n in range(DAYS) if (FIRST + timedelta(n)).weekday() > 4]
    assert median(rest) < 0.15 * median(work)
    assert is_holiday(date(2026, 9, 7))
    assert len(by_day[date(2026, 9, 7)]) < 0.15 * median(work)
    assert is_holiday(date(2026, 11, 26))


def test_who_left_asks_no_more_and_who_joined_asks_only_then(past: list[Row]) -> None:
    people = {person.email: person for person in PEOPLE}
    for row in past:
        if row["person"]:
            assert people[row["person"]].is_here(row["occurred_at"].date()), row["person"]
    left = {person.email for person in PEOPLE if person.left_on and person.left_on > FIRST + timedelta(days=7)}
    assert left & {row["person"] for row in past}


def test_agents_read_most_of_their_prompts_from_the_cache(past: list[Row]) -> None:
    shares = []
    for row in past:
        prompt = row["input_tokens"] + row["cache_read_tokens"] + row["cache_write_5m_tokens"]
        if row["cache_read_tokens"]:
            shares.append(row["cache_read_tokens"] / prompt)
    assert min(shares) > 0.599
    assert max(shares) < 0.951
    assert 0.7 < median(shares) < 0.9


def test_completions_are_small_and_agents_are_not(past: list[Row]) -> None:
    editor = [row["input_tokens"] for row in past if row["tool"] == "openai-sdk" and row["status"] == "ok"]
    agent = [row["cache_read_tokens"] for row in past if row["tool"] == "claude-code" and row["cache_read_tokens"]]
    assert 900 < median(editor) < 1300  # e^7 = 1097
    assert median(agent) > 20 * median(editor)


def test_the_dearest_tenth_of_days_costs_what_heavy_use_costs(past: list[Row]) -> None:
    spent: Counter[tuple[str, date]] = Counter()
    for row in past:
        if row["person"]:
            cents = row["gateway_cost_usd"] or Decimal(0)
            spent[row["person"], row["occurred_at"].date()] += int(cents * 100)
    days = sorted(spent.values())
    assert 1_000 < days[len(days) * 9 // 10] < 4_000


def test_the_new_model_spreads_after_its_launch_and_not_before(past: list[Row]) -> None:
    shares = []
    for week in range(DAYS // 7):
        rows = [r["model"] for r in past if (r["occurred_at"].date() - FIRST).days // 7 == week]
        models = [model for model in rows if model in ("claude-opus-5", "claude-opus-5-5")]
        shares.append(models.count("claude-opus-5-5") / len(models))
    launch = LAUNCH_DAY // 7
    assert not any(shares[:launch])
    assert shares[launch] < shares[-1]
    assert shares[-1] > 0.8


def test_the_pilot_team_drops_off_after_three_weeks(past: list[Row]) -> None:
    days = [(r["occurred_at"].date() - FIRST).days for r in past if r["team"] == PILOT_TEAM]
    end = PILOT_DAY + 7 * PILOT_WEEKS
    during = sum(1 for day in days if PILOT_DAY <= day < end) / PILOT_WEEKS
    after = sum(1 for day in days if end <= day < end + 42) / 6
    assert min(days) >= PILOT_DAY
    assert after < 0.25 * during


def test_several_tools_and_two_services_are_seen(past: list[Row]) -> None:
    assert {"claude-code", "codex", "kimi-code", "openai-sdk", "anthropic-sdk"} == {row["tool"] for row in past}
    assert {row["key_id"] for row in past if row["key_kind"] == "service"} == set(SERVICES)
    assert all((row["person"] is None) == (row["key_kind"] == "service") for row in past)


def test_a_key_is_as_old_as_its_use_and_somebody_answers_for_a_services(past: list[Row]) -> None:
    terms = key_terms(PEOPLE, FIRST, NOW)
    assert terms.keys() == {person.email for person in PEOPLE} | SERVICES.keys()
    first: dict[str, datetime] = {}
    for row in past:
        first.setdefault(row["person"] or row["key_id"], row["occurred_at"])
    assert all(terms[name]["created_at"] <= at for name, at in first.items())
    never = [name for name in terms.keys() - first.keys() if not left(name)]
    assert never
    assert all(NOW - terms[name]["created_at"] < timedelta(days=30) for name in never)  # none of them is idle
    leads = {person.email: person.team for person in PEOPLE if person.role == "lead"}
    assert {name: leads[terms[name]["owner"]] for name in SERVICES} == SERVICES
    assert all(terms[name]["tags"] for name in SERVICES)


def left(email: str) -> bool:
    return any(person.left_on is not None for person in PEOPLE if person.email == email)


def test_nobodys_key_is_idle_in_the_beginning_but_of_some_who_dropped_the_pilot(past: list[Row]) -> None:
    used = {row["person"]: row["occurred_at"] for row in past if row["person"]}
    quiet = [email for email, at in used.items() if NOW - at > timedelta(days=30) and not left(email)]
    assert {person.team for person in PEOPLE if person.email in quiet} == {PILOT_TEAM}
    assert 1 <= len(quiet) <= 6


def test_a_day_is_the_same_each_time_it_is_drawn() -> None:
    company = members(PEOPLE, FIRST, KEY_IDS)
    day = FIRST + timedelta(days=40)
    assert draw_day(company, day, FIRST, prices) == draw_day(company, day, FIRST, prices)


def few() -> tuple[Person, ...]:
    return PEOPLE[:6]


def test_seeding_twice_adds_nothing_and_a_later_start_adds_only_what_is_missing() -> None:
    warehouse = open_warehouse("duckdb://:memory:")
    warehouse.apply_schema()
    told: list[tuple[int, int]] = []

    def count() -> int:
        return int(warehouse.query("SELECT COUNT(*) AS n FROM tally.events")[0]["n"])

    def start(now: datetime) -> int:
        return seed(warehouse, few(), KEY_IDS, now, prices, lambda done, days: told.append((done, days)))

    first = start(NOW)
    assert first == count() > 1_000
    assert told[-1] == (DAYS + 1, DAYS + 1)
    assert start(NOW) == 0
    later = start(NOW + timedelta(days=3))
    assert 0 < later < first / 10
    assert count() == first + later
    at_once = [r for _, _, rows in missing(few(), KEY_IDS, None, None, NOW, prices) for r in rows]
    assert len(at_once) == first
    ids = warehouse.query("SELECT COUNT(DISTINCT event_id) AS n FROM tally.events")[0]["n"]
    assert ids == first + later


def test_some_requests_are_on_other_terms_and_some_search_the_web(past: list[Row]) -> None:
    tiers = Counter(row["service_tier"] for row in past if row["status"] == "ok")
    assert {"standard", "flex", "priority", "fast"} == tiers.keys()
    assert tiers["standard"] > 0.9 * tiers.total()
    searched = [row for row in past if row["web_searches"]]
    assert {row["route"] for row in searched} == {"messages", "responses"}
    assert 0.005 < len(searched) / len(past) < 0.05


def test_a_model_that_no_price_book_knows_is_used_now_and_then(past: list[Row]) -> None:
    tried = [row for row in past if row["model"] == PREVIEW]
    assert 20 < len(tried) < len(past) / 100
    assert {row["gateway_cost_usd"] for row in tried} <= {Decimal(0), None}


@pytest.fixture(scope="module")
def billed(past: list[Row]) -> list[Row]:
    """The providers' bill for those ninety days."""
    return bill_rows(past, prices)


def cost(rows: Iterable[Row]) -> Decimal:
    return sum((Decimal(row["cost_usd"]) for row in rows), Decimal(0))


def test_the_gateways_part_of_the_bill_is_what_its_events_cost(past: list[Row], billed: list[Row]) -> None:
    asked = [row for row in past if row["usage_source"] != "none" and row["billing_mode"] == "metered"]
    ours = [row for row in billed if row["project"] == "gateway"]
    assert sum(row["requests"] for row in ours) == len(asked)
    kinds = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
    for kind in kinds:
        assert sum(row[f"{kind}_tokens"] for row in ours) == sum(row[f"{kind}_tokens"] for row in asked)
    exact = Decimal(0)
    for row in asked:
        book = prices(row["provider"], row["model"], row["occurred_at"].date(), row["service_tier"], "", 0)
        once = sum((row[f"{kind}_tokens"] * book[kind] for kind in kinds), Decimal(0)) / 1_000_000
        exact += once * (MISPRICED_FACTOR if (row["provider"], row["model"]) == MISPRICED else 1)
    assert cost(ours) == exact


def test_seven_per_cent_of_the_bill_went_past_the_gateway(billed: list[Row]) -> None:
    theirs = [row for row in billed if row["provider"] in BYPASSED]
    past_it = [row for row in theirs if row["project"] == "other"]
    assert len({row["api_key_id"] for row in past_it}) == 1
    assert Decimal("0.065") < cost(past_it) / cost(theirs) < Decimal("0.075")


def test_an_event_is_billed_the_same_however_often_the_past_is_drawn(past: list[Row], billed: list[Row]) -> None:
    assert bill_rows(past, prices) == billed
    assert len({row["request_id"] for row in billed}) == len(billed) < 10_000
    ledger = Ledger(price_list=prices)
    assert ledger.add(billed) == len(billed)
    assert ledger.add(billed[:50]) == 0


def test_requests_of_one_row_are_on_one_side_of_every_threshold(billed: list[Row]) -> None:
    for row in billed:
        of_all = row["input_tokens"] + row["cache_read_tokens"] + row["cache_write_5m_tokens"]
        assert row["prompt_tokens"] <= of_all <= row["prompt_tokens"] * row["requests"]
