"""Numbers and times as a person would say them."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal

NO_BREAK = "\u00a0"
NOTHING = "\u2013"  # stands where there is no figure


def usd(amount: Decimal | float) -> str:
    """Dollars, rounded to what matters: $9,332, $19.81, $90, $0.42, $0.0042."""
    size = abs(Decimal(amount))
    sign = "-" if amount < 0 else ""
    if size == 0:
        return "$0"
    if size >= Decimal("99.995") or size == int(size):
        return f"{sign}${size:,.0f}"
    if size >= Decimal("0.095"):
        return f"{sign}${size:.2f}"
    if size < Decimal("0.0001"):
        return f"{sign}<$0.0001"
    places = 3 if size >= Decimal("0.0095") else 4
    return f"{sign}${size:.{places}f}"


def signed_usd(amount: Decimal | float) -> str:
    """Dollars of a difference: +$19.81, -$90, $0."""
    return f"{'+' if amount > 0 else ''}{usd(amount)}"


def count(number: int) -> str:
    """A count in at most four digits: 940, 12.3k, 4.6M."""
    size = float(number)
    for unit in ("", "k", "M", "bn"):
        if size < 999.5 or unit == "bn":
            return f"{size:,.0f}{unit}" if unit == "" or size >= 99.5 else f"{size:.1f}{unit}"
        size /= 1000
    raise AssertionError("unreachable: bn takes every size")


def percent(share: float) -> str:
    """A share of one, in percent: 63%; 0.4%, <0.1% or >99.9% where rounding would hide it."""
    value = share * 100
    if 0 < value < 0.05:
        return "<0.1%"
    if 99.95 <= value < 100:
        return ">99.9%"
    return f"{value:.1f}%" if 0 < value < 1 or 99 < value < 100 else f"{value:.0f}%"


def day(on: date) -> str:
    """23 Nov"""
    return f"{on.day} {on:%b}"


def moment(at: datetime) -> str:
    """Mon 23 Nov, 14:05 UTC"""
    return f"{at:%a} {at.day} {at:%b}, {at:%H:%M} UTC"


def day_seen(on: date, today: date) -> str:
    """today, yesterday, 23 Nov"""
    ago = (today - on).days
    return "today" if ago == 0 else "yesterday" if ago == 1 else day(on)


def span(length: timedelta) -> str:
    """40 seconds, 3 minutes, 5 hours, 2 days"""
    seconds = max(0, int(length.total_seconds()))
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size or (seconds >= size and unit == "day"):
            number = seconds // size
            return f"{number}{NO_BREAK}{unit}{'' if number == 1 else 's'}"
    return f"{seconds}{NO_BREAK}second{'' if seconds == 1 else 's'}"


def plain(text: str) -> str:
    """Text that Markdown shows as it stands: no formula from a dollar, no link from an address."""
    escaped = "".join(f"\\{letter}" if letter in "\\`*_[]{}<>#$~|:!" else letter for letter in text)
    return escaped.replace("@", "@\u200b")
