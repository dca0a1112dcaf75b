"""A day far above the usual: a person's, or a team's. What is usual, `functions.alerts.usual_days` says.

The running day counts as it stands, so that it is told as soon as it is above. Yesterday is looked at for some hours
more: its last events come in after midnight.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from governance.company import AnomalyRules
from governance.registry import Registry
from governance.warehouse import Row, Warehouse

from .usual_days import Usual, forget_before, usual_before

YESTERDAY_UNTIL: Final = 6  # o'clock, UTC

SPENT: Final = """
SELECT scope, name, day, cost_usd
FROM tally.spending_days
WHERE day BETWEEN @first_day AND @today AND cost_usd >= @minimum_usd AND cost_usd > 0
"""
_EVIDENCE: Final = """
SELECT day, {column} AS name, tool, model, {key} AS key_id, SUM(requests) AS requests, SUM(cost_usd) AS cost_usd
FROM tally.person_costs
WHERE day BETWEEN @first_day AND @today AND {column} IN ({names})
GROUP BY day, {column}, tool, model{grouped}
"""


@dataclass(frozen=True)
class OddDay:
    """One day of one person or team. `parts`: what it went to (tool, model, key_id, requests, cost_usd), dearest first.

    key_id is None in the parts of a team.
    """

    scope: str
    name: str
    day: date
    spent_usd: Decimal
    usual: Usual
    limit_usd: Decimal
    parts: Sequence[Row] = ()


def is_odd(spent_usd: Decimal, known: Usual | None, rules: AnomalyRules) -> bool:
    """Whether a day that cost so much is odd; in a first week none is."""
    if known is None or spent_usd < rules.minimum_usd:
        return False
    return spent_usd > known.limit_usd(rules.deviations)


def odd_days(warehouse: Warehouse, registry: Registry, rules: AnomalyRules, now: datetime) -> list[OddDay]:
    """Those of today, and in the night of yesterday (UTC), in order of day, scope and name.

    Raises WarehouseError, RegistryError.
    """
    today = now.date()
    days = {"first_day": today - timedelta(days=now.hour < YESTERDAY_UNTIL), "today": today}
    spent: dict[date, dict[tuple[str, str], Decimal]] = defaultdict(dict)
    for row in warehouse.query(SPENT, {**days, "minimum_usd": rules.minimum_usd}):
        spent[row["day"]][row["scope"], row["name"]] = row["cost_usd"]
    found = []
    for day, subjects in sorted(spent.items()):
        known = usual_before(warehouse, registry, subjects, day, rules)
        for (scope, name), spent_usd in sorted(subjects.items()):
            before = known[scope, name]
            if before is not None and is_odd(spent_usd, before, rules):
                found.append(OddDay(scope, name, day, spent_usd, before, before.limit_usd(rules.deviations)))
    forget_before(registry, days["first_day"])
    return _with_parts(warehouse, found, days)


def _with_parts(warehouse: Warehouse, found: Sequence[OddDay], days: Mapping[str, date]) -> list[OddDay]:
    parts: dict[tuple[str, str, date], list[Row]] = defaultdict(list)
    for scope in sorted({odd.scope for odd in found}):
        names = sorted({odd.name for odd in found if odd.scope == scope})
        for row in warehouse.query(*evidence(scope, names, days)):
            parts[scope, row["name"], row["day"]].append(row)
    for rows in parts.values():
        rows.sort(key=lambda row: (-row["cost_usd"], row["tool"], row["model"] or ""))
    return [replace(odd, parts=parts[odd.scope, odd.name, odd.day]) for odd in found]


def evidence(scope: str, names: Sequence[str], days: Mapping[str, date]) -> tuple[str, Mapping[str, Any]]:
    """(statement, parameters): what the days of these went to; of a team without a word of whose key it was."""
    column = {"person": "person", "team": "team"}[scope]
    key, grouped = ("key_id", ", key_id") if scope == "person" else ("CAST(NULL AS STRING)", "")
    given = {f"name_{place}": name for place, name in enumerate(names)}
    sql = _EVIDENCE.format(column=column, key=key, grouped=grouped, names=", ".join(f"@{name}" for name in given))
    return sql, {**days, **given}
