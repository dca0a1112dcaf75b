"""The words of an answer, for counting where its provider counted none: what was said, and what was thought.

They are kept only until the request is closed, in memory, within a bound; they are never written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import orjson

from proxy_service.usage import Dialect

Place = Literal["said", "thought"]

_SAID = frozenset({"text", "content", "refusal", "arguments", "partial_json", "name", "input"})
_THOUGHT = frozenset({"thinking", "reasoning", "reasoning_content"})
_INTO = frozenset({"message", "delta", "content", "summary", "tool_calls", "function", "function_call", "custom"})
_TOOL_RESULT = "_tool_result"  # what a provider's own tool found is not the model's output


def words(events: Iterable[Mapping[str, Any]], dialect: Dialect, stream: bool) -> Iterator[tuple[Place, str]]:
    """The texts of an answer, given as the events of its stream or as the one object it is."""
    streamed = False
    for event in events:
        if dialect == "responses" and stream:
            kind = str(event.get("type") or "")
            if kind.endswith(".delta") and isinstance(event.get("delta"), str):
                streamed = True
                yield ("thought" if "reasoning" in kind else "said"), event["delta"]
            elif kind == "response.output_item.added" and isinstance(event.get("item"), dict):
                yield "said", str(event["item"].get("name") or "")  # of a tool; its arguments come in pieces
            elif kind == "response.completed" and not streamed and isinstance(event.get("response"), dict):
                yield from _texts(event["response"].get("output"))
        elif dialect == "responses":
            yield from _texts(event.get("output"))
        elif dialect == "messages":
            yield from _texts([event.get("delta"), event.get("content_block"), event.get("content")])
        else:
            yield from _texts(event.get("choices"))


def _texts(node: object, thought: bool = False) -> Iterator[tuple[Place, str]]:
    """The texts of an answer below `node`, each marked as said or thought. Every dialect names them by these fields."""
    if isinstance(node, list):
        for item in node:
            yield from _texts(item, thought)
    elif isinstance(node, dict):
        kind = str(node.get("type") or "")
        if kind.endswith(_TOOL_RESULT):
            return
        below = thought or kind in ("reasoning", "thinking")
        for name, value in node.items():
            if isinstance(value, str):
                if name in _THOUGHT or (below and name in _SAID):
                    yield "thought", value
                elif name in _SAID:
                    yield "said", value
            elif name == "input" and isinstance(value, dict) and value:  # a tool's arguments, whole
                yield "said", orjson.dumps(value).decode()
            elif name in _INTO:
                yield from _texts(value, below)
