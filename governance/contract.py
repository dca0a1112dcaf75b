"""What a company pays other than the public list: overrides, discounts and aliases, as policy/prices.yaml has them.

Days are UTC; `valid_from` is the first day, `valid_to` the first day on which it does not hold any more. Nothing of
this changes a list price, but for a model that no list knows, and for the fallback.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from governance.policy_csv import PolicyError
from governance.policy_yaml import read_items
from governance.price_list import ANY, undated

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
Usd = Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=9)]
Kind = Literal[
    "input", "cache_read", "cache_write_5m", "cache_write_1h", "output",
    "input_audio", "input_image", "output_audio", "output_image", "web_search",
]  # fmt: skip


def _pairs(given: Any) -> Any:
    """A mapping as pairs in its order: a tuple can be compared and hashed."""
    return tuple(given.items()) if isinstance(given, dict) else given


class _Dated(BaseModel):
    """What holds from a day on, and until another if that is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    valid_from: date
    valid_to: date | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError(f"valid_to {self.valid_to} is not after valid_from {self.valid_from}")
        return self

    def holds(self, day: date) -> bool:
        """Whether it holds on that day."""
        return self.valid_from <= day and (self.valid_to is None or day < self.valid_to)


class Override(_Dated):
    """A price the company pays for one model in one tier, for the kinds that it names; `*` of `*` is the fallback."""

    provider: Name
    model: Name
    service_tier: Literal["standard", "flex", "priority", "batch", "ultrafast", "fast"] = "standard"
    usd_per_million: Annotated[tuple[tuple[Kind, Usd], ...], BeforeValidator(_pairs), Field(min_length=1)]
    why: Annotated[str, Field(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _of_one_model(self) -> Self:
        if (self.provider == ANY) != (self.model == ANY):
            raise ValueError("an override is for one model of one provider; * of * is the fallback")
        if self.model == ANY and (self.service_tier != "standard" or self.valid_to is not None):
            raise ValueError("the fallback has one tier, standard, and no end: something must hold")
        return self

    @property
    def key(self) -> tuple[object, ...]:
        """Two of the same key cannot both hold."""
        return (self.provider, self.model, self.service_tier, self.valid_from)

    @property
    def prices(self) -> dict[str, Decimal]:
        """Kind to US dollars for a million."""
        return {str(kind): usd for kind, usd in self.usd_per_million}


class Discount(_Dated):
    """Percent off the list price of every kind, for the models that fit, dated names too; `*` is any."""

    provider: Name
    model: Name
    percent: Annotated[Decimal, Field(gt=0, le=100, decimal_places=4)]

    def fits(self, provider: str, model: str) -> bool:
        """Whether it is for this model. The fallback is a guess, and no contract is about a guess."""
        named = any(fnmatchcase(name, self.model) for name in (model, undated(model)))
        return named and self.provider in (ANY, provider) and (provider, model) != (ANY, ANY)

    @property
    def key(self) -> tuple[object, ...]:
        """Two of the same key cannot both hold."""
        return (self.provider, self.model, self.valid_from)

    @property
    def exactness(self) -> tuple[bool, bool, int]:
        """The higher, the more exact: a model before a pattern, a provider before `*`, long before short."""
        return (not set(self.model) & set("*?["), self.provider != ANY, len(self.model))


class Alias(BaseModel):
    """Another name for a model; from `valid_from` on (or always), until a later alias of the same name."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    provider: Name
    alias: Name
    model: Name
    valid_from: date | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """Two of the same key cannot both hold."""
        return (self.provider, self.alias, self.valid_from)


@dataclass(frozen=True)
class Contract:
    """All of it, in the order of the file."""

    overrides: tuple[Override, ...] = ()
    discounts: tuple[Discount, ...] = ()
    aliases: tuple[Alias, ...] = ()
    lines: Mapping[Any, int] = field(default_factory=dict, compare=False)  # of each in the file

    def overrides_of(self, provider: str, model: str) -> tuple[Override, ...]:
        """Those of one model, the oldest first: where two name a kind, the later one holds."""
        found = (o for o in self.overrides if (o.provider, o.model) == (provider, model))
        return tuple(sorted(found, key=lambda o: o.valid_from))

    def discounts_of(self, provider: str, model: str) -> tuple[Discount, ...]:
        """Those that fit one model, the strongest last: the most exact, then the one that began last."""
        found = (d for d in self.discounts if d.fits(provider, model))
        return tuple(sorted(found, key=lambda d: (d.exactness, d.valid_from)))


NOTHING_NEGOTIATED = Contract()
SECTIONS: dict[str, type[Override] | type[Discount] | type[Alias]] = {
    "overrides": Override,
    "discounts": Discount,
    "aliases": Alias,
}


def read_contract(path: Path) -> Contract:
    """What prices.yaml holds; nothing where there is no file. Raises PolicyError.

    Whether the models are known, and what becomes of it together with the list, is the book's to say.
    """
    found: dict[str, list[Any]] = {section: [] for section in SECTIONS}
    seen: dict[tuple[Any, ...], int] = {}
    lines: dict[Any, int] = {}
    for section, line, _, item in read_items(path, SECTIONS, ("usd_per_million",)) if path.exists() else ():
        key = (section, *item.key)
        if key in seen:
            raise PolicyError(path.name, line, f"the same as line {seen[key]} says; two prices cannot hold at once")
        seen[key] = line
        found[section].append(item)
        lines[item] = line
    return Contract(tuple(found["overrides"]), tuple(found["discounts"]), tuple(found["aliases"]), lines)
