"""The audit log's way into the warehouse: appended there first, and only then removed from the registry.

Whoever dies in between leaves the entries where they are; the next tick appends them again under the same ids, and the
view `audit_log` counts each once.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Final

from governance.audit import AUDIT
from governance.registry import Document, Registry
from governance.warehouse import Row, Warehouse

AT_ONCE: Final = 500
log = logging.getLogger(__name__)


def ship(warehouse: Warehouse, registry: Registry) -> int:
    """Bring what is in the registry into the warehouse; how many entries.

    Raises WarehouseError, RegistryError: what is not appended by then stays. An entry that the warehouse refuses stays
    too, and is logged with every tick: nothing of an audit log is thrown away.
    """
    waiting, shipped = registry.find(AUDIT), 0
    for first in range(0, len(waiting), AT_ONCE):
        part = waiting[first : first + AT_ONCE]
        refused = warehouse.append(AUDIT, [row(document) for document in part])
        for place, document in enumerate(part):
            if place in refused:
                log.error("the audit log refuses an entry", extra={"entry": document.id, "reason": refused[place]})
                continue
            registry.delete(AUDIT, document.id)
            shipped += 1
    return shipped


def row(document: Document) -> Row:
    """An entry of the registry as a row of `audit`."""
    fields = document.fields
    return {
        "audit_id": document.id,
        "done_at": datetime.fromisoformat(fields["at"]),
        **{name: fields[name] for name in ("actor", "action", "subject", "origin", "before", "after")},
    }
