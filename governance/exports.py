"""Exports for the people who keep the books: a month's chargeback and FOCUS 1.2, as CSV. Pure: rows in, text out.

The rows come from the views `chargeback` and `focus_charges`, of one month. Decimals are written with every digit and
never in E notation; a row's place depends on its content alone, so that the same month is the same file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

Row = Mapping[str, Any]

CHARGEBACK_COLUMNS = (
    "month", "cost_centre", "provider", "entry", "requests", "prompt_tokens", "output_tokens", "cost_usd",
    "list_cost_usd",
)  # fmt: skip
FOCUS_COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency",
    "ChargePeriodEnd", "ChargePeriodStart", "CommitmentDiscountStatus", "ConsumedQuantity", "ConsumedUnit",
    "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost",
    "ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit",
    "ProviderName", "PublisherName", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter",
    "SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName", "Tags",
)  # fmt: skip

# Each takes @month, the first day of the month (DATE).
CHARGEBACK_SQL = f"SELECT {', '.join(CHARGEBACK_COLUMNS)} FROM tally.chargeback WHERE month = @month"  # noqa: S608 - names of ours
FOCUS_SQL = (
    f"SELECT {', '.join(FOCUS_COLUMNS)} FROM tally.focus_charges WHERE BillingPeriodStart = CAST(@month AS TIMESTAMP)"  # noqa: S608
)


def month(text: str) -> date:
    """The first day of a month written 2026-10. Raises ValueError, in words, for anything else."""
    try:
        if len(text) != len("2026-10"):
            raise ValueError
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise ValueError(f"a month is written like 2026-10, not {text!r}") from None


def chargeback_csv(rows: Sequence[Row]) -> str:
    """Rows of `chargeback`, for a spreadsheet: header, and a line for each cost centre, provider and entry."""
    return _csv(CHARGEBACK_COLUMNS, [{name: _written(row[name]) for name in CHARGEBACK_COLUMNS} for row in rows])


def focus_csv(rows: Sequence[Row]) -> str:
    """Rows of `focus_charges`, as FOCUS 1.2 wants a file: UTC with a Z, an empty cell for NULL, a point in decimals."""
    return _csv(FOCUS_COLUMNS, [{name: _focus(row[name]) for name in FOCUS_COLUMNS} for row in rows])


def _csv(columns: Sequence[str], cells: list[dict[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(sorted(cells, key=lambda line: [line[name] for name in columns]))
    return out.getvalue()


def _focus(value: Any) -> str:
    """As `_written`, and a whole decimal keeps its point: who guesses a column's type from its text finds decimals."""
    written = _written(value)
    return f"{written}.0" if isinstance(value, Decimal) and "." not in written else written


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        whole, point, rest = f"{value:f}".partition(".")
        return whole + (point + rest.rstrip("0")).rstrip(".")
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _inert(value) if isinstance(value, str) else str(value)


def _inert(text: str) -> str:
    """A spreadsheet takes text that begins so for a formula, and a model's name comes from whoever asks for it."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
