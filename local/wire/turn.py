"""Turn: what one simulated answer will be, drawn from the request or dictated by it.

A caller dictates with a directive anywhere in its prompt; the last one in the body counts, so that a conversation can
change its mind:

    [[sim output=50 input=1000 cache_read=600 cache_write_5m=200 cache_write_1h=100 reasoning=20]]   tokens by kind
    [[sim usage=omit]]        usage is never sent; usage=send: even on a chat stream that did not ask for it
    [[sim error=529]]         this status instead of an answer
    [[sim tool=1]]            call the first tool on offer; tool=Bash: that one
    [[sim delay_ms=200 chunks=10 chunk_ms=20]]   wait before the first byte, deltas of a stream, wait between them
    [[sim cut=3]]             close the connection after three frames of a stream (without a stream: before the answer)

What is not dictated is drawn from a hash of the request: the same request always gets the same answer.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, islice
from random import Random
from typing import Any, Final, Literal

UsageMode = Literal["ask", "send", "omit"]
_DIRECTIVE: Final = re.compile(rb"\[\[sim ([^\]]{0,400})\]\]")
_CHARS_PER_TOKEN: Final = 4
_CACHEABLE_TOKENS: Final = 1024  # providers do not cache shorter prompts
_SPOKEN: Final = ("messages", "system", "input", "instructions", "tools", "prompt")
_OPENING: Final = ("This", " answer", " comes", " from", " the", " simulated", " provider", ".")
_FILLER: Final = (" The", " code", " is", " in", " the", " file", " and", " the", " test", " is", " green", ".")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens by kind. `input_tokens` are neither read from nor written to a cache; reasoning is part of output."""

    input_tokens: int
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def cache_write_tokens(self) -> int:
        """Written to either cache."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def prompt_tokens(self) -> int:
        """All of the prompt, as OpenAI counts it."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer, decided before its first byte."""

    tokens: Tokens
    usage: UsageMode = "ask"
    tool: str | None = None
    error: int | None = None
    delay_ms: int = 0
    chunks: int = 10
    chunk_ms: int = 0
    cut: int | None = None

    def words(self) -> list[str]:
        """The visible answer, one word per output token that is not reasoning."""
        return list(_words(max(1, self.tokens.output_tokens - self.tokens.reasoning_tokens)))

    def text(self) -> str:
        """The visible answer."""
        return "".join(self.words())

    def deltas(self) -> list[str]:
        """The visible answer in at most `chunks` pieces."""
        words = self.words()
        size = math.ceil(len(words) / max(1, self.chunks))
        return ["".join(words[at : at + size]) for at in range(0, len(words), size)]

    def thought(self) -> str:
        """A summary of the reasoning; empty without reasoning tokens."""
        return "Thinking about it." if self.tokens.reasoning_tokens else ""


@lru_cache(maxsize=512)
def _words(count: int) -> tuple[str, ...]:
    return (*_OPENING, *islice(cycle(_FILLER), max(0, count - len(_OPENING))))[:count]


class DirectiveError(ValueError):
    """A directive that the simulator does not understand; the caller is told with a 400."""


def _spoken_chars(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_spoken_chars, value.values()))
    if isinstance(value, list):
        return sum(map(_spoken_chars, value))
    return 0


def prompt_tokens(request: Mapping[str, Any]) -> int:
    """What the simulator takes the prompt's length to be: four characters a token, at least one."""
    chars = sum(_spoken_chars(request.get(field)) for field in _SPOKEN)
    return max(1, chars // _CHARS_PER_TOKEN)


def _directive(body: bytes) -> dict[str, str]:
    found = _DIRECTIVE.findall(body)
    return dict(word.partition("=")[::2] for word in found[-1].decode("ascii", "replace").split()) if found else {}


def _offered(request: Mapping[str, Any], wanted: str) -> str | None:
    """The tool to call: none right after a tool's result, or an agent would never come to an end."""
    turns = request.get("messages") or request.get("input")
    last = turns[-1] if isinstance(turns, list) and turns else {}
    if wanted in ("", "0") or last.get("role") == "tool" or last.get("type") == "function_call_output":
        return None
    content = last.get("content")
    if isinstance(content, list) and any(isinstance(p, Mapping) and p.get("type") == "tool_result" for p in content):
        return None
    names = [tool.get("name") or tool.get("function", {}).get("name") for tool in request.get("tools") or ()]
    return wanted if wanted != "1" else next((name for name in names if name), "write_file")


def _drawn(body: bytes, request: Mapping[str, Any]) -> Tokens:
    dice = Random(zlib.crc32(body))
    prompt = prompt_tokens(request)
    asks_to_cache = b'"cache_control"' in body
    read = write_5m = write_1h = 0
    if prompt >= _CACHEABLE_TOKENS:
        read = int(prompt * dice.uniform(0.6, 0.95))
        if asks_to_cache:
            written = int((prompt - read) * 0.9)
            write_5m, write_1h = (0, written) if b'"1h"' in body else (written, 0)
    mu, sigma = (5.0, 1.0) if request.get("tools") else (2.8, 0.85)
    limit = request.get("max_tokens") or request.get("max_completion_tokens") or request.get("max_output_tokens")
    output = min(
        max(1, round(dice.lognormvariate(mu, sigma))), limit if isinstance(limit, int) and limit > 0 else 10**6
    )
    thinks = bool(request.get("thinking") or request.get("reasoning") or request.get("reasoning_effort"))
    return Tokens(
        input_tokens=prompt - read - write_5m - write_1h,
        cache_read_tokens=read,
        cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h,
        output_tokens=output,
        reasoning_tokens=output // 3 if thinks else 0,
    )


def read_turn(body: bytes, request: Mapping[str, Any]) -> Turn:
    """The turn for a request, given as received and as parsed. Raises DirectiveError."""
    drawn = _drawn(body, request)
    said = _directive(body)
    if not said:
        return Turn(drawn)
    try:
        number = {name: int(value) for name, value in said.items() if name not in ("usage", "tool")}
    except ValueError:
        raise DirectiveError(f"not a number in {sorted(said)}") from None
    known = {"input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning"}
    unknown = number.keys() - known - {"error", "delay_ms", "chunks", "chunk_ms", "cut"}
    usage = said.get("usage", "ask")
    if unknown or usage not in ("ask", "send", "omit") or min(number.values(), default=0) < 0:
        raise DirectiveError(f"unknown in a directive: {sorted(unknown) or usage}")
    caches = bool(number.keys() & {"cache_read", "cache_write_5m", "cache_write_1h"})
    dictated = {f"{kind}_tokens": number.get(kind, 0) for kind in ("cache_read", "cache_write_5m", "cache_write_1h")}
    if not caches:
        dictated = {kind: getattr(drawn, kind) for kind in dictated}
    output = number.get("output", max(drawn.output_tokens, number.get("reasoning", 0)))
    reasoning = number.get("reasoning", min(drawn.reasoning_tokens, output))
    if reasoning > output:
        raise DirectiveError("reasoning is part of output and cannot exceed it")
    return Turn(
        Tokens(
            input_tokens=number.get("input", prompt_tokens(request) if caches else drawn.input_tokens),
            output_tokens=output,
            reasoning_tokens=reasoning,
            **dictated,
        ),
        usage=usage,  # type: ignore[arg-type]  # one of the three, checked above
        tool=_offered(request, said.get("tool", "")),
        error=number.get("error") or None,
        delay_ms=number.get("delay_ms", 0),
        chunks=number.get("chunks", 10),
        chunk_ms=number.get("chunk_ms", 0),
        cut=number.get("cut"),
    )
