"""The providers' admin APIs over the simulated bill: OpenAI's costs and usage, Anthropic's cost and usage reports.

In their documented shape, with the faults of the real ones: few days to a page, a 429 now and then, the last minutes
not there yet, and a day whose last requests are added hours after it ended. The dollars of all lines add up to the
ledger's, exactly. Model, key and project are told as the caller groups; what is not grouped by is null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from aiohttp import web

from local.billed import About, Billing
from local.ledger import Ledger

ADMIN_KEY: Final = "simulated-admin"
PAGE_DAYS: Final = 7
_TOKEN_TYPES: Final = {
    "input": "uncached_input_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write_5m": "cache_creation.ephemeral_5m_input_tokens",
    "cache_write_1h": "cache_creation.ephemeral_1h_input_tokens",
    "output": "output_tokens",
}
_LINE_ITEMS: Final = {
    "input": "input",
    "cache_read": "cached input",
    "cache_write_5m": "cache writes",
    "cache_write_1h": "cache writes",
    "output": "output",
}
Item = dict[str, Any]


def routes(app: web.Application, ledger: Ledger, billing: Billing | None = None) -> None:
    """Serve the reports of this ledger."""
    told = billing or Billing(ledger)
    for path, items in (
        ("/v1/organization/costs", _openai_costs),
        ("/v1/organization/usage/completions", _openai_completions),
        ("/v1/organization/usage/embeddings", _openai_embeddings),
    ):
        app.router.add_get(path, _OpenAI(told, items, 180 if path.endswith("costs") else 31).answer)
    for path, items in (
        ("/v1/organizations/cost_report", _anthropic_costs),
        ("/v1/organizations/usage_report/messages", _anthropic_usage),
    ):
        app.router.add_get(path, _Anthropic(told, items).answer)


class _BadRequest(Exception):
    pass


@dataclass
class _OpenAI:
    billing: Billing
    items: Callable[[Billing, date], Iterable[Item]]
    max_days: int

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization") != f"Bearer {ADMIN_KEY}":
            return _error(401, {"error": {"message": "Incorrect API key provided", "type": "invalid_request_error"}})
        if self.billing.is_busy():
            return _error(429, {"error": {"message": "Rate limit reached", "type": "rate_limit_error"}})
        try:
            begin = _utc(int(_one(request, "start_time")))
            end = _utc(int(request.query.get("end_time") or self.billing.clock().timestamp() + 86_400))
            groups = _groups(request)
            days, following = _page(request, begin, end, self.max_days)
        except (_BadRequest, ValueError, OverflowError) as error:
            return _error(400, {"error": {"message": str(error), "type": "invalid_request_error"}})
        data = [
            {
                "object": "bucket",
                "start_time": _unix(day),
                "end_time": _unix(day + timedelta(days=1)),
                "results": _grouped(self.items(self.billing, day), groups),
            }
            for day in days
        ]
        more = {"has_more": following is not None, "next_page": following}
        return _answer({"object": "page", "data": data} | more)


@dataclass
class _Anthropic:
    billing: Billing
    items: Callable[[Billing, date], Iterable[Item]]

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("x-api-key") != ADMIN_KEY:
            told = {"type": "authentication_error", "message": "invalid x-api-key"}
            return _error(401, {"type": "error", "error": told})
        if self.billing.is_busy():
            return _error(429, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}})
        try:
            if "anthropic-version" not in request.headers:
                raise _BadRequest("anthropic-version: header is required")
            begin = datetime.fromisoformat(_one(request, "starting_at"))
            told_end = request.query.get("ending_at")
            end = datetime.fromisoformat(told_end) if told_end else self.billing.clock() + timedelta(days=1)
            groups = _groups(request)
            days, following = _page(request, begin, end, 31)
        except (_BadRequest, ValueError) as error:
            told = {"type": "invalid_request_error", "message": str(error)}
            return _error(400, {"type": "error", "error": told})
        data = [
            {
                "starting_at": f"{day}T00:00:00Z",
                "ending_at": f"{day + timedelta(days=1)}T00:00:00Z",
                "results": _grouped(self.items(self.billing, day), groups),
            }
            for day in days
        ]
        return _answer({"data": data, "has_more": following is not None, "next_page": following})


def _one(request: web.Request, name: str) -> str:
    if name not in request.query:
        raise _BadRequest(f"{name}: field required")
    return request.query[name]


def _groups(request: web.Request) -> frozenset[str]:
    return frozenset(request.query.getall("group_by[]", request.query.getall("group_by", [])))


def _page(request: web.Request, begin: datetime, end: datetime, most: int) -> tuple[list[date], str | None]:
    """The days of the page that is asked for, and the name of the next one. Fewer days than allowed, as it happens."""
    limit = int(request.query.get("limit", "7"))
    if not 1 <= limit <= most:
        raise _BadRequest(f"limit: between 1 and {most}")
    first = begin.astimezone(UTC).date()
    if page := request.query.get("page"):
        if not re.fullmatch(r"page_\d{8}", page):
            raise _BadRequest("page: not a page of this report")
        first = date.fromisoformat(page.removeprefix("page_"))
    days: list[date] = []
    while len(days) < min(limit, PAGE_DAYS) and datetime(first.year, first.month, first.day, tzinfo=UTC) < end:
        days.append(first)
        first += timedelta(days=1)
    more = datetime(first.year, first.month, first.day, tzinfo=UTC) < end
    return days, f"page_{first:%Y%m%d}" if more else None


# --- what a line says; names in `by` are told only to who groups by them ----------------------------------------------
def _openai_costs(billing: Billing, day: date) -> Iterator[Item]:
    for about, sums in billing.lines("openai", day):
        tier = "" if about.service_tier == "standard" else f"{about.service_tier} | "
        for kind, usd in sums.usd.items():
            line = f"{tier}{about.model}, {_LINE_ITEMS.get(kind)}{', long context' if about.long else ''}"
            yield {
                "object": "organization.costs.result",
                "amount": {"value": usd, "currency": "usd"},
                "quantity": sums.quantity[kind],
                "by": {
                    "line_item": "web search tool calls" if kind == "web_search" else line,
                    "project_id": f"proj_{about.project}",
                    "api_key_id": about.api_key_id,
                },
            }


def _openai_completions(billing: Billing, day: date) -> Iterator[Item]:
    for about, sums in billing.lines("openai", day):
        if not about.embeddings:
            count = sums.quantity.get
            written = count("cache_write_5m", 0) + count("cache_write_1h", 0)
            yield {
                "object": "organization.usage.completions.result",
                "input_tokens": count("input", 0) + count("cache_read", 0) + written,
                "input_cached_tokens": count("cache_read", 0),
                "input_cache_write_tokens": written,
                "output_tokens": count("output", 0),
                "num_model_requests": sums.requests,
                "by": {
                    "model": about.model,
                    "project_id": f"proj_{about.project}",
                    "api_key_id": about.api_key_id,
                    "user_id": None,
                    "batch": about.service_tier == "batch",
                    "service_tier": {"standard": "default", "batch": "default"}.get(
                        about.service_tier, about.service_tier
                    ),
                },
            }


def _openai_embeddings(billing: Billing, day: date) -> Iterator[Item]:
    for about, sums in billing.lines("openai", day):
        if about.embeddings:
            yield {
                "object": "organization.usage.embeddings.result",
                "input_tokens": sums.quantity.get("input", 0),
                "num_model_requests": sums.requests,
                "by": {
                    "model": about.model,
                    "project_id": f"proj_{about.project}",
                    "api_key_id": about.api_key_id,
                    "user_id": None,
                },
            }


def _window(about: About) -> str:
    return "200k-1M" if about.long else "0-200k"


def _anthropic_costs(billing: Billing, day: date) -> Iterator[Item]:
    for about, sums in billing.lines("anthropic", day):
        for kind, usd in sums.usd.items():
            search = kind == "web_search"
            words = "Web Search Usage" if search else f"{about.model} Usage - {_TOKEN_TYPES[kind]}"
            yield {
                "amount": usd,
                "currency": "USD",
                "by": {
                    "workspace_id": f"wrkspc_{about.project}",
                    "description": {
                        "description": words,
                        "cost_type": "web_search" if search else "tokens",
                        "token_type": None if search else _TOKEN_TYPES[kind],
                        "model": None if search else about.model,
                        "service_tier": None if search else _anthropic_tier(about),
                        "context_window": None if search else _window(about),
                        "inference_geo": None if search else about.residency or "global",
                    },
                },
            }


def _anthropic_usage(billing: Billing, day: date) -> Iterator[Item]:
    for about, sums in billing.lines("anthropic", day):
        count = sums.quantity.get
        yield {
            "uncached_input_tokens": count("input", 0),
            "cache_read_input_tokens": count("cache_read", 0),
            "cache_creation": {
                "ephemeral_5m_input_tokens": count("cache_write_5m", 0),
                "ephemeral_1h_input_tokens": count("cache_write_1h", 0),
            },
            "output_tokens": count("output", 0),
            "server_tool_use": {"web_search_requests": count("web_search", 0)},
            "by": {
                "model": about.model,
                "api_key_id": f"api{about.api_key_id.replace('_', 'key_', 1).removeprefix('key')}",
                "workspace_id": f"wrkspc_{about.project}",
                "service_tier": _anthropic_tier(about),
                "context_window": _window(about),
                "inference_geo": about.residency or "global",
            },
        }


def _anthropic_tier(about: About) -> str:
    return "standard" if about.service_tier == "fast" else about.service_tier  # fast is a speed, not a tier


def _grouped(items: Iterable[Item], groups: frozenset[str]) -> list[Item]:
    """Lines that the caller does not tell apart are one, and what tells them apart is null."""
    lines: dict[str, Item] = {}
    for item in items:
        by = item.pop("by")
        names: Item = {}
        for name, value in by.items():
            told = value if name in groups else dict.fromkeys(value) if isinstance(value, dict) else None
            names |= told if isinstance(told, dict) else {name: told}
        key = json.dumps(names, sort_keys=True)
        lines[key] = _sum(lines[key], item) | names if key in lines else item | names
    for line in lines.values():
        if "currency" in line:
            line["amount"] = f"{line['amount'] * 100:f}"  # cents, as a decimal string
    return list(lines.values())


def _sum(one: Item, other: Item) -> Item:
    added = dict(one)
    for name, value in other.items():
        if isinstance(value, dict):
            added[name] = _sum(one[name], value)
        elif isinstance(value, int | Decimal):
            added[name] = one[name] + value
    return added


def _utc(unix: int) -> datetime:
    return datetime.fromtimestamp(unix, UTC)


def _unix(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _answer(content: Item) -> web.Response:
    """JSON whose numbers have every digit: a Decimal is written as the number that it is."""
    marked = json.dumps(content, default=lambda value: f"\x00{value:f}")
    return web.Response(text=re.sub(r'"\\u0000([-\d.]+)"', r"\1", marked), content_type="application/json")


def _error(status: int, content: Item) -> web.Response:
    return web.json_response(content, status=status, headers={"retry-after": "1"} if status == 429 else None)
