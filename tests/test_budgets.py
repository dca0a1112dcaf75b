"""What a budget says about a month: exact at the threshold, and sober about the days to come."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.budgets import crossed, forecast, month_of, standing, working_days
from governance.policy import Budget

usd = st.decimals(min_value=0, max_value=10**7, places=9)
amount = st.decimals(min_value=Decimal("0.01"), max_value=10**6, places=2)
moment = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1), timezones=st.just(UTC))
day = st.dates(min_value=date(2020, 1, 1), max_value=date(2040, 1, 1))


def team(amount_usd: Decimal | int, thresholds: tuple[int, ...] = (80, 100)) -> Budget:
    return Budget(scope="team", name="Search", amount_usd=Decimal(amount_usd), thresholds=thresholds)


@given(moment)
def test_a_month_holds_its_moments_and_no_others(now: datetime) -> None:
    period = month_of(now)
    assert period.starts_on <= now.date() < period.ends_on
    assert (period.ends_on - period.starts_on).days == monthrange(now.year, now.month)[1]
    assert period.key == f"{now.year}-{now.month:02}"


def test_the_month_is_told_in_utc_whatever_the_zone_of_the_clock() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert month_of(datetime(2026, 12, 1, 8, 59, tzinfo=tokyo)).key == "2026-11"
    assert month_of(datetime(2026, 12, 1, 9, 0, tzinfo=tokyo)).key == "2026-12"


def test_february_and_december_end_where_they_should() -> None:
    assert month_of(datetime(2028, 2, 29, 23, 59, tzinfo=UTC)).ends_on == date(2028, 3, 1)
    assert month_of(datetime(2026, 12, 31, tzinfo=UTC)).ends_on == date(2027, 1, 1)


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
    period = month_of(now)
    expected = forecast(spent, period, now.date())
    assert expected is None or expected >= spent
    assert forecast(spent, period, period.ends_on - timedelta(days=1)) == spent


@given(st.decimals(min_value=1, max_value=1000, places=2), moment)
def test_an_even_spender_is_forecast_the_same_sum_on_every_day(daily: Decimal, now: datetime) -> None:
    period = month_of(now)
    for n in range((period.ends_on - period.starts_on).days):
        today = period.starts_on + timedelta(days=n)
        begun = working_days(period.starts_on, today + timedelta(days=1))
        expected = forecast(daily * begun, period, today)
        if begun:
            assert expected == daily * working_days(period.starts_on, period.ends_on)


def test_a_month_that_opens_with_a_weekend_has_no_forecast_before_its_monday() -> None:
    sunday, monday = datetime(2026, 11, 1, 12, tzinfo=UTC), datetime(2026, 11, 2, 12, tzinfo=UTC)
    assert standing(team(100), Decimal(5), sunday).forecast_usd is None
    assert standing(team(100), Decimal(5), sunday).pace is None
    assert standing(team(100), Decimal(5), sunday).status == "on track"
    assert standing(team(100), Decimal(5), monday).forecast_usd == 5 * 21


@pytest.mark.parametrize(
    ("spent", "status"), [("70", "on track"), ("76.19", "on track"), ("76.20", "at risk"), ("100", "over")]
)
def test_a_team_is_at_risk_when_its_pace_leads_over_the_limit(spent: str, status: str) -> None:
    # 23 November 2026: the 16th of 21 working days. 16 of 21 parts of 100 are 76.19…
    now = datetime(2026, 11, 23, 9, tzinfo=UTC)
    assert standing(team(100), Decimal(spent), now).status == status


@given(usd, amount, moment)
def test_status_pace_and_share_agree(spent: Decimal, limit: Decimal, now: datetime) -> None:
    stood = standing(team(limit), spent, now)
    assert (stood.status == "over") == (stood.used_share >= 1) == (100 in stood.crossed)
    if stood.pace is not None and stood.status != "over":
        assert (stood.status == "at risk") == (stood.pace > 1)
