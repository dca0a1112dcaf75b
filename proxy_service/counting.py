"""Tokens counted by us, where the provider tells none: a real tokenizer, and a ratio learned from what it does tell.

OpenAI's newer models are counted with o200k, its older ones and embeddings with cl100k; both come with LiteLLM, and
nothing is fetched. Anthropic and Moonshot publish no tokenizer: theirs is taken for o200k, times the ratio that a
model's whole answers showed between the provider's count and ours (`Ratios`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from functools import cache
from statistics import median
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from tiktoken import Encoding

_NEWEST: Final = "o200k_base"
_OLDER: Final = "cl100k_base"
_OF_OLDER: Final = ("gpt-4-", "gpt-3.5", "text-embedding-", "gpt-35")
_IMAGE_TOKENS: Final = 1_500  # what a picture of a screen costs with Anthropic and OpenAI, give or take a third
_SMALL_IMAGE_TOKENS: Final = 85  # OpenAI's, with detail: low
_MESSAGE_TOKENS: Final = 3  # role and separators around each message, and once for the opening of the answer
_SLICE: Final = 20_000  # characters encoded at once: the encoder's time grows faster than a text without spaces


@cache
def _encoding(name: str) -> Encoding:
    # LiteLLM's module points tiktoken at the tables that it brings along.
    from litellm.litellm_core_utils.default_encoding import encoding

    if name == encoding.name:
        return encoding
    import tiktoken

    return tiktoken.get_encoding(name)


def _name_of(model: str | None) -> str:
    bare = (model or "").rpartition("/")[2]
    return _OLDER if bare == "gpt-4" or bare.startswith(_OF_OLDER) else _NEWEST


def warm() -> None:
    """Load the tables: half a second, better before the first request than during one."""
    _encoding(_NEWEST)


def count_text(pieces: Iterable[str], model: str | None = None) -> int:
    """Tokens of a text in pieces, as the model's tokenizer or the nearest to it cuts them."""
    encoding, text = _encoding(_name_of(model)), "".join(pieces)
    slices = (text[at : at + _SLICE] for at in range(0, len(text), _SLICE))
    return sum(len(encoding.encode_ordinary(part)) for part in slices)


# ---- prompts --------------------------------------------------------------------------------------------------------

_PROMPT: Final = (
    "system",
    "instructions",
    "messages",
    "input",
    "prompt",
    "tools",
    "functions",
    "response_format",
    "text",
)
_AS_JSON: Final = ("tools", "functions", "response_format", "text")  # what the model sees as a schema, names and all
_NOT_TEXT: Final = frozenset(
    {"type", "id", "cache_control", "encrypted_content", "signature", "media_type", "detail", "role", "status"}
    | {"call_id", "tool_use_id", "tool_call_id", "format", "filename", "file_id"}
)
_BLOBS: Final = frozenset({"data", "file_data"})  # base64: a picture, a page, a sound


def prompt_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a request that a provider counts as input."""
    return {name: body[name] for name in _PROMPT if body.get(name)}


def count_prompt(prompt: Mapping[str, Any], model: str | None = None) -> int:
    """Tokens of a request's input: its words, its tools as JSON, what stands around messages, a figure per picture."""
    words: list[str] = []
    pictures = sum(_gather(value, words) for name, value in prompt.items() if name not in _AS_JSON)
    words += [orjson.dumps(prompt[name]).decode() for name in _AS_JSON if prompt.get(name)]
    turns = prompt.get("messages") or prompt.get("input")
    talk = isinstance(turns, list) and turns and isinstance(turns[0], dict)
    around = _MESSAGE_TOKENS * (len(turns) + 1) if talk and isinstance(turns, list) else _MESSAGE_TOKENS
    return count_text(words, model) + around + pictures


def _gather(node: object, words: list[str]) -> int:
    """Put every text below `node` into `words`; the tokens of the pictures below it."""
    if isinstance(node, str):
        if node.startswith("data:"):
            return _IMAGE_TOKENS
        words.append(node + "\n")
        return 0
    if isinstance(node, list):
        if node and all(isinstance(item, int) for item in node):  # an embedding's input, as token numbers
            words.append(" a" * len(node))
            return 0
        return sum(_gather(item, words) for item in node)
    if isinstance(node, dict):
        if node.get("type") in ("image", "input_image") or (isinstance(node.get("image_url"), dict)):
            source = node.get("image_url")
            low = node.get("detail") == "low" or (isinstance(source, dict) and source.get("detail") == "low")
            return _SMALL_IMAGE_TOKENS if low else _IMAGE_TOKENS
        if node.get("type") == "tool_use":  # a tool's arguments, as the model wrote them
            words.append(f"{node.get('name')} {orjson.dumps(node.get('input')).decode()}\n")
            return 0
        return sum(
            _IMAGE_TOKENS if name in _BLOBS and isinstance(value, str) else _gather(value, words)
            for name, value in node.items()
            if name not in _NOT_TEXT
        )
    return 0


# ---- what the tokenizer gets wrong ----------------------------------------------------------------------------------


class Ratios:
    """By model, a provider's own counts over ours, of the answers for which there are both. Any thread."""

    LEAST_TOKENS: Final = 50  # of an answer that teaches anything
    ENOUGH: Final = 5  # answers before what they teach is used
    _MOST: Final = 51  # answers that are remembered of a model
    _FIRST: Final = 20  # answers of a model that are all compared; of later ones each twentieth
    _WITHIN: Final = (0.6, 2.0)  # beyond, it is not a matter of tokenizers

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._ratios: dict[str, deque[float]] = {}
        self._lock = Lock()

    def due(self, model: str | None) -> bool:
        """Whether the next answer of this model is to be compared."""
        if not model or (model not in self._seen and len(self._seen) >= 1_000):
            return False
        with self._lock:
            self._seen[model] = seen = self._seen.get(model, 0) + 1
        return seen <= self._FIRST or seen % self._FIRST == 0

    def learn(self, model: str | None, told: int, counted: int) -> None:
        """An answer of this model was so many tokens to its provider, and so many to us."""
        least, most = self._WITHIN
        if model and counted >= self.LEAST_TOKENS and least <= told / counted <= most:
            with self._lock:
                self._ratios.setdefault(model, deque(maxlen=self._MOST)).append(told / counted)

    def of(self, model: str | None) -> float:
        """By what our count of this model's tokens is to be multiplied."""
        with self._lock:
            known = list(self._ratios.get(model or "", ()))
        return median(known) if len(known) >= self.ENOUGH else 1.0


RATIOS: Final = Ratios()  # of this process
