"""What one simulated answer will be: drawn from the request, or dictated by it.

A caller dictates with a directive anywhere in its prompt; the last one in the body counts, so that a conversation can
change its mind:

    [[sim output=50 input=1000 cache_read=600 cache_write_5m=200 cache_write_1h=100 reasoning=20]]   tokens by kind
    [[sim input_audio=40 output_audio=30]]   of the input and of the output, tokens of sound (chat completions)
    [[sim usage=omit]]        usage is never sent; usage=send: even on a chat stream that did not ask for it;
                              usage=end: only with the last event that can hold it
    [[sim error=529]]         this status instead of an answer
    [[sim errors=2]]          the first two times that this very body comes it fails (with `error`, or 500), then not
    [[sim tool=1]]            call the first tool on offer; tool=Bash: that one
    [[sim web_search=2]]      so many searches of the provider's own, charged by the piece
    [[sim loop=3]]            three samplings behind the answer: a stream's usage grows (Anthropic)
    [[sim tier=priority]]     served in another tier than the request asked for
    [[sim byok=1]]            OpenRouter: with the caller's own key; what OpenRouter charges is its fee
    [[sim delay_ms=200 chunks=10 chunk_ms=20]]   wait before the first byte, deltas of a stream, wait between them
    [[sim cut=3]]             close the connection after three frames of a stream (without a stream: before the answer)

The request's own fields count as with the vendors: `service_tier` flex, priority, ultrafast (OpenAI), `speed` fast and
`inference_geo` us (Anthropic). What is not dictated is drawn from a hash of the request: the same request always gets
the same answer, and the length of its prompt is what a tokenizer makes of it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import fields
from random import Random
from typing import Any, Final

from local.wire.tokenizer import prompt_tokens
from local.wire.turn import Terms, Tokens, Turn

_DIRECTIVE: Final = re.compile(rb"\[\[sim ([^\]]{0,400})\]\]")
_CACHEABLE_TOKENS: Final = 1024  # providers do not cache shorter prompts
_KINDS: Final = frozenset(field.name.removesuffix("_tokens") for field in fields(Tokens))
_CACHES: Final = ("cache_read", "cache_write_5m", "cache_write_1h")
_WORDS: Final = frozenset({"usage", "tool", "tier"})
_NUMBERS: Final = frozenset({"error", "errors", "delay_ms", "chunks", "chunk_ms", "cut", "web_search", "loop", "byok"})
_TIERS: Final = frozenset({"standard", "flex", "priority", "batch", "ultrafast", "fast"})
_ASKED_TIERS: Final = frozenset({"flex", "priority", "ultrafast"})


class DirectiveError(ValueError):
    """A directive that the simulator does not understand; the caller is told with a 400."""


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


def _drawn(body: bytes, request: Mapping[str, Any], prompt: int) -> Tokens:
    dice = Random(zlib.crc32(body))
    read = write_5m = write_1h = 0
    if prompt >= _CACHEABLE_TOKENS:
        read = int(prompt * dice.uniform(0.6, 0.95))
        if b'"cache_control"' in body:
            written = int((prompt - read) * 0.9)
            write_5m, write_1h = (0, written) if b'"1h"' in body else (written, 0)
    mu, sigma = (5.0, 1.0) if request.get("tools") else (2.8, 0.85)
    limit = request.get("max_tokens") or request.get("max_completion_tokens") or request.get("max_output_tokens")
    most = limit if isinstance(limit, int) and limit > 0 else 10**6
    output = min(max(1, round(dice.lognormvariate(mu, sigma))), most)
    thinks = bool(request.get("thinking") or request.get("reasoning") or request.get("reasoning_effort"))
    return Tokens(
        input_tokens=prompt - read - write_5m - write_1h,
        cache_read_tokens=read,
        cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h,
        output_tokens=output,
        reasoning_tokens=output // 3 if thinks else 0,
    )


def _numbers(said: Mapping[str, str]) -> dict[str, int]:
    try:
        number = {name: int(value) for name, value in said.items() if name not in _WORDS}
    except ValueError:
        raise DirectiveError(f"not a number in {sorted(said)}") from None
    unknown = sorted(number.keys() - _KINDS - _NUMBERS)
    if unknown or min(number.values(), default=0) < 0:
        raise DirectiveError(f"unknown in a directive: {unknown or 'a number below zero'}")
    return number


def _dictated(drawn: Tokens, number: Mapping[str, int], prompt: int) -> Tokens:
    """The drawn tokens with what the directive says. Whoever dictates one cache dictates all."""
    caches = any(kind in number for kind in _CACHES)
    cached = {f"{kind}_tokens": number.get(kind, 0) for kind in _CACHES}
    if not caches:
        cached = {kind: getattr(drawn, kind) for kind in cached}
    output = number.get("output", max(drawn.output_tokens, number.get("reasoning", 0)))
    reasoning = number.get("reasoning", min(drawn.reasoning_tokens, output))
    tokens = Tokens(
        input_tokens=number.get("input", prompt if caches else drawn.input_tokens),
        output_tokens=output,
        reasoning_tokens=reasoning,
        input_audio_tokens=number.get("input_audio", 0),
        output_audio_tokens=number.get("output_audio", 0),
        **cached,
    )
    if reasoning + tokens.output_audio_tokens > output or tokens.input_audio_tokens > tokens.input_tokens:
        raise DirectiveError("reasoning and sound are parts of output or input and cannot exceed it")
    return tokens


def _terms(request: Mapping[str, Any], said: Mapping[str, str], web_searches: int) -> Terms:
    """On which terms the request is served: as it asks, or as the directive has it."""
    asked = request.get("service_tier")
    tier = "fast" if request.get("speed") == "fast" else asked if asked in _ASKED_TIERS else "standard"
    tier = said.get("tier", tier)
    if tier not in _TIERS:
        raise DirectiveError(f"no tier {tier!r}")
    geo = request.get("inference_geo")
    return Terms(tier, geo if geo in ("us", "eu") else "", web_searches)


def read_turn(body: bytes, request: Mapping[str, Any]) -> Turn:
    """The turn for a request, given as received and as parsed. Raises DirectiveError."""
    prompt = prompt_tokens(request)
    drawn, said = _drawn(body, request, prompt), _directive(body)
    if not said:
        return Turn(drawn, _terms(request, said, 0))
    number, usage = _numbers(said), said.get("usage", "ask")
    if usage not in ("ask", "send", "omit", "end"):
        raise DirectiveError(f"unknown in a directive: usage={usage}")
    return Turn(
        _dictated(drawn, number, prompt),
        _terms(request, said, number.get("web_search", 0)),
        usage=usage,  # type: ignore[arg-type]  # one of the four, checked above
        tool=_offered(request, said.get("tool", "")),
        error=number.get("error") or None,
        errors=number.get("errors", 0),
        delay_ms=number.get("delay_ms", 0),
        chunks=number.get("chunks", 10),
        chunk_ms=number.get("chunk_ms", 0),
        cut=number.get("cut"),
        loops=max(1, number.get("loop", 1)),
        byok=bool(number.get("byok")),
    )
