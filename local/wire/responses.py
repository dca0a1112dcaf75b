"""OpenAI Responses as JSON and as server-sent events: reasoning, search, message and function-call items."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from local.wire.turn import Frame, Tokens, Turn


def usage(tokens: Tokens) -> dict[str, Any]:
    """The usage object: cached and written tokens stand inside input_tokens, reasoning inside output_tokens."""
    return {
        "input_tokens": tokens.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": tokens.cache_read_tokens,
            "cache_write_tokens": tokens.cache_write_tokens,
        },
        "output_tokens": tokens.output_tokens,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning_tokens},
        "total_tokens": tokens.prompt_tokens + tokens.output_tokens,
    }


def _items(request_id: str, turn: Turn) -> list[dict[str, Any]]:
    tail = request_id.removeprefix("resp_")
    items: list[dict[str, Any]] = []
    if turn.summary():
        summary = [{"type": "summary_text", "text": turn.summary()}]
        items.append({"id": f"rs_{tail}", "type": "reasoning", "summary": summary, "encrypted_content": None})
    for number in range(turn.terms.web_searches):
        search = {"id": f"ws_{number:02d}{tail}", "type": "web_search_call", "status": "completed"}
        items.append(search | {"action": {"type": "search", "query": "the weather", "queries": ["the weather"]}})
    if turn.tool:
        call = {"id": f"fc_{tail}", "type": "function_call", "status": "completed", "call_id": f"call_{tail[-12:]}"}
        items.append(call | {"name": turn.tool, "arguments": turn.arguments()})
    else:
        content = [{"type": "output_text", "text": turn.text(), "annotations": [], "logprobs": []}]
        message = {"id": f"msg_{tail}", "type": "message", "status": "completed", "role": "assistant"}
        items.append(message | {"content": content})
    return items


def answer(request_id: str, request: Mapping[str, Any], turn: Turn, status: str = "completed") -> dict[str, Any]:
    """A `response`; output and usage are empty until it is completed."""
    done, tier = status == "completed", turn.terms.service_tier
    return {
        "id": request_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": request.get("max_output_tokens"),
        "model": request["model"],
        "output": _items(request_id, turn) if done else [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": (request.get("reasoning") or {}).get("effort"), "summary": None},
        "service_tier": ("default" if tier == "standard" else tier) if done else request.get("service_tier", "auto"),
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage(turn.tokens) if done and turn.usage != "omit" else None,
        "user": None,
        "metadata": {},
    }


Step = tuple[str, dict[str, Any], int]  # event, its fields, tokens of the output in it


def _reasoning(at: int, item: Mapping[str, Any], turn: Turn) -> Iterator[Step]:
    """A reasoning item: the summary alone is told, whatever the reasoning took."""
    part, text = {"item_id": item["id"], "output_index": at, "summary_index": 0}, turn.summary()
    yield "response.output_item.added", {"output_index": at, "item": {**item, "summary": []}}, 0
    for _, tokens in turn.thoughts():
        yield "", {}, tokens  # it thinks, and says nothing
    yield "response.reasoning_summary_part.added", part | {"part": {"type": "summary_text", "text": ""}}, 0
    yield "response.reasoning_summary_text.delta", part | {"delta": text}, 0
    yield "response.reasoning_summary_text.done", part | {"text": text}, 0
    yield "response.reasoning_summary_part.done", part | {"part": {"type": "summary_text", "text": text}}, 0


def _function_call(at: int, item: Mapping[str, Any], turn: Turn) -> Iterator[Step]:
    where = {"item_id": item["id"], "output_index": at}
    begun = {**item, "status": "in_progress", "arguments": ""}
    yield "response.output_item.added", {"output_index": at, "item": begun}, 0
    for text, tokens in turn.argument_deltas():
        yield "response.function_call_arguments.delta", where | {"delta": text}, tokens
    yield "response.function_call_arguments.done", where | {"name": item["name"], "arguments": item["arguments"]}, 0


def _web_search_call(at: int, item: Mapping[str, Any], turn: Turn) -> Iterator[Step]:
    where = {"item_id": item["id"], "output_index": at}
    yield "response.output_item.added", {"output_index": at, "item": {**item, "status": "in_progress"}}, 0
    for stage in ("in_progress", "searching", "completed"):
        yield f"response.web_search_call.{stage}", where, 0


def _message(at: int, item: Mapping[str, Any], turn: Turn) -> Iterator[Step]:
    part = {"item_id": item["id"], "output_index": at, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    begun = {**item, "status": "in_progress", "content": []}
    yield "response.output_item.added", {"output_index": at, "item": begun}, 0
    yield "response.content_part.added", part | {"part": empty}, 0
    for text, tokens in turn.deltas():
        yield "response.output_text.delta", part | {"delta": text, "logprobs": []}, tokens
    yield "response.output_text.done", part | {"text": turn.text(), "logprobs": []}, 0
    yield "response.content_part.done", part | {"part": item["content"][0]}, 0


_STEPS: Final = {
    "reasoning": _reasoning,
    "function_call": _function_call,
    "web_search_call": _web_search_call,
    "message": _message,
}


def _steps(request_id: str, request: Mapping[str, Any], turn: Turn) -> Iterator[Step]:
    yield "response.created", {"response": answer(request_id, request, turn, "in_progress")}, 0
    yield "response.in_progress", {"response": answer(request_id, request, turn, "in_progress")}, 0
    for at, item in enumerate(_items(request_id, turn)):
        yield from _STEPS[item["type"]](at, item, turn)
        yield "response.output_item.done", {"output_index": at, "item": item}, 0
    yield "response.completed", {"response": answer(request_id, request, turn)}, 0


def frames(request_id: str, request: Mapping[str, Any], turn: Turn) -> Iterator[Frame]:
    """The events of a stream, numbered, each one frame."""
    number = 0
    for event, told, tokens in _steps(request_id, request, turn):
        if not event:
            yield Frame(b"", tokens)
            continue
        body = json.dumps({"type": event, "sequence_number": number, **told}, separators=(",", ":"))
        yield Frame(f"event: {event}\ndata: {body}\n\n".encode(), tokens)
        number += 1


def compaction(request_id: str, turn: Turn) -> dict[str, Any]:
    """The answer to `/responses/compact`: a conversation folded into one opaque item."""
    item = {"id": f"cmp_{request_id[-12:]}", "type": "compaction", "encrypted_content": "c2ltdWxhdGVk"}
    told: dict[str, Any] = {"id": request_id, "object": "response.compaction", "created_at": int(time.time())}
    return told | {"output": [item], "usage": usage(turn.tokens)}
