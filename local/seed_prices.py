"""Bring the price book up to date with LiteLLM's list: `python -m local.seed_prices`. It only ever adds.

A model that is new to the book is priced from the beginning: any price it had is nearer to the truth than the fallback.
A price that changed gets a new entry from today (or --from), because LiteLLM's list says what, not since when.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from governance.prices import BOOK, complete

BEGINNING = "2025-01-01"
PROVIDERS = ("anthropic", "openai", "moonshot")
MODES = ("chat", "responses", "embedding")
LISTED = {
    "input": "input_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write_5m": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "output": "output_cost_per_token",
}
FALLBACK = {
    "provider": "*",
    "model": "*",
    "valid_from": "1970-01-01",
    "source": "tally",
    "usd_per_mtok": {
        "input": "5",
        "cache_read": "0.5",
        "cache_write_5m": "6.25",
        "cache_write_1h": "10",
        "output": "25",
    },
}
Entry = dict[str, Any]


def litellm_list() -> Path:
    """The list that is part of the installed LiteLLM; nothing of LiteLLM is run."""
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        raise SystemExit("LiteLLM is not installed; give the list with --list")
    return Path(spec.origin).with_name("model_prices_and_context_window_backup.json")


def listed_prices(models: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, str]]:
    """(provider, model) to token kind to dollars for a million, as text: of every model that reads or writes text."""
    found = {}
    for name, about in models.items():
        provider = about.get("litellm_provider")
        if provider not in PROVIDERS or about.get("mode") not in MODES:
            continue
        prices = {kind: Decimal(about[key]) * 10**6 for kind, key in LISTED.items() if about.get(key) is not None}
        if prices.get("input", Decimal(0)) <= 0 or "output" not in prices:
            continue
        found[provider, name.removeprefix(f"{provider}/")] = {
            kind: f"{price.normalize():f}" for kind, price in prices.items()
        }
    return found


def additions(
    book: Iterable[Entry], listed: Mapping[tuple[str, str], dict[str, str]], since: date, source: str
) -> list[Entry]:
    """Entries that the book lacks. Raises ValueError when one would not be the newest of its model."""
    newest: dict[tuple[str, str], Entry] = {}
    for entry in sorted(book, key=lambda entry: str(entry["valid_from"])):
        newest[entry["provider"], entry["model"]] = entry
    added: list[Entry] = [] if ("*", "*") in newest else [FALLBACK]
    for (provider, model), prices in sorted(listed.items()):
        last = newest.get((provider, model))
        if last is not None and _complete(last["usd_per_mtok"]) == _complete(prices):
            continue
        if last is not None and str(last["valid_from"]) >= since.isoformat():
            raise ValueError(f"{model} already has a price from {last['valid_from']}; give --from a later day")
        valid_from = BEGINNING if last is None else since.isoformat()
        head = {"provider": provider, "model": model, "valid_from": valid_from, "source": source}
        added.append({**head, "usd_per_mtok": prices})
    return added


def _complete(prices: Mapping[str, str]) -> dict[str, Decimal]:
    return complete({kind: Decimal(price) for kind, price in prices.items()})


def main() -> None:
    """Read the book and the list, decide, append to the book, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", type=Path, default=None, help="another file of LiteLLM's form")
    parser.add_argument("--book", type=Path, default=BOOK)
    parser.add_argument("--from", dest="since", type=date.fromisoformat, default=datetime.now(UTC).date())
    given = parser.parse_args()
    book: list[Entry] = json.loads(given.book.read_text(encoding="utf-8")) if given.book.exists() else []
    path = given.list or litellm_list()
    models = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)  # exact: never through a float
    source = f"litellm {version('litellm')}" if given.list is None else path.name
    added = additions(book, listed_prices(models), given.since, source)
    lines = ",\n".join(json.dumps(entry) for entry in book + added)
    given.book.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    for entry in added:
        print(f"{entry['valid_from']}  {entry['provider']:<10} {entry['model']}")
    print(f"{len(added)} entries added, {len(book) + len(added)} in the book")


if __name__ == "__main__":
    main()
