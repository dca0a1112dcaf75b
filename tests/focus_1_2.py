"""Rules of FOCUS 1.2 by row that the validator passes over: lists of allowed values, and whatever has a condition on
ChargeClass, which is NULL in nearly every row. Written from the specification; a rule is named after its column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

Row = Mapping[str, Any]
CATEGORIES = ("Usage", "Purchase", "Tax", "Credit", "Adjustment")
PRICED = (
    "ListUnitPrice", "ContractedUnitPrice", "PricingQuantity", "PricingUnit", "PricingCategory", "SkuId", "SkuPriceId",
)  # fmt: skip
COSTS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")


def _priced(row: Row) -> bool:
    """Whether it is a charge with a price: use or a purchase, and no correction."""
    return row["ChargeCategory"] in ("Usage", "Purchase") and row["ChargeClass"] != "Correction"


def _given(name: str) -> Callable[[Row], bool]:
    return lambda row: not _priced(row) or row[name] is not None


def _product(unit_price: str, cost: str) -> Callable[[Row], bool]:
    return lambda row: not _priced(row) or row[unit_price] * row["PricingQuantity"] == row[cost]


RULES: dict[str, Callable[[Row], bool]] = {
    **{name: _given(name) for name in PRICED},
    "ListCost": _product("ListUnitPrice", "ListCost"),
    "ContractedCost": _product("ContractedUnitPrice", "ContractedCost"),
    "ChargeCategory": lambda row: row["ChargeCategory"] in CATEGORIES,
    "ChargeClass": lambda row: row["ChargeClass"] in (None, "Correction"),
    "ChargeFrequency": lambda row: row["ChargeFrequency"] in ("One-Time", "Recurring", "Usage-Based"),
    "PricingCategory values": lambda row: row["PricingCategory"] in (None, "Standard", "Dynamic", "Committed", "Other"),
    "ServiceCategory": lambda row: (
        (row["ServiceCategory"], row["ServiceSubcategory"]) == ("AI and Machine Learning", "Generative AI")
    ),
    "ConsumedQuantity": lambda row: (row["ConsumedQuantity"] is not None) == (row["ChargeCategory"] == "Usage"),
    "EffectiveCost of a purchase": lambda row: row["ChargeCategory"] != "Purchase" or row["EffectiveCost"] == 0,
    "costs of an adjustment": lambda row: _priced(row) or len({row[name] for name in COSTS}) == 1,
    "BillingPeriod": lambda row: (
        row["BillingPeriodStart"].day == 1
        and row["BillingPeriodEnd"] == (row["BillingPeriodStart"] + timedelta(days=31)).replace(day=1)
    ),
    "ChargePeriod": lambda row: (
        row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
    ),
}


def broken(rows: Iterable[Row]) -> set[str]:
    """The rules that some row breaks. An error in the arithmetic of a NULL is the NULL's own rule."""
    found = set()
    for row in rows:
        missing = {name for name in PRICED if not RULES[name](row)}
        found |= missing or {name for name, holds in RULES.items() if not holds(row)}
    return found
