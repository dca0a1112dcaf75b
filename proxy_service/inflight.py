"""Requests under way. Each is opened once, and closed once, as one event for each call that its provider bills.

Closed when its answer has ended and LiteLLM has given its account of it; or, where LiteLLM says nothing (it is silent
on some answers that a caller leaves), `close_grace_s` after its end. The tokens are the provider's own, read from the
wire; LiteLLM's account adds its cost, its name for the provider and the class of an error.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Protocol

from governance.events import UsageEvent
from proxy_service import settlement
from proxy_service.asked import Account, Asked

log = logging.getLogger(__name__)
_UNREAD_S = 0.1  # bytes that lie so long unread are read by nobody
_BACKGROUND_S = 60.0  # some answers are read to their end although the caller has left: so long after the last byte


class Publisher(Protocol):
    """Takes events and never keeps the caller waiting."""

    def publish(self, event: UsageEvent) -> None: ...


# Told of each request that is over, with its events; on any thread. Raises nothing.
Watcher = Callable[[Asked, Sequence[UsageEvent]], None]


class Desk:
    """The requests under way of one process. Used on the event loop; counting is done beside it."""

    def __init__(self, grace_s: float) -> None:
        self.publisher: Publisher | None = None
        self.watchers: list[Watcher] = []
        self.last_event_at: datetime | None = None
        self._grace_s = grace_s
        self._under_way: dict[str, Asked] = {}
        self._counters = ThreadPoolExecutor(1, thread_name_prefix="count")
        self._counting: set[asyncio.Future[Any]] = set()
        self.opened = self.closed = self.published = self.unaccounted = self.strays = self.failures = 0

    def open(self, asked: Asked) -> None:
        """From here on this request owes its events."""
        self._under_way[asked.request_id] = asked
        self.opened += 1

    def ended(self, asked: Asked) -> None:
        """The caller has the whole answer, or is gone."""
        if asked.ended_s is None:
            asked.ended_s = time.monotonic()
            if not self._close_if_complete(asked):
                asyncio.get_running_loop().call_later(self._grace_s, self._out_of_patience, asked)
                self._look_after(asked)

    def told(self, request_id: str, account: Account) -> None:
        """LiteLLM's account of a request."""
        asked = self._under_way.get(request_id)
        if asked is None:
            self.strays += 1
        elif asked.account is None or asked.account.error_class:  # of a call that was then made again
            asked.account = account
            self._close_if_complete(asked)

    def _close_if_complete(self, asked: Asked) -> bool:
        try:
            if asked.ended_s is None or not settlement.is_complete(asked):
                return False
        except Exception as error:
            self._failed("a request cannot be judged", asked, error)
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

    def _look_after(self, asked: Asked) -> None:
        """Until the answers of an ended request are over: hang up on those that nobody reads any more.

        LiteLLM reads some answers to their end without their caller, and drops others: their provider would write on.
        """
        if asked.request_id not in self._under_way or self._close_if_complete(asked):
            return
        now_s, ending = time.monotonic(), list[Awaitable[None]]()
        for answer in asked.answers:
            if answer.open and not answer.awaited and answer.hang_up and now_s - answer.fed_s > _UNREAD_S:
                ending.append(answer.hang_up())
                answer.hang_up = None
        if ending:
            task = asyncio.gather(*ending, return_exceptions=True)
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)
        if any(answer.open for answer in asked.answers):
            asyncio.get_running_loop().call_later(_UNREAD_S, self._look_after, asked)

    def _close(self, asked: Asked) -> None:
        """Publish the events of this request: here, or beside the loop where tokens have to be counted."""
        if self._under_way.pop(asked.request_id, None) is None:
            return
        try:
            slow = settlement.must_be_counted(asked)
        except Exception as error:
            self._failed("an answer cannot be measured", asked, error)
            slow = True
        if slow:
            self._beside(self._count, asked)
        else:
            self._settle(asked)
            self._part(asked)

    def _beside(self, work: Callable[[Asked], None], asked: Asked) -> None:
        """Do this off the event loop."""
        counting = asyncio.get_running_loop().run_in_executor(self._counters, work, asked)
        self._counting.add(counting)
        counting.add_done_callback(self._counting.discard)

    def _count(self, asked: Asked) -> None:
        self._settle(asked)
        self._forget(asked)

    def _settle(self, asked: Asked) -> None:
        try:
            events = settlement.events(asked, settlement.status_of(asked))
            for made in events:
                if self.publisher is not None:
                    self.publisher.publish(made)
                self.published += 1
            self.closed += 1
            self.last_event_at = datetime.now(UTC)
            for watcher in self.watchers:
                watcher(asked, events)
        except Exception as error:
            self._failed("an event cannot be made", asked, error)

    def _part(self, asked: Asked) -> None:
        """Drop the words of the answers, at once or after learning from them."""
        try:
            teach = any(answer.teaches for answer in asked.answers)
        except Exception as error:
            self._failed("an answer cannot be compared", asked, error)
            teach = False
        if teach:
            self._beside(self._learn, asked)
        else:
            self._forget(asked)

    def _forget(self, asked: Asked) -> None:
        for answer in asked.answers:
            answer.forget()

    def _learn(self, asked: Asked) -> None:
        for answer in asked.answers:
            try:
                answer.compare()
            except Exception as error:
                self._failed("an answer cannot be compared", asked, error)
        self._forget(asked)

    def _failed(self, what: str, asked: Asked, error: Exception) -> None:
        self.failures += 1
        log.error(what, extra={"error": type(error).__name__, "event_id": asked.event_id})

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
