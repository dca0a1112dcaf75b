"""Requests under way. Each is opened once, and closed once, as one event.

Closed when its answer has ended and LiteLLM has given its account of it; or, where LiteLLM says nothing (it is silent
on some answers that a caller leaves), `close_grace_s` after its end. The tokens are the provider's own, read from the
wire; LiteLLM's account adds its cost, its name for the provider and the class of an error.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from governance.events import Status, UsageEvent, UsageSource
from proxy_service.asked import Account, Asked
from proxy_service.settlement import counted, event, measured, status_of
from proxy_service.usage import Tokens

log = logging.getLogger(__name__)
_BACKGROUND_S = 60.0  # some answers are read to their end although the caller has left: so long after the last byte


class Publisher(Protocol):
    """Takes events and never keeps the caller waiting."""

    def publish(self, event: UsageEvent) -> None: ...


class Desk:
    """The requests under way of one process. Used on the event loop; counting is done beside it."""

    def __init__(self, grace_s: float) -> None:
        self.publisher: Publisher | None = None
        self._grace_s = grace_s
        self._under_way: dict[str, Asked] = {}
        self._counters = ThreadPoolExecutor(1, thread_name_prefix="count")
        self._counting: set[asyncio.Future[None]] = set()
        self.opened = self.closed = self.unaccounted = self.strays = self.failures = 0

    def open(self, asked: Asked) -> None:
        """From here on this request owes one event."""
        self._under_way[asked.request_id] = asked
        self.opened += 1

    def ended(self, asked: Asked) -> None:
        """The caller has the whole answer, or is gone."""
        if asked.ended_s is None:
            asked.ended_s = time.monotonic()
            if not self._close_if_complete(asked):
                asyncio.get_running_loop().call_later(self._grace_s, self._out_of_patience, asked)

    def told(self, request_id: str, account: Account) -> None:
        """LiteLLM's account of a request."""
        asked = self._under_way.get(request_id)
        if asked is None:
            self.strays += 1
        elif asked.account is None:
            asked.account = account
            self._close_if_complete(asked)

    def _close_if_complete(self, asked: Asked) -> bool:
        if asked.ended_s is None or (asked.account is None and asked.refused is None):
            return False
        self._close(asked)
        return True

    def _out_of_patience(self, asked: Asked) -> None:
        if asked.request_id not in self._under_way:
            return
        now_s = time.monotonic()
        if any(a.open and now_s - max(a.fed_s, asked.ended_s or 0.0) < _BACKGROUND_S for a in asked.answers):
            asyncio.get_running_loop().call_later(self._grace_s, self._out_of_patience, asked)
            return
        self.unaccounted += 1
        self._close(asked)

    def _close(self, asked: Asked) -> None:
        """Publish the one event of this request: here, or beside the loop where tokens have to be counted."""
        if self._under_way.pop(asked.request_id, None) is None:
            return
        try:
            status = status_of(asked)
            source, tokens = measured(asked, status)
        except Exception as error:
            self.failures += 1
            log.error("an answer cannot be measured", extra={"error": type(error).__name__})
            status, source, tokens = "error", "counted", Tokens()
        if source == "counted" and tokens is None:
            counting = asyncio.get_running_loop().run_in_executor(self._counters, self._count, asked, status)
            self._counting.add(counting)
            counting.add_done_callback(self._counting.discard)
        else:
            self._publish(asked, status, source, tokens or Tokens())

    def _count(self, asked: Asked, status: Status) -> None:
        try:
            tokens = counted(asked)
        except Exception as error:
            self.failures += 1
            log.error("an answer cannot be counted", extra={"error": type(error).__name__})
            tokens = Tokens()
        self._publish(asked, status, "counted", tokens)

    def _publish(self, asked: Asked, status: Status, source: UsageSource, tokens: Tokens) -> None:
        try:
            made = event(asked, status, source, tokens)
            if self.publisher is not None:
                self.publisher.publish(made)
            self.closed += 1
        except Exception as error:
            self.failures += 1
            log.error("an event cannot be made", extra={"error": type(error).__name__, "event_id": asked.event_id})
        for answer in asked.answers:
            answer.forget()

    async def drain(self, patience_s: float) -> None:
        """Close everything: what LiteLLM still accounts for within the patience, then the rest as it stands."""
        deadline = time.monotonic() + patience_s
        while self._under_way and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        for asked in list(self._under_way.values()):
            asked.ended_s = asked.ended_s or time.monotonic()
            self._close(asked)
        if self._counting:
            await asyncio.wait(self._counting, timeout=patience_s)
        self._counters.shutdown(wait=False)
