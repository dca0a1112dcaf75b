"""What others are told of keys: the warehouse which there are, the Slack command on which day each was last used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from governance.keys import KeyRecord
from governance.registry import ANY, Registry
from governance.warehouse import Row, Warehouse

from .reference import write_changed

USAGE, RECENT = "key_usage", "recent"  # of the registry
_MOST_NOTED: Final = 15_000  # a document has its limits; what is left out was not used for the longest time
ROWS: Final = """
SELECT (SELECT COUNT(*) FROM tally.keys) AS `keys`, (SELECT COUNT(*) FROM tally.key_tags) AS key_tags
"""
_COLUMNS: Final = (
    "key_id", "person", "team", "kind", "name", "owner", "created_at", "expires_at", "revoked_at", "revoked_why",
)  # fmt: skip
USED: Final = """
SELECT key_id, MAX(day) AS last_day
FROM tally.person_usage
WHERE day >= @since AND day <= @today AND key_id IS NOT NULL
GROUP BY key_id
"""


def load_keys(warehouse: Warehouse, registry: Registry, keys: Iterable[KeyRecord], now: datetime) -> list[str]:
    """Bring both tables up to date; the names of those that were written. Raises WarehouseError, RegistryError."""
    known = sorted(keys, key=lambda key: key.key_id)
    wanted: dict[str, Sequence[Row]] = {
        "keys": [{name: getattr(key, name) for name in _COLUMNS} for key in known],
        "key_tags": [{"key_id": key.key_id, "tag": tag} for key in known for tag in dict.fromkeys(key.tags)],
    }
    (held,) = warehouse.query(ROWS)
    return write_changed(warehouse, registry, wanted, held, now)


def last_used(
    warehouse: Warehouse, registry: Registry, known: Iterable[str], now: datetime, days: int
) -> Mapping[str, date]:
    """The last day (UTC) on which each of the `known` keys was used, and the same written down for the Slack command.

    The warehouse is asked for the last `days`; what was noted of the time before that stays. A key that is in neither
    was never used since it was noted first. Raises WarehouseError, RegistryError.
    """
    today, document = now.date(), registry.get(USAGE, RECENT)
    noted: dict[str, Any] = document.fields["last_used"] if document is not None else {}
    asked = {"since": today - timedelta(days=days), "today": today}
    counted = {row["key_id"]: row["last_day"] for row in warehouse.query(USED, asked)}
    used = {
        key: max(days_of)
        for key in sorted(set(known))
        if (days_of := [day for day in (counted.get(key), _day(noted.get(key))) if day is not None])
    }
    newest = sorted(used, key=lambda key: (used[key], key), reverse=True)[:_MOST_NOTED]
    told = {key: used[key].isoformat() for key in newest}
    if told != noted or document is None:
        registry.put(USAGE, RECENT, {"last_used": told, "at": now.isoformat()}, ANY)
    return used


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
