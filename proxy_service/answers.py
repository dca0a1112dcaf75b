"""A provider's answer read as it passes: its id, model and usage, and its text in case nobody counted.

The words of an answer are kept only until its request is closed, in memory, within a bound; they are never written.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import orjson

from proxy_service import usage
from proxy_service.usage import Dialect, Tokens

KEEP_BYTES = 8 << 20  # of a stream's events, for counting; beyond it the count is scaled up
_KEEP_BODY_BYTES = 64 << 20
_TELLS = re.compile(
    rb'"(?:usage|error)"\s*:\s*\{|"type"\s*:\s*"(?:error|response\.(?:failed|incomplete|completed)|message_stop)"'
)

# The events after which nothing of a stream matters any more, to us and to those who read it.
LAST_EVENTS = ("message_stop", "response.completed", "response.incomplete", "response.failed")
State = Literal["sent", "answering", "whole", "broken", "failed"]


class Answer:
    """One call to a provider. Fed with bytes on the event loop; asked for its facts once it is over."""

    def __init__(self, url_host: str, own_credential: bool) -> None:
        self.host, self.own_credential = url_host, own_credential
        self.state: State = "sent"
        self.status: int | None = None
        self.dialect: Dialect = "chat"
        self.id: str | None = None
        self.model: str | None = None
        self.service_tier: str | None = None
        self.error: str | None = None  # its class, never its text
        self._usage: dict[str, Any] = {}
        self._output_told = False
        self._events: bool | None = None
        self._decoder: Any = None
        self.fed_s = 0.0  # monotonic time of the latest bytes
        self._rest = b""
        self._kept: list[bytes] = []
        self._kept_bytes = self._dropped_bytes = 0

    # ---- fed by the wire ------------------------------------------------------------------------------------------

    def begin(self, status: int, content_type: str, encoding: str) -> None:
        """The provider's status line and headers are there."""
        self.status, self.state = status, "answering"
        self._events = "event-stream" in content_type
        if encoding in ("gzip", "deflate"):
            self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def feed(self, data: bytes) -> None:
        """Some bytes of the body, as they came."""
        self.fed_s = time.monotonic()
        if self._decoder is not None:
            data = self._decoder.decompress(data)
        if not self._events:
            self._keep(data, _KEEP_BODY_BYTES)
            return
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())

    def end(self, state: State) -> None:
        """The body is over: `whole`, or `broken` off."""
        if self.state not in ("sent", "answering"):
            return
        self.state = state
        if self.status is None or self.status >= 400:
            self.state = "failed"
            self._kept.clear()
        elif self._events:
            if self._rest.startswith(b"data:"):
                self._event(self._rest[5:].strip())
        elif state == "whole" and not self._dropped_bytes:
            body = _json(b"".join(self._kept))
            self._kept = [] if body is None else [orjson.dumps(_without_vectors(body))]
            if body is not None:
                self._dialect_of(body)
                self._told(body)

    def _keep(self, data: bytes, bound: int) -> None:
        if self._kept_bytes + len(data) <= bound:
            self._kept.append(data)
            self._kept_bytes += len(data)
        else:
            self._dropped_bytes += len(data)

    def _event(self, line: bytes) -> None:
        if line == b"[DONE]":
            self.state = "whole"
            return
        self._keep(line, KEEP_BYTES)
        if self.id is not None and not _TELLS.search(line):
            return
        event = _json(line)
        if event is None:
            return
        kind = event.get("type")
        if kind in LAST_EVENTS:  # whoever reads the stream may stop here, and never come to its end
            self.state = "whole"
        if kind in ("error", "response.failed") or isinstance(event.get("error"), dict):
            self.error = "ProviderStreamError"
        self._dialect_of(event)
        inner = event.get("message") if kind == "message_start" else event.get("response")
        self._told(inner if isinstance(inner, dict) else event)

    def _dialect_of(self, top: Mapping[str, Any]) -> None:
        kind, thing = str(top.get("type") or ""), str(top.get("object") or "")
        if kind in ("message", "message_start", "message_delta"):
            self.dialect = "messages"
        elif kind.startswith("response.") or thing.startswith("response"):
            self.dialect = "responses"

    def _told(self, holder: Mapping[str, Any]) -> None:
        """Take what this object says of the answer as a whole. What comes later is truer."""
        if self.id is None and isinstance(holder.get("id"), str):
            self.id = holder["id"]
        if isinstance(holder.get("model"), str) and holder["model"]:
            self.model = holder["model"]
        if isinstance(holder.get("service_tier"), str):
            self.service_tier = holder["service_tier"]
        told = holder.get("usage")
        if told is None and self.dialect == "chat":  # Moonshot tells it inside the last choice
            choices = holder.get("choices")
            told = choices[0].get("usage") if isinstance(choices, list) and choices and choices[0] else None
        if isinstance(told, dict):
            self._usage.update({name: value for name, value in told.items() if value is not None})
            # Anthropic opens a stream with the input's usage and a provisional output of one token or so
            provisional = self._events and holder.get("type") == "message"
            self._output_told |= not provisional and ("output_tokens" in told or self.dialect != "messages")

    # ---- asked when it is over ------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether the provider may still be writing."""
        return self.state in ("sent", "answering")

    @property
    def residency(self) -> str | None:
        """Where it was run, where that has its own price: as Anthropic reports it, as OpenAI's host names say it."""
        if self.host.endswith(".api.openai.com"):
            return self.host.split(".")[0]
        return usage.residency(self._usage.get("inference_geo"))

    @property
    def tier(self) -> str | None:
        """The service tier, as reported in the usage or beside it."""
        return usage.tier(self._usage.get("service_tier") or self.service_tier)

    def told(self) -> Tokens | None:
        """The provider's own figures; None unless it told both what went in and what came out."""
        tokens = usage.read(self._usage, self.dialect) if self._output_told else None
        return tokens if tokens is not None and tokens.prompt_tokens else None

    def counted(self, prompt: Mapping[str, Any]) -> Tokens:
        """Counted by us, except for what the provider told. Slow: not for the event loop."""
        tokens = usage.read(self._usage, self.dialect)
        if not tokens.prompt_tokens:
            tokens = replace(tokens, input_tokens=usage.count_prompt(prompt))
        if self._output_told and tokens.output_tokens:
            return tokens
        said: list[str] = []
        thought: list[str] = []
        for place, text in self._words():
            (thought if place == "thought" else said).append(text)
        scale = 1 + self._dropped_bytes / (self._kept_bytes or 1)
        reasoning = round(usage.count_text(thought) * scale)
        output = round(usage.count_text(said) * scale) + reasoning
        return replace(tokens, output_tokens=output, reasoning_tokens=reasoning)

    def forget(self) -> None:
        """Drop the words."""
        self._kept.clear()
        self._rest = b""

    def _words(self) -> Iterator[tuple[Literal["said", "thought"], str]]:
        streamed = False
        for line in self._kept:
            event = _json(line)
            if event is None:
                continue
            if self.dialect == "responses" and self._events:
                kind = str(event.get("type") or "")
                if kind.endswith(".delta") and isinstance(event.get("delta"), str):
                    streamed = True
                    yield ("thought" if "reasoning" in kind else "said"), event["delta"]
                elif kind == "response.output_item.added" and isinstance(event.get("item"), dict):
                    yield "said", str(event["item"].get("name") or "")  # of a tool; its arguments come in pieces
                elif kind == "response.completed" and not streamed and isinstance(event.get("response"), dict):
                    yield from _texts(event["response"].get("output"))
            elif self.dialect == "responses":
                yield from _texts(event.get("output"))
            elif self.dialect == "messages":
                yield from _texts([event.get("delta"), event.get("content_block"), event.get("content")])
            else:
                yield from _texts(event.get("choices"))


_SAID = frozenset({"text", "content", "refusal", "arguments", "partial_json", "name", "input"})
_THOUGHT = frozenset({"thinking", "reasoning", "reasoning_content"})
_INTO = frozenset({"message", "delta", "content", "summary", "tool_calls", "function", "function_call", "custom"})


def _texts(node: object, thought: bool = False) -> Iterator[tuple[Literal["said", "thought"], str]]:
    """The texts of an answer below `node`, each marked as said or thought. Every dialect names them by these fields."""
    if isinstance(node, list):
        for item in node:
            yield from _texts(item, thought)
    elif isinstance(node, dict):
        below = thought or node.get("type") in ("reasoning", "thinking")
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


def _json(data: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _without_vectors(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "data"}
