"""Models that the price book does not know: told once for each, not once for each request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from governance.messages import Channel, unpriced_message
from governance.warehouse import Warehouse

from .outbox import Delivery, by_channel

EVER = "ever"  # the period of an alert that is told once
_MODELS = """
SELECT provider, model, SUM(calls) AS calls, SUM(list_cost_usd) AS list_cost_usd
FROM tally.unpriced_models
WHERE price_source <> 'approximate'
GROUP BY provider, model
ORDER BY provider, model
"""


def unpriced(warehouse: Warehouse) -> list[dict[str, Any]]:
    """provider, model, calls, list_cost_usd of every model that is costed at the fallback price, or at none."""
    return warehouse.query(_MODELS)


def deliveries(
    models: Iterable[dict[str, Any]], to: tuple[str, ...], channels: Sequence[Channel], dashboard_url: str
) -> Iterator[Delivery]:
    """One message for each model, by every channel."""
    for row in models:
        name = f"{row['provider'] or 'no provider'}/{row['model'] or 'no model'}"
        message = unpriced_message(name, row["calls"], row["list_cost_usd"], to, dashboard_url)
        yield from by_channel(f"unpriced {name}", EVER, 0, message, channels)
