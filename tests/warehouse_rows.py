"""Rows for tests of the warehouse: one event, one model's prices, and a small company drawn at random."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from governance.events import UsageEvent
from governance.prices import TOKEN_KINDS

Row = dict[str, Any]
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


def price_rows(
    provider: str, model: str, *prices: str | None, valid_from: datetime = datetime(2025, 1, 1, tzinfo=UTC)
) -> list[Row]:
    """Rows of `prices`, in the order of TOKEN_KINDS; None leaves a kind out."""
    return [
        {
            "provider": provider,
            "model": model,
            "token_kind": kind,
            "modifier": "standard",
            "usd_per_mtok": Decimal(price),
            "valid_from": valid_from,
            "source": "test",
        }
        for kind, price in zip(TOKEN_KINDS, prices, strict=True)
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

    def price() -> str | None:
        return dice.choice([None, "0", str(Decimal(dice.randrange(1, 10**9)).scaleb(-dice.randrange(3, 10)))])

    prices = []
    for provider, model in [("anthropic", "sonnet"), ("anthropic", "opus"), ("openai", "gpt"), ("openai", "sonnet")]:
        prices += price_rows(provider, model, "3", "0.3", None, dice.choice(["6", None]), "15")
        for valid_from in dice.sample(changes, dice.randrange(4)):
            prices += price_rows(provider, model, *(price() for _ in TOKEN_KINDS), valid_from=valid_from)
    if dice.random() < 0.8:
        prices += price_rows("*", "*", "5", "0.5", "6.25", "10", "25", valid_from=dice.choice(changes))

    people = []
    for team in ("Search", "Ads", "Core", "Data", "Web"):
        for i in range(dice.choice([0, 1, 2, 4, 5, 6, 9])):
            joined = today - timedelta(days=dice.choice([0, 3, 400, -2]))
            left = dice.choice([None, None, None, today, today + timedelta(days=1), today - timedelta(days=9)])
            people.append(person_row(f"{team.lower()}{i}", team, joined, left if left and left >= joined else None))

    rows = []
    for number in range(events):
        at = dice.choice([*changes, *[now - timedelta(seconds=dice.randrange(50 * 86400)) for _ in range(20)]])
        output = dice.choice([0, dice.randrange(10**5)])
        row = event_row(
            f"{seed}-{number:05}",
            received_at=at + timedelta(seconds=dice.randrange(100)),
            occurred_at=at,
            person=dice.choice([None, *[person["person"] for person in people], "gone@example.com"]),
            team=dice.choice([None, "Search", "Ads", "Core", "Data", "Web", "Old"]),
            key_kind=dice.choice(["human", "human", "service"]),
            tool=dice.choice(["claude_code", "codex"]),
            provider=dice.choice([None, "anthropic", "openai", "openrouter"]),
            model=dice.choice([None, "sonnet", "opus", "gpt", "sonnet-20260101"]),
            model_requested=dice.choice([None, "sonnet", "gpt", "mystery"]),
            status=dice.choice(["ok", "ok", "error", "aborted", "refused"]),
            usage_source=dice.choice(["provider", "counted", "none"]),
            input_tokens=dice.choice([0, dice.randrange(10**12)]),
            cache_read_tokens=dice.choice([0, dice.randrange(10**6)]),
            cache_write_5m_tokens=dice.choice([0, dice.randrange(10**6)]),
            cache_write_1h_tokens=dice.choice([0, dice.randrange(10**6)]),
            output_tokens=output,
            reasoning_tokens=dice.randrange(output + 1),
            gateway_cost_usd=dice.choice([None, Decimal(dice.randrange(10**12)).scaleb(-9)]),
            billing_mode=dice.choice(["metered", "metered", "subscription"]),
        )
        rows += [
            row | {"received_at": row["received_at"] + timedelta(seconds=i)} for i in range(dice.choice([1, 1, 3]))
        ]
    dice.shuffle(rows)
    shelved = [
        {"shelved_at": now, "message_id": dice.choice([None, "m1", "m2"]), "reason": "not JSON", "raw": b"\x00"}
        for _ in range(dice.randrange(5))
    ]
    return {"events": rows, "prices": prices, "people": people, "shelved": shelved}
