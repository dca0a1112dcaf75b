"""Where every budget stands: those of policy/, each person's, and those of keys. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from governance.budgets import Budget
from governance.gate import ANYBODY, Limit, Subject
from governance.keys import KeyRecord
from governance.policy import Policy
from governance.standings import Spent, Standing, standing

from .spending import Spending

FEW: Final = 5
Extra = Mapping[tuple[str, str, str], Decimal]  # budget, name, period: what was granted


def key_budgets(keys: Iterable[KeyRecord]) -> tuple[Budget, ...]:
    """The budgets that keys have of their own, while they may be used."""
    return tuple(
        Budget(
            scope="key",
            name=key.key_id,
            period=key.budget.period,
            amount_usd=key.budget.amount_usd,
            action=key.budget.action,
        )
        for key in keys
        if key.budget is not None and key.revoked_at is None
    )


def stand(
    policy: Policy, keys: Sequence[KeyRecord], spending: Spending, extra: Extra, now: datetime
) -> tuple[Standing, ...]:
    """Each budget's standing. A budget of each person has one for everybody who spent anything, or was granted more.

    `keys` are all, revoked ones too: what they spent is spent on their tags.
    """
    tagged: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        for tag in key.tags:
            tagged[tag].append(key.key_id)
    budgets = (*policy.budgets, *key_budgets(keys))
    named = {(b.period, b.name) for b in budgets if b.scope == "person"}
    found: list[Standing] = []
    for budget in budgets:
        names = [budget.name or ""]
        if budget.is_default:
            period = spending.periods[budget.period].key
            spent = spending.names(budget.period, "person")
            granted = [name for key, name, when in extra if (key, when) == (budget.key, period)]
            names = [name for name in dict.fromkeys([*spent, *granted]) if (budget.period, name) not in named]
        for name in names:
            spent_usd = _spent(budget, name, spending, tagged)
            when = spending.periods[budget.period]
            more = extra.get((budget.key, name, when.key), Decimal(0))
            found.append(standing(budget, spent_usd, now, when.zone, name=name, extra_usd=more))
    return tuple(found)


def _spent(budget: Budget, name: str, spending: Spending, tagged: Mapping[str, Sequence[str]]) -> Spent:
    if budget.scope == "tag":
        return spending.together(budget.period, "key", tagged.get(name, ()))
    return spending.of(budget.period, budget.scope, name)


def few_behind(policy: Policy, keys: Iterable[KeyRecord], today: date) -> frozenset[Subject]:
    """The teams and tags with so few people behind them that their sum would tell one what the others spend."""
    people: dict[Subject, set[str]] = {("team", team): set() for team in policy.teams()}
    for person in policy.people:
        if person.is_here(today):
            people["team", person.team].add(person.email)
    for key in keys:
        for tag in key.tags:
            people.setdefault(("tag", tag), set()).update([key.person] if key.person else [])
    return frozenset(subject for subject, who in people.items() if len(who) < FEW and (who or subject[0] == "team"))


def limit_of(stood: Standing, ask: str, *, hidden: bool = False) -> Limit:
    """The standing as the gateways are told."""
    return Limit(
        budget=stood.budget.key,
        scope=stood.budget.scope,
        name=stood.name,
        period=stood.period.key,
        ends_at=stood.period.ends_at,
        limit_usd=stood.limit_usd,
        spent_usd=stood.spent_usd,
        blocks_at_usd=stood.blocks_at_usd,
        blocked=stood.blocked,
        ask=ask,
        extra_usd=stood.extra_usd,
        hidden=hidden,
    )


def defaults(policy: Policy, spending: Spending, now: datetime, ask: str) -> Iterator[Limit]:
    """The limits of everybody who has not spent anything yet."""
    for budget in policy.budgets:
        if budget.is_default:
            zone = spending.periods[budget.period].zone
            yield limit_of(standing(budget, Spent(), now, zone, name=ANYBODY), ask)
