"""The key desk: a person's own keys, and those of the services that the person answers for.

A key that belongs to somebody else and a key that never was get the same answer. Nothing here is logged but who did
what to which key id; who did what is also written to the audit log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pydantic import SecretStr

from governance import keys
from governance.audit import Action, Entry, Origin, told
from governance.company import Company
from governance.people import Person
from governance.registry import Conflict, Document, Registry, RegistryError

from . import terms
from .answers import Issued, Known, Listed, Revoked
from .terms import Refused

NO_SUCH_KEY = "You have no such key. `list` shows those you have."
USAGE = "key_usage"  # of the registry: on which day each key was last used, as the alerts function counted it
_TRIES = 5  # somebody else may be writing the same document; then it is read anew
Found = tuple[Document, keys.KeyRecord]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """Who asks, through which door (`slack`, `api`), and when (UTC)."""

    person: Person
    origin: Origin
    now: datetime

    @property
    def is_admin(self) -> bool:
        """Whether policy/ names the person as one who may do this for others."""
        return self.person.role == "admin"


@dataclass(frozen=True)
class Desk:
    """Issues keys by the company's rules into the registry. Every method raises Refused and RegistryError."""

    registry: Registry
    pepper: SecretStr
    proxy_url: str
    company: Company
    audit: Callable[[Entry], object]

    def issue(self, asked: Request, name: str | None, expiry: str | None) -> Issued:
        """A new key of the person's own."""
        rules, person = self.company.keys, asked.person
        ends = terms.expiry(expiry, asked.now, rules.days, rules.longest_days, self.company.zone)
        live = self._current(person, asked.now)
        taken = {key.name for _, key in live}
        if name is None:
            name = next(n for n in ("default", *(f"default-{i}" for i in range(2, 999))) if n not in taken)
        if terms.key_name(name) in taken:
            raise Refused(f"You have a key called `{name}`. Choose another name, or `revoke {name}` first.", 409)
        if len(live) >= rules.per_person:
            raise self._full()
        key = keys.make()
        hashed, record = keys.new_record(
            key,
            self.pepper.get_secret_value(),
            person=person.email,
            team=person.team,
            name=name,
            expires_at=ends,
            models=rules.models,
            requests_per_minute=rules.requests_per_minute,
            tokens_per_minute=rules.tokens_per_minute,
        )
        document = Document(hashed, record.document(), self.registry.put(keys.COLLECTION, hashed, record.document()))
        # Two requests at once may both have seen room for one: whoever finds the desk too full takes the key back.
        now_live = [key for _, key in self._current(person, asked.now)]
        if len(now_live) > rules.per_person or sum(key.name == name for key in now_live) > 1:
            self.close(document, record, asked.now)
            raise self._full() if len(now_live) > rules.per_person else Refused("That name was just taken.", 409)
        self.note(asked, "key.issued", None, record)
        return Issued(SecretStr(key), record, self.proxy_url)

    def _full(self) -> Refused:
        most = self.company.keys.per_person
        return Refused(f"One person may have {most} keys at a time. `revoke` one first, then ask again.", 409)

    def listed(self, asked: Request) -> Listed:
        """The person's keys and those of the services that the person answers for; expired ones are among them."""
        used = self.last_used()
        found = (key for _, key in self._reachable(asked.person))
        return Listed("own", self.known(found, used or {}), used is not None, asked.now)

    def rotate(self, asked: Request, which: str | None) -> Issued:
        """A new key in place of one of the person's, which lives on for the company's overlap."""
        for _ in range(_TRIES):
            document, record = self._one(asked, which)
            try:
                return self._replaced(asked, document, record)
            except Conflict:
                continue
        raise Refused("That key is being changed right now. Please try again.", 409)

    def rotatable(self, asked: Request, which: str) -> keys.KeyRecord:
        """The key that `rotate` would replace."""
        return self._one(asked, which)[1]

    def _replaced(self, asked: Request, document: Document, old: keys.KeyRecord) -> Issued:
        """Rotate exactly this version of a key. Raises Conflict when it has changed; then nothing new is left."""
        rules, now = self.company.keys, asked.now
        lived = old.expires_at - old.created_at if old.expires_at else timedelta(days=rules.days)
        key = keys.make()
        hashed, made = keys.new_record(
            key,
            self.pepper.get_secret_value(),
            person=old.person,
            team=asked.person.team if old.kind == "human" else old.team,
            kind=old.kind,
            name=old.name,
            expires_at=now + min(lived, timedelta(days=rules.longest_days)),
        )
        same = ("models", "requests_per_minute", "tokens_per_minute", "budget", "tags", "owner")
        made = made.model_copy(update={name: getattr(old, name) for name in same})
        version = self.registry.put(keys.COLLECTION, hashed, made.document())
        ends = min(now + rules.overlap, old.expires_at or datetime.max.replace(tzinfo=UTC))
        overlapping = old.model_copy(update={"replaced_by": made.key_id, "expires_at": ends})
        try:
            self._write(document, overlapping)
        except (Conflict, RegistryError):
            self.close(Document(hashed, made.document(), version), made, now)
            raise
        self.note(asked, "key.rotated", old, made)
        return Issued(SecretStr(key), made, self.proxy_url, replaces=overlapping)

    def revoke(self, asked: Request, which: str) -> Revoked:
        """Close a key by its id, or by its name with whatever it has replaced: a lost laptop holds both."""
        return self.revoked(asked, lambda: self._named(asked, which), "by its owner")

    def revoked(self, asked: Request, find: Callable[[], list[Found]], why: str) -> Revoked:
        """Close what `find` finds, all of it, however others write meanwhile."""
        closed: dict[str, keys.KeyRecord] = {}
        for _ in range(_TRIES):
            found = find()
            if not found and not closed:
                raise Refused(NO_SUCH_KEY, 404)
            clean = True
            for document, record in found:
                try:
                    closed[record.key_id] = self.close(document, record, asked.now, why)
                except Conflict:
                    clean = False
                    continue
                self.note(asked, "key.revoked", record, closed[record.key_id])
            if clean:
                return Revoked(tuple(closed.values()))
        raise Refused("That key is being changed right now. Please try again.", 409)

    # What the desk knows

    def _reachable(self, person: Person) -> list[Found]:
        """The keys that are this person's to use or answer for, oldest first, without those that are revoked."""
        own = self.registry.find(keys.COLLECTION, person=person.email)
        answered = self.registry.find(keys.COLLECTION, owner=person.email)
        found = {d.id: (d, keys.KeyRecord.model_validate(d.fields)) for d in (*own, *answered)}
        return sorted(
            (
                (d, key)
                for d, key in found.values()
                if key.revoked_at is None and (key.person if key.kind == "human" else key.owner) == person.email
            ),
            key=lambda pair: (pair[1].created_at, pair[1].key_id),
        )

    def _current(self, person: Person, now: datetime) -> list[Found]:
        """The person's own keys that work and are not on their way out: those that count."""
        return [
            (d, k)
            for d, k in self._reachable(person)
            if k.kind == "human" and k.refusal(now) is None and not k.replaced_by
        ]

    def _named(self, asked: Request, which: str) -> list[Found]:
        """The keys meant by an id, or by a name: those that work, else those that have expired."""
        found = self._reachable(asked.person)
        named = [(d, k) for d, k in found if k.key_id == which]
        named = named or [(d, k) for d, k in found if k.name == which and k.kind == "human"]
        return [(d, k) for d, k in named if k.refusal(asked.now) is None] or named

    def _one(self, asked: Request, which: str | None) -> Found:
        """The one key to rotate. Raises Refused."""
        if which is None:
            found = self._current(asked.person, asked.now)
            if len(found) > 1:
                raise Refused("Which one? `list` shows your keys; `rotate laptop` replaces the one called so.")
        else:
            named = self._named(asked, which)
            found = [(d, k) for d, k in named if not k.replaced_by] or named
        if not found:
            raise Refused(NO_SUCH_KEY, 404)
        if found[-1][1].refusal(asked.now) is not None:
            raise Refused("That key has expired. `issue` gives you a new one.", 409)
        if found[-1][1].replaced_by:
            raise Refused(f"That key was replaced already, by `{found[-1][1].replaced_by}`.", 409)
        return found[-1]

    def key_ids(self, person: Person) -> list[str]:
        """The ids of the person's own keys."""
        return [key.key_id for _, key in self._reachable(person) if key.kind == "human"]

    def last_used(self) -> Mapping[str, date] | None:
        """The day of each key's last request, by key id; None when the alerts function has not counted yet."""
        document = self.registry.get(USAGE, "recent")
        if document is None:
            return None
        told = document.fields.get("last_used")
        return {id: date.fromisoformat(day) for id, day in told.items()} if isinstance(told, dict) else None

    @staticmethod
    def known(found: Iterable[keys.KeyRecord], used: Mapping[str, date]) -> tuple[Known, ...]:
        """Keys beside the day of their last request."""
        return tuple(Known(key, used.get(key.key_id)) for key in found)

    # What the desk writes

    def close(
        self, document: Document, record: keys.KeyRecord, now: datetime, why: str | None = None
    ) -> keys.KeyRecord:
        """Revoke exactly this version of a key. Raises Conflict."""
        closed = record.model_copy(update={"revoked_at": now, "revoked_why": why})
        self._write(document, closed)
        return closed

    def _write(self, document: Document, record: keys.KeyRecord) -> None:
        self.registry.put(keys.COLLECTION, document.id, {**document.fields, **record.document()}, document.version)

    def note(self, asked: Request, action: Action, before: keys.KeyRecord | None, after: keys.KeyRecord) -> None:
        """Say in the log and in the audit log what was done."""
        words = action.replace(".", " ")
        log.info(words, extra={"person": asked.person.email, "key_id": after.key_id})
        self.audit(
            Entry(
                at=asked.now,
                actor=asked.person.email,
                action=action,
                subject=after.key_id,
                before=None if before is None else summary(before),
                after=summary(after),
                origin=asked.origin,
            )
        )


def summary(record: keys.KeyRecord) -> str:
    """A key in the audit log: what it is and may do, never what it is made of."""
    fields = {
        "key_id", "person", "owner", "team", "kind", "name", "expires_at", "revoked_at", "revoked_why", "replaced_by",
        "models", "requests_per_minute", "tokens_per_minute", "budget", "tags",
    }  # fmt: skip
    return told(record.model_dump(mode="json", include=fields, exclude_defaults=True))
