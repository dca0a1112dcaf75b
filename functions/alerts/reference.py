"""Small tables that the warehouse takes from this repository: the people of the policy and the price book."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime

from governance import prices
from governance.policy import Policy, people_rows
from governance.registry import ANY, Registry
from governance.warehouse import Row, Warehouse

LOADED = "loaded"  # of the registry: which content each table was last given
_ROWS = "SELECT (SELECT COUNT(*) FROM tally.people) AS people, (SELECT COUNT(*) FROM tally.prices) AS prices"


def load_reference(warehouse: Warehouse, registry: Registry, policy: Policy, now: datetime) -> list[str]:
    """Bring `people` and `prices` up to date; the names of the tables that were written.

    A table is written when its content changed since it was last written, or when the warehouse holds another number of
    rows than that: then it is a new one, or somebody emptied it. Raises WarehouseError, RegistryError.
    """
    wanted: dict[str, Sequence[Row]] = {"people": people_rows(policy), "prices": prices.rows_for_warehouse()}
    (held,) = warehouse.query(_ROWS)
    written = []
    for table, rows in wanted.items():
        content = hashlib.sha256(json.dumps(rows, default=str).encode()).hexdigest()
        known = registry.get(LOADED, table)
        if known is None or known.fields.get("sha256") != content or held[table] != len(rows):
            warehouse.replace(table, rows)
            registry.put(LOADED, table, {"sha256": content, "at": now.isoformat()}, ANY)
            written.append(table)
    return written
