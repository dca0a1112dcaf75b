"""The gap between a provider's bill and ours is split into what it comes from, and the parts add up to it exactly.

A simulated company: rows in the warehouse on one side, the simulated providers' reports on the other, read by the real
reader over loopback. What each cause is truly worth is summed request by request, as the company is drawn.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from functions.bills.reading import Room, read_bills
from governance import prices, rollup
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.policy import read_policy
from local.billed_history import MISPRICED, MISPRICED_FACTOR, bill_rows
from local.company import members
from local.history import draw_day
from local.ledger import cost_usd, list_prices, prices_of
from local.wire.turn import Terms, Tokens
from tests.billing import PRICES, Provider, charge, day_before, price_list, provider
from tests.conftest import ROOT
from tests.warehouse_rows import event_row, price_rows, store

CAUSES = ("bypass", "price", "unpriced", "cache", "counted", "timing")
KINDS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
GATEWAY: Mapping[str, tuple[str, ...]] = {"openai": ("proj_gateway",), "anthropic": ("wrkspc_gateway",)}
OF_OPENAI = ("gpt", "gpt-small", "embed")
FALLBACK = ("5", "0.5", "6.25", "10", "25")
WRONG = Decimal("0.4")  # our book has this share of the true price of one model
SHARES = {"opus": 30, "haiku": 20, "gpt": 30, "gpt-small": 12, "embed": 7, "mystery": 1}  # of the requests
NEVER = date(2026, 1, 1)  # prices do not change here
DAYS = 8
Truth = dict[str, Decimal]


def book() -> list[dict[str, Any]]:
    """Our price book: right for all models but one, which is far too cheap, and one that it lacks."""
    rows = price_rows("*", "*", *FALLBACK)
    for model, true in PRICES.items():
        if model == "mystery":
            continue
        long = 272_000 if model in OF_OPENAI else 200_000
        for tier, residency, above in itertools.product(("standard", "flex"), ("", "us"), (0, long)):
            factor = (
                (Decimal("0.5") if tier == "flex" else 1) * (Decimal("1.1") if residency else 1) * (2 if above else 1)
            )
            told = [str(true[kind] * factor * (WRONG if model == "gpt-small" else 1)) for kind in KINDS]
            about: dict[str, Any] = {"service_tier": tier, "residency": residency, "context_above": above}
            rows += price_rows(who(model), model, *told, more={"web_search": "10000"}, **about)
    return rows


def who(model: str) -> str:
    return "openai" if model in OF_OPENAI else "anthropic"


class Company:
    """Draws requests: into the provider's ledger, and into rows of `events` as the gateway would have sent them."""

    def __init__(self, simulated: Provider, seed: int) -> None:
        self.simulated, self.dice = simulated, random.Random(seed)
        self.events: list[dict[str, Any]] = []
        self.truth: Truth = defaultdict(Decimal)
        self.billed = Decimal(0)
        self._number = 0

    def ours(self, model: str, tokens: Tokens, terms: Terms, long: bool) -> Decimal:
        """What we make of it: the provider's price, but for the two models that our book has wrong or lacks."""
        if model == "mystery":
            return cost_usd(tokens, dict(zip(KINDS, map(Decimal, FALLBACK), strict=True)))
        true = price_list(who(model), model, NEVER, terms.service_tier, terms.residency, 10**6 if long else 0)
        share = WRONG if model == "gpt-small" else Decimal(1)
        return cost_usd(tokens, true) * share + terms.web_searches * true["web_search"] / 1_000_000

    def request(self, at: datetime, model: str, tokens: Tokens, terms: Terms, fate: str) -> None:
        """One request; `fate` is what goes wrong with our account of it."""
        self._number += 1
        project = "other" if fate == "bypass" else "gateway"
        billed_at = at
        if fate == "midnight":  # it reached us just before, and the provider just after
            at = at.replace(hour=23, minute=59, second=59)
            billed_at = at + timedelta(seconds=2)
        theirs = charge(self.simulated.ledger, self._number, billed_at, model, tokens, project, terms)
        self.billed += theirs
        if fate == "bypass":
            self.truth["bypass"] += theirs
            return
        told = tokens
        if fate == "counted":
            told = replace(tokens, output_tokens=tokens.output_tokens * 3 // 4)
        if fate == "cache":  # a cache read that we took for plain input
            told = replace(tokens, input_tokens=tokens.input_tokens + tokens.cache_read_tokens, cache_read_tokens=0)
        long = tokens.prompt_tokens > (272_000 if model in OF_OPENAI else 200_000)
        ours, same = self.ours(model, told, terms, long), self.ours(model, tokens, terms, long)
        self.truth[fate] += same - ours  # tokens at our price, and the true tokens at the true price
        self.truth[{"mystery": "unpriced"}.get(model, "price")] += theirs - same
        self.events.append(
            event_row(
                str(self._number),
                occurred_at=at,
                provider=who(model),
                model=model,
                model_requested=model,
                usage_source="counted" if fate == "counted" else "provider",
                status="aborted" if fate == "counted" else "ok",
                service_tier=terms.service_tier,
                residency=terms.residency or None,
                web_searches=terms.web_searches,
                **{f"{kind}_tokens": getattr(told, f"{kind}_tokens") for kind in KINDS},
            )
        )

    def work(self, requests: int, share_bypassing: float = 0.07, plain: bool = False) -> None:
        """Some days of work, in the order of their time. `plain`: nothing else goes wrong than the bypass."""
        moments = sorted(self.dice.random() * DAYS for _ in range(requests))
        first = day_before(self.simulated.time.now, DAYS)
        for moment in moments:
            model = self.dice.choices(tuple(SHARES), tuple(SHARES.values()))[0]
            model = "opus" if plain and model in ("gpt-small", "mystery") else model
            tokens = Tokens(
                input_tokens=self.dice.choice((self.dice.randrange(200, 4000),) * 19 + (4000 if plain else 280_000,)),
                cache_read_tokens=self.dice.choice((0, self.dice.randrange(60_000))),
                cache_write_5m_tokens=self.dice.choice((0, self.dice.randrange(8000))),
                output_tokens=self.dice.randrange(10, 3000),
            )
            terms = Terms(
                service_tier="flex" if model == "gpt" and self.dice.random() < 0.2 else "standard",
                residency="us" if not plain and model == "opus" and self.dice.random() < 0.2 else "",
                web_searches=1 if model in ("opus", "gpt") and self.dice.random() < 0.05 else 0,
            )
            fate = "bypass" if self.dice.random() < share_bypassing else "none"
            if model == "embed":
                tokens, terms = Tokens(tokens.input_tokens % 8000), Terms()
            elif not plain and fate == "none":
                fate = self.dice.choices(("none", "counted", "cache"), (95, 4, 1))[0]
            self.request(first + timedelta(days=moment), model, tokens, terms, fate)


@pytest.fixture(scope="module")
def tables() -> Iterator[DuckDBWarehouse]:
    made = DuckDBWarehouse(":memory:")
    made.apply_schema()
    yield made
    made.close()


@pytest.fixture
def warehouse(tables: DuckDBWarehouse) -> DuckDBWarehouse:
    for name in ("bills", "gateway_keys", "events", "team_rollup", "person_rollup"):
        tables.replace(name, [])
    tables.replace("prices", book())
    return tables


@pytest.fixture
def simulated() -> Iterator[Provider]:
    now = datetime.now(UTC)
    with provider(day_before(now, 0) + timedelta(hours=7)) as made:  # yesterday is settled
        yield made


def read(warehouse: DuckDBWarehouse, simulated: Provider, gateway: Mapping[str, tuple[str, ...]] = GATEWAY) -> None:
    bills = [simulated.bill(name, gateway=gateway.get(name, ())) for name in ("openai", "anthropic")]
    done = read_bills(Room(warehouse, bills, 35, simulated.time))
    assert (done.later, done.wrong) == ({}, {})


def by_cause(warehouse: DuckDBWarehouse) -> Truth:
    sums = warehouse.query("SELECT cause, SUM(cause_usd) AS usd FROM tally.reconciliation_causes GROUP BY cause")
    return {row["cause"]: row["usd"] for row in sums}


def assert_exact(warehouse: DuckDBWarehouse) -> None:
    """Every row's causes are its gap, and no dollar of ours is left out or there twice."""
    rows = warehouse.query("SELECT * FROM tally.reconciliation")
    for row in rows:
        assert row["theirs_usd"] - row["ours_usd"] == row["gap_usd"] == sum(row[f"{cause}_usd"] for cause in CAUSES), (
            row
        )
    ours = """
        SELECT SUM(cost_usd) AS usd FROM tally.daily_cost
        WHERE billing_mode = 'metered' AND day < CURRENT_DATE() AND provider IN ('anthropic', 'openai')
    """
    assert sum(row["ours_usd"] for row in rows) == warehouse.query(ours)[0]["usd"]
    theirs = "SELECT SUM(amount_usd) AS usd FROM tally.provider_bill WHERE day < CURRENT_DATE()"
    assert sum(row["theirs_usd"] for row in rows) == warehouse.query(theirs)[0]["usd"]


def test_each_cause_is_named_within_half_a_percent_of_the_bill(warehouse: DuckDBWarehouse, simulated: Provider) -> None:
    """7 % of the traffic past the gateway, a hundredth mispriced, a day that the provider revises, and more."""
    company = Company(simulated, 1)
    company.work(3000)
    store(warehouse, company.events)
    settled = simulated.time.now
    simulated.time.now = settled - timedelta(hours=6, minutes=30)  # half an hour after midnight: yesterday is not whole
    read(warehouse, simulated)
    early = warehouse.query("SELECT SUM(amount_usd) AS usd FROM tally.provider_bill")[0]["usd"]
    simulated.time.now = settled
    read(warehouse, simulated)
    bill, found = company.billed, by_cause(warehouse)
    assert_exact(warehouse)
    assert 0.05 < company.truth["bypass"] / bill < 0.09
    assert 0.005 < company.truth["price"] / bill < 0.02
    for cause in CAUSES:
        off = abs(found[cause] - company.truth[cause]) / bill
        assert off <= Decimal("0.005"), f"{cause}: {found[cause]:.4f}, truly {company.truth[cause]:.4f}: {off:.3%}"
    (revised,) = warehouse.query("SELECT SUM(revised_usd) AS usd FROM tally.bill_revisions")
    assert revised["usd"] == company.billed - early > bill / 500


def test_a_day_that_is_not_whole_yet_is_timing_until_it_is(warehouse: DuckDBWarehouse, simulated: Provider) -> None:
    company = Company(simulated, 7)
    company.work(1500, 0, plain=True)
    store(warehouse, company.events)
    settled = simulated.time.now
    simulated.time.now = settled - timedelta(hours=6, minutes=30)  # half an hour after midnight
    read(warehouse, simulated)
    early = by_cause(warehouse)
    simulated.time.now = settled
    read(warehouse, simulated)
    assert_exact(warehouse)
    (revised,) = warehouse.query("SELECT SUM(revised_usd) AS usd FROM tally.bill_revisions")
    assert {cause: usd for cause, usd in early.items() if usd} == {"timing": -revised["usd"]}
    assert not any(by_cause(warehouse).values())
    days = warehouse.query("SELECT DISTINCT day FROM tally.bill_revisions")
    assert [row["day"] for row in days] == [day_before(settled, 1).date()]


def test_traffic_around_midnight_is_timing_and_evens_out(warehouse: DuckDBWarehouse, simulated: Provider) -> None:
    company = Company(simulated, 2)
    company.work(300, 0, plain=True)
    first = day_before(simulated.time.now, DAYS)
    company.simulated.ledger._rows.sort(key=lambda row: row["occurred_at"])
    for day in range(2, 6):
        company.request(first + timedelta(days=day), "opus", Tokens(5000, output_tokens=2000), Terms(), "midnight")
    company.simulated.ledger._rows.sort(key=lambda row: row["occurred_at"])
    store(warehouse, company.events)
    read(warehouse, simulated)
    assert_exact(warehouse)
    days = warehouse.query("SELECT day, timing_usd, gap_usd FROM tally.reconciliation WHERE model = 'opus'")
    assert all(row["timing_usd"] == row["gap_usd"] for row in days)
    assert {row["gap_usd"] for row in days} == {Decimal("0.06"), Decimal("-0.06"), Decimal(0)}
    assert sum(row["timing_usd"] for row in days) == 0


def test_without_knowing_the_gateways_keys_the_volume_it_never_saw_is_the_bypass(
    warehouse: DuckDBWarehouse, simulated: Provider
) -> None:
    company = Company(simulated, 3)
    company.work(1000, plain=True)
    store(warehouse, company.events)
    read(warehouse, simulated, {})
    assert_exact(warehouse)
    found = by_cause(warehouse)
    assert found["bypass"] == company.truth["bypass"]
    assert {cause for cause in CAUSES if found[cause]} == {"bypass"}
    assert not any(row["gateway_known"] for row in warehouse.query("SELECT gateway_known FROM tally.reconciliation"))


def test_a_model_that_the_book_lacks_and_a_line_that_has_no_token_price_are_unpriced(
    warehouse: DuckDBWarehouse, simulated: Provider
) -> None:
    company = Company(simulated, 4)
    company.request(day_before(simulated.time.now, 2), "mystery", Tokens(5000, output_tokens=2000), Terms(), "none")
    store(warehouse, company.events)
    read(warehouse, simulated)
    storage: dict[str, Any] = dict(warehouse.query("SELECT * FROM tally.bills WHERE report = 'cost' LIMIT 1")[0])
    storage |= {"model": None, "token_kind": None, "amount_usd": Decimal(3), "line_item": "Code Execution Usage"}
    warehouse.append("bills", [storage])
    assert_exact(warehouse)
    found = by_cause(warehouse)
    assert found["unpriced"] == company.truth["unpriced"] + 3
    assert not any(found[cause] for cause in CAUSES if cause != "unpriced")


def test_a_subscription_is_not_on_the_bill_and_todays_half_day_is_not_compared(
    warehouse: DuckDBWarehouse, simulated: Provider
) -> None:
    company = Company(simulated, 5)
    yesterday, today = day_before(simulated.time.now, 1), day_before(simulated.time.now, 0)
    company.request(yesterday + timedelta(hours=3), "opus", Tokens(5000, output_tokens=2000), Terms(), "none")
    company.request(today + timedelta(hours=1), "opus", Tokens(9000, output_tokens=2000), Terms(), "none")
    own = event_row("99", occurred_at=yesterday, model="opus", model_requested="opus", billing_mode="subscription")
    store(warehouse, [*company.events, own])
    read(warehouse, simulated)
    (row,) = warehouse.query("SELECT * FROM tally.reconciliation")
    assert (row["day"], row["gap_usd"], row["ours_usd"]) == (yesterday.date(), 0, Decimal("0.06"))


def test_a_provider_whose_bill_is_not_read_is_not_compared(warehouse: DuckDBWarehouse, simulated: Provider) -> None:
    day = day_before(simulated.time.now, 1)
    rows = [
        event_row(str(number), occurred_at=day, provider=name, model="kimi-k3")
        for number, name in enumerate(("moonshot", "openrouter", "anthropic"))
    ]
    store(warehouse, rows)
    read(warehouse, simulated)
    assert warehouse.query("SELECT * FROM tally.reconciliation") == []


def test_dated_and_undated_names_of_a_model_are_one(warehouse: DuckDBWarehouse, simulated: Provider) -> None:
    company = Company(simulated, 6)
    company.request(day_before(simulated.time.now, 1), "opus", Tokens(5000, output_tokens=2000), Terms(), "none")
    company.events[0] |= {"model": "opus-20260101"}
    store(warehouse, company.events)
    read(warehouse, simulated)
    (row,) = warehouse.query("SELECT * FROM tally.reconciliation")
    assert (row["model"], row["gap_usd"]) == ("opus", 0)


def test_what_is_planted_in_the_past_of_the_demo_company_is_found(
    warehouse: DuckDBWarehouse, simulated: Provider
) -> None:
    """Its price book, its history, the bill for it: a key of somebody's own, and a model charged at another price."""
    policy = read_policy(ROOT / "policy")
    warehouse.replace("prices", prices.rows_for_warehouse(policy.contract))
    ledger, today = simulated.ledger, day_before(simulated.time.now, 0).date()
    ledger.price_list = paid = prices_of("contract", policy.contract)
    company = members(policy.people, today - timedelta(days=80), defaultdict(lambda: "k"))
    for days in (4, 3, 2):
        events = draw_day(company, today - timedelta(days=days), today - timedelta(days=80), list_prices)
        warehouse.append("events", events)
        ledger.add(bill_rows(events, paid))
    rollup.refresh(warehouse)
    read(warehouse, simulated)
    assert_exact(warehouse)
    billed = [row for row in ledger.bill() if row["provider"] in GATEWAY]
    cost = {name: Decimal(0) for name in ("bill", "bypass", "mispriced")}
    for row in billed:
        usd = Decimal(row["cost_usd"])
        cost["bill"] += usd
        if row["project"] == "other":
            cost["bypass"] += usd
        elif (row["provider"], row["model"]) == MISPRICED:
            cost["mispriced"] += usd
    found = by_cause(warehouse)
    assert found["bypass"] == cost["bypass"]
    assert 0.05 < cost["bypass"] / cost["bill"] < 0.09
    planted = cost["mispriced"] * (1 - 1 / MISPRICED_FACTOR)
    assert abs(found["price"] - planted) / cost["bill"] < Decimal("0.0001")
    assert not any(found[cause] for cause in ("unpriced", "cache", "counted", "timing"))
