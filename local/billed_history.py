"""The providers' bill for the company's past: what the gateway asked for, and what it cannot have seen or known.

Rows of the ledger (local/ledger.py) that each stand for many requests of one day alike: `requests` says how many, and
`prompt_tokens` how long the longest of their prompts was; all are on the same side of every price threshold. Planted,
for somebody to find: traffic with a key of somebody's own, and a model that the provider charges at another price.
What a person's own subscription covers is on no bill.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from local.ledger import GATEWAY_KEY, KINDS, PriceList, cost_usd, payer
from local.wire.turn import Tokens

Row = dict[str, Any]

BYPASSED: Final = ("openai", "anthropic")  # the providers for which somebody has a key of her own
BYPASS_PER_10_000: Final = 753  # of the gateway's requests are made once more past it: 7 % of what is billed then
OWN_KEY: Final = "a key of somebody's own"
# Charged at 1.22 times the list: about one per cent of the bill.
MISPRICED: Final = ("anthropic", "claude-sonnet-5")
MISPRICED_FACTOR: Final = Decimal("1.22")
_THRESHOLDS: Final = (100_000, 128_000, 200_000, 256_000, 272_000, 512_000)
_COUNTS: Final = (*KINDS, "reasoning", "input_audio", "output_audio")


class _Alike(NamedTuple):
    """What the requests of a row have in common."""

    day: date
    provider: str
    model: str
    route: str
    stream: bool
    usage: str
    service_tier: str
    residency: str
    band: int  # how many price thresholds their prompts exceed
    key: str


@dataclass
class _Sum:
    """Those requests, added up."""

    first_id: str
    last_at: datetime
    requests: int = 0
    prompt_tokens: int = 0
    web_searches: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))

    def add(self, event: Mapping[str, Any], prompt_tokens: int) -> None:
        """One more of them."""
        self.requests += 1
        self.last_at = max(self.last_at, event["occurred_at"])
        self.prompt_tokens = max(self.prompt_tokens, prompt_tokens)
        self.web_searches += event["web_searches"]
        for kind in _COUNTS:
            self.counts[kind] += event[f"{kind}_tokens"]


def bill_rows(events: Iterable[Mapping[str, Any]], prices: PriceList) -> list[Row]:
    """Rows of the ledger for rows of `events`: the same events, the same rows with the same ids."""
    sums: dict[_Alike, _Sum] = {}
    for event in events:
        if event["usage_source"] == "none" or event["billing_mode"] == "subscription":
            continue
        prompt = event["input_tokens"] + event["cache_read_tokens"]
        prompt += event["cache_write_5m_tokens"] + event["cache_write_1h_tokens"]
        for key in (GATEWAY_KEY, OWN_KEY) if _is_bypassed(event) else (GATEWAY_KEY,):
            alike = _Alike(
                event["occurred_at"].date(),
                event["provider"],
                event["model"],
                event["route"],
                event["stream"],
                "sent" if event["usage_source"] == "provider" else "omitted",
                event["service_tier"] or "standard",
                event["residency"] or "",
                bisect_left(_THRESHOLDS, prompt),
                key,
            )
            if alike not in sums:
                sums[alike] = _Sum(event["event_id"], event["occurred_at"])
            sums[alike].add(event, prompt)
    by_id: defaultdict[str, int] = defaultdict(int)  # several rows may begin with the same event
    rows = []
    for alike, sum_ in sums.items():
        by_id[sum_.first_id] += 1
        rows.append(_row(alike, sum_, f"{sum_.first_id}-{by_id[sum_.first_id]}", prices))
    return sorted(rows, key=lambda row: str(row["occurred_at"]))


def _is_bypassed(event: Mapping[str, Any]) -> bool:
    drawn = zlib.crc32(f"past the gateway {event['event_id']}".encode()) % 10_000
    return event["provider"] in BYPASSED and drawn < BYPASS_PER_10_000


def _row(alike: _Alike, sum_: _Sum, request_id: str, prices: PriceList) -> Row:
    tokens = Tokens(**{f"{kind}_tokens": count for kind, count in sum_.counts.items()})
    book = prices(alike.provider, alike.model, alike.day, alike.service_tier, alike.residency, sum_.prompt_tokens)
    cost = cost_usd(tokens, book, sum_.web_searches)
    if (alike.provider, alike.model) == MISPRICED:
        cost *= MISPRICED_FACTOR
    whose = payer(alike.key)
    return {
        "request_id": request_id,
        "route": alike.route,
        "provider": alike.provider,
        "model": alike.model,
        "stream": alike.stream,
        "status": 200,
        "occurred_at": sum_.last_at.isoformat(),
        "outcome": "answered",
        "usage": alike.usage,
        "api_key_id": whose.api_key_id,
        "project": whose.project,
        "service_tier": alike.service_tier,
        "residency": alike.residency or None,
        "web_searches": sum_.web_searches,
        **{f"{kind}_tokens": count for kind, count in sum_.counts.items()},
        "cost_usd": f"{cost:f}",
        "requests": sum_.requests,
        "prompt_tokens": sum_.prompt_tokens,
    }
