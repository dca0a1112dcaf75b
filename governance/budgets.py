"""Where a budget stands: its period, what is used of it, which thresholds are crossed, and where the month will end.

Pure functions over exact decimals. Days and months are UTC. A forecast counts working days (Monday to Friday), because
coding agents rest when people do; it assumes that the days to come will cost what the days so far have cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal

from governance.policy import Budget

Status = Literal["on track", "at risk", "over"]


@dataclass(frozen=True)
class Period:
    """From `starts_on` up to, not including, `ends_on`. `key` names it: `2026-11`."""

    key: str
    starts_on: date
    ends_on: date


@dataclass(frozen=True)
class Standing:
    """Where one budget stands in one period. `crossed` holds thresholds in percent, ascending.

    `pace` is the share used over the share of working days begun: 1 is exactly on budget, 2 twice as fast. It is None,
    like the forecast, while the period has no working day behind it.
    """

    budget: Budget
    period: Period
    spent_usd: Decimal
    used_share: Decimal
    crossed: tuple[int, ...]
    pace: Decimal | None
    forecast_usd: Decimal | None
    status: Status


def month_of(now: datetime) -> Period:
    """The calendar month, UTC, that the moment `now` belongs to."""
    first = now.astimezone(UTC).date().replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return Period(f"{first:%Y-%m}", first, following)


def working_days(start: date, end: date) -> int:
    """Mondays to Fridays from `start` up to, not including, `end`; 0 when `end` is not later."""
    days = max((end - start).days, 0)
    weeks, rest = divmod(days, 7)
    return weeks * 5 + sum((start.weekday() + n) % 7 < 5 for n in range(rest))


def crossed(spent_usd: Decimal, budget: Budget) -> tuple[int, ...]:
    """The thresholds that the spending has reached. Compared by multiplying, so that no rounding decides."""
    return tuple(percent for percent in budget.thresholds if spent_usd * 100 >= budget.amount_usd * percent)


def forecast(spent_usd: Decimal, period: Period, today: date) -> Decimal | None:
    """What will be spent by the period's end at the pace so far. Today counts as a whole day, so that a morning's first
    request does not stand for a month; None while no working day has begun."""
    tomorrow = min(today + timedelta(days=1), period.ends_on)
    begun, to_come = working_days(period.starts_on, tomorrow), working_days(tomorrow, period.ends_on)
    return spent_usd + spent_usd * to_come / begun if begun else None


def standing(budget: Budget, spent_usd: Decimal, now: datetime) -> Standing:
    """Where the budget stands at `now` (in any time zone), given what was spent in the month that `now` is in."""
    period, today = month_of(now), now.astimezone(UTC).date()
    expected_usd = forecast(spent_usd, period, today)
    if spent_usd >= budget.amount_usd:
        status: Status = "over"
    elif expected_usd is not None and expected_usd > budget.amount_usd:
        status = "at risk"
    else:
        status = "on track"
    return Standing(
        budget=budget,
        period=period,
        spent_usd=spent_usd,
        used_share=spent_usd / budget.amount_usd,
        crossed=crossed(spent_usd, budget),
        pace=None if expected_usd is None else expected_usd / budget.amount_usd,
        forecast_usd=expected_usd,
        status=status,
    )
