"""What people complain about in LiteLLM's budgets, each with the issue it was told in, and what happens here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from functions.alerts.evaluation import limit_of, stand
from functions.alerts.spending import spending_at
from governance import keys, prices, rollup
from governance.budgets import Budget
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.gate import Limit
from governance.keys import KeyBudget, KeyRecord
from governance.periods import period_of
from governance.policy import Policy
from governance.registry import SqliteRegistry
from proxy_service import gate_words
from proxy_service.gatekeeper import Gatekeeper
from tests.conftest import eventually
from tests.gateway import start_provider
from tests.limits import limit, tell
from tests.test_proxy_budgets import REQUESTS, USD, Pair, refusal, refused
from tests.warehouse_rows import Row, event_row

pytestmark = pytest.mark.timeout(300)

MONTH = period_of("month", datetime.now(UTC))
NOW = MONTH.starts_at + timedelta(days=9, hours=12)
OPUS: Row = {
    "provider": "anthropic",
    "model": "claude-opus-5-5",
    "model_requested": "claude-opus-5-5",
}  # output: 20 USD


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two gateways; a model of every route is to be had."""
    folder = tmp_path_factory.mktemp("complaints")
    for name in ("first", "second"):
        (folder / name).mkdir()
    provider, provider_url = start_provider(folder)
    made = Pair(folder, provider_url)
    yield made
    made.second.stop()
    made.first.stop()
    provider.stop()


@pytest.fixture
def warehouse() -> Iterator[DuckDBWarehouse]:
    opened = DuckDBWarehouse(":memory:")
    opened.apply_schema()
    opened.replace("prices", prices.rows_for_warehouse())
    yield opened
    opened.close()


def spent(warehouse: DuckDBWarehouse, *calls: tuple[datetime, int]) -> None:
    """Calls of key k1 of ann@example.com: when, and how many dollars."""
    rows = [
        event_row(f"c{number}", occurred_at=at, output_tokens=usd * 50_000, input_tokens=0, **OPUS)
        for number, (at, usd) in enumerate(calls)
    ]
    assert warehouse.append("events", rows) == {}
    rollup.refresh(warehouse)


def limits_at(warehouse: DuckDBWarehouse, now: datetime, policy: Policy, *records: KeyRecord) -> list[Limit]:
    """What a tick would tell the gateways now."""
    spending = spending_at(warehouse, now, policy.company.zone)
    return [limit_of(stood, "lea@example.com") for stood in stand(policy, records, spending, {}, now)]


@pytest.mark.parametrize("route", REQUESTS)
def test_a_providers_budget_stops_every_route_not_only_chat_litellm_38176(pair: Pair, route: str) -> None:
    provider = "anthropic" if route == "messages" else "openai"
    name = pair.key_of(f"agents-{route}")
    pair.tell(limit("provider", provider, "10"))
    answer = refusal(lambda: pair.first.post(*REQUESTS[route], name))
    assert f"The monthly budget for the provider {provider} is used up" in answer.json()["error"]["message"]
    pair.tell()
    eventually(lambda: not refused(pair.first.post(*REQUESTS[route], name)))


def test_a_new_budget_on_an_old_key_counts_this_period_not_its_life_litellm_34492(warehouse: DuckDBWarehouse) -> None:
    spent(warehouse, (NOW - timedelta(days=200), 500), (MONTH.starts_at - timedelta(seconds=1), 100), (NOW, 4))
    key = KeyRecord(key_id="k1", last4="1234", created_at=NOW - timedelta(days=300), person="ann@example.com")
    assert limits_at(warehouse, NOW, Policy((), ()), key) == []
    budgeted = key.model_copy(update={"budget": KeyBudget(amount_usd=Decimal(10))})
    (one,) = limits_at(warehouse, NOW, Policy((), ()), budgeted)
    assert (one.budget, one.spent_usd, one.blocked) == ("key-k1-month", Decimal(4), False)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("route", ["chat", "messages", "responses"])
def test_over_budget_no_request_passes_litellm_26672_and_23714(pair: Pair, route: str, stream: bool) -> None:
    team = f"strict-{route}-{stream}"
    key, (path, body) = pair.key_of(team), REQUESTS[route]
    pair.tell(limit("team", team, usd="0.000001"))
    eventually(lambda: pair.known(key))  # which costs so little that it may or may not be the last one
    pair.first.post(path, body | {"stream": stream}, key)
    refusal(lambda: pair.first.post(path, body | {"stream": stream}, key))
    assert all(refused(pair.first.post(path, body | {"stream": stream}, key)) for _ in range(10))


def test_a_persons_budget_holds_though_their_key_is_a_teams_litellm_11962(pair: Pair) -> None:
    key = pair.first.new_key("ann@example.com", "rich")
    pair.tell(limit("person", "ann@example.com", "10"), limit("team", "rich", "10", "1000"))
    answer = refusal(lambda: pair.chat(key))
    assert "ann@example.com's monthly budget is used up" in answer.json()["error"]["message"]
    other = pair.first.new_key("bob@example.com", "rich")
    assert not refused(pair.chat(other))


def test_no_instance_is_stuck_after_the_reset_and_each_names_the_budget_litellm_37971_and_38686(pair: Pair) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=10)
    key = pair.key_of("reset")
    pair.tell(replace(limit("team", "reset", "10"), ends_at=soon))
    eventually(lambda: pair.known(key))
    for gateway in (pair.first, pair.second):
        answer = refusal(lambda gateway=gateway: pair.chat(key, gateway))  # type: ignore[misc]
        message = answer.json()["error"]["message"]
        assert "Team reset's monthly budget is used up: 10." in message
        assert f"{soon:%-d %B %Y at %H:%M} UTC" in message
    left_s = (soon - datetime.now(UTC)).total_seconds()
    for gateway in (pair.first, pair.second):
        eventually(lambda gateway=gateway: not refused(pair.chat(key, gateway)), within_s=left_s + 5)  # type: ignore[misc]


def test_another_instance_is_not_stale_for_a_minute_litellm_38686(pair: Pair) -> None:
    key = pair.key_of("spread")
    pair.tell(limit("team", "spread", usd=str(USD)))
    eventually(lambda: pair.known(key))
    assert not refused(pair.chat(key))
    eventually(lambda: refused(pair.chat(key, pair.second)), within_s=5)


def test_a_budget_begins_anew_with_its_period_and_what_was_spent_is_not_lost_litellm_8364_and_24675(
    warehouse: DuckDBWarehouse,
) -> None:
    spent(warehouse, (MONTH.starts_at - timedelta(days=3), 30), (NOW, 7))
    policy = Policy((), (Budget(scope="team", name="Search", amount_usd=Decimal(20), action="block"),))
    (before,) = limits_at(warehouse, MONTH.starts_at - timedelta(days=1), policy)
    (after,) = limits_at(warehouse, NOW, policy)
    assert (before.spent_usd, before.blocked) == (Decimal(30), True)
    assert (after.spent_usd, after.blocked) == (Decimal(7), False)
    assert before.period != after.period
    (kept,) = warehouse.query("SELECT SUM(cost_usd) AS usd FROM tally.requests")
    assert kept["usd"] == 37


@pytest.mark.parametrize(("kind", "ends"), [("day", "tomorrow"), ("week", "monday"), ("month", "first")])
def test_every_refusal_says_when_the_budget_resets_and_calendar_periods_do_not_drift_litellm_24675_and_19105(
    tmp_path: Path, kind: str, ends: str
) -> None:
    registry, now = SqliteRegistry(tmp_path / "registry.db"), datetime.now(UTC)
    one = limit("company", "", "10", period=kind, now=now)  # type: ignore[arg-type]
    tell(registry, one)
    keeper = Gatekeeper(registry, prices.book(), 2.0)
    keeper.look()
    record = keys.new_record("a key", "pepper", person="ann@example.com", team="Search")[1]
    told = gate_words.refusal(keeper.check(record, "gpt-5.4", "openai", "codex"), now, "responses")
    resets_at = datetime.fromtimestamp(told.resets_at or math.nan, UTC)
    assert resets_at.time() == datetime.min.time()
    assert {"tomorrow": resets_at - now <= timedelta(days=1), "monday": resets_at.weekday() == 0,
            "first": resets_at.day == 1}[ends]  # fmt: skip
    assert f"It resets on {resets_at:%-d %B %Y} at 00:00 UTC." in told.message
    assert dict(told.headers)[b"x-tally-budget-resets-at"].decode() == f"{resets_at:%Y-%m-%dT%H:%M:%SZ}"
