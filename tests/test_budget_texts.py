"""What people read of a budget says whose it is, how much is used, until when, and what to do; in their own clock."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from functions.alerts.budget_texts import lifted_text, span, threshold_subject, threshold_text
from governance import wording
from governance.budgets import Budget
from governance.standings import Spent, Standing, standing

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 18, 23, 30, tzinfo=UTC)  # half past midnight on Thursday in Berlin
PAGE = "https://tally.example.com/"
ASK = "bob@example.com or joe@example.com"


def stood(usd: str, *, extra: int = 0, squares: float | None = None, now: datetime = NOW, **given: Any) -> Standing:
    budget = Budget(**{"scope": "team", "name": "Search", "amount_usd": Decimal(100)} | given)
    return standing(budget, Spent(Decimal(usd), squares), now, BERLIN, extra_usd=Decimal(extra))


def own(usd: str, **given: Any) -> Standing:
    return stood(usd, scope="person", name="ada@example.com", **given)


def lines(at: Standing, name: str = "Search", *, to_self: bool = False) -> list[str]:
    return threshold_text(at, name, ASK, PAGE, to_self=to_self).splitlines()


def test_a_team_is_told_how_much_at_what_pace_until_when_and_what_to_do() -> None:
    assert lines(stood("84", squares=700.0)) == [
        "Team Search has used 84% of its monthly model budget for November 2026: $84.00 of $100.00.",
        "At this pace it will be about $126.00 (between $113.31 and $138.69) by the end of the month; it runs out "
        "around 24 November.",
        "The budget starts anew on 1 December 2026, 00:00 Europe/Berlin.",
        "What to do: see which models and tools it went to: https://tally.example.com - or raise the amount in "
        "policy/budgets.yaml.",
    ]


def test_a_person_is_told_as_you_and_where_to_ask_for_more() -> None:
    assert lines(own("84", action="block"), "Ada", to_self=True) == [
        "You have used 84% of your monthly model budget for November 2026: $84.00 of $100.00.",
        "At this pace it will be about $126.00 by the end of the month; it runs out around 24 November.",
        "Requests are refused from $100.00 on.",
        "The budget starts anew on 1 December 2026, 00:00 Europe/Berlin.",
        "What to do: see what it went to: https://tally.example.com/my_usage - or ask for more: "
        "`/tally raise <dollars> <reason>` (bob@example.com or joe@example.com decides).",
    ]


def test_who_answers_for_a_person_reads_the_name_and_not_the_address() -> None:
    text = threshold_text(own("84", action="block"), "Ada", ASK, PAGE)
    assert text.startswith("Ada has used 84% of their monthly model budget for November 2026: $84.00 of $100.00.\n")
    assert "@" not in text


def test_the_owner_of_a_key_reads_which_key_it_is_and_who_issues_another() -> None:
    key = stood("84", scope="key", name="k1", action="block")
    first, *_, last = lines(key, "ci (k1)", to_self=True)
    assert first == "Key ci (k1) has used 84% of its monthly model budget for November 2026: $84.00 of $100.00."
    assert last.endswith(f"- or ask {ASK} for a key with a larger budget.")
    assert lines(key, "ci (k1)")[-1].endswith("- or issue a key with a larger budget.")


@pytest.mark.parametrize(
    ("given", "whose"),
    [
        ({"scope": "company", "name": None}, "The company"),
        ({}, "Team Search"),
        ({"scope": "model", "name": "claude-opus-5-5"}, "Model claude-opus-5-5"),
        ({"scope": "provider", "name": "openai"}, "Provider openai"),
        ({"scope": "tool", "name": "codex"}, "Tool codex"),
        ({"scope": "tag", "name": "project=apollo"}, "Project apollo"),
        ({"scope": "tag", "name": "cost_centre=47=11"}, "Cost centre 47=11"),
    ],
)
def test_whatever_is_told_where_all_read_it_begins_with_whose_it_is_and_names_nobody(
    given: dict[str, Any], whose: str
) -> None:
    for usd, action in (("84", "warn"), ("100", "warn"), ("130", "block")):
        at = stood(usd, **given, action=action)
        text = threshold_text(at, at.name, ASK, PAGE)
        assert text.startswith(f"{whose} has used {usd}% of its monthly model budget")
        inside = whose[0].lower() + whose[1:]
        said = threshold_subject(at, at.name, 80), threshold_subject(at, at.name, 100)
        assert said[0] == f"Tally: {inside} has passed 80% of its monthly budget (November 2026)"
        assert f"{inside} has" in said[1]
        lifted = lifted_text(at, at.name, to_self=False)
        assert lifted.startswith(f"Requests of {inside} pass again: the limit for November 2026 is $100.00")
        assert "@" not in text + "".join(said) + lifted


@pytest.mark.parametrize(
    ("period", "said", "ends"),
    [
        ("day", "daily model budget for 19 November 2026", "20 November 2026"),
        ("week", "weekly model budget for the week from 16 November 2026", "23 November 2026"),
        ("month", "monthly model budget for November 2026", "1 December 2026"),
    ],
)
def test_a_period_is_named_in_the_companys_days(period: str, said: str, ends: str) -> None:
    first, *_, anew, _ = lines(stood("84", period=period))
    assert said in first
    assert anew == f"The budget starts anew on {ends}, 00:00 Europe/Berlin."


def test_a_day_has_no_outlook() -> None:
    assert len(lines(stood("84", period="day"))) == 3


def test_what_is_over_says_by_how_much_and_whether_anything_is_refused() -> None:
    assert lines(stood("100"))[1] == "All of it is used. Nothing is blocked."
    assert lines(stood("120.50"))[1] == "That is $20.50 over. Nothing is blocked."
    graced: dict[str, Any] = {"action": "block", "grace_percent": 10}
    assert lines(stood("105", **graced))[1] == "That is $5.00 over. Requests are refused from $110.00 on."
    assert lines(stood("110", **graced))[1] == "From now on requests are refused."
    assert lines(stood("84", **graced))[2] == "Requests are refused from $110.00 on."


def test_a_raise_is_in_the_limit_and_named() -> None:
    first, second, *_ = lines(own("150", extra=60, action="block"), "Ada", to_self=True)
    assert first == (
        "You have used 93% of your monthly model budget for November 2026: $150.00 of $160.00 ($60.00 of it granted "
        "for this period)."
    )
    assert "it runs out around 20 November" in second


def test_a_pace_within_the_budget_runs_out_on_no_day() -> None:
    assert lines(stood("60"))[1] == "At this pace it will be about $90.00 by the end of the month."


def test_a_share_is_never_rounded_up_to_a_hundred() -> None:
    assert "has used 99% " in lines(stood("99.999"))[0]


def test_without_a_dashboard_and_without_anybody_to_ask_the_advice_is_still_one() -> None:
    assert threshold_text(stood("84"), "Search", "", "").splitlines()[-1] == (
        "What to do: see the dashboard - or raise the amount in policy/budgets.yaml."
    )
    assert threshold_text(own("84"), "Ada", "", "", to_self=True).splitlines()[-1] == (
        "What to do: see My usage on the dashboard - or ask for more: `/tally raise <dollars> <reason>`."
    )


def test_a_subject_says_what_was_passed_and_that_requests_are_refused_where_they_are() -> None:
    graced = own("120", action="block", grace_percent=10)
    said = [threshold_subject(graced, "Ada", percent, to_self=True) for percent in (80, 100, 110)]
    assert said == [
        "Tally: you have passed 80% of your monthly budget (November 2026)",
        "Tally: you have passed 100% of your monthly budget (November 2026)",
        "Tally: requests are refused: you have used up your monthly budget (November 2026)",
    ]
    assert threshold_subject(graced, "Ada", 110) == (
        "Tally: requests are refused: Ada has used up their monthly budget (November 2026)"
    )


def test_who_may_go_on_is_told_up_to_where() -> None:
    raised = own("105", extra=60, action="block")
    assert lifted_text(raised, "Ada", to_self=True) == (
        "Your requests pass again: the limit for November 2026 is $160.00, $105.00 of it used."
    )
    assert lifted_text(raised, "Ada", to_self=False).startswith("Requests of Ada pass again:")
    key = stood("84", scope="key", name="k1", action="block")
    assert lifted_text(key, "ci (k1)", to_self=True).startswith("Requests of key ci (k1) pass again:")


def test_the_clock_of_the_company_changes_with_its_summer() -> None:
    summer = stood("84", now=datetime(2026, 10, 31, 23, 30, tzinfo=UTC))  # November in Berlin
    assert span(summer.period) == "November 2026"
    october = stood("84", now=datetime(2026, 10, 31, 22, 30, tzinfo=UTC))
    assert span(october.period) == "October 2026"
    assert october.period.ends_at == datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert lines(october)[-2] == "The budget starts anew on 1 November 2026, 00:00 Europe/Berlin."


def test_amounts_days_and_numbers_are_written_alike() -> None:
    at = datetime(2026, 11, 30, 23, 5, tzinfo=UTC)
    assert wording.usd(Decimal("1234.5")) == "$1,234.50"
    assert (wording.day(date(2026, 11, 4)), wording.dated(date(2026, 11, 4))) == ("4 November", "4 November 2026")
    assert wording.minute(at.astimezone(BERLIN)) == "30 November, 23:05 UTC"
    assert wording.moment(at) == "30 November 2026, 23:05 UTC"
    assert wording.moment(at, BERLIN) == "1 December 2026, 00:05 Europe/Berlin"
    assert (wording.counted(1, "request"), wording.counted(1204, "request")) == ("1 request", "1,204 requests")
