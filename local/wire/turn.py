"""Turn: what one simulated answer will be, decided before its first byte. local/wire/directive.py decides it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import cycle, islice
from typing import Final, Literal, NamedTuple

UsageMode = Literal["ask", "send", "omit", "end"]
MAX_WORDS: Final = 16_384  # of a visible answer; what is dictated beyond it is billed all the same
_OPENING: Final = ("This", " answer", " comes", " from", " the", " simulated", " provider", ".")
_FILLER: Final = (" The", " code", " is", " in", " the", " file", " and", " the", " test", " is", " green", ".")
_THOUGHTS: Final = (
    "Thinking",
    " about",
    " it",
    ".",
    " The",
    " user",
    " wants",
    " the",
    " test",
    " to",
    " be",
    " green",
)
_BARE_ARGUMENTS: Final = 12  # tokens of a tool call without content


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens by kind. `input_tokens` are neither read from nor written to a cache; reasoning is part of output.

    Tokens of sound are part of `input_tokens` and of `output_tokens`.
    """

    input_tokens: int
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0

    @property
    def cache_write_tokens(self) -> int:
        """Written to either cache."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def prompt_tokens(self) -> int:
        """All of the prompt, as OpenAI counts it."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def visible_tokens(self) -> int:
        """Of the output, what is not reasoning."""
        return self.output_tokens - self.reasoning_tokens

    def one_cache(self) -> Tokens:
        """The same with a provider that tells no lifetimes of its cache apart."""
        return replace(self, cache_write_5m_tokens=self.cache_write_tokens, cache_write_1h_tokens=0)

    def until(self, output_tokens: int) -> Tokens:
        """The same, had the answer ended after so many tokens of output."""
        output = min(output_tokens, self.output_tokens)
        reasoning, sound = min(self.reasoning_tokens, output), min(self.output_audio_tokens, output)
        return replace(self, output_tokens=output, reasoning_tokens=reasoning, output_audio_tokens=sound)


NOTHING: Final = Tokens(0)


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a request was served, each of which has its own price. `residency` empty: anywhere."""

    service_tier: str = "standard"  # standard, flex, priority, batch, ultrafast, fast
    residency: str = ""
    web_searches: int = 0


STANDARD: Final = Terms()


class Piece(NamedTuple):
    """A delta of a stream, and how many tokens of the output it is."""

    text: str
    tokens: int


class Frame(NamedTuple):
    """What is written at once, and how many tokens of the output are in it."""

    data: bytes
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer."""

    tokens: Tokens
    terms: Terms = STANDARD
    usage: UsageMode = "ask"
    tool: str | None = None
    error: int | None = None
    errors: int = 0  # how often this very request fails before it is answered
    delay_ms: int = 0
    chunks: int = 10
    chunk_ms: int = 0
    cut: int | None = None
    loops: int = 1  # samplings behind one answer, when the provider calls tools of its own
    byok: bool = False  # OpenRouter: with the caller's own key of the vendor

    def text(self) -> str:
        """The visible answer, one word per output token that is not reasoning."""
        return "".join(self._visible())

    def deltas(self) -> list[Piece]:
        """The visible answer in at most `chunks` pieces."""
        return _pieces(self._visible(), self.chunks, self.tokens.visible_tokens)

    def arguments(self) -> str:
        """A tool call's arguments, as JSON: about as long as the visible answer would be."""
        words = self._visible()[: max(0, self.tokens.visible_tokens - _BARE_ARGUMENTS)]
        told = {"path": "notes.txt"} | ({"content": "".join(words)} if words else {})
        return json.dumps(told, separators=(",", ":"))

    def argument_deltas(self) -> list[Piece]:
        """The arguments in pieces."""
        text = self.arguments()
        size = math.ceil(len(text) / max(2, min(self.chunks, len(text) // 8)))
        return _pieces([text[at : at + size] for at in range(0, len(text), size)], 10**6, self.tokens.visible_tokens)

    def thought(self) -> str:
        """The reasoning, one word for each of its tokens; empty without."""
        return "".join(self._thoughts())

    def thoughts(self) -> list[Piece]:
        """The reasoning in at most `chunks` pieces."""
        return _pieces(self._thoughts(), self.chunks, self.tokens.reasoning_tokens)

    def summary(self) -> str:
        """All that some providers tell of the reasoning."""
        return "".join(_THOUGHTS[:4]) if self.tokens.reasoning_tokens else ""

    def _visible(self) -> tuple[str, ...]:
        return _words(_OPENING, _FILLER, min(MAX_WORDS, max(1, self.tokens.visible_tokens)))

    def _thoughts(self) -> tuple[str, ...]:
        return _words(_THOUGHTS, _THOUGHTS[4:], min(MAX_WORDS, self.tokens.reasoning_tokens))


@lru_cache(maxsize=1024)
def _words(opening: tuple[str, ...], filler: tuple[str, ...], count: int) -> tuple[str, ...]:
    return (*opening, *islice(cycle(filler), max(0, count - len(opening))))[:count]


def _pieces(words: Sequence[str], most: int, tokens: int) -> list[Piece]:
    """Words in at most so many pieces, with the tokens spread over them."""
    size = math.ceil(len(words) / max(1, most)) or 1
    texts = ["".join(words[at : at + size]) for at in range(0, len(words), size)]
    ends = [tokens * (number + 1) // len(texts) for number in range(len(texts))]
    return [Piece(text, end - start) for text, start, end in zip(texts, [0, *ends], ends, strict=False)]
