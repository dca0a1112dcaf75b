"""The dated price book: what a million of each kind costs, by provider, model and modifier, from which UTC day on.

The public list (`prices.json`, see price_list) and what the company pays instead (see contract) make one timeline for
each model (see price_timeline). `python -m local.seed_prices` adds to the list and never rewrites an entry, so that
last month keeps last month's price.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

from governance.contract import NOTHING_NEGOTIATED, Contract
from governance.price_list import (
    ANY,
    BOOK,
    STANDARD,
    THRESHOLDS,
    TIERS,
    TOKEN_KINDS,
    Entry,
    Modifier,
    Price,
    PriceBookError,
    load,
    undated,
)
from governance.price_timeline import Model, Span, threshold, timelines

__all__ = [
    "BOOK", "THRESHOLDS", "TOKEN_KINDS", "Book", "Contract", "PriceBookError", "book", "load", "rows_for_warehouse",
    "usd_per_million",
]  # fmt: skip

PriceList = Literal["list", "contract"]


class Book:
    """Every model's timeline. Raises PriceBookError when an entry or a contract does not fit with the rest."""

    def __init__(self, entries: Iterable[Entry], contract: Contract = NOTHING_NEGOTIATED) -> None:
        self._spans = timelines(entries, contract)
        if (ANY, ANY) not in self._spans:
            raise PriceBookError("the book has no fallback, model * of provider *")
        self._threshold = {model: threshold(model, spans) for model, spans in self._spans.items()}
        self._prices = lru_cache(maxsize=65536)(self._found)

    def __contains__(self, model: Model) -> bool:
        return model in self._spans

    @property
    def models(self) -> list[Model]:
        """(provider, model) of each, the fallback and the other names among them."""
        return sorted(self._spans)

    def rows(self) -> list[dict[str, Any]]:
        """The book as rows of the table `prices`, in a fixed order."""
        return [
            {
                "provider": provider,
                "model": model,
                **modifier._asdict(),
                "token_kind": kind,
                "price_list": price_list,
                "usd_per_million": price.usd,
                "valid_from": day,
                "source": price.source,
            }
            for provider, model in self.models
            for day, modifier, price_list, prices in self._priced((provider, model))
            for kind, price in prices.items()
        ]

    def _priced(self, model: Model) -> Iterator[tuple[date, Modifier, PriceList, dict[str, Price]]]:
        spans = self._spans[model]
        lengths = sorted({0, self._threshold[model]})
        tiers, residencies = {STANDARD}, {""}
        for span in spans:
            tiers |= {*span.entry.service_tiers, *span.overrides}
            residencies |= set(span.entry.residency)
            for tier in (tier for tier in TIERS if tier in tiers):
                for modifier in (Modifier(tier, place, length) for place in sorted(residencies) for length in lengths):
                    yield span.day, modifier, "list", span.listed(modifier)
                    paid = span.contracted(modifier)
                    if paid is not None:
                        yield span.day, modifier, "contract", paid

    def usd_per_million(
        self,
        provider: str,
        model: str,
        day: date,
        service_tier: str = STANDARD,
        residency: str = "",
        prompt_tokens: int = 0,
        price_list: PriceList = "list",
    ) -> dict[str, Decimal]:
        """Kind to US dollars for a million. The same choice as the views make for the model that was served.

        `prompt_tokens`: input, cache reads and writes together. `contract` is what the company pays, which is the list
        price where nothing was negotiated. Raises LookupError on a day before there was a fallback.
        """
        band = max((length for length in THRESHOLDS if prompt_tokens > length), default=0)
        return dict(self._prices(provider, model, day, service_tier, residency, band, price_list))

    def _found(
        self, provider: str, model: str, day: date, tier: str, residency: str, band: int, price_list: PriceList
    ) -> dict[str, Decimal]:
        names = (name for name in (model, undated(model)) if (provider, name) in self._spans)
        key = (provider, next(names, model))
        before, length = self._before(key, day), self._threshold.get(key, 0)
        if not before:
            before, length = self._before((ANY, ANY), day), 0
        if not before:
            raise LookupError(f"the price book has no price and no fallback for {day}")
        known = any(tier in (*s.entry.service_tiers, *s.overrides) for s in before)
        known = known and (not residency or any(residency in s.entry.residency for s in before))
        modifier = Modifier(tier, residency) if known else Modifier()
        modifier = modifier._replace(context_above=length if band >= length else 0)
        prices = before[-1].contracted(modifier) if price_list == "contract" else None
        return {kind: price.usd for kind, price in (prices or before[-1].listed(modifier)).items()}

    def _before(self, model: Model, day: date) -> Sequence[Span]:
        """The spans that have begun by that day."""
        spans = self._spans.get(model, [])
        return spans[: bisect_right(spans, day, key=lambda span: span.day)]


@lru_cache(maxsize=8)
def book(contract: Contract = NOTHING_NEGOTIATED) -> Book:
    """The book with what a company pays. Raises PriceBookError."""
    return Book(load(), contract)


def rows_for_warehouse(contract: Contract | None = None) -> list[dict[str, Any]]:
    """The book as rows of the table `prices`. Raises PriceBookError."""
    return book(contract or NOTHING_NEGOTIATED).rows()


def usd_per_million(
    provider: str,
    model: str,
    day: date,
    service_tier: str = STANDARD,
    residency: str = "",
    prompt_tokens: int = 0,
    price_list: PriceList = "list",
    contract: Contract | None = None,
) -> dict[str, Decimal]:
    """Kind to US dollars for a million on a UTC day: see Book.usd_per_million."""
    known = book(contract or NOTHING_NEGOTIATED)
    return known.usd_per_million(provider, model, day, service_tier, residency, prompt_tokens, price_list)
