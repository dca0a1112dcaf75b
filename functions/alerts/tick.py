"""One tick: load what changed, roll up, close months, see what was spent, tell people once what they should know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from governance.budgets import Standing, month_of, standing
from governance.messages import Channel, budget_message
from governance.policy import Policy, admins, read_policy
from governance.registry import Registry
from governance.warehouse import Warehouse

from . import months, unpriced
from .outbox import Delivery, Outbox
from .reference import load_reference
from .rollup import refresh_rollup
from .spending import spending_in


class StaleData(Exception):
    """There is something to tell, but the data is too old to tell it by."""


@dataclass(frozen=True)
class Room:
    """What a tick works with. `clock` gives the time in UTC."""

    warehouse: Warehouse
    registry: Registry
    channels: Sequence[Channel]
    policy_dir: Path
    dashboard_url: str
    stale_after_s: float
    close_day: int
    clock: Callable[[], datetime]


def tick(room: Room) -> dict[str, Any]:
    """Do what is to be done now; what was done, in plain numbers. Safe to run at any time, any number at once.

    Raises PolicyError, WarehouseError, RegistryError and StaleData: then nothing was sent that would not be sent again.
    """
    now = room.clock()
    policy, period = read_policy(room.policy_dir), month_of(now)
    loaded = load_reference(room.warehouse, room.registry, policy, now)
    rolled = refresh_rollup(room.warehouse, room.registry, now)
    closed = months.close(room.warehouse, now, room.close_day)
    adjusted = months.post(room.warehouse, policy.adjustments, now)
    spending = spending_in(room.warehouse, period)
    stood = [standing(budget, spending.of(budget), now) for budget in policy.budgets]
    outbox = Outbox(room.registry, room.clock)
    unknown = outbox.due(unpriced.EVER, _unpriced(room, policy, now))
    due = outbox.due(period.key, _deliveries(stood, policy, room, now))
    age_s = spending.age_s(now)
    if due and (age_s is None or age_s > room.stale_after_s):
        outbox.send(unknown)
        raise StaleData(f"{len(due)} alerts wait for newer data; the newest row came in {age_s or 0:.0f} s ago")
    outcome = outbox.send([*due, *unknown])
    return {
        "period": period.key,
        "loaded": loaded,
        "rolled_up": [day.isoformat() for day in rolled],
        "closed": [month.isoformat() for month in closed],
        "adjustments": adjusted,
        "newest_received_at": spending.newest_received_at and spending.newest_received_at.isoformat(),
        "budgets": [{"budget": s.budget.key, "status": s.status, "crossed": list(s.crossed)} for s in stood],
        **{name: outcome[name] for name in ("sent", "failed", "waiting", "elsewhere")},
    }


def _unpriced(room: Room, policy: Policy, now: datetime) -> list[Delivery]:
    """What there is to say of models without a price, to those who can give them one."""
    today = now.date()
    finance = tuple(person.email for person in policy.people if person.role == "finance" and person.is_here(today))
    models = unpriced.unpriced(room.warehouse)
    return list(unpriced.deliveries(models, finance or admins(policy.people, today), room.channels, room.dashboard_url))


def _deliveries(stood: Sequence[Standing], policy: Policy, room: Room, now: datetime) -> list[Delivery]:
    """Every crossed threshold of every budget, by every channel."""
    return [
        Delivery(
            s.budget.key,
            s.period.key,
            threshold,
            channel,
            budget_message(s, threshold, policy.whom_to_tell(s.budget, now.date()), room.dashboard_url),
        )
        for s in stood
        for threshold in s.crossed
        for channel in room.channels
    ]
