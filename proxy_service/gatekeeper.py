"""Budgets at the door: looks every two seconds at what the tick wrote, and keeps count of what has gone through since.

The looking is done by a thread of its own; a request is judged from memory, in microseconds. A registry that is silent
leaves what was known last, which grows stale by the clock. Nothing here fails a request: what goes wrong is counted,
logged, and lets it through.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from governance import gate
from governance.events import UsageEvent
from governance.gate import Snapshot, Subject, Trip
from governance.keys import KeyRecord
from governance.prices import Book
from governance.registry import Registry
from proxy_service.asked import Asked
from proxy_service.gate import (
    GOES_ON,
    Seen,
    Standing,
    Verdict,
    Window,
    judge,
    stale_from,
    subjects_of,
    subjects_of_event,
    window_of,
)
from proxy_service.gate_prices import cost_usd

log = logging.getLogger(__name__)
_REMEMBERED = 50_000  # keys, people, teams and so on, whose limits are looked up

Id = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _View:
    """A snapshot, from when on it is stale, and the limits in it that were looked up already."""

    snapshot: Snapshot
    stale_from_s: float
    known: dict[Subject, tuple[Window, ...]] = field(default_factory=dict)

    def windows(self, subjects: Iterable[Subject]) -> list[Window]:
        """The limits of all these."""
        found: list[Window] = []
        for subject in subjects:
            windows = self.known.get(subject)
            if windows is None:
                if len(self.known) >= _REMEMBERED:
                    self.known.clear()
                windows = self.known[subject] = tuple(map(window_of, self.snapshot.limits_for((subject,))))
            found += windows
        return found


class Gatekeeper:
    """One per process. `check` and `saw` may be called from any thread."""

    def __init__(self, registry: Registry, book: Book, poll_s: float, clock: Callable[[], float] = time.time) -> None:
        self._registry, self._book, self._poll_s, self._clock = registry, book, poll_s, clock
        self._view: _View | None = None
        self._trips: dict[Id, Trip] = {}  # the registry's and our own, those that no tick has counted
        self._own: dict[Id, Trip] = {}
        self._untold: dict[Id, Trip] = {}
        self._lock = threading.Lock()  # guards the three above
        self._seen = Seen()
        self._wake, self._stopping, self._looked = threading.Event(), threading.Event(), threading.Event()
        self._silent = False
        self._thread: threading.Thread | None = None
        self.failures = 0

    def check(self, record: KeyRecord, model: str, provider: str | None, tool: str) -> Verdict:
        """What the budgets say to a request of this key for this model, now. Never raises."""
        view = self._view
        if view is None:
            return GOES_ON
        try:
            return self._judged(view, subjects_of(record, model, provider, tool))
        except Exception as error:
            self._failed("budgets cannot be checked", error)
            return GOES_ON

    def saw_all(self, asked: Asked, events: Sequence[UsageEvent]) -> None:
        """A request is over: each of its events counts."""
        for event in events:
            self.saw(event, asked.record.tags)

    def saw(self, event: UsageEvent, tags: Iterable[str] = ()) -> None:
        """An event was published: its cost counts from here on. Never raises."""
        try:
            usd = cost_usd(event, self._book)
            if usd <= 0:
                return
            subjects = subjects_of_event(event, tags)
            self._seen.add(self._clock(), event.occurred_at.timestamp(), usd, subjects)
            view = self._view
            if view is not None:  # judged too, so that the others hear of a crossing though nobody asks here again
                self._judged(view, subjects)
        except Exception as error:
            self._failed("an event cannot be counted against its budgets", error)

    def _judged(self, view: _View, subjects: Iterable[Subject]) -> Verdict:
        windows, now_s = view.windows(subjects), self._clock()
        verdict = judge(windows, self._seen.spent, self._trips, now_s, stale=now_s > view.stale_from_s)
        if verdict.crossed:
            self._tell(verdict.crossed, now_s)
        return verdict

    def _tell(self, crossed: Iterable[Standing], now_s: float) -> None:
        """For the other instances: the thread writes it at once."""
        at = datetime.fromtimestamp(now_s, UTC)
        with self._lock:
            for each in crossed:
                limit = each.limit
                trip = Trip(limit.budget, limit.name, limit.period, each.spent_usd, at)
                self._own[limit.id] = self._untold[limit.id] = trip
                self._trips = {**self._trips, limit.id: trip}
        self._wake.set()

    def _failed(self, what: str, error: Exception) -> None:
        self.failures += 1
        log.error(what, extra={"error": type(error).__name__})

    # ---- the thread -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name="gatekeeper", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether the registry was looked into by then. Nothing is blocked before."""
        return self._looked.wait(timeout_s)

    def close(self) -> None:
        """Look no more; a look-up under way is not waited for."""
        self._stopping.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.look()
            self._looked.set()
            self._wake.wait(self._poll_s)
            self._wake.clear()

    def look(self) -> None:
        """Tell what was crossed here, and read what holds. A silent registry leaves all as it was."""
        try:
            try:
                self._tell_registry()
            finally:
                self._take(gate.read(self._registry, self._view.snapshot if self._view else None))
        except Exception as error:
            if not self._silent:
                log.warning("budgets cannot be read; the last known hold", extra={"error": type(error).__name__})
            self._silent = True
        else:
            if self._silent:
                log.warning("budgets are read again")
            self._silent = False

    def _tell_registry(self) -> None:
        with self._lock:
            untold = dict(self._untold)
        if untold:
            gate.trip(self._registry, untold.values())
            with self._lock:
                self._untold = {id: trip for id, trip in self._untold.items() if untold.get(id) is not trip}

    def _take(self, snapshot: Snapshot | None) -> None:
        before = self._view
        if snapshot is None:
            self._view = None
            return
        if (
            before is not None
            and before.snapshot.by_subject is snapshot.by_subject
            and before.snapshot.head.defaults == snapshot.head.defaults
        ):
            self._view = _View(snapshot, stale_from(snapshot), before.known)
        else:
            self._view = _View(snapshot, stale_from(snapshot))
        through = snapshot.head.counted_through
        if through is not None:
            self._seen.forget(through.timestamp())
        with self._lock:
            known = {(trip.budget, trip.name, trip.period): trip for trip in snapshot.trips}
            self._own = {id: trip for id, trip in self._own.items() if _uncounted(trip, through)}
            self._trips = {id: trip for id, trip in {**known, **self._own}.items() if _uncounted(trip, through)}


def _uncounted(trip: Trip, through: datetime | None) -> bool:
    return through is None or trip.at > through
