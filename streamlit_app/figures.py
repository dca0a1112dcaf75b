"""What a page states, computed from rows: periods, sums, comparisons, where a budget stands. Pure."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from governance import periods
from governance.periods import period_of, working_days
from governance.standings import forecast as forecast_of

Row = Mapping[str, Any]
State = Literal["On track", "At risk", "Over", "No budget"]

MIN_GROUP = 5  # the views fold smaller teams together; a whole company may still be smaller
TREND_DAYS = 28
WEEK = 7
OTHER = "Other"
NOTHING = Decimal(0)


@dataclass(frozen=True)
class Period:
    """Days from `first` to `last`, both included; `last` is today, which is not over."""

    first: date
    last: date

    @property
    def days(self) -> int:
        """How many days, today included."""
        return (self.last - self.first).days + 1

    @property
    def reach(self) -> date:
        """The first day that a page needs rows of: a comparison and a seven-day mean look further back."""
        return self.first - timedelta(days=self.days + WEEK)

    def complete(self) -> tuple[tuple[date, date], tuple[date, date]]:
        """The days that are over, and as many days one period earlier."""
        back, yesterday = timedelta(days=self.days), self.last - timedelta(days=1)
        return (self.first, yesterday), (self.first - back, yesterday - back)


def last_days(today: date, days: int) -> Period:
    """The period of `days` days that ends today."""
    return Period(today - timedelta(days=days - 1), today)


def month_of(today: date) -> Period:
    """This month, up to today."""
    return Period(today.replace(day=1), today)


def month_end(today: date) -> date:
    """The last day of this month."""
    return today.replace(day=calendar.monthrange(today.year, today.month)[1])


def total(rows: Iterable[Row], measure: str, first: date, last: date) -> Decimal:
    """The sum of a measure over the days from `first` to `last`."""
    return sum((Decimal(row[measure] or 0) for row in rows if first <= row["day"] <= last), Decimal(0))


def by_day(rows: Iterable[Row], measure: str, first: date, last: date) -> list[tuple[date, Decimal]]:
    """The measure for every day; a day without rows is a zero, and is drawn as one."""
    sums = {first + timedelta(days=n): Decimal(0) for n in range((last - first).days + 1)}
    for row in rows:
        if row["day"] in sums:
            sums[row["day"]] += Decimal(row[measure] or 0)
    return list(sums.items())


def weekly_mean(rows: Sequence[Row], measure: str, first: date, last: date) -> list[float]:
    """The mean of seven days, for every day: weekends are no teeth in it."""
    values = [value for _, value in by_day(rows, measure, first - timedelta(days=WEEK - 1), last)]
    return [float(sum(values[n : n + WEEK]) / WEEK) for n in range(len(values) - WEEK + 1)]


def change(rows: Sequence[Row], measure: str, period: Period, first_day: date | None) -> float | None:
    """How much the measure rose, as a share; complete days only. None where the earlier period is not wholly there."""
    now, before = period.complete()
    if not _covered(before, first_day):
        return None
    old = total(rows, measure, *before)
    return float(total(rows, measure, *now) / old - 1) if old else None


def _covered(days: tuple[date, date], first_day: date | None) -> bool:
    return first_day is not None and first_day <= days[0]


def cache_share(rows: Sequence[Row], first: date, last: date) -> float | None:
    """The share of input tokens that was read from a provider's cache; None when there was no input."""
    read = total(rows, "cache_read_tokens", first, last)
    whole = read + total(rows, "input_tokens", first, last) + total(rows, "cache_write_tokens", first, last)
    return float(read / whole) if whole else None


def cache_now_and_before(
    rows: Sequence[Row], period: Period, first_day: date | None
) -> tuple[float | None, float | None]:
    """The cache share of the complete days and of those a period earlier; the latter None where not wholly there."""
    now, before = period.complete()
    return cache_share(rows, *now), cache_share(rows, *before) if _covered(before, first_day) else None


def cache_course(rows: Sequence[Row], period: Period) -> list[float]:
    """The cache share of the seven days up to each day, where there was input."""
    days = (period.first + timedelta(days=n) for n in range(period.days))
    shares = (cache_share(rows, day - timedelta(days=WEEK - 1), day) for day in days)
    return [share for share in shares if share is not None]


@dataclass(frozen=True)
class Standing:
    """Where a group, or the company, stands in this month. `turns_on`: the day it reached, or will reach, its budget.

    `forecast` is None while the month has no working day behind it.
    """

    shown_as: str
    people: int | None
    trend: list[float]
    spent: Decimal
    forecast: Decimal | None
    budget: Decimal | None
    turns_on: date | None

    @property
    def state(self) -> State:
        """On track, At risk (the forecast is over the budget), Over, or No budget."""
        if self.budget is None:
            return "No budget"
        if self.spent >= self.budget:
            return "Over"
        return "At risk" if self.forecast is not None and self.forecast > self.budget else "On track"


def standing(shown_as: str, people: int | None, rows: Sequence[Row], budget: Decimal | None, today: date) -> Standing:
    """The standing of one group from its days, `day` and `cost_usd`, of this month and the trend before."""
    month = by_day(rows, "cost_usd", today.replace(day=1), today)
    spent = sum((amount for _, amount in month), Decimal(0))
    forecast = forecast_of(spent, _budget_month(today), today)
    trend = weekly_mean(rows, "cost_usd", today - timedelta(days=TREND_DAYS - 1), today)
    turns_on = None if budget is None else _turn(month, forecast, budget, today)
    return Standing(shown_as, people, trend, spent, forecast, budget, turns_on)


def _budget_month(today: date) -> periods.Period:
    return period_of("month", datetime(today.year, today.month, today.day, tzinfo=UTC))


def _ahead(spent: Decimal, forecast: Decimal | None, today: date) -> list[tuple[date, Decimal]]:
    """What will have been spent at the end of each day to come: working days carry it, weekends are flat."""
    end = month_end(today)
    to_come = working_days(today + timedelta(days=1), end + timedelta(days=1))
    if forecast is None:
        return []
    points = []
    for n in range(1, (end - today).days + 1):
        day = today + timedelta(days=n)
        done = working_days(today + timedelta(days=1), day + timedelta(days=1))
        points.append((day, spent + (forecast - spent) * done / to_come if to_come else spent))
    return points


def _turn(month: Sequence[tuple[date, Decimal]], forecast: Decimal | None, budget: Decimal, today: date) -> date | None:
    spent = Decimal(0)
    for day, amount in month:
        spent += amount
        if spent >= budget:
            return day
    return next((day for day, then in _ahead(spent, forecast, today) if then > budget), None)


def standings(
    groups: Sequence[Row], rows: Sequence[Row], budget_of: Mapping[str, Decimal], today: date
) -> list[Standing]:
    """Every group's standing, the largest spender first: teams of five or more, small ones together, services."""
    people = {row["shown_as"]: row["people"] for row in groups}
    names = list(dict.fromkeys([*people, *(row["shown_as"] for row in rows)]))
    found = [
        standing(name, people.get(name), [row for row in rows if row["shown_as"] == name], budget_of.get(name), today)
        for name in names
        if people.get(name, MIN_GROUP) >= MIN_GROUP
    ]
    return sorted(found, key=lambda group: (-group.spent, group.shown_as))


def burn_up(rows: Sequence[Row], forecast: Decimal | None, today: date) -> list[dict[str, Any]]:
    """The month as points: day, spend (added up), kind 'actual' or 'forecast'; the forecast starts where we are."""
    points: list[dict[str, Any]] = []
    spent = Decimal(0)
    for day, amount in by_day(rows, "cost_usd", today.replace(day=1), today):
        spent += amount
        points.append({"day": day, "spend": float(spent), "kind": "actual"})
    ahead = _ahead(spent, forecast, today)
    if ahead:
        points.append({"day": today, "spend": float(spent), "kind": "forecast"})
        points += [{"day": day, "spend": float(then), "kind": "forecast"} for day, then in ahead]
    return points


def top_and_other(rows: Iterable[Row], key: str, named: Sequence[str], period: Period) -> list[dict[str, Any]]:
    """cost_usd by day and key; what is not `named` is 'Other'; a day without rows is a zero, and is drawn as one."""
    sums: dict[tuple[date, str], Decimal] = {}
    for n in range(period.days):
        sums[period.first + timedelta(days=n), named[0] if named else OTHER] = Decimal(0)
    for row in rows:
        if period.first <= row["day"] <= period.last:
            name = row[key] if row[key] in named else OTHER
            sums[row["day"], name] = sums.get((row["day"], name), Decimal(0)) + row["cost_usd"]
    return [{"day": day, key: name, "cost_usd": cost} for (day, name), cost in sorted(sums.items())]


def by_key(rows: Iterable[Row], keys: Sequence[str], measures: Sequence[str]) -> list[dict[str, Any]]:
    """Rows folded by `keys`: sums of `measures`, and last_day."""
    folded: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        new = dict(zip(keys, key, strict=True)) | dict.fromkeys(measures, 0) | {"last_day": row["day"]}
        into = folded.setdefault(key, new)
        for measure in measures:
            into[measure] += row[measure] or 0
        into["last_day"] = max(into["last_day"], row["day"])
    return sorted(folded.values(), key=lambda row: -row[measures[0]])


@dataclass(frozen=True)
class Activity:
    """Complete weeks in which both counts may be shown, oldest first."""

    weeks: tuple[Row, ...]

    @property
    def rates(self) -> list[float]:
        """Active people as a share of the roster, week by week."""
        return [row["active_people"] / row["roster_people"] for row in self.weeks]

    @property
    def newest(self) -> date | None:
        """The Monday of the last of them."""
        return self.weeks[-1]["week"] if self.weeks else None

    def rate_now_and_before(self, weeks: int) -> tuple[float | None, float | None]:
        """The newest rate and the one so many weeks earlier; None where a week is not there or not shown."""
        if self.newest is None:
            return None, None
        rate_of = dict(zip((row["week"] for row in self.weeks), self.rates, strict=True))
        return rate_of[self.newest], rate_of.get(self.newest - timedelta(weeks=weeks))


def activity(weeks: Sequence[Row]) -> Activity:
    """What may be said of the weeks: complete ones, of five or more people."""
    shown = (w for w in weeks if w["complete"] and w["active_people"] is not None and w["roster_people"])
    return Activity(tuple(shown))


def costs_per_active(rows: Sequence[Row], weeks: Activity, first_day: date | None) -> dict[date, Decimal]:
    """Dollars for each active person, by week; only weeks that are wholly in the data."""
    return {
        week["week"]: total(rows, "cost_usd", week["week"], week["week"] + timedelta(days=WEEK - 1))
        / Decimal(week["active_people"])
        for week in weeks.weeks
        if first_day is not None and first_day <= week["week"]
    }


def tools(rows: Sequence[Row], period: Period) -> list[dict[str, Any]]:
    """Tools by spending in the period: tool, requests, errors, cost_usd, share, trend (mean of seven days)."""
    inside = [row for row in rows if period.first <= row["day"]]
    found = by_key(inside, ["tool"], ["cost_usd", "requests", "errors"])
    whole = sum((tool["cost_usd"] for tool in found), Decimal(0))
    for tool in found:
        own = [row for row in rows if row["tool"] == tool["tool"]]
        tool["trend"] = weekly_mean(own, "cost_usd", period.first, period.last)
        tool["share"] = float(tool["cost_usd"] / whole) if whole else 0.0
    return found
