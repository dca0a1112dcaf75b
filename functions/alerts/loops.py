"""An agent that runs away: one session of one key that sends far more requests than agents at work do.

A minute is one of a loop when each agent in it made `loop_requests_per_minute` or more. How many agents that were is
told by how long the requests took: so much time passed in them together that so many must have run beside each other.
Ten is as many as a coding agent starts by itself, so more do not count: a swarm that starts swarms is a loop too. Three
such minutes of five are a loop. Requests without a session are scripts; their day is looked at, not their minutes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from governance.company import AnomalyRules
from governance.warehouse import Row, Warehouse

MINUTES, WITHIN = 3, timedelta(minutes=5)
MOST_AGENTS: Final = 10
LOOKED_BACK: Final = timedelta(minutes=30)  # events come late, and so may a tick

LOOPS: Final = """
SELECT minute, key_id, session_id, person, team, tool, model, requests, failed, busy_ms
FROM tally.session_minutes
WHERE day BETWEEN @first_day AND @today AND minute >= @since AND minute <= @now
  AND requests >= @requests_per_minute
"""


@dataclass(frozen=True)
class Loop:
    """A session that ran away. Times are the beginnings of the first and the last of its minutes, UTC."""

    key_id: str
    session_id: str
    person: str | None
    team: str | None
    tool: str
    model: str | None
    began_at: datetime
    last_at: datetime
    minutes: int
    requests: int
    failed: int


def is_loop(minute: Row, rules: AnomalyRules) -> bool:
    """Whether each agent of that minute (requests, busy_ms) was too fast."""
    agents = min(max(int(minute["busy_ms"]) / 60_000, 1.0), float(MOST_AGENTS))
    return bool(minute["requests"] >= rules.loop_requests_per_minute * agents)


def loops(warehouse: Warehouse, rules: AnomalyRules, now: datetime) -> list[Loop]:
    """The sessions that have looped in the last half hour, by key and session. Raises WarehouseError."""
    since = now - LOOKED_BACK
    asked: dict[str, Any] = {"first_day": since.date(), "today": now.date(), "since": since, "now": now}
    sessions: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in warehouse.query(LOOPS, asked | {"requests_per_minute": rules.loop_requests_per_minute}):
        if is_loop(row, rules):
            sessions[row["key_id"], row["session_id"]].append(row)
    found = []
    for _, rows in sorted(sessions.items()):
        minutes = sorted(rows, key=lambda row: row["minute"])
        if sustained([row["minute"] for row in minutes]):
            found.append(_loop(minutes))
    return found


def sustained(minutes: Sequence[datetime]) -> bool:
    """Whether three of these minutes, in order, lie within five."""
    return any(third - first < WITHIN for first, third in zip(minutes, minutes[MINUTES - 1 :], strict=False))


def _loop(minutes: Sequence[Row]) -> Loop:
    last = minutes[-1]
    return Loop(
        last["key_id"], last["session_id"], last["person"], last["team"], last["tool"], last["model"],
        minutes[0]["minute"], last["minute"], len(minutes),
        sum(int(row["requests"]) for row in minutes), sum(int(row["failed"]) for row in minutes),
    )  # fmt: skip
