"""The dated price book: what a million tokens of each kind cost, by provider and model, from which day on.

`prices.json` is the book. `python -m local.seed_prices` adds to it from LiteLLM's list and never rewrites an entry, so
that last month keeps last month's price. A kind that a provider does not price apart is in the book all the same, at
what the provider charges in its place (source `derived`): a cache read or write costs what input costs, the one-hour
write what the five-minute write costs. Model `*` of provider `*` is what an unknown model costs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

BOOK = Path(__file__).with_name("prices.json")
ANY = "*"
TOKEN_KINDS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
_IN_PLACE_OF = {"cache_read": "input", "cache_write_5m": "input", "cache_write_1h": "cache_write_5m"}


@dataclass(frozen=True)
class PriceRow:
    """One price, as the table `prices` has it. `valid_from` is UTC."""

    provider: str
    model: str
    token_kind: str
    modifier: str
    usd_per_mtok: Decimal
    valid_from: datetime
    source: str


def complete(listed: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """The price of every token kind, from those a provider lists. Raises KeyError without input and output."""
    prices = {"input": listed["input"], "output": listed["output"]}
    for kind, other in _IN_PLACE_OF.items():
        prices[kind] = listed.get(kind, prices[other])
    return {kind: prices[kind] for kind in TOKEN_KINDS}


def _rows(entry: Mapping[str, Any]) -> list[PriceRow]:
    listed = {kind: Decimal(price) for kind, price in entry["usd_per_mtok"].items()}
    return [
        PriceRow(
            provider=entry["provider"],
            model=entry["model"],
            token_kind=kind,
            modifier="standard",
            usd_per_mtok=price,
            valid_from=datetime.fromisoformat(entry["valid_from"]).replace(tzinfo=UTC),
            source=entry["source"] if kind in listed else "derived",
        )
        for kind, price in complete(listed).items()
    ]


def load(path: Path = BOOK) -> list[PriceRow]:
    """Every price of the book, in its order: five rows, one for each token kind, to an entry."""
    return [row for entry in json.loads(path.read_text(encoding="utf-8")) for row in _rows(entry)]


def rows_for_warehouse() -> list[dict[str, Any]]:
    """The book as rows of the table `prices`."""
    return [asdict(row) for row in load()]


@cache
def _by_model() -> dict[tuple[str, str], list[PriceRow]]:
    book: dict[tuple[str, str], list[PriceRow]] = defaultdict(list)
    for row in sorted(load(), key=lambda row: row.valid_from):
        book[row.provider, row.model].append(row)
    return dict(book)


def usd_per_mtok(provider: str, model: str, at: datetime) -> dict[str, Decimal]:
    """Token kind to US dollars for a million, for a model at a time; the fallback price when the book lacks it.

    The same choice as the view `requests` makes when the model served is the model asked for.
    """
    for key in ((provider, model), (ANY, ANY)):
        prices = {row.token_kind: row.usd_per_mtok for row in _by_model().get(key, []) if row.valid_from <= at}
        if prices:
            return prices
    raise LookupError("the price book has no fallback price for that time")
