"""A provider's usage object in Tally's words: tokens by kind, searches, tier, place, and what it says it charges.

OpenAI counts cached tokens inside the input, Anthropic beside it. Here each token stands in exactly one kind; reasoning
is part of the output everywhere, and sound and pictures are parts of the input and of the output.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, Literal

import orjson

Dialect = Literal["chat", "messages", "responses"]

_RAW_CHARS: Final = 4_000  # of a raw usage object on an event
_RAW_WORD_CHARS: Final = 64  # of a word in it; longer ones are not figures
_RAW_DEPTHS: Final = (6, 2, 1)  # of nesting, until it fits
_FINEST_USD: Final = Decimal("1E-18")
_MOST_USD: Final = Decimal(10) ** 19


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one or more answers consumed, by kind.

    `reasoning_tokens` and `output_…_tokens` are parts of `output_tokens`, `input_…_tokens` of `input_tokens`.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    web_searches: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tokens)))

    @property
    def prompt_tokens(self) -> int:
        """Everything that went in, whatever its kind."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens


def _count(holder: object, *names: str) -> int:
    """The first of these fields that holds a count."""
    if isinstance(holder, Mapping):
        for name in names:
            value = holder.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
    return 0


# ---- tokens ---------------------------------------------------------------------------------------------------------


def read(raw: Mapping[str, Any], dialect: Dialect) -> Tokens:
    """What a provider's own usage object tells, for the model that answered. A kind it does not mention is zero."""
    if dialect == "messages":
        # A context that was folded on the way is billed with the request, and stands in none of the sums.
        folded = (_messages(turn) for turn in _iterations(raw) if turn.get("type") == "compaction")
        return sum(folded, _messages(raw))
    return _openai(raw)


def advised(raw: Mapping[str, Any]) -> list[tuple[str, Tokens]]:
    """Calls that Anthropic made to another model on the way: its name and tokens, which the sums leave out."""
    turns = (turn for turn in _iterations(raw) if turn.get("type") == "advisor_message")
    return [(str(turn.get("model") or ""), _messages(turn)) for turn in turns]


def _iterations(raw: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    turns = raw.get("iterations")
    return (turn for turn in turns if isinstance(turn, Mapping)) if isinstance(turns, list) else iter(())


def _messages(raw: Mapping[str, Any]) -> Tokens:
    # Where the provider calls tools of its own, a stream's sums grow from sampling to sampling, and the breakdown by
    # lifetime is only that of the first: what it leaves out was written for five minutes.
    lifetimes = raw.get("cache_creation")
    hour = _count(lifetimes, "ephemeral_1h_input_tokens")
    written = _count(raw, "cache_creation_input_tokens") or hour + _count(lifetimes, "ephemeral_5m_input_tokens")
    output = _count(raw, "output_tokens")
    return Tokens(
        input_tokens=_count(raw, "input_tokens"),
        cache_read_tokens=_count(raw, "cache_read_input_tokens"),
        cache_write_5m_tokens=written - min(hour, written),
        cache_write_1h_tokens=min(hour, written),
        output_tokens=output,
        reasoning_tokens=min(_count(raw.get("output_tokens_details"), "thinking_tokens", "reasoning_tokens"), output),
        web_searches=_count(raw.get("server_tool_use"), "web_search_requests"),
    )


def _openai(raw: Mapping[str, Any]) -> Tokens:
    prompt = _count(raw, "prompt_tokens", "input_tokens")
    output = _count(raw, "completion_tokens", "output_tokens")
    inside = raw.get("prompt_tokens_details") or raw.get("input_tokens_details")
    thought = raw.get("completion_tokens_details") or raw.get("output_tokens_details")
    cached = min(_count(inside, "cached_tokens") or _count(raw, "cached_tokens"), prompt)
    written = min(_count(inside, "cache_write_tokens", "cache_creation_tokens"), prompt - cached)
    hour = min(_count(raw.get("cache_creation"), "ephemeral_1h_input_tokens"), written)  # OpenRouter, of Anthropic
    plain = prompt - cached - written
    of_cached = inside.get("cached_tokens_details") if isinstance(inside, Mapping) else None
    audio = min(max(0, _count(inside, "audio_tokens") - _count(of_cached, "audio_tokens")), plain)
    image = min(max(0, _count(inside, "image_tokens") - _count(of_cached, "image_tokens")), plain - audio)
    said_audio = min(_count(thought, "audio_tokens"), output)
    return Tokens(
        input_tokens=plain,
        cache_read_tokens=cached,
        cache_write_5m_tokens=written - hour,
        cache_write_1h_tokens=hour,
        output_tokens=output,
        reasoning_tokens=min(_count(thought, "reasoning_tokens"), output),
        input_audio_tokens=audio,
        input_image_tokens=image,
        output_audio_tokens=said_audio,
        output_image_tokens=min(_count(thought, "image_tokens"), output - said_audio),
        web_searches=_count(raw.get("server_tool_use"), "web_search_requests"),
    )


def merged(before: dict[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """One usage object of two that a stream told. Counts only grow: a later one is truer, a later zero a blank."""
    for name, value in later.items():
        if value is not None and (value != 0 or not before.get(name)):
            before[name] = value
    return before


# ---- terms ----------------------------------------------------------------------------------------------------------


def tier(reported: object, speed: object, dialect: Dialect) -> str | None:
    """The service tier in the event's words. OpenAI's `default` is what Anthropic calls `standard`."""
    if dialect == "messages" and speed == "fast":
        return "fast"
    if not isinstance(reported, str) or not reported:
        return None
    if dialect != "messages" and reported == "fast":  # OpenAI's other name for it
        return "priority"
    return "standard" if reported in ("default", "auto") else reported[:200]


def residency(reported: object) -> str | None:
    """Where the model was run, when that has a price of its own; None for anywhere."""
    if not isinstance(reported, str) or reported in ("", "global", "not_available"):
        return None
    return reported[:200]


# ---- money, and the object itself -----------------------------------------------------------------------------------


def exact(data: bytes, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The usage object that was read as `told`, read again from the bytes it came in: its numbers to the last digit."""
    text, at = data.decode("utf-8", "replace"), len(data)
    decoder = json.JSONDecoder(parse_float=Decimal)
    while (at := text.rfind('"usage"', 0, at)) >= 0:
        start = text.find("{", at)
        try:
            found, _ = decoder.raw_decode(text, start) if start >= 0 else (None, 0)
        except ValueError:
            continue
        if isinstance(found, dict) and found.keys() == told.keys():
            return found
    return None


def cost_usd(told: Mapping[str, Any]) -> Decimal | None:
    """What the provider says the call costs, where it does: its charge, and with one's own key the vendor's too."""
    own = _usd(told.get("cost"))
    if own is None:
        return None
    details = told.get("cost_details")
    byok = told.get("is_byok") is True and isinstance(details, Mapping)
    vendors = _usd(details.get("upstream_inference_cost")) if byok and isinstance(details, Mapping) else None
    return (own + (vendors or 0)).quantize(_FINEST_USD, ROUND_HALF_EVEN)


def _usd(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return amount if amount.is_finite() and 0 <= amount < _MOST_USD else None


def as_told(raw: Mapping[str, Any]) -> str | None:
    """The usage object as JSON for the event: its figures and their names, without anything that might be text."""
    for depth in _RAW_DEPTHS:
        text = orjson.dumps(_figures(raw, depth), option=orjson.OPT_NON_STR_KEYS).decode()
        if len(text) <= _RAW_CHARS:
            return text if text != "{}" else None
    return None


def _figures(node: object, depth: int) -> Any:
    if isinstance(node, Mapping):
        kept = ((name, value) for name, value in node.items() if len(str(name)) <= _RAW_WORD_CHARS)
        return {str(name): _figures(value, depth - 1) for name, value in kept if _is_figure(value, depth)}
    if isinstance(node, list):
        return [_figures(value, depth - 1) for value in node if _is_figure(value, depth)]
    return node


def _is_figure(value: object, depth: int) -> bool:
    if isinstance(value, str):
        return len(value) <= _RAW_WORD_CHARS
    return value is None or isinstance(value, int | float) or (isinstance(value, Mapping | list) and depth > 1)
