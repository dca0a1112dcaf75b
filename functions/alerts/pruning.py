"""What the registry need not keep: once a day, so that it does not grow with every message and every click."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from governance import raises
from governance.registry import ANY, Document, Registry

from . import freshness, notices, operator_alerts
from .outbox import SENT
from .reference import LOADED

_EVERY: Final = timedelta(days=1)
# Collection, the field that says when, and how long a document is of use. A period's messages outlive the period.
_KEPT: Final = (
    ("slack_requests", "at", timedelta(days=1)),
    (raises.COLLECTION, "asked_at", timedelta(days=400)),
    (SENT, "at", timedelta(days=100)),
)
_FOREVER: Final = frozenset({notices.EVER, operator_alerts.EVER})  # periods of what is told once and never again


def prune(registry: Registry, now: datetime) -> int:
    """How many documents were removed; 0 where it is not due. Raises RegistryError."""
    known = registry.get(LOADED, "pruned")
    if known is not None and now - datetime.fromisoformat(known.fields["at"]) < _EVERY:
        return 0
    removed = 0
    for collection, field, keep in _KEPT:
        for document in registry.find(collection):
            if _is_old(document, field, now - keep):
                registry.delete(collection, document.id)
                removed += 1
    freshness.prune(registry, now)
    registry.put(LOADED, "pruned", {"at": now.isoformat()}, ANY)
    return removed


def _is_old(document: Document, field: str, before: datetime) -> bool:
    at = document.fields.get(field)
    return document.fields.get("period") not in _FOREVER and at is not None and datetime.fromisoformat(at) < before
