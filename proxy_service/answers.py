"""A provider's answer read as it passes: its id, model and usage, and its text in case nobody counted."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

import orjson

from proxy_service import counting, usage
from proxy_service.counting import RATIOS
from proxy_service.usage import Dialect, Tokens
from proxy_service.words import words

KEEP_BYTES = 8 << 20  # of a stream's events, for counting; beyond it the count is scaled up
_KEEP_BODY_BYTES = 64 << 20
_COMPARED_BYTES = 1 << 20  # of an answer whose words are held against its provider's count
_TELLS = re.compile(
    rb'"(?:usage|error)"\s*:\s*\{'
    rb'|"type"\s*:\s*"(?:error|response\.(?:failed|incomplete|completed)|message_stop|web_search_call)"'
)

# The events after which nothing of a stream matters any more, to us and to those who read it.
LAST_EVENTS = ("message_stop", "response.completed", "response.incomplete", "response.failed")
State = Literal["sent", "answering", "whole", "broken", "failed"]


class Answer:
    """One call to a provider. Fed with bytes on the event loop; asked for its facts once it is over."""

    def __init__(self, url_host: str, own_credential: bool, provider: str | None = None) -> None:
        self.host, self.own_credential, self.provider = url_host, own_credential, provider
        self.state: State = "sent"
        self.status: int | None = None
        self.dialect: Dialect = "chat"
        self.id: str | None = None
        self.model: str | None = None
        self.service_tier: str | None = None
        self.error: str | None = None  # its class, never its text
        self.cost_usd: Decimal | None = None  # as the provider says it, exactly
        self._usage: dict[str, Any] = {}
        self._output_told = False
        self._searches: set[str] = set()  # ids of the web searches that OpenAI made for this answer
        self._searches_told: int | None = None  # or how many it charges, where it says so
        self._events: bool | None = None
        self._decoder: Any = None
        self.fed_s = 0.0  # monotonic time of the latest bytes
        self.awaited = True  # somebody waits for its next bytes
        self.hang_up: Callable[[], Awaitable[None]] | None = None  # ends the connection to the provider
        self._rest = b""
        self._kept: list[bytes] = []
        self._kept_bytes = self._dropped_bytes = 0

    # ---- fed by the wire ------------------------------------------------------------------------------------------

    def begin(self, status: int, content_type: str, encoding: str) -> None:
        """The provider's status line and headers are there."""
        self.status, self.state, self.awaited = status, "answering", False
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
            data = b"".join(self._kept)
            body = _json(data)
            self._kept = [] if body is None else [orjson.dumps(_without_vectors(body))]
            if body is not None:
                self._dialect_of(body)
                self._told(body, data)

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
        self._told(inner if isinstance(inner, dict) else event, line)

    def _dialect_of(self, top: Mapping[str, Any]) -> None:
        kind, thing = str(top.get("type") or ""), str(top.get("object") or "")
        if kind in ("message", "message_start", "message_delta"):
            self.dialect = "messages"
        elif kind.startswith("response.") or thing.startswith("response"):
            self.dialect = "responses"

    def _told(self, holder: Mapping[str, Any], data: bytes) -> None:
        """Take what this object says of the answer as a whole. What comes later is truer."""
        if self.id is None and isinstance(holder.get("id"), str):
            self.id = holder["id"]
        if isinstance(holder.get("model"), str) and holder["model"]:
            self.model = holder["model"]
        if isinstance(holder.get("service_tier"), str):
            self.service_tier = holder["service_tier"]
        if self.dialect == "responses":
            self._searched(holder)
        told = holder.get("usage")
        if told is None and self.dialect == "chat":  # Moonshot tells it inside the last choice
            choices = holder.get("choices")
            told = choices[0].get("usage") if isinstance(choices, list) and choices and choices[0] else None
        if isinstance(told, dict):
            usage.merged(self._usage, told)
            if told.get("cost") is not None:
                self.cost_usd = usage.cost_usd(usage.exact(data, told) or told)
            self._output_told |= self._is_final(holder, told)

    def _is_final(self, holder: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
        """Whether this usage tells the output. Anthropic opens a stream with the input's and a provisional output."""
        if self.dialect != "messages":
            return True
        if not self._events:
            return "output_tokens" in told
        delta = holder.get("delta")  # between its own samplings it tells what was used so far, and no reason to stop
        return "output_tokens" in told and isinstance(delta, dict) and delta.get("stop_reason") is not None

    def _searched(self, holder: Mapping[str, Any]) -> None:
        """Note OpenAI's web searches that are done, each once: a stream tells of them as they end, and at its end."""
        told = (holder.get("tool_usage") or {}).get("web_search")
        if isinstance(told, dict) and isinstance(told.get("num_requests"), int):
            self._searches_told = max(0, told["num_requests"])
        items = holder.get("output")
        for item in items if isinstance(items, list) else (holder.get("item"),):
            if not isinstance(item, dict) or item.get("type") != "web_search_call":
                continue
            action = item.get("action")  # a page that is opened or searched through costs nothing by itself
            searched = not isinstance(action, dict) or action.get("type") in (None, "search")
            if searched and item.get("status") == "completed" and isinstance(item.get("id"), str):
                self._searches.add(item["id"])

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
        reported = self._usage.get("service_tier") or self.service_tier
        return usage.tier(reported, self._usage.get("speed"), self.dialect)

    @property
    def raw_usage(self) -> str | None:
        """The provider's usage object, as JSON."""
        return usage.as_told(self._usage) if self._usage else None

    def advised(self) -> list[tuple[str, Tokens]]:
        """What other models consumed on the way to this answer: name and tokens of each call."""
        return usage.advised(self._usage) if self.dialect == "messages" else []

    def _read(self) -> Tokens:
        tokens = usage.read(self._usage, self.dialect)
        searches = len(self._searches) if self._searches_told is None else self._searches_told
        return replace(tokens, web_searches=searches) if searches else tokens

    def told(self) -> Tokens | None:
        """The provider's own figures; None unless it told both what went in and what came out."""
        tokens = self._read() if self._output_told else None
        return tokens if tokens is not None and tokens.prompt_tokens else None

    def counted(self, prompt: Mapping[str, Any]) -> Tokens:
        """Counted by us, except for what the provider told. Slow: not for the event loop."""
        tokens, ratio = self._read(), RATIOS.of(self.model)
        if not tokens.prompt_tokens:
            tokens = replace(tokens, input_tokens=round(counting.count_prompt(prompt, self.model) * ratio))
        if self._output_told and tokens.output_tokens:
            return tokens
        said, reasoning = (round(count * ratio) for count in self._count_words())
        output = max(said + reasoning, tokens.output_tokens)
        return replace(
            tokens, output_tokens=output, reasoning_tokens=min(max(reasoning, tokens.reasoning_tokens), output)
        )

    @property
    def teaches(self) -> bool:
        """Whether its words can be held against what the provider counted: short enough, and all of them here."""
        told = self.told()
        if told is None or self.state != "whole" or self._dropped_bytes or self._kept_bytes > _COMPARED_BYTES:
            return False
        visible = told.output_tokens - told.reasoning_tokens
        return visible >= RATIOS.LEAST_TOKENS and not told.output_audio_tokens and RATIOS.due(self.model)

    def compare(self) -> None:
        """Learn how far our count of this answer is from its provider's. Slow: not for the event loop."""
        told = self.told()
        said, thought = self._count_words()
        if told is not None and bool(thought) <= bool(told.reasoning_tokens):  # else its output has thoughts in it
            RATIOS.learn(self.model, told.output_tokens - told.reasoning_tokens, said)

    def _count_words(self) -> tuple[int, int]:
        """Our count of what was said, and of what was thought."""
        said: list[str] = []
        thought: list[str] = []
        events = (event for line in self._kept if (event := _json(line)) is not None)
        for place, text in words(events, self.dialect, bool(self._events)):
            (thought if place == "thought" else said).append(text)
        scale = 1 + self._dropped_bytes / (self._kept_bytes or 1)
        counts = (counting.count_text(pieces, self.model) for pieces in (said, thought))
        first, second = (round(count * scale) for count in counts)
        return first, second

    def forget(self) -> None:
        """Drop the words."""
        self._kept.clear()
        self._rest = b""


def _json(data: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _without_vectors(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "data"}
