"""The decision of the gate, without a gateway: whose limits count, what went through since, and who has to agree."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance import gate, keys, prices
from governance.contract import read_contract
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.events import UsageEvent
from governance.gate import Granted, Limit, Trip
from governance.keys import KeyRecord
from governance.periods import PeriodKind, period_of
from governance.price_list import TIERS
from governance.registry import ANY, Document, RegistryError, SqliteRegistry
from proxy_service import gate_words
from proxy_service.gate import Seen, subjects_of, window_of
from proxy_service.gate_prices import cost_usd, open_book
from proxy_service.gatekeeper import Gatekeeper
from tests.limits import limit, next_moment, tell
from tests.warehouse_rows import event_row

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
RECORD = keys.new_record(
    "a key", "pepper", person="ada@example.com", team="Search", tags=("project=apollo", "cost_centre=4711")
)[1]
MODEL = "claude-opus-5-5"  # 20 USD for a million of output


class Breakable(SqliteRegistry):
    """A registry that can fall silent."""

    silent = False

    def get(self, collection: str, id: str) -> Document | None:
        if self.silent:
            raise RegistryError("silent")
        return super().get(collection, id)

    def put(self, collection: str, id: str, fields: Mapping[str, Any], version: str | None = None) -> str:
        if self.silent:
            raise RegistryError("silent")
        return super().put(collection, id, fields, version)


class Clock:
    """A time that stands where the test puts it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now.timestamp()


class House:
    """One registry, a clock, and two gateways' keepers on them."""

    def __init__(self, folder: Path) -> None:
        self.registry, self.clock = Breakable(folder / "registry.db"), Clock()
        self.keeper, self.other = (Gatekeeper(self.registry, prices.book(), 2.0, self.clock) for _ in range(2))

    def tell(self, *limits: Limit, **head: Any) -> None:
        tell(self.registry, *limits, **{"written_at": self.clock.now, "counted_through": self.clock.now, **head})
        self.look()

    def look(self) -> None:
        self.keeper.look()
        self.other.look()

    def spend(self, usd: int | str, keeper: Gatekeeper | None = None, **fields: Any) -> None:
        """An answer of that much, seen by one of the keepers a second later."""
        self.clock.now += timedelta(seconds=1)
        output = int(Decimal(usd) * 1_000_000 / 20)
        (keeper or self.keeper).saw(answered(self.clock.now, output_tokens=output, **fields), RECORD.tags)

    def refuses(self, keeper: Gatekeeper | None = None, **told: Any) -> list[str]:
        """The budgets that refuse a request of Ada's now."""
        asked: dict[str, Any] = {"record": RECORD, "model": MODEL, "provider": "anthropic", "tool": "claude-code"}
        verdict = (keeper or self.keeper).check(**{**asked, **told})
        return [each.limit.budget for each in verdict.refused_by]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def answered(at: datetime, **fields: Any) -> UsageEvent:
    about: dict[str, Any] = {
        "event_id": "event-0001", "request_id": "event-0001", "occurred_at": at, "person": RECORD.person,
        "team": RECORD.team, "key_id": RECORD.key_id, "tool": "claude-code", "route": "messages",
        "provider": "anthropic", "model": MODEL, "model_requested": MODEL, "status": "ok", "usage_source": "provider",
    }  # fmt: skip
    return UsageEvent(**{**about, **fields})


EVERY_SCOPE = [
    limit("company", now=NOW),
    limit("team", "Search", now=NOW),
    limit("person", "ada@example.com", now=NOW),
    limit("key", RECORD.key_id, now=NOW),
    limit("model", MODEL, now=NOW),
    limit("provider", "anthropic", now=NOW),
    limit("tool", "claude-code", now=NOW),
    limit("tag", "project=apollo", now=NOW),
    limit("tag", "cost_centre=4711", now=NOW),
]


@pytest.mark.parametrize("one", EVERY_SCOPE, ids=lambda each: each.budget)
def test_a_budget_of_any_scope_refuses_once_it_is_used_up_and_not_a_cent_before(house: House, one: Limit) -> None:
    house.tell(one)
    house.spend("9.99")
    assert house.refuses() == []
    house.spend("0.01")
    assert house.refuses() == [one.budget]


@pytest.mark.parametrize(
    "one",
    [
        limit("team", "Data", "99", now=NOW),
        limit("person", "bob@example.com", "99", now=NOW),
        limit("key", "another", "99", now=NOW),
        limit("model", "claude-opus-5", "99", now=NOW),
        limit("provider", "openai", "99", now=NOW),
        limit("tool", "codex", "99", now=NOW),
        limit("tag", "project=zeus", "99", now=NOW),
        limit("company", "", "99", blocks_at_usd=None, now=NOW),
    ],
    ids=lambda each: each.budget,
)
def test_other_peoples_budgets_and_budgets_that_warn_refuse_nothing(house: House, one: Limit) -> None:
    house.tell(one)
    assert house.refuses() == []


@pytest.mark.parametrize("name", [MODEL, f"anthropic/{MODEL}", f"{MODEL}-20261001", f"anthropic/{MODEL}@latest"])
def test_a_model_is_the_same_under_each_of_its_names(house: House, name: str) -> None:
    house.tell(limit("model", MODEL, "10", now=NOW))
    assert house.refuses(model=name) == [f"model-{MODEL}-month"]
    house.tell(limit("model", MODEL, now=NOW))
    house.spend(10, model=name.removeprefix("anthropic/"))
    assert house.refuses() == [f"model-{MODEL}-month"]


def test_each_persons_budget_counts_for_somebody_the_tick_has_not_seen_yet(house: House) -> None:
    house.tell(defaults=(limit("person", gate.ANYBODY, now=NOW),))
    house.spend(10)
    assert house.refuses() == ["person-month"]
    bob = RECORD.model_copy(update={"person": "bob@example.com", "key_id": "bobs"})
    assert house.refuses(record=bob) == []


def test_grace_lets_go_over_the_amount_and_no_further(house: House) -> None:
    house.tell(limit("team", "Search", "10", blocks_at_usd=Decimal(12), now=NOW))
    house.spend("1.99")
    assert house.refuses() == []
    house.spend("0.01")
    assert house.refuses() == ["team-Search-month"]


def test_of_several_that_refuse_the_one_that_lasts_longest_is_named_first(house: House) -> None:
    day, month = limit("team", "Search", "10", period="day", now=NOW), limit("company", "", "10", now=NOW)
    house.tell(day, month)
    assert house.refuses() == ["company-month", "team-Search-day"]


def test_what_a_tick_has_counted_is_not_counted_again(house: House) -> None:
    house.tell(limit("company", now=NOW))
    house.spend(6)
    house.tell(limit("company", "", "6", now=NOW))
    house.spend("3.99")
    assert house.refuses() == []
    house.tell(limit("company", "", "6", now=NOW), counted_through=house.clock.now - timedelta(seconds=1))
    house.spend("0.01")  # the tick had not seen the 3.99
    assert house.refuses() == ["company-month"]


def test_a_new_period_releases_by_the_clock_before_any_tick_and_begins_at_nothing(house: House) -> None:
    old = limit("company", "", "10", now=NOW)
    house.tell(old)
    house.clock.now = next_moment(old, -1)
    house.tell(old)
    house.spend(3)  # in the old month, by a hair: this is the second of its end
    assert house.refuses() == []
    house.clock.now = next_moment(old, 60)
    house.tell(limit("company", now=house.clock.now), counted_through=NOW)
    house.spend("9.99")
    assert house.refuses() == ["company-month"]  # 3 + 9.99: they came after the period had begun
    house.tell(limit("company", "", "3", now=house.clock.now), counted_through=house.clock.now)
    assert house.refuses() == []


def test_what_was_spent_before_the_period_does_not_count_in_it(house: House) -> None:
    old = limit("company", now=NOW)
    house.clock.now = next_moment(old, -60)
    house.tell(old)
    house.spend(9)
    house.clock.now = next_moment(old, 60)
    house.tell(limit("company", now=house.clock.now), counted_through=NOW)  # the tick has not counted the nine yet
    house.spend(5)
    assert house.refuses() == []
    house.spend(5)
    assert house.refuses() == ["company-month"]


def test_a_raise_lifts_at_once_and_only_as_far_as_it_goes(house: House) -> None:
    house.tell(limit("team", "Search", "10", now=NOW))
    assert house.refuses() == ["team-Search-month"]
    gate.grant(house.registry, Granted("r1", "team-Search-month", "Search", "2026-11", Decimal(5)))
    house.look()
    assert house.refuses() == []
    house.spend(5)
    assert house.refuses() == ["team-Search-month"]


def test_a_raise_lifts_what_this_process_had_stopped_by_its_own_count(house: House) -> None:
    house.tell(limit("team", "Search", now=NOW))
    house.spend(11)
    house.look()
    assert house.refuses() == house.refuses(house.other) == ["team-Search-month"]
    gate.grant(house.registry, Granted("r1", "team-Search-month", "Search", "2026-11", Decimal(2)))
    house.look()
    assert house.refuses() == house.refuses(house.other) == []


def test_the_other_gateways_hear_of_a_crossing_without_a_tick_and_though_nobody_asks_again(house: House) -> None:
    house.tell(limit("team", "Search", now=NOW))
    house.spend(10)
    house.look()
    assert house.refuses(house.other) == ["team-Search-month"]
    (trip,) = gate.tripped(house.registry)
    assert (trip.budget, trip.spent_usd) == ("team-Search-month", Decimal(10))


def test_a_trip_ends_when_a_tick_has_counted_further_and_found_less(house: House) -> None:
    house.tell(limit("team", "Search", now=NOW))
    house.spend(10)
    house.look()
    house.clock.now += timedelta(seconds=5)
    house.tell(limit("team", "Search", "9.50", now=NOW))
    assert house.refuses() == house.refuses(house.other) == []


def test_on_stale_data_what_is_blocked_stays_blocked_and_nothing_new_is(house: House) -> None:
    blocked, open_ = limit("team", "Search", "10", now=NOW), limit("company", now=NOW)
    house.tell(blocked, open_)
    gate.mark_stale(house.registry, house.clock.now)
    house.look()
    house.spend(99)
    assert house.refuses() == ["team-Search-month"]
    assert gate.tripped(house.registry) == ()


def test_a_block_by_ones_own_count_holds_when_data_grows_stale_after_it(house: House) -> None:
    house.tell(limit("company", now=NOW))
    house.spend(10)
    house.look()
    gate.mark_stale(house.registry, house.clock.now)
    house.look()
    assert house.refuses() == house.refuses(house.other) == ["company-month"]


def test_a_tick_that_is_late_is_stale_data_too_and_the_next_one_sets_it_right(house: House) -> None:
    house.tell(limit("company", now=NOW), counted_through=NOW)
    house.clock.now += timedelta(seconds=901)
    house.spend(10)
    assert house.refuses() == []
    house.tell(limit("company", now=NOW), counted_through=NOW)
    assert house.refuses() == ["company-month"]


def test_a_silent_registry_leaves_what_was_known_and_grows_stale(house: House) -> None:
    house.tell(limit("team", "Search", "10", now=NOW), limit("company", now=NOW))
    house.registry.silent = True
    house.look()
    assert house.refuses() == ["team-Search-month"]
    house.spend(10)
    house.look()
    assert house.refuses() == ["company-month", "team-Search-month"]
    house.registry.silent = False
    house.look()
    assert [trip.budget for trip in gate.tripped(house.registry)] == ["company-month"]  # told as soon as it can be
    assert not house.keeper.failures


def test_before_the_first_tick_nothing_is_blocked(house: House) -> None:
    house.look()
    house.spend(10**6)
    assert house.refuses() == []


def test_documents_that_cannot_be_read_leave_what_was_known(house: House) -> None:
    house.tell(limit("company", "", "10", now=NOW))
    house.registry.put(gate.GATE, gate.HEAD, {"written_at": "yesterday"}, ANY)
    house.look()
    assert house.refuses() == ["company-month"]


def test_subscriptions_and_refused_requests_count_nothing(house: House) -> None:
    house.tell(limit("company", now=NOW))
    house.spend(99, billing_mode="subscription")
    house.keeper.saw(answered(house.clock.now, status="refused", usage_source="none"))
    assert house.refuses() == []


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 10**6)), max_size=60), st.integers(0, 400))
def test_what_is_remembered_is_what_was_told_since_exactly(events: list[tuple[int, int]], through: int) -> None:
    seen, at = Seen(most=40), 0
    told: list[tuple[int, Decimal, int]] = []
    for gap, nanos in events:
        at += gap
        usd = Decimal(nanos).scaleb(-9)
        seen.add(at, at, usd, (("company", ""), ("team", f"t{nanos % 3}")))
        told = [*told, (at, usd, nanos % 3)][-40:]
    seen.forget(through)
    left = [each for each in told if each[0] > through]
    assert len(seen) == len(left)
    assert seen.spent(("company", ""), 0) == sum((usd for _, usd, _ in left), Decimal(0))
    assert seen.spent(("team", "t1"), 0) == sum((usd for _, usd, team in left if team == 1), Decimal(0))


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu", "Pacific/Kiritimati"]
)
@pytest.mark.parametrize("kind", ["day", "week", "month"])
def test_a_period_begins_where_the_companys_calendar_says_save_for_an_hour_where_clocks_were_changed_in_it(
    zone: str, kind: PeriodKind
) -> None:
    when = period_of(kind, NOW, ZoneInfo(zone))
    window = window_of(replace(limit("company", period=kind), period=when.key, ends_at=when.ends_at))
    assert window.ends_s == when.ends_at.timestamp()
    assert abs(window.starts_s - when.starts_at.timestamp()) == (
        3600 if (zone[:7], kind) == ("America", "month") else 0
    )


def test_a_key_without_person_and_team_has_the_companys_budgets_only() -> None:
    record = KeyRecord(key_id="k", last4="1234", created_at=NOW, kind="service")
    assert set(subjects_of(record, "openrouter/anthropic/claude-x", "openrouter", "other")) == {
        ("company", ""),
        ("key", "k"),
        ("provider", "openrouter"),
        ("tool", "other"),
        ("model", "openrouter/anthropic/claude-x"),
        ("model", "anthropic/claude-x"),
    }


PRICES = """
overrides:
  - {provider: openai, model: acme, valid_from: 2026-01-01, usd_per_million: {input: 0.4, output: 1.6}, why: ours}
discounts:
  - {provider: anthropic, model: "*", percent: 12.5, valid_from: 2026-02-01}
aliases:
  - {provider: anthropic, alias: company-default, model: claude-sonnet-5}
"""


def test_an_event_costs_here_what_the_warehouse_says_to_the_last_digit(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(PRICES)
    book = open_book(tmp_path)
    warehouse = DuckDBWarehouse(":memory:")
    warehouse.apply_schema()
    warehouse.replace("prices", prices.rows_for_warehouse(read_contract(tmp_path / "prices.yaml")))
    dice, rows = random.Random(11), []
    models = [*book.models, ("anthropic", "company-default"), ("openai", "acme"), ("openai", "unheard-of"), ("x", "y")]
    for number in range(400):
        provider, model = dice.choice(models)
        audio, said = dice.randrange(400), dice.randrange(400)
        rows.append(
            event_row(
                f"n{number:04}", provider=provider, model=dice.choice([model, model, f"{model}-2026-02-03", "unknown"]),
                model_requested=model, occurred_at=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=17 * number),
                service_tier=dice.choice([None, *TIERS]), residency=dice.choice([None, "us"]),
                input_tokens=dice.choice([1000, 250_000, 300_000]), input_audio_tokens=audio,
                input_image_tokens=dice.randrange(400), cache_read_tokens=dice.randrange(10**5),
                cache_write_5m_tokens=dice.randrange(99), cache_write_1h_tokens=dice.randrange(99),
                output_tokens=1000, output_audio_tokens=said, web_searches=dice.choice([0, 0, 3]),
                billing_mode=dice.choice(["metered"] * 4 + ["subscription"]),
                provider_cost_usd=dice.choice([None, None, None, Decimal("0.000123456789012345")]),
            )
        )  # fmt: skip
    assert warehouse.append("events", rows) == {}
    told = warehouse.query("SELECT event_id, cost_usd FROM tally.requests")
    ours = {
        row["event_id"]: cost_usd(UsageEvent(**{n: v for n, v in row.items() if n != "received_at"}), book)
        for row in rows
    }
    assert ours == {row["event_id"]: row["cost_usd"] for row in told}
    warehouse.close()


# ---- what is said ---------------------------------------------------------------------------------------------------


def said(house: House, *limits: Limit, route: Any = "messages") -> tuple[str, dict[str, str]]:
    house.tell(*limits)
    verdict = house.keeper.check(RECORD, MODEL, "anthropic", "claude-code")
    refusal = gate_words.refusal(verdict, house.clock.now, route)
    return refusal.message, {name.decode(): value.decode() for name, value in refusal.headers}


def test_a_refusal_names_whose_budget_how_much_until_when_and_whom_to_ask(house: House) -> None:
    text, headers = said(house, limit("team", "Search", "512.401", "500", now=NOW))
    assert text == (
        "Team Search's monthly budget is used up: 512.40 of 500.00 USD spent in November 2026. "
        "It resets on 1 December 2026 at 00:00 UTC. To go on before, ask for more: `/tally raise <dollars> <reason>` "
        "in Slack or `tally raise <dollars> <reason>`; lea@example.com decides."
    )
    assert headers["retry-after"] == "3600"  # a raise may come any minute
    assert headers["x-should-retry"] == "false"
    assert headers["x-tally-budget"] == "team-Search-month"
    assert headers["x-tally-budget-remaining-usd"] == "0.00"
    assert headers["x-tally-budget-resets-at"] == "2026-12-01T00:00:00Z"


def test_where_nobody_can_ask_for_a_raise_it_says_whom_to_ask(house: House) -> None:
    assert said(house, limit("model", MODEL, "10", now=NOW))[0].endswith("To go on before, ask lea@example.com.")
    assert said(house, limit("tool", "claude-code", "10", ask="", now=NOW))[0].endswith("ask whoever runs Tally.")


def test_a_refusal_near_the_end_of_the_period_says_how_many_seconds(house: House) -> None:
    one = limit("company", "", "10", now=NOW)
    house.clock.now = next_moment(one, -90)
    assert said(house, one)[1]["retry-after"] == "91"


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (limit("company", "", "10", period="day", now=NOW), "The company's daily budget is used up: 10.00 of 10.00 USD "
         "spent in the day of 24 November 2026. It resets on 25 November 2026"),
        (limit("person", "ada@example.com", "10", period="week", now=NOW), "ada@example.com's weekly budget is used "
         "up: 10.00 of 10.00 USD spent in week 48 of 2026. It resets on 30 November 2026"),
        (limit("key", RECORD.key_id, "10", now=NOW), "This key's monthly budget"),
        (limit("model", MODEL, "10", now=NOW), f"The monthly budget for the model {MODEL} is"),
        (limit("provider", "anthropic", "10", now=NOW), "The monthly budget for the provider anthropic is"),
        (limit("tool", "claude-code", "10", now=NOW), "The monthly budget for the tool claude-code is"),
        (limit("tag", "project=apollo", "10", now=NOW), "The monthly budget for project=apollo is"),
    ],
    ids=lambda each: each.scope if isinstance(each, Limit) else "",
)  # fmt: skip
def test_every_budget_has_words(house: House, one: Limit, words: str) -> None:
    assert said(house, one)[0].startswith(words)


def test_a_team_of_few_refuses_without_a_figure_and_shows_none_before(house: House) -> None:
    few = replace(limit("team", "Search", "9.5", now=NOW), hidden=True)
    house.tell(limit("company", "", "100", "1000", now=NOW), few)
    verdict = house.keeper.check(RECORD, MODEL, "anthropic", "codex")
    told = dict(gate_words.headers(verdict, "responses"))
    assert told[b"x-tally-budget"] == b"company-month"
    assert b"x-codex-primary-used-percent" not in told
    house.tell(replace(few, spent_usd=Decimal(12), blocked=True))
    verdict = house.keeper.check(RECORD, MODEL, "anthropic", "codex")
    refusal = gate_words.refusal(verdict, NOW, "responses")
    assert refusal.message.startswith("Team Search's monthly budget is used up. It resets on 1 December 2026")
    assert "12.00" not in repr((refusal.message, refusal.headers))


def test_a_name_that_no_header_can_bear_still_has_a_refusal(house: House) -> None:
    record = RECORD.model_copy(update={"team": "Größe\r\nx-evil: 1 Ж"})
    house.tell(limit("team", record.team or "", "10", now=NOW))
    verdict = house.keeper.check(record, MODEL, "anthropic", "codex")
    refusal = gate_words.refusal(verdict, NOW, "responses")
    assert "Größe" in refusal.message
    for _, value in refusal.headers:
        assert value.isascii()
        assert not set(value) & set(b"\r\n\0")


def test_answers_tell_how_much_is_left_of_the_limit_of_which_most_is_used(house: House) -> None:
    house.tell(limit("company", "", "100", "1000", now=NOW), limit("team", "Search", "5.005", now=NOW))
    verdict = house.keeper.check(RECORD, MODEL, "anthropic", "codex")
    assert dict(gate_words.headers(verdict, "responses")) == {
        b"x-tally-budget": b"team-Search-month",
        b"x-tally-budget-limit-usd": b"10.00",
        b"x-tally-budget-remaining-usd": b"4.99",
        b"x-tally-budget-resets-at": b"2026-12-01T00:00:00Z",
    }


def test_from_eighty_percent_on_codex_is_told_of_the_tightest_limit_that_blocks(house: House) -> None:
    warns = limit("company", "", "9.9", blocks_at_usd=None, now=NOW)
    house.tell(warns, limit("team", "Search", "7.99", period="week", now=NOW))
    assert house.keeper.check(RECORD, MODEL, "anthropic", "codex").refused_by == ()

    def codex() -> dict[bytes, bytes]:
        headers = dict(gate_words.headers(house.keeper.check(RECORD, MODEL, "anthropic", "codex"), "responses"))
        assert headers[b"x-tally-budget"] == b"company-month"
        return {name: value for name, value in headers.items() if name.startswith(b"x-codex")}

    assert codex() == {}
    house.spend("0.01")
    assert codex() == {
        b"x-codex-primary-used-percent": b"80.0",
        b"x-codex-primary-window-minutes": b"10080",
        b"x-codex-primary-reset-at": str(int(datetime(2026, 11, 30, tzinfo=UTC).timestamp())).encode(),
    }


def test_days_before_there_were_prices_do_not_fail_anything(house: House) -> None:
    house.tell(limit("company", now=NOW))
    house.keeper.saw(answered(datetime.combine(date(1969, 1, 1), NOW.timetz()), output_tokens=10))
    assert house.keeper.failures == 1
    assert house.refuses() == []


def test_trips_of_other_periods_and_of_smaller_sums_block_nothing(house: House) -> None:
    house.tell(limit("company", now=NOW))
    at = NOW + timedelta(seconds=5)
    gate.trip(house.registry, [Trip("company-month", "", "2026-10", Decimal(99), at)])
    gate.trip(house.registry, [Trip("company-month", "", "2026-11", Decimal("9.99"), at)])
    house.look()
    assert house.refuses() == []
