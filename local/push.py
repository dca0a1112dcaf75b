"""One push subscription of the local Pub/Sub: what is due is posted, what is refused comes again later."""

from __future__ import annotations

import asyncio
import base64
import heapq
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
from google.pubsub_v1 import types

from local import journal
from local.journal import Change, Journal, Message

TAKEN = frozenset({102, 200, 201, 202, 204})
PATIENCE: Final = 20  # failures in a row, from which the endpoint is taken to be down
PROBE_S: Final = 0.5  # between attempts while it is
Commit = Callable[[list[Change]], Awaitable[None]]
DeadLetter = Callable[[str, Message, list[Change]], Awaitable[bool]]

log = logging.getLogger("tally.pubsub")


class Push:
    """Posts a subscription's messages, `concurrency` at once, in the order in which they fall due."""

    def __init__(
        self, subscription: types.Subscription, http: aiohttp.ClientSession, file: Journal, commit: Commit,
        dead_letter: DeadLetter, concurrency: int,
    ) -> None:  # fmt: skip
        self.subscription, self.name = subscription, str(subscription.name)
        self._http, self._file, self._commit, self._dead_letter = http, file, commit, dead_letter
        self._due = [(0.0, id, attempts) for id, attempts in file.undelivered(self.name)]
        self._arrived = asyncio.Event()
        self._slots = asyncio.Semaphore(concurrency)
        self._posts: set[asyncio.Task[None]] = set()
        self._failures = 0  # in a row
        self._running = asyncio.create_task(self._run())

    def add(self, messages: list[int]) -> None:
        """These messages, already in the journal, are due now."""
        for id in messages:
            heapq.heappush(self._due, (time.monotonic(), id, 0))
        self._arrived.set()

    async def close(self) -> None:
        """Stop at once; what was under way will be delivered again."""
        tasks = [self._running, *self._posts]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._slots.acquire()
            if self._failures >= PATIENCE:
                await asyncio.sleep(PROBE_S)
            id, attempts = await self._next()
            post = asyncio.create_task(self._deliver(id, attempts + 1))
            self._posts.add(post)
            post.add_done_callback(self._posted)

    def _posted(self, post: asyncio.Task[None]) -> None:
        self._posts.discard(post)
        self._slots.release()
        if not post.cancelled() and post.exception():
            log.error("a delivery ended unexpectedly; it waits for the next start", exc_info=post.exception())

    async def _next(self) -> tuple[int, int]:
        """(message id, attempts so far) of the delivery that falls due first, once it is due."""
        while True:
            wait_s = self._due[0][0] - time.monotonic() if self._due else None
            if wait_s is not None and wait_s <= 0:
                _, id, attempts = heapq.heappop(self._due)
                return id, attempts
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), wait_s)
            except TimeoutError:
                continue

    async def _deliver(self, id: int, attempt: int) -> None:
        try:
            message = self._file.message(id)
        except KeyError:  # taken meanwhile: it was in the queue twice
            return
        settled = journal.taken(id, self.name)
        if await self._post(message, attempt):
            self._failures = 0
            await self._commit(settled)
            return
        self._failures += 1
        policy = self.subscription.dead_letter_policy
        if policy.max_delivery_attempts and attempt >= policy.max_delivery_attempts:
            dead = self._as_dead_letter(message, attempt)
            if await self._dead_letter(policy.dead_letter_topic, dead, settled):
                return
        await self._commit(journal.failed(id, self.name, attempt))
        heapq.heappush(self._due, (time.monotonic() + self._backoff_s(attempt), id, attempt))
        self._arrived.set()

    async def _post(self, message: Message, attempt: int) -> bool:
        body = json.dumps(self._envelope(message, attempt)).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "tally-local-pubsub"}
        limit = aiohttp.ClientTimeout(self.subscription.ack_deadline_seconds or 10)
        url = self.subscription.push_config.push_endpoint
        try:
            async with self._http.post(url, data=body, headers=headers, timeout=limit) as answer:
                return answer.status in TAKEN
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def _envelope(self, message: Message, attempt: int) -> dict[str, Any]:
        """A push request's body, with both spellings of each name, as the service sends them."""
        inner: dict[str, Any] = {
            "data": base64.b64encode(message.data).decode(),
            "attributes": message.attributes,
            "messageId": str(message.id),
            "message_id": str(message.id),
            "publishTime": message.published_at,
            "publish_time": message.published_at,
        }
        if message.ordering_key:
            inner["orderingKey"] = message.ordering_key
        envelope: dict[str, Any] = {"message": inner, "subscription": self.name}
        if self.subscription.dead_letter_policy.max_delivery_attempts:
            envelope["deliveryAttempt"] = attempt
        return envelope

    def _as_dead_letter(self, message: Message, attempt: int) -> Message:
        prefix = "CloudPubSubDeadLetterSource"
        source = {
            f"{prefix}DeliveryCount": str(attempt),
            f"{prefix}Subscription": self.name.rsplit("/", 1)[1],
            f"{prefix}SubscriptionProject": self.name.split("/")[1],
            f"{prefix}TopicPublishTime": message.published_at,
        }
        attributes = message.attributes | source
        return Message(message.id, message.data, attributes, message.ordering_key, message.published_at)

    def _backoff_s(self, attempt: int) -> float:
        policy = self.subscription.retry_policy
        lowest = policy.minimum_backoff.total_seconds() if policy.minimum_backoff else 0.1
        highest = policy.maximum_backoff.total_seconds() if policy.maximum_backoff else 60.0
        return float(min(highest, max(lowest, 0.01) * 2 ** min(attempt - 1, 30)))
