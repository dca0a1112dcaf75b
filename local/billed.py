"""What the simulated bill adds up to: tokens and dollars by day, key, project, model, terms and kind, as told by now.

The last minutes are not told yet, and of a day that has just ended some requests come hours later.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from local.ledger import KINDS, Ledger

LAG: Final = timedelta(minutes=5)  # what is newer is not in the reports yet
SETTLES_AFTER: Final = timedelta(hours=6)  # until then after its end, a day lacks some of its requests
BUSY_EVERY: Final = 9  # one question in so many is answered 429
_LATE_SHARE: Final = 12  # one request in so many comes late
_MILLION: Final = Decimal(1_000_000)
_LONG: Final = {"openai": 272_000, "anthropic": 200_000}


@dataclass(frozen=True)
class About:
    """What requests have in common that stand in one line of a report."""

    provider: str
    day: date
    embeddings: bool
    late: bool
    model: str
    api_key_id: str
    project: str
    service_tier: str
    residency: str
    long: bool


@dataclass
class Sums:
    """Tokens and dollars by kind, `web_search` among them."""

    requests: int = 0
    quantity: dict[str, int] = field(default_factory=dict)
    usd: dict[str, Decimal] = field(default_factory=dict)

    def add(self, kind: str, quantity: int, usd: Decimal) -> None:
        """A part of one request."""
        if quantity or usd:
            self.quantity[kind] = self.quantity.get(kind, 0) + quantity
            self.usd[kind] = self.usd.get(kind, Decimal(0)) + usd


class Billing:
    """The reports of a ledger. `clock` gives the time in UTC: by it lines come late."""

    def __init__(
        self, ledger: Ledger, clock: Callable[[], datetime] = lambda: datetime.now(UTC), busy_every: int = BUSY_EVERY
    ) -> None:
        self._ledger, self.clock, self._busy_every = ledger, clock, busy_every
        self._sums: dict[About, Sums] = {}
        self._waiting: list[Mapping[str, Any]] = []  # too new, so far
        self._read = self._asked = 0

    def is_busy(self) -> bool:
        """Whether this question is answered 429. The first never is."""
        self._asked += 1
        return self._asked % self._busy_every == 0

    def lines(self, provider: str, day: date) -> Iterator[tuple[About, Sums]]:
        """What is told of a day by now."""
        self._catch_up()
        now = self.clock()
        settled = now >= datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1) + SETTLES_AFTER
        for about, sums in self._sums.items():
            if (about.provider, about.day) == (provider, day) and (settled or not about.late):
                yield about, sums

    def _catch_up(self) -> None:
        told = self.clock() - LAG
        fresh = self._ledger.bill(self._read)
        self._read += len(fresh)
        waiting = [*self._waiting, *fresh]
        self._waiting = [row for row in waiting if datetime.fromisoformat(row["occurred_at"]) > told]
        for row in waiting:
            told_of = row["outcome"] != "error" and row["provider"] in _LONG
            if told_of and datetime.fromisoformat(row["occurred_at"]) <= told:
                self._add(row)

    def _add(self, row: Mapping[str, Any]) -> None:
        day = datetime.fromisoformat(row["occurred_at"]).astimezone(UTC).date()
        counts = {kind: row[f"{kind}_tokens"] for kind in KINDS}
        # A row of the past stands for many requests, and says how long their prompts were.
        prompt = row.get("prompt_tokens", sum(counts.values()) - counts["output"])
        about = About(
            provider=row["provider"],
            day=day,
            embeddings=row["route"] == "embeddings",
            late=zlib.crc32(row["request_id"].encode()) % _LATE_SHARE == 0,
            model=row["model"],
            api_key_id=row["api_key_id"],
            project=row["project"],
            service_tier=row["service_tier"] or "standard",
            residency=row["residency"] or "",
            long=prompt > _LONG[row["provider"]],
        )
        where = (about.service_tier, about.residency, prompt)
        prices = self._ledger.price_list(about.provider, about.model, day, *where)
        sums, rest = self._sums.setdefault(about, Sums()), Decimal(row["cost_usd"])
        sums.requests += row.get("requests", 1)
        search = row["web_searches"] * prices.get("web_search", Decimal(0)) / _MILLION
        sums.add("web_search", row["web_searches"], search)
        rest -= search
        for kind in ("input", "cache_read", "cache_write_5m", "cache_write_1h"):
            usd = counts[kind] * prices.get(kind, prices["input"]) / _MILLION
            if kind == "input":
                sound = row.get("input_audio_tokens", 0)
                usd += sound * (prices.get("input_audio", prices["input"]) - prices["input"]) / _MILLION
            sums.add(kind, counts[kind], usd)
            rest -= usd
        sums.add("output", counts["output"], rest)  # whatever is left: the total is the ledger's, to the last digit
