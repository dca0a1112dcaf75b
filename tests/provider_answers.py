"""Provider answers for tests, made by hand: what the wire reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from proxy_service.answers import Answer


def answer_of(content_type: str, *pieces: bytes, encoding: str = "", end: bool = True) -> Answer:
    made = Answer("provider.test", False)
    made.begin(200, content_type, encoding)
    for piece in pieces:
        made.feed(piece)
    if end:
        made.end("whole")
    return made


def events_of(*events: Mapping[str, Any] | str) -> bytes:
    return b"".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode() for event in events)


CHAT_USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 50,
    "total_tokens": 1050,
    "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 20},
}
CHAT_STREAM = events_of(
    {"id": "chatcmpl-1", "model": "gpt-5.4-2026", "choices": [{"delta": {"content": "one"}}], "usage": None},
    {"id": "chatcmpl-1", "choices": [{"delta": {"content": ' "usage": {"prompt_tokens": 7} '}}], "usage": None},
    {"id": "chatcmpl-1", "choices": [], "usage": CHAT_USAGE, "service_tier": "default"},
    "[DONE]",
)
