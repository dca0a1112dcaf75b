"""The registry keeps what is of use and no more: old clicks, raises, messages and gateways go once a day."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from functions.alerts import notices, operator_alerts, pruning
from functions.alerts.outbox import SENT
from governance import raises
from governance.gate import GATEWAYS
from governance.registry import Registry, RegistryError, open_registry
from tests.alerts_room import NOON, Fails, beat

CLICKS = "slack_requests"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(f"sqlite://{tmp_path}/registry.db")


def left(registry: Registry, *collections: str) -> list[str]:
    return [document.id for collection in collections for document in registry.find(collection)]


def test_what_is_of_no_use_any_more_goes_and_all_else_stays(registry: Registry) -> None:
    for days, age in ((0, "new"), (2, "days"), (99, "months"), (101, "more"), (401, "years")):
        at = (NOON - timedelta(days=days)).isoformat()
        registry.put(CLICKS, f"click {age}", {"at": at})
        registry.put(raises.COLLECTION, f"raise {age}", {"asked_at": at, "state": "asked", "period": "2026-11"})
        registry.put(SENT, f"month {age}", {"at": at, "period": "2026-11"})
        registry.put(SENT, f"ever {age}", {"at": at, "period": notices.EVER})
        registry.put(SENT, f"outage {age}", {"at": at, "period": operator_alerts.EVER})
        registry.put("keys", f"key {age}", {"at": at})
    for days in (1, 3, 5):
        beat(registry, NOON - timedelta(days=days), f"gateway-{days}")
    assert pruning.prune(registry, NOON) == 4 + 1 + 2
    assert left(registry, CLICKS) == ["click new"]
    assert left(registry, raises.COLLECTION) == ["raise days", "raise months", "raise more", "raise new"]
    assert [id for id in left(registry, SENT) if id.startswith("month")] == ["month days", "month months", "month new"]
    assert sum(not id.startswith("month") for id in left(registry, SENT)) == 10  # told once and never again
    assert len(left(registry, "keys")) == 5
    assert left(registry, GATEWAYS) == ["gateway-1"]


def test_it_is_done_once_a_day(registry: Registry) -> None:
    assert pruning.prune(registry, NOON) == 0
    registry.put(CLICKS, "old", {"at": (NOON - timedelta(days=9)).isoformat()})
    assert pruning.prune(registry, NOON + timedelta(hours=23)) == 0
    assert pruning.prune(registry, NOON + timedelta(hours=24)) == 1


def test_where_it_could_not_be_finished_it_is_done_again(registry: Registry) -> None:
    registry.put(CLICKS, "old", {"at": (NOON - timedelta(days=9)).isoformat()})
    with pytest.raises(RegistryError):
        pruning.prune(Fails(registry, {1: "before"}), NOON)
    registry.put(CLICKS, "older", {"at": (NOON - timedelta(days=10)).isoformat()})
    assert pruning.prune(registry, NOON) == 1


def test_a_document_without_its_time_is_left_alone(registry: Registry) -> None:
    registry.put(CLICKS, "odd", {"what": "ever"})
    assert pruning.prune(registry, NOON) == 0
    assert left(registry, CLICKS) == ["odd"]
