"""The simulated admin APIs on loopback, a ledger to fill, and a time that stands where a test puts it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from types import ModuleType
from typing import Any

from aiohttp import web

from functions.bills import anthropic_bill, openai_bill
from functions.bills.pager import Api
from functions.bills.reading import Bill
from local import billing
from local.billed import Billing
from local.ledger import Ledger, Line, Payer, cost_usd
from local.wire.turn import Terms, Tokens

PRICES: dict[str, dict[str, Decimal]] = {
    model: dict(
        zip(("input", "cache_read", "cache_write_5m", "cache_write_1h", "output"), map(Decimal, told), strict=True)
    )
    | {"web_search": Decimal(10_000)}
    for model, told in {
        "opus": ("4", "0.2", "5", "8", "20"),
        "haiku": ("0.1", "0.01", "0.125", "0.2", "0.5"),
        "gpt": ("2", "0.1", "2.5", "2.5", "10"),
        "gpt-small": ("0.25", "0.025", "0.25", "0.25", "2"),
        "embed": ("0.02", "0.02", "0.02", "0.02", "0"),
        "mystery": ("3", "0.3", "3.75", "6", "15"),
    }.items()
}


def price_list(
    provider: str, model: str, day: date, service_tier: str, residency: str, prompt_tokens: int
) -> Mapping[str, Decimal]:
    """What the provider charges: half for flex, a tenth more for a residency, twice above the threshold."""
    factor = Decimal("0.5") if service_tier == "flex" else Decimal(1)
    factor *= Decimal("1.1") if residency else Decimal(1)
    factor *= 2 if prompt_tokens > (272_000 if provider == "openai" else 200_000) else 1
    prices = PRICES[model]
    return {kind: price if kind == "web_search" else price * factor for kind, price in prices.items()}


@dataclass
class Time:
    """UTC, as a test says; and seconds that pass only by waiting."""

    now: datetime
    waited_s: list[float] = field(default_factory=list)

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waited_s.append(seconds)

    def monotonic(self) -> float:
        return sum(self.waited_s)


@dataclass
class Provider:
    """The reports of a ledger, served."""

    ledger: Ledger
    url: str
    time: Time

    def bill(
        self, provider: str, key: str = billing.ADMIN_KEY, gateway: tuple[str, ...] = (), deadline_s: float = 240
    ) -> Bill:
        """Its reports, for the reader under test."""
        rooms: dict[str, tuple[ModuleType, dict[str, str]]] = {
            "openai": (openai_bill, {"Authorization": f"Bearer {key}"}),
            "anthropic": (anthropic_bill, {"x-api-key": key, "anthropic-version": anthropic_bill.VERSION}),
        }
        module, headers = rooms[provider]
        api = Api(self.url, headers, self.time.monotonic, self.time.sleep, deadline_s)
        return Bill(provider, partial(module.read, api), gateway)


def charge(
    ledger: Ledger,
    number: int,
    at: datetime,
    model: str,
    tokens: Tokens,
    project: str = "gateway",
    terms: Terms | None = None,
    **about: Any,
) -> Decimal:
    """One request on the bill; what it costs."""
    given = terms or Terms()
    provider = "openai" if model in ("gpt", "gpt-small", "embed") else "anthropic"
    where = (given.service_tier, given.residency, tokens.prompt_tokens)
    cost = cost_usd(tokens, ledger.price_list(provider, model, at.date(), *where), given.web_searches)
    line: dict[str, Any] = {
        "request_id": f"request-{number}",
        "occurred_at": at,
        "route": {"embed": "embeddings"}.get(model, "chat_completions" if provider == "openai" else "messages"),
        "provider": provider,
        "model": model,
        "stream": False,
        "status": 200,
        "outcome": "answered",
        "usage": "sent",
        "tokens": tokens,
        "cost_usd": cost,
        "payer": Payer(f"key_{project}", project),
        "terms": given,
    }
    ledger.write(Line(**line | about))
    return cost


@contextmanager
def serving(app: web.Application) -> Iterator[str]:
    """The application on a free port of loopback, in a thread of its own; its URL."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, access_log=None)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{asyncio.run_coroutine_threadsafe(start(), loop).result(10)}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def provider(now: datetime) -> Iterator[Provider]:
    """A provider with an empty ledger, at this time."""
    ledger, time, app = Ledger(price_list=price_list), Time(now), web.Application()
    billing.routes(app, ledger, Billing(ledger, time))
    with serving(app) as url:
        yield Provider(ledger, url, time)


def day_before(now: datetime, days: int) -> datetime:
    """Midnight (UTC) that many days before today."""
    return datetime(now.year, now.month, now.day, tzinfo=UTC) - timedelta(days=days)
