"""The simulated provider's own bill: a line per request, and its own arithmetic over the dated list prices.

It shares the price list with the views and nothing else, so that the two can be held against each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final, Literal

from governance.contract import Contract
from governance.prices import usd_per_million
from local.wire.turn import STANDARD, Terms, Tokens

# provider, model, UTC day, service tier, residency ('' is any), tokens of the prompt -> kind -> USD for a million
PriceList = Callable[[str, str, date, str, str, int], Mapping[str, Decimal]]
Outcome = Literal["answered", "error", "cut", "client_gone"]
KINDS: Final = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
SOUND: Final = ("input_audio", "output_audio")  # part of input and of output, at a price of its own
GATEWAY_KEY: Final = "simulated"  # what the gateway of a demo presents to every provider
_MILLION: Final = Decimal(1_000_000)


def prices_of(price_list: Literal["list", "contract"], contract: Contract | None = None) -> PriceList:
    """The public list, or what a company pays by its contract, as the price book has them."""

    def prices(
        provider: str, model: str, day: date, service_tier: str, residency: str, prompt_tokens: int
    ) -> Mapping[str, Decimal]:
        return usd_per_million(provider, model, day, service_tier, residency, prompt_tokens, price_list, contract)

    return prices


book_prices: Final = prices_of("contract")
list_prices: Final = prices_of("list")


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose key it was: the provider's public id of the key, and the project it belongs to."""

    api_key_id: str
    project: str


def payer(key: str, gateway_keys: Collection[str] = (GATEWAY_KEY,)) -> Payer:
    """The public side of a provider key. The key itself is kept nowhere."""
    hashed = hashlib.sha256(key.encode()).hexdigest()
    return Payer(f"key_{hashed[:10]}", "gateway" if key in gateway_keys else "other")


def cost_usd(tokens: Tokens, prices: Mapping[str, Decimal], web_searches: int = 0) -> Decimal:
    """What these tokens and searches cost, exactly. A kind without a price costs what it stands in: input or output."""
    plain = {kind: getattr(tokens, f"{kind}_tokens") for kind in KINDS}
    plain["input"] -= tokens.input_audio_tokens
    plain["output"] -= tokens.output_audio_tokens
    cost = sum((count * prices.get(kind, prices["input"]) for kind, count in plain.items()), Decimal(0))
    cost += tokens.input_audio_tokens * prices.get("input_audio", prices["input"])
    cost += tokens.output_audio_tokens * prices.get("output_audio", prices["output"])
    return (cost + web_searches * prices.get("web_search", Decimal(0))) / _MILLION


@dataclass(frozen=True, slots=True)
class Line:
    """One request on the bill. `usage` says whether the caller was told these counts."""

    request_id: str
    occurred_at: datetime
    route: str
    provider: str
    model: str
    stream: bool
    status: int
    outcome: Outcome
    usage: Literal["sent", "omitted"]
    tokens: Tokens
    cost_usd: Decimal
    payer: Payer
    terms: Terms = STANDARD

    def row(self) -> dict[str, Any]:
        """The line as JSON types; dollars as a decimal string, residency null for anywhere."""
        told = {name: getattr(self, name) for name in ("request_id", "route", "provider", "model", "stream", "status")}
        counts = {f"{kind}_tokens": getattr(self.tokens, f"{kind}_tokens") for kind in (*KINDS, "reasoning", *SOUND)}
        ends = {"occurred_at": self.occurred_at.isoformat(), "outcome": self.outcome, "usage": self.usage}
        whose = {"api_key_id": self.payer.api_key_id, "project": self.payer.project}
        terms = {
            "service_tier": self.terms.service_tier,
            "residency": self.terms.residency or None,
            "web_searches": self.terms.web_searches,
        }
        return told | ends | whose | terms | counts | {"cost_usd": f"{self.cost_usd:f}"}


class Ledger:
    """The bill so far. Written through to `path`, and read back from it, when a path is given.

    `gateway_keys` are the provider keys that the gateway uses: what they pay for stands under the project `gateway`.
    """

    def __init__(
        self,
        path: Path | None = None,
        price_list: PriceList = book_prices,
        gateway_keys: Collection[str] = (GATEWAY_KEY,),
    ) -> None:
        self.price_list = price_list
        self.gateway_keys = frozenset(gateway_keys)
        self._rows: list[dict[str, Any]] = []
        self._file: IO[str] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self._rows = [json.loads(line) for line in path.read_text().splitlines() if line]
            self._file = path.open("a", buffering=1)

    def payer(self, key: str) -> Payer:
        """Who pays for a request with this provider key."""
        return payer(key, self.gateway_keys)

    def charge(self, provider: str, model: str, tokens: Tokens, terms: Terms = STANDARD) -> Decimal:
        """What an answer will cost, before it is on the bill."""
        day = datetime.now(UTC).date()
        prices = self.price_list(provider, model, day, terms.service_tier, terms.residency, tokens.prompt_tokens)
        return cost_usd(tokens, prices, terms.web_searches)

    def write(self, line: Line) -> None:
        """Put a request on the bill."""
        self._write(line.row())

    def add(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Rows made elsewhere (local/billed_history.py), those that are not there yet. Returns how many."""
        known = {row["request_id"] for row in self._rows}
        fresh = [dict(row) for row in rows if row["request_id"] not in known]
        for row in fresh:
            self._write(row)
        return len(fresh)

    def _write(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if self._file is not None:
            self._file.write(json.dumps(row, separators=(",", ":")) + "\n")

    def bill(self, after: int = 0) -> list[dict[str, Any]]:
        """The rows, oldest first, without the first `after`."""
        return self._rows[after:]

    def close(self) -> None:
        """Close the file. The bill can still be read."""
        if self._file is not None:
            self._file.close()
            self._file = None
