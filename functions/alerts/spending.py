"""What was spent in the running day, week and month of the company, by whom and on what: one query for all budgets.

Whole days (UTC) come from the rollup. Where the company's days are not UTC's, the days at the edges of a period are
read from the requests themselves, so that a period begins and ends at the company's own midnight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from governance.budgets import Scope
from governance.periods import KINDS, Period, PeriodKind, period_of
from governance.standings import Spent
from governance.warehouse import Warehouse

from .spending_sql import statement

_NEVER: Final = date(1970, 1, 1)
# The partition filter makes it cheap; where nothing came in for so long, there is nothing new to decide either.
NEWEST: Final = """
SELECT MAX(received_at) AS newest_received_at
FROM tally.events
WHERE occurred_at >= @since
"""
_SINCE: Final = timedelta(days=35)


@dataclass(frozen=True)
class Spending:
    """What was spent in each running period, by kind of period, scope and name. The company's name is ''.

    `newest_received_at`: when the last row came in that can be inside; None where none did in five weeks.
    """

    periods: Mapping[PeriodKind, Period]
    sums: Mapping[tuple[str, str, str], Spent] = field(default_factory=dict)
    newest_received_at: datetime | None = None

    def of(self, kind: PeriodKind, scope: Scope, name: str) -> Spent:
        """What counts against a budget of that kind."""
        return self.sums.get((kind, scope, name), Spent())

    def together(self, kind: PeriodKind, scope: Scope, names: Iterable[str]) -> Spent:
        """The sum over several; what they spent on one day is taken for days of their own."""
        parts = [self.of(kind, scope, name) for name in names]
        return Spent(
            sum((part.usd for part in parts), Decimal(0)),
            sum(part.squares or 0.0 for part in parts),
            sum(part.weekdays_usd or 0.0 for part in parts),
        )

    def names(self, kind: PeriodKind, scope: Scope) -> list[str]:
        """Who has spent anything."""
        return sorted(name for k, s, name in self.sums if (k, s) == (kind, scope))


def spending_at(
    warehouse: Warehouse, now: datetime, zone: ZoneInfo, *, persons: bool = True, keys: bool = True
) -> Spending:
    """What the warehouse knows of the periods that `now` is in; persons and keys only where they are wanted.

    Raises WarehouseError.
    """
    (newest,) = warehouse.query(NEWEST, {"since": now - _SINCE})
    periods = {kind: period_of(kind, now, zone) for kind in KINDS}
    given = parameters(periods)
    edges = any(value != _NEVER for name, value in given.items() if name.endswith("_edge"))
    if not edges:
        given = {name: value for name, value in given.items() if not name.endswith("_edge")}
    rows = warehouse.query(statement(persons=persons, keys=keys, edges=edges), given)
    sums = {
        (row["period"], row["scope"], row["name"]): Spent(Decimal(row["cost_usd"]), row["squares"], row["weekdays_usd"])
        for row in rows
    }
    return Spending(periods, sums, newest["newest_received_at"])


def parameters(periods: Mapping[PeriodKind, Period]) -> dict[str, Any]:
    """Of the query: for each kind the whole days (UTC) of its period, its moments, and the days shared with others."""
    given: dict[str, Any] = {}
    for kind, period in periods.items():
        starts_at, ends_at = period.starts_at, period.ends_at
        first, end = _next_midnight(starts_at), ends_at.date()
        given |= {
            f"{kind}_starts_at": starts_at,
            f"{kind}_ends_at": ends_at,
            f"{kind}_first": first,
            f"{kind}_end": max(first, end),
            f"{kind}_first_edge": _NEVER if starts_at.time() == time() else starts_at.date(),
            f"{kind}_last_edge": _NEVER if ends_at.time() == time() else ends_at.date(),
        }
    given["first_day"] = min(given[f"{kind}_first"] for kind in periods)
    given["end_day"] = max(given[f"{kind}_end"] for kind in periods)
    return given


def _next_midnight(moment: datetime) -> date:
    """The first day (UTC) that begins at this moment or later."""
    day = moment.astimezone(UTC).date()
    return day if moment.astimezone(UTC).time() == time() else day + timedelta(days=1)
