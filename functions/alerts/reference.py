"""Small tables that the warehouse takes from this repository: people, seats, cost centres, and the price book."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime

from governance import prices
from governance.chargeback import seat_rows, team_rows
from governance.policy import Policy, people_rows
from governance.registry import ANY, Registry
from governance.warehouse import Row, Warehouse

LOADED = "loaded"  # of the registry: which content each table was last given
_TABLES = ("people", "prices", "seats", "teams")
_ROWS = "SELECT " + ", ".join(f"(SELECT COUNT(*) FROM tally.{table}) AS {table}" for table in _TABLES)  # noqa: S608


def load_reference(warehouse: Warehouse, registry: Registry, policy: Policy, now: datetime) -> list[str]:
    """Bring the tables up to date; the names of those that were written.

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
    written = []
    for table, rows in wanted.items():
        content = hashlib.sha256(json.dumps(rows, default=str).encode()).hexdigest()
        known = registry.get(LOADED, table)
        changed = bool(rows) if known is None else known.fields.get("sha256") != content
        if changed or held[table] != len(rows):
            warehouse.replace(table, rows)
            registry.put(LOADED, table, {"sha256": content, "at": now.isoformat()}, ANY)
            written.append(table)
    return written
