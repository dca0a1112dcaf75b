"""The one query behind all budgets, put together from what is asked for: see `spending`.

Sums by team, model, provider and tool come from the rollup of teams, which is small. Sums by person and key need the
rollup of persons and cost the most, so they are left out where no budget asks for them; so are the days at the edges of
the periods, which are read from the requests, where the company's midnight is UTC's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from governance.periods import KINDS

_MODEL: Final = r"REGEXP_REPLACE(used.model, r'[-@](latest|20[0-9]{2}-?[0-9]{2}-?[0-9]{2})$', '')"
_SHARED: Final = {
    "company": "''",
    "team": "used.team",
    "model": _MODEL,
    "provider": "used.provider",
    "tool": "used.tool",
}
_OWN: Final = {"person": "used.person", "key": "used.key_id"}
_WORKING: Final = "MOD(DATE_DIFF(day, DATE '2001-01-01', DAY), 7) < 5"  # which was a Monday
NEEDED: Final = "used.day >= @first_day AND used.day < @end_day"


@cache
def statement(*, persons: bool, keys: bool, edges: bool) -> str:
    """The query, with what is asked for alone: sums by persons and keys cost the most, and days at the edges are read
    from the requests themselves."""
    own = [scope for scope, wanted in (("person", persons), ("key", keys)) if wanted]
    windows = " UNION ALL ".join(
        f"SELECT '{kind}' AS period, @{kind}_first AS first_day, @{kind}_end AS end_day, "
        f"@{kind}_starts_at AS starts_at, @{kind}_ends_at AS ends_at"
        for kind in KINDS
    )
    by_day = " UNION ALL ".join(
        f"SELECT used.day, '{scope}' AS scope, {_OWN[scope]} AS name, SUM(used.cost_usd) AS cost_usd "
        f"FROM own AS used WHERE {_OWN[scope]} IS NOT NULL GROUP BY used.day, {_OWN[scope]}"
        for scope in own
    )
    sql = f"""
WITH windows AS ({windows}),
shared AS (
  SELECT used.day, subject.scope, subject.name, SUM(used.cost_usd) AS cost_usd
  FROM tally.team_daily AS used
  CROSS JOIN UNNEST([{_subjects(_SHARED)}]) AS subject
  WHERE {NEEDED} AND subject.name IS NOT NULL
  GROUP BY used.day, subject.scope, subject.name
)"""
    if own:
        sql += f""",
own AS (
  SELECT used.day, used.person, used.key_id, SUM(used.cost_usd) AS cost_usd
  FROM tally.person_costs AS used
  WHERE {NEEDED}
  GROUP BY used.day, used.person, used.key_id
),
by_day AS (SELECT day, scope, name, cost_usd FROM shared UNION ALL {by_day})"""
    sql += f""",
counted AS (
  SELECT windows.period, used.scope, used.name, used.day, used.cost_usd
  FROM {"by_day" if own else "shared"} AS used
  JOIN windows ON used.day >= windows.first_day AND used.day < windows.end_day
"""
    if edges:
        days = " OR ".join(f"used.day = @{kind}_{edge}_edge" for kind in KINDS for edge in ("first", "last"))
        subjects = _subjects({**_SHARED, **{scope: _OWN[scope] for scope in own}})
        sql += f"""  UNION ALL
  SELECT windows.period, subject.scope, subject.name, used.day, SUM(used.cost_usd) AS cost_usd
  FROM tally.requests AS used
  JOIN windows
    ON used.occurred_at >= windows.starts_at AND used.occurred_at < windows.ends_at
    AND NOT (used.day >= windows.first_day AND used.day < windows.end_day)
  CROSS JOIN UNNEST([{subjects}]) AS subject
  WHERE ({days}) AND subject.name IS NOT NULL
  GROUP BY windows.period, subject.scope, subject.name, used.day
"""
    return f"""{sql})
SELECT
  period,
  scope,
  name,
  SUM(cost_usd) AS cost_usd,
  SUM(IF({_WORKING}, CAST(cost_usd AS FLOAT64), 0.0)) AS weekdays_usd,
  SUM(IF({_WORKING}, CAST(cost_usd AS FLOAT64) * CAST(cost_usd AS FLOAT64), 0.0)) AS squares
FROM counted
GROUP BY period, scope, name
"""


def _subjects(listed: Mapping[str, str]) -> str:
    return ", ".join(f"STRUCT('{scope}' AS scope, {name} AS name)" for scope, name in listed.items())
