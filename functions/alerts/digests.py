"""What there is to say each morning of the day before, and on Mondays of the week: to leads of their team, to finance
and admins of the company, and on Mondays to each person of what they used themselves.

Days are UTC's, as everywhere but in budgets; a digest leaves at `digest_hour` on the company's clock, or, where that is
earlier, when the day has ended in UTC. Nobody reads of another person; how many were active is said from five up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from governance.policy import Policy
from governance.standings import Standing
from governance.warehouse import Warehouse

from . import digest_texts
from .digest_texts import Span, Use
from .notices import Notice

WINDOW: Final = timedelta(hours=6)  # so long a digest that did not go out is tried again; later it is no news
FEW: Final = 5

USED: Final = """
SELECT team, model, day >= @first_day AS inside, SUM(requests) AS requests, SUM(cost_usd) AS cost_usd
FROM tally.daily_cost
WHERE day >= @before AND day <= @last_day
GROUP BY team, model, day >= @first_day
"""
# A group of less than five is not counted, nor one that leaves less than five when it is taken from the whole.
ACTIVE: Final = """
WITH active AS (
  SELECT DISTINCT team, person
  FROM tally.person_usage
  WHERE day >= @first_day AND day <= @last_day AND answered > 0 AND key_kind = 'human' AND person IS NOT NULL
),
whole AS (
  SELECT COUNT(DISTINCT person) AS people
  FROM active
),
teams AS (
  SELECT team, COUNT(DISTINCT person) AS people
  FROM active
  WHERE team IS NOT NULL
  GROUP BY team
)
SELECT CAST(NULL AS STRING) AS team, people
FROM whole
WHERE people >= @few
UNION ALL
SELECT teams.team, teams.people
FROM teams
CROSS JOIN whole
WHERE teams.people >= @few AND (whole.people = teams.people OR whole.people - teams.people >= @few)
"""
OWN: Final = """
SELECT person, tool, SUM(requests) AS requests, SUM(cost_usd) AS cost_usd
FROM tally.person_costs
WHERE day >= @first_day AND day <= @last_day AND person IS NOT NULL
GROUP BY person, tool
HAVING requests > 0
"""


def due(now: datetime, zone: ZoneInfo, hour: int, wanted: Iterable[str]) -> list[Span]:
    """The spans of which there is to speak now: the day before, and on a Monday the week before."""
    today = now.astimezone(zone).date()
    begins = max(datetime.combine(today, time(hour), zone), datetime.combine(today, time(), UTC))
    if not begins <= now < begins + WINDOW:
        return []
    yesterday, spans = today - timedelta(days=1), []
    if "daily" in wanted:
        spans.append(Span(yesterday.isoformat(), yesterday, yesterday))
    if "weekly" in wanted and today.weekday() == 0:
        monday = today - timedelta(days=7)
        year, week, _ = monday.isocalendar()
        spans.append(Span(f"{year}-W{week:02}", monday, yesterday))
    return spans


def digests(
    warehouse: Warehouse,
    policy: Policy,
    standings: Sequence[Standing],
    now: datetime,
    *,
    stale: bool = False,
    dashboard_url: str = "",
) -> list[Notice]:
    """All that are due, under the same names until their time is over; none by late data. Where none is due, the
    warehouse is not asked.

    The rollup is up to date; `standings` are those of now. Raises WarehouseError.
    """
    rules = policy.company.alerts
    spans = [] if stale else due(now, policy.company.zone, rules.digest_hour, rules.digests)
    today = now.astimezone(policy.company.zone).date()
    return [notice for span in spans for notice in _of(span, warehouse, policy, standings, today, dashboard_url)]


def _of(
    span: Span, warehouse: Warehouse, policy: Policy, standings: Sequence[Standing], today: date, dashboard_url: str
) -> Iterator[Notice]:
    days = {"first_day": span.first, "last_day": span.last}
    company, teams = _used(warehouse, span)
    active = {row["team"]: int(row["people"]) for row in warehouse.query(ACTIVE, {**days, "few": FEW})}
    here = [person for person in policy.people if person.is_here(today)]
    readers = tuple(person.email for person in here if person.role in ("finance", "admin"))
    if readers and company.requests:
        message = digest_texts.company(span, company, active.get(None), standings, readers, dashboard_url)
        yield Notice("digest-company", span.key, message)
    for team, use in sorted(teams.items()):
        leads = policy.leads_in(team, today)
        if leads and use.requests:
            message = digest_texts.team(span, team, use, active.get(team), standings, leads, dashboard_url)
            yield Notice(f"digest-team-{team}", span.key, message)
    if span.is_week:
        own = _own(warehouse, days)
        for person in here:
            if person.email in own:
                message = digest_texts.own(span, person.email, own[person.email], standings, dashboard_url)
                yield Notice(f"digest-{person.email}", span.key, message)


def _used(warehouse: Warehouse, span: Span) -> tuple[Use, Mapping[str, Use]]:
    """(the company, each team)."""
    before = span.first - (span.last - span.first) - timedelta(days=1)
    company, teams = Use(), defaultdict[str, Use](Use)
    for row in warehouse.query(USED, {"first_day": span.first, "last_day": span.last, "before": before}):
        for use in [company, *([teams[row["team"]]] if row["team"] else [])]:
            if row["inside"]:
                use.add(row["model"], int(row["requests"]), row["cost_usd"])
            else:
                use.before_usd += row["cost_usd"]
    return company, teams


def _own(warehouse: Warehouse, days: Mapping[str, date]) -> Mapping[str, Use]:
    people = defaultdict[str, Use](Use)
    for row in warehouse.query(OWN, days):
        people[row["person"]].add(row["tool"], int(row["requests"]), row["cost_usd"])
    return people
