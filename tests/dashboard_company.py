"""A company for the dashboard's tests: five teams, one of them of three people, and a hundred days of work."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from governance import rollup
from governance.events import UsageEvent
from governance.warehouse import Warehouse

TEAMS = {"Platform": 12, "Payments": 9, "Search": 8, "Mobile": 6, "Research": 3, "Design": 5}
BUDGETS = {"Platform": 2600, "Payments": 1500, "Search": 2200, "Mobile": 90, "Research": 500, "Design": 700}
DAYS = 100
ADA, BOB = "platform.0@example.com", "platform.1@example.com"

# model: provider, share of the work, dollars per million tokens of input, cache read, cache write, output
MODELS: dict[str, tuple[str, float, tuple[str, str, str, str]]] = {
    "claude-opus-5-5": ("anthropic", 0.22, ("5", "0.5", "6.25", "25")),
    "claude-sonnet-5": ("anthropic", 0.34, ("3", "0.3", "3.75", "15")),
    "gpt-5.6-codex": ("openai", 0.2, ("2", "0.2", "0", "16")),
    "kimi-k3": ("moonshot", 0.1, ("0.9", "0.15", "0", "3.6")),
    "claude-haiku-5": ("anthropic", 0.08, ("1", "0.1", "1.25", "5")),
    "gpt-5.6-mini": ("openai", 0.04, ("0.4", "0.04", "0", "3.2")),
    "qwen-4-coder": ("openrouter", 0.02, ("0.5", "0.1", "0", "2")),
}
TOOLS = {"anthropic": ("claude-code", "2.1.197"), "openai": ("codex", "0.61.0"), "moonshot": ("kimi-code", "1.4.2")}
LITELLM = {"claude-opus-5-5": Decimal("1.08"), "kimi-k3": Decimal("0.6")}  # how far its figure is off
STORED_AFTER = timedelta(seconds=7)
KINDS = ("input", "cache_read", "cache_write_5m", "output")


def people() -> Iterator[tuple[str, str]]:
    """(address, team) of everybody."""
    for team, size in TEAMS.items():
        for n in range(size):
            yield f"{team.lower()}.{n}@example.com", team


def write_policy(folder: Path) -> None:
    """people.csv and budgets.yaml of the company."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{email},{email.split('@')[0]},{team},developer,2024-01-01," for email, team in people()]
    (folder / "people.csv").write_text("email,name,team,role,joined_on,left_on\n" + "\n".join(rows) + "\n")
    limits = [f"  - {{scope: team, name: {team}, amount_usd: {usd}}}" for team, usd in BUDGETS.items()]
    company = f"  - {{scope: company, amount_usd: {sum(BUDGETS.values())}}}"
    (folder / "budgets.yaml").write_text("\n".join(["budgets:", company, *limits]) + "\n")


def fill(warehouse: Warehouse, now: datetime) -> None:
    """Roster, prices, events up to a minute before `now`, and their rollup."""
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    warehouse.apply_schema()
    warehouse.replace(
        "people",
        [
            {
                "person": email,
                "name": email,
                "team": team,
                "role": "developer",
                "joined_on": begin.date(),
                "left_on": None,
            }
            for email, team in people()
        ],
    )
    warehouse.replace("prices", prices())
    rows = [event.row() | {"received_at": event.occurred_at + STORED_AFTER} for event in events(now)]
    assert warehouse.append("events", rows) == {}
    rollup.refresh(warehouse)


def trouble(warehouse: Warehouse, now: datetime) -> None:
    """What can be wrong with numbers, on top of `fill`, each kind a few times; cost centres, seats, bills, a close."""
    today = now.date()
    last = today.replace(day=1) - timedelta(days=1)  # the last day of the month before
    noon = datetime.combine(last, time(12), UTC)
    yesterday = now - timedelta(days=1)
    rows = [
        _stored("mystery", at=yesterday, model="mystery-1", model_requested="mystery-1", input_tokens=400_000),
        _stored("mystery-today", at=now - timedelta(minutes=9), model="mystery-1", model_requested="mystery-1"),
        _stored("priority", at=yesterday, service_tier="priority"),
        _stored("nobodys", at=yesterday, person=None),
        _stored("no-team", at=yesterday, team=None, person=None, key_kind="service", tool="other"),
        *[
            _stored(
                f"seat-{n}", at=now - timedelta(days=n, minutes=5), billing_mode="subscription", output_tokens=90_000
            )
            for n in range(9)
        ],
        _stored("tried", at=now - timedelta(minutes=4), superseded=True, status="error", http_status=529),
        _stored("late", at=now - timedelta(days=2)) | {"received_at": now},
        _stored("last-month", at=noon, model="mystery-1", model_requested="mystery-1", input_tokens=900_000),
    ]
    assert warehouse.append("events", [*rows, rows[0] | {"received_at": now}]) == {}
    warehouse.append(
        "shelved",
        [
            {"shelved_at": now - timedelta(minutes=30), "message_id": f"m{n // 2}", "reason": reason, "raw": b"?"}
            for n, reason in enumerate(["input_tokens: not INT64"] * 4 + ["not JSON"])
        ],
    )
    said = {"about": "company-month", "period": f"{today:%Y-%m}", "threshold": 80, "audience_kind": "all"}
    outcomes = [("mail", "sent", 1, None), ("slack", "failed", 1, "the Slack webhook answered 404")]
    tried = [
        {
            "delivery_id": channel,
            "channel": channel,
            "state": state,
            "attempt": attempt,
            "reason": reason,
            "tried_at": now,
        }
        for channel, state, attempt, reason in outcomes
    ]
    assert warehouse.append("deliveries", [said | row for row in tried]) == {}
    rollup.refresh(warehouse)
    months = warehouse.query("SELECT DISTINCT DATE_TRUNC(day, MONTH) AS month FROM tally.team_rollup")
    over = [row["month"] for row in months if row["month"] <= last]
    warehouse.rewrite("statements", "statement_lines", "month", over)
    late = _stored("after-the-close", at=noon, output_tokens=120_000) | {"received_at": now}
    assert warehouse.append("events", [late]) == {}
    rollup.refresh(warehouse)
    changes = warehouse.query("SELECT * FROM tally.statement_changes WHERE open_usd <> 0")
    posted = [
        {"adjustment_id": f"c{n}", "cost_usd": row["open_usd"], "posted_at": now}
        | {name: row[name] for name in ("month", "team", "key_kind", "provider", "model", "reason")}
        for n, row in enumerate(changes)
    ]
    assert warehouse.append("adjustments", posted) == {}
    warehouse.replace("teams", [{"team": team, "cost_centre": "R&D"} for team in ("Platform", "Search")])
    warehouse.replace(
        "seats",
        [
            {
                "person": email,
                "provider": "anthropic",
                "plan": "Max",
                "usd_per_month": Decimal(100),
                "valid_from": last.replace(day=1),
                "valid_to": None,
            }
            for email, team in people()
            if team == "Platform"
        ],
    )

    warehouse.replace("gateway_keys", [{"provider": provider, "id": "gateway"} for provider in ("anthropic", "openai")])
    assert warehouse.append("bills", list(_bills(warehouse, now))) == {}


def _bills(warehouse: Warehouse, now: datetime) -> Iterator[dict[str, Any]]:
    """Two weeks billed: a part for keys that are not the gateway's, one model dearer than we think, a day revised."""
    kinds = {"input": 0, "cache_read": 1, "cache_write_5m": 2, "output": 3}
    used = warehouse.query(
        "SELECT day, provider, model, SUM(input_tokens) AS input, SUM(cache_read_tokens) AS cache_read, "
        "SUM(cache_write_5m_tokens) AS cache_write_5m, SUM(output_tokens) AS output FROM tally.team_daily "
        "WHERE provider IN ('anthropic', 'openai') AND billing_mode = 'metered' AND day BETWEEN @first AND @last "
        "GROUP BY day, provider, model",
        {"first": now.date() - timedelta(days=14), "last": now.date() - timedelta(days=1)},
    )
    revised = now.date() - timedelta(days=5)
    for row in used:
        price = MODELS[row["model"]][2] if row["model"] in MODELS else ("5", "0.5", "6.25", "25")
        dearer = Decimal("1.04") if row["model"] == "claude-haiku-5" else Decimal(1)
        for kind, place in kinds.items():
            quantity = int(row[kind])
            whole = quantity * Decimal(price[place]) * dearer / 10**6
            for report, reading, amount in (
                ("usage", 2, None),
                *([("cost", 1, whole * Decimal("0.9"))] if row["day"] == revised else []),
                ("cost", 2, whole),
            ):
                line = {
                    "provider": row["provider"],
                    "report": report,
                    "day": row["day"],
                    "model": row["model"],
                    "project": "gateway",
                    "token_kind": kind,
                    "quantity": quantity,
                    "amount_usd": amount,
                    "fetch_id": f"{row['provider']}-{report}-{row['day']}-{reading}",
                    "fetched_at": datetime.combine(row["day"], time(6), UTC) + timedelta(days=reading),
                }
                yield line
                part = Decimal("0.05")
                yield line | {
                    "project": "somebody's",
                    "quantity": int(quantity * part),
                    "amount_usd": None if amount is None else amount * part,
                }


def _stored(name: str, *, at: datetime, **fields: Any) -> dict[str, Any]:
    return one(name, email=ADA, at=at, **fields).row() | {"received_at": at + STORED_AFTER}


def prices() -> list[dict[str, Any]]:
    """The price book of the company, with a fallback."""
    listed = [(provider, model, prices) for model, (provider, _, prices) in MODELS.items()]
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
            "valid_from": date(2024, 1, 1),
            "source": "tally",
        }
        for provider, model, prices in [*listed, ("*", "*", ("5", "0.5", "6.25", "25"))]
        for kind, price in zip(KINDS, prices, strict=True)
    ]


def events(now: datetime) -> Iterator[UsageEvent]:
    """A few requests for each person and day; fewer at weekends, more each month, a launch six weeks ago."""
    dice = Random(7)
    for email, team in people():
        eager = dice.uniform(0.8, 2.8)
        since = DAYS if email in (ADA, BOB) else dice.randrange(20, DAYS + 60)
        until = 0 if email in (ADA, BOB) or dice.random() < 0.8 else dice.randrange(1, 60)
        for ago in range(min(since, DAYS), until - 1, -1):
            day = now.date() - timedelta(days=ago)
            if dice.random() > (0.78 if day.weekday() < 5 else 0.1):
                continue
            growth = 0.45 + 0.55 * (DAYS - ago) / DAYS
            launch = 1.7 / (1 + math.exp((ago - 40) / 4))
            for n in range(1 + dice.randrange(2)):
                yield _event(dice, email, team, day, n, eager * growth, launch, now)
    yield one("most-recent", email=ADA, at=now - timedelta(minutes=1))


def _event(
    dice: Random, email: str, team: str, day: date, n: int, size: float, launch: float, now: datetime
) -> UsageEvent:
    weights = [share * (launch if model == "claude-opus-5-5" else 1) for model, (_, share, _) in MODELS.items()]
    model = dice.choices(list(MODELS), weights)[0]
    provider = MODELS[model][0]
    at = datetime.combine(day, time(7 + dice.randrange(11), dice.randrange(60)), UTC)
    work = size * dice.lognormvariate(0, 0.5)
    tool, version = TOOLS.get(provider, ("other", None))
    read, written = int(dice.uniform(0.6, 1.4) * 1_500_000 * work), int(200_000 * work)
    tokens = (int(90_000 * work), read, written if provider == "anthropic" else 0, int(45_000 * work))
    cost = sum((n * Decimal(price) for n, price in zip(tokens, MODELS[model][2], strict=True)), Decimal(0)) / 10**6
    return one(
        f"{email}-{day}-{n}",
        email=email,
        team=team,
        at=min(at, now - timedelta(minutes=2)),
        tool=tool,
        tool_version=version,
        provider=provider,
        model=model,
        input_tokens=tokens[0],
        cache_read_tokens=tokens[1],
        cache_write_5m_tokens=tokens[2],
        output_tokens=tokens[3],
        gateway_cost_usd=round(cost * LITELLM.get(model, Decimal(1)), 9),
        usage_source="provider" if dice.random() < 0.97 else "counted",
        status="ok" if dice.random() < 0.98 else "aborted",
    )


def one(name: str, *, email: str, at: datetime, team: str = "Platform", **fields: Any) -> UsageEvent:
    """One request; what is not given is a small answer of Claude Code."""
    ours: dict[str, Any] = {
        "event_id": f"event-{name}",
        "request_id": f"request-{name}",
        "occurred_at": at,
        "person": email,
        "team": team,
        "key_id": f"{hash_of(email):012x}"[-12:],
        "tool": "claude-code",
        "tool_version": "2.1.197",
        "session_id": f"{hash_of(email + str(at.date())):x}",
        "route": "messages",
        "provider": "anthropic",
        "model": "claude-sonnet-5",
        "model_requested": "claude-sonnet-5",
        "stream": True,
        "status": "ok",
        "http_status": 200,
        "latency_ms": 4200,
        "time_to_first_token_ms": 640,
        "usage_source": "provider",
        "input_tokens": 812,
        "cache_read_tokens": 14_200,
        "output_tokens": 96,
    }
    return UsageEvent.model_validate(ours | fields)


def hash_of(text: str) -> int:
    """The same number in every process."""
    return zlib.crc32(text.encode()) * 2_654_435_761_987
