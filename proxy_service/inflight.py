"""Requests under way. Each is opened once, and closed once, as one event.

Closed when its answer has ended and LiteLLM has given its account of it; or, where LiteLLM says nothing (it is silent
on some answers that a caller leaves), `close_grace_s` after its end. The tokens are the provider's own, read from the
wire; LiteLLM's account adds its cost, its name for the provider and the class of an error.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import reduce
from operator import add
from typing import Any, Final, Protocol

from governance.events import Route, Status, UsageEvent, UsageSource
from governance.keys import KeyRecord
from governance.tools import Caller
from proxy_service import usage
from proxy_service.answers import Answer
from proxy_service.usage import Tokens

log = logging.getLogger(__name__)
_BACKGROUND_S = (
    60.0  # LiteLLM reads some answers to their end although the caller has left: so long after the last byte
)
_NINTH: Final = Decimal("1E-9")


class Publisher(Protocol):
    """Takes events and never keeps the caller waiting."""

    def publish(self, event: UsageEvent) -> None: ...


@dataclass(frozen=True, slots=True)
class Account:
    """What LiteLLM says of a request. The tokens serve only where the wire showed nothing that we can read."""

    provider: str | None
    model: str | None
    cost_usd: float | None
    error_class: str | None
    tokens: Tokens
    output_measured: bool


@dataclass(slots=True, eq=False)
class Asked:
    """One inference request, from its arrival to its event."""

    route: Route
    record: KeyRecord
    caller: Caller
    occurred_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_s: float = field(default_factory=time.monotonic)
    event_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    model: str | None = None
    provider: str | None = None
    stream: bool = False
    session_id: str | None = None
    prompt: dict[str, Any] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    account: Account | None = None
    refused: str | None = None
    left: bool = False
    http_status: int | None = None
    first_byte_s: float | None = None
    ended_s: float | None = None
    error_class: str | None = None


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


def status_of(asked: Asked) -> Status:
    """How it went, from the caller's side."""
    if asked.refused is not None:
        return "refused"
    if asked.left:
        return "aborted"
    broke = any(answer.error or answer.state == "broken" for answer in asked.answers)
    if asked.http_status is None or asked.http_status >= 400 or asked.error_class or broke:
        return "error"
    return "ok"


def measured(asked: Asked, status: Status) -> tuple[UsageSource, Tokens | None]:
    """Where the tokens come from, and what they are where that takes no counting."""
    consumed = [answer for answer in asked.answers if answer.state != "failed"]
    if asked.refused is not None or not consumed:
        account = asked.account
        if status == "ok" and account is not None and account.tokens.prompt_tokens:  # not over a wire that is tapped
            return ("provider" if account.output_measured else "counted"), account.tokens
        return "none", None
    told = [answer.told() for answer in consumed]
    if all(told):
        return "provider", reduce(add, (tokens for tokens in told if tokens), Tokens())
    return "counted", None


def counted(asked: Asked) -> Tokens:
    """Tokens of all answers of a request, each as told or else as counted. Slow."""
    consumed = [answer for answer in asked.answers if answer.state != "failed"]
    return reduce(add, (answer.told() or answer.counted(asked.prompt) for answer in consumed), Tokens())


def event(asked: Asked, status: Status, source: UsageSource, tokens: Tokens) -> UsageEvent:
    """The event of a request that is over."""
    account, last = asked.account, asked.answers[-1] if asked.answers else None
    provider = (account.provider if account else None) or asked.provider
    model = (last.model if last else None) or (account.model if account else None) if status != "refused" else None
    cost = account.cost_usd if account and source != "none" else None
    ended_s = asked.ended_s if asked.ended_s is not None else time.monotonic()
    return UsageEvent(
        event_id=asked.event_id,
        request_id=asked.request_id,
        occurred_at=asked.occurred_at,
        person=asked.record.person,
        team=asked.record.team,
        key_id=asked.record.key_id,
        key_kind=asked.record.kind,
        tool=asked.caller.family,
        tool_version=_short(asked.caller.version),
        user_agent=asked.caller.user_agent,
        session_id=asked.caller.session_id or asked.session_id,
        route=asked.route,
        provider=_short(provider),
        model_requested=_short(asked.model),
        model=_short(_bare(model, provider)),
        provider_request_id=_short(last.id if last else None),
        stream=asked.stream,
        status=status,
        http_status=asked.http_status,
        error_class=_short(_error_class(asked, status)),
        latency_ms=_ms(ended_s - asked.started_s),
        time_to_first_token_ms=_ms(asked.first_byte_s - asked.started_s) if asked.first_byte_s else None,
        usage_source=source,
        input_tokens=tokens.input_tokens,
        cache_read_tokens=tokens.cache_read_tokens,
        cache_write_5m_tokens=tokens.cache_write_5m_tokens,
        cache_write_1h_tokens=tokens.cache_write_1h_tokens,
        output_tokens=tokens.output_tokens,
        reasoning_tokens=tokens.reasoning_tokens,
        gateway_cost_usd=Decimal(repr(cost)).quantize(_NINTH) if cost is not None and cost >= 0 else None,
        billing_mode="subscription" if last and last.own_credential else "metered",
        service_tier=last.tier if last else None,
        residency=last.residency if last else None,
        long_context=usage.long_context(provider, _bare(model, provider), tokens),
    )


def _error_class(asked: Asked, status: Status) -> str | None:
    if status == "ok":
        return None
    if status == "refused":
        return asked.refused
    if status == "aborted":
        return "ClientDisconnected"
    told = (asked.account.error_class if asked.account else None) or asked.error_class
    from_wire = next((answer.error for answer in asked.answers if answer.error), None)
    return told or from_wire or (f"HTTP{asked.http_status}" if (asked.http_status or 0) >= 400 else "StreamBroken")


def _bare(model: str | None, provider: str | None) -> str | None:
    """The model's name without LiteLLM's prefix for its provider."""
    return model.removeprefix(f"{provider}/") if model and provider else model


def _short(text: str | None) -> str | None:
    return text[:200] if text else None


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
