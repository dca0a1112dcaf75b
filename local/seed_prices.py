"""Bring the price book up to date with LiteLLM's list: `python -m local.seed_prices`. It only ever adds.

A model that is new to the book is priced from the beginning: any price it had is nearer to the truth than the fallback.
A price that changed gets a new entry from today (or --from), because the list says what, not since when. OpenRouter's
prices come from its own list: `--openrouter https://openrouter.ai/api/v1/models`, or a file with the same content.
"""

from __future__ import annotations

import argparse
import json
import re
import urllib.request
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from governance.price_list import (
    ANY,
    BOOK,
    FAST,
    OPENROUTER,
    STANDARD,
    THRESHOLDS,
    TIERS,
    Entry,
    entry_of,
    rounded,
    through_openrouter,
)

BEGINNING = "2025-01-01"
PROVIDERS = ("anthropic", "openai", "moonshot")
MODES = ("chat", "responses", "embedding")
LISTED = {
    "input": "input_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write_5m": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "output": "output_cost_per_token",
    "input_audio": "input_cost_per_audio_token",
    "output_audio": "output_cost_per_audio_token",
}
TIER_ENDINGS = {"": STANDARD, "_batches": "batch"} | {
    f"_{tier}": tier for tier in TIERS if tier not in (STANDARD, FAST)
}
ROUTED = {  # OpenRouter's words, for one token or one search
    "input": "prompt",
    "output": "completion",
    "cache_read": "input_cache_read",
    "cache_write_5m": "input_cache_write",
    "web_search": "web_search",
}
FALLBACK = {
    "provider": ANY,
    "model": ANY,
    "valid_from": "1970-01-01",
    "source": "tally",
    "usd_per_million": {
        "input": "5",
        "cache_read": "0.5",
        "cache_write_5m": "6.25",
        "cache_write_1h": "10",
        "output": "25",
        "web_search": "10000",
    },
}
Given = dict[str, Any]  # an entry as the file has it


def litellm_list() -> Path:
    """The list that is part of the installed LiteLLM; nothing of LiteLLM is run."""
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        raise SystemExit("LiteLLM is not installed; give the list with --list")
    return Path(spec.origin).with_name("model_prices_and_context_window_backup.json")


def listed_prices(models: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Given]:
    """(provider, model) to the prices of an entry, of every model of LiteLLM's list that reads or writes text."""
    found = {}
    for name, about in models.items():
        provider = about.get("litellm_provider")
        if provider not in PROVIDERS or about.get("mode") not in MODES:
            continue
        tiers = _tiers(about)
        if STANDARD not in tiers or not Decimal(tiers[STANDARD]["input"]):
            continue
        searches = about.get("search_context_cost_per_query") or {}
        if searches.get("search_context_size_medium"):
            tiers[STANDARD]["web_search"] = _text(searches["search_context_size_medium"])
        given: Given = {"usd_per_million": tiers.pop(STANDARD)}
        above = {str(n): _tiers(about, f"_above_{n // 1000}k_tokens") for n in THRESHOLDS}
        factors: Mapping[str, Any] = about.get("provider_specific_entry") or {}
        uplift = {place: about.get(f"regional_processing_uplift_multiplier_{place}") for place in ("us", "eu")}
        residency = {
            place: factors.get(place, of) for place, of in uplift.items() if factors.get(place, of) is not None
        }
        given |= {"tiers": tiers} if tiers else {}
        given |= {"above": {n: prices for n, prices in above.items() if STANDARD in prices}}
        given |= {"residency": {place: f"{Decimal(factor).normalize():f}" for place, factor in residency.items()}}
        given |= {"fast": f"{Decimal(factors['fast']).normalize():f}"} if FAST in factors else {}
        found[provider, name.removeprefix(f"{provider}/")] = {key: value for key, value in given.items() if value}
    return found


def _tiers(about: Mapping[str, Any], above: str = "") -> dict[str, dict[str, str]]:
    """Tier to kind to dollars for a million, of the tiers that have a price for input and output."""
    found = {}
    for ending, tier in TIER_ENDINGS.items():
        keys = {kind: f"{key}{above}{ending}" for kind, key in LISTED.items()}
        listed = {kind: _text(about[key]) for kind, key in keys.items() if about.get(key) is not None}
        if {"input", "output"} <= set(listed):
            found[tier] = listed
    return found


def _text(price: Any) -> str:
    """Dollars for one, as dollars for a million."""
    return f"{rounded(Decimal(price) * 10**6):f}"


def routed_prices(answer: Mapping[str, Any]) -> dict[tuple[str, str], Given]:
    """The same of what OpenRouter answers to GET /models. A model that is free there is left out: `:free` says it."""
    found: dict[tuple[str, str], Given] = {}
    for model in answer["data"]:
        pricing = model.get("pricing") or {}
        listed = {kind: Decimal(pricing[key]) for kind, key in ROUTED.items() if pricing.get(key) not in (None, "")}
        listed = {kind: price for kind, price in listed.items() if price > 0 or kind == "output"}
        if {"input", "output"} <= set(listed) and listed["output"] >= 0:  # -1 is a router that has no price of its own
            found[OPENROUTER, str(model["id"])] = {"usd_per_million": {k: _text(price) for k, price in listed.items()}}
    return found


def additions(book: Iterable[Given], listed: Mapping[tuple[str, str], Given], since: date, source: str) -> list[Given]:
    """Entries that the book lacks. Raises ValueError when one would not be the newest of its model."""
    newest: dict[tuple[str, str], Entry] = {}
    for entry in sorted(map(entry_of, book), key=lambda entry: entry.valid_from):
        newest[entry.provider, entry.model] = entry
    for entry in list(newest.values()):
        for routed in through_openrouter(entry):
            newest.setdefault((routed.provider, routed.model), routed)
    added: list[Given] = [] if (ANY, ANY) in newest else [FALLBACK]
    for (provider, model), prices in sorted(listed.items()):
        last = newest.get((provider, model))
        head = {"provider": provider, "model": model, "valid_from": BEGINNING, "source": source}
        if last is not None:
            head["valid_from"] = since.isoformat()
            if _same(last, entry_of({**head, **prices})):
                continue
            if last.valid_from >= since:
                raise ValueError(f"{model} already has a price from {last.valid_from}; give --from a later day")
        added.append({**head, **prices})
    return added


def _same(one: Entry, other: Entry) -> bool:
    """Whether the two cost the same whatever is asked of them."""
    return all(
        getattr(one, name) == getattr(other, name) for name in ("above", "residency", "fast", "service_tiers")
    ) and all(
        [price.usd for price in one.prices(modifier).values()]
        == [price.usd for price in other.prices(modifier).values()]
        for modifier in one.modifiers
    )


def _read(place: str) -> Any:
    """JSON out of a file or from the web, exact: never through a float."""
    if re.match(r"https?://", place):
        with urllib.request.urlopen(place, timeout=30) as answer:  # noqa: S310 - http or https, looked at above
            text = answer.read().decode("utf-8")
    else:
        text = Path(place).read_text(encoding="utf-8")
    return json.loads(text, parse_float=Decimal)


def main() -> None:
    """Read the book and a list, decide, append to the book, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", default=None, help="another file of LiteLLM's form")
    parser.add_argument("--openrouter", default=None, help="OpenRouter's models, a file or a URL; then nothing else")
    parser.add_argument("--book", type=Path, default=BOOK)
    parser.add_argument("--from", dest="since", type=date.fromisoformat, default=datetime.now(UTC).date())
    given = parser.parse_args()
    book: list[Given] = json.loads(given.book.read_text(encoding="utf-8")) if given.book.exists() else []
    if given.openrouter is not None:
        listed, source = routed_prices(_read(given.openrouter)), "openrouter"
    else:
        listed = listed_prices(_read(given.list or str(litellm_list())))
        source = f"litellm {version('litellm')}" if given.list is None else Path(given.list).name
    added = additions(book, listed, given.since, source)
    lines = ",\n".join(json.dumps(entry) for entry in book + added)
    given.book.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    for entry in added:
        print(f"{entry['valid_from']}  {entry['provider']:<10} {entry['model']}")
    print(f"{len(added)} entries added, {len(book) + len(added)} in the book")


if __name__ == "__main__":
    main()
