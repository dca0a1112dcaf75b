"""A line of a provider's report, and how it is read from JSON: what is not as documented is refused, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Literal

Report = Literal["usage", "cost"]
Answer = Mapping[str, Any]
_EXACT = Decimal(1).scaleb(-18)  # what both warehouses keep of a dollar
_TIERS = {
    "default": "standard",
    "auto": "standard",
    "priority_on_demand": "priority",
    "flex_discount": "flex",
}


class Malformed(Exception):
    """An answer that is not as documented. Names the field, never its content."""


@dataclass(frozen=True)
class Line:
    """One line of a day, in the words of the table `bills`. A usage line has a quantity, a cost line an amount."""

    model: str | None = None
    api_key_id: str | None = None
    project: str | None = None
    service_tier: str | None = None
    token_kind: str | None = None
    quantity: int | None = None
    amount_usd: Decimal | None = None
    line_item: str | None = None

    def row(self) -> dict[str, Any]:
        """The line as columns of `bills`, without those of its reading."""
        return asdict(self)


# What a day says from which a provider has taken its lines back: it was read, and there is nothing.
NOTHING: dict[Report, Line] = {"usage": Line(quantity=0), "cost": Line(amount_usd=Decimal(0))}

Days = dict[tuple[Report, date], list[Line]]  # a report and a UTC day -> its lines; an empty day is there too


def text(row: Answer, name: str) -> str | None:
    """A name, or None where the provider tells none. Raises Malformed."""
    value = row.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 300:
        raise Malformed(f"{name} is not a name")
    return value


def count(row: Answer, name: str) -> int:
    """How many; 0 where the field is absent or null. Raises Malformed."""
    value = row.get(name)
    if value is None:
        return 0
    number = Decimal(value) if type(value) in (int, Decimal) else Decimal(-1)
    if number != int(number) or not 0 <= number < 2**63:
        raise Malformed(f"{name} is not a count")
    return int(number)


def dollars(value: object, currency: object, name: str) -> Decimal:
    """US dollars, rounded to the eighteen decimals that a warehouse keeps. Credits are negative. Raises Malformed."""
    if currency not in ("usd", "USD"):
        raise Malformed(f"{name} is not in US dollars")
    amount = Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else Decimal("NaN")
    if not amount.is_finite():
        raise Malformed(f"{name} is not an amount")
    if abs(amount) >= 10**9:
        raise Malformed(f"{name} is out of all bounds")
    return amount.quantize(_EXACT).normalize()


def tier(reported: str | None) -> str | None:
    """A service tier in the event's words; None where none is told."""
    return None if reported is None else _TIERS.get(reported, reported)


def results(bucket: Answer) -> list[Answer]:
    """The rows of one day's bucket. Raises Malformed."""
    rows = bucket.get("results")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Malformed("results is not a list of objects")
    return rows
