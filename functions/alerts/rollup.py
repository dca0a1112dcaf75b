"""When the rollup is refreshed: the last days with every tick, all days once a day, for what came in later still."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from governance import rollup
from governance.registry import ANY, Registry
from governance.warehouse import Warehouse

from .reference import LOADED

_WHOLE_EVERY = timedelta(hours=24)


def refresh_rollup(warehouse: Warehouse, registry: Registry, now: datetime) -> list[date]:
    """The days that were made anew. Raises WarehouseError, RegistryError."""
    known = registry.get(LOADED, "rollup")
    if known is not None and now - datetime.fromisoformat(known.fields["whole_at"]) < _WHOLE_EVERY:
        return rollup.refresh(warehouse, rollup.recent(now))
    days = rollup.refresh(warehouse)
    registry.put(LOADED, "rollup", {"whole_at": now.isoformat()}, ANY)
    return days
