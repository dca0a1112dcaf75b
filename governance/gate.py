"""What the alerts tick tells the gateways: how much of each budget is used, and what is to be refused.

Documents of one registry collection, so small that a gateway may look every two seconds: a head that names the digest
of each shard, the shards with the limits, the raises granted since, and the trips: budgets that a gateway has itself
seen used up. Nothing here is a secret; people stand in it by their e-mail.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from governance.registry import ANY, Conflict, Registry

GATE: Final = "gate"  # of the registry
GATEWAYS: Final = "gateways"  # a document per gateway instance: {instance, at, last_event_at}
HEAD, RAISES, TRIPS = "head", "raises", "trips"
SHARDS: Final = 64
ANYBODY: Final = "*"  # the name in a limit that is each person's

Subject = tuple[str, str]  # scope, name


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget of one subject in one period, as of the last tick. `extra_usd` is what `limit_usd` holds of raises.

    `blocks_at_usd` is None where the budget only warns. `ask` is whom to ask for more, in words. `hidden`: fewer than
    five people stand behind it, so that its figures would tell one of them what the others spend; it is not shown.
    """

    budget: str
    scope: str
    name: str
    period: str
    ends_at: datetime
    limit_usd: Decimal
    spent_usd: Decimal
    blocks_at_usd: Decimal | None
    blocked: bool
    ask: str = ""
    extra_usd: Decimal = Decimal(0)
    hidden: bool = False

    @property
    def subject(self) -> Subject:
        """Whose spending it limits."""
        return self.scope, self.name

    @property
    def id(self) -> tuple[str, str, str]:
        """What raises and trips name it by."""
        return self.budget, self.name, self.period

    def raised(self, granted_usd: Decimal) -> Limit:
        """The same with all that was granted: what `limit_usd` holds already is not added again."""
        more = granted_usd - self.extra_usd
        if more <= 0:
            return self
        blocks_at = (
            None if self.blocks_at_usd is None else self.blocks_at_usd * (self.limit_usd + more) / self.limit_usd
        )
        return replace(
            self,
            limit_usd=self.limit_usd + more,
            extra_usd=granted_usd,
            blocks_at_usd=blocks_at,
            blocked=self.blocked and blocks_at is not None and self.spent_usd >= blocks_at,
        )


@dataclass(frozen=True, slots=True)
class Granted:
    """A raise that holds until the end of its period."""

    id: str
    budget: str
    name: str
    period: str
    extra_usd: Decimal


@dataclass(frozen=True, slots=True)
class Trip:
    """A gateway saw a blocking budget used up at `at`, by its own sum."""

    budget: str
    name: str
    period: str
    spent_usd: Decimal
    at: datetime


@dataclass(frozen=True)
class Head:
    """The last tick: when it wrote, up to when events were counted, and whether it could not trust its data.

    A gateway takes `written_at` older than `stale_after_s` for stale too. `defaults` are limits of each person.
    """

    written_at: datetime
    counted_through: datetime | None
    stale: bool
    stale_after_s: float
    defaults: tuple[Limit, ...] = ()
    shards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """All that a gateway knows of budgets. Raises are inside the limits; trips stand beside them."""

    head: Head
    by_subject: Mapping[Subject, tuple[Limit, ...]]
    raises: tuple[Granted, ...] = ()
    trips: tuple[Trip, ...] = ()
    shards: Mapping[int, tuple[Limit, ...]] = field(default_factory=dict, repr=False)
    granted: Mapping[tuple[str, str, str], Decimal] = field(default_factory=dict, repr=False)

    def limits_for(self, subjects: Iterable[Subject]) -> list[Limit]:
        """The limits of all these; a person has the limits of each person where none of the same budget is written."""
        found: list[Limit] = []
        for subject in subjects:
            own = self.by_subject.get(subject, ())
            found += own
            if subject[0] == "person" and self.head.defaults:
                found += self._defaults(subject[1], own)
        return found

    def _defaults(self, person: str, own: Sequence[Limit]) -> list[Limit]:
        """A named budget of the same kind of period takes the place of each person's: both keys end in it."""
        kinds = {limit.budget.rpartition("-")[2] for limit in own}
        mine = (replace(d, name=person) for d in self.head.defaults if d.budget.rpartition("-")[2] not in kinds)
        return [limit.raised(self.granted.get(limit.id, Decimal(0))) for limit in mine]


def shard_of(subject: Subject) -> int:
    """Which shard holds a subject's limits."""
    return zlib.crc32(":".join(subject).encode()) % SHARDS


def write(registry: Registry, head: Head, limits: Iterable[Limit]) -> int:
    """Tell the gateways; how many shards had changed. The shards go first, so that a head never promises too much.

    Raises RegistryError.
    """
    parts: dict[int, list[Limit]] = defaultdict(list)
    for limit in limits:
        parts[shard_of(limit.subject)].append(limit)
    before = registry.get(GATE, HEAD)
    known = list(before.fields.get("shards", ())) if before else []
    digests, changed = [], 0
    for number in range(SHARDS):
        rows = [_limit_fields(limit) for limit in sorted(parts[number], key=lambda each: each.id)]
        digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] if rows else ""
        if digest != (known[number] if number < len(known) else ""):
            registry.put(GATE, _shard(number), {"limits": rows}, ANY)
            changed += 1
        digests.append(digest)
    registry.put(GATE, HEAD, _head_fields(replace(head, shards=tuple(digests))), ANY)
    return changed


def mark_stale(registry: Registry, written_at: datetime) -> None:
    """Say that the data is too old to decide by: what is blocked stays, nothing new is. Raises RegistryError."""
    before = registry.get(GATE, HEAD)
    if before is not None:
        registry.put(GATE, HEAD, {**before.fields, "stale": True, "written_at": written_at.isoformat()}, ANY)


def read(registry: Registry, known: Snapshot | None = None) -> Snapshot | None:
    """What is known now; three look-ups where the shards did not change. None before the first tick ever.

    Raises RegistryError.
    """
    document = registry.get(GATE, HEAD)
    if document is None:
        return None
    head = _head(document.fields)
    old = known.head.shards if known is not None else ()
    shards: dict[int, tuple[Limit, ...]] = {}
    for number, digest in enumerate(head.shards):
        if known is not None and number < len(old) and old[number] == digest:
            shards[number] = known.shards.get(number, ())
        elif digest:
            found = registry.get(GATE, _shard(number))
            shards[number] = tuple(_limit(row) for row in found.fields["limits"]) if found else ()
    raises, trips = granted(registry), tripped(registry)
    if known is not None and head.shards == old and raises == known.raises:
        return replace(known, head=head, trips=trips)
    return _snapshot(head, shards, raises, trips)


def read_for(registry: Registry, subjects: Iterable[Subject]) -> Snapshot | None:
    """What is known now of these subjects alone: a look-up for each, and two more. None before the first tick ever.

    Raises RegistryError.
    """
    document = registry.get(GATE, HEAD)
    if document is None:
        return None
    head = _head(document.fields)
    shards: dict[int, tuple[Limit, ...]] = {}
    for number in sorted({shard_of(subject) for subject in subjects}):
        found = registry.get(GATE, _shard(number)) if number < len(head.shards) and head.shards[number] else None
        shards[number] = tuple(_limit(row) for row in found.fields["limits"]) if found else ()
    return _snapshot(head, shards, granted(registry), ())


def _snapshot(
    head: Head, shards: Mapping[int, tuple[Limit, ...]], raises: tuple[Granted, ...], trips: tuple[Trip, ...]
) -> Snapshot:
    sums = granted_sums(raises)
    by_subject: dict[Subject, list[Limit]] = defaultdict(list)
    for part in shards.values():
        for limit in part:
            by_subject[limit.subject].append(limit.raised(sums.get(limit.id, Decimal(0))))
    ready = {subject: tuple(limits) for subject, limits in by_subject.items()}
    return Snapshot(head, ready, raises, trips, shards, sums)


def granted(registry: Registry) -> tuple[Granted, ...]:
    """The raises that hold. Raises RegistryError."""
    document = registry.get(GATE, RAISES)
    return tuple(_granted(row) for row in document.fields["raises"]) if document else ()


def granted_sums(raises: Iterable[Granted]) -> dict[tuple[str, str, str], Decimal]:
    """What was granted, summed by what it was granted for: budget, name, period."""
    sums: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for each in raises:
        sums[each.budget, each.name, each.period] += each.extra_usd
    return dict(sums)


def tripped(registry: Registry) -> tuple[Trip, ...]:
    """The trips of all gateways. Raises RegistryError."""
    document = registry.get(GATE, TRIPS)
    return tuple(_trip(row) for row in document.fields["trips"]) if document else ()


def grant(registry: Registry, raised: Granted) -> None:
    """Let a raise hold; the same one twice is one. Raises RegistryError, Conflict."""
    _edit(registry, RAISES, "raises", lambda old: [*(r for r in old if r["id"] != raised.id), _granted_fields(raised)])


def keep_raises(registry: Registry, keep: Callable[[Granted], bool]) -> tuple[Granted, ...]:
    """Drop those whose period is over; the others. Raises RegistryError, Conflict."""
    kept = _edit(registry, RAISES, "raises", lambda old: [row for row in old if keep(_granted(row))])
    return tuple(map(_granted, kept))


def trip(registry: Registry, new: Iterable[Trip]) -> None:
    """Say that these budgets are used up, for the other gateways. Raises RegistryError, Conflict."""
    added = {(t.budget, t.name, t.period): _trip_fields(t) for t in new}
    _edit(
        registry,
        TRIPS,
        "trips",
        lambda old: [*(r for r in old if (r["budget"], r["name"], r["period"]) not in added), *added.values()],
    )


def keep_trips(registry: Registry, keep: Callable[[Trip], bool]) -> None:
    """Drop those that the tick has counted by now, or whose period is over. Raises RegistryError, Conflict."""
    _edit(registry, TRIPS, "trips", lambda old: [row for row in old if keep(_trip(row))])


def _edit(
    registry: Registry, id: str, name: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Change a list that several write: read, change, compare and set, some times over."""
    for _ in range(8):
        document = registry.get(GATE, id)
        old = list(document.fields[name]) if document else []
        new = change(old)
        if new == old:
            return new
        try:
            registry.put(GATE, id, {name: new}, document.version if document else None)
        except Conflict:
            continue
        return new
    raise Conflict(f"{GATE}/{id}")


def _shard(number: int) -> str:
    return f"shard-{number:02}"


def _limit_fields(limit: Limit) -> dict[str, Any]:
    return {
        "budget": limit.budget,
        "scope": limit.scope,
        "name": limit.name,
        "period": limit.period,
        "ends_at": limit.ends_at.isoformat(),
        "limit_usd": str(limit.limit_usd),
        "spent_usd": str(limit.spent_usd),
        "blocks_at_usd": None if limit.blocks_at_usd is None else str(limit.blocks_at_usd),
        "blocked": limit.blocked,
        "ask": limit.ask,
        "extra_usd": str(limit.extra_usd),
        "hidden": limit.hidden,
    }


def _limit(row: Mapping[str, Any]) -> Limit:
    return Limit(
        budget=row["budget"],
        scope=row["scope"],
        name=row["name"],
        period=row["period"],
        ends_at=datetime.fromisoformat(row["ends_at"]),
        limit_usd=Decimal(row["limit_usd"]),
        spent_usd=Decimal(row["spent_usd"]),
        blocks_at_usd=None if row["blocks_at_usd"] is None else Decimal(row["blocks_at_usd"]),
        blocked=row["blocked"],
        ask=row["ask"],
        extra_usd=Decimal(row["extra_usd"]),
        hidden=row.get("hidden", False),
    )


def _head_fields(head: Head) -> dict[str, Any]:
    return {
        "written_at": head.written_at.isoformat(),
        "counted_through": head.counted_through and head.counted_through.isoformat(),
        "stale": head.stale,
        "stale_after_s": head.stale_after_s,
        "defaults": [_limit_fields(limit) for limit in head.defaults],
        "shards": list(head.shards),
    }


def _head(fields: Mapping[str, Any]) -> Head:
    through = fields["counted_through"]
    return Head(
        written_at=datetime.fromisoformat(fields["written_at"]),
        counted_through=datetime.fromisoformat(through) if through else None,
        stale=fields["stale"],
        stale_after_s=fields["stale_after_s"],
        defaults=tuple(_limit(row) for row in fields["defaults"]),
        shards=tuple(fields["shards"]),
    )


def _granted_fields(raised: Granted) -> dict[str, Any]:
    return {
        "id": raised.id,
        "budget": raised.budget,
        "name": raised.name,
        "period": raised.period,
        "extra_usd": str(raised.extra_usd),
    }


def _granted(row: Mapping[str, Any]) -> Granted:
    return Granted(row["id"], row["budget"], row["name"], row["period"], Decimal(row["extra_usd"]))


def _trip_fields(trip: Trip) -> dict[str, Any]:
    return {
        "budget": trip.budget,
        "name": trip.name,
        "period": trip.period,
        "spent_usd": str(trip.spent_usd),
        "at": trip.at.isoformat(),
    }


def _trip(row: Mapping[str, Any]) -> Trip:
    return Trip(row["budget"], row["name"], row["period"], Decimal(row["spent_usd"]), datetime.fromisoformat(row["at"]))
