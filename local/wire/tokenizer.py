"""The simulated providers' tokenizer: OpenAI's o200k, from the copy that LiteLLM brings along. Nothing is fetched.

The gateway counts with another one (LiteLLM's default, an older of OpenAI's), as it would beside a real provider.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tiktoken import Encoding

_SPOKEN: Final = ("system", "instructions", "messages", "input", "prompt")
_NOT_SPOKEN: Final = frozenset(
    {"type", "id", "role", "cache_control", "signature", "encrypted_content", "source", "image_url", "input_audio"}
)
_PICTURES: Final = frozenset({"image", "image_url", "input_image"})
_MESSAGE_TOKENS: Final = 3  # OpenAI's rule: role and separators around each message, and the opening of the answer
_IMAGE_TOKENS: Final = 1_500
_PICTURE: Final = "(a picture)"
_SLICE: Final = 20_000  # characters at once: the encoder's time grows faster than a text without spaces


@cache
def _encoding() -> Encoding:
    found = find_spec("litellm")
    if found is None or found.origin is None:
        raise RuntimeError("the tokenizer's table comes with LiteLLM, which is not installed")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(found.origin).parent / "litellm_core_utils" / "tokenizers")
    import tiktoken

    return tiktoken.get_encoding("o200k_base")


def count(text: str) -> int:
    """Tokens of a text."""
    encoding = _encoding()
    return sum(len(encoding.encode_ordinary(text[at : at + _SLICE])) for at in range(0, len(text), _SLICE))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        if value.get("type") in _PICTURES:
            yield _PICTURE
        for name, inner in value.items():
            if name not in _NOT_SPOKEN:
                yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def prompt_tokens(request: Mapping[str, Any]) -> int:
    """The length of a request's prompt: its words, what stands around each message, its tools as JSON; at least 1."""
    texts, pictures = [], 0
    for text in (text for field in _SPOKEN for text in _strings(request.get(field))):
        if text is _PICTURE:
            pictures += 1
        else:
            texts.append(text)
    turns = request.get("messages") or request.get("input")
    around = _MESSAGE_TOKENS * (1 + len(turns)) if isinstance(turns, list) and turns else _MESSAGE_TOKENS
    tools = json.dumps(request["tools"], separators=(",", ":")) if request.get("tools") else ""
    return max(1, count("\n".join((*texts, tools))) + around + _IMAGE_TOKENS * pictures)
