"""The price book, and the script that adds to it from LiteLLM's list."""

from __future__ import annotations

import json
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from governance import prices
from governance.prices import TOKEN_KINDS, complete, usd_per_mtok
from local import seed_prices
from local.seed_prices import BEGINNING, FALLBACK, additions, listed_prices

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TODAY = date(2026, 6, 1)


def listing(**prices: str) -> dict[str, Any]:
    """A model of LiteLLM's list, prices in dollars for one token."""
    names = {kind: seed_prices.LISTED[kind] for kind in prices}
    return {"litellm_provider": "openai", "mode": "chat"} | {names[k]: Decimal(p) for k, p in prices.items()}


def entry(model: str, valid_from: str = BEGINNING, **prices: str) -> dict[str, Any]:
    return {
        "provider": "openai",
        "model": model,
        "valid_from": valid_from,
        "source": "test",
        "usd_per_mtok": prices,
    }


def test_the_book_knows_the_models_of_today() -> None:
    assert usd_per_mtok("anthropic", "claude-sonnet-4-5", NOW) == dict(
        zip(TOKEN_KINDS, map(Decimal, ("3", "0.3", "3.75", "6", "15")), strict=True)
    )
    assert usd_per_mtok("moonshot", "kimi-k2.6", NOW)["output"] == 4  # without the provider's prefix
    assert usd_per_mtok("openai", "text-embedding-3-small", NOW)["input"] == Decimal("0.02")


def test_every_entry_of_the_book_prices_every_token_kind_once_with_nine_decimals_at_most() -> None:
    rows = prices.load()
    assert {row.provider for row in rows} == {"*", "anthropic", "openai", "moonshot"}
    entries = Counter((row.provider, row.model, row.valid_from) for row in rows)
    assert set(entries.values()) == {len(TOKEN_KINDS)}
    for row in rows:
        assert row.usd_per_mtok == round(row.usd_per_mtok, 9)
        assert row.usd_per_mtok > 0 or row.token_kind == "output"
        assert row.modifier == "standard"


def test_a_kind_without_a_price_costs_what_is_charged_in_its_place() -> None:
    given = {"input": Decimal(2), "output": Decimal(8)}
    assert complete(given) == dict.fromkeys(TOKEN_KINDS, Decimal(2)) | {"output": Decimal(8)}
    assert complete(given | {"cache_write_5m": Decimal(3)})["cache_write_1h"] == 3
    gpt_4o = {row.token_kind: row for row in prices.load() if row.model == "gpt-4o"}
    assert (gpt_4o["cache_write_5m"].usd_per_mtok, gpt_4o["cache_write_5m"].source) == (Decimal("2.5"), "derived")
    assert gpt_4o["cache_read"].source.startswith("litellm")


def test_an_unknown_model_costs_the_fallback() -> None:
    fallback = dict(zip(TOKEN_KINDS, map(Decimal, ("5", "0.5", "6.25", "10", "25")), strict=True))
    assert usd_per_mtok("openai", "gpt-99", NOW) == fallback
    assert usd_per_mtok("anthropic", "gpt-4o", NOW) == fallback
    assert usd_per_mtok("openai", "gpt-4o", datetime(2025, 1, 1, tzinfo=UTC) - timedelta(seconds=1)) == fallback


def test_rows_for_the_warehouse_have_the_columns_of_the_table() -> None:
    columns = {"provider", "model", "token_kind", "modifier", "usd_per_mtok", "valid_from", "source"}
    assert all(row.keys() == columns for row in prices.rows_for_warehouse())


def test_the_list_is_read_exactly_and_only_for_models_of_text() -> None:
    models = {
        "openai/gpt": listing(input="0.0000012345", cache_read="1.25e-07", output="0.00001"),
        "painter": listing(input="0.1", output="0.1") | {"mode": "image_generation"},
        "elsewhere": listing(input="0.1", output="0.1") | {"litellm_provider": "azure"},
        "free": listing(input="0", output="0"),
        "half": listing(input="1"),
    }
    found = {"input": "1.2345", "cache_read": "0.125", "output": "10"}
    assert listed_prices(models) == {("openai", "gpt"): found}


def test_a_model_new_to_the_book_is_priced_from_the_beginning() -> None:
    added = additions([FALLBACK], {("openai", "new"): {"input": "1", "output": "2"}}, TODAY, "s")
    assert added == [entry("new", input="1", output="2") | {"source": "s"}]


def test_a_changed_price_is_added_from_today_and_an_unchanged_one_is_not() -> None:
    book = [FALLBACK, entry("a", input="1", output="2"), entry("b", input="1", output="2")]
    listed = {("openai", "a"): {"input": "1.0", "output": "2"}, ("openai", "b"): {"input": "1", "output": "3"}}
    added = additions(book, listed, TODAY, "test")
    assert added == [entry("b", "2026-06-01", input="1", output="3")]
    assert additions(book + added, listed, TODAY, "test") == []


def test_an_entry_is_never_added_before_or_beside_another_of_its_model() -> None:
    book = [FALLBACK, entry("a", "2026-06-01", input="1", output="2")]
    with pytest.raises(ValueError, match="later day"):
        additions(book, {("openai", "a"): {"input": "9", "output": "2"}}, TODAY, "test")


def test_the_script_adds_to_the_book_and_rewrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book, given = tmp_path / "prices.json", tmp_path / "list.json"

    def run(since: str, price: float) -> list[dict[str, Any]]:
        about = {
            "litellm_provider": "openai",
            "mode": "chat",
            "input_cost_per_token": price,
            "output_cost_per_token": 1e-5,
        }
        given.write_text(json.dumps({"gpt": about}))
        monkeypatch.setattr(sys, "argv", ["seed", "--list", str(given), "--book", str(book), "--from", since])
        seed_prices.main()
        entries: list[dict[str, Any]] = json.loads(book.read_text())
        return entries

    first = run("2026-01-01", 1.25e-6)
    assert first == [FALLBACK, entry("gpt", input="1.25", output="10") | {"source": "list.json"}]
    assert run("2026-02-01", 1.25e-6) == first
    again = run("2026-03-01", 1e-6)
    assert again == [*first, entry("gpt", "2026-03-01", input="1", output="10") | {"source": "list.json"}]
    assert [row.usd_per_mtok for row in prices.load(book) if row.token_kind == "input"][1:] == [
        Decimal("1.25"),
        Decimal(1),
    ]


def test_the_book_is_up_to_date_with_the_list_of_the_litellm_we_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "prices.json"
    copy.write_text(prices.BOOK.read_text())
    monkeypatch.setattr(sys, "argv", ["seed", "--book", str(copy)])
    seed_prices.main()
    assert capsys.readouterr().out.startswith("0 entries added")
    assert copy.read_text() == prices.BOOK.read_text()
