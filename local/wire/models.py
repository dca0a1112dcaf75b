"""The lists of models: OpenAI's and Anthropic's in one shape that either's SDK reads; OpenRouter's with its prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

MODELS: Final = (
    ("claude-opus-5-5", "anthropic"),
    ("claude-sonnet-5-5", "anthropic"),
    ("claude-haiku-5-5", "anthropic"),
    ("gpt-6.1-sol", "openai"),
    ("gpt-6-luna", "openai"),
    ("text-embedding-3-small", "openai"),
    ("kimi-k3", "moonshot"),
)
ROUTED: Final = (
    ("anthropic/claude-opus-4.5", "Anthropic: Claude Opus 4.5", 200_000),
    ("anthropic/claude-sonnet-4.5", "Anthropic: Claude Sonnet 4.5", 1_000_000),
    ("openai/gpt-5.4", "OpenAI: GPT-5.4", 400_000),
    ("moonshotai/kimi-k2.6", "MoonshotAI: Kimi K2.6", 262_144),
)
_PRICED: Final = (  # OpenRouter's name of a price, and our kind
    ("prompt", "input"),
    ("completion", "output"),
    ("input_cache_read", "cache_read"),
    ("input_cache_write", "cache_write_5m"),
    ("web_search", "web_search"),
)
_CREATED: Final = 1_700_000_000


def listing() -> dict[str, Any]:
    """The models by name."""
    data = [
        {"id": name, "object": "model", "type": "model", "display_name": name, "created": 0, "owned_by": owner}
        for name, owner in MODELS
    ]
    return {"object": "list", "data": data, "has_more": False}


def routed(prices_of: Callable[[str], Mapping[str, Decimal]]) -> dict[str, Any]:
    """OpenRouter's `/api/v1/models`: prices are decimal strings, dollars for one token or one search."""
    data = []
    for slug, name, context in ROUTED:
        prices = prices_of(slug)
        pricing = {theirs: f"{prices[ours] / 1_000_000:f}" for theirs, ours in _PRICED if ours in prices}
        data.append(
            {
                "id": slug,
                "canonical_slug": slug,
                "name": name,
                "created": _CREATED,
                "description": "A model of the simulated OpenRouter.",
                "context_length": context,
                "architecture": {
                    "modality": "text+image->text",
                    "input_modalities": ["text", "image"],
                    "output_modalities": ["text"],
                    "tokenizer": "Other",
                    "instruct_type": None,
                },
                "pricing": {"request": "0", "image": "0", "internal_reasoning": "0"} | pricing,
                "top_provider": {
                    "context_length": context,
                    "max_completion_tokens": 64_000,
                    "is_moderated": slug.startswith(("anthropic/", "openai/")),
                },
                "per_request_limits": None,
                "supported_parameters": ["max_tokens", "temperature", "tools", "tool_choice", "reasoning"],
            }
        )
    return {"data": data}
