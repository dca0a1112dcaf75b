"""What a day costs, as a rule: of a person or a team, by their own history alone. Nobody is compared with anybody.

The usual day is the median over the days with spending among `history_days` before. Days without are left out: who
works with agents twice a week has a median of nothing over all days, and every working day would be odd. How far days
lie from the usual is measured above it alone (the median distance of the days that are not below it, times 1.4826, so
that `deviations` count as standard deviations do): spending is skewed, and a quiet morning says nothing of how large a
large day is. Where days hardly differ, a quarter of the usual stands for it. All of it scales with one's own spending.

Days that are over do not change much, so what is usual is read once a day for each, and kept in the registry.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from statistics import median
from typing import Any, Final

from governance.company import AnomalyRules
from governance.registry import Conflict, Registry
from governance.warehouse import Warehouse

from .reference import LOADED

USUAL: Final = "usual"  # of the registry: a document for each day
ACTIVE_DAYS: Final = 7  # fewer are a first week: nothing is usual yet
LEAST_SPREAD: Final = Decimal("0.25")  # of the usual
_NORMAL: Final = Decimal("1.4826")  # from a median distance to a standard deviation
_AT_ONCE: Final = 1_000  # names in one statement
_MOST_KEPT: Final = 10_000  # a document has its limits
Subject = tuple[str, str]  # scope (person or team) and name

_HISTORY: Final = """
SELECT name, cost_usd
FROM tally.spending_days
WHERE scope = @scope AND day BETWEEN @first_day AND @last_day AND cost_usd > 0 AND name IN ({names})
"""


@dataclass(frozen=True)
class Usual:
    """The median of `days` days with spending, and how far days lie above it."""

    days: int
    usd: Decimal
    spread_usd: Decimal

    def limit_usd(self, deviations: Decimal) -> Decimal:
        """A day above it is odd."""
        return self.usd + deviations * self.spread_usd


def usual(history: Sequence[Decimal]) -> Usual | None:
    """What is usual by the dollars of the days with spending; None in a first week."""
    if len(history) < ACTIVE_DAYS:
        return None
    middle = median(history)
    above = median(spent - middle for spent in history if spent >= middle)
    return Usual(len(history), middle, max(_NORMAL * above, LEAST_SPREAD * middle))


def usual_before(
    warehouse: Warehouse, registry: Registry, subjects: Collection[Subject], day: date, rules: AnomalyRules
) -> Mapping[Subject, Usual | None]:
    """What was usual for each before `day`; the warehouse is asked for those alone that were not asked for before.

    Other prices, or another length of the history, are another question. Raises WarehouseError, RegistryError.
    """
    prices = registry.get(LOADED, "prices")
    name = f"{day}|{rules.history_days}|{prices.fields['sha256'][:12] if prices else ''}"
    document = registry.get(USUAL, name)
    kept: dict[Subject, Usual | None] = _read(document.fields["usual"]) if document else {}
    missing = sorted(set(subjects) - kept.keys())
    if missing:
        kept |= _asked(warehouse, missing, day, rules)
        with suppress(Conflict):  # another tick keeps what it has found; whatever is lost is asked for again
            content = {"day": f"{day}", "usual": _written(dict(list(kept.items())[-_MOST_KEPT:]))}
            registry.put(USUAL, name, content, document.version if document else None)
    return kept


def forget_before(registry: Registry, day: date) -> None:
    """Remove what was kept for earlier days. Raises RegistryError."""
    for document in registry.find(USUAL):
        if document.fields["day"] < f"{day}":
            registry.delete(USUAL, document.id)


def _asked(
    warehouse: Warehouse, subjects: Sequence[Subject], day: date, rules: AnomalyRules
) -> Mapping[Subject, Usual | None]:
    history: dict[Subject, list[Decimal]] = defaultdict(list)
    for scope in sorted({scope for scope, _ in subjects}):
        names = [name for kind, name in subjects if kind == scope]
        for first in range(0, len(names), _AT_ONCE):
            for row in warehouse.query(*question(scope, names[first : first + _AT_ONCE], day, rules)):
                history[scope, row["name"]].append(row["cost_usd"])
    return {subject: usual(history[subject]) for subject in subjects}


def question(scope: str, names: Sequence[str], day: date, rules: AnomalyRules) -> tuple[str, Mapping[str, Any]]:
    """(statement, parameters): the days of these before `day`."""
    given = {f"name_{place}": name for place, name in enumerate(names)}
    days = {"first_day": day - timedelta(days=rules.history_days), "last_day": day - timedelta(days=1)}
    return _HISTORY.format(names=", ".join(f"@{name}" for name in given)), {"scope": scope, **days, **given}


def _written(kept: Mapping[Subject, Usual | None]) -> str:
    """As one text: a registry would index each entry of a map."""
    rows = [[*subject, *((u.days, str(u.usd), str(u.spread_usd)) if u else ())] for subject, u in kept.items()]
    return json.dumps(rows, separators=(",", ":"))


def _read(text: str) -> dict[Subject, Usual | None]:
    return {
        (scope, name): Usual(rest[0], Decimal(rest[1]), Decimal(rest[2])) if rest else None
        for scope, name, *rest in json.loads(text)
    }
