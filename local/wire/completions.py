"""OpenAI chat completions and embeddings, as JSON and as events; OpenRouter and Moonshot in the same shape."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from local.wire.turn import Tokens, Turn

ARGUMENTS = '{"path":"notes.txt"}'  # of every simulated tool call
_DIMENSIONS = 8


def usage(provider: str, tokens: Tokens, cost_usd: Decimal) -> dict[str, Any]:
    """The usage object: cached and written tokens stand inside prompt_tokens; OpenRouter adds what it charges."""
    told: dict[str, Any] = {
        "prompt_tokens": tokens.prompt_tokens,
        "completion_tokens": tokens.output_tokens,
        "total_tokens": tokens.prompt_tokens + tokens.output_tokens,
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning_tokens, "audio_tokens": 0},
    }
    if tokens.cache_write_tokens:
        told["prompt_tokens_details"]["cache_write_tokens"] = tokens.cache_write_tokens
    if provider == "moonshot":
        told["cached_tokens"] = tokens.cache_read_tokens
    if provider == "openrouter":
        told |= {"cost": float(cost_usd), "is_byok": False, "cost_details": {"upstream_inference_cost": None}}
    return told


def sends_usage(provider: str, request: Mapping[str, Any], turn: Turn) -> bool:
    """Whether the answer tells its usage: without a stream always, on a stream only when asked (OpenRouter: always)."""
    if turn.usage == "omit" or not request.get("stream"):
        return turn.usage != "omit"
    asked = bool((request.get("stream_options") or {}).get("include_usage"))
    return asked or turn.usage == "send" or provider == "openrouter"


def _thought(provider: str, turn: Turn) -> dict[str, str]:
    field = {"openrouter": "reasoning", "moonshot": "reasoning_content"}.get(provider)
    return {field: turn.thought()} if field and turn.thought() else {}


def answer(request_id: str, provider: str, request: Mapping[str, Any], turn: Turn, cost_usd: Decimal) -> dict[str, Any]:
    """A `chat.completion`."""
    message: dict[str, Any] = {"role": "assistant", "content": turn.text(), "refusal": None, **_thought(provider, turn)}
    if turn.tool:
        call = {"id": f"call_{request_id[-12:]}", "type": "function"}
        message |= {"content": None, "tool_calls": [call | {"function": {"name": turn.tool, "arguments": ARGUMENTS}}]}
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
        "service_tier": "default",
        "system_fingerprint": None,
    }
    if sends_usage(provider, request, turn):
        told["usage"] = usage(provider, turn.tokens, cost_usd)
    return told


def frames(
    request_id: str, provider: str, request: Mapping[str, Any], turn: Turn, cost_usd: Decimal
) -> Iterator[bytes]:
    """The `chat.completion.chunk`s of a stream, each one frame; usage stands in a chunk of its own."""
    told_usage = sends_usage(provider, request, turn)
    head = {"id": request_id, "object": "chat.completion.chunk", "created": int(time.time()), "model": request["model"]}

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        body = head | {"choices": [choice]} | ({"usage": None} if told_usage else {})
        return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    if thought := _thought(provider, turn):
        yield chunk(thought)
    if turn.tool:
        call = {"index": 0, "id": f"call_{request_id[-12:]}", "type": "function"}
        yield chunk({"tool_calls": [call | {"function": {"name": turn.tool, "arguments": ""}}]})
        half = len(ARGUMENTS) // 2
        for piece in (ARGUMENTS[:half], ARGUMENTS[half:]):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    else:
        for piece in turn.deltas():
            yield chunk({"content": piece})
    yield chunk({}, "tool_calls" if turn.tool else "stop")
    if told_usage:
        body = head | {"choices": [], "usage": usage(provider, turn.tokens, cost_usd)}
        yield b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


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
