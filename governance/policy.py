"""Read and check `policy/`: people, budgets, seats, prices. A fault is told with file, line and reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from governance import prices
from governance.chargeback import CostCentre, Seat, TrueUp, read_adjustments, read_cost_centres, read_seats
from governance.contract import NOTHING_NEGOTIATED, Contract, read_contract
from governance.policy_csv import Email, PolicyError, Row, Text, read_rows
from governance.policy_yaml import read_items

__all__ = [
    "BUDGETS", "PEOPLE", "Budget", "Contract", "CostCentre", "Person", "Policy", "PolicyError", "Seat", "TrueUp",
    "admins", "people_rows", "read_budgets", "read_people", "read_policy",
]  # fmt: skip

PEOPLE, BUDGETS, PRICES = "people.csv", "budgets.yaml", "prices.yaml"
SEATS, TEAMS, ADJUSTMENTS = "seats.csv", "teams.csv", "adjustments.csv"
Percent = Annotated[int, Field(ge=1, le=1000)]


class Person(Row):
    """One row of people.csv. `left_on` is the first day on which the person is not here any more."""

    email: Email
    name: Text
    team: Text
    role: Text
    joined_on: date
    left_on: date | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.left_on is not None and self.left_on < self.joined_on:
            raise ValueError(f"left_on {self.left_on} is before joined_on {self.joined_on}")
        return self

    def is_here(self, day: date) -> bool:
        """Whether this person belongs to the company on `day`."""
        return self.joined_on <= day and (self.left_on is None or day < self.left_on)


class Budget(BaseModel):
    """What a company or a team may spend in one period. `thresholds` are percent of `amount_usd`, ascending."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    scope: Literal["company", "team"]
    name: Text | None = None
    period: Literal["month"] = "month"
    amount_usd: Annotated[Decimal, Field(gt=0, le=10**12)]
    thresholds: Annotated[tuple[Percent, ...], Field(min_length=1)] = (80, 100)
    action: Literal["warn"] = "warn"

    @model_validator(mode="after")
    def _named_and_ascending(self) -> Self:
        if (self.scope == "team") != (self.name is not None):
            raise ValueError("a budget of scope team needs the team's name; one of scope company has none")
        if list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError(f"thresholds must ascend, each once, and not be {list(self.thresholds)}")
        return self

    @property
    def key(self) -> str:
        """The budget's name, the same as long as it limits the same spending: `company-month`, `team-Search-month`."""
        return "-".join(part for part in (self.scope, self.name, self.period) if part)


@dataclass(frozen=True)
class Policy:
    """A company: people, leavers among them, budgets, and what it pays. E-mails and budget keys are unique."""

    people: tuple[Person, ...]
    budgets: tuple[Budget, ...]
    seats: tuple[Seat, ...] = ()
    cost_centres: tuple[CostCentre, ...] = ()
    adjustments: tuple[TrueUp, ...] = ()
    contract: Contract = NOTHING_NEGOTIATED

    def teams(self) -> tuple[str, ...]:
        """Every team that anyone is or was in, in the order of the file."""
        return tuple(dict.fromkeys(person.team for person in self.people))

    def whom_to_tell(self, budget: Budget, day: date) -> tuple[str, ...]:
        """E-mails of those who are told of a budget: the team's leads and finance; the admins where there are none."""
        here = [person for person in self.people if person.is_here(day)]
        told = [p.email for p in here if p.role == "finance" or (p.role == "lead" and p.team == budget.name)]
        return tuple(told or admins(self.people, day))

    def finance(self, day: date) -> tuple[str, ...]:
        """E-mails of those who mind the prices."""
        return tuple(person.email for person in self.people if person.role == "finance" and person.is_here(day))


def admins(people: tuple[Person, ...], day: date) -> tuple[str, ...]:
    """E-mails of those whom a refused person is told to ask."""
    return tuple(person.email for person in people if person.role == "admin" and person.is_here(day))


def read_policy(folder: Path) -> Policy:
    """The policy in a folder. Raises PolicyError; an answer is whole and consistent, or there is none.

    Only people.csv and budgets.yaml must be there.
    """
    people = read_people(folder / PEOPLE)
    teams = {person.team for person in people}
    contract = read_contract(folder / PRICES)
    try:
        prices.book(contract)
    except prices.PriceBookError as error:
        raise PolicyError(PRICES, contract.lines.get(error.about, 1), str(error)) from None
    return Policy(
        people,
        read_budgets(folder / BUDGETS, teams),
        read_seats(folder / SEATS, {person.email for person in people}),
        read_cost_centres(folder / TEAMS, teams),
        read_adjustments(folder / ADJUSTMENTS, teams),
        contract,
    )


def read_people(path: Path) -> tuple[Person, ...]:
    """The rows of people.csv. Raises PolicyError. Needs no YAML, so that a lean function may read people alone."""
    people: list[Person] = []
    first_seen: dict[str, int] = {}
    for line, person in read_rows(path, Person):
        if person.email in first_seen:
            raise PolicyError(path.name, line, f"{person.email} stands on line {first_seen[person.email]} already")
        first_seen[person.email] = line
        people.append(person)
    return tuple(people)


def read_budgets(path: Path, teams: set[str]) -> tuple[Budget, ...]:
    """The budgets of budgets.yaml, each for one of `teams` or the company. Raises PolicyError."""
    budgets: list[Budget] = []
    for _, line, lines, budget in read_items(path, {"budgets": Budget}):
        if budget.name is not None and budget.name not in teams:
            raise PolicyError(path.name, lines["name"], f"nobody in {PEOPLE} is in a team {budget.name!r}")
        if any(budget.key == other.key for other in budgets):
            raise PolicyError(path.name, line, f"there is a budget {budget.key} already")
        budgets.append(budget)
    return tuple(budgets)


def people_rows(policy: Policy) -> list[dict[str, Any]]:
    """The people as rows of the table `people`: the person's e-mail is called `person` there."""
    return [
        {
            "person": person.email,
            "name": person.name,
            "team": person.team,
            "role": person.role,
            "joined_on": person.joined_on,
            "left_on": person.left_on,
        }
        for person in policy.people
    ]
