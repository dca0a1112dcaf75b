"""The texts of digests: what it cost, what for, and where the budgets stand. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from governance.messages import Message
from governance.standings import Standing
from governance.wording import counted, day, usd

from .budget_texts import span as period_of
from .budget_texts import whose

_NAMED = 5  # budgets


@dataclass(frozen=True)
class Span:
    """The days (UTC) that a digest is of, both inclusive. `key` names it: 2026-11-23, 2026-W47."""

    key: str
    first: date
    last: date

    @property
    def is_week(self) -> bool:
        """Whether it is a week and not a day."""
        return self.last > self.first


@dataclass
class Use:
    """What was used in a span. `by`: dollars by model, or by tool; `before_usd`: the span before, as long."""

    usd: Decimal = Decimal(0)
    requests: int = 0
    before_usd: Decimal = Decimal(0)
    by: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def add(self, name: str | None, requests: int, cost_usd: Decimal) -> None:
        """One row more."""
        self.usd += cost_usd
        self.requests += requests
        self.by[name or "no model"] += cost_usd

    def largest(self, number: int = 3) -> list[tuple[str, Decimal]]:
        """The dearest, without those that cost nothing."""
        ranked = sorted(self.by.items(), key=lambda item: (-item[1], item[0]))
        return [(name, cost_usd) for name, cost_usd in ranked[:number] if cost_usd]


def company(
    span: Span, use: Use, active: int | None, standings: Sequence[Standing], to: tuple[str, ...], dashboard_url: str
) -> Message:
    """To finance and the admins, and where all read."""
    lines = [
        *_used("The company", span, use, active),
        *_budgets(each for each in standings if each.budget.scope == "company"),
        *_in_trouble(standings),
        *_page(dashboard_url),
    ]
    return _message(f"Tally: {usd(use.usd)} {_when(span)}", lines, to, "company", private=False)


def team(
    span: Span,
    name: str,
    use: Use,
    active: int | None,
    standings: Sequence[Standing],
    to: tuple[str, ...],
    dashboard_url: str,
) -> Message:
    """To the leads of a team."""
    lines = [
        *_used(f"Team {name}", span, use, active),
        *_budgets(each for each in standings if each.budget.scope == "team" and each.name == name),
        *_page(dashboard_url),
    ]
    return _message(f"Tally: team {name}, {usd(use.usd)} {_when(span)}", lines, to, "lead")


def own(span: Span, email: str, use: Use, standings: Sequence[Standing], dashboard_url: str) -> Message:
    """To one person, of their own week."""
    tools = ", ".join(sorted(use.by))
    lines = [
        f"Your keys used {usd(use.usd)} {_when(span)}, in {counted(use.requests, 'request')} with {tools}. "
        "Only you are told.",
        *(
            f"Of your budget for {period_of(each.period)}, {usd(max(each.limit_usd - each.spent_usd, Decimal(0)))} of "
            f"{usd(each.limit_usd)} is left."
            for each in standings
            if each.budget.scope == "person" and each.name == email
        ),
    ]
    if dashboard_url:
        lines.append(f"Each request: {dashboard_url.rstrip('/')}/my_usage")
    return _message(f"Tally: your week, {usd(use.usd)}", lines, (email,), "person")


def _message(
    subject: str, lines: Sequence[str], to: tuple[str, ...], audience: str, *, private: bool = True
) -> Message:
    return Message(subject, "\n".join(lines), to, private=private, audience=audience, severity="info")


def _when(span: Span) -> str:
    return f"in the week from {day(span.first)} to {day(span.last)}" if span.is_week else f"on {day(span.first)}"


def _used(who: str, span: Span, use: Use, active: int | None) -> list[str]:
    than = ""
    if span.is_week:
        than = f", {usd(use.before_usd)} the week before"
    lines = [f"{who} used {usd(use.usd)} {_when(span)} (UTC), in {counted(use.requests, 'request')}{than}."]
    largest = ", ".join(f"{name} {usd(cost_usd)}" for name, cost_usd in use.largest())
    if largest:
        lines.append(f"Most of it: {largest}.")
    if active is not None:
        lines.append(f"{active:,} people were active.")
    return lines


def _budgets(standings: Iterable[Standing]) -> list[str]:
    lines = []
    for each in standings:
        expected = f"; at this pace about {usd(each.forecast_usd)} by its end" if each.forecast_usd is not None else ""
        used = int(each.used_share * 100)
        lines.append(
            f"Budget for {period_of(each.period)}: {usd(each.spent_usd)} of {usd(each.limit_usd)} ({used}%){expected}."
        )
    return lines


def _in_trouble(standings: Iterable[Standing]) -> list[str]:
    """Budgets that are over or at risk, but for those of people and their keys."""
    listed = [
        f"{whose(each.budget, each.name)} ({'blocked' if each.blocked else each.status}, {period_of(each.period)})"
        for each in standings
        if each.status != "on track" and each.budget.scope not in ("company", "person", "key")
    ]
    if not listed:
        return []
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return [f"Over or at risk: {', '.join(listed[:_NAMED])}{more}."]


def _page(dashboard_url: str) -> list[str]:
    return [f"More: {dashboard_url.rstrip('/')}"] if dashboard_url else []
