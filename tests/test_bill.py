"""The provider's bill against the warehouse, over two thousand mixed requests through the real gateway."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import eventually
from tests.stack import Stack, running

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
MODELS = {
    "chat": ("gpt-5.4", "gpt-6.1-sol", "gpt-5-mini", "kimi-k2.6"),
    "messages": ("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5"),
    "responses": ("gpt-5.4", "gpt-6.1-sol", "gpt-5.3-codex"),
}
CACHES = {
    "none": "cache_read=0",
    "read": "cache_read=4321",
    "write 5m": "cache_write_5m=777",
    "write 1h": "cache_write_1h=333",
    "mixed": "cache_read=9001 cache_write_5m=210 cache_write_1h=97",
}
ONLY_ANTHROPIC = {"write 5m", "write 1h", "mixed"}  # OpenAI has one kind of cache write, and not on every model
REQUESTS = 2_000
SEED = 20261123


@dataclass(frozen=True)
class Cell:
    """One combination of the matrix."""

    route: str
    stream: bool
    usage: str  # sent, omitted, on request
    cache: str
    error: int | None

    def directive(self, dice: random.Random) -> str:
        output = dice.randrange(1, 400)
        words = [f"input={dice.randrange(1, 60_000)}", CACHES[self.cache], f"output={output}"]
        words += [f"reasoning={dice.randrange(output)}", f"chunks={dice.randrange(1, 12)}"]
        words += {"sent": ["usage=send"], "omitted": ["usage=omit"], "on request": []}[self.usage]
        words += [f"error={self.error}"] if self.error else []
        return f"[[sim {' '.join(words)}]]"

    def body(self, dice: random.Random) -> dict[str, Any]:
        said = f"Please look at file {dice.randrange(10**9)}. {self.directive(dice)}"
        body: dict[str, Any] = {"model": dice.choice(MODELS[self.route]), "stream": self.stream}
        if self.route == "responses":
            return body | {"input": said}
        body["messages"] = [{"role": "user", "content": said}]
        return body | ({"max_tokens": 512} if self.route == "messages" else {})


def cells() -> Iterator[Cell]:
    for route, stream, usage, cache in itertools.product(
        PATHS, (True, False), ("sent", "omitted", "on request"), CACHES
    ):
        if route != "messages" and cache in ONLY_ANTHROPIC:
            continue
        yield Cell(route, stream, usage, cache, None)
    for route, stream, error in itertools.product(PATHS, (True, False), (400, 429, 500, 529)):
        yield Cell(route, stream, "sent", "none", error)


async def drive(run: dict[str, Any]) -> list[tuple[Cell, int]]:
    """The cells in turn, sixteen at a time. Returns each with the status that the caller saw."""
    dice = random.Random(SEED)
    plan = [cell for cell, _ in zip(itertools.cycle(list(cells())), range(REQUESTS + 60), strict=False)]
    dice.shuffle(plan)
    headers = {"authorization": f"Bearer {run['key']}", "anthropic-version": "2023-06-01"}
    gate = asyncio.Semaphore(16)
    async with aiohttp.ClientSession(run["proxy_url"], headers=headers) as session:

        async def one(cell: Cell) -> tuple[Cell, int]:
            body = cell.body(dice)
            async with gate, session.post(PATHS[cell.route], json=body) as answer:
                await answer.read()
                return cell, answer.status

        return list(await asyncio.gather(*map(one, plan)))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home: Path = tmp_path_factory.mktemp("bill") / "tally"
    with running(home, "--no-history", "--no-traffic") as started:
        yield started


@dataclass(frozen=True)
class Ledgers:
    """Both accounts of the same traffic, by the provider's own request id."""

    seen: list[tuple[Cell, int]]
    billed: list[dict[str, Any]]
    ours: list[dict[str, Any]]


@pytest.fixture(scope="module")
def ledgers(stack: Stack) -> Ledgers:
    before = len(stack.bill())
    seen = asyncio.run(drive(stack.run))
    eventually(lambda: stack.request_count() >= len(seen), within_s=60)
    ours = stack.warehouse.query(
        "SELECT event_id, provider_request_id, status, http_status, usage_source, price_source, route, stream, model, "
        "input_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens, output_tokens, "
        "reasoning_tokens, cost_usd FROM tally.requests"
    )
    return Ledgers(seen, stack.bill()[before:], ours)


def test_every_request_is_one_event_and_one_line_of_the_bill(ledgers: Ledgers) -> None:
    assert len(ledgers.seen) >= REQUESTS
    assert len(ledgers.ours) == len(ledgers.billed) == len(ledgers.seen)
    assert len({row["event_id"] for row in ledgers.ours}) == len(ledgers.ours)


def test_each_caller_saw_what_the_provider_said(ledgers: Ledgers) -> None:
    for cell, status in ledgers.seen:
        assert status == (cell.error or 200), cell


def test_where_the_provider_sent_usage_the_warehouse_equals_its_bill(ledgers: Ledgers) -> None:
    ours = {row["provider_request_id"]: row for row in ledgers.ours if row["status"] == "ok"}
    sent = [row for row in ledgers.billed if row["usage"] == "sent" and row["status"] == 200]
    assert len(sent) > REQUESTS / 3
    for bill in sent:
        row = ours[bill["request_id"]]
        kinds = [k for k in bill if k.endswith("_tokens")]
        assert {k: row[k] for k in kinds} == {k: bill[k] for k in kinds}, bill
        assert (row["usage_source"], row["price_source"]) == ("provider", "book"), row
        assert row["cost_usd"] == Decimal(bill["cost_usd"]), bill
    total, theirs = (
        sum((Decimal(r["cost_usd"]) for r in rows), Decimal(0))
        for rows in ([ours[b["request_id"]] for b in sent], sent)
    )
    assert theirs > 0
    assert abs(total - theirs) <= theirs * Decimal("1e-9")


def test_where_it_sent_none_the_tokens_are_counted_and_the_row_says_so(ledgers: Ledgers) -> None:
    ours = {row["provider_request_id"]: row for row in ledgers.ours if row["status"] == "ok"}
    omitted = [row for row in ledgers.billed if row["usage"] == "omitted" and row["status"] == 200]
    assert len(omitted) > REQUESTS / 8
    for bill in omitted:
        row = ours[bill["request_id"]]
        assert row["usage_source"] == "counted", bill
        assert row["input_tokens"] > 0, bill
        assert row["output_tokens"] > 0, bill
        assert row["cost_usd"] > 0, bill


def test_an_error_is_a_row_that_costs_nothing(ledgers: Ledgers) -> None:
    errors = [row for row in ledgers.ours if row["status"] == "error"]
    assert sorted(row["http_status"] for row in errors) == sorted(s for c, s in ledgers.seen if c.error)
    assert {(row["usage_source"], row["cost_usd"]) for row in errors} == {("none", Decimal(0))}
