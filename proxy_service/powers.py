"""Which models a key may use. Pure: a key's patterns, a name, a body in; yes, or a refusal out.

A pattern (as in fnmatch) fits a model under each of its names: as it was asked for, with its provider before it, and
without. Of a router's model only the full name counts: `anthropic/*` opens Anthropic, not Anthropic through OpenRouter.
Some bodies name a second model beside the first, which the provider then calls by itself; it has to fit as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

from governance.keys import KeyRecord
from proxy_service.refusals import Refusal

# Where people and agents speak, and what describes an answer or a tool of theirs: no model is asked for in there.
_SPEECH: Final = frozenset(
    {
        "client_metadata", "input", "instructions", "messages", "metadata", "model", "output_config", "output_format",
        "prompt", "response_format", "system", "text",
    }
)  # fmt: skip
_THEIR_TOOLS: Final = (None, "function", "custom")
_HOLDS: Final = (dict, list)  # of what JSON can be, that in which a name can stand
_DEPTH: Final = 3


@lru_cache(maxsize=8192)
def may_use(patterns: tuple[str, ...], model: str, provider: str | None) -> bool:
    """Whether a key with these patterns may use the model. No patterns: any."""
    if not patterns:
        return True
    names = {model}
    if provider is not None:
        bare = model.removeprefix(f"{provider}/")
        names.add(f"{provider}/{bare}")
        if "/" not in bare:
            names.add(bare)
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def refusal(record: KeyRecord, model: str, provider: str | None, body: Mapping[str, Any]) -> Refusal | None:
    """Why this key may not make this request, for a model that it names; None when it may."""
    if not record.models:
        return None
    if not may_use(record.models, model, provider):
        return _not_this(record, model)
    for name in others(body):
        full = name if provider is None or name.startswith(f"{provider}/") else f"{provider}/{name}"
        if not may_use(record.models, full, provider):
            return _not_this(record, name)
    return None


def _not_this(record: KeyRecord, model: str) -> Refusal:
    ask = f"{record.owner}, who answers for it," if record.owner else "whoever runs Tally here"
    allowed = ", ".join(record.models)
    return Refusal(
        403,
        "model_not_allowed",
        f"This key may not use {model[:100]!r}. It may use: {allowed}. Choose one of these, or ask {ask} for more.",
    )


def others(body: Mapping[str, Any]) -> Iterator[str]:
    """The models that a body names beside its own: a fallback, an adviser, a model behind a tool of the provider's."""
    for name, value in body.items():
        if name == "tools" and isinstance(value, list):
            for tool in [t for t in value if type(t) is dict and t.get("type") not in _THEIR_TOOLS]:
                yield from _named(tool, _DEPTH)
        elif name not in _SPEECH and (type(value) in _HOLDS or "model" in name):
            yield from _named({name: value}, _DEPTH)


def _named(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _named(item, depth - 1)
    elif isinstance(value, dict) and depth >= 0:
        for name, inside in value.items():
            if name == "model" or name.endswith("_model"):
                yield from [inside] if isinstance(inside, str) else _named(inside, depth - 1)
            elif name == "models" or name.endswith("_models"):
                yield from _listed(inside, depth)
            else:
                yield from _named(inside, depth - 1)


def _listed(value: object, depth: int) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        yield from [item] if isinstance(item, str) else _named(item, depth - 1)
