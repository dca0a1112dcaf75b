"""Which budgets refuse requests: each change once, with an entry in the audit log, whatever dies in between.

A document of the registry for each budget that was ever used up in its period: {state: set|lifted, count, …}. The audit
entry goes first and bears an id that the next tick would give it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from governance import audit
from governance.registry import Conflict, Document, Registry
from governance.standings import Standing

BLOCKS: Final = "blocks"  # of the registry


@dataclass(frozen=True)
class Lifted:
    """Requests pass again before the period is over: for the `count`th time."""

    standing: Standing
    count: int


def follow(registry: Registry, stood: Sequence[Standing], now: datetime) -> tuple[list[Lifted], int, int]:
    """(all that were lifted in the running periods, blocks set just now, lifted just now). Raises RegistryError."""
    known = {d.id: d for period in {s.period.key for s in stood} for d in registry.find(BLOCKS, period=period)}
    lifted, changed = list[Lifted](), {"set": 0, "lifted": 0}
    for each in stood:
        name = _name(each)
        before = known.get(name)
        state, count = (before.fields["state"], before.fields["count"]) if before else ("lifted", 0)
        wanted = "set" if each.blocked else "lifted"
        if state != wanted:
            count += wanted == "set"
            if _note(registry, each, name, before, wanted, count, now):
                changed[wanted] += 1
        if wanted == "lifted" and count:
            lifted.append(Lifted(each, count))
    for name in known.keys() - {_name(each) for each in stood}:
        changed["lifted"] += _end(registry, known[name], now)
    return lifted, changed["set"], changed["lifted"]


def _note(
    registry: Registry, stood: Standing, name: str, before: Document | None, state: str, count: int, now: datetime
) -> bool:
    """Whether it was this tick that wrote it, and no other at the same time."""
    content: dict[str, Any] = {
        "budget": stood.budget.key,
        "state": state,
        "spent_usd": str(stood.spent_usd),
        "limit_usd": str(stood.limit_usd),
        "name": stood.name or None,
        "period": stood.period.key,
    }
    return _write(registry, name, before, content, count, now)


def _end(registry: Registry, document: Document, now: datetime) -> bool:
    """A budget that is gone from policy/, or was a revoked key's, refuses nothing any more."""
    fields = document.fields
    if fields["state"] != "set":
        return False
    kept = {name: fields[name] for name in ("budget", "spent_usd", "name", "period")}
    content = {**kept, "state": "lifted", "why": "the budget is gone"}
    return _write(registry, document.id, document, content, fields["count"], now)


def _write(
    registry: Registry, id: str, before: Document | None, content: dict[str, Any], count: int, now: datetime
) -> bool:
    entry = audit.Entry(
        at=now,
        actor="tally",
        action="block.set" if content["state"] == "set" else "block.lifted",
        subject=content["budget"],
        origin="tick",
        before=audit.told({"state": before.fields["state"]}) if before else None,
        after=audit.told({name: value for name, value in content.items() if name != "budget"}),
    )
    with suppress(Conflict):  # written by a tick that then died, or by another just now
        audit.record(registry, entry, f"{entry.action}|{id}|{count}")
    try:
        registry.put(BLOCKS, id, {**content, "count": count, "at": now.isoformat()}, before.version if before else None)
    except Conflict:
        return False
    return True


def prune(registry: Registry, periods: Iterable[str]) -> None:
    """Forget the blocks of periods that are over. Raises RegistryError."""
    running = set(periods)
    for document in registry.find(BLOCKS):
        if document.fields["period"] not in running:
            registry.delete(BLOCKS, document.id)


def _name(stood: Standing) -> str:
    return f"{stood.budget.key}|{stood.name}|{stood.period.key}"
