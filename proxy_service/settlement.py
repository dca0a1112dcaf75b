"""What a request that is over comes to: how it went, where its tokens come from, its events. Pure, save counting.

There is one event for each call to a provider that may be on its bill, or one where there was none. The tokens are the
provider's own, read from the wire, wherever it told them; else they are counted, and the event says which.
"""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from governance.events import Status, UsageEvent, UsageSource
from proxy_service.answers import Answer
from proxy_service.asked import Asked
from proxy_service.usage import Tokens

log = logging.getLogger(__name__)
_NINTH: Final = Decimal("1E-9")


@dataclass(frozen=True, slots=True)
class Measure:
    """What one call consumed, and who says so."""

    source: UsageSource
    tokens: Tokens


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


def is_complete(asked: Asked) -> bool:
    """Whether all is told of a request that has ended. LiteLLM tells of failed calls first, too."""
    if asked.refused is not None or asked.account is None:
        return asked.refused is not None
    if any(answer.open for answer in asked.answers):  # its provider may still write, and charge for it
        return False
    return asked.account.error_class is None or status_of(asked) != "ok"


def billed(asked: Asked) -> list[Answer]:
    """The calls to a provider that may be on its bill, in their order."""
    return [answer for answer in asked.answers if answer.state != "failed"] if asked.refused is None else []


def must_be_counted(asked: Asked) -> bool:
    """Whether tokens of this request have to be counted, which takes time."""
    return not all(answer.told() for answer in billed(asked))


def events(asked: Asked, status: Status) -> list[UsageEvent]:
    """The events of a request that is over; the last is the request's own. Slow where tokens must be counted."""
    calls = billed(asked)
    made = [_superseded(asked, answer) for answer in calls[:-1]]
    made += [_advised(asked, answer, *call) for answer in calls for call in answer.advised()]
    last = calls[-1] if calls else None
    measure = _measured(asked, last) if last is not None else _unwired(asked, status)
    return [*made, _own(asked, status, last or (asked.answers[-1] if asked.answers else None), measure)]


def _measured(asked: Asked, answer: Answer) -> Measure:
    try:
        told = answer.told()
        if told is not None:
            return Measure("provider", told)
        return Measure("counted", answer.counted(asked.prompt))
    except Exception as error:  # the request is an event all the same
        log.error("an answer cannot be counted", extra={"error": type(error).__name__})
        return Measure("counted", Tokens())


def _unwired(asked: Asked, status: Status) -> Measure:
    """Of a request without a billed call on the wire: LiteLLM's word, where it says that there was an answer."""
    account = asked.account
    if status == "ok" and account is not None and account.tokens.prompt_tokens:
        return Measure("provider" if account.output_measured else "counted", account.tokens)
    return Measure("none", Tokens())


def _own(asked: Asked, status: Status, answer: Answer | None, measure: Measure) -> UsageEvent:
    """The event of the request itself, with its last call."""
    account = asked.account
    provider = (account.provider if account else None) or (answer.provider if answer else None) or asked.provider
    model = (answer.model if answer else None) or (account.model if account else None)
    other = account is not None and account.error_class is not None and status == "ok"  # it tells of an earlier call
    cost = account.cost_usd if account and not other and measure.source != "none" else None
    ended_s = asked.ended_s if asked.ended_s is not None else time.monotonic()
    return UsageEvent(
        event_id=asked.event_id,
        stream=asked.stream,
        status=status,
        http_status=asked.http_status,
        error_class=_short(_error_class(asked, status)),
        latency_ms=_ms(ended_s - asked.started_s),
        time_to_first_token_ms=_ms(asked.first_byte_s - asked.started_s) if asked.first_byte_s else None,
        gateway_cost_usd=Decimal(repr(cost)).quantize(_NINTH) if cost is not None and cost >= 0 else None,
        **_whose(asked),
        **_served(provider, model if status != "refused" else None, answer),
        **_consumed(measure),
        **_beside(answer if measure.source != "none" else None),
    )


def _superseded(asked: Asked, answer: Answer) -> UsageEvent:
    """The event of a call that is billed, although another was made in its place."""
    broken = bool(answer.error) or answer.state != "whole"
    return UsageEvent(
        event_id=uuid.uuid4().hex,
        superseded=True,
        stream=asked.stream,
        status="error" if broken else "ok",
        error_class=(answer.error or "StreamBroken") if broken else None,
        **_whose(asked),
        **_served(answer.provider or asked.provider, answer.model, answer),
        **_consumed(_measured(asked, answer)),
        **_beside(answer),
    )


def _advised(asked: Asked, answer: Answer, model: str, tokens: Tokens) -> UsageEvent:
    """The event of a call to another model that the provider made on the way to an answer, and bills as such."""
    return UsageEvent(
        event_id=uuid.uuid4().hex,
        superseded=True,
        stream=asked.stream,
        status="ok",
        **_whose(asked),
        **_served(answer.provider or asked.provider, model or answer.model, answer),
        **_consumed(Measure("provider", tokens)),
    )


def _whose(asked: Asked) -> dict[str, Any]:
    return {
        "request_id": asked.request_id,
        "occurred_at": asked.occurred_at,
        "person": asked.record.person,
        "team": asked.record.team,
        "key_id": asked.record.key_id,
        "key_kind": asked.record.kind,
        "tool": asked.caller.family,
        "tool_version": _short(asked.caller.version),
        "user_agent": asked.caller.user_agent,
        "session_id": asked.caller.session_id or asked.session_id,
        "route": asked.route,
        "model_requested": _short(asked.model),
        "network": asked.network,
    }


def _served(provider: str | None, model: str | None, answer: Answer | None) -> dict[str, Any]:
    return {
        "provider": _short(provider),
        "model": _short(_bare(model, provider)),
        "provider_request_id": _short(answer.id if answer else None),
        "billing_mode": "subscription" if answer and answer.own_credential else "metered",
        "service_tier": answer.tier if answer else None,
        "residency": answer.residency if answer else None,
    }


def _consumed(measure: Measure) -> dict[str, Any]:
    return {"usage_source": measure.source, **{name: getattr(measure.tokens, name) for name in Tokens.__slots__}}


def _beside(answer: Answer | None) -> dict[str, Any]:
    """What the provider told beside the tokens."""
    return {"provider_cost_usd": answer.cost_usd, "raw_usage": answer.raw_usage} if answer else {}


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
