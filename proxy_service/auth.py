"""Whose key is it? The registry, asked at most once per key in some seconds, and believed a while when it is silent.

A key that cannot be one is turned away unasked. Only the HMAC of a key is kept here. A key known lately is trusted
while the registry cannot be reached (`key_stale_s`); an unknown one is refused then: nobody gets in by an outage.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from governance import keys
from governance.keys import KeyRecord
from governance.registry import Registry

if TYPE_CHECKING:
    from fastapi import Request
    from litellm.proxy._types import UserAPIKeyAuth

log = logging.getLogger(__name__)

# Where a key may stand, first found wins: beside a login of the caller's own it travels in a header of its own.
HEADERS: Final = ("x-litellm-api-key", "authorization", "x-api-key", "api-key")
_KNOWN, _UNKNOWN, _WAIT_S, _LOOKUPS = 50_000, 10_000, 1.0, 8


class RegistrySilent(Exception):
    """The registry does not answer, and nothing is known about this key."""


@dataclass(slots=True)
class Holder:
    """A key of ours, and whose it is."""

    record: KeyRecord
    hashed: str
    asked_at: float = 0.0  # monotonic seconds
    litellm: UserAPIKeyAuth | None = field(default=None, repr=False)  # the same, in LiteLLM's words; made on first use
    holds_until: float = field(init=False)  # seconds since 1970

    def __post_init__(self) -> None:
        ends_at = self.record.expires_at
        self.holds_until = 0.0 if self.record.revoked_at else ends_at.timestamp() if ends_at else math.inf


# Set by the middleware, read by `custom_auth`: LiteLLM believes nobody else.
HOLDER: ContextVar[Holder | None] = ContextVar("holder", default=None)


def presented(headers: Mapping[str, str]) -> str | None:
    """The first header's value that could be a key of ours; None when there is none."""
    for name in HEADERS:
        value = headers.get(name)
        if value:
            key = value[7:].strip() if value[:7].lower() == "bearer " else value.strip()
            if keys.well_formed(key):
                return key
    return None


class KeyCheck:
    """Keys to their holders. One per process, used on the event loop."""

    def __init__(
        self,
        registry: Registry,
        pepper: str,
        ttl_s: float,
        stale_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry, self._pepper, self._ttl_s, self._stale_s, self._clock = registry, pepper, ttl_s, stale_s, clock
        self._known: dict[str, Holder] = {}
        self._unknown: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[Holder | None]] = {}
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="registry")
        self.lookups = self.stale = 0

    def cached(self, key: str) -> Holder | None:
        """The holder of a well-formed key, when it was asked for within the TTL. Microseconds; no I/O."""
        holder = self._known.get(keys.key_hash(key, self._pepper))
        return holder if holder is not None and self._clock() - holder.asked_at < self._ttl_s else None

    async def holder(self, key: str) -> Holder | None:
        """The holder of a well-formed key, revoked or not; None: no such key. Raises RegistrySilent."""
        hashed, now = keys.key_hash(key, self._pepper), self._clock()
        known = self._known.get(hashed)
        if known is not None and now - known.asked_at < self._ttl_s:
            return known
        if known is None and now - self._unknown.get(hashed, -self._ttl_s) < self._ttl_s:
            return None
        task = self._asking.get(hashed)
        if task is None:
            task = self._asking[hashed] = asyncio.create_task(self._ask(hashed))
            task.add_done_callback(lambda _: self._asking.pop(hashed, None))
        fresh_enough = known is not None and now - known.asked_at < self._stale_s
        done, _ = await asyncio.wait({task}, timeout=_WAIT_S if fresh_enough else None)
        if done and task.exception() is None:
            return task.result()
        if fresh_enough:
            self.stale += 1
            return known
        raise RegistrySilent

    async def _ask(self, hashed: str) -> Holder | None:
        """Read the key's document. Its age counts from before the question: a revocation after it may be unseen."""
        asked_at, loop = self._clock(), asyncio.get_running_loop()
        self.lookups += 1
        try:
            document = await loop.run_in_executor(self._threads, self._registry.get, keys.COLLECTION, hashed)
            record = KeyRecord.model_validate(document.fields) if document is not None else None
        except ValidationError as error:
            log.error(
                "a key's document cannot be read", extra={"key_id": keys.key_id(hashed), "faults": len(error.errors())}
            )
            record = None
        except Exception as error:
            log.warning("the key registry does not answer", extra={"error": type(error).__name__})
            raise
        if record is None:
            self._known.pop(hashed, None)
            _remember(self._unknown, hashed, asked_at, _UNKNOWN)
            return None
        self._unknown.pop(hashed, None)
        holder = Holder(record, hashed, asked_at)
        _remember(self._known, hashed, holder, _KNOWN)
        return holder

    def close(self) -> None:
        """Let go of the threads; a look-up under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _remember(cache: dict[str, Any], name: str, value: object, bound: int) -> None:
    """Put it last; the longest unasked goes when the cache is full."""
    cache.pop(name, None)
    cache[name] = value
    if len(cache) > bound:
        del cache[next(iter(cache))]


def refusal(holder: Holder, now: datetime | None = None) -> str | None:
    """Why this holder may not use the key now, in words for them; None when they may."""
    if now is None and time.time() < holder.holds_until:
        return None
    return holder.record.refusal(now or datetime.now(UTC))


INFERENCE: Final = [
    "/v1/chat/completions",
    "/v1/messages",
    "/v1/responses",
    "/v1/embeddings",
]


async def custom_auth(request: Request, api_key: str) -> UserAPIKeyAuth:
    """LiteLLM asks who is calling. The middleware knows already: what stands in the request is not looked at."""
    from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth

    holder = HOLDER.get()
    if holder is None:  # not through the middleware: there is no such way in, and if there were, it is shut
        raise ProxyException(message="Not through the gateway.", type="auth_error", param="api_key", code=401)
    if holder.litellm is None:
        record = holder.record
        holder.litellm = UserAPIKeyAuth(
            api_key=holder.hashed,
            user_id=record.person or f"service:{record.key_id}",
            team_id=record.team,
            key_alias=record.key_id,
            allowed_routes=INFERENCE,
            user_role=LitellmUserRoles.INTERNAL_USER,
        )
    return holder.litellm.model_copy()
