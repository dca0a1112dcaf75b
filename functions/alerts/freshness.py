"""Whether the data can be decided by: gateways say when they last sent an event, the warehouse when it last got one.

A quiet night is no outage: nothing was sent. Late data is when a gateway sent something and for longer than the limit
nothing as young has arrived. Where no gateway ever told anything, only the age of the newest row can be judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from governance.gate import GATE, GATEWAYS, HEAD
from governance.registry import Conflict, Document, Registry

from .reference import LOADED

OUTAGE: Final = "outage"  # of the collection `loaded`: since when something sent is missing, and what is over
_UNDER_WAY: Final = timedelta(minutes=1)  # what was sent within it need not have arrived
_TOLD_FOR: Final = timedelta(days=1)  # what is over is offered to the outbox so long: a channel may be down
_FORGOTTEN_AFTER: Final = timedelta(days=2)  # a gateway that is gone


@dataclass(frozen=True)
class Past:
    """What is over: data that was `late`, or a time in which gateways sent something and no tick came: `away`."""

    kind: Literal["late", "away"]
    since: datetime
    until: datetime


@dataclass(frozen=True)
class Freshness:
    """`stale`: do not decide by this data. `since`: the outage that operators are told of; what was sent since then is
    missing, and some of it may have trickled in. `past`: what ended within the last day.
    """

    stale: bool
    since: datetime | None = None
    past: tuple[Past, ...] = ()


@dataclass(frozen=True)
class _Kept:
    """What is remembered from tick to tick. `missing_since` moves on when something younger arrives."""

    missing_since: datetime | None = None
    outage_since: datetime | None = None
    past: tuple[Past, ...] = ()


def freshness(
    registry: Registry, newest_received_at: datetime | None, now: datetime, limit: timedelta, age_limit: timedelta
) -> Freshness:
    """Judge, and remember since when something is missing. Raises RegistryError, Conflict."""
    sent_at = max((at for beat in registry.find(GATEWAYS) if (at := _time(beat, "last_event_at"))), default=None)
    last = _time(registry.get(GATE, HEAD), "written_at")
    away = last if last and sent_at and now - last > limit and sent_at > last else None
    for _ in range(8):
        document = registry.get(LOADED, OUTAGE)
        known = _read(document.fields) if document else _Kept()
        kept = _noted(known, away, now)
        if sent_at is not None:
            kept = _followed(kept, sent_at, newest_received_at, now, limit)
        try:
            if kept != known:
                registry.put(LOADED, OUTAGE, _fields(kept), document.version if document else None)
        except Conflict:  # another tick saw something just now
            continue
        if sent_at is None:
            stale = newest_received_at is not None and now - newest_received_at > age_limit
        else:
            stale = kept.missing_since is not None and now - kept.missing_since > limit
        return Freshness(stale, kept.outage_since, kept.past)
    raise Conflict(f"{LOADED}/{OUTAGE}")


def _noted(known: _Kept, away: datetime | None, now: datetime) -> _Kept:
    past = tuple(each for each in known.past if now - each.until < _TOLD_FOR)
    if away is not None and ("away", away) not in {(each.kind, each.since) for each in past}:
        past = (*past, Past("away", away, now))
    return replace(known, past=past)


def _followed(
    known: _Kept, sent_at: datetime, newest_received_at: datetime | None, now: datetime, limit: timedelta
) -> _Kept:
    """What is missing by now; an outage is over when all but the last minute's has arrived."""
    under_way = _UNDER_WAY if now - sent_at <= _UNDER_WAY else timedelta(0)
    if newest_received_at is not None and newest_received_at >= sent_at - under_way:
        over = (Past("late", known.outage_since, now),) if known.outage_since else ()
        return _Kept(past=(*known.past, *over))
    missing, outage = known.missing_since, known.outage_since
    if missing is None or (newest_received_at is not None and newest_received_at > missing):
        missing = sent_at  # the first that is missing was sent then at the latest
    if outage is None and now - missing > limit:
        outage = missing
    return replace(known, missing_since=missing, outage_since=outage)


def prune(registry: Registry, now: datetime) -> None:
    """Forget the gateways that have said nothing for days; the last to say something is known for ever, so that a long
    holiday is no outage. Raises RegistryError."""
    beats = registry.find(GATEWAYS)
    newest = max(beats, key=lambda beat: beat.fields.get("last_event_at") or "", default=None)
    for beat in beats:
        at = _time(beat, "at")
        if beat is not newest and (at is None or now - at > _FORGOTTEN_AFTER):
            registry.delete(GATEWAYS, beat.id)


def _time(document: Document | None, name: str) -> datetime | None:
    return _parsed(document.fields.get(name)) if document is not None else None


def _parsed(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _read(fields: Mapping[str, Any]) -> _Kept:
    past = tuple(
        Past(each["kind"], datetime.fromisoformat(each["since"]), datetime.fromisoformat(each["until"]))
        for each in fields.get("past", ())
    )
    return _Kept(_parsed(fields.get("missing_since")), _parsed(fields.get("outage_since")), past)


def _fields(kept: _Kept) -> dict[str, Any]:
    return {
        "missing_since": kept.missing_since and kept.missing_since.isoformat(),
        "outage_since": kept.outage_since and kept.outage_since.isoformat(),
        "past": [
            {"kind": each.kind, "since": each.since.isoformat(), "until": each.until.isoformat()} for each in kept.past
        ],
    }
