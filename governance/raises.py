"""Temporary raises: somebody asks for more of a budget's current period, a lead grants or refuses it.

A raise is a document of the registry. Granted, it is also told to the gateways at once (governance.gate), and the next
tick counts it into the limit. It ends with its period, by itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from governance import gate
from governance.gate import Granted, Limit
from governance.registry import Conflict, Registry

if TYPE_CHECKING:
    from governance.people import Person

COLLECTION: Final = "raises"  # of the registry
State = Literal["asked", "granted", "refused"]


class TooMuch(ValueError):
    """More than the rules of the company allow in one period; says how much is left to ask for."""

    def __init__(self, left_usd: Decimal) -> None:
        super().__init__(f"at most {left_usd} more may be granted in this period")
        self.left_usd = left_usd


class Decided(Exception):
    """Somebody has decided already."""

    def __init__(self, raise_: Raise) -> None:
        super().__init__(raise_.state)
        self.decided = raise_


class Raise(BaseModel):
    """One wish for more of one budget in one period, and what became of it. Times are UTC.

    `slack_told`: whom the state concerns (who may decide, then who asked) has heard of it in Slack already.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    budget: str
    scope: str
    name: str
    period: str
    ends_at: datetime
    extra_usd: Decimal = Field(gt=0, decimal_places=2)
    asked_by: str
    reason: str = ""
    asked_at: datetime
    state: State = "asked"
    decided_by: str | None = None
    decided_at: datetime | None = None
    slack_told: bool = False

    def document(self) -> dict[str, Any]:
        """As a registry document."""
        return self.model_dump(mode="json")


def ask(
    registry: Registry, limit: Limit, extra_usd: Decimal, by: str, reason: str, now: datetime, at_most_percent: int
) -> Raise:
    """Ask for more of the budget behind `limit`. Raises TooMuch, RegistryError."""
    amount = limit.limit_usd - limit.extra_usd
    left = max(amount * at_most_percent / 100 - limit.extra_usd, Decimal(0))
    if extra_usd > left:
        raise TooMuch(left)
    asked = Raise(
        id=uuid.uuid4().hex[:12],
        budget=limit.budget,
        scope=limit.scope,
        name=limit.name,
        period=limit.period,
        ends_at=limit.ends_at,
        extra_usd=extra_usd,
        asked_by=by,
        reason=reason[:300],
        asked_at=now,
    )
    registry.put(COLLECTION, asked.id, asked.document())
    return asked


def find(registry: Registry, id: str) -> Raise | None:
    """The raise of this id. Raises RegistryError."""
    document = registry.get(COLLECTION, id)
    return Raise.model_validate(document.fields) if document else None


def decide(registry: Registry, id: str, grant: bool, by: str, now: datetime) -> Raise:
    """Grant or refuse. Whoever comes second gets Decided, unless it is the same person saying the same again: then the
    gateways are told once more, should that have failed. Raises LookupError, RegistryError, Conflict."""
    document = registry.get(COLLECTION, id)
    if document is None:
        raise LookupError(id)
    raised, state = Raise.model_validate(document.fields), "granted" if grant else "refused"
    if raised.state != "asked" and (raised.state, raised.decided_by) != (state, by):
        raise Decided(raised)
    if raised.state == "asked":
        update = {"state": state, "decided_by": by, "decided_at": now, "slack_told": False}
        raised = raised.model_copy(update=update)
        try:
            registry.put(COLLECTION, id, raised.document(), document.version)
        except Conflict:
            return decide(registry, id, grant, by, now)
    if grant and raised.ends_at > now:
        gate.grant(registry, as_granted(raised))
    return raised


def as_granted(raised: Raise) -> Granted:
    """As the gateways are told."""
    return Granted(raised.id, raised.budget, raised.name, raised.period, raised.extra_usd)


def of_periods(registry: Registry, periods: Iterable[str]) -> list[Raise]:
    """All raises of these periods, by id. Raises RegistryError."""
    return [
        Raise.model_validate(document.fields)
        for period in sorted(set(periods))
        for document in registry.find(COLLECTION, period=period)
    ]


def mark_told(registry: Registry, wish: Raise) -> None:
    """Note that Slack has told whom this state of the raise concerns: the deciders, or whoever asked.

    Raises RegistryError; a Conflict is somebody deciding just now.
    """
    document = registry.get(COLLECTION, wish.id)
    if document is not None and document.fields.get("state") == wish.state:
        registry.put(COLLECTION, wish.id, {**document.fields, "slack_told": True}, document.version)


def deciders(wish: Raise, people: Sequence[Person], day: date) -> tuple[str, ...]:
    """E-mails of those who are asked: for a person's budget the leads of that person's team, for any other finance; the
    admins where there are none. Nobody decides what they asked for themselves."""
    here = [person for person in people if person.is_here(day) and person.email != wish.asked_by]
    team = next((person.team for person in people if person.email == wish.name), None)
    if wish.scope == "person":
        asked = [person for person in here if person.role == "lead" and person.team == team]
    else:
        asked = [person for person in here if person.role == "finance"]
    return tuple(person.email for person in asked or here if asked or person.role == "admin")


def may_decide(wish: Raise, who: Person, people: Sequence[Person], day: date) -> bool:
    """Whether this person may grant or refuse: whoever is asked, and any admin; never the one who asked."""
    if who.email == wish.asked_by or not who.is_here(day):
        return False
    return who.role == "admin" or who.email in deciders(wish, people, day)
