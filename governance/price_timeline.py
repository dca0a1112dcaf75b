"""What decides a model's price, from day to day: the list's entry, the company's overrides and its discount.

A discount is off the list price. An override is what is paid, and no discount comes on top; it is for one tier, for the
kinds that it names and for those that cost what a named one costs, and the list's residency factor and step for long
prompts apply to it. It holds for a name with a date too, where the list asks the same for both. A model that no list
knows has its overrides as list price too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Final

from governance.contract import Alias, Contract, Override
from governance.price_list import (
    ANY,
    DERIVED,
    IN_PLACE_OF,
    STANDARD,
    Entry,
    Modifier,
    Price,
    PriceBookError,
    rounded,
    through_openrouter,
    undated,
)

POLICY: Final = "policy"  # source of what the company negotiated
Model = tuple[str, str]  # provider, model


@dataclass(frozen=True)
class Span:
    """What decides the price of a model from one day until the next span begins."""

    day: date
    entry: Entry
    overrides: Mapping[str, Mapping[str, Decimal]]  # tier -> kind -> USD for a million
    percent: Decimal | None  # the discount

    def listed(self, modifier: Modifier) -> dict[str, Price]:
        """The public price of every kind."""
        return self.entry.prices(modifier)

    def contracted(self, modifier: Modifier) -> dict[str, Price] | None:
        """What the company pays for every kind; None where that is the public price."""
        given = self.overrides.get(modifier.service_tier, {})
        if not given and self.percent is None:
            return None
        here, plain = self.entry.prices(modifier), self.entry.prices(Modifier(modifier.service_tier))
        paid: dict[str, Price] = {}
        follows: set[str] = set()  # kinds that an override decides
        for kind, price in here.items():
            other = IN_PLACE_OF.get(kind)
            if kind in given:
                step = price.usd / plain[kind].usd if plain[kind].usd else Decimal(1)
                paid[kind] = Price(rounded(given[kind] * step), POLICY)
                follows.add(kind)
            elif other in follows and not self.entry.lists(kind, modifier.service_tier):
                paid[kind] = paid[other]
                follows.add(kind)
            elif self.percent is not None:
                paid[kind] = Price(rounded(price.usd * (100 - self.percent) / 100), POLICY)
            else:
                paid[kind] = price
        return paid


def timelines(entries: Iterable[Entry], contract: Contract) -> dict[Model, list[Span]]:
    """Every model's spans, the oldest first, other names among them. Raises PriceBookError."""
    listed = _by_model(entries, contract)
    _all_of_use(listed, contract)
    spans = {model: _spans(model, listed, contract) for model in listed}
    return {**spans, **_aliased(spans, contract)}


def _by_model(entries: Iterable[Entry], contract: Contract) -> dict[Model, list[Entry]]:
    """The public price of every model, the oldest entry first: the list's, OpenRouter's, and what only we know."""
    found: dict[Model, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry.valid_from):
        found[entry.provider, entry.model].append(entry)
    for model, of in found.items():
        if len({entry.valid_from for entry in of}) < len(of):
            raise PriceBookError(f"{'/'.join(model)} has two entries from one day")
    for entry in [entry for of in found.values() for entry in of]:
        for routed in through_openrouter(entry):
            own = [e for e in found[routed.provider, routed.model] if e.source != DERIVED]
            if not own or routed.valid_from < own[0].valid_from:
                found[routed.provider, routed.model].append(routed)
    for of in found.values():
        of.sort(key=lambda entry: entry.valid_from)
    for override in sorted(contract.overrides, key=lambda override: override.valid_from):
        model = (override.provider, override.model)
        unlisted = all(entry.source == POLICY for entry in found.get(model, ()))
        if override.service_tier == STANDARD and (unlisted or model == (ANY, ANY)):
            found[model] = _with(found.get(model, []), override)
    return dict(found)


def _all_of_use(models: Iterable[Model], contract: Contract) -> None:
    """A word that fits nothing is a slip of the pen, and would silently cost money."""
    known = set(models)
    for override in contract.overrides:
        if (override.provider, override.model) not in known:
            raise PriceBookError(
                f"{override.provider}/{override.model}: no list knows it; price standard first", override
            )
    for discount in contract.discounts:
        if not any(discount.fits(*model) for model in known):
            raise PriceBookError(f"{discount.provider}/{discount.model}: the book has no such model", discount)


def _with(entries: list[Entry], override: Override) -> list[Entry]:
    """The entries of a model that no list knows, and what the policy says of it from a day on."""
    if override.valid_to is not None:
        raise PriceBookError(
            f"{override.provider}/{override.model}: no list knows it, so its price cannot just end", override
        )
    before = [entry for entry in entries if entry.valid_from < override.valid_from]
    standard = {**(before[-1].standard if before else {}), **override.prices}
    if not {"input", "output"} <= set(standard) or not standard["input"]:
        raise PriceBookError(
            f"{override.provider}/{override.model}: no list knows it, so it needs input and output", override
        )
    return [*before, Entry(override.provider, override.model, override.valid_from, POLICY, standard)]


def _spans(model: Model, listed: Mapping[Model, Sequence[Entry]], contract: Contract) -> list[Span]:
    entries, plain = listed[model], (model[0], undated(model[1]))
    overrides = contract.overrides_of(*model)
    if plain != model and _prices_of(listed.get(plain, ())) == _prices_of(entries):
        overrides = contract.overrides_of(*plain) + overrides
    if model == (ANY, ANY):
        overrides = ()
    discounts = contract.discounts_of(*model)
    days = {entry.valid_from for entry in entries}
    for dated in (*overrides, *discounts):
        days |= {day for day in (dated.valid_from, dated.valid_to) if day is not None}
    spans = []
    for day in sorted(day for day in days if day >= entries[0].valid_from):
        given: dict[str, dict[str, Decimal]] = defaultdict(dict)
        for override in overrides:
            if override.holds(day):
                given[override.service_tier].update(override.prices)
        percent = [discount.percent for discount in discounts if discount.holds(day)]
        entry = [entry for entry in entries if entry.valid_from <= day][-1]
        spans.append(Span(day, entry, dict(given), percent[-1] if percent else None))
    return spans


def _prices_of(entries: Iterable[Entry]) -> list[Entry]:
    """The entries without what does not make the price."""
    return [replace(entry, model="", source="") for entry in entries]


def _aliased(spans: Mapping[Model, list[Span]], contract: Contract) -> dict[Model, list[Span]]:
    """The timelines of other names: each what its model costs, from the alias's first day to that of the next."""
    named: dict[Model, list[Alias]] = defaultdict(list)
    for alias in contract.aliases:
        named[alias.provider, alias.alias].append(alias)
    found = {}
    for name, aliases in named.items():
        timeline = list(spans.get(name, []))
        for alias in sorted(aliases, key=lambda alias: alias.valid_from or date.min):
            target = spans.get((alias.provider, alias.model))
            if target is None:
                raise PriceBookError(f"alias {alias.alias}: neither a list nor an override knows {alias.model}", alias)
            if alias.valid_from is None and name in spans:
                raise PriceBookError(
                    f"alias {alias.alias}: it has a price of its own; since when is it another?", alias
                )
            since = alias.valid_from or date.min
            begun = [span for span in target if span.day <= since]
            at_start = [replace(begun[-1], day=since)] if begun else []
            timeline = [span for span in timeline if span.day < since] + at_start
            timeline += [span for span in target if span.day > since]
        threshold(name, timeline, alias)
        found[name] = timeline
    return found


def threshold(model: Model, spans: Iterable[Span], about: object = None) -> int:
    """The one length at which this model's price changes; 0 for none."""
    lengths = {span.entry.above for span in spans} - {0}
    if len(lengths) > 1:
        reason = f"{'/'.join(model)} has prices above {sorted(lengths)} tokens; a view knows one of a model"
        raise PriceBookError(reason, about)
    return lengths.pop() if lengths else 0
