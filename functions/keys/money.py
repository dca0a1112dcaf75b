"""What a person may still spend, and asking for more of it. Read from what the gateways are told: no warehouse here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from governance import gate, raises
from governance.audit import Action, Entry, told
from governance.gate import Limit
from governance.people import Person
from governance.raises import Raise
from governance.registry import Conflict

from . import terms
from .answers import Asked, Decided, Usage, Waiting
from .desk import Desk, Request
from .terms import Refused

_NOTHING = "Nothing has been counted yet. Please try again in a few minutes."


def usage(desk: Desk, asked: Request) -> Usage:
    """The budgets that hold for the person, their keys and team, and the company; the tightest first.

    A team of few is left out for all but its leads, finance and admins: its sum would tell what the others spend.
    """
    known, person = _known(desk, asked), asked.person
    may = person.role in ("finance", "admin", "lead")
    return replace(known, limits=tuple(limit for limit in known.limits if may or not limit.hidden))


def _known(desk: Desk, asked: Request) -> Usage:
    person = asked.person
    subjects = [("person", person.email), *(("key", key_id) for key_id in desk.key_ids(person))]
    subjects += [("team", person.team), ("company", "")]
    found = gate.read_for(desk.registry, subjects)
    if found is None:
        raise Refused(_NOTHING, 503)
    limits = [limit for limit in found.limits_for(subjects) if limit.ends_at > asked.now]
    late = (asked.now - found.head.written_at).total_seconds() > found.head.stale_after_s
    ordered = sorted(limits, key=lambda limit: (not limit.blocked, left(limit), limit.budget))
    return Usage(tuple(ordered), found.head.counted_through, found.head.stale or late)


def left(limit: Limit) -> Decimal:
    """What may still be spent; below zero when it is too much already."""
    return limit.limit_usd - limit.spent_usd


def ask(desk: Desk, asked: Request, amount: str, reason: str, people: Sequence[Person], budget: str = "") -> Asked:
    """Ask for more of the tightest budget, or of the one named, until its period ends. Nobody is told yet."""
    extra = terms.dollars(amount)
    limits = [limit for limit in _known(desk, asked).limits if not budget or limit.budget == budget]
    if not limits:
        raise Refused("There is no such budget of yours." if budget else "No budget limits you.", 404)
    limit = limits[0]
    waiting = [
        wish
        for wish in raises.of_periods(desk.registry, [limit.period])
        if (wish.budget, wish.name, wish.asked_by, wish.state)
        == (limit.budget, limit.name, asked.person.email, "asked")
    ]
    if waiting:
        raise Refused(f"You have asked for that already (`{waiting[0].id}`), and nobody has decided yet.", 409)
    percent = desk.company.raises.at_most_percent
    try:
        wish = raises.ask(desk.registry, limit, extra, asked.person.email, reason, asked.now, percent)
    except raises.TooMuch as error:
        raise Refused(
            f"{_at_most(error.left_usd)} Beyond that: {limit.ask or 'the budget itself has to change'}."
        ) from None
    _note(desk, asked, "raise.asked", wish)
    return Asked(wish, raises.deciders(wish, people, asked.now.date()), told=False)


def _at_most(left_usd: Decimal) -> str:
    if left_usd <= 0:
        return "This budget has been raised as far as the company allows in one period."
    return f"At most ${left_usd:,.2f} more can be granted in this period."


def decide(desk: Desk, asked: Request, id: str, grant: bool, people: Sequence[Person]) -> Decided:
    """Grant or refuse a raise, by somebody who may. The gateways know of a granted one at once."""
    wish = raises.find(desk.registry, id)
    if wish is None:
        raise Refused("There is no such raise.", 404)
    if not raises.may_decide(wish, asked.person, people, asked.now.date()):
        whom = " or ".join(raises.deciders(wish, people, asked.now.date())) or "an admin"
        raise Refused(f"That is not yours to decide. {whom} may.", 403)
    if wish.ends_at <= asked.now:
        raise Refused(f"Its period {wish.period} is over; the budget has begun anew.", 409)
    if grant and wish.state == "asked":
        _still_within(desk, wish)
    before = wish.state
    try:
        decided = raises.decide(desk.registry, id, grant, asked.person.email, asked.now)
    except raises.Decided as error:
        raise Refused(_decided_by(error.decided), 409) from None
    except Conflict:
        raise Refused("That is being decided right now. Please try again.", 503) from None
    if before == "asked":
        _note(desk, asked, "raise.granted" if grant else "raise.refused", decided)
    return Decided(decided)


def _decided_by(wish: Raise) -> str:
    return f"It was {wish.state} by {wish.decided_by} already."


def _still_within(desk: Desk, wish: Raise) -> None:
    """Refuse what would, beside what was granted since it was asked for, be more than the company allows."""
    subject = (wish.scope, wish.name)
    found = gate.read_for(desk.registry, [subject])
    for limit in found.limits_for([subject]) if found else ():
        if limit.id == (wish.budget, wish.name, wish.period):
            most = (limit.limit_usd - limit.extra_usd) * desk.company.raises.at_most_percent / 100
            if limit.extra_usd + wish.extra_usd > most:
                raise Refused(_at_most(most - limit.extra_usd))


def waiting(desk: Desk, asked: Request, people: Sequence[Person]) -> Waiting:
    """The raises that this person may decide, the oldest first."""
    wishes = [Raise.model_validate(d.fields) for d in desk.registry.find(raises.COLLECTION, state="asked")]
    today = asked.now.date()
    mine = [w for w in wishes if w.ends_at > asked.now and raises.may_decide(w, asked.person, people, today)]
    return Waiting(tuple(sorted(mine, key=lambda wish: (wish.asked_at, wish.id))))


def _note(desk: Desk, asked: Request, action: Action, wish: Raise) -> None:
    decided = action != "raise.asked"
    state = {"id": wish.id, "name": wish.name, "period": wish.period, "extra_usd": wish.extra_usd}
    desk.audit(
        Entry(
            at=asked.now,
            actor=asked.person.email,
            action=action,
            subject=wish.budget,
            origin=asked.origin,
            before=told({**state, "state": "asked"}) if decided else None,
            after=told({**state, "state": wish.state, "asked_by": wish.asked_by, "reason": wish.reason or None}),
        )
    )
