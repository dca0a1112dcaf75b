"""When the rollup is refreshed: the last days with every tick, all days once a day, for what came in later still.

Today's part serves nobody before midnight and costs the most: it is made twice an hour, so that after midnight only its
end is missing until the next tick.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from governance import rollup
from governance.registry import ANY, Registry
from governance.warehouse import Warehouse

from .reference import LOADED

_WHOLE_EVERY = timedelta(hours=24)
_TODAY_EVERY = timedelta(minutes=30)


def refresh_rollup(warehouse: Warehouse, registry: Registry, now: datetime) -> list[date]:
    """The days that were made anew. Raises WarehouseError, RegistryError."""
    document = registry.get(LOADED, "rollup")
    known = document.fields if document is not None else {}
    whole = _is_due(known.get("whole_at"), now, _WHOLE_EVERY)
    today = whole or _is_due(known.get("today_at"), now, _TODAY_EVERY)
    days = rollup.refresh(warehouse, rollup.BEGINNING if whole else rollup.recent(now), today_too=today)
    if today:
        whole_at = now.isoformat() if whole else known["whole_at"]
        registry.put(LOADED, "rollup", {"whole_at": whole_at, "today_at": now.isoformat()}, ANY)
    return days


def _is_due(last: str | None, now: datetime, every: timedelta) -> bool:
    return last is None or now - datetime.fromisoformat(last) >= every
