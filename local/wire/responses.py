"""OpenAI Responses as JSON and as server-sent events: reasoning, message and function-call items, then completed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from local.wire.completions import ARGUMENTS
from local.wire.turn import Tokens, Turn


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
    if turn.thought():
        summary = [{"type": "summary_text", "text": turn.thought()}]
        items.append({"id": f"rs_{tail}", "type": "reasoning", "summary": summary, "encrypted_content": None})
    if turn.tool:
        call = {"id": f"fc_{tail}", "type": "function_call", "status": "completed", "call_id": f"call_{tail[-12:]}"}
        items.append(call | {"name": turn.tool, "arguments": ARGUMENTS})
    else:
        content = [{"type": "output_text", "text": turn.text(), "annotations": [], "logprobs": []}]
        message = {"id": f"msg_{tail}", "type": "message", "status": "completed", "role": "assistant"}
        items.append(message | {"content": content})
    return items


def answer(request_id: str, request: Mapping[str, Any], turn: Turn, status: str = "completed") -> dict[str, Any]:
    """A `response`; output and usage are empty until it is completed."""
    done = status == "completed"
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
        "service_tier": "default" if done else "auto",
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


def _steps(request_id: str, request: Mapping[str, Any], turn: Turn) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "response.created", {"response": answer(request_id, request, turn, "in_progress")}
    yield "response.in_progress", {"response": answer(request_id, request, turn, "in_progress")}
    for at, item in enumerate(_items(request_id, turn)):
        where = {"item_id": item["id"], "output_index": at}
        if item["type"] == "reasoning":
            part = where | {"summary_index": 0}
            text = turn.thought()
            yield "response.output_item.added", {"output_index": at, "item": item | {"summary": []}}
            yield "response.reasoning_summary_part.added", part | {"part": {"type": "summary_text", "text": ""}}
            yield "response.reasoning_summary_text.delta", part | {"delta": text}
            yield "response.reasoning_summary_text.done", part | {"text": text}
            yield "response.reasoning_summary_part.done", part | {"part": {"type": "summary_text", "text": text}}
        elif item["type"] == "function_call":
            begun = item | {"status": "in_progress", "arguments": ""}
            yield "response.output_item.added", {"output_index": at, "item": begun}
            yield "response.function_call_arguments.delta", where | {"delta": ARGUMENTS}
            yield "response.function_call_arguments.done", where | {"name": item["name"], "arguments": ARGUMENTS}
        else:
            part = where | {"content_index": 0}
            empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            begun = item | {"status": "in_progress", "content": []}
            yield "response.output_item.added", {"output_index": at, "item": begun}
            yield "response.content_part.added", part | {"part": empty}
            for delta in turn.deltas():
                yield "response.output_text.delta", part | {"delta": delta, "logprobs": []}
            yield "response.output_text.done", part | {"text": turn.text(), "logprobs": []}
            yield "response.content_part.done", part | {"part": item["content"][0]}
        yield "response.output_item.done", {"output_index": at, "item": item}
    yield "response.completed", {"response": answer(request_id, request, turn)}


def frames(request_id: str, request: Mapping[str, Any], turn: Turn) -> Iterator[bytes]:
    """The events of a stream, numbered, each one frame."""
    for number, (event, fields) in enumerate(_steps(request_id, request, turn)):
        body = json.dumps({"type": event, "sequence_number": number, **fields}, separators=(",", ":"))
        yield f"event: {event}\ndata: {body}\n\n".encode()


def compaction(request_id: str, turn: Turn) -> dict[str, Any]:
    """The answer to `/responses/compact`: a conversation folded into one opaque item."""
    item = {"id": f"cmp_{request_id[-12:]}", "type": "compaction", "encrypted_content": "c2ltdWxhdGVk"}
    told: dict[str, Any] = {"id": request_id, "object": "response.compaction", "created_at": int(time.time())}
    return told | {"output": [item], "usage": usage(turn.tokens)}
