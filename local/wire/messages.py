"""Anthropic Messages as JSON and as server-sent events: thinking, text and tool-use blocks between start and stop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from local.wire.completions import ARGUMENTS
from local.wire.turn import Tokens, Turn


def usage(tokens: Tokens) -> dict[str, Any]:
    """The usage object: input_tokens are the uncached ones alone; cache writes are told as a sum and by lifetime."""
    told: dict[str, Any] = {
        "input_tokens": tokens.input_tokens,
        "cache_creation_input_tokens": tokens.cache_write_tokens,
        "cache_read_input_tokens": tokens.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": tokens.cache_write_1h_tokens,
        },
        "output_tokens": tokens.output_tokens,
        "service_tier": "standard",
    }
    if tokens.reasoning_tokens:
        told["output_tokens_details"] = {"thinking_tokens": tokens.reasoning_tokens}
    return told


def _blocks(request_id: str, turn: Turn) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if turn.thought():
        blocks.append({"type": "thinking", "thinking": turn.thought(), "signature": "c2ltdWxhdGVk"})
    if turn.tool:
        use = {"type": "tool_use", "id": f"toolu_{request_id[-24:]}", "name": turn.tool}
        blocks.append(use | {"input": json.loads(ARGUMENTS)})
    else:
        blocks.append({"type": "text", "text": turn.text()})
    return blocks


def answer(request_id: str, request: Mapping[str, Any], turn: Turn) -> dict[str, Any]:
    """A `message`."""
    told: dict[str, Any] = {
        "id": request_id,
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": _blocks(request_id, turn),
        "stop_reason": "tool_use" if turn.tool else "end_turn",
        "stop_sequence": None,
    }
    if turn.usage != "omit":
        told["usage"] = usage(turn.tokens)
    return told


def _deltas(block: Mapping[str, Any], turn: Turn) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if block["type"] == "thinking":
        thought = {"type": "thinking_delta", "thinking": block["thinking"]}
        signed = {"type": "signature_delta", "signature": block["signature"]}
        yield {"type": "thinking", "thinking": "", "signature": ""}, [thought, signed]
    elif block["type"] == "tool_use":
        half = len(ARGUMENTS) // 2
        pieces = ("", ARGUMENTS[:half], ARGUMENTS[half:])
        yield {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    else:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": delta} for delta in turn.deltas()]


def _steps(request_id: str, request: Mapping[str, Any], turn: Turn) -> Iterator[tuple[str, dict[str, Any]]]:
    whole = answer(request_id, request, turn)
    begun = whole | {"content": [], "stop_reason": None}
    if "usage" in begun:
        begun["usage"] = {k: v for k, v in begun["usage"].items() if k != "output_tokens_details"} | {
            "output_tokens": 1
        }
    yield "message_start", {"message": begun}
    for index, block in enumerate(whole["content"]):
        for opening, deltas in _deltas(block, turn):
            yield "content_block_start", {"index": index, "content_block": opening}
            if index == 0:
                yield "ping", {}
            for delta in deltas:
                yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}
    end: dict[str, Any] = {"delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None}}
    if "usage" in whole:
        end["usage"] = {k: v for k, v in whole["usage"].items() if k not in ("cache_creation", "service_tier")}
    yield "message_delta", end
    yield "message_stop", {}


def frames(request_id: str, request: Mapping[str, Any], turn: Turn) -> Iterator[bytes]:
    """The events of a stream, each one frame."""
    for event, fields in _steps(request_id, request, turn):
        yield f"event: {event}\ndata: {json.dumps({'type': event, **fields}, separators=(',', ':'))}\n\n".encode()


def error(status: int, request_id: str, what: str = "") -> dict[str, Any]:
    """The body of an error answer."""
    kind = {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        529: "overloaded_error",
    }.get(status, "api_error")
    message = what or f"The simulated provider was told to answer {status}."
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
