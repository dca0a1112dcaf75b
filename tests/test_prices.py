"""The price book: every kind, tier, residency and length of prompt, and the script that adds to it."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from governance import prices
from governance.price_list import IN_PLACE_OF, Entry, Modifier, PriceBookError, entry_of, load, rounded
from governance.prices import THRESHOLDS, TOKEN_KINDS, Book, usd_per_million
from governance.schema import read_tables, read_views
from local import seed_prices
from local.seed_prices import BEGINNING, FALLBACK, additions, listed_prices, routed_prices

TODAY = date(2026, 6, 1)
CONSUMED = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")


def dollars(*of: str) -> list[Decimal]:
    return [Decimal(price) for price in of]


def consumed(provider: str, model: str, **modifier: Any) -> list[Decimal]:
    """input, cache read, cache write 5 m and 1 h, output."""
    found = usd_per_million(provider, model, TODAY, **modifier)
    return [found[kind] for kind in CONSUMED]


def listing(**prices: str) -> dict[str, Any]:
    """A model of LiteLLM's list, prices in dollars for one token."""
    names = {kind: seed_prices.LISTED[kind] for kind in prices}
    return {"litellm_provider": "openai", "mode": "chat"} | {names[k]: Decimal(p) for k, p in prices.items()}


def entry(model: str, valid_from: str = BEGINNING, more: dict[str, Any] | None = None, **prices: str) -> dict[str, Any]:
    head = {"provider": "openai", "model": model, "valid_from": valid_from, "source": "test"}
    return {**head, "usd_per_million": prices, **(more or {})}


def book_of(*entries: dict[str, Any]) -> Book:
    return Book([entry_of(FALLBACK), *map(entry_of, entries)])


# What models cost, against numbers worked by hand


@pytest.mark.parametrize(
    ("model", "modifier", "expected"),
    [
        ("openai/gpt-6.1-sol", {}, ("2", "0.1", "2.5", "2.5", "10")),
        ("openai/gpt-6.1-sol", {"service_tier": "flex"}, ("1", "0.05", "1.25", "1.25", "5")),
        ("openai/gpt-6.1-sol", {"service_tier": "batch"}, ("1", "0.05", "1.25", "1.25", "5")),
        ("openai/gpt-6.1-sol", {"service_tier": "ultrafast"}, ("12", "0.6", "15", "15", "60")),
        ("openai/gpt-6.1-sol", {"residency": "eu"}, ("2.2", "0.11", "2.75", "2.75", "11")),
        ("openai/gpt-6.1-sol", {"prompt_tokens": 272_000}, ("2", "0.1", "2.5", "2.5", "10")),
        ("openai/gpt-6.1-sol", {"prompt_tokens": 272_001}, ("4", "0.2", "5", "5", "15")),
        (
            "openai/gpt-6.1-sol",
            {"service_tier": "priority", "residency": "us", "prompt_tokens": 10**6},
            ("8.8", "0.44", "11", "11", "33"),
        ),
        ("openai/gpt-5.4", {"service_tier": "priority"}, ("5", "0.5", "5", "5", "30")),
        # priority above 272k is not listed: priority, times the step of the standard tier
        ("openai/gpt-5.4", {"service_tier": "priority", "prompt_tokens": 300_000}, ("10", "1", "10", "10", "45")),
        ("openai/gpt-5.4", {"service_tier": "flex"}, ("1.25", "0.13", "1.25", "1.25", "7.5")),
        ("anthropic/claude-opus-5-5", {}, ("4", "0.2", "5", "8", "20")),
        ("anthropic/claude-opus-5-5", {"service_tier": "fast"}, ("8", "0.4", "10", "16", "40")),
        ("anthropic/claude-opus-5-5", {"residency": "us"}, ("4.4", "0.22", "5.5", "8.8", "22")),
        ("anthropic/claude-opus-5-5", {"service_tier": "fast", "residency": "us"}, ("8.8", "0.44", "11", "17.6", "44")),
        # the one-hour write is not listed for batches: its own price, times the batch's ratio of input
        ("anthropic/claude-opus-5-5", {"service_tier": "batch"}, ("2", "0.1", "2.5", "4", "10")),
        ("anthropic/claude-haiku-5-5", {"prompt_tokens": 100_000}, ("0.1", "0.01", "0.125", "0.2", "0.5")),
        ("anthropic/claude-haiku-5-5", {"prompt_tokens": 100_001}, ("0.5", "0.05", "0.625", "1", "2.5")),
        (
            "anthropic/claude-haiku-5-5",
            {"prompt_tokens": 100_001, "service_tier": "batch", "residency": "us"},
            ("0.275", "0.0275", "0.34375", "0.55", "1.375"),
        ),
        ("anthropic/claude-sonnet-4-5", {}, ("3", "0.3", "3.75", "6", "15")),
        ("moonshot/kimi-k2.5", {}, ("0.6", "0.1", "0.6", "0.6", "3")),
        ("openai/text-embedding-3-small", {}, ("0.02", "0.02", "0.02", "0.02", "0")),
    ],
)
def test_the_book_has_what_was_worked_by_hand(model: str, modifier: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert consumed(*model.split("/"), **modifier) == dollars(*expected)


def test_audio_has_its_price_and_images_cost_what_other_input_does() -> None:
    found = usd_per_million("openai", "gpt-audio", TODAY)
    assert [
        found[kind] for kind in ("input", "input_audio", "input_image", "output", "output_audio", "output_image")
    ] == (dollars("2.5", "32", "2.5", "10", "64", "10"))


def test_a_search_costs_the_same_in_every_tier_residency_and_length_and_is_never_free() -> None:
    def search(provider: str, model: str, **modifier: Any) -> Decimal:
        return usd_per_million(provider, model, TODAY, **modifier)["web_search"]

    hard = {"service_tier": "ultrafast", "residency": "eu", "prompt_tokens": 10**6}
    assert search("openai", "gpt-6.1-sol") == search("openai", "gpt-6.1-sol", **hard) == 10_000
    assert search("openai", "gpt-4.1") == 25_000
    assert search("moonshot", "kimi-k2.5") == search("nobody", "nothing") == 10_000


@pytest.mark.parametrize("tier", ["flex", "fast"])
def test_a_tier_or_residency_that_the_model_has_not_costs_the_standard_price(tier: str) -> None:
    standard = consumed("anthropic", "claude-haiku-4-5")
    assert consumed("anthropic", "claude-haiku-4-5", service_tier=tier) == standard
    assert consumed("anthropic", "claude-opus-5-5", residency="eu") == consumed("anthropic", "claude-opus-5-5")
    assert consumed("anthropic", "claude-opus-5-5", residency="eu", service_tier="fast") == dollars(
        "4", "0.2", "5", "8", "20"
    )


def test_a_name_with_a_date_that_the_book_has_not_is_the_model_without_it() -> None:
    plain = consumed("anthropic", "claude-opus-5-5")
    for ending in ("-20260901", "-2026-09-01", "@20260901", "-latest"):
        assert consumed("anthropic", f"claude-opus-5-5{ending}") == plain
    assert consumed("openai", "gpt-4o-2024-05-13")[0] == 5  # and not 2.5: the book has it under its date
    assert consumed("anthropic", "claude-opus-5-5-19991231") == consumed("*", "*")


def test_an_unknown_model_costs_the_fallback_whatever_is_asked_of_it() -> None:
    fallback = dollars("5", "0.5", "6.25", "10", "25")
    assert consumed("openai", "gpt-99") == consumed("anthropic", "gpt-4o") == fallback
    assert consumed("openai", "gpt-99", service_tier="flex", residency="us", prompt_tokens=10**6) == fallback
    before = date.fromisoformat(BEGINNING) - timedelta(days=1)
    assert usd_per_million("openai", "gpt-4o", before)["input"] == 5
    with pytest.raises(LookupError, match="no fallback for 1969"):
        usd_per_million("openai", "gpt-4o", date(1969, 12, 31))


def test_openrouters_names_cost_what_the_vendors_list_says() -> None:
    vendor = consumed("anthropic", "claude-sonnet-4-5")
    assert consumed("openrouter", "anthropic/claude-sonnet-4.5") == vendor
    assert consumed("openrouter", "anthropic/claude-sonnet-4-5") == vendor
    assert consumed("openrouter", "openai/gpt-6.1-sol", prompt_tokens=300_000)[0] == 4
    assert consumed("openrouter", "openai/gpt-6.1-sol", service_tier="flex")[0] == 2
    assert consumed("openrouter", "moonshotai/kimi-k2.5") == consumed("moonshot", "kimi-k2.5")
    rows = [row for row in prices.rows_for_warehouse() if row["provider"] == "openrouter"]
    assert {row["source"] for row in rows} == {"derived"}


# The rows of the table


def by_combination() -> dict[tuple[Any, ...], dict[str, Decimal]]:
    found: dict[tuple[Any, ...], dict[str, Decimal]] = defaultdict(dict)
    for row in prices.rows_for_warehouse():
        names = ("provider", "model", "price_list", "valid_from", "service_tier", "residency", "context_above")
        kinds = found[tuple(row[name] for name in names)]
        assert row["token_kind"] not in kinds, row
        kinds[row["token_kind"]] = row["usd_per_million"]
    return found


def test_every_combination_of_every_model_is_there_with_every_kind() -> None:
    found = by_combination()
    models = defaultdict(set)
    for *model_and_day, tier, residency, length in found:
        models[tuple(model_and_day)].add((tier, residency, length))
    for combinations in models.values():
        tiers, residencies, lengths = (set(of) for of in zip(*combinations, strict=True))
        assert len(combinations) == len(tiers) * len(residencies) * len(lengths)
        assert "standard" in tiers
        assert "" in residencies
        assert 0 in lengths
        assert lengths <= {0, *THRESHOLDS}
        assert len(lengths) <= 2
    assert all(tuple(kinds) == TOKEN_KINDS for kinds in found.values())
    assert {model[0] for model in models} == {"*", "anthropic", "openai", "moonshot", "openrouter"}
    assert models["*", "*", "list", date(1970, 1, 1)] == {("standard", "", 0)}  # a view joins it once


def test_no_row_has_more_decimals_than_the_table_and_only_output_of_embeddings_is_free() -> None:
    for (_, model, *_), kinds in by_combination().items():
        assert all(usd == rounded(usd) for usd in kinds.values())
        free = {kind for kind, usd in kinds.items() if not usd}
        assert free <= ({"output", "output_audio", "output_image"} if "embedding" in model else set()), model


def test_every_model_tier_residency_and_length_is_looked_up_as_the_rows_have_it() -> None:
    for (provider, model, _, day, tier, residency, length), kinds in by_combination().items():
        found = usd_per_million(provider, model, day, tier, residency, length + 1)
        assert found == kinds, (provider, model, tier, residency, length)


def test_every_price_of_litellms_list_is_in_the_book_where_it_belongs() -> None:
    """The list read once more and otherwise: key by key."""
    models = json.loads(seed_prices.litellm_list().read_text(), parse_float=Decimal)
    endings = {"": "standard", "_batches": "batch", "_flex": "flex", "_priority": "priority", "_ultrafast": "ultrafast"}
    compared = Counter[str]()
    for name, about in models.items():
        provider, model = about.get("litellm_provider"), name.removeprefix(f"{about.get('litellm_provider')}/")
        if (provider, model) not in prices.book():
            continue
        for kind, key in seed_prices.LISTED.items():
            for length in (0, *THRESHOLDS):
                for ending, tier in endings.items():
                    listed = about.get(f"{key}{f'_above_{length // 1000}k_tokens' if length else ''}{ending}")
                    half = f"output_cost_per_token{ending}" not in about  # gpt-5-nano's priority: not a price
                    if listed is not None and not half:
                        found = usd_per_million(provider, model, TODAY, tier, "", length + 1)[kind]
                        assert found == listed * 10**6, (name, kind, length, tier)
                        compared[tier] += 1
    assert compared["standard"] > 500
    assert min(compared.values()) > 15
    assert len(compared) == 5


def test_rows_have_the_columns_of_the_table_and_lengths_that_the_view_knows() -> None:
    (table,) = (table for table in read_tables() if table.name == "prices")
    assert {tuple(row) for row in prices.rows_for_warehouse()} == {tuple(field.name for field in table.fields)}
    (view,) = (view for view in read_views() if view.name == "events_once")
    assert all(f"WHEN prompt_tokens > {length} THEN {length}" in view.sql for length in THRESHOLDS)
    assert view.sql.count("WHEN prompt_tokens >") == len(THRESHOLDS)


# What an entry leaves out


def test_a_kind_without_a_price_costs_what_is_charged_in_its_place() -> None:
    found = Entry("p", "m", TODAY, "s", {"input": Decimal(2), "output": Decimal(8)}).prices(Modifier())
    assert {kind: price.usd for kind, price in found.items()} == {
        **{kind: Decimal(8 if "output" in kind else 2) for kind in TOKEN_KINDS},
        "web_search": Decimal(10_000),
    }
    assert {found[kind].source for kind in ("input", "output")} == {"s"}
    assert {found[kind].source for kind in (*IN_PLACE_OF, "web_search")} == {"derived"}


def test_what_a_tier_does_not_list_keeps_its_ratio_and_follows_what_is_charged_in_its_place() -> None:
    more = {
        "tiers": {"flex": {"input": "1", "output": "4"}},
        "above": {"200000": {"standard": {"input": "6", "output": "15"}}},
    }
    given = entry("m", input="3", cache_read="1", input_audio="7", output="10", output_audio="20", more=more)
    of = entry_of(given)
    flex = {kind: price.usd for kind, price in of.prices(Modifier("flex")).items()}
    assert flex["cache_read"] == Decimal("0.333333333")
    assert flex["input_audio"] == Decimal("2.333333333")
    assert flex["cache_write_1h"] == flex["input_image"] == 1
    assert [flex["output_audio"], flex["output_image"]] == [8, 4]
    long_flex = of.prices(Modifier("flex", "", 200_000))
    assert [long_flex[kind].usd for kind in ("input", "output", "output_audio")] == [2, 6, 12]
    assert long_flex["input"].source == "derived"


def test_a_later_entry_that_leaves_a_tier_or_a_length_out_prices_it_as_without() -> None:
    more = {
        "tiers": {"flex": {"input": "1", "output": "2"}},
        "above": {"200000": {"standard": {"input": "4", "output": "8"}}},
    }
    book = book_of(entry("m", more=more, input="2", output="4"), entry("m", "2026-03-01", input="3", output="6"))
    assert book.usd_per_million("openai", "m", date(2026, 2, 28), "flex", "", 200_001)["input"] == 2
    assert book.usd_per_million("openai", "m", date(2026, 3, 1), "flex", "", 200_001)["input"] == 3
    rows = [row for row in book.rows() if (row["provider"], row["token_kind"]) == ("openai", "input")]
    assert [row["usd_per_million"] for row in rows] == dollars("2", "4", "1", "2", "3", "3", "3", "3")


def test_a_length_that_a_later_entry_brings_is_there_for_earlier_days_at_their_price() -> None:
    more = {"above": {"200000": {"standard": {"input": "9", "output": "9"}}}}
    rows = book_of(entry("m", input="2", output="4"), entry("m", "2026-03-01", more=more, input="3", output="6")).rows()
    found = {(row["valid_from"].month, row["context_above"]): row["usd_per_million"] for row in rows
             if (row["provider"], row["token_kind"]) == ("openai", "input")}  # fmt: skip
    assert found == {(1, 0): 2, (1, 200_000): 2, (3, 0): 3, (3, 200_000): 9}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (entry("m", input="1"), "lists input and output"),
        (entry("m", input="1", output="1", thoughts="1"), "other kinds of"),
        (entry("m", input="0", output="1"), "input is not free"),
        (entry("m", input="1", output="-1"), "none is negative"),
        (entry("m", input="0.1234567891", output="1"), "nine decimals"),
        (
            entry("m", input="1", output="1", more={"tiers": {"slow": {"input": "1", "output": "1"}}}),
            "a tier is one of",
        ),
        (entry("m", input="1", output="1", more={"residency": {"mars": "2"}}), "a residency is one of"),
        (entry("m", input="1", output="1", more={"above": {"300000": {"standard": {}}}}), "300000.* must be one of"),
        (entry("m", input="1", output="1", more={"above": {"100000": {}, "200000": {}}}), "must be one of"),
        (
            entry("m", input="1", output="1", more={"above": {"100000": {"flex": {"input": "1", "output": "1"}}}}),
            "above a length, the standard tier",
        ),
    ],
)
def test_an_entry_that_cannot_be_used_is_told(given: dict[str, Any], why: str) -> None:
    with pytest.raises(PriceBookError, match=rf"openai/m from 2025-01-01: .*{why}"):
        entry_of(given)


def test_a_book_that_contradicts_itself_is_told() -> None:
    def above(length: int) -> dict[str, Any]:
        return {"above": {str(length): {"standard": {"input": "1", "output": "1"}}}}

    with pytest.raises(PriceBookError, match="two entries from one day"):
        book_of(entry("m", input="1", output="1"), entry("m", input="2", output="1"))
    with pytest.raises(PriceBookError, match=r"openai/m has prices above \[100000, 200000\] tokens"):
        book_of(
            entry("m", input="1", output="1", more=above(100_000)),
            entry("m", "2026-01-01", input="1", output="1", more=above(200_000)),
        )
    with pytest.raises(PriceBookError, match="no fallback"):
        Book([])


# The script


def test_the_list_is_read_exactly_and_only_for_models_of_text() -> None:
    models = {
        "openai/gpt": listing(input="0.0000012345", cache_read="1.25e-07", output="0.00001"),
        "painter": listing(input="0.1", output="0.1") | {"mode": "image_generation"},
        "elsewhere": listing(input="0.1", output="0.1") | {"litellm_provider": "azure"},
        "free": listing(input="0", output="0"),
        "half": listing(input="1"),
    }
    found = {"input": "1.2345", "cache_read": "0.125", "output": "10"}
    assert listed_prices(models) == {("openai", "gpt"): {"usd_per_million": found}}


def test_modifiers_of_the_list_are_read_and_half_a_tier_is_none() -> None:
    about = listing(input="2e-6", output="4e-6") | {
        "input_cost_per_token_batches": Decimal("1e-6"),
        "output_cost_per_token_batches": Decimal("2e-6"),
        "input_cost_per_token_flex": Decimal("1e-6"),
        "input_cost_per_token_above_272k_tokens": Decimal("4e-6"),
        "output_cost_per_token_above_272k_tokens": Decimal("6e-6"),
        "input_cost_per_token_above_272k_tokens_batches": Decimal("2e-6"),
        "output_cost_per_token_above_272k_tokens_batches": Decimal("3e-6"),
        "input_cost_per_token_decisions": Decimal("1e-6"),
        "output_cost_per_token_decisions": Decimal("0"),
        "regional_processing_uplift_multiplier_eu": Decimal("1.10"),
        "provider_specific_entry": {"us": Decimal("1.1"), "fast": 2},
        "search_context_cost_per_query": {"search_context_size_medium": Decimal("0.025")},
    }
    assert listed_prices({"gpt": about}) == {
        ("openai", "gpt"): {
            "usd_per_million": {"input": "2", "output": "4", "web_search": "25000"},
            "tiers": {"batch": {"input": "1", "output": "2"}},
            "above": {"272000": {"standard": {"input": "4", "output": "6"}, "batch": {"input": "2", "output": "3"}}},
            "residency": {"us": "1.1", "eu": "1.1"},
            "fast": "2",
        }
    }


def given(**usd: str) -> dict[str, Any]:
    return {"usd_per_million": usd}


def test_a_model_new_to_the_book_is_priced_from_the_beginning() -> None:
    added = additions([FALLBACK], {("openai", "new"): given(input="1", output="2")}, TODAY, "s")
    assert added == [entry("new", input="1", output="2") | {"source": "s"}]


def test_a_changed_price_is_added_from_today_and_an_unchanged_one_is_not() -> None:
    book = [FALLBACK, entry("a", input="1", output="2"), entry("b", input="1", output="2")]
    listed = {("openai", "a"): given(input="1.0", output="2"), ("openai", "b"): given(input="1", output="3")}
    added = additions(book, listed, TODAY, "test")
    assert added == [entry("b", "2026-06-01", input="1", output="3")]
    assert additions(book + added, listed, TODAY, "test") == []


@pytest.mark.parametrize(
    "more",
    [
        {"tiers": {"flex": {"input": "1", "output": "1"}}},
        {"residency": {"eu": "1.1"}},
        {"fast": "2"},
        {"above": {"272000": {"standard": {"input": "1", "output": "2"}}}},
    ],
)
def test_a_modifier_that_is_new_is_a_change(more: dict[str, Any]) -> None:
    book = [FALLBACK, entry("a", input="1", output="2")]
    (added,) = additions(book, {("openai", "a"): given(input="1", output="2") | more}, TODAY, "test")
    assert added == entry("a", "2026-06-01", more=more, input="1", output="2")


def test_an_entry_is_never_added_before_or_beside_another_of_its_model() -> None:
    book = [FALLBACK, entry("a", "2026-06-01", input="1", output="2")]
    with pytest.raises(ValueError, match="later day"):
        additions(book, {("openai", "a"): given(input="9", output="2")}, TODAY, "test")


def run_script(monkeypatch: pytest.MonkeyPatch, book: Path, *arguments: str) -> list[dict[str, Any]]:
    monkeypatch.setattr(sys, "argv", ["seed", "--book", str(book), *arguments])
    seed_prices.main()
    entries: list[dict[str, Any]] = json.loads(book.read_text())
    return entries


def test_the_script_adds_to_the_book_and_rewrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book, listed = tmp_path / "prices.json", tmp_path / "list.json"

    def run(since: str, price: float) -> list[dict[str, Any]]:
        about = {
            "litellm_provider": "openai",
            "mode": "chat",
            "input_cost_per_token": price,
            "output_cost_per_token": 1e-5,
        }
        listed.write_text(json.dumps({"gpt": about}))
        return run_script(monkeypatch, book, "--list", str(listed), "--from", since)

    first = run("2026-01-01", 1.25e-6)
    assert first == [FALLBACK, entry("gpt", input="1.25", output="10") | {"source": "list.json"}]
    assert run("2026-02-01", 1.25e-6) == first
    again = run("2026-03-01", 1e-6)
    assert again == [*first, entry("gpt", "2026-03-01", input="1", output="10") | {"source": "list.json"}]
    assert [e.standard["input"] for e in load(book)][1:] == dollars("1.25", "1")
    known = Book(load(book))
    days = [date(2026, 2, 28), date(2026, 3, 1)]
    assert [known.usd_per_million("openai", "gpt", day)["input"] for day in days] == dollars("1.25", "1")
    assert book.read_text().count("\n") == len(again) + 2  # one entry per line


ROUTED = {
    "data": [
        {
            "id": "google/gemini-9",
            "name": "Gemini 9",
            "pricing": {"prompt": "0.00000125", "completion": "0.00001", "request": "0", "image": "0.00516",
                        "web_search": "0.004", "input_cache_read": "0.00000031", "input_cache_write": "0.000001625"},
        },
        {"id": "openai/gpt", "pricing": {"prompt": "0.000001", "completion": "0.000002", "web_search": "0.01"}},
        {"id": "openai/gpt-plus", "pricing": {"prompt": "0.000003", "completion": "0.000002"}},
        {"id": "openrouter/auto", "pricing": {"prompt": "-1", "completion": "-1"}},
        {"id": "meta/llama:free", "pricing": {"prompt": "0", "completion": "0"}},
        {"id": "half/known", "pricing": {"prompt": "0.1"}},
    ]
}  # fmt: skip
GEMINI = {"input": "1.25", "output": "10", "cache_read": "0.31", "cache_write_5m": "1.625", "web_search": "4000"}


def test_openrouters_list_is_read_in_its_shape() -> None:
    assert routed_prices(ROUTED) == {
        ("openrouter", "google/gemini-9"): {"usd_per_million": GEMINI},
        ("openrouter", "openai/gpt"): given(input="1", output="2", web_search="10000"),
        ("openrouter", "openai/gpt-plus"): given(input="3", output="2"),
    }


@pytest.fixture
def openrouter(tmp_path: Path) -> Iterator[str]:
    """OpenRouter's models API, as a place on this machine."""

    class Models(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(ROUTED).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Models)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api/v1/models"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("place", ["file", "web"])
def test_the_script_adds_openrouters_prices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, openrouter: str, place: str
) -> None:
    book, listed = tmp_path / "prices.json", tmp_path / "models.json"
    listed.write_text(json.dumps(ROUTED))
    at_first = [FALLBACK, entry("gpt", input="1", output="2"), entry("gpt-plus", input="1", output="2")]
    book.write_text(json.dumps(at_first))
    where = str(listed) if place == "file" else openrouter
    added = run_script(monkeypatch, book, "--openrouter", where, "--from", "2026-06-01")[len(at_first) :]
    # gpt costs there what the vendor asks, so nothing is new; gpt-plus costs more, from today on
    assert [(e["model"], e["valid_from"], e["source"]) for e in added] == [
        ("google/gemini-9", BEGINNING, "openrouter"),
        ("openai/gpt-plus", "2026-06-01", "openrouter"),
    ]
    known = Book(load(book))
    cost = [known.usd_per_million("openrouter", "openai/gpt-plus", date(2026, 6, day))["input"] for day in (1, 2)]
    assert cost == dollars("3", "3")
    assert known.usd_per_million("openrouter", "openai/gpt-plus", date(2026, 5, 31))["input"] == 1
    assert run_script(monkeypatch, book, "--openrouter", where, "--from", "2026-07-01")[len(at_first) :] == added


def test_the_book_is_up_to_date_with_the_list_of_the_litellm_we_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "prices.json"
    copy.write_text(prices.BOOK.read_text())
    later = (datetime.now(UTC).date() + timedelta(days=1)).isoformat()
    run_script(monkeypatch, copy, "--from", later)
    assert capsys.readouterr().out.startswith("0 entries added")
    assert copy.read_text() == prices.BOOK.read_text()
