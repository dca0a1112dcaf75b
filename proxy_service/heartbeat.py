"""A sign of life in the registry: this instance made events, the last of them then. Written off the event loop.

The alerts tick holds it against the newest event of the warehouse: gateways that say that they make events, and a
warehouse that gets none, mean that the figures are late. An instance that makes no events writes nothing, and one that
stops leaves its document; the tick removes the old ones.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from governance.gate import GATEWAYS
from governance.registry import ANY, Registry

log = logging.getLogger(__name__)

EVERY_S: Final = 30.0


class Heartbeat:
    """The sign of life of one process. `last_event_at` tells when it last made an event; None: not yet."""

    def __init__(self, registry: Registry, last_event_at: Callable[[], datetime | None]) -> None:
        self._registry, self._last_event_at = registry, last_event_at
        self._told: datetime | None = None
        self._silent = False
        self.instance = uuid.uuid4().hex[:12]
        self.failures = 0

    async def run(self, every_s: float = EVERY_S) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            await self.beat()

    async def beat(self) -> None:
        """Write the document, where there were events since the last time. Raises nothing that the registry may."""
        newest = self._last_event_at()
        if newest is None or newest == self._told:
            return
        fields = {
            "instance": self.instance,
            "at": datetime.now(UTC).isoformat(),
            "last_event_at": newest.isoformat(),
        }
        try:
            await asyncio.to_thread(self._registry.put, GATEWAYS, self.instance, fields, ANY)
        except Exception as error:  # whatever it is, requests go on; the next beat tells the same and more
            self.failures += 1
            if not self._silent:
                log.warning("the registry takes no sign of life", extra={"error": type(error).__name__})
            self._silent = True
        else:
            self._told, self._silent = newest, False
