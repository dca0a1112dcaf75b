"""A key that somebody else may have: used with a tool and from a network that are both new to it, in the same hour.

Either alone is an ordinary day: people travel, and try another agent. Both at once, and in the same requests, is what a
key looks like that was copied out of a repository. A key is judged by what it did in `history_days`: only when it is in
use for a week, by ten requests at least whose network is known, and only by networks and tools of that time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from governance.company import AnomalyRules
from governance.warehouse import Row, Warehouse

WITHIN: Final = timedelta(hours=1)
KNOWN_FOR: Final = timedelta(days=7)
KNOWN_BY: Final = 10  # requests

# The rollup knows the tools of a key for little money; few keys have a new one, and only theirs are the networks read.
NEW_TOOLS: Final = """
WITH known AS (
  SELECT key_id, tool, SUM(requests) AS requests
  FROM tally.person_rollup
  WHERE day >= @first_day AND day < @yesterday AND key_id IS NOT NULL
  GROUP BY key_id, tool
),
used AS (
  SELECT key_id, SUM(requests) AS requests
  FROM known
  GROUP BY key_id
)
SELECT
  recent.key_id,
  recent.network,
  recent.tool,
  MAX(recent.person) AS person,
  MIN(recent.first_at) AS first_at,
  MAX(recent.last_at) AS last_at,
  SUM(recent.calls) AS calls
FROM tally.key_places AS recent
JOIN used ON recent.key_id = used.key_id AND used.requests >= @known_by
LEFT JOIN known ON recent.key_id = known.key_id AND recent.tool = known.tool
WHERE recent.day BETWEEN @yesterday AND @today AND recent.first_at <= @now
  AND recent.network IS NOT NULL AND known.tool IS NULL
GROUP BY recent.key_id, recent.network, recent.tool
"""
_PLACES: Final = """
SELECT key_id, network, tool, MIN(first_at) AS first_at, MAX(last_at) AS last_at, SUM(calls) AS calls
FROM tally.key_places
WHERE day BETWEEN @first_day AND @today AND network IS NOT NULL AND key_id IN ({keys})
GROUP BY key_id, network, tool
"""


@dataclass(frozen=True)
class Leak:
    """A key in a new place. `known_tools` and `known_networks` are those of its history; a network is a keyed hash."""

    key_id: str
    person: str | None
    network: str
    tool: str
    first_at: datetime
    last_at: datetime
    calls: int
    known_tools: tuple[str, ...]
    known_networks: int


def leaks(warehouse: Warehouse, rules: AnomalyRules, now: datetime) -> list[Leak]:
    """The keys that were used so since yesterday (UTC), by key. Raises WarehouseError."""
    today = now.date()
    days = {"first_day": today - timedelta(days=rules.history_days), "today": today}
    asked = {**days, "yesterday": today - timedelta(days=1), "now": now, "known_by": KNOWN_BY}
    new = warehouse.query(NEW_TOOLS, asked)
    if not new:
        return []
    history: dict[str, list[Row]] = defaultdict(list)
    for row in warehouse.query(*places({row["key_id"] for row in new}, days)):
        history[row["key_id"]].append(row)
    found = [leak for row in new if (leak := judged(row, history[row["key_id"]])) is not None]
    return sorted(found, key=lambda leak: (leak.key_id, leak.first_at, leak.network, leak.tool))


def places(keys: Collection[str], days: Mapping[str, date]) -> tuple[str, Mapping[str, Any]]:
    """(statement, parameters): where these keys were used in their history."""
    given = {f"key_{place}": key for place, key in enumerate(sorted(keys))}
    return _PLACES.format(keys=", ".join(f"@{name}" for name in given)), {**days, **given}


def judged(new: Row, history: list[Row]) -> Leak | None:
    """A new tool at a network, and all the places (network and tool) of the key, itself among them."""
    network_at = min((row["first_at"] for row in history if row["network"] == new["network"]), default=new["first_at"])
    tool_at = min((row["first_at"] for row in history if row["tool"] == new["tool"]), default=new["first_at"])
    before = [
        row
        for row in history
        if row["network"] != new["network"] and row["tool"] != new["tool"] and row["first_at"] < new["first_at"]
    ]
    long_known = any(new["first_at"] - row["first_at"] >= KNOWN_FOR for row in before)
    if not long_known or sum(row["calls"] for row in before) < KNOWN_BY or abs(network_at - tool_at) > WITHIN:
        return None
    return Leak(
        new["key_id"], new["person"], new["network"], new["tool"], new["first_at"], new["last_at"], int(new["calls"]),
        tuple(sorted({row["tool"] for row in before})), len({row["network"] for row in before}),
    )  # fmt: skip
