"""Anthropic Messages as JSON and as server-sent events: thinking, searches, text, tools between start and stop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from local.wire.turn import Frame, Piece, Tokens, Turn

_ONLY_AT_START: Final = ("cache_creation", "service_tier", "inference_geo", "speed")


def usage(tokens: Tokens, turn: Turn) -> dict[str, Any]:
    """The usage object: input_tokens are the uncached ones alone; cache writes are told as a sum and by lifetime."""
    terms = turn.terms
    told: dict[str, Any] = {
        "input_tokens": tokens.input_tokens,
        "cache_creation_input_tokens": tokens.cache_write_tokens,
        "cache_read_input_tokens": tokens.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": tokens.cache_write_1h_tokens,
        },
        "output_tokens": tokens.output_tokens,
        "service_tier": "standard" if terms.service_tier == "fast" else terms.service_tier,
        "inference_geo": terms.residency or "global",
    }
    if terms.service_tier == "fast":
        told["speed"] = "fast"
    if terms.web_searches:
        told["server_tool_use"] = {"web_search_requests": terms.web_searches, "web_fetch_requests": 0}
    if tokens.reasoning_tokens:
        told["output_tokens_details"] = {"thinking_tokens": tokens.reasoning_tokens}
    return told


def sampled(tokens: Tokens, loops: int, done: int) -> Tokens:
    """What had been consumed after `done` of `loops` samplings. The one-hour cache is written by the first of them."""
    if done >= loops:
        return tokens
    return Tokens(
        input_tokens=tokens.input_tokens * done // loops,
        cache_read_tokens=tokens.cache_read_tokens * done // loops,
        cache_write_5m_tokens=tokens.cache_write_5m_tokens * done // loops,
        cache_write_1h_tokens=tokens.cache_write_1h_tokens,
        output_tokens=tokens.output_tokens * done // loops,
        reasoning_tokens=tokens.reasoning_tokens * done // loops,
    )


def _blocks(request_id: str, turn: Turn) -> list[dict[str, Any]]:
    tail, blocks = request_id[-20:], list[dict[str, Any]]()
    if turn.thought():
        blocks.append({"type": "thinking", "thinking": turn.thought(), "signature": "c2ltdWxhdGVk"})
    for number in range(turn.terms.web_searches):
        search = f"srvtoolu_{number:02d}{tail}"
        asked = {"type": "server_tool_use", "id": search, "name": "web_search", "input": {"query": "the weather"}}
        page = {"type": "web_search_result", "url": "https://example.com/", "title": "Example", "page_age": None}
        found = {"type": "web_search_tool_result", "tool_use_id": search}
        blocks += [asked, found | {"content": [page | {"encrypted_content": "c2ltdWxhdGVk"}]}]
    if turn.tool:
        use = {"type": "tool_use", "id": f"toolu_{request_id[-24:]}", "name": turn.tool}
        blocks.append(use | {"input": json.loads(turn.arguments())})
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
        told["usage"] = usage(turn.tokens, turn)
    return told


def _deltas(block: Mapping[str, Any], turn: Turn) -> tuple[dict[str, Any], list[tuple[dict[str, Any], int]]]:
    """A block as it opens, and its deltas with their tokens."""

    def of(kind: str, field: str, pieces: list[Piece]) -> list[tuple[dict[str, Any], int]]:
        return [({"type": kind, field: text}, tokens) for text, tokens in pieces]

    if block["type"] == "thinking":
        signed = {"type": "signature_delta", "signature": block["signature"]}
        thoughts = of("thinking_delta", "thinking", turn.thoughts())
        return {"type": "thinking", "thinking": "", "signature": ""}, [*thoughts, (signed, 0)]
    if block["type"] == "tool_use":
        pieces = [Piece("", 0), *turn.argument_deltas()]
        return {**block, "input": {}}, of("input_json_delta", "partial_json", pieces)
    if block["type"] == "server_tool_use":
        pieces = [Piece(json.dumps(block["input"]), 0)]
        return {**block, "input": {}}, of("input_json_delta", "partial_json", pieces)
    if block["type"] == "text":
        return {"type": "text", "text": ""}, of("text_delta", "text", turn.deltas())
    return dict(block), []


def _opening(whole: Mapping[str, Any], turn: Turn) -> dict[str, Any]:
    """The message as the stream opens: nothing said, and of the usage what the first sampling took in."""
    begun = {**whole, "content": [], "stop_reason": None}
    if turn.usage == "end":
        begun["usage"] = {"input_tokens": 0, "output_tokens": 0}
    elif turn.usage != "omit":
        first = usage(sampled(turn.tokens, turn.loops, 1), turn) | {"output_tokens": 1}
        begun["usage"] = {k: v for k, v in first.items() if k not in ("output_tokens_details", "server_tool_use")}
    return begun


def _steps(request_id: str, request: Mapping[str, Any], turn: Turn) -> Iterator[tuple[str, dict[str, Any], int]]:
    whole = answer(request_id, request, turn)
    yield "message_start", {"message": _opening(whole, turn)}, 0
    for index, block in enumerate(whole["content"]):
        opening, deltas = _deltas(block, turn)
        yield "content_block_start", {"index": index, "content_block": opening}, 0
        if index == 0:
            yield "ping", {}, 0
        for delta, tokens in deltas:
            yield "content_block_delta", {"index": index, "delta": delta}, tokens
        yield "content_block_stop", {"index": index}, 0
    for done in range(1, turn.loops + 1):
        reason = whole["stop_reason"] if done == turn.loops else None
        end: dict[str, Any] = {"delta": {"stop_reason": reason, "stop_sequence": None}}
        if "usage" in whole:
            grown = usage(sampled(turn.tokens, turn.loops, done), turn)
            end["usage"] = {k: v for k, v in grown.items() if turn.usage == "end" or k not in _ONLY_AT_START}
        yield "message_delta", end, 0
    yield "message_stop", {}, 0


def frames(request_id: str, request: Mapping[str, Any], turn: Turn) -> Iterator[Frame]:
    """The events of a stream, each one frame."""
    for event, told, tokens in _steps(request_id, request, turn):
        data = json.dumps({"type": event, **told}, separators=(",", ":"))
        yield Frame(f"event: {event}\ndata: {data}\n\n".encode(), tokens)


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
