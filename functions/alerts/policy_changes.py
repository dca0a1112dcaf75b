"""What changed in policy/ since it was last loaded, as entries of the audit log. Pure but for writing them down."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from governance import audit
from governance.audit import Action, Entry
from governance.budgets import Budget
from governance.registry import Conflict, Document, Registry
from governance.warehouse import Row

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "people": ("person",),
    "seats": ("person", "provider", "plan", "valid_from"),
    "teams": ("team",),
    "prices": ("provider", "model"),
}
_NAMED: Final = 50  # names in one entry at most


def table_changes(table: str, before: Sequence[Row], after: Sequence[Row], now: datetime) -> Iterator[Entry]:
    """What is said of a table that is written anew: that it was loaded and what is new, gone and different in it; of
    prices also each model's. `before` may be empty: then it is the first time. Nothing is said where the warehouse has
    it all already: whoever wrote it then died."""
    old, new = _by_key(before, _KEYS[table]), _by_key(after, _KEYS[table])
    if before and old == new:
        return
    different = {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(key for key in old.keys() & new.keys() if old[key] != new[key]),
    }
    told = {name: keys[:_NAMED] for name, keys in different.items() if keys and before}
    counts = {f"{name}_count": len(keys) for name, keys in different.items() if keys and before}
    yield _entry(now, "policy.loaded", table, {"rows": len(before)}, {"rows": len(after), **counts, **told})
    if table == "prices" and before:
        for key in sorted({*different["added"], *different["removed"], *different["changed"]}):
            was, will = old.get(key, set()), new.get(key, set())
            yield _entry(now, "price.changed", key, _few(was - will), _few(will - was))


def budget_changes(before: Mapping[str, Any], after: Iterable[Budget], now: datetime) -> Iterator[Entry]:
    """What is said of each budget that is new, gone or different. `before` is budget key to what it was."""
    new = {budget.key: as_fields(budget) for budget in after}
    for key in sorted(before.keys() | new.keys()):
        was, will = before.get(key), new.get(key)
        if was != will:
            action: Action = "budget.changed" if was and will else "budget.added" if will else "budget.removed"
            yield _entry(now, action, key, was, will)


def rule_changes(before: Mapping[str, Any], after: Mapping[str, Any], now: datetime) -> Iterator[Entry]:
    """What is said of company.yaml: the parts that are not as they were."""
    different = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    was, will = ({name: rules.get(name) for name in different} for rules in (before, after))
    yield _entry(now, "policy.loaded", "company", was if before else None, will)


def as_fields(budget: Budget) -> dict[str, Any]:
    """A budget as JSON types."""
    return budget.model_dump(mode="json", exclude_none=True)


def write_down(registry: Registry, entries: Iterable[Entry], loaded: Document | None) -> None:
    """Each once, although the tick that writes may die and the next say the same. `loaded` is what the registry knows
    of the load before: what changes to and fro is said each time. Raises RegistryError."""
    known = [loaded.version, loaded.fields["at"]] if loaded else []
    for entry in entries:
        content = json.dumps([entry.action, entry.subject, entry.before, entry.after, *known])
        with suppress(Conflict):
            audit.record(registry, entry, f"{entry.action}|{hashlib.sha256(content.encode()).hexdigest()[:32]}")


def _entry(
    now: datetime, action: Action, subject: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> Entry:
    return Entry(
        at=now,
        actor="policy",
        action=action,
        subject=subject,
        origin="tick",
        before=audit.told(before) if before else None,
        after=audit.told(after) if after else None,
    )


def _by_key(rows: Sequence[Row], key: tuple[str, ...]) -> dict[str, set[str]]:
    """Key in words to the contents of its rows."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        rest = {name: _plain(value) for name, value in row.items() if name not in key and value is not None}
        found[" / ".join(_plain(row[name]) for name in key)].add(json.dumps(rest, sort_keys=True))
    return found


def _plain(value: Any) -> str:
    """A value as text: a number the same whatever scale the warehouse gives it."""
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def _few(contents: set[str]) -> dict[str, Any] | None:
    """Rows of a model, few enough for one entry."""
    listed = [json.loads(text) for text in sorted(contents)]
    return {"rows": len(listed), "of_them": listed[:8]} if listed else None
