"""Models that the price book does not know: told once for each, not once for each request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from governance.messages import unpriced_message
from governance.warehouse import Warehouse

from .notices import EVER, Notice

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


def notices(models: Iterable[dict[str, Any]], to: tuple[str, ...], dashboard_url: str) -> Iterator[Notice]:
    """One for each model."""
    for row in models:
        name = f"{row['provider'] or 'no provider'}/{row['model'] or 'no model'}"
        message = unpriced_message(name, row["calls"], row["list_cost_usd"], to, dashboard_url)
        yield Notice(f"unpriced {name}", EVER, message)
