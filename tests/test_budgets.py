"""What a budget says about a month: exact at the threshold, and sober about the days to come."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.budgets import Budget
from governance.periods import Period, PeriodKind, period_of, working_days
from governance.standings import Spent, Standing, crossed, forecast, forecast_range, runs_out_on, standing

usd = st.decimals(min_value=0, max_value=10**7, places=9)
amount = st.decimals(min_value=Decimal("0.01"), max_value=10**6, places=2)
moment = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1), timezones=st.just(UTC))
day = st.dates(min_value=date(2020, 1, 1), max_value=date(2040, 1, 1))


def month(now: datetime) -> Period:
    return period_of("month", now)


def at(budget: Budget, spent_usd: Decimal, now: datetime) -> Standing:
    return standing(budget, Spent(spent_usd), now)


def team(amount_usd: Decimal | int, thresholds: tuple[int, ...] = (80, 100)) -> Budget:
    return Budget(scope="team", name="Search", amount_usd=Decimal(amount_usd), thresholds=thresholds)


@given(moment)
def test_a_month_holds_its_moments_and_no_others(now: datetime) -> None:
    period = month(now)
    assert period.starts_on <= now.date() < period.ends_on
    assert (period.ends_on - period.starts_on).days == monthrange(now.year, now.month)[1]
    assert period.key == f"{now.year}-{now.month:02}"


def test_a_month_without_a_zone_is_utcs_whatever_the_zone_of_the_clock() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert month(datetime(2026, 12, 1, 8, 59, tzinfo=tokyo)).key == "2026-11"
    assert month(datetime(2026, 12, 1, 9, 0, tzinfo=tokyo)).key == "2026-12"


def test_february_and_december_end_where_they_should() -> None:
    assert month(datetime(2028, 2, 29, 23, 59, tzinfo=UTC)).ends_on == date(2028, 3, 1)
    assert month(datetime(2026, 12, 31, tzinfo=UTC)).ends_on == date(2027, 1, 1)


@given(day, st.integers(min_value=-40, max_value=400))
def test_working_days_are_those_one_would_count(start: date, length: int) -> None:
    end = start + timedelta(days=length)
    counted = sum((start + timedelta(days=n)).weekday() < 5 for n in range(max(length, 0)))
    assert working_days(start, end) == counted


def test_a_threshold_is_crossed_at_its_very_cent_and_not_a_billionth_before() -> None:
    third = team(Decimal("333.33"), (33, 80, 100))
    assert crossed(Decimal("266.664"), third) == (33, 80)
    assert crossed(Decimal("266.663999999"), third) == (33,)
    assert crossed(Decimal("333.33"), third) == (33, 80, 100)
    assert crossed(Decimal(0), third) == ()


@given(usd, usd, amount)
def test_spending_more_never_uncrosses_a_threshold(less: Decimal, more: Decimal, limit: Decimal) -> None:
    less, more = sorted((less, more))
    assert set(crossed(less, team(limit))) <= set(crossed(more, team(limit)))


@given(usd, moment)
def test_a_forecast_is_never_below_what_is_spent_and_meets_it_on_the_last_day(spent: Decimal, now: datetime) -> None:
    period = month(now)
    expected = forecast(spent, period, now.date())
    assert expected is None or expected >= spent
    assert forecast(spent, period, period.ends_on - timedelta(days=1)) == spent


@given(st.decimals(min_value=1, max_value=1000, places=2), moment)
def test_an_even_spender_is_forecast_the_same_sum_on_every_day(daily: Decimal, now: datetime) -> None:
    period = month(now)
    for n in range((period.ends_on - period.starts_on).days):
        today = period.starts_on + timedelta(days=n)
        begun = working_days(period.starts_on, today + timedelta(days=1))
        expected = forecast(daily * begun, period, today)
        if begun:
            assert expected == daily * working_days(period.starts_on, period.ends_on)


def test_a_month_that_opens_with_a_weekend_has_no_forecast_before_its_monday() -> None:
    sunday, monday = datetime(2026, 11, 1, 12, tzinfo=UTC), datetime(2026, 11, 2, 12, tzinfo=UTC)
    assert at(team(100), Decimal(5), sunday).forecast_usd is None
    assert at(team(100), Decimal(5), sunday).pace is None
    assert at(team(100), Decimal(5), sunday).status == "on track"
    assert at(team(100), Decimal(5), monday).forecast_usd == 5 * 21


@pytest.mark.parametrize(
    ("spent", "status"), [("70", "on track"), ("76.19", "on track"), ("76.20", "at risk"), ("100", "over")]
)
def test_a_team_is_at_risk_when_its_pace_leads_over_the_limit(spent: str, status: str) -> None:
    # 23 November 2026: the 16th of 21 working days. 16 of 21 parts of 100 are 76.19…
    now = datetime(2026, 11, 23, 9, tzinfo=UTC)
    assert at(team(100), Decimal(spent), now).status == status


@given(usd, amount, moment)
def test_status_pace_and_share_agree(spent: Decimal, limit: Decimal, now: datetime) -> None:
    where = at(team(limit), spent, now)
    assert (where.status == "over") == (where.used_share >= 1) == (100 in where.crossed)
    if where.pace is not None and where.status != "over":
        assert (where.status == "at risk") == (where.pace > 1)


ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "America/Sao_Paulo"]
)


@given(moment, ZONES, st.sampled_from(get_args(PeriodKind)))
def test_periods_of_every_kind_follow_each_other_without_gap_or_overlap(
    now: datetime, zone: str, kind: PeriodKind
) -> None:
    period = period_of(kind, now, ZoneInfo(zone))
    assert period.starts_at <= now < period.ends_at
    following = period_of(kind, period.ends_at, ZoneInfo(zone))
    assert following.starts_at == period.ends_at
    assert following.key > period.key
    assert period_of(kind, period.ends_at - timedelta(microseconds=1), ZoneInfo(zone)) == period


def test_a_day_in_berlin_begins_at_its_own_midnight_in_summer_and_in_winter() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    winter = period_of("day", datetime(2026, 11, 23, 23, 30, tzinfo=UTC), berlin)
    assert (winter.key, winter.starts_at) == ("2026-11-24", datetime(2026, 11, 23, 23, tzinfo=UTC))
    short = period_of("day", datetime(2026, 3, 29, 12, tzinfo=UTC), berlin)
    assert short.ends_at - short.starts_at == timedelta(hours=23)


def test_a_week_begins_on_monday_and_bears_its_iso_number() -> None:
    sunday, monday = datetime(2026, 11, 29, 12, tzinfo=UTC), datetime(2027, 1, 4, tzinfo=UTC)
    assert (period_of("week", sunday).key, period_of("week", sunday).starts_on) == ("2026-W48", date(2026, 11, 23))
    assert period_of("week", monday).key == "2027-W01"
    assert period_of("week", monday - timedelta(seconds=1)).key == "2026-W53"


def test_a_steady_spender_has_a_narrow_range_and_a_fitful_one_a_wide_one() -> None:
    now, period = datetime(2026, 11, 13, 12, tzinfo=UTC), month(datetime(2026, 11, 13, 12, tzinfo=UTC))
    steady = forecast_range(Spent(Decimal(100), 10 * 10.0**2), period, now.date())
    fitful = forecast_range(Spent(Decimal(100), 100.0**2), period, now.date())
    assert steady == (Decimal(210), Decimal(210))
    assert fitful is not None
    assert fitful[0] < 210 < fitful[1]


def test_weekends_count_into_the_forecast_and_not_into_how_much_days_differ() -> None:
    now = datetime(2026, 11, 13, 12, tzinfo=UTC)  # ten working days and four of weekends begun
    spent = Spent(Decimal(140), 10 * 10.0**2, 100.0)
    assert forecast_range(spent, month(now), now.date()) == (Decimal(294), Decimal(294))
    fitful = Spent(Decimal(140), 10 * 15.0**2, 100.0)
    low, high = forecast_range(fitful, month(now), now.date()) or (Decimal(0), Decimal(0))
    assert low < 294 < high


@given(st.lists(st.decimals(min_value=0, max_value=1000, places=2), min_size=1, max_size=15), amount)
def test_a_range_holds_the_forecast_and_never_less_than_is_spent(days: list[Decimal], limit: Decimal) -> None:
    now = datetime(2026, 11, 2, 12, tzinfo=UTC) + timedelta(days=len(days))
    spent = Spent(sum(days, Decimal(0)), sum(float(usd) ** 2 for usd in days))
    where = standing(team(limit), spent, now)
    if where.forecast_usd is not None:
        assert where.forecast_low_usd is not None
        assert where.forecast_high_usd is not None
        assert spent.usd <= where.forecast_low_usd <= where.forecast_usd <= where.forecast_high_usd


def test_a_budget_runs_out_on_the_working_day_on_which_the_pace_reaches_it() -> None:
    period, friday = month(datetime(2026, 11, 6, tzinfo=UTC)), date(2026, 11, 6)  # five working days begun
    assert runs_out_on(Decimal(50), Decimal(60), period, friday) == date(2026, 11, 9)  # 10 a day: one more, on Monday
    assert runs_out_on(Decimal(50), Decimal("60.01"), period, friday) == date(2026, 11, 10)
    assert runs_out_on(Decimal(50), Decimal(10_000), period, friday) is None
    assert runs_out_on(Decimal(60), Decimal(60), period, friday) is None


def test_grace_moves_the_block_which_is_told_beside_the_thresholds() -> None:
    budget = Budget(scope="team", name="Search", amount_usd=Decimal(100), action="block", grace_percent=10)
    now = datetime(2026, 11, 23, 9, tzinfo=UTC)
    over = at(budget, Decimal("109.99"), now)
    assert (over.crossed, over.status, over.blocked) == ((80, 100), "over", False)
    assert (at(budget, Decimal(110), now).blocked, at(budget, Decimal(110), now).crossed) == (True, (80, 100, 110))
    assert not at(team(100), Decimal(1000), now).blocked  # it only warns


def test_a_raise_lifts_the_limit_the_block_and_the_thresholds_not_crossed_yet() -> None:
    budget = Budget(scope="person", amount_usd=Decimal(100), action="block")
    now = datetime(2026, 11, 23, 9, tzinfo=UTC)
    before = standing(budget, Spent(Decimal(100)), now, name="ada@example.com")
    after = standing(budget, Spent(Decimal(100)), now, name="ada@example.com", extra_usd=Decimal(50))
    assert (before.blocked, before.crossed) == (True, (80, 100))
    assert (after.blocked, after.crossed, after.limit_usd) == (False, (), Decimal(150))
