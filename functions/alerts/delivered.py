"""What came of each attempt to deliver a message, kept in the registry until the warehouse has it.

The warehouse may be away while messages leave: what it misses waits here, and nothing is sent again because of it.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from governance.registry import ANY, Registry
from governance.warehouse import Row, Warehouse

WAITING = "deliveries"  # of the registry, and the table's name
log = logging.getLogger(__name__)


def keep(registry: Registry, attempt: dict[str, Any]) -> None:
    """Keep the outcome of one attempt: a row of `deliveries`, its time as text. Raises RegistryError."""
    registry.put(WAITING, f"{attempt['delivery_id']}-{attempt['attempt']}", attempt, ANY)


def ship(warehouse: Warehouse, registry: Registry) -> int:
    """Bring what is kept into the warehouse; how many rows. A row may come twice: the views count an attempt once.

    Raises WarehouseError, RegistryError; then it is all kept, and shipped by the next tick.
    """
    waiting = registry.find(WAITING)
    rows: list[Row] = [
        {**found.fields, "tried_at": datetime.fromisoformat(found.fields["tried_at"])} for found in waiting
    ]
    if not rows:
        return 0
    refused = warehouse.append(WAITING, rows)
    for reason in refused.values():
        log.error("the warehouse never takes the account of a delivery", extra={"reason": reason})
    for found in waiting:
        registry.delete(WAITING, found.id)
    return len(rows) - len(refused)
