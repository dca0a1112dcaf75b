"""What a tick would tell the gateways, written by a test: limits, and how far events were counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from governance import gate
from governance.gate import Head, Limit
from governance.periods import PeriodKind, period_of
from governance.registry import Registry


def limit(
    scope: str,
    name: str = "",
    spent: str = "0",
    usd: str = "10",
    period: PeriodKind = "month",
    now: datetime | None = None,
    **fields: Any,
) -> Limit:
    """A limit of the running period that blocks at its amount; `fields` say otherwise."""
    when = period_of(period, now or datetime.now(UTC))
    amount, used = Decimal(usd), Decimal(spent)
    blocks_at = fields.pop("blocks_at_usd", amount)
    given: dict[str, Any] = {
        "budget": "-".join(part for part in (scope, name if name != gate.ANYBODY else "", period) if part),
        "period": when.key,
        "ends_at": when.ends_at,
        "blocked": blocks_at is not None and used >= blocks_at,
        "ask": "lea@example.com",
    }
    return Limit(
        scope=scope, name=name, limit_usd=amount, spent_usd=used, blocks_at_usd=blocks_at, **{**given, **fields}
    )


def tell(
    registry: Registry,
    *limits: Limit,
    counted_through: datetime | None = None,
    written_at: datetime | None = None,
    stale: bool = False,
    defaults: tuple[Limit, ...] = (),
) -> None:
    """A tick: these limits hold from now on, and everything up to `counted_through` (now) is inside."""
    now = datetime.now(UTC)
    head = Head(written_at or now, counted_through or now, stale, stale_after_s=900, defaults=defaults)
    gate.write(registry, head, limits)


def next_moment(limit_: Limit, seconds: float) -> datetime:
    """So many seconds after the limit's period has begun anew."""
    return limit_.ends_at + timedelta(seconds=seconds)
