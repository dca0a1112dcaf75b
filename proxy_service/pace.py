"""Requests and tokens a minute, for the keys that have a limit. A sliding minute, kept in this process.

Each instance of the gateway keeps its own: with three of them a key gets through up to three times its limit. Tokens
are counted as the events tell them, when a request is over, and those read from a cache do not count, as with
Anthropic: an agent reads its whole context anew at each turn. So a request is never refused for what it might use, and
the one that crosses the limit is answered.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from governance.events import UsageEvent
from governance.keys import KeyRecord
from proxy_service.refusals import Refusal

_MINUTE_S: Final = 60
_WINDOWS: Final = 10_000  # from so many on, those that are empty are dropped


class _Window:
    """What was used in the last minute, by second: at most sixty-one numbers."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque()  # (second, amount), oldest first
        self.total = 0

    def at(self, now_s: float) -> int:
        """The total, without what is older than a minute."""
        while self._seconds and self._seconds[0][0] < int(now_s) - _MINUTE_S:
            self.total -= self._seconds.popleft()[1]
        return self.total

    def add(self, now_s: float, amount: int) -> None:
        second = int(now_s)
        if self._seconds and self._seconds[-1][0] == second:
            amount += self._seconds[-1][1]
            self.total -= self._seconds.pop()[1]
        self._seconds.append((second, amount))
        self.total += amount

    def wait_s(self, now_s: float, limit: int) -> int:
        """Seconds until the total is below the limit: 1 to 60, which is the longest that agents' libraries wait."""
        left = self.total
        for second, amount in self._seconds:
            left -= amount
            if left < limit:
                return min(_MINUTE_S, max(1, math.ceil(second + _MINUTE_S + 1 - now_s)))
        return _MINUTE_S


class Pace:
    """The limits per minute of one process. Requests are asked for on the event loop, tokens told from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._requests: dict[str, _Window] = {}
        self._tokens: dict[str, _Window] = {}

    def refusal(self, record: KeyRecord) -> Refusal | None:
        """Why this key has to wait; None when it need not, and then the request is counted."""
        requests, tokens = record.requests_per_minute, record.tokens_per_minute
        if requests is None and tokens is None:
            return None
        now_s = self._clock()
        with self._lock:
            if tokens is not None and (window := self._tokens.get(record.key_id)) and window.at(now_s) >= tokens:
                return _wait("tokens", tokens, window.total, window.wait_s(now_s, tokens))
            if requests is not None:
                window = self._window(self._requests, record.key_id, now_s)
                if window.at(now_s) >= requests:
                    return _wait("requests", requests, window.total, window.wait_s(now_s, requests))
                window.add(now_s, 1)
        return None

    def spent(self, record: KeyRecord, events: Iterable[UsageEvent]) -> None:
        """Count the tokens of a request that is over."""
        if record.tokens_per_minute is None:
            return
        amount = sum(
            e.input_tokens + e.cache_write_5m_tokens + e.cache_write_1h_tokens + e.output_tokens for e in events
        )
        now_s = self._clock()
        with self._lock:
            window = self._window(self._tokens, record.key_id, now_s)
            window.at(now_s)
            window.add(now_s, amount)

    @staticmethod
    def _window(windows: dict[str, _Window], key_id: str, now_s: float) -> _Window:
        window = windows.get(key_id)
        if window is None:
            if len(windows) >= _WINDOWS:
                for idle in [name for name, other in windows.items() if not other.at(now_s)]:
                    del windows[idle]
            window = windows[key_id] = _Window()
        return window


def _wait(what: str, limit: int, used: int, wait_s: int) -> Refusal:
    seconds = "1 second" if wait_s == 1 else f"{wait_s} seconds"
    counted = " (not counting those read from a cache)" if what == "tokens" else ""
    return Refusal(
        429,
        f"{what}_per_minute",
        f"This key is limited to {limit:,} {what} per minute{counted}; {used:,} were used in the last one. "
        f"Try again in {seconds}.",
        ((b"retry-after", str(wait_s).encode()),),
    )
