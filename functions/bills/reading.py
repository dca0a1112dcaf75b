"""One reading: what the providers say of the last days, and of that what they did not say before, into `bills`."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

from governance.warehouse import Row, Warehouse, WarehouseError

from .line import NOTHING, Days, Line, Malformed, Report
from .pager import Refused, Unavailable

# Parameters, not CURRENT_DATE: a reading that began before midnight compares the days that it asked for.
_KNOWN = """
SELECT report, day, model, api_key_id, project, service_tier, token_kind, quantity, amount_usd, line_item
FROM tally.provider_bill
WHERE provider = @provider AND day >= @first_day AND day <= @last_day
"""
_GATEWAY_KEYS = "SELECT provider, id FROM tally.gateway_keys"
_NAMES = tuple(field.name for field in fields(Line))
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bill:
    """A provider whose reports can be read. `gateway` are the ids of what is the gateway's own there."""

    provider: str
    read: Callable[[date, date], Days]
    gateway: Sequence[str] = ()


@dataclass(frozen=True)
class Room:
    """What a reading works with. `clock` gives the time in UTC; today and `days_back` days before it are read."""

    warehouse: Warehouse
    bills: Sequence[Bill]
    days_back: int
    clock: Callable[[], datetime]


@dataclass(frozen=True)
class Done:
    """What came of a reading, provider by provider: plain numbers, or what went wrong."""

    read: dict[str, dict[str, Any]]
    later: dict[str, str]
    wrong: dict[str, str]


def read_bills(room: Room) -> Done:
    """Read every provider; one that fails does not keep the others from being read. Raises WarehouseError.

    Safe at any time and any number at once: two readings at the same moment store the same lines twice, under two
    `fetch_id`, of which the view takes one.
    """
    done = Done({}, {}, {})
    _name_the_gateways(room)
    for bill in room.bills:
        today = room.clock().astimezone(UTC).date()
        try:
            done.read[bill.provider] = _read_one(room, bill, today - timedelta(days=room.days_back), today)
        except Unavailable as error:
            done.later[bill.provider] = str(error)
        except (Refused, Malformed) as error:
            done.wrong[bill.provider] = str(error)
    return done


def _read_one(room: Room, bill: Bill, first_day: date, last_day: date) -> dict[str, Any]:
    days = bill.read(first_day, last_day)  # all of it, before any of it is stored
    known = _known(room.warehouse, bill.provider, first_day, last_day)
    fetched = {"provider": bill.provider, "fetch_id": str(uuid.uuid4()), "fetched_at": room.clock()}
    changed: dict[date, list[dict[str, Any]]] = {}
    for (report, day), lines in sorted(days.items(), key=lambda item: (item[0][1], item[0][0])):
        before = known.get((report, day))
        if not lines and before is not None:
            lines = [NOTHING[report]]
        if Counter(lines) != (before or Counter()):
            about = fetched | {"report": report, "day": day}
            changed.setdefault(day, []).extend(line.row() | about for line in lines)
    for day, rows in changed.items():
        _append(room.warehouse, day, rows)
    return {
        "days": len({day for _, day in days}),
        "changed": [str(day) for day in changed],
        "lines": sum(len(rows) for rows in changed.values()),
    }


def _known(
    warehouse: Warehouse, provider: str, first_day: date, last_day: date
) -> dict[tuple[Report, date], Counter[Line]]:
    """What the newest reading of each day said; a day that was never read is absent."""
    known: dict[tuple[Report, date], Counter[Line]] = {}
    asked = {"provider": provider, "first_day": first_day, "last_day": last_day}
    for row in warehouse.query(_KNOWN, asked):
        line = Line(**{name: row[name] for name in _NAMES})
        known.setdefault((row["report"], row["day"]), Counter())[line] += 1
    return known


def _append(warehouse: Warehouse, day: date, rows: Sequence[Row]) -> None:
    """A day in one piece. Raises WarehouseError when any of it is not stored: the next reading stores it whole."""
    refused = warehouse.append("bills", rows)
    if refused:
        raise WarehouseError(
            f"{len(refused)} lines of {day} were refused, the first for {next(iter(refused.values()))}"
        )


def _name_the_gateways(room: Room) -> None:
    """Bring the table `gateway_keys` in step with the settings; the view splits all days by it, old ones too."""
    wanted = {(bill.provider, id) for bill in room.bills for id in bill.gateway}
    held = {(row["provider"], row["id"]) for row in room.warehouse.query(_GATEWAY_KEYS)}
    if wanted != held:
        room.warehouse.replace("gateway_keys", [{"provider": who, "id": id} for who, id in sorted(wanted)])
