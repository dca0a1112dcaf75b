"""OpenAI chat completions and embeddings, as JSON and as events; OpenRouter and Moonshot in the same shape."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from local.wire.turn import Frame, Turn

_DIMENSIONS = 8
_BYOK_FEE = Decimal("0.05")  # OpenRouter's share of what the vendor charges for a request with the caller's own key


def usage(provider: str, turn: Turn, cost_usd: Decimal) -> dict[str, Any]:
    """The usage object: cached and written tokens stand inside prompt_tokens; OpenRouter adds what it charges."""
    tokens = turn.tokens
    told: dict[str, Any] = {
        "prompt_tokens": tokens.prompt_tokens,
        "completion_tokens": tokens.output_tokens,
        "total_tokens": tokens.prompt_tokens + tokens.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": tokens.cache_read_tokens,
            "audio_tokens": tokens.input_audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning_tokens,
            "audio_tokens": tokens.output_audio_tokens,
        },
    }
    if tokens.cache_write_tokens:
        told["prompt_tokens_details"]["cache_write_tokens"] = tokens.cache_write_tokens
    if provider == "moonshot":
        told["cached_tokens"] = tokens.cache_read_tokens
    if provider == "openrouter":
        told |= _charged(cost_usd, turn.byok)
        if turn.terms.web_searches:
            told["server_tool_use"] = {"web_search_requests": turn.terms.web_searches}
    return told


def with_fee(cost_usd: Decimal) -> Decimal:
    """What a request with the caller's own key costs in all: the vendor's price, and OpenRouter's fee."""
    return cost_usd * (1 + _BYOK_FEE)


def _charged(cost_usd: Decimal, byok: bool) -> dict[str, Any]:
    """What OpenRouter charges. A float tells fifteen digits exactly, and no cost here has more."""
    upstream = cost_usd / (1 + _BYOK_FEE) if byok else None
    told = {"upstream_inference_cost": None if upstream is None else float(upstream)}
    return {"cost": float(cost_usd - (upstream or 0)), "is_byok": byok, "cost_details": told}


def sends_usage(provider: str, request: Mapping[str, Any], turn: Turn) -> bool:
    """Whether the answer tells its usage: without a stream always, on a stream only when asked (OpenRouter: always)."""
    if turn.usage == "omit" or not request.get("stream"):
        return turn.usage != "omit"
    asked = bool((request.get("stream_options") or {}).get("include_usage"))
    return asked or turn.usage == "send" or provider == "openrouter"


_THOUGHT = {"openrouter": "reasoning", "moonshot": "reasoning_content"}  # OpenAI tells nothing of it here
_TIERS = {"standard": "default"}  # in OpenAI's words; the others are called alike


def _tier(provider: str, turn: Turn) -> dict[str, str]:
    tier = turn.terms.service_tier
    return {"service_tier": _TIERS.get(tier, tier)} if provider == "openai" else {}


def answer(request_id: str, provider: str, request: Mapping[str, Any], turn: Turn, cost_usd: Decimal) -> dict[str, Any]:
    """A `chat.completion`."""
    message: dict[str, Any] = {"role": "assistant", "content": turn.text(), "refusal": None}
    if provider in _THOUGHT and turn.thought():
        message[_THOUGHT[provider]] = turn.thought()
    if turn.tool:
        call = {"id": f"call_{request_id[-12:]}", "type": "function"}
        message |= {
            "content": None,
            "tool_calls": [call | {"function": {"name": turn.tool, "arguments": turn.arguments()}}],
        }
    told: dict[str, Any] = {
        "id": request_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request["model"],
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": "tool_calls" if turn.tool else "stop",
            }
        ],
        "system_fingerprint": None,
    } | _tier(provider, turn)
    if sends_usage(provider, request, turn):
        told["usage"] = usage(provider, turn, cost_usd)
    return told


def frames(
    request_id: str, provider: str, request: Mapping[str, Any], turn: Turn, cost_usd: Decimal
) -> Iterator[Frame]:
    """The `chat.completion.chunk`s of a stream; usage in one of its own, or (usage=end) in the last choice's."""
    told = usage(provider, turn, cost_usd) if sends_usage(provider, request, turn) else None
    head = {"id": request_id, "object": "chat.completion.chunk", "created": int(time.time()), "model": request["model"]}
    head |= _tier(provider, turn)

    def chunk(delta: Mapping[str, Any], finish: str | None = None, tokens: int = 0) -> Frame:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        body = head | {"choices": [choice]} | ({"usage": None} if told else {})
        if finish and told and turn.usage == "end":
            body["usage"] = told
        return _frame(body, tokens)

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    for text, tokens in turn.thoughts():
        yield chunk({_THOUGHT[provider]: text}, None, tokens) if provider in _THOUGHT else Frame(b"", tokens)
    if turn.tool:
        call = {"index": 0, "id": f"call_{request_id[-12:]}", "type": "function"}
        yield chunk({"tool_calls": [call | {"function": {"name": turn.tool, "arguments": ""}}]})
        for text, tokens in turn.argument_deltas():
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}, None, tokens)
    else:
        for text, tokens in turn.deltas():
            yield chunk({"content": text}, None, tokens)
    yield chunk({}, "tool_calls" if turn.tool else "stop")
    if told and turn.usage != "end":
        yield _frame(head | {"choices": [], "usage": told})
    yield Frame(b"data: [DONE]\n\n")


def _frame(body: Mapping[str, Any], tokens: int = 0) -> Frame:
    return Frame(b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n", tokens)


def embeddings(request: Mapping[str, Any], turn: Turn) -> dict[str, Any]:
    """One small vector for each input."""
    given = request.get("input")
    count = len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1
    vector = [0.125] * _DIMENSIONS
    told: dict[str, Any] = {
        "object": "list",
        "model": request["model"],
        "data": [{"object": "embedding", "index": at, "embedding": vector} for at in range(count)],
    }
    if turn.usage != "omit":
        told["usage"] = {"prompt_tokens": turn.tokens.prompt_tokens, "total_tokens": turn.tokens.prompt_tokens}
    return told


def error(status: int, what: str = "") -> dict[str, Any]:
    """The body of an error answer."""
    kind, code = {
        400: ("invalid_request_error", None),
        401: ("invalid_request_error", "invalid_api_key"),
        404: ("invalid_request_error", "model_not_found"),
        429: ("requests", "rate_limit_exceeded"),
    }.get(status, ("server_error", None))
    message = what or f"The simulated provider was told to answer {status}."
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
