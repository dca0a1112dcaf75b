"""A provider's usage in Tally's token kinds; and counting, where the provider tells none.

OpenAI counts cached tokens inside the input, Anthropic beside it. Here each token stands in exactly one kind, apart
from reasoning, which is part of the output everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal, cast

Dialect = Literal["chat", "messages", "responses"]

_IMAGE_TOKENS = 1_500  # what a picture of a screen costs with Anthropic and OpenAI, give or take a third
_MESSAGE_TOKENS = 4  # role and separators around each message
_SLICE = 20_000  # characters encoded at once: the encoder's time grows faster than a text without spaces


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens by kind, of one or more answers. `reasoning_tokens` are part of `output_tokens`."""

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

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


def read(raw: Mapping[str, Any], dialect: Dialect) -> Tokens:
    """The tokens that a provider's own usage object tells. A kind it does not mention is zero."""
    if dialect == "messages":
        written = _count(raw, "cache_creation_input_tokens")
        hour = min(_count(raw.get("cache_creation"), "ephemeral_1h_input_tokens"), written)
        output, details = _count(raw, "output_tokens"), raw.get("output_tokens_details")
        return Tokens(
            input_tokens=_count(raw, "input_tokens"),
            cache_read_tokens=_count(raw, "cache_read_input_tokens"),
            cache_write_5m_tokens=written - hour,
            cache_write_1h_tokens=hour,
            output_tokens=output,
            reasoning_tokens=min(_count(details, "thinking_tokens", "reasoning_tokens"), output),
        )
    prompt = _count(raw, "prompt_tokens", "input_tokens")
    output = _count(raw, "completion_tokens", "output_tokens")
    inside = raw.get("prompt_tokens_details") or raw.get("input_tokens_details")
    thought = raw.get("completion_tokens_details") or raw.get("output_tokens_details")
    cached = min(_count(inside, "cached_tokens") or _count(raw, "cached_tokens"), prompt)
    written = min(_count(inside, "cache_write_tokens", "cache_creation_tokens"), prompt - cached)
    return Tokens(
        input_tokens=prompt - cached - written,
        cache_read_tokens=cached,
        cache_write_5m_tokens=written,
        output_tokens=output,
        reasoning_tokens=min(_count(thought, "reasoning_tokens"), output),
    )


def tier(reported: object) -> str | None:
    """The service tier in the event's words. OpenAI's `default` is what Anthropic calls `standard`."""
    if not isinstance(reported, str) or not reported:
        return None
    return "standard" if reported in ("default", "auto") else reported[:200]


def residency(reported: object) -> str | None:
    """Where the model was run, when that has a price of its own; None for anywhere."""
    ours = isinstance(reported, str) and reported not in ("", "global", "not_available")
    return cast(str, reported)[:200] if ours else None


@lru_cache(maxsize=1024)
def _long_from(provider: str, model: str) -> int | None:
    import litellm

    listed = litellm.model_cost.get(f"{provider}/{model}") or litellm.model_cost.get(model) or {}
    steps = [
        int(name.removeprefix("input_cost_per_token_above_").removesuffix("k_tokens")) * 1000
        for name in listed
        if name.startswith("input_cost_per_token_above_") and name.endswith("k_tokens")
    ]
    return min(steps, default=None)


def long_context(provider: str | None, model: str | None, tokens: Tokens) -> bool:
    """Whether the prompt is so long that the provider's list asks another price for it."""
    start = _long_from(provider, model) if provider and model else None
    return start is not None and tokens.prompt_tokens > start


def count_text(pieces: Iterable[str]) -> int:
    """Tokens of a text in pieces, by LiteLLM's own bundled encoder; no network."""
    from litellm.litellm_core_utils.default_encoding import encoding

    text = "".join(pieces)
    slices = (text[at : at + _SLICE] for at in range(0, len(text), _SLICE))
    return sum(len(encoding.encode_ordinary(part)) for part in slices)


_PROMPT = ("system", "instructions", "messages", "input", "prompt", "tools", "functions", "response_format", "text")
_NOT_TEXT = frozenset({"type", "id", "cache_control", "encrypted_content", "signature", "media_type", "detail", "role"})


def prompt_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a request that a provider counts as input."""
    return {name: body[name] for name in _PROMPT if body.get(name)}


def count_prompt(prompt: Mapping[str, Any]) -> int:
    """Tokens of a request's input as we count them: its words, a flat figure for each picture."""
    words: list[str] = []
    pictures = _gather(prompt, words)
    turns = prompt.get("messages") or prompt.get("input")
    around = _MESSAGE_TOKENS * len(turns) if isinstance(turns, list) and turns and isinstance(turns[0], dict) else 0
    return count_text(words) + around + _IMAGE_TOKENS * pictures


def _gather(node: object, words: list[str]) -> int:
    """Put every text below `node` into `words`; the number of pictures below it."""
    if isinstance(node, str):
        if node.startswith("data:image/"):
            return 1
        words.append(node + " ")
        return 0
    if isinstance(node, list):
        if node and all(isinstance(item, int) for item in node):  # an embedding's input, as token numbers
            words.append(" a" * len(node))
            return 0
        return sum(_gather(item, words) for item in node)
    if isinstance(node, dict):
        if node.get("type") == "image" or (node.get("type") == "base64" and "data" in node):
            return 1
        return sum(_gather(value, words) for name, value in node.items() if name not in _NOT_TEXT)
    return 0
