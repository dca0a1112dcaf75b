"""What may be spent: budgets of the company, of teams and people, of keys, models, providers, tools and tags."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from governance.periods import PeriodKind
from governance.policy_csv import Email, PolicyError, Text
from governance.policy_yaml import read_items
from governance.tools import FAMILIES

Scope = Literal["company", "team", "person", "key", "model", "provider", "tool", "tag"]
Action = Literal["warn", "block"]
Percent = Annotated[int, Field(ge=1, le=1000)]
Amount = Annotated[Decimal, Field(gt=0, le=10**12, decimal_places=2)]


class Budget(BaseModel):
    """What may be spent in one period. `thresholds` are percent of `amount_usd`, ascending.

    `name` says whose spending counts; a budget of scope person without one is each person's, unless that person has one
    of that period by name. `action` block refuses requests from 100 percent on, `grace_percent` later.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    scope: Scope
    name: Text | None = None
    period: PeriodKind = "month"
    amount_usd: Amount
    thresholds: Annotated[tuple[Percent, ...], Field(min_length=1)] = (80, 100)
    action: Action = "warn"
    grace_percent: Annotated[int, Field(ge=0, le=1000)] = 0
    tell: tuple[Email, ...] = ()

    @model_validator(mode="after")
    def _named_and_ascending(self) -> Self:
        if self.scope == "company" and self.name is not None:
            raise ValueError("a budget of scope company has no name")
        if self.scope not in ("company", "person") and self.name is None:
            raise ValueError(f"a budget of scope {self.scope} needs the name of the {self.scope}")
        if self.scope == "tag" and not _is_tag(self.name or ""):
            raise ValueError("a tag is written `project=apollo`")
        if self.grace_percent and self.action == "warn":
            raise ValueError("grace_percent is for budgets that block")
        if list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError(f"thresholds must ascend, each once, and not be {list(self.thresholds)}")
        return self

    @property
    def key(self) -> str:
        """The budget's name, the same as long as it limits the same spending: `company-month`, `team-Search-month`."""
        return "-".join(part for part in (self.scope, self.name, self.period) if part)

    @property
    def is_default(self) -> bool:
        """Whether it is each person's."""
        return self.scope == "person" and self.name is None


def _is_tag(name: str) -> bool:
    label, equals, value = name.partition("=")
    return bool(label.strip() and equals and value.strip())


def read_budgets(path: Path, teams: Collection[str], people: Collection[str] = ()) -> tuple[Budget, ...]:
    """The budgets of budgets.yaml; a team, person, tool must be one that there is. Raises PolicyError.

    Keys, models, providers and tags are not known here: such a budget counts nothing until there is such spending.
    """
    known: Mapping[str, tuple[Collection[str], str]] = {
        "team": (teams, "nobody in people.csv is in a team {!r}"),
        "person": (people, "nobody in people.csv is {!r}"),
        "tool": (FAMILIES, f"{{!r}} is no tool: write one of {', '.join(FAMILIES)}"),
    }
    budgets: dict[str, Budget] = {}
    for _, line, lines, budget in read_items(path, {"budgets": Budget}):
        named = budget
        if budget.scope == "person" and budget.name is not None:
            named = budget.model_copy(update={"name": budget.name.lower()})
        if named.scope in known and named.name is not None:
            names, why = known[named.scope]
            if named.name not in names:
                raise PolicyError(path.name, lines["name"], why.format(named.name))
        if named.key in budgets:
            raise PolicyError(path.name, line, f"there is a budget {named.key} already")
        budgets[named.key] = named
    return tuple(budgets.values())
