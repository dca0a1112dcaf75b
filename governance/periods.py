"""Days, weeks and months of budgets: calendar periods in the company's time zone, as moments in UTC.

A week begins on Monday. Working days are Mondays to Fridays of that calendar: coding agents rest when people do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo

PeriodKind = Literal["day", "week", "month"]
KINDS: Final[tuple[PeriodKind, ...]] = get_args(PeriodKind)
_UTC = ZoneInfo("UTC")


@dataclass(frozen=True)
class Period:
    """From `starts_on` up to, not including, `ends_on`, in `zone`. `key` names it: `2026-11-24`, `2026-W48`, `2026-11`.

    `starts_at` and `ends_at` are the same as moments in UTC.
    """

    kind: PeriodKind
    key: str
    starts_on: date
    ends_on: date
    zone: ZoneInfo = _UTC

    @property
    def starts_at(self) -> datetime:
        """When it begins, UTC."""
        return _midnight(self.starts_on, self.zone)

    @property
    def ends_at(self) -> datetime:
        """When the next one begins, UTC."""
        return _midnight(self.ends_on, self.zone)


def period_of(kind: PeriodKind, now: datetime, zone: ZoneInfo = _UTC) -> Period:
    """The period that the moment `now` (of any time zone) belongs to."""
    return _around(kind, now.astimezone(zone).date(), zone)


@lru_cache(maxsize=256)  # the same for every budget
def _around(kind: PeriodKind, today: date, zone: ZoneInfo) -> Period:
    if kind == "day":
        return Period(kind, today.isoformat(), today, today + timedelta(days=1), zone)
    if kind == "week":
        monday = today - timedelta(days=today.weekday())
        year, week, _ = monday.isocalendar()
        return Period(kind, f"{year}-W{week:02}", monday, monday + timedelta(days=7), zone)
    first = today.replace(day=1)
    return Period(kind, f"{first:%Y-%m}", first, (first + timedelta(days=31)).replace(day=1), zone)


def working_days(start: date, end: date) -> int:
    """Mondays to Fridays from `start` up to, not including, `end`; 0 when `end` is not later."""
    days = max((end - start).days, 0)
    weeks, rest = divmod(days, 7)
    return weeks * 5 + sum((start.weekday() + n) % 7 < 5 for n in range(rest))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a day there. Where clocks skip midnight, the moment they skip to."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
