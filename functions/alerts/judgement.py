"""Every budget judged: told to the gateways first, then written down, then what there is to say of it to people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from governance import gate
from governance.gate import Head
from governance.keys import KeyRecord
from governance.registry import Registry
from governance.standings import Standing
from governance.warehouse import Warehouse

from . import blocks, budget_alerts, evaluation
from .budget_alerts import Readers
from .outbox import Delivery
from .spending import Spending


@dataclass(frozen=True)
class Judged:
    """Where every budget stands, what there is to say of it, and how many are what."""

    stood: tuple[Standing, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)


def judge(
    warehouse: Warehouse,
    registry: Registry,
    readers: Readers,
    known: Sequence[KeyRecord],
    spending: Spending,
    now: datetime,
) -> Judged:
    """Judge by data that is not late. Raises WarehouseError, RegistryError; then the next tick judges again."""
    running, counted_through = {period.key for period in spending.periods.values()}, spending.newest_received_at
    raised = gate.keep_raises(registry, lambda granted: granted.period in running)
    gate.keep_trips(
        registry, lambda trip: trip.period in running and (counted_through is None or trip.at >= counted_through)
    )
    stood = evaluation.stand(readers.policy, known, spending, gate.granted_sums(raised), now)
    lifted, newly_set, newly_lifted = blocks.follow(registry, stood, now)
    admins = " or ".join(readers.policy.operators(readers.today)[:3])
    head = Head(
        written_at=now,
        counted_through=counted_through,
        stale=False,
        stale_after_s=timedelta(minutes=readers.policy.company.alerts.stale_after_minutes).total_seconds(),
        defaults=tuple(evaluation.defaults(readers.policy, spending, now, admins)),
    )
    few = evaluation.few_behind(readers.policy, known, readers.today)
    limits = [
        evaluation.limit_of(each, readers.ask(each), hidden=(each.budget.scope, each.name) in few) for each in stood
    ]
    gate.write(registry, head, limits)
    warehouse.replace("budget_standings", [row(each, now) for each in stood])
    blocks.prune(registry, running)
    deliveries = (
        *budget_alerts.crossings(stood, readers),
        *budget_alerts.lifted(lifted, readers),
    )
    statuses = Counter(each.status for each in stood)
    counts = {
        "budgets": {status: statuses[status] for status in ("on track", "at risk", "over")},
        "blocked": sum(each.blocked for each in stood),
        "blocks_set": newly_set,
        "blocks_lifted": newly_lifted,
    }
    return Judged(stood, deliveries, counts)


def row(stood: Standing, now: datetime) -> dict[str, Any]:
    """A standing as a row of `budget_standings`."""
    return {
        "budget": stood.budget.key,
        "scope": stood.budget.scope,
        "name": stood.name,
        "period_kind": stood.period.kind,
        "period": stood.period.key,
        "starts_at": stood.period.starts_at,
        "ends_at": stood.period.ends_at,
        "amount_usd": stood.budget.amount_usd,
        "extra_usd": stood.extra_usd,
        "spent_usd": stood.spent_usd,
        "forecast_usd": _rounded(stood.forecast_usd),
        "forecast_low_usd": _rounded(stood.forecast_low_usd),
        "forecast_high_usd": _rounded(stood.forecast_high_usd),
        "runs_out_on": stood.runs_out_on,
        "status": stood.status,
        "action": stood.budget.action,
        "blocked": stood.blocked,
        "thresholds": ",".join(map(str, stood.budget.thresholds)),
        "judged_at": now,
    }


def _rounded(expected_usd: Decimal | None) -> Decimal | None:
    """A forecast is no bill: whole cents."""
    return None if expected_usd is None else expected_usd.quantize(Decimal("0.01"))
