"""The simulated provider's own bill: a line per request, and its own arithmetic over the dated list prices.

It shares the price list with the views and nothing else, so that the two can be held against each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final, Literal

from local.wire.turn import Tokens

PriceList = Callable[[str, str, datetime], Mapping[str, Decimal]]  # provider, model, when -> token kind -> USD per 1 M
Outcome = Literal["answered", "error", "cut", "client_gone"]
KINDS: Final = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
_MILLION: Final = Decimal(1_000_000)


def book_prices(provider: str, model: str, at: datetime) -> Mapping[str, Decimal]:
    """The company's price book, asked once a minute for each model."""
    return _book_prices(provider, model, at.replace(second=0, microsecond=0))


@lru_cache(maxsize=4096)
def _book_prices(provider: str, model: str, minute: datetime) -> Mapping[str, Decimal]:
    from governance.prices import usd_per_mtok

    return usd_per_mtok(provider, model, minute)


def cost_usd(tokens: Tokens, prices: Mapping[str, Decimal]) -> Decimal:
    """What these tokens cost, exactly. A kind without a price of its own is charged as plain input."""
    return sum(
        (getattr(tokens, f"{kind}_tokens") * prices.get(kind, prices["input"]) / _MILLION for kind in KINDS), Decimal(0)
    )


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

    def row(self) -> dict[str, Any]:
        """The line as JSON types; dollars as a decimal string."""
        told = {name: getattr(self, name) for name in ("request_id", "route", "provider", "model", "stream", "status")}
        counts = {f"{kind}_tokens": getattr(self.tokens, f"{kind}_tokens") for kind in (*KINDS, "reasoning")}
        ends = {"occurred_at": self.occurred_at.isoformat(), "outcome": self.outcome, "usage": self.usage}
        return told | ends | counts | {"cost_usd": f"{self.cost_usd:f}"}


class Ledger:
    """The bill so far. Written through to `path`, and read back from it, when a path is given."""

    def __init__(self, path: Path | None = None, price_list: PriceList = book_prices) -> None:
        self.price_list = price_list
        self._rows: list[dict[str, Any]] = []
        self._file: IO[str] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self._rows = [json.loads(line) for line in path.read_text().splitlines() if line]
            self._file = path.open("a", buffering=1)

    def charge(self, provider: str, model: str, tokens: Tokens) -> Decimal:
        """What an answer will cost, before it is on the bill."""
        return cost_usd(tokens, self.price_list(provider, model, datetime.now(UTC)))

    def write(self, line: Line) -> None:
        """Put a request on the bill."""
        row = line.row()
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
