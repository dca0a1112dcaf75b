"""The key desk: issue, list and revoke one's own keys. It knows who asks, and answers in text for that person alone.

A key that belongs to somebody else and a key that never was get the same answer. Nothing here is logged but who did
what to which key id.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from governance import keys
from governance.policy import Person
from governance.registry import Conflict, Document, Registry

HELP = """\
*Your keys to the models*, one for each machine or tool:
• `issue [name]` - a new key, shown once
• `list` - your keys
• `revoke <name or id>` - a key that you lost or no longer need; it stops within seconds"""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_KEY_ID = re.compile(r"[0-9a-f]{12}")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desk:
    """Issues `key_days` long keys, at most `keys_per_person` of them, into the registry."""

    registry: Registry
    pepper: SecretStr
    proxy_url: str
    key_days: int
    keys_per_person: int

    def answer(self, person: Person, words: str, now: datetime) -> str:
        """What the person reads after writing `words`. `now` is in UTC. Raises RegistryError."""
        verb, *rest = words.split() or ["help"]
        if verb == "issue" and len(rest) <= 1:
            return self._issue(person, rest[0] if rest else None, now)
        if verb == "list" and not rest:
            return self._list(person, now)
        if verb == "revoke" and len(rest) == 1:
            return self._revoke(person, rest[0], now)
        return HELP

    def _own(self, person: Person) -> list[tuple[Document, keys.KeyRecord]]:
        """The person's keys that are not revoked, oldest first; expired ones are among them."""
        found = [
            (d, keys.KeyRecord.model_validate(d.fields))
            for d in self.registry.find(keys.COLLECTION, person=person.email)
        ]
        own = [(d, k) for d, k in found if k.person == person.email and k.kind == "human" and k.revoked_at is None]
        return sorted(own, key=lambda pair: (pair[1].created_at, pair[1].key_id))

    def _live(self, person: Person, now: datetime) -> list[tuple[Document, keys.KeyRecord]]:
        return [(d, k) for d, k in self._own(person) if k.refusal(now) is None]

    def _issue(self, person: Person, name: str | None, now: datetime) -> str:
        live = self._live(person, now)
        taken = {key.name for _, key in live}
        if name is None:
            name = next(n for n in ("default", *(f"default-{i}" for i in range(2, 99))) if n not in taken)
        if not _NAME.fullmatch(name) or _KEY_ID.fullmatch(name):
            return "A key's name is one word of letters, digits, `.`, `_` or `-`, for example `issue laptop`."
        if name in taken:
            return f"You have a key called `{name}`. Choose another name, or `revoke {name}` first."
        if len(live) >= self.keys_per_person:
            return self._full()
        key = keys.make()
        hashed, record = keys.new_record(
            key,
            self.pepper.get_secret_value(),
            person=person.email,
            team=person.team,
            name=name,
            expires_at=now + timedelta(days=self.key_days),
        )
        version = self.registry.put(keys.COLLECTION, hashed, record.document())
        # Two requests at once may both have seen room for one: whoever finds the desk too full takes the key back.
        if len(self._live(person, now)) > self.keys_per_person:
            self._close(Document(hashed, record.document(), version), record, now)
            return self._full()
        log.info("key issued", extra={"person": person.email, "key_id": record.key_id})
        return self._handed_over(key, record)

    def _full(self) -> str:
        return f"One person may have {self.keys_per_person} keys at a time. `revoke` one first, then ask again."

    def _handed_over(self, key: str, record: keys.KeyRecord) -> str:
        address = self.proxy_url.rstrip("/")
        return (
            f"Your key `{record.name}`, id `{record.key_id}`, good until {_day(record.expires_at)}. "
            "It is shown this once and Tally keeps no copy: paste it now.\n"
            f"Claude Code:\n```export ANTHROPIC_BASE_URL={address}\nexport ANTHROPIC_AUTH_TOKEN={key}```\n"
            f"Codex: `export TALLY_KEY={key}` and in `~/.codex/config.toml`:\n"
            '```model_provider = "tally"\n\n[model_providers.tally]\nname = "Tally"\n'
            f'base_url = "{address}/v1"\nenv_key = "TALLY_KEY"\nwire_api = "responses"```\n'
            f"Anything else that speaks OpenAI's API: base URL `{address}/v1` and this key."
        )

    def _list(self, person: Person, now: datetime) -> str:
        own = self._own(person)
        if not own:
            return "You have no keys. `issue` gives you one."
        lines = [
            f"• `{key.name}` id `{key.key_id}`, ends in `{key.last4}`, made {_day(key.created_at)}, "
            + (f"good until {_day(key.expires_at)}" if key.refusal(now) is None else f"expired {_day(key.expires_at)}")
            for _, key in own
        ]
        return "\n".join(["*Your keys*", *lines])

    def _revoke(self, person: Person, which: str, now: datetime) -> str:
        for _ in range(5):  # somebody else may be writing the same document; then it is read anew
            named = [(d, k) for d, k in self._own(person) if which in (k.key_id, k.name)]
            usable = [(d, k) for d, k in named if k.refusal(now) is None] or named
            if not usable:
                return "You have no such key. `list` shows those you have."
            if len(usable) > 1:
                return f"More than one of your keys is called `{usable[0][1].name}`: give the id that `list` shows."
            document, record = usable[0]
            try:
                self._close(document, record, now)
            except Conflict:
                continue
            log.info("key revoked", extra={"person": person.email, "key_id": record.key_id})
            return f"Your key `{record.name}`, id `{record.key_id}`, is revoked. It stops within five seconds."
        return "That key is being changed right now. Please try again."

    def _close(self, document: Document, record: keys.KeyRecord, now: datetime) -> None:
        closed = record.model_copy(update={"revoked_at": now})
        self.registry.put(keys.COLLECTION, document.id, {**document.fields, **closed.document()}, document.version)


def _day(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%-d %B %Y}" if at else "further notice"
