"""The rollup: tokens of each day, summed again whenever events of that day came in. The views price it.

A day of `team_rollup` tells how many copies of events it was made from and when the last of them came in. A day whose
events say otherwise by now is made anew as a whole: late events, duplicates, any order of refreshes end the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from governance.warehouse import Warehouse

BEGINNING: Final = date(1970, 1, 1)
_AT_ONCE: Final = 31  # days made anew by one statement

_STORED = """
SELECT DATE(occurred_at) AS day, COUNT(*) AS copies, MAX(received_at) AS newest_received_at
FROM tally.events
WHERE occurred_at >= @since AND (@today_too OR occurred_at < TIMESTAMP(CURRENT_DATE()))
GROUP BY day
"""
_ROLLED = """
SELECT day, SUM(copies) AS copies, MAX(newest_received_at) AS newest_received_at
FROM tally.team_rollup
WHERE day >= @since
GROUP BY day
"""


def refresh(warehouse: Warehouse, since: date = BEGINNING, *, today_too: bool = True) -> list[date]:
    """Bring the rollup of all days from `since` on up to date; the days (UTC) that were made anew, in order.

    Today's part is read by nobody before midnight: the views read today from the events.

    Safe at any time and in parallel. Raises WarehouseError; what was made until then stays, the rest is made next time.
    """
    stored = _known(warehouse, _STORED, {"since": datetime.combine(since, time(), UTC), "today_too": today_too})
    rolled = _known(warehouse, _ROLLED, {"since": since})
    touched = sorted(day for day, state in stored.items() if rolled.get(day) != state)
    for first in range(0, len(touched), _AT_ONCE):
        days = touched[first : first + _AT_ONCE]
        warehouse.rewrite("person_rollup", "live_usage", "day", days)
        warehouse.rewrite(
            "team_rollup", "team_usage", "day", days
        )  # from the other, and last: it says that a day is done
    return touched


def recent(now: datetime) -> date:
    """The first day that nearly all events are of: a topic keeps a message for seven days at most."""
    return now.date() - timedelta(days=7)


def _known(warehouse: Warehouse, sql: str, given: Mapping[str, Any]) -> Mapping[date, tuple[int, datetime]]:
    rows: list[dict[str, Any]] = warehouse.query(sql, given)
    return {row["day"]: (row["copies"], row["newest_received_at"]) for row in rows}
