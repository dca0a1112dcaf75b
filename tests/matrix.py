"""The matrix of what a request can be: which cells there are, which of them mean nothing and why, and how one is asked.

{chat, messages, responses} x {stream, whole} x {usage sent, omitted, at the end only} x {no cache, read, written for
5 m, for 1 h, mixed} x {plain, reasoning, tool loop} x {standard, flex, priority, long context, residency} x {ok, 4xx,
5xx, retry then ok}
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

ROUTES: Final = ("chat", "messages", "responses")
USAGES: Final = ("sent", "omitted", "end")
CACHES: Final = {
    "none": "cache_read=0",
    "read": "cache_read=4321",
    "write_5m": "cache_write_5m=777",
    "write_1h": "cache_write_1h=333",
    "mixed": "cache_read=9001 cache_write_5m=210 cache_write_1h=97",
}
KINDS: Final = ("plain", "reasoning", "tool_loop")
TERMS: Final = ("standard", "flex", "priority", "long", "residency")
OUTCOMES: Final = ("ok", "4xx", "5xx", "retry")
TOOL: Final = "read_file"
_PARAMETERS: Final = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
_MODELS: Final = {
    "chat": ("gpt-5.4", "gpt-6.1-sol", "gpt-5-mini", "kimi-k2.6", "openrouter/anthropic/claude-sonnet-4.5"),
    "messages": ("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5"),
    "responses": ("gpt-5.4", "gpt-6.1-sol", "gpt-5.3-codex"),
}
# Models whose list price knows the term, and for a long prompt how long it is.
_ON_TERMS: Final = {
    ("chat", "flex"): ("gpt-5.4", "gpt-6.1-sol", "gpt-5-mini"),
    ("chat", "priority"): ("gpt-5.4", "gpt-6.1-sol", "gpt-5-mini"),
    ("chat", "long"): ("gpt-5.4", "gpt-6.1-sol"),
    ("responses", "flex"): ("gpt-5.4", "gpt-6.1-sol"),
    ("responses", "priority"): ("gpt-5.4", "gpt-6.1-sol", "gpt-5.3-codex"),
    ("responses", "long"): ("gpt-5.4", "gpt-6.1-sol"),
    ("messages", "long"): ("claude-haiku-5-5",),
    ("messages", "residency"): ("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5"),
}
_THINKS: Final[dict[str, dict[str, Any]]] = {
    "chat": {"reasoning_effort": "low"},
    "responses": {"reasoning": {"effort": "low"}},
    "messages": {"thinking": {"type": "enabled", "budget_tokens": 2048}},
}
_LONG: Final = {"chat": 300_000, "responses": 300_000, "messages": 150_000}


@dataclass(frozen=True)
class Cell:
    """One combination. The same cell is always asked in the same words."""

    route: str
    stream: bool
    usage: str
    cache: str
    kind: str
    terms: str
    outcome: str

    def __str__(self) -> str:
        how = "stream" if self.stream else "whole"
        return "-".join((self.route, how, self.usage, self.cache, self.kind, self.terms, self.outcome))

    @property
    def number(self) -> int:
        """A number of its own, from which all that is drawn follows."""
        return zlib.crc32(str(self).encode())

    @property
    def model(self) -> str:
        """The model that is asked: one whose list price knows the terms."""
        models = _ON_TERMS.get((self.route, self.terms), _MODELS[self.route])
        return models[self.number % len(models)]

    def directive(self, *more: str) -> str:
        """What the simulated provider is told."""
        output = 1 + self.number % 389
        words = [CACHES[self.cache], f"output={output}", f"chunks={1 + self.number % 11}", *more]
        if self.usage != "omitted":
            words.append(f"input={_LONG[self.route] if self.terms == 'long' else 1 + self.number % 59_999}")
        words += {"sent": ["usage=send"], "omitted": ["usage=omit"], "end": ["usage=end"]}[self.usage]
        words += [f"reasoning={output // 2}"] if self.kind == "reasoning" else ["reasoning=0"]
        fails = 400 + 29 * (self.number % 2) if self.outcome == "4xx" else 500 + 29 * (self.number % 2)
        words += {"ok": [], "retry": ["errors=1", f"error={fails}"]}.get(self.outcome, [f"error={fails}"])
        return f"[[sim {' '.join(words)}]]"

    def body(self) -> dict[str, Any]:
        """The request, for the SDK of its route."""
        said = f"Please look at file {self.number}. {self.directive(*(['tool=1'] if self.kind == 'tool_loop' else []))}"
        body: dict[str, Any] = {"model": self.model, "stream": self.stream}
        if self.route == "responses":
            body |= {"input": [{"role": "user", "content": said}]}
        else:
            body |= {"messages": [{"role": "user", "content": said}]}
        if self.route == "messages":
            body |= {"max_tokens": 8192}
        if self.route == "chat" and self.stream and self.usage == "sent":
            body |= {"stream_options": {"include_usage": True}}
        if self.kind == "tool_loop":
            body |= {"tools": [self._tool()]}
        if self.kind == "reasoning":
            body |= _THINKS[self.route]
        if self.terms in ("flex", "priority"):
            body |= {"service_tier": self.terms}
        if self.terms == "residency":
            body |= {"extra_body": {"inference_geo": "us"}}
        return body

    def _tool(self) -> dict[str, Any]:
        if self.route == "messages":
            return {"name": TOOL, "input_schema": _PARAMETERS}
        function = {"name": TOOL, "parameters": _PARAMETERS}
        if self.route == "chat":
            return {"type": "function", "function": function | {"strict": True}}
        return {"type": "function", "strict": False, **function}

    def next_body(self, answer: Any) -> dict[str, Any]:
        """The second request of a tool loop: the call with its result, which asks for the provider's own tools."""
        searches = () if self.route == "chat" or self.usage == "omitted" else ("web_search=2", "loop=3")
        result, body = f"It is green. {self.directive(*searches)}", self.body()
        if self.route == "messages":
            use = next(block for block in answer.content if block.type == "tool_use")
            told = {"type": "tool_result", "tool_use_id": use.id, "content": result}
            spoken = {"type": "tool_use", "id": use.id, "name": use.name, "input": use.input}
            turns = [{"role": "assistant", "content": [spoken]}, {"role": "user", "content": [told]}]
            return body | {"messages": [*body["messages"], *turns]}
        if self.route == "chat":
            call = answer.choices[0].message.tool_calls[0]
            function = {"name": call.function.name, "arguments": call.function.arguments}
            spoken = {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": function}]}
            told = {"role": "tool", "tool_call_id": call.id, "content": result}
            return body | {"messages": [*body["messages"], spoken, told]}
        call = next(item for item in answer.output if item.type == "function_call")
        spoken = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
        told = {"type": "function_call_output", "call_id": call.call_id, "output": result}
        return body | {"input": [*body["input"], spoken, told]}


def meaningless(cell: Cell) -> str | None:
    """Why this combination does not exist; None where it does."""
    anthropic = cell.route == "messages"
    if cell.usage == "end" and not cell.stream:
        return "an answer that is not streamed has one place for its usage"
    if cell.cache == "write_1h" and not anthropic:
        return "OpenAI's cache has one lifetime"
    if cell.terms in ("flex", "priority") and anthropic:
        return "Anthropic sells no flex, and its priority is a commitment without a list price"
    if cell.terms == "residency" and not anthropic:
        return "OpenAI's regions are other hosts, not a field of the request"
    if cell.usage == "omitted" and (cell.cache != "none" or cell.terms in ("long", "residency")):
        return "who tells no usage tells neither what was cached, nor the region; and dictates no length"
    bare = (cell.usage, cell.cache, cell.kind, cell.terms) == ("sent", "none", "plain", "standard")
    if cell.outcome in ("4xx", "5xx") and not bare:
        return "an error consumes nothing, on whatever terms"
    if cell.outcome == "retry" and cell.terms != "standard":
        return "the terms of the second attempt are those of any request"
    if cell.outcome == "retry" and cell.kind == "tool_loop":
        return "each request of a loop is retried like any other"
    return None


def all_cells() -> Iterator[Cell]:
    """Every combination."""
    for it in product(ROUTES, (True, False), USAGES, CACHES, KINDS, TERMS, OUTCOMES):
        yield Cell(*it)


def cells() -> list[Cell]:
    """Every combination that means something."""
    return [cell for cell in all_cells() if meaningless(cell) is None]
