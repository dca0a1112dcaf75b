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
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from governance.events import KeyKind
from governance.periods import PeriodKind

PREFIX = "sk-tally-"
COLLECTION = "keys"  # of the registry; the document's id is `key_hash`
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_RANDOM, _CHECK = 32, 6
_WHY = {"idle": "was switched off because nobody used it", "left": "ended with its owner's time in the company"}


def _checksum(body: str) -> str:
    """The CRC-32 in base 62, six digits, taken two by two: this runs at every request."""
    rest, low = divmod(zlib.crc32((PREFIX + body).encode()), 62 * 62)
    high, middle = divmod(rest, 62 * 62)
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


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
    digest = _under(pepper).copy()
    digest.update(key.encode())
    return digest.hexdigest()


@lru_cache(maxsize=16)
def _under(pepper: str) -> hmac.HMAC:
    """The HMAC as far as the pepper goes: half of the work, done once."""
    return hmac.new(pepper.encode(), digestmod=hashlib.sha256)


def key_id(hashed: str) -> str:
    """The key's public name, in events and on pages: the first 12 digits of its hash."""
    return hashed[:12]


class KeyBudget(BaseModel):
    """What one key may spend, beside all other budgets."""

    model_config = ConfigDict(frozen=True)

    amount_usd: Decimal = Field(gt=0, decimal_places=2)
    period: PeriodKind = "month"
    action: Literal["warn", "block"] = "block"


class KeyRecord(BaseModel):
    """What the registry knows of a key. Times are UTC.

    `models` are patterns (fnmatch) of what it may call; none: every model. `tags` are written `project=apollo`. `owner`
    answers for a service key. `replaced_by` is the id of the key that was made in its place; it lives on for a while.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    key_id: str
    person: str | None = None
    team: str | None = None
    kind: KeyKind = "human"
    name: str = "default"
    last4: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_why: str | None = None
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget: KeyBudget | None = None
    tags: tuple[str, ...] = ()
    owner: str | None = None
    idle_told_at: datetime | None = None
    replaced_by: str | None = None

    @property
    def answers_for_it(self) -> str | None:
        """The e-mail of whoever holds the key, or answers for a service's."""
        return self.person or self.owner

    def refusal(self, now: datetime) -> str | None:
        """Why this key may not be used now, in words for its owner; None when it may."""
        if self.revoked_at is not None:
            why = _WHY.get(self.revoked_why or "", "was revoked")
            return f"this key {why} on {self.revoked_at:%-d %B %Y}{self._instead()}"
        if self.expires_at is not None and self.expires_at <= now:
            return f"this key expired on {self.expires_at:%-d %B %Y}{self._instead()}"
        return None

    def _instead(self) -> str:
        """What its user can do about it: nothing, who has left; a service's have it replaced."""
        if self.revoked_why == "left":
            return ""
        if self.kind == "service":
            return f"; ask {self.owner or 'whoever runs Tally here'} for a new one"
        return "; ask for a new one with /tally issue"

    def document(self) -> dict[str, Any]:
        """The record as a registry document (JSON types only)."""
        return self.model_dump(mode="json")


def new_record(key: str, pepper: str, *, now: datetime | None = None, **fields: Any) -> tuple[str, KeyRecord]:
    """(document id, record) for a key just made. `fields` are those of KeyRecord; person and team may be None."""
    hashed = key_hash(key, pepper)
    created_at = now or datetime.now(UTC)
    record = KeyRecord(key_id=key_id(hashed), last4=key[-4:], created_at=created_at, **fields)
    return hashed, record
