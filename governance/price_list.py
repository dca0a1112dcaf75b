"""The entries of the price book, and what one of them comes to for every kind, tier, residency and length of prompt.

`prices.json` is the book: a list of entries, one for a model and the day from which it holds. An entry has what the
provider lists, in US dollars for a million (tokens, or searches), as text:

    provider, model, valid_from, source
    usd_per_million   {kind: price}: the standard tier, with input and output at least
    tiers             {tier: {kind: price}}, with input and output at least
    above             {tokens: {tier: {kind: price}}}: for prompts longer than that; one length, standard at least
    residency         {us or eu: factor} on every kind but searches
    fast              factor of the tier `fast`

What an entry leaves out is derived: a kind without a price of its own costs what is charged in its place (IN_PLACE_OF);
a kind that a tier does not list costs the standard kind times the tier's ratio of input (or output); a tier that is not
listed above the length costs itself times the standard tier's step. Searches cost the same in each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

BOOK: Final = Path(__file__).with_name("prices.json")
ANY, STANDARD, FAST, DERIVED, OPENROUTER = "*", "standard", "fast", "derived", "openrouter"
TIERS: Final = (STANDARD, "flex", "priority", "batch", "ultrafast", FAST)
RESIDENCIES: Final = ("us", "eu")
THRESHOLDS: Final = (100_000, 200_000, 272_000)  # as in the view events_once
TOKEN_KINDS: Final = (
    "input", "cache_read", "cache_write_5m", "cache_write_1h", "output",
    "input_audio", "input_image", "output_audio", "output_image", "web_search",
)  # fmt: skip
IN_PLACE_OF: Final = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "input_audio": "input",
    "input_image": "input",
    "output_audio": "output",
    "output_image": "output",
}
SEARCH: Final = "web_search"
SEARCH_USD: Final = Decimal(10_000)  # a million searches, where the list has no price for them: never free
_OUTPUT: Final = ("output", "output_audio", "output_image")
_VENDORS: Final = {"anthropic": "anthropic", "openai": "openai", "moonshot": "moonshotai"}  # as OpenRouter names them
_DOTTED: Final = re.compile(r"(?<=-)(\d)-(\d{1,2})(?=-|$)")
DATE_IN_NAME: Final = re.compile(r"[-@](latest|20[0-9]{2}-?[0-9]{2}-?[0-9]{2})$")  # as in the views
_NANO: Final = Decimal("1e-9")
Prices = Mapping[str, Decimal]  # kind -> USD for a million


class PriceBookError(ValueError):
    """The price book cannot be used, and why. `about`: the part of a contract that is at fault, where one is."""

    def __init__(self, reason: str, about: object = None) -> None:
        super().__init__(reason)
        self.about = about


class Price(NamedTuple):
    """US dollars for a million, nine decimals at most, and where they come from."""

    usd: Decimal
    source: str


class Modifier(NamedTuple):
    """What else than the model decides the price. `context_above`: 0, or more prompt tokens than this."""

    service_tier: str = STANDARD
    residency: str = ""
    context_above: int = 0


@dataclass(frozen=True)
class Entry:
    """What a provider lists for one model from one day (UTC) on."""

    provider: str
    model: str
    valid_from: date
    source: str
    standard: Prices
    tiers: Mapping[str, Prices] = field(default_factory=dict)
    above: int = 0
    above_tiers: Mapping[str, Prices] = field(default_factory=dict)
    residency: Prices = field(default_factory=dict)  # residency -> factor
    fast: Decimal | None = None

    @property
    def service_tiers(self) -> tuple[str, ...]:
        """The tiers it has a price for, the standard one first."""
        return tuple(t for t in TIERS if t == STANDARD or t in self.tiers or (t == FAST and self.fast is not None))

    @property
    def modifiers(self) -> tuple[Modifier, ...]:
        """Everything it has a price for, listed or derived."""
        places, lengths = ("", *self.residency), (0, self.above) if self.above else (0,)
        return tuple(Modifier(t, place, length) for t in self.service_tiers for place in places for length in lengths)

    def lists(self, kind: str, tier: str) -> bool:
        """Whether this kind has a price of its own, and does not cost what another kind does."""
        return kind in self.standard or kind in self.tiers.get(tier, {})

    def prices(self, modifier: Modifier) -> dict[str, Price]:
        """Every kind. A tier, a residency or a length that the entry does not know costs what it is without it."""
        tier = modifier.service_tier if modifier.service_tier in self.service_tiers else STANDARD
        prices = (
            self._above(tier) if modifier.context_above and modifier.context_above == self.above else self._tier(tier)
        )
        factor = self.residency.get(modifier.residency)
        return prices if factor is None else _times(prices, factor)

    def _tier(self, tier: str) -> dict[str, Price]:
        if tier == STANDARD:
            return self._complete()
        if tier not in self.tiers and self.fast is not None:
            return _times(self._complete(), self.fast)
        return self._beside(self._complete(), self.tiers[tier])

    def _above(self, tier: str) -> dict[str, Price]:
        base = self._tier(STANDARD)
        if tier in self.above_tiers:
            return self._beside(base, self.above_tiers[tier])
        step, prices = self._above(STANDARD), self._tier(tier)
        return {
            kind: Price(rounded(price.usd * step[kind].usd / base[kind].usd) if base[kind].usd else price.usd, DERIVED)
            for kind, price in prices.items()
        }

    def _complete(self) -> dict[str, Price]:
        prices: dict[str, Price] = {}
        for kind in TOKEN_KINDS:
            if kind in self.standard:
                prices[kind] = Price(self.standard[kind], self.source)
            else:
                usd = SEARCH_USD if kind == SEARCH else prices[IN_PLACE_OF[kind]].usd
                prices[kind] = Price(usd, DERIVED)
        return prices

    def _beside(self, base: Mapping[str, Price], listed: Prices) -> dict[str, Price]:
        """Every kind where only some are listed, given the standard prices."""
        prices: dict[str, Price] = {}
        for kind in TOKEN_KINDS:
            to = "output" if kind in _OUTPUT and base["output"].usd else "input"
            if kind in listed:
                prices[kind] = Price(listed[kind], self.source)
            elif kind == SEARCH:
                prices[kind] = base[kind]
            elif kind not in self.standard:
                prices[kind] = Price(prices[IN_PLACE_OF[kind]].usd, DERIVED)
            else:
                prices[kind] = Price(rounded(base[kind].usd * listed[to] / base[to].usd), DERIVED)
        return prices


def undated(model: str) -> str:
    """A model's name without the date at its end."""
    return DATE_IN_NAME.sub("", model)


def rounded(usd: Decimal) -> Decimal:
    """A price for a million as the warehouse can hold it: nine decimals, half to even."""
    return Decimal(f"{usd.quantize(_NANO).normalize():f}")  # 10, and not 1E+1


def _times(prices: Mapping[str, Price], factor: Decimal) -> dict[str, Price]:
    return {
        kind: price if kind == SEARCH else Price(rounded(price.usd * factor), price.source)
        for kind, price in prices.items()
    }


def load(path: Path = BOOK) -> list[Entry]:
    """The entries of the book in their order. Raises PriceBookError."""
    return [entry_of(given) for given in json.loads(path.read_text(encoding="utf-8"))]


def entry_of(given: Mapping[str, Any]) -> Entry:
    """One entry as the file has it. Raises PriceBookError."""
    name = f"{given.get('provider')}/{given.get('model')} from {given.get('valid_from')}"
    above = given.get("above", {})
    lengths = [int(length) for length in above]
    if len(lengths) > 1 or not set(lengths) <= set(THRESHOLDS):
        raise PriceBookError(f"{name}: the lengths {lengths} must be one of {list(THRESHOLDS)}; a view knows these")
    entry = Entry(
        provider=given["provider"],
        model=given["model"],
        valid_from=date.fromisoformat(given["valid_from"]),
        source=given["source"],
        standard=_decimals(given["usd_per_million"]),
        tiers={tier: _decimals(listed) for tier, listed in given.get("tiers", {}).items()},
        above=lengths[0] if lengths else 0,
        above_tiers={tier: _decimals(listed) for listed in above.values() for tier, listed in listed.items()},
        residency=_decimals(given.get("residency", {})),
        fast=Decimal(given["fast"]) if "fast" in given else None,
    )
    check(entry, name)
    return entry


def check(entry: Entry, name: str) -> None:
    """Raises PriceBookError when something needed is missing, or a word is not one of ours."""
    listings: Sequence[Prices] = [entry.standard, *entry.tiers.values(), *entry.above_tiers.values()]
    if not all({"input", "output"} <= set(listed) <= set(TOKEN_KINDS) for listed in listings):
        raise PriceBookError(f"{name}: each tier lists input and output, and other kinds of {list(TOKEN_KINDS)}")
    if (
        any(usd < 0 or usd != rounded(usd) for listed in listings for usd in listed.values())
        or not entry.standard["input"]
    ):
        raise PriceBookError(f"{name}: a price has nine decimals at most, none is negative, and input is not free")
    if not set(entry.tiers) | set(entry.above_tiers) <= set(TIERS) or STANDARD in entry.tiers:
        raise PriceBookError(f"{name}: a tier is one of {list(TIERS[1:])}")
    if (entry.above and STANDARD not in entry.above_tiers) or not set(entry.above_tiers) <= set(entry.service_tiers):
        raise PriceBookError(
            f"{name}: above a length, the standard tier is priced, and no tier that is not priced below"
        )
    if not set(entry.residency) <= set(RESIDENCIES):
        raise PriceBookError(f"{name}: a residency is one of {list(RESIDENCIES)}")


def _decimals(listed: Mapping[str, str]) -> dict[str, Decimal]:
    return {kind: Decimal(usd) for kind, usd in listed.items()}


def through_openrouter(entry: Entry) -> Iterator[Entry]:
    """What the same model costs through OpenRouter as far as the vendor's list tells: under each of its names there.

    OpenRouter tells the cost in its responses; these are for those in which it did not.
    """
    if entry.provider not in _VENDORS:
        return
    names = {entry.model}
    if entry.provider == "anthropic":
        names.add(_DOTTED.sub(r"\1.\2", entry.model))
    above = {STANDARD: entry.above_tiers[STANDARD]} if entry.above else {}
    for name in sorted(names):
        slug = f"{_VENDORS[entry.provider]}/{name}"
        yield replace(
            entry, provider=OPENROUTER, model=slug, source=DERIVED, tiers={}, above_tiers=above, residency={}, fast=None
        )
