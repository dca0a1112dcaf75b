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
    """Roster, prices and events up to a minute before `now`."""
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
    warehouse.replace(
        "prices",
        [
            {
                "provider": provider,
                "model": model,
                "token_kind": kind,
                "modifier": "standard",
                "usd_per_mtok": Decimal(price),
                "valid_from": begin,
                "source": "tally",
            }
            for model, (provider, _, prices) in MODELS.items()
            for kind, price in zip(KINDS, prices, strict=True)
        ],
    )
    rows = [event.row() | {"received_at": event.occurred_at} for event in events(now)]
    assert warehouse.append("events", rows) == {}


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
    return one(
        f"{email}-{day}-{n}",
        email=email,
        team=team,
        at=min(at, now - timedelta(minutes=2)),
        tool=tool,
        tool_version=version,
        provider=provider,
        model=model,
        input_tokens=int(90_000 * work),
        cache_read_tokens=int(dice.uniform(0.6, 1.4) * 1_500_000 * work),
        cache_write_5m_tokens=int(200_000 * work) if provider == "anthropic" else 0,
        output_tokens=int(45_000 * work),
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
