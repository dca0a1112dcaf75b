"""What people read of budgets: what happened, how much, until when, and what to do. Pure."""

from __future__ import annotations

from datetime import datetime

from governance.budgets import Budget
from governance.periods import Period
from governance.standings import Standing
from governance.wording import dated, day, moment, usd

ADJECTIVE = {"day": "daily", "week": "weekly", "month": "monthly"}


def when(at: datetime, period: Period) -> str:
    """A moment on the company's clock: 1 December 2026, 00:00 UTC."""
    return moment(at, period.zone)


def span(period: Period) -> str:
    """A period in words: November 2026; the week from 23 November 2026; 24 November 2026."""
    first = period.starts_on
    if period.kind == "month":
        return f"{first:%B %Y}"
    return f"{'the week from ' if period.kind == 'week' else ''}{dated(first)}"


def whose(budget: Budget, name: str) -> str:
    """Whose spending it is, as the beginning of a sentence. A person is called by name."""
    if budget.scope == "person":
        return name
    owner = _inside(budget, name)
    return owner[0].upper() + owner[1:]


def _inside(budget: Budget, name: str) -> str:
    """The same within a sentence: the company, team Search, cost centre 4711."""
    if budget.scope == "tag":
        label, _, value = name.partition("=")
        return f"{label.replace('_', ' ')} {value}"
    words = {"company": "the company", "person": name}
    return words.get(budget.scope) or f"{budget.scope} {name}"


def threshold_text(stood: Standing, name: str, ask: str, dashboard_url: str, *, to_self: bool = False) -> str:
    """What is said when a threshold is crossed, to the person whose budget it is or to who answers for it."""
    budget, period = stood.budget, stood.period
    used = int(stood.used_share * 100)  # rounded down: 100 is said when it is so
    own, its = _own(budget, to_self)
    has = "You have" if own else f"{whose(budget, name)} has"
    raised = f" ({usd(stood.extra_usd)} of it granted for this period)" if stood.extra_usd else ""
    lines = [
        f"{has} used {used}% of {its} {ADJECTIVE[period.kind]} model budget for {span(period)}: "
        f"{usd(stood.spent_usd)} of {usd(stood.limit_usd)}{raised}."
    ]
    lines += _outlook(stood)
    lines.append(f"The budget starts anew on {when(period.ends_at, period)}.")
    lines.append(f"What to do: {_advice(budget, ask, dashboard_url, to_self)}")
    return "\n".join(lines)


def _outlook(stood: Standing) -> list[str]:
    blocks_at = stood.blocks_at_usd
    if stood.blocked:
        return ["From now on requests are refused."]
    if stood.status == "over":
        more = stood.spent_usd - stood.limit_usd
        over = f"That is {usd(more)} over." if more else "All of it is used."
        later = "Nothing is blocked." if blocks_at is None else f"Requests are refused from {usd(blocks_at)} on."
        return [f"{over} {later}"]
    lines = []
    if stood.forecast_usd is not None:
        low, high = stood.forecast_low_usd, stood.forecast_high_usd
        between = f" (between {usd(low)} and {usd(high)})" if low is not None and high is not None else ""
        line = f"At this pace it will be about {usd(stood.forecast_usd)}{between} by the end of the {stood.period.kind}"
        ends = stood.runs_out_on
        lines.append(line + (f"; it runs out around {day(ends)}." if ends else "."))
    if blocks_at is not None:
        lines.append(f"Requests are refused from {usd(blocks_at)} on.")
    return lines


def _advice(budget: Budget, ask: str, dashboard_url: str, to_self: bool) -> str:
    page = dashboard_url.rstrip("/")
    see = f"see which models and tools it went to: {page}" if page else "see the dashboard"
    if budget.scope == "key":
        return f"{see} - or " + (f"ask {ask} for" if to_self and ask else "issue") + " a key with a larger budget."
    if to_self:
        see = f"see what it went to: {page}/my_usage" if page else "see My usage on the dashboard"
        return f"{see} - or ask for more: `/tally raise <dollars> <reason>`" + (f" ({ask} decides)." if ask else ".")
    return f"{see} - or raise the amount in policy/budgets.yaml."


def threshold_subject(stood: Standing, name: str, threshold: int, *, to_self: bool = False) -> str:
    """The subject of the same."""
    own, its = _own(stood.budget, to_self)
    has = "you have" if own else f"{_inside(stood.budget, name)} has"
    budget = f"{its} {ADJECTIVE[stood.period.kind]} budget ({span(stood.period)})"
    if stood.blocked and threshold >= 100 + stood.budget.grace_percent:
        return f"Tally: requests are refused: {has} used up {budget}"
    return f"Tally: {has} passed {threshold}% of {budget}"


def lifted_text(stood: Standing, name: str, *, to_self: bool) -> str:
    """What is said when requests pass again before the period is over."""
    own, _ = _own(stood.budget, to_self)
    owner = "Your requests" if own else f"Requests of {_inside(stood.budget, name)}"
    return (
        f"{owner} pass again: the limit for {span(stood.period)} is {usd(stood.limit_usd)}, "
        f"{usd(stood.spent_usd)} of it used."
    )


def _own(budget: Budget, to_self: bool) -> tuple[bool, str]:
    """(whether it is the reader's own budget, the word for whose it is): a key is not the person who answers for it."""
    if budget.scope != "person":
        return False, "its"
    return to_self, "your" if to_self else "their"
