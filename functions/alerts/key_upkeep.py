"""Keys that should not live on: those of people who have left, and those that nobody uses.

A leaver's keys end as soon as people.csv says so. A broken export of it must not lock a company out: when very many
keys would end at once, none does, and the operators are told. Of an idle key whoever answers for it is told, and some
weeks later it is switched off; a single request in between, and nothing happens. By late data no key counts as idle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal

from governance import audit, keys
from governance.keys import KeyRecord
from governance.policy import Policy
from governance.registry import Conflict, Document, Registry
from governance.warehouse import Warehouse

from . import key_texts
from .key_tables import last_used, load_keys
from .notices import Notice

Why = Literal["left", "idle"]
SHARE_AT_ONCE, ALWAYS = 5, 5  # a fifth of the live keys, and five in any case
_TELL_FOR: Final = timedelta(days=3)  # a channel that is down so long has lost more than this
_ACTIONS: Final[Mapping[Why, audit.Action]] = {"left": "key.revoked", "idle": "key.disabled"}


@dataclass
class Upkeep:
    """What was done, and what is to be told. `keys` are all records as they are now, revoked ones too."""

    keys: list[KeyRecord] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    left: int = 0
    held_back: int = 0
    told_idle: int = 0
    disabled: int = 0
    loaded: list[str] = field(default_factory=list)


@dataclass
class _Key:
    """A key under work: its document as it was last read or written."""

    document: Document
    record: KeyRecord


def upkeep(
    warehouse: Warehouse,
    registry: Registry,
    policy: Policy,
    documents: Iterable[Document],
    now: datetime,
    *,
    stale: bool,
    dashboard_url: str = "",
    records: Iterable[KeyRecord] | None = None,
) -> Upkeep:
    """Do what is due. `documents` are all of the registry's keys, `records` the same as read; the rollup is up to date.

    Safe in parallel: whoever meets somebody else's change leaves that key to the next tick. Raises WarehouseError,
    RegistryError; then the next tick does what is left.
    """
    done = Upkeep()
    listed = list(documents)
    if records is None:
        records = [KeyRecord.model_validate(document.fields) for document in listed]
    found = [_Key(document, record) for document, record in zip(listed, records, strict=True)]
    _end_leavers(registry, policy, found, now, done)
    window = _looked_back(policy)
    live = [key.record.key_id for key in found if key.record.revoked_at is None]
    used = last_used(warehouse, registry, live, now, window)
    if not stale:
        _mind_idle(registry, policy, found, used, now, done)
    done.keys = [key.record for key in found]
    done.notices += _notices(policy, done.keys, used, now, dashboard_url)
    done.loaded = load_keys(warehouse, registry, done.keys, now)
    return done


def _looked_back(policy: Policy) -> int:
    """How many days of use are asked for: as many as it takes until a key is switched off."""
    return policy.company.keys.idle_days + (policy.company.keys.disable_after_days or 0) + 1


def _end_leavers(registry: Registry, policy: Policy, found: Sequence[_Key], now: datetime, done: Upkeep) -> None:
    today = now.astimezone(policy.company.zone).date()
    live = [key for key in found if key.record.kind == "human" and key.record.refusal(now) is None]
    leaving = [key for key in live if has_left(key.record.person, policy, today)]
    if too_many(len(leaving), len(live)) or (leaving and not any(person.is_here(today) for person in policy.people)):
        done.held_back = len(leaving)
        message = key_texts.held_back(len(leaving), len(live), policy.operators(today))
        done.notices.append(Notice("leavers_held_back", today.isoformat(), message))
        return
    done.left = sum(_end(registry, key, "left", now) for key in leaving)


def has_left(email: str | None, policy: Policy, today: date) -> bool:
    """Whether a key's person is not, or no longer, in people.csv. Who is still to come has not left."""
    person = policy.person(email)
    return person is None or (person.left_on is not None and person.left_on <= today)


def too_many(leaving: int, live: int) -> bool:
    """Whether so many of the live keys cannot all be leavers' at once."""
    return leaving > max(ALWAYS, live / SHARE_AT_ONCE)


def _mind_idle(
    registry: Registry, policy: Policy, found: Sequence[_Key], used: Mapping[str, date], now: datetime, done: Upkeep
) -> None:
    rules, today = policy.company.keys, now.astimezone(UTC).date()
    for key in found:
        record = key.record
        if record.refusal(now) is not None:
            continue
        told = record.idle_told_at
        if told is None:
            if (today - idle_since(record, used)).days >= rules.idle_days:
                done.told_idle += _change(registry, key, {"idle_told_at": now})
        elif idle_since(record, used) >= told.astimezone(UTC).date():  # used after all
            _change(registry, key, {"idle_told_at": None})
        elif rules.disable_after_days is not None and now - told >= timedelta(days=rules.disable_after_days):
            done.disabled += _end(registry, key, "idle", now)


def idle_since(record: KeyRecord, used: Mapping[str, date]) -> date:
    """The day (UTC) of the key's last request; of its making where it never had one."""
    return max(used.get(record.key_id, date.min), record.created_at.astimezone(UTC).date())


def _end(registry: Registry, key: _Key, why: Why, now: datetime) -> bool:
    """Revoke the key. The entry of the audit log goes first, under a name that another tick would give it too."""
    before, ended = key.record, {"revoked_at": now, "revoked_why": why}
    name = f"{_ACTIONS[why]}|{before.key_id}|{why}"
    entry = audit.Entry(
        at=now,
        actor="tally",
        action=_ACTIONS[why],
        subject=before.key_id,
        origin="tick",
        before=audit.told({"person": before.person, "owner": before.owner, "team": before.team, "name": before.name}),
        after=audit.told({"revoked_at": now.isoformat(), "revoked_why": why}),
    )
    with suppress(Conflict):
        audit.record(registry, entry, name)
    if _change(registry, key, ended):
        return True
    current = registry.get(keys.COLLECTION, key.document.id)
    if current is None or current.fields.get("revoked_why") != why:  # not by another tick: then we have done nothing
        registry.delete(audit.AUDIT, name)
    return False


def _change(registry: Registry, key: _Key, fields: Mapping[str, Any]) -> bool:
    """Write the key anew; False when somebody else has just written it."""
    record = key.record.model_copy(update=dict(fields))
    content = {**key.document.fields, **record.document()}
    try:
        version = registry.put(keys.COLLECTION, key.document.id, content, key.document.version)
    except Conflict:
        return False
    key.document, key.record = Document(key.document.id, content, version), record
    return True


def _notices(
    policy: Policy, records: Iterable[KeyRecord], used: Mapping[str, date], now: datetime, dashboard_url: str
) -> list[Notice]:
    """What was done in the last days to idle keys. From what stands in the registry: whoever died before sending, the
    next tick says the same."""
    said = []
    for record in records:
        told, ended = record.idle_told_at, record.revoked_at
        if ended is not None:
            if record.revoked_why == "idle" and now - ended < _TELL_FOR:
                message = key_texts.disabled(record, policy, now)
                said.append(Notice(f"idle_key_off-{record.key_id}", f"{ended:%Y-%m-%d}", message))
        elif told is not None and now - told < _TELL_FOR and record.refusal(now) is None:
            used_on = used.get(record.key_id)
            message = key_texts.idle(record, used_on, _looked_back(policy), policy, now, dashboard_url)
            said.append(Notice(f"idle_key-{record.key_id}", f"{told:%Y-%m-%d}", message))
    return said
