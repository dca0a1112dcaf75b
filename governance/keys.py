"""Make, check and hash a key. A key proves its own spelling, so that a typo or a scanner costs no look-up.

A key is `sk-tally-` + 32 random characters + 6 characters of checksum, all of them base 62 (190 bits of chance). The
registry stores only an HMAC of it, under a pepper that is a secret of its own: a copy of the registry opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import zlib
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from governance.events import KeyKind

PREFIX = "sk-tally-"
COLLECTION = "keys"  # of the registry; the document's id is `key_hash`
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM, _CHECK = 32, 6


def _checksum(body: str) -> str:
    number, out = zlib.crc32((PREFIX + body).encode()), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, 62)
        out = _ALPHABET[digit] + out
    return out


def make() -> str:
    """A new key. It is shown to its owner once and stored nowhere."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return PREFIX + body + _checksum(body)


def well_formed(key: str) -> bool:
    """Whether this could be one of ours: prefix, length, alphabet and checksum."""
    if len(key) != len(PREFIX) + _RANDOM + _CHECK or not key.startswith(PREFIX) or not key.isascii():
        return False
    body = key[len(PREFIX) : -_CHECK]
    return body.isalnum() and hmac.compare_digest(_checksum(body), key[-_CHECK:])


def key_hash(key: str, pepper: str) -> str:
    """The key's name in the registry: HMAC-SHA256 under the pepper, 64 hex digits."""
    return hmac.digest(pepper.encode(), key.encode(), hashlib.sha256).hex()


def key_id(hashed: str) -> str:
    """The key's public name, in events and on pages: the first 12 digits of its hash."""
    return hashed[:12]


class KeyRecord(BaseModel):
    """What the registry knows of a key. Times are UTC."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key_id: str
    person: str | None
    team: str | None
    kind: KeyKind = "human"
    name: str = "default"
    last4: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def refusal(self, now: datetime) -> str | None:
        """Why this key may not be used now, in words for its owner; None when it may."""
        if self.revoked_at is not None:
            return f"this key was revoked on {self.revoked_at:%-d %B %Y}; ask for a new one with /tally issue"
        if self.expires_at is not None and self.expires_at <= now:
            return f"this key expired on {self.expires_at:%-d %B %Y}; ask for a new one with /tally issue"
        return None

    def document(self) -> dict[str, Any]:
        """The record as a registry document (JSON types only)."""
        return self.model_dump(mode="json")


def new_record(
    key: str,
    pepper: str,
    *,
    person: str | None,
    team: str | None,
    kind: KeyKind = "human",
    name: str = "default",
    expires_at: datetime | None = None,
) -> tuple[str, KeyRecord]:
    """(document id, record) for a key just made."""
    hashed = key_hash(key, pepper)
    record = KeyRecord(
        key_id=key_id(hashed),
        person=person,
        team=team,
        kind=kind,
        name=name,
        last4=key[-4:],
        created_at=datetime.now(UTC),
        expires_at=expires_at,
    )
    return hashed, record
