"""What a request that is over comes to: how it went, where its tokens come from, its event. Pure, but for the counting.

The tokens are the provider's own, read from the wire, wherever it told them; else they are counted, and the event says
which.
"""

from __future__ import annotations

import time
from decimal import Decimal
from functools import reduce
from operator import add
from typing import Final

from governance.events import Status, UsageEvent, UsageSource
from proxy_service import usage
from proxy_service.answers import Answer
from proxy_service.asked import Asked
from proxy_service.usage import Tokens

_NINTH: Final = Decimal("1E-9")


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
    consumed = _consumed(asked)
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
    return reduce(add, (answer.told() or answer.counted(asked.prompt) for answer in _consumed(asked)), Tokens())


def _consumed(asked: Asked) -> list[Answer]:
    """The calls to a provider that may be on its bill."""
    return [answer for answer in asked.answers if answer.state != "failed"]


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
