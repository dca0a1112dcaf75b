"""What was spent in a period, read from the warehouse with one query for all budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal

from governance.budgets import Period
from governance.policy import Budget
from governance.warehouse import Warehouse

_BY_TEAM = """
SELECT team, SUM(cost_usd) AS cost_usd
FROM tally.daily_cost
WHERE day >= @starts_on AND day < @ends_on
GROUP BY team
"""
# The partition filter makes it cheap. A month without a row has no spending either, so nothing is missed by it.
_NEWEST = """
SELECT MAX(received_at) AS newest_received_at
FROM tally.events
WHERE occurred_at >= @starts_at AND occurred_at < @ends_at
"""


@dataclass(frozen=True)
class Spending:
    """Dollars by team in one period; None is spending of no team. `newest_received_at` is when the last row came in."""

    by_team: Mapping[str | None, Decimal]
    newest_received_at: datetime | None

    def of(self, budget: Budget) -> Decimal:
        """Dollars that count against the budget. The company pays for everything, also for keys of no team."""
        if budget.scope == "company":
            return sum(self.by_team.values(), Decimal(0))
        return self.by_team.get(budget.name, Decimal(0))

    def age_s(self, now: datetime) -> float | None:
        """Seconds since the last row came in; None where none ever did."""
        return None if self.newest_received_at is None else (now - self.newest_received_at).total_seconds()


def spending_in(warehouse: Warehouse, period: Period) -> Spending:
    """What the warehouse knows of the period so far. Raises WarehouseError."""
    days = {"starts_on": period.starts_on, "ends_on": period.ends_on}
    (newest,) = warehouse.query(
        _NEWEST,
        {
            "starts_at": datetime.combine(period.starts_on, time(), UTC),
            "ends_at": datetime.combine(period.ends_on, time(), UTC),
        },
    )
    rows = warehouse.query(_BY_TEAM, days)
    return Spending({row["team"]: row["cost_usd"] for row in rows}, newest["newest_received_at"])
