"""What budgets cost a request: the look into memory that decides, and the count of its event afterwards.

    python -m bench.gate [--people 10000] [--budgets 1000]

Goal: 50 µs a request. Each person has a limit of their own, and is in a team, with a tool, a provider and a tag that
have budgets too. `first` are requests after the limits have changed, most of them of keys that were not seen since.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from governance import gate, keys, prices
from governance.events import UsageEvent
from governance.gate import Head, Limit
from governance.keys import KeyRecord
from governance.periods import period_of
from governance.registry import SqliteRegistry
from proxy_service import gate_words
from proxy_service.gatekeeper import Gatekeeper

MODELS = ("claude-opus-5-5", "claude-sonnet-5-5", "gpt-5.4", "kimi-k2")
ROUNDS, BATCH = 20_000, 500


def limit(scope: str, name: str, spent: int, now: datetime) -> Limit:
    """A month's budget of 1,000 USD that blocks."""
    month = period_of("month", now)
    budget = "-".join(part for part in (scope, name, "month") if part)
    usd = Decimal(1000)
    return Limit(budget, scope, name, month.key, month.ends_at, usd, Decimal(spent), usd, False, "lead@example.com")


def limits(people: int, budgets: int, now: datetime) -> list[Limit]:
    """One of each person, and so many others: of the company, teams, models, providers, tools, tags."""
    found = [limit("person", f"p{n}@example.com", n % 900, now) for n in range(people)]
    found += [limit("company", "", 10, now), limit("provider", "anthropic", 10, now), limit("tool", "codex", 10, now)]
    found += [limit("model", model, 10, now) for model in MODELS]
    teams = (budgets - len(found) + people) // 2
    found += [limit("team", f"t{n}", n % 900, now) for n in range(teams)]
    found += [limit("tag", f"project=p{n}", n % 900, now) for n in range(budgets - (len(found) - people))]
    return found


def records(people: int) -> list[KeyRecord]:
    """A key of each person."""
    return [
        keys.new_record(
            f"key {n}", "pepper", person=f"p{n}@example.com", team=f"t{n % 400}", tags=(f"project=p{n % 400}",)
        )[1]
        for n in range(people)
    ]


def event_of(record: KeyRecord, model: str, number: int, now: datetime) -> UsageEvent:
    """An answered request."""
    return UsageEvent(
        event_id=f"event-{number:08}", request_id=f"event-{number:08}", occurred_at=now, person=record.person,
        team=record.team, key_id=record.key_id, tool="codex", route="responses", provider="anthropic",
        model_requested=model, model=model, status="ok", usage_source="provider", input_tokens=200,
        cache_read_tokens=9_000, output_tokens=300,
    )  # fmt: skip


def cost_us(act: Callable[[int], object], rounds: int = ROUNDS) -> tuple[float, float]:
    """Microseconds of the thread's own time for one act: the median over batches of 500, and the best batch."""
    took = []
    for first in range(0, rounds, BATCH):
        started = time.thread_time()
        for number in range(first, first + BATCH):
            act(number)
        took.append((time.thread_time() - started) / BATCH * 1e6)
    return statistics.median(took), min(took)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--budgets", type=int, default=1_000)
    given = parser.parse_args()
    now = datetime.now(UTC)
    registry = SqliteRegistry(Path(tempfile.mkdtemp()) / "registry.db")
    head = Head(now, now - timedelta(seconds=5), stale=False, stale_after_s=3600)
    gate.write(registry, head, limits(given.people, given.budgets, now))
    keeper = Gatekeeper(registry, prices.book(), poll_s=2.0)
    looks = []
    for _ in range(2):
        started = time.perf_counter()
        keeper.look()
        looks.append((time.perf_counter() - started) * 1e3)
    holders, dice = records(given.people), random.Random(4)
    told = [(dice.choice(holders), dice.choice(MODELS)) for _ in range(ROUNDS)]
    events = [event_of(record, model, number, now) for number, (record, model) in enumerate(told)]

    def check(number: int) -> None:
        record, model = told[number]
        verdict = keeper.check(record, model, "anthropic", "codex")
        gate_words.headers(verdict, "responses")

    print(f"Load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {ROUNDS:,} requests each.\n")
    print("| what | median µs | best µs |\n|---|---|---|")
    for what, act in (
        ("a request, first", check),
        ("a request, again", check),
        ("its event counted, after the answer", lambda number: keeper.saw(events[number])),
        ("a request, with sums of 20,000 events", check),
    ):
        middle, best = cost_us(act)
        goal = " (goal ≤ 50)" if act is check else ""
        print(f"| {what} | **{middle:.1f}**{goal} | {best:.1f} |", flush=True)
    print(
        f"\nAll limits read: {looks[0]:.0f} ms; a look where nothing changed: {looks[1]:.1f} ms. Both beside requests."
    )
    assert not keeper.failures, "a check failed"


if __name__ == "__main__":
    main()
