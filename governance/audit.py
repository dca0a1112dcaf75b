"""The audit log: who did what to what, before and after, when and from where. Appended, never changed.

Whoever acts writes an entry into the registry, beside the act; the alerts tick brings the entries into the warehouse's
table `audit` and only then removes them. A secret never stands in one: of a key its id, of a person the e-mail.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

from governance.registry import Registry

AUDIT: Final = "audit"  # of the registry, and the table
Action = Literal[
    "key.issued", "key.rotated", "key.revoked", "key.disabled", "raise.asked", "raise.granted", "raise.refused",
    "policy.loaded", "budget.added", "budget.changed", "budget.removed", "price.changed", "block.set", "block.lifted",
    "looked",
]  # fmt: skip
Origin = Literal["slack", "api", "tally", "tick", "dashboard"]


@dataclass(frozen=True)
class Entry:
    """One act. `actor` is an e-mail, or `tally` for what happens by itself; before and after are short JSON or None."""

    at: datetime
    actor: str
    action: Action
    subject: str
    origin: Origin
    before: str | None = None
    after: str | None = None


def told(content: Mapping[str, Any]) -> str:
    """A state as it stands in an entry: JSON, names in order, what is None left out."""
    return json.dumps(
        {name: value for name, value in content.items() if value is not None}, default=str, sort_keys=True
    )


def record(registry: Registry, entry: Entry, id: str | None = None) -> str:
    """Keep an entry; its id. With an `id` of the caller's own the same act is one entry, however often it is written.

    Raises RegistryError; with an id also Conflict, when it is there already.
    """
    name = id or f"{entry.at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:16]}"
    registry.put(AUDIT, name, {**asdict(entry), "at": entry.at.isoformat()})
    return name
