"""Where a budget stands: what is used of it, which thresholds are crossed, and where the period will end.

Pure functions over exact decimals. A forecast counts working days (Monday to Friday in the company's calendar), because
coding agents rest when people do; it assumes that the days to come will cost what the days so far have cost, and its
range is what days like those so far would make of it in four cases of five.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from governance.budgets import Budget
from governance.periods import Period, period_of, working_days

Status = Literal["on track", "at risk", "over"]
_FOUR_OF_FIVE = 1.2816  # standard deviations either way
_CENT = Decimal("0.01")


@dataclass(frozen=True)
class Spent:
    """What was spent in a period so far. For the range, of Mondays to Fridays alone: the sum of the squares of each
    day's dollars, and the sum of the dollars, where it is not all of it."""

    usd: Decimal = Decimal(0)
    squares: float | None = None
    weekdays_usd: float | None = None


@dataclass(frozen=True)
class Standing:
    """Where one budget of one subject stands in one period. `crossed` holds thresholds in percent, ascending.

    `name` is whose spending it is: the budget's own name, or for each person's budget the person; '' for the company.
    `limit_usd` is the budget's amount and what was granted for this period (`extra_usd`). `pace` is the share used over
    the share of working days begun: 1 is exactly on budget, 2 twice as fast. It is None, like the forecast, while the
    period has no working day behind it, and for a day.
    """

    budget: Budget
    name: str
    period: Period
    spent_usd: Decimal
    extra_usd: Decimal
    limit_usd: Decimal
    used_share: Decimal
    crossed: tuple[int, ...]
    pace: Decimal | None
    forecast_usd: Decimal | None
    forecast_low_usd: Decimal | None
    forecast_high_usd: Decimal | None
    runs_out_on: date | None
    status: Status

    @property
    def blocks_at_usd(self) -> Decimal | None:
        """The spending from which requests are refused; None for a budget that only warns."""
        if self.budget.action != "block":
            return None
        return self.limit_usd * (100 + self.budget.grace_percent) / 100

    @property
    def blocked(self) -> bool:
        """Whether requests are to be refused."""
        limit = self.blocks_at_usd
        return limit is not None and self.spent_usd >= limit


def crossed(spent_usd: Decimal, budget: Budget, extra_usd: Decimal = Decimal(0)) -> tuple[int, ...]:
    """The thresholds that the spending has reached, where requests begin to be refused among them.

    Compared by multiplying, so that no rounding decides.
    """
    limit = budget.amount_usd + extra_usd
    told = {*budget.thresholds, *([100 + budget.grace_percent] if budget.action == "block" else [])}
    return tuple(percent for percent in sorted(told) if spent_usd * 100 >= limit * percent)


def forecast(spent_usd: Decimal, period: Period, today: date) -> Decimal | None:
    """What will be spent by the period's end at the pace so far. Today counts as a whole day, so that a morning's first
    request does not stand for a month; None while no working day has begun."""
    begun, to_come = _days(period, today)
    return spent_usd + spent_usd * to_come / begun if begun else None


def forecast_range(spent: Spent, period: Period, today: date) -> tuple[Decimal, Decimal] | None:
    """(low, high) around the forecast, whole cents; None where there is none, or the days so far are not known."""
    expected = forecast(spent.usd, period, today)
    begun, to_come = _days(period, today)
    if expected is None or spent.squares is None:
        return None
    mean = (float(spent.usd) if spent.weekdays_usd is None else spent.weekdays_usd) / begun
    variance = max(0.0, spent.squares / begun - mean * mean)
    half = Decimal(repr(_FOUR_OF_FIVE * math.sqrt(variance * to_come))).quantize(_CENT)
    return max(spent.usd, expected - half), expected + half


def runs_out_on(spent_usd: Decimal, limit_usd: Decimal, period: Period, today: date) -> date | None:
    """The day on which the limit will be reached at the pace so far, within the period; None: it will not be, or is."""
    begun, _ = _days(period, today)
    if not begun or spent_usd <= 0 or spent_usd >= limit_usd:
        return None
    left = (limit_usd - spent_usd) * begun / spent_usd  # working days
    day = today
    while day + timedelta(days=1) < period.ends_on:
        day += timedelta(days=1)
        left -= day.weekday() < 5
        if left <= 0:
            return day
    return None


@lru_cache(maxsize=256)  # the same for every budget
def _days(period: Period, today: date) -> tuple[int, int]:
    """Working days begun, today among them, and to come."""
    tomorrow = min(today + timedelta(days=1), period.ends_on)
    return working_days(period.starts_on, tomorrow), working_days(tomorrow, period.ends_on)


def standing(
    budget: Budget,
    spent: Spent,
    now: datetime,
    zone: ZoneInfo | None = None,
    *,
    name: str | None = None,
    extra_usd: Decimal = Decimal(0),
) -> Standing:
    """Where the budget stands at `now` (in any time zone), given what was spent in the period that `now` is in."""
    period = period_of(budget.period, now, zone) if zone else period_of(budget.period, now)
    today, limit = now.astimezone(period.zone).date(), budget.amount_usd + extra_usd
    expected = forecast(spent.usd, period, today) if budget.period != "day" else None
    low, high = (forecast_range(spent, period, today) if expected is not None else None) or (None, None)
    if spent.usd >= limit:
        status: Status = "over"
    elif expected is not None and expected > limit:
        status = "at risk"
    else:
        status = "on track"
    return Standing(
        budget=budget,
        name=name if name is not None else budget.name or "",
        period=period,
        spent_usd=spent.usd,
        extra_usd=extra_usd,
        limit_usd=limit,
        used_share=spent.usd / limit,
        crossed=crossed(spent.usd, budget, extra_usd),
        pace=None if expected is None else expected / limit,
        forecast_usd=expected,
        forecast_low_usd=low,
        forecast_high_usd=high,
        runs_out_on=None if expected is None or expected < limit else runs_out_on(spent.usd, limit, period, today),
        status=status,
    )
