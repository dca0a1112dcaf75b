"""Who belongs to the company: people.csv alone, so that a lean function loads no prices, no budgets and no YAML."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Final, Self

from pydantic import model_validator

from governance.policy_csv import Email, PolicyError, Row, Text, read_rows

PEOPLE: Final = "people.csv"


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


def admins(people: tuple[Person, ...], day: date) -> tuple[str, ...]:
    """E-mails of those whom a refused person is told to ask."""
    return tuple(person.email for person in people if person.role == "admin" and person.is_here(day))


def read_people(path: Path) -> tuple[Person, ...]:
    """The rows of people.csv. Raises PolicyError."""
    people: list[Person] = []
    first_seen: dict[str, int] = {}
    for line, person in read_rows(path, Person):
        if person.email in first_seen:
            raise PolicyError(path.name, line, f"{person.email} stands on line {first_seen[person.email]} already")
        first_seen[person.email] = line
        people.append(person)
    return tuple(people)
