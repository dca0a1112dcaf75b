"""One tick: load what changed, roll up, close months, judge every budget, tell the gateways and people what follows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from governance import gate, keys, raises
from governance.keys import KeyRecord
from governance.messages import Channel
from governance.policy import read_policy_once
from governance.registry import Registry
from governance.warehouse import Warehouse

from . import audit_shipping, delivered, freshness, notices, operator_alerts, pruning, raise_alerts, unpriced
from .anomalies import anomalies
from .budget_alerts import Readers
from .digests import digests
from .freshness import Freshness
from .judgement import Judged, judge
from .key_upkeep import upkeep
from .months import keep_books
from .outbox import Delivery, Outbox
from .reference import load_reference
from .rollup import refresh_rollup
from .spending import Spending, spending_at

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Room:
    """What a tick works with. `clock` gives the time in UTC. `stale_after_s`: the age of the newest row from which
    nothing is judged where no gateway ever told what it sent."""

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

    Raises PolicyError, WarehouseError and RegistryError: then the next tick does what is left.
    """
    now, warehouse, registry = room.clock(), room.warehouse, room.registry
    policy = read_policy_once(room.policy_dir)
    done: dict[str, Any] = {
        "loaded": load_reference(warehouse, registry, policy, now),
        "rolled_up": [day.isoformat() for day in refresh_rollup(warehouse, registry, now)],
    }
    done |= keep_books(warehouse, registry, policy.adjustments, now, room.close_day, anew=bool(done["loaded"]))
    documents = registry.find(keys.COLLECTION)
    known = [KeyRecord.model_validate(document.fields) for document in documents]  # what a revoked one spent is spent
    zone = policy.company.zone
    today = now.astimezone(zone).date()
    readers = Readers(policy, {key.key_id: key for key in known}, room.channels, room.dashboard_url, today)
    spending = spending_at(
        warehouse,
        now,
        zone,
        persons=any(budget.scope == "person" for budget in policy.budgets),
        keys=any(key.budget or key.tags for key in known),
    )
    seen = _freshness(room, readers, spending, now)
    outbox = Outbox(registry, room.clock)
    operators = policy.operators(today)
    sent = _send(outbox, operator_alerts.deliveries(seen, operators, room.channels, room.dashboard_url))
    judged = _judged(room, readers, known, spending, seen, now)
    kept = upkeep(
        warehouse,
        registry,
        policy,
        documents,
        now,
        stale=seen.stale,
        dashboard_url=room.dashboard_url,
        records=known,
    )
    said = list(kept.notices)
    if not seen.stale:
        said += anomalies(warehouse, registry, policy, kept.keys, now, room.dashboard_url)
        said += digests(warehouse, policy, judged.stood, now, dashboard_url=room.dashboard_url)
    models = unpriced.unpriced(warehouse)
    said += unpriced.notices(models, policy.finance(today) or operators, room.dashboard_url)
    wishes = raises.of_periods(registry, (period.key for period in spending.periods.values()))
    raised = raise_alerts.deliveries(wishes, readers)
    sent += _send(outbox, [*judged.deliveries, *raised, *notices.deliveries(said, room.channels)])
    pruning.prune(registry, now)
    audited, _ = audit_shipping.ship(warehouse, registry), delivered.ship(warehouse, registry)
    newest = spending.newest_received_at
    return done | {
        **judged.counts,
        "keys": {"left": kept.left, "held_back": kept.held_back, "idle": kept.told_idle, "disabled": kept.disabled},
        "stale": seen.stale,
        "newest_received_at": newest and newest.isoformat(),
        "audited": audited,
        **{name: sent[name] for name in ("sent", "failed", "unreachable", "waiting", "elsewhere")},
    }


def _freshness(room: Room, readers: Readers, spending: Spending, now: datetime) -> Freshness:
    limit = timedelta(minutes=readers.policy.company.alerts.stale_after_minutes)
    age_limit = timedelta(seconds=room.stale_after_s)
    return freshness.freshness(room.registry, spending.newest_received_at, now, limit, age_limit)


def _judged(
    room: Room, readers: Readers, known: Sequence[KeyRecord], spending: Spending, seen: Freshness, now: datetime
) -> Judged:
    """Where every budget stands; by late data nothing is judged, and the gateways are told so."""
    if not seen.stale:
        return judge(room.warehouse, room.registry, readers, known, spending, now)
    log.warning("the data is too old to judge budgets by", extra={"newest": str(spending.newest_received_at)})
    gate.mark_stale(room.registry, now)
    return Judged()


def _send(outbox: Outbox, deliveries: Iterable[Delivery]) -> Counter[str]:
    return outbox.send(outbox.due(deliveries))
