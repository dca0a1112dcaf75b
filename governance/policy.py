"""Read and check `policy/`: people, budgets, seats, prices. A fault is told with file, line and reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from governance import prices
from governance.budgets import Budget, read_budgets
from governance.chargeback import CostCentre, Seat, TrueUp, read_adjustments, read_cost_centres, read_seats
from governance.company import DEFAULTS, Company, read_company
from governance.contract import NOTHING_NEGOTIATED, Contract, read_contract
from governance.people import PEOPLE, Person, admins, read_people
from governance.policy_csv import PolicyError

__all__ = [
    "BUDGETS", "COMPANY", "PEOPLE", "Budget", "Company", "Contract", "CostCentre", "Person", "Policy", "PolicyError",
    "Seat", "TrueUp", "admins", "people_rows", "read_budgets", "read_people", "read_policy", "read_policy_once",
]  # fmt: skip

BUDGETS, COMPANY, PRICES = "budgets.yaml", "company.yaml", "prices.yaml"
SEATS, TEAMS, ADJUSTMENTS = "seats.csv", "teams.csv", "adjustments.csv"


@dataclass(frozen=True)
class Policy:
    """A company: people, leavers among them, budgets, rules, and what it pays. E-mails and budget keys are unique."""

    people: tuple[Person, ...]
    budgets: tuple[Budget, ...]
    seats: tuple[Seat, ...] = ()
    cost_centres: tuple[CostCentre, ...] = ()
    adjustments: tuple[TrueUp, ...] = ()
    contract: Contract = NOTHING_NEGOTIATED
    company: Company = DEFAULTS

    def teams(self) -> tuple[str, ...]:
        """Every team that anyone is or was in, in the order of the file."""
        return tuple(dict.fromkeys(person.team for person in self.people))

    def whom_to_tell(self, budget: Budget, day: date) -> tuple[str, ...]:
        """E-mails of those who are told of a budget beside the person whose it is: whom the budget names; else the
        leads of the team and finance; the admins where there are none. No finance for one person's budget."""
        if budget.tell:
            return budget.tell
        if budget.scope == "person":
            told = self.leads_of(budget.name or "", day)
        else:
            leads = self.leads_in(budget.name or "", day) if budget.scope == "team" else ()
            told = (*leads, *self.finance(day))
        return told or self.admins(day)

    def person(self, email: str | None) -> Person | None:
        """Who has this e-mail, a leaver too."""
        return self._by_email.get(email or "")

    def leads_in(self, team: str, day: date) -> tuple[str, ...]:
        """E-mails of a team's leads."""
        return tuple(lead.email for lead in self._leads.get(team, ()) if lead.is_here(day))

    def leads_of(self, email: str, day: date) -> tuple[str, ...]:
        """E-mails of the leads of a person's team, without that person."""
        person = self.person(email)
        return tuple(lead for lead in self.leads_in(person.team, day) if lead != email) if person else ()

    def admins(self, day: date) -> tuple[str, ...]:
        """E-mails of those whom a refused person is told to ask."""
        return tuple(admin.email for admin in self._admins if admin.is_here(day))

    def operators(self, day: date) -> tuple[str, ...]:
        """E-mails of those who run Tally."""
        return self.company.operators or self.admins(day)

    def finance(self, day: date) -> tuple[str, ...]:
        """E-mails of those who mind the prices."""
        return tuple(person.email for person in self._finance if person.is_here(day))

    # Sorted out once: a tick asks for each of thousands of budgets.

    @cached_property
    def _by_email(self) -> dict[str, Person]:
        return {person.email: person for person in self.people}

    @cached_property
    def _leads(self) -> dict[str, tuple[Person, ...]]:
        leads: dict[str, tuple[Person, ...]] = {}
        for person in self.people:
            if person.role == "lead":
                leads[person.team] = (*leads.get(person.team, ()), person)
        return leads

    @cached_property
    def _finance(self) -> tuple[Person, ...]:
        return tuple(person for person in self.people if person.role == "finance")

    @cached_property
    def _admins(self) -> tuple[Person, ...]:
        return tuple(person for person in self.people if person.role == "admin")


def read_policy_once(folder: Path) -> Policy:
    """As `read_policy`, and the same object again while no file of the folder has changed."""
    names = (PEOPLE, BUDGETS, PRICES, COMPANY, SEATS, TEAMS, ADJUSTMENTS)
    stats = [(name, (folder / name).stat()) for name in names if (folder / name).exists()]
    return _read(folder, tuple((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in stats))


@lru_cache(maxsize=4)
def _read(folder: Path, stamp: tuple[object, ...]) -> Policy:
    return read_policy(folder)


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
        read_budgets(folder / BUDGETS, teams, {person.email for person in people}),
        read_seats(folder / SEATS, {person.email for person in people}),
        read_cost_centres(folder / TEAMS, teams),
        read_adjustments(folder / ADJUSTMENTS, teams),
        contract,
        read_company(folder / COMPANY),
    )


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
