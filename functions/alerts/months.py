"""Closed months: what was reported is frozen, and what changes later is posted beside it with its reason.

A month is closed some days after its end, when late events have had their time. From then on a corrected price or an
event that came later still is an adjustment: the difference to what was reported and already adjusted, appended once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Protocol

from governance.registry import ANY, Registry
from governance.warehouse import Row, Warehouse

from .reference import LOADED

_EVERY: Final = timedelta(hours=1)

_TO_CLOSE = """
SELECT DISTINCT DATE_TRUNC(day, MONTH) AS month
FROM tally.team_rollup
WHERE day < @before AND DATE_TRUNC(day, MONTH) NOT IN (SELECT month FROM tally.statements)
ORDER BY month
"""
_OPEN = "SELECT * FROM tally.statement_changes WHERE open_usd <> 0"
_POSTED = "SELECT adjustment_id FROM tally.adjustment_ledger WHERE reason = 'reconciliation'"


class TrueUp(Protocol):
    """What finance writes into policy/adjustments.csv: a month made equal to the provider's bill."""

    @property
    def month(self) -> date: ...
    @property
    def provider(self) -> str: ...
    @property
    def team(self) -> str | None: ...
    @property
    def amount_usd(self) -> Decimal: ...
    @property
    def note(self) -> str: ...


def keep_books(
    warehouse: Warehouse, registry: Registry, true_ups: Iterable[TrueUp], now: datetime, close_day: int, *, anew: bool
) -> dict[str, Any]:
    """Close and post, once an hour, or when prices, people or the rest of the policy were loaded `anew`; what was done.

    Raises WarehouseError, RegistryError.
    """
    known = registry.get(LOADED, "books")
    if not anew and known is not None and now - datetime.fromisoformat(known.fields["at"]) < _EVERY:
        return {"closed": [], "adjustments": 0}
    closed = [month.isoformat() for month in close(warehouse, now, close_day)]
    adjustments = post(warehouse, true_ups, now)
    registry.put(LOADED, "books", {"at": now.isoformat()}, ANY)
    return {"closed": closed, "adjustments": adjustments}


def closable_before(now: datetime, close_day: int) -> date:
    """The first day (UTC) that may not be closed yet: this month's, or last month's until `close_day` has come."""
    this_month = now.date().replace(day=1)
    if now.day >= close_day:
        return this_month
    return date(this_month.year - (this_month.month == 1), (this_month.month - 2) % 12 + 1, 1)


def close(warehouse: Warehouse, now: datetime, close_day: int) -> list[date]:
    """Write the statements of the months that are over and not closed yet; their first days. The rollup is up to date.

    Raises WarehouseError. A month is written whole or not at all.
    """
    rows = warehouse.query(_TO_CLOSE, {"before": closable_before(now, close_day)})
    months = [row["month"] for row in rows]
    for month in months:
        warehouse.rewrite("statements", "statement_lines", "month", [month])
    return months


def post(warehouse: Warehouse, true_ups: Iterable[TrueUp], now: datetime) -> int:
    """Append what closed months would be reported otherwise today, and finance's true-ups; how many rows.

    Two ticks that see the same difference give its row the same id, and the views count it once. Raises WarehouseError.
    """
    found = [_change(row, now) for row in warehouse.query(_OPEN)]
    posted = {row["adjustment_id"] for row in warehouse.query(_POSTED)}
    found += [row for row in _true_ups(true_ups, now) if row["adjustment_id"] not in posted]
    refused = warehouse.append("adjustments", found) if found else {}
    if refused:
        raise RuntimeError(f"the warehouse refuses an adjustment: {next(iter(refused.values()))}")
    return len(found)


def _change(row: Row, now: datetime) -> dict[str, Any]:
    line = [row[name] for name in ("month", "team", "key_kind", "provider", "model", "reason", "postings")]
    return {
        "adjustment_id": _id(*line),
        **{name: row[name] for name in ("month", "team", "key_kind", "provider", "model", "reason")},
        "cost_usd": row["open_usd"],
        "posted_at": now,
        "note": None,
    }


def _true_ups(true_ups: Iterable[TrueUp], now: datetime) -> Sequence[dict[str, Any]]:
    return [
        {
            "adjustment_id": _id(true_up.month, true_up.provider, true_up.team, true_up.amount_usd, true_up.note),
            "month": true_up.month,
            "team": true_up.team,
            "key_kind": "human",
            "provider": true_up.provider,
            "model": None,
            "reason": "reconciliation",
            "cost_usd": true_up.amount_usd,
            "posted_at": now,
            "note": true_up.note,
        }
        for true_up in true_ups
    ]


def _id(*line: object) -> str:
    return hashlib.sha256("|".join(map(str, line)).encode()).hexdigest()[:32]
