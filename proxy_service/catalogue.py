"""Which models there are, and whose: the patterns of config.yaml, filled with the models LiteLLM knows by name.

A pattern's model is to be had when the gateway holds a key for its provider. The list that agents see names only those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from proxy_service.powers import may_use
from proxy_service.refusals import Refusal

_CREATED = 1_700_000_000  # the OpenAI list wants a time; nobody knows it
_LISTED_MODES = frozenset({"chat", "responses", "embedding"})
# Where LiteLLM calls a provider: the variables that say so, the address without them, what it adds for inference.
_HOMES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "openai": (("OPENAI_BASE_URL", "OPENAI_API_BASE"), "https://api.openai.com/v1", ""),
    "anthropic": (("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"), "https://api.anthropic.com", "/v1/messages"),
    "openrouter": (("OPENROUTER_API_BASE",), "https://openrouter.ai/api/v1", ""),
    "moonshot": (("MOONSHOT_API_BASE",), "https://api.moonshot.ai/v1", ""),
}


@dataclass(frozen=True)
class Offer:
    """One line of config.yaml: a pattern of names, and the provider that serves them."""

    pattern: str
    target: str
    available: bool

    @property
    def provider(self) -> str:
        """LiteLLM's name for the provider."""
        return self.target.partition("/")[0]

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.pattern).replace(r"\*", "(.*)"))

    def matches(self, model: str) -> bool:
        """Whether this line is about that model."""
        return self._regex.fullmatch(model) is not None

    def name_of(self, listed: str) -> str | None:
        """The name under which a caller has this model of the provider, if this pattern covers it."""
        bare = listed.removeprefix(f"{self.provider}/")
        head, star, tail = self.target.partition("/")[2].partition("*")
        if not star or not bare.startswith(head) or not bare.endswith(tail):
            return bare if bare == head and not star else None
        return self.pattern.replace("*", bare[len(head) : len(bare) - len(tail) or None], 1)


class Catalogue:
    """The gateway's models."""

    def __init__(self, offers: Sequence[Offer], known: Mapping[str, Mapping[str, Any]]) -> None:
        # As LiteLLM chooses: an exact name first, then the longest pattern.
        self._offers = sorted(offers, key=lambda o: ("*" not in o.pattern, len(re.escape(o.pattern))), reverse=True)
        self._known = known
        self._remembered: dict[str, Offer | None] = {}

    def offer(self, model: str) -> Offer | None:
        """The line that serves this model."""
        if model not in self._remembered:
            if len(self._remembered) > 5_000:
                self._remembered.clear()
            self._remembered[model] = next((o for o in self._offers if o.matches(model)), None)
        return self._remembered[model]

    def provider(self, model: str) -> str | None:
        """LiteLLM's name for the provider that serves this model."""
        offer = self.offer(model)
        return offer.provider if offer else None

    def refusal(self, model: str) -> Refusal | None:
        """Why this model is not to be had here."""
        offer = self.offer(model)
        if offer is None:
            served = ", ".join(sorted(o.pattern for o in self._offers if o.available)) or "none yet"
            return Refusal(404, "model_not_found", f"No provider here serves {model[:100]!r}. Served: {served}.")
        if not offer.available:
            return Refusal(
                404,
                "provider_not_configured",
                f"The gateway has no key for {offer.provider}. Ask whoever runs it, or choose another model.",
            )
        return None

    @cached_property
    def names(self) -> list[str]:
        """The models to be had, each once, under the shortest name that a pattern gives it."""
        names: set[str] = set()
        for listed, about in self._known.items():
            if about.get("mode") not in _LISTED_MODES or listed.startswith("ft:"):
                continue
            mine = [o for o in self._offers if o.available and o.provider == about.get("litellm_provider")]
            given = [name for offer in mine if (name := offer.name_of(listed))]
            if given:
                names.add(min(given, key=len))
        return sorted(names)

    def listing(self, patterns: tuple[str, ...] = ()) -> dict[str, Any]:
        """The models that a key with these patterns may use: one object that OpenAI's and Anthropic's clients read."""
        data = [self.entry(name) for name in self.names if may_use(patterns, name, self.provider(name))]
        return {
            "object": "list",
            "data": data,
            "has_more": False,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
        }

    def entry(self, name: str) -> dict[str, Any]:
        """One model of the list."""
        return {
            "id": name,
            "object": "model",
            "type": "model",
            "display_name": name,
            "created": _CREATED,
            "created_at": "2023-11-14T22:13:20Z",
            "owned_by": self.provider(name) or "gateway",
        }


def offers(model_list: Iterable[Mapping[str, Any]], environment: Mapping[str, str]) -> list[Offer]:
    """The lines of LiteLLM's `model_list`. A key given as `os.environ/NAME` is there when that variable is."""
    found = []
    for line in model_list:
        parameters = line["litellm_params"]
        key = str(parameters.get("api_key") or "")
        named = key.removeprefix("os.environ/")
        found.append(
            Offer(line["model_name"], parameters["model"], bool(environment.get(named)) if named != key else True)
        )
    return found


class Homes:
    """Whose an address is that LiteLLM calls."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        homes = []
        for provider, (variables, usual, added) in _HOMES.items():
            base = next((environment[name] for name in variables if environment.get(name)), usual).rstrip("/")
            homes.append((base.removesuffix(added) + added, provider))
        self._homes = sorted(homes, key=lambda home: len(home[0]), reverse=True)

    def provider_at(self, url: str) -> str | None:
        """LiteLLM's name for the provider that is called there; None for an address that is none of these."""
        return next((provider for base, provider in self._homes if url.startswith(base)), None)
