"""Small tables that the warehouse takes from this repository: people, seats, cost centres, and the price book."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from governance import prices
from governance.chargeback import seat_rows, team_rows
from governance.policy import Policy, people_rows
from governance.registry import ANY, Document, Registry
from governance.warehouse import Row, Warehouse

from . import policy_changes

LOADED = "loaded"  # of the registry: which content each table was last given
_TABLES = ("people", "prices", "seats", "teams")
_ROWS = "SELECT " + ", ".join(f"(SELECT COUNT(*) FROM tally.{table}) AS {table}" for table in _TABLES)  # noqa: S608


def load_reference(warehouse: Warehouse, registry: Registry, policy: Policy, now: datetime) -> list[str]:
    """Bring the tables up to date; the names of those that were written. What changed goes into the audit log first.

    A table is written when its content changed since it was last written, or when the warehouse holds another number of
    rows than that: then it is a new one, or somebody emptied it. Raises WarehouseError, RegistryError.
    """
    wanted: dict[str, Sequence[Row]] = {
        "people": people_rows(policy),
        "prices": prices.rows_for_warehouse(policy.contract),
        "seats": seat_rows(policy.seats),
        "teams": team_rows(policy.cost_centres),
    }
    (held,) = warehouse.query(_ROWS)

    def note(table: str, rows: Sequence[Row], known: Document | None) -> None:
        before = warehouse.query(f"SELECT * FROM tally.{table}")  # noqa: S608 - one of four names
        policy_changes.write_down(registry, policy_changes.table_changes(table, before, rows, now), known)

    return write_changed(warehouse, registry, wanted, held, now, note) + _rules(registry, policy, now)


def write_changed(
    warehouse: Warehouse,
    registry: Registry,
    wanted: Mapping[str, Sequence[Row]],
    held: Mapping[str, int],
    now: datetime,
    note: Callable[[str, Sequence[Row], Document | None], None] | None = None,
) -> list[str]:
    """Write the tables whose content is not what they were last given, or of which the warehouse has another number of
    rows (`held`); their names. `note` is told of each first, with the document of what it was last given."""
    written = []
    for table, rows in wanted.items():
        content = _digest(rows)
        known = registry.get(LOADED, table)
        changed = bool(rows) if known is None else known.fields.get("sha256") != content
        if changed or held[table] != len(rows):
            if note is not None:
                note(table, rows, known)
            warehouse.replace(table, rows)
            registry.put(LOADED, table, {"sha256": content, "at": now.isoformat()}, ANY)
            written.append(table)
    return written


def _rules(registry: Registry, policy: Policy, now: datetime) -> list[str]:
    """Budgets and rules stand in no table; what they were is kept in the registry, for the audit log."""
    budgets = {budget.key: policy_changes.as_fields(budget) for budget in policy.budgets}
    company = policy.company.model_dump(mode="json")
    written = []
    known = registry.get(LOADED, "budgets")
    before = _kept(known)
    if before != budgets:
        policy_changes.write_down(registry, policy_changes.budget_changes(before or {}, policy.budgets, now), known)
        written.append("budgets")
    known = registry.get(LOADED, "company")
    was = _kept(known)
    if was != company:
        policy_changes.write_down(registry, policy_changes.rule_changes(was or {}, company, now), known)
        written.append("company")
    for name in written:
        content = json.dumps(budgets if name == "budgets" else company)
        registry.put(LOADED, name, {"content": content, "at": now.isoformat()}, ANY)
    return written


def _kept(known: Document | None) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = json.loads(known.fields["content"]) if known else None
    return found


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()
