"""How amounts, days and numbers are written in what people read: the same in every message."""

from __future__ import annotations

from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal


def usd(amount: Decimal) -> str:
    """Dollars and cents: $1,234.50."""
    return f"${amount:,.2f}"


def day(on: date) -> str:
    """A day so near that its year goes without saying: 24 November."""
    return f"{on.day} {on:%B}"


def dated(on: date) -> str:
    """24 November 2026."""
    return f"{on.day} {on:%B %Y}"


def minute(at: datetime) -> str:
    """A moment as near: 24 November, 14:05 UTC."""
    at = at.astimezone(UTC)
    return f"{day(at)}, {at:%H:%M} UTC"


def moment(at: datetime, zone: tzinfo = UTC) -> str:
    """A moment on the clocks of a time zone: 1 December 2026, 00:00 Europe/Berlin."""
    local = at.astimezone(zone)
    return f"{dated(local)}, {local:%H:%M} {zone}"


def counted(number: int, noun: str) -> str:
    """1 request; 1,204 requests."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
