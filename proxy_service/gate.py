"""Whether a budget refuses a request, and how much is left of it. Pure, but for the sums of what went through here.

What the last tick counted stands in the snapshot (governance.gate); what this process has published since is added to
it, and forgotten when a later tick has counted it. Requests under way are not counted: a burst goes over by no more
than what was in flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from threading import Lock
from typing import Final

from governance.events import UsageEvent
from governance.gate import Limit, Snapshot, Subject, Trip
from governance.keys import KeyRecord
from governance.price_list import undated

_SLOT_S: Final = 900  # every time zone's midnight is the beginning of such a slot
_MOST: Final = 200_000  # events remembered one by one: an hour's, of a very large company
_CHUNK: Final = 500  # forgotten at once, so that no request waits for the lock
_NOTHING: Final = Decimal(0)

Spent = Callable[[Subject, float], Decimal]


def subjects_of(record: KeyRecord, model: str, provider: str | None, tool: str) -> tuple[Subject, ...]:
    """Everything whose budget a request of this key for this model counts against."""
    bare = model.removeprefix(f"{provider}/") if provider else model
    names = dict.fromkeys((model, bare, undated(bare)))
    return _subjects(record.person, record.team, record.key_id, names, provider, tool, record.tags)


def subjects_of_event(event: UsageEvent, tags: Iterable[str]) -> tuple[Subject, ...]:
    """Everything whose budget this event counts against: the model is the one that was served."""
    models = (undated(event.model),) if event.model else ()
    return _subjects(event.person, event.team, event.key_id, models, event.provider, event.tool, tags)


def _subjects(
    person: str | None,
    team: str | None,
    key_id: str | None,
    models: Iterable[str],
    provider: str | None,
    tool: str,
    tags: Iterable[str],
) -> tuple[Subject, ...]:
    found: list[Subject] = [("company", "")]
    named = (("team", team), ("person", person), ("key", key_id), ("provider", provider), ("tool", tool))
    found += [(scope, name) for scope, name in named if name]
    found += [("model", name) for name in models]
    found += [("tag", tag) for tag in tags]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Window:
    """A limit, with the moments of its period as seconds since 1970, the share of it that the tick found used, and the
    share that a dollar is. The shares tell which limit is the tightest; what blocks is compared exactly."""

    limit: Limit
    subject: Subject
    starts_s: float
    ends_s: float
    used: float
    per_usd: float


def window_of(limit: Limit) -> Window:
    """The period of a limit begins as long before its end as its name says."""
    first, following = _days(limit.period)
    shift = limit.ends_at - datetime.combine(following, time(), UTC)  # what the company's midnight is off UTC's
    starts_at = datetime.combine(first, time(), UTC) + shift
    per_usd = 1 / float(limit.limit_usd) if limit.limit_usd else 1.0
    used = float(limit.spent_usd) * per_usd
    return Window(limit, limit.subject, starts_at.timestamp(), limit.ends_at.timestamp(), used, per_usd)


def _days(period: str) -> tuple[date, date]:
    """The first day of a period, and the first after it: of `2026-11-24`, `2026-W48`, `2026-11`."""
    if "W" in period:
        first = date.fromisoformat(f"{period}-1")
        return first, first + timedelta(days=7)
    if len(period) == 7:
        first = date.fromisoformat(f"{period}-01")
        return first, (first + timedelta(days=31)).replace(day=1)
    first = date.fromisoformat(period)
    return first, first + timedelta(days=1)


class Seen:
    """What was spent through this process and no tick has counted yet, by subject. Any thread."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._events: deque[tuple[float, int, Decimal, tuple[Subject, ...]]] = deque()
        self._sums: dict[Subject, dict[int, Decimal]] = {}
        self._lock = Lock()

    def add(self, at_s: float, occurred_s: float, usd: Decimal, subjects: tuple[Subject, ...]) -> None:
        """Remember a cost, told at `at_s`, of a request that came at `occurred_s`: seconds since 1970."""
        slot = int(occurred_s // _SLOT_S)
        with self._lock:
            self._events.append((at_s, slot, usd, subjects))
            for subject in subjects:
                slots = self._sums.setdefault(subject, {})
                slots[slot] = slots.get(slot, _NOTHING) + usd
            if len(self._events) > self._most:
                self._drop()

    def forget(self, through_s: float) -> None:
        """A tick has counted all that was told up to this moment."""
        while True:
            with self._lock:
                for _ in range(_CHUNK):
                    if not self._events or self._events[0][0] > through_s:
                        return
                    self._drop()

    def spent(self, subject: Subject, since_s: float) -> Decimal:
        """US dollars of the requests that came since then."""
        slots = self._sums.get(subject)
        if slots is None:
            return _NOTHING
        first, total = since_s // _SLOT_S, _NOTHING
        for slot, usd in tuple(slots.items()):  # copied in one step of the interpreter: no lock for those who only look
            if slot >= first:
                total += usd
        return total

    def _drop(self) -> None:
        _, slot, usd, subjects = self._events.popleft()
        for subject in subjects:
            slots = self._sums[subject]
            slots[slot] -= usd
            if not slots[slot]:
                del slots[slot]
            if not slots:
                del self._sums[subject]

    def __len__(self) -> int:
        return len(self._events)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one limit stands now."""

    limit: Limit
    spent_usd: Decimal

    @property
    def remaining_usd(self) -> Decimal:
        """What is left; never below nothing."""
        return max(self.limit.limit_usd - self.spent_usd, _NOTHING)

    @property
    def used(self) -> float:
        """The share of the limit; over 1 where it was passed."""
        return float(self.spent_usd / self.limit.limit_usd) if self.limit.limit_usd else 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refused_by`: the limits that refuse the request, the longest first; none: it goes on.

    `tightest` is the limit of which most is used, and `blocking` the same of those that can refuse; neither is one that
    is hidden. `crossed` are the limits that this process itself found used up, and nobody has said so yet.
    """

    refused_by: tuple[Standing, ...] = ()
    tightest: Standing | None = None
    blocking: Standing | None = None
    crossed: tuple[Standing, ...] = ()


GOES_ON: Final = Verdict()


def stale_from(snapshot: Snapshot) -> float:
    """From when on, in seconds since 1970, the snapshot is too old to block anything new by; 0 where it is already."""
    head = snapshot.head
    return 0.0 if head.stale else head.written_at.timestamp() + head.stale_after_s


def judge(
    windows: Iterable[Window], spent: Spent, trips: Mapping[tuple[str, str, str], Trip], now_s: float, *, stale: bool
) -> Verdict:
    """What these limits say. `trips` are those that no tick has counted."""
    refusing: list[Standing] = []
    crossed: list[Standing] = []
    tightest = blocking = None
    most = most_blocking = -1.0
    for window in windows:
        if now_s >= window.ends_s:  # over: it neither blocks nor holds spending, whether or not a tick has said so
            continue
        limit, used = window.limit, window.used
        spent_usd, since = limit.spent_usd, spent(window.subject, window.starts_s)
        if since:
            spent_usd += since
            used += float(since) * window.per_usd
        if used > most and not limit.hidden:
            most, tightest = used, (limit, spent_usd)
        if limit.blocks_at_usd is None:
            continue
        if used > most_blocking and not limit.hidden:
            most_blocking, blocking = used, (limit, spent_usd)
        trip = trips.get(limit.id) if trips else None
        if trip is not None and trip.spent_usd >= limit.blocks_at_usd:
            refusing.append(Standing(limit, max(spent_usd, trip.spent_usd)))
        elif limit.blocked:
            refusing.append(Standing(limit, spent_usd))
        elif not stale and spent_usd >= limit.blocks_at_usd:
            refusing.append(Standing(limit, spent_usd))
            crossed.append(refusing[-1])
    refusing.sort(key=lambda each: each.limit.ends_at, reverse=True)
    return Verdict(
        tuple(refusing),
        Standing(*tightest) if tightest else None,
        Standing(*blocking) if blocking else None,
        tuple(crossed),
    )
