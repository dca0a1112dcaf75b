"""Rows for tests of the warehouse: one event, one model's prices, and a small company drawn at random."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from governance import rollup
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.events import UsageEvent

Row = dict[str, Any]
TOKEN_KINDS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday


def event_row(event_id: str, received_at: datetime | None = None, **fields: Any) -> Row:
    """A valid row of `events`: an answered request of Ann's, with whatever `fields` say otherwise."""
    given = {
        "request_id": f"request-{event_id:0>4}",
        "occurred_at": NOON,
        "person": "ann@example.com",
        "team": "Search",
        "key_id": "k1",
        "tool": "claude_code",
        "route": "messages",
        "provider": "anthropic",
        "model_requested": "sonnet",
        "model": "sonnet",
        "status": "ok",
        "usage_source": "provider",
        "input_tokens": 1000,
        "output_tokens": 100,
    } | fields
    row = UsageEvent(event_id=f"event-{event_id:0>4}", **given).row()
    return row | {"received_at": received_at or row["occurred_at"]}


def store(warehouse: DuckDBWarehouse, rows: list[Row]) -> None:
    """Events into the warehouse, and up to date with them, as ingest and the next tick would."""
    assert warehouse.append("events", rows) == {}
    rollup.refresh(warehouse)


def price_rows(
    provider: str,
    model: str,
    *prices: str | None,
    valid_from: date = date(2025, 1, 1),
    more: Mapping[str, str] | None = None,
    **modifier: Any,
) -> list[Row]:
    """Rows of `prices`, in the order of TOKEN_KINDS; None leaves a kind out. `more`: prices of other kinds."""
    listed = dict(zip(TOKEN_KINDS, prices, strict=True)) | dict(more or {})
    return [
        {
            "provider": provider,
            "model": model,
            "service_tier": "standard",
            "residency": "",
            "context_above": 0,
            "token_kind": kind,
            "price_list": "list",
            "usd_per_million": Decimal(price),
            "valid_from": valid_from,
            "source": "test",
        }
        | modifier
        for kind, price in listed.items()
        if price is not None
    ]


def person_row(name: str, team: str, joined_on: date = date(2025, 1, 1), left_on: date | None = None) -> Row:
    """A row of `people`."""
    return {
        "person": f"{name}@example.com",
        "name": name,
        "team": team,
        "role": "engineer",
        "joined_on": joined_on,
        "left_on": left_on,
    }


def random_company(seed: int, events: int = 150) -> dict[str, list[Row]]:
    """Table to rows: some weeks up to now, with copies, leavers, unknown models, changing and missing prices."""
    dice = random.Random(seed)
    now = datetime.now(UTC).replace(microsecond=0)
    today = now.date()
    changes = [now - timedelta(days=dice.randrange(60), seconds=dice.randrange(86400)) for _ in range(4)]

    def price() -> str:
        return dice.choice(["0", str(Decimal(dice.randrange(1, 10**9)).scaleb(-dice.randrange(3, 10)))])

    prices = []
    for provider, model in [("anthropic", "sonnet"), ("anthropic", "opus"), ("openai", "gpt"), ("openai", "sonnet")]:
        modifiers: list[Row] = [{}]
        modifiers += dice.sample([{"service_tier": "flex"}, {"residency": "us"}, {"context_above": 200_000}], 2)
        for modifier in modifiers:
            prices += price_rows(provider, model, "3", "0.3", None, dice.choice(["6", None]), "15", **modifier)
            for day in sorted({at.date() for at in dice.sample(changes, dice.randrange(4))}):
                audio = {"input_audio": price(), "web_search": price()}
                prices += price_rows(
                    provider, model, *(price() for _ in TOKEN_KINDS), valid_from=day, more=audio, **modifier
                )
                if dice.random() < 0.4:
                    contract: Row = {"price_list": "contract", **modifier}
                    prices += price_rows(provider, model, *(price() for _ in TOKEN_KINDS), valid_from=day, **contract)
    if dice.random() < 0.8:
        prices += price_rows("*", "*", "5", "0.5", "6.25", "10", "25", valid_from=dice.choice(changes).date())

    people = []
    for team in ("Search", "Ads", "Core", "Data", "Web"):
        for i in range(dice.choice([0, 1, 2, 4, 5, 6, 9])):
            joined = today - timedelta(days=dice.choice([0, 3, 400, -2]))
            left = dice.choice([None, None, None, today, today + timedelta(days=1), today - timedelta(days=9)])
            people.append(person_row(f"{team.lower()}{i}", team, joined, left if left and left >= joined else None))

    rows = []
    for number in range(events):
        at = dice.choice([*changes, *[now - timedelta(seconds=dice.randrange(50 * 86400)) for _ in range(20)]])
        output, uncached = dice.choice([0, dice.randrange(10**5)]), dice.choice([0, dice.randrange(10**12)])
        row = event_row(
            f"{seed}-{number:05}",
            received_at=at + timedelta(seconds=dice.randrange(100)),
            occurred_at=at,
            person=dice.choice([None, *[person["person"] for person in people], "gone@example.com"]),
            team=dice.choice([None, "Search", "Ads", "Core", "Data", "Web", "Old"]),
            key_kind=dice.choice(["human", "human", "service"]),
            tool=dice.choice(["claude_code", "codex"]),
            key_id=dice.choice([None, "k1", "k2"]),
            session_id=dice.choice([None, "s1", "s2"]),
            network=dice.choice([None, "0a1b2c3d4e5f", "f5e4d3c2b1a0"]),
            latency_ms=dice.choice([None, dice.randrange(60_000)]),
            provider=dice.choice([None, "anthropic", "openai", "openrouter"]),
            model=dice.choice([None, "sonnet", "opus", "gpt", "sonnet-20260101", "gpt-2026-01-01", "new"]),
            model_requested=dice.choice([None, "sonnet", "gpt", "mystery"]),
            status=dice.choice(["ok", "ok", "error", "aborted", "refused"]),
            usage_source=dice.choice(["provider", "counted", "none"]),
            input_tokens=uncached,
            input_audio_tokens=dice.choice([0, dice.randrange(uncached + 1)]),
            cache_read_tokens=dice.choice([0, dice.randrange(10**6)]),
            cache_write_5m_tokens=dice.choice([0, dice.randrange(10**6)]),
            cache_write_1h_tokens=dice.choice([0, dice.randrange(10**6)]),
            output_tokens=output,
            reasoning_tokens=dice.randrange(output + 1),
            output_audio_tokens=dice.choice([0, dice.randrange(output + 1)]),
            web_searches=dice.choice([0, 0, dice.randrange(9)]),
            service_tier=dice.choice([None, "standard", "flex", "priority"]),
            residency=dice.choice([None, None, "us"]),
            provider_cost_usd=dice.choice([None, None, Decimal(dice.randrange(10**14)).scaleb(-14)]),
            superseded=dice.random() < 0.1,
            gateway_cost_usd=dice.choice([None, Decimal(dice.randrange(10**12)).scaleb(-9)]),
            billing_mode=dice.choice(["metered", "metered", "subscription"]),
        )
        rows += [
            row | {"received_at": row["received_at"] + timedelta(seconds=i)} for i in range(dice.choice([1, 1, 3]))
        ]
    dice.shuffle(rows)
    shelved = [
        {"shelved_at": now, "message_id": dice.choice([None, "m1", "m2"]), "reason": "not JSON", "raw": b"\x00"}
        for _ in range(1 + dice.randrange(5))
    ]
    teams = [{"team": team, "cost_centre": dice.choice(["R&D", "Sales"])} for team in ("Search", "Ads")]
    seats = [
        {
            "person": person["person"],
            "provider": "anthropic",
            "plan": dice.choice(["max", "pro"]),
            "usd_per_month": Decimal(dice.choice(["100", "20", "33.33"])),
            "valid_from": today - timedelta(days=dice.randrange(80)),
            "valid_to": dice.choice([None, None, today - timedelta(days=dice.randrange(20))]),
        }
        for person in people
        if dice.random() < 0.3
    ]
    own = [{"provider": "anthropic", "id": "gateway"}, {"provider": "anthropic", "id": "default"}]
    bills = [line for provider in ("anthropic", "openai") for line in _bill(dice, provider, rows)]
    seats += [  # a plan that enough people hold to be told of, who are not on the roster; one of them works
        {
            "person": f"{name}@example.com",
            "provider": "anthropic",
            "plan": "team",
            "usd_per_month": Decimal("25.01"),
            "valid_from": today - timedelta(days=40),
            "valid_to": None,
        }
        for name in ("gone", *(f"seat{i}" for i in range(dice.choice([4, 6]))))
    ]
    tables = {"events": rows, "prices": prices, "people": people, "shelved": shelved, "teams": teams, "seats": seats}
    tables |= {"bills": bills, "gateway_keys": dice.choice([own, own, []]), "deliveries": _deliveries(dice, now)}
    tables["audit"] = _acts(dice, now)
    return tables | _rolled_up(tables)


def _deliveries(dice: random.Random, now: datetime) -> list[Row]:
    """Rows of `deliveries`: attempts of the last weeks by three channels, some of them stored twice."""
    attempts = []
    for number in range(60):
        about, audience = dice.choice(["company-month", "team-Ads-month"]), dice.choice(["person", "lead", "all"])
        channel, state = dice.choice(["slack", "mail", "webhook"]), dice.choice(["sent", "failed", "unreachable"])
        attempt = {
            "delivery_id": f"{about}-{audience}-{channel}",
            "about": about,
            "period": "2026-11",
            "threshold": dice.choice([80, 100]),
            "audience_kind": audience,
            "channel": channel,
            "state": state,
            "attempt": number,
            "reason": None if state == "sent" else dice.choice(["answered 503", "answered 403"]),
            "tried_at": now - timedelta(seconds=dice.randrange(dice.choice([40, 1]) * 86400)),
        }
        attempts += [attempt] * dice.choice([1, 1, 2])
    return attempts


def _acts(dice: random.Random, now: datetime) -> list[Row]:
    """Rows of `audit`, some of them twice."""
    acts: list[Row] = [
        {
            "audit_id": f"act-{number}",
            "done_at": now - timedelta(minutes=number),
            "actor": dice.choice(["tally", "ann@example.com"]),
            "action": dice.choice(["key.revoked", "looked"]),
            "subject": f"k{dice.randrange(9)}",
            "origin": "tick",
            "before": dice.choice([None, '{"kind": "human"}']),
            "after": None,
        }
        for number in range(5)
    ]
    return acts + dice.sample(acts, 2)


def _bill(dice: random.Random, provider: str, events: list[Row]) -> list[Row]:
    """Rows of `bills`: some days, read once or twice, and some of only one report, near what the events say."""
    days = sorted({row["occurred_at"].date() for row in events})
    lines = []
    for day, report, reading in [
        (day, report, reading)
        for day in dice.sample(days, min(len(days), 12))
        for report in dice.choice([("usage", "cost"), ("usage", "cost"), ("usage", "cost"), ("cost",)])
        for reading in range(dice.choice([1, 2, 3, 3]))
    ]:
        for model in dice.sample(["sonnet", "opus", "gpt", "sonnet-20260101", "new", None], 4):
            for kind in dice.sample(["input", "cache_read", "cache_write_5m", "output", "web_search", None], 4):
                amount, quantity = Decimal(dice.randrange(10**16)).scaleb(-15), dice.randrange(10**7)
                lines.append(
                    {
                        "provider": provider,
                        "report": report,
                        "day": day,
                        "model": model,
                        "api_key_id": dice.choice([None, "key_1"]),
                        "project": dice.choice([None, "gateway", "gateway", "other"]),
                        "service_tier": dice.choice([None, "standard", "flex", "scale"]),
                        "token_kind": kind,
                        "quantity": quantity if report == "usage" else dice.choice([None, quantity]),
                        "amount_usd": amount if report == "cost" else None,
                        "line_item": None,
                        "fetch_id": f"{provider}-{day}-{reading}",
                        "fetched_at": datetime(day.year, day.month, day.day, 23, 30, tzinfo=UTC)
                        + timedelta(hours=reading),
                    }
                )
    return lines


def _rolled_up(tables: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """What Tally itself makes of such a company: the rollup, statements of the months before, adjustments."""
    warehouse = DuckDBWarehouse(":memory:")
    warehouse.apply_schema()
    for table, rows in tables.items():
        assert warehouse.append(table, rows) == {}
    rollup.refresh(warehouse)
    before = datetime.now(UTC).date().replace(day=1)
    months = {row["day"].replace(day=1) for row in warehouse.query("SELECT day FROM tally.team_rollup")}
    warehouse.rewrite("statements", "statement_lines", "month", [month for month in months if month < before])
    raised = [{**row, "usd_per_million": row["usd_per_million"] + 1} for row in tables["prices"]]
    warehouse.replace("prices", raised)
    changes = warehouse.query("SELECT * FROM tally.statement_changes WHERE open_usd <> 0 ORDER BY model LIMIT 3")
    adjustments = [
        {
            "adjustment_id": f"change-{number}",
            **{name: row[name] for name in ("month", "team", "key_kind", "provider", "model", "reason")},
            "cost_usd": row["open_usd"],
            "posted_at": datetime.now(UTC).replace(microsecond=0),
        }
        for number, row in enumerate(changes)
    ]
    made = ("person_rollup", "team_rollup", "statements")
    found = {table: warehouse.query(f"SELECT * FROM tally.{table}") for table in made}
    warehouse.close()
    return {**found, "adjustments": adjustments}
