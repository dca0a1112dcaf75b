"""What Statements states, computed from rows of the chargeback: months, and a month by cost centre. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from streamlit_app.figures import Row

REASONS = {"price": "Prices", "late_event": "Late requests", "reconciliation": "Reconciliation"}
_NOTHING = Decimal(0)


@dataclass(frozen=True)
class Line:
    """A month, or a cost centre in a month. `use_usd` is the statement, or of an open month what it comes to so far.

    `changes_usd` has what was added since the month was closed, by reason.
    """

    name: str
    closed: bool
    requests: int
    use_usd: Decimal
    changes_usd: Mapping[str, Decimal]
    seats_usd: Decimal
    list_usd: Decimal

    @property
    def adjustments_usd(self) -> Decimal:
        """All that was added since the month was closed."""
        return sum(self.changes_usd.values(), _NOTHING)

    @property
    def total_usd(self) -> Decimal:
        """Statement, adjustments and seats."""
        return self.use_usd + self.adjustments_usd + self.seats_usd


def months(rows: Iterable[Row]) -> list[tuple[date, Line]]:
    """Every month that something was reported for, the newest first."""
    found: dict[date, list[Row]] = {}
    for row in rows:
        found.setdefault(row["month"], []).append(row)
    return [(month, _line(f"{month:%B %Y}", found[month])) for month in sorted(found, reverse=True)]


def cost_centres(rows: Sequence[Row], month: date) -> list[Line]:
    """The cost centres of a month, the dearest first."""
    found: dict[str, list[Row]] = {}
    closed = any(row["entry"] == "statement" for row in rows if row["month"] == month)
    for row in rows:
        if row["month"] == month:
            found.setdefault(row["cost_centre"], []).append(row)
    lines = [_line(name, its, closed) for name, its in found.items()]
    return sorted(lines, key=lambda line: (-line.total_usd, line.name))


def _line(name: str, rows: Sequence[Row], closed: bool | None = None) -> Line:
    used = [row for row in rows if row["entry"] in ("statement", "open")]
    return Line(
        name=name,
        closed=any(row["entry"] == "statement" for row in rows) if closed is None else closed,
        requests=sum(int(row["requests"]) for row in used),
        use_usd=_sum(used, "cost_usd"),
        changes_usd={reason: _sum([row for row in rows if row["entry"] == reason], "cost_usd") for reason in REASONS},
        seats_usd=_sum([row for row in rows if row["entry"] == "seats"], "cost_usd"),
        list_usd=_sum(used, "list_cost_usd"),
    )


def _sum(rows: Iterable[Row], measure: str) -> Decimal:
    return sum((row[measure] for row in rows), _NOTHING)


def folded(charges: Iterable[Row], groups: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows of a FOCUS export with the names of small teams folded, as every page shows them.

    `groups` are rows of team_groups. A cost centre that is not merely the team's own name stays in the tags.
    """
    shown_as = {row["team"] or "No team": row["shown_as"] or "No team" for row in groups} | {"Services": "Services"}
    made = []
    for charge in charges:
        team = charge["SubAccountName"]
        name = shown_as.get(team, "Small teams")
        row = dict(charge)
        if name != team:
            row |= {"SubAccountName": name, "SubAccountId": name}
            row["Tags"] = (charge["Tags"] or "").replace(f': "{team}"', f': "{name}"')
            row["SkuPriceId"] = (charge["SkuPriceId"] or "").replace(f"|{team}", f"|{name}") or None
        made.append(row)
    return made
