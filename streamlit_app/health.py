"""What Data health states, computed from rows: results in words, and the gap to the bill by cause. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from streamlit_app import wording
from streamlit_app.figures import Row

# The causes of reconciliation, in the words of the page.
CAUSES = {
    "bypass_usd": "Past the gateway",
    "price_usd": "Price",
    "unpriced_usd": "Not in the price book",
    "cache_usd": "Cache kinds",
    "counted_usd": "Counted by Tally",
    "timing_usd": "Timing",
}


def result(value: float | None, unit: str) -> str:
    """What a check found: 7 seconds, 0.4%, 12 calls; a dash where there was nothing to look at."""
    if value is None:
        return wording.NOTHING
    if unit == "seconds":
        return wording.span(timedelta(seconds=value))
    if unit == "share":
        return wording.percent(value)
    number = round(value)
    return f"{number:,}{wording.NO_BREAK}{unit[:-1] if number == 1 else unit}"


def passed(checks: Sequence[Row]) -> tuple[int, int]:
    """(checks that pass, checks that had something to look at)."""
    looked = [check for check in checks if check["status"] != "none"]
    return sum(1 for check in looked if check["status"] == "ok"), len(looked)


def value_of(checks: Iterable[Row], name: str) -> float | None:
    """The figure of one check."""
    return next((check["value"] for check in checks if check["name"] == name), None)


def causes(bills: Sequence[Row]) -> list[dict[str, Any]]:
    """The gap over all providers by cause, all six in a fixed order: cause, usd."""
    return [{"cause": words, "usd": sum((bill[name] for bill in bills), Decimal(0))} for name, words in CAUSES.items()]


def gap_share(theirs_usd: Decimal, gap_usd: Decimal) -> float | None:
    """The gap as a share of the bill, with its sign; None without a bill."""
    return float(gap_usd / theirs_usd) if theirs_usd else None
