"""What an event costs, by the same rules as the views: exact, as of its UTC day, at what the company pays."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Final

from governance import prices
from governance.contract import NOTHING_NEGOTIATED, read_contract
from governance.events import UsageEvent
from governance.price_list import STANDARD, undated

_A_MILLIONTH: Final = Decimal("0.000001")


def open_book(policy_dir: Path | None) -> prices.Book:
    """The price book, with the company's own prices where there is a policy. Raises PolicyError, PriceBookError."""
    contract = read_contract(policy_dir / "prices.yaml") if policy_dir is not None else NOTHING_NEGOTIATED
    return prices.book(contract)


def cost_usd(event: UsageEvent, book: prices.Book) -> Decimal:
    """US dollars; 0 for a subscription. Raises LookupError on a day before there was any price."""
    if event.billing_mode == "subscription":
        return Decimal(0)
    if event.provider_cost_usd is not None:
        return event.provider_cost_usd
    prompt = event.input_tokens + event.cache_read_tokens + event.cache_write_5m_tokens + event.cache_write_1h_tokens
    if not (prompt or event.output_tokens or event.web_searches):
        return Decimal(0)
    usd = book.usd_per_million(
        event.provider or "",
        _name_in(book, event),
        event.occurred_at.date(),
        event.service_tier or STANDARD,
        event.residency or "",
        prompt,
        "contract",
    )
    of_input, of_output = event.input_audio_tokens + event.input_image_tokens, event.output_audio_tokens
    counts = (
        ("input", event.input_tokens - of_input),
        ("input_audio", event.input_audio_tokens),
        ("input_image", event.input_image_tokens),
        ("cache_read", event.cache_read_tokens),
        ("cache_write_5m", event.cache_write_5m_tokens),
        ("cache_write_1h", event.cache_write_1h_tokens),
        ("output", event.output_tokens - of_output - event.output_image_tokens),
        ("output_audio", event.output_audio_tokens),
        ("output_image", event.output_image_tokens),
        ("web_search", event.web_searches),
    )
    return sum((count * usd[kind] for kind, count in counts if count), Decimal(0)) * _A_MILLIONTH


def _name_in(book: prices.Book, event: UsageEvent) -> str:
    """The model as it was served, where the book knows it, else as it was asked for."""
    served, asked, provider = event.model or "", event.model_requested or "", event.provider or ""
    names = (served, undated(served), asked, undated(asked))
    return next((name for name in names if (provider, name) in book), served)
