"""Read and check `policy/`: the people and the budgets of a company. A fault is told with file, line and reason."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

if TYPE_CHECKING:
    import yaml

PEOPLE, BUDGETS = "people.csv", "budgets.yaml"
COLUMNS = ("email", "name", "team", "role", "joined_on", "left_on")

# One line of print: these words stand in the headers of e-mail.
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f\u2028\u2029]*$")]
Email = Annotated[
    str,
    Field(max_length=200, pattern=r"^[^@\s,<>\"\x00-\x1f\x7f]+@[^@\s,<>\"\x00-\x1f\x7f]+$"),
    AfterValidator(str.lower),
]
Percent = Annotated[int, Field(ge=1, le=1000)]


class PolicyError(Exception):
    """A file of the policy cannot be used: `people.csv, line 7: why`."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}, line {line}: {reason}")
        self.file, self.line, self.reason = file, line, reason


class Person(BaseModel):
    """One row of people.csv. `left_on` is the first day on which the person is not here any more."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

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
    """A company: its people, those who left among them, and its budgets. E-mails and budget keys are unique."""

    people: tuple[Person, ...]
    budgets: tuple[Budget, ...]

    def teams(self) -> tuple[str, ...]:
        """Every team that anyone is or was in, in the order of the file."""
        return tuple(dict.fromkeys(person.team for person in self.people))

    def whom_to_tell(self, budget: Budget, day: date) -> tuple[str, ...]:
        """E-mails of those who are told of a budget: the team's leads and finance; the admins where there are none."""
        here = [person for person in self.people if person.is_here(day)]
        told = [p.email for p in here if p.role == "finance" or (p.role == "lead" and p.team == budget.name)]
        return tuple(told or admins(self.people, day))


def admins(people: tuple[Person, ...], day: date) -> tuple[str, ...]:
    """E-mails of those whom a refused person is told to ask."""
    return tuple(person.email for person in people if person.role == "admin" and person.is_here(day))


def read_policy(folder: Path) -> Policy:
    """The policy in a folder. Raises PolicyError; an answer is whole and consistent, or there is none."""
    people = read_people(folder / PEOPLE)
    return Policy(people, read_budgets(folder / BUDGETS, {person.team for person in people}))


def read_people(path: Path) -> tuple[Person, ...]:
    """The rows of people.csv. Raises PolicyError. Needs no YAML, so that a lean function may read people alone."""
    people: list[Person] = []
    first_seen: dict[str, int] = {}
    for line, cells in _csv_rows(path):
        given = {name: value for name, value in zip(COLUMNS, cells, strict=True) if name != "left_on" or value.strip()}
        try:
            person = Person.model_validate(given)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise PolicyError(path.name, line, _in_words(fault)) from None
        if person.email in first_seen:
            raise PolicyError(path.name, line, f"{person.email} stands on line {first_seen[person.email]} already")
        first_seen[person.email] = line
        people.append(person)
    return tuple(people)


def read_budgets(path: Path, teams: set[str]) -> tuple[Budget, ...]:
    """The budgets of budgets.yaml, each for one of `teams` or the company. Raises PolicyError."""
    budgets: list[Budget] = []
    for line, lines, given in _yaml_budgets(path):
        try:
            budget = Budget.model_validate(given)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            field = str(fault["loc"][0]) if fault["loc"] else ""
            raise PolicyError(path.name, lines.get(field, line), _in_words(fault)) from None
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


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PolicyError(path.name, 1, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PolicyError(path.name, line, "is not UTF-8; save it as UTF-8") from None


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row below the header that is not blank."""
    rows = csv.reader(_text(path).splitlines(keepends=True), strict=True)
    line = 1
    try:
        header = next(rows, [])
        if tuple(cell.strip() for cell in header) != COLUMNS:
            raise PolicyError(path.name, 1, f"the first line must be {','.join(COLUMNS)}")
        line = rows.line_num + 1
        for cells in rows:
            if any(cell.strip() for cell in cells):
                if len(cells) != len(COLUMNS):
                    raise PolicyError(path.name, line, f"{len(cells)} cells, but there are {len(COLUMNS)} columns")
                yield line, cells
            line = rows.line_num + 1
    except csv.Error as error:
        raise PolicyError(path.name, line, str(error)) from None


def _yaml_budgets(path: Path) -> Iterator[tuple[int, Mapping[str, int], dict[str, Any]]]:
    """(line, line of each field, fields) of every item of `budgets`."""
    import yaml

    try:
        root = yaml.compose(_text(path), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(path.name, line, error.problem or "is not YAML") from None
    except yaml.YAMLError:
        raise PolicyError(path.name, 1, "is not YAML: it holds a character that YAML forbids") from None
    listed = _fields(path, root).get("budgets") if isinstance(root, yaml.MappingNode) else None
    if not isinstance(listed, yaml.SequenceNode):
        raise PolicyError(path.name, 1, "must hold a list called budgets")
    for item in listed.value:
        fields = _fields(path, item)
        lines = {name: node.start_mark.line + 1 for name, node in fields.items()}
        yield item.start_mark.line + 1, lines, {name: _value(path, node) for name, node in fields.items()}


def _fields(path: Path, node: yaml.Node) -> dict[str, yaml.Node]:
    """The fields of a mapping, each once: YAML itself would silently keep the last of two."""
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise PolicyError(path.name, node.start_mark.line + 1, "write `scope: …`, `amount_usd: …`, each on its line")
    fields: dict[str, yaml.Node] = {}
    for name, value in node.value:
        if not isinstance(name, yaml.ScalarNode):
            raise PolicyError(path.name, name.start_mark.line + 1, "the name of a field is one word")
        if name.value in fields:
            raise PolicyError(path.name, name.start_mark.line + 1, f"{name.value} is given twice")
        fields[name.value] = value
    return fields


def _value(path: Path, node: yaml.Node) -> Any:
    """What was written, as text (so that 0.1 stays 0.1 and a team may be called On), or a list of such."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode) and all(isinstance(part, yaml.ScalarNode) for part in node.value):
        return [part.value for part in node.value]
    raise PolicyError(path.name, node.start_mark.line + 1, "one value or a list of values belongs here")


def _in_words(fault: Mapping[str, Any]) -> str:
    field = str(fault["loc"][0]) if fault["loc"] else ""
    what = "is missing" if fault["type"] == "missing" else str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        what = "is not a field of a budget"
    return f"{field}: {what}" if field else what
