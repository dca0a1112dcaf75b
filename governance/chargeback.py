"""What finance knows and the gateway does not: seats with a fee, who pays for a team, and true-ups of closed months."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from governance.policy_csv import Email, PolicyError, Row, Text, read_rows

Cents = Annotated[Decimal, Field(decimal_places=9, ge=-(10**12), le=10**12)]
Provider = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[a-z0-9_.-]+$")]


def _first_day(month: Any) -> Any:
    """`2026-10` is the first of October; anything else is for pydantic to refuse."""
    if isinstance(month, str) and len(month) == 7:
        return f"{month}-01"
    if isinstance(month, str):
        raise ValueError("a month is written as 2026-10")
    return month


class Seat(Row):
    """One row of seats.csv. `valid_to` (column `to`) is the first day on which the seat is not held any more."""

    email: Email
    provider: Provider
    plan: Text
    usd_per_month: Annotated[Decimal, Field(ge=0, le=10**6, decimal_places=9)]
    valid_from: Annotated[date, Field(validation_alias="from")]
    valid_to: Annotated[date | None, Field(validation_alias="to")] = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError(f"to {self.valid_to} is not after from {self.valid_from}")
        return self


class CostCentre(Row):
    """One row of teams.csv: who pays for a team. A team without a row is its own cost centre."""

    team: Text
    cost_centre: Text


class TrueUp(Row):
    """One row of adjustments.csv: a closed month made equal to the provider's bill. `month` is its first day."""

    month: Annotated[date, BeforeValidator(_first_day)]
    provider: Provider
    team: Text | None = None
    amount_usd: Cents
    note: Text


def read_seats(path: Path, emails: set[str]) -> tuple[Seat, ...]:
    """The rows of seats.csv, each held by one of `emails`; none where there is no file. Raises PolicyError."""
    seats: list[tuple[int, Seat]] = []
    for line, seat in read_rows(path, Seat) if path.exists() else ():
        if seat.email not in emails:
            raise PolicyError(path.name, line, f"{seat.email} is not in people.csv")
        for other_line, other in seats:
            same = (seat.email, seat.provider, seat.plan) == (other.email, other.provider, other.plan)
            if (
                same
                and seat.valid_from < (other.valid_to or date.max)
                and other.valid_from < (seat.valid_to or date.max)
            ):
                raise PolicyError(path.name, line, f"the seat of line {other_line} holds on some of the same days")
        seats.append((line, seat))
    return tuple(seat for _, seat in seats)


def read_cost_centres(path: Path, teams: set[str]) -> tuple[CostCentre, ...]:
    """The rows of teams.csv, one at most for each of `teams`; none where there is no file. Raises PolicyError."""
    found: dict[str, CostCentre] = {}
    for line, row in read_rows(path, CostCentre) if path.exists() else ():
        if row.team not in teams:
            raise PolicyError(path.name, line, f"nobody in people.csv is in a team {row.team!r}")
        if row.team in found:
            raise PolicyError(path.name, line, f"{row.team} has a cost centre already")
        found[row.team] = row
    return tuple(found.values())


def read_adjustments(path: Path, teams: set[str]) -> tuple[TrueUp, ...]:
    """The rows of adjustments.csv, each for one of `teams` or none; none where there is no file. Raises PolicyError."""
    found: dict[TrueUp, int] = {}
    for line, row in read_rows(path, TrueUp) if path.exists() else ():
        if row.team is not None and row.team not in teams:
            raise PolicyError(path.name, line, f"nobody in people.csv is in a team {row.team!r}")
        if not row.amount_usd:
            raise PolicyError(path.name, line, "amount_usd: nothing is adjusted by 0")
        if row in found:
            raise PolicyError(
                path.name, line, f"the same as line {found[row]}, and would count once; say so in the note"
            )
        found[row] = line
    return tuple(found)


def seat_rows(seats: Sequence[Seat]) -> list[dict[str, Any]]:
    """The seats as rows of the table `seats`, where the e-mail is called `person`."""
    return [
        {
            "person": seat.email,
            "provider": seat.provider,
            "plan": seat.plan,
            "usd_per_month": seat.usd_per_month,
            "valid_from": seat.valid_from,
            "valid_to": seat.valid_to,
        }
        for seat in seats
    ]


def team_rows(cost_centres: Sequence[CostCentre]) -> list[dict[str, Any]]:
    """The cost centres as rows of the table `teams`."""
    return [{"team": row.team, "cost_centre": row.cost_centre} for row in cost_centres]
