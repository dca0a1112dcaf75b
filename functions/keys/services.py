"""What admins do for others: keys of services, anybody's key revoked, keys that nobody uses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from governance import keys
from governance.keys import KeyBudget
from governance.people import Person

from . import terms
from .answers import Issued, Known, Listed, Revoked
from .desk import Desk, Found, Request
from .terms import Refused

POWERS = ("team", "models", "rpm", "tpm", "budget", "project", "cost_centre", "expiry")


def require_admin(asked: Request, whom_to_ask: str) -> None:
    """Raise Refused when policy/ does not name the person as an admin."""
    if not asked.is_admin:
        raise Refused(f"That is for those who run Tally. Please ask {whom_to_ask}.", 403)


def issue(desk: Desk, asked: Request, given: Mapping[str, str], people: Mapping[str, Person]) -> Issued:
    """A key for a service, with an owner who answers for it. `people` are those who are here, by e-mail."""
    terms.only(given, *POWERS, needs=("name", "owner"))
    name, owner = terms.key_name(given["name"]), people.get(given["owner"].lower())
    if owner is None:
        raise Refused("Nobody here has that e-mail; `owner` answers for the key, and is told of it.")
    team = given.get("team") or owner.team
    if team not in {person.team for person in people.values()}:
        raise Refused("Nobody here is in that team.")
    rules = desk.company.keys
    if any(key.name == name and key.refusal(asked.now) is None and not key.replaced_by for _, key in _all(desk)):
        raise Refused(f"There is a service key called `{name}`. Choose another name, or revoke that one first.", 409)
    amount, period = terms.budget(given["budget"]) if given.get("budget") else (None, None)
    expires_at = terms.expiry(given.get("expiry"), asked.now, rules.days, rules.longest_days, desk.company.zone)
    powers: dict[str, Any] = {
        "models": terms.patterns(given["models"]) if given.get("models") else (),
        "requests_per_minute": terms.per_minute(given["rpm"], "rpm") if given.get("rpm") else None,
        "tokens_per_minute": terms.per_minute(given["tpm"], "tpm") if given.get("tpm") else None,
        "budget": KeyBudget(amount_usd=amount, period=period) if amount and period else None,
        "tags": tuple(terms.tag(tag, given[tag]) for tag in ("project", "cost_centre") if given.get(tag)),
    }
    key = keys.make()
    hashed, record = keys.new_record(
        key,
        desk.pepper.get_secret_value(),
        person=None,
        team=team,
        kind="service",
        name=name,
        expires_at=expires_at,
        owner=owner.email,
        **powers,
    )
    desk.registry.put(keys.COLLECTION, hashed, record.document())
    desk.note(asked, "key.issued", None, record)
    return Issued(SecretStr(key), record, desk.proxy_url)


def listed(desk: Desk, asked: Request) -> Listed:
    """Every key of a service that is not revoked."""
    used = desk.last_used()
    return Listed("service", desk.known((key for _, key in _all(desk)), used or {}), used is not None, asked.now)


def idle(desk: Desk, asked: Request) -> Listed:
    """Keys of people and services that work and were not used for the company's idle days, the oldest first.

    Until the alerts function has counted, there is no telling: the answer is empty and says so.
    """
    used, rules = desk.last_used(), desk.company.keys
    if used is None:
        return Listed("idle", (), False, asked.now, rules.idle_days)
    since = (asked.now - timedelta(days=rules.idle_days)).date()
    working = (keys.KeyRecord.model_validate(d.fields) for d in desk.registry.find(keys.COLLECTION, revoked_at=None))
    found = [
        Known(key, used.get(key.key_id))
        for key in working
        if key.refusal(asked.now) is None and (used.get(key.key_id) or key.created_at.date()) <= since
    ]
    found.sort(key=lambda known: (known.last_used_on or known.record.created_at.date(), known.record.key_id))
    return Listed("idle", tuple(found), True, asked.now, rules.idle_days)


def revoke(desk: Desk, asked: Request, key_id: str) -> Revoked:
    """Close anybody's key, by its id."""

    def find() -> list[Found]:
        found = desk.registry.find(keys.COLLECTION, key_id=key_id)
        parsed = [(document, keys.KeyRecord.model_validate(document.fields)) for document in found]
        return [(document, key) for document, key in parsed if key.revoked_at is None]

    return desk.revoked(asked, find, "by an admin")


def _all(desk: Desk) -> list[Found]:
    found = [(d, keys.KeyRecord.model_validate(d.fields)) for d in desk.registry.find(keys.COLLECTION, kind="service")]
    return sorted(
        ((d, key) for d, key in found if key.revoked_at is None), key=lambda pair: (pair[1].created_at, pair[1].key_id)
    )
