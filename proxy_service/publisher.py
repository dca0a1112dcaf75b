"""EventPublisher: events leave the proxy in the background, and none is lost while the topic is down.

One thread gathers what arrives within a few hundredths of a second and publishes it as one request, by the official
client. What the topic does not take within seconds leaves as one log line, which a log sink routes to the same topic;
on a laptop the line goes to a file that `local/spool.py` replays. A copy too many is harmless: views count an event
once.

Lost at a hard kill: what is not yet acknowledged, some 0.1 s of events, or GIVE_UP_S of them as an outage begins.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from governance.events import UsageEvent

GIVE_UP_S: Final = 3.0  # for one batch, retries included; an instance that ends has ten seconds in all
PROBE_S: Final = 1.0  # the same while the topic is known to be down
LINGER_S: Final = 0.05
BATCH_EVENTS: Final = 500
WAITING_EVENTS: Final = 20_000  # some 30 MB; beyond it an event is spilled where it stands

log = logging.getLogger("tally.publisher")


class EventPublisher:
    """Publishes to `topic` (projects/…/topics/…), spills to `spill` ("stdout" or a file's path).

    PUBSUB_EMULATOR_HOST selects another endpoint, as for every Pub/Sub client. Make it in the process that uses it: its
    thread does not survive a fork. Raises ValueError for a topic that cannot be one, OSError for a spill file that
    cannot be opened.
    """

    def __init__(self, topic: str, spill: str) -> None:
        if not re.fullmatch(r"projects/[^/]+/topics/[^/]+", topic):
            raise ValueError(f"a topic is projects/<project>/topics/<topic>, not {topic!r}")
        self._topic, self._spill = topic, _Spill(spill)
        self._waiting: deque[UsageEvent] = deque()
        self._sending: list[UsageEvent] = []
        self._arrived = threading.Condition()  # guards the two above, and `spilled`
        self._closing = threading.Event()
        self._down = False
        self._client: Any = None
        self.published = 0
        self.spilled = 0
        self._sender = threading.Thread(target=self._run, name="event-publisher", daemon=True)
        self._sender.start()

    def publish(self, event: UsageEvent) -> None:
        """Hand over one event: microseconds. Never raises, and never waits for the topic."""
        with self._arrived:
            room = not self._closing.is_set() and len(self._waiting) < WAITING_EVENTS
            if room:
                self._waiting.append(event)
                if len(self._waiting) == 1:
                    self._arrived.notify()
        if not room:
            self._spill_all([event])

    def close(self, timeout_s: float = 4.0) -> None:
        """Publish what waits, for so long; spill the rest. What is published afterwards is spilled at once."""
        with self._arrived:
            self._closing.set()
            self._arrived.notify()
        self._sender.join(timeout_s)
        with self._arrived:
            left = [*self._sending, *self._waiting]
            self._sending.clear()
            self._waiting.clear()
        self._spill_all(left)

    def _run(self) -> None:
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._waiting or self._closing.is_set())
                gathered = len(self._waiting)
            if gathered < BATCH_EVENTS:
                self._closing.wait(LINGER_S)
            with self._arrived:
                self._sending = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_EVENTS))]
                batch = list(self._sending)
            if not batch:
                return
            self._send(batch)

    def _taken(self) -> list[UsageEvent]:
        """The batch under way, to the one who settles it: the sender, or `close` in its place."""
        with self._arrived:
            batch, self._sending = self._sending, []
            return batch

    def _send(self, events: Sequence[UsageEvent]) -> None:
        try:
            self._request(events)
        except Exception as error:  # whatever it is, the events must not be lost and the thread must go on
            if not self._down:
                log.warning("the topic takes no events; they are spilled", extra={"error_class": type(error).__name__})
            self._down = True
            self._spill_all(self._taken())
        else:
            if self._down:
                log.warning("the topic takes events again")
            self._down = False
            self.published += len(self._taken())

    def _request(self, events: Sequence[UsageEvent]) -> None:
        from google.api_core import exceptions, retry
        from google.pubsub_v1.types import PubsubMessage

        if self._client is None:
            self._client = client()
        transient = retry.if_exception_type(
            exceptions.ServiceUnavailable, exceptions.DeadlineExceeded, exceptions.InternalServerError,
            exceptions.ResourceExhausted, exceptions.Aborted, exceptions.Unknown, exceptions.Cancelled,
        )  # fmt: skip
        timeout_s = PROBE_S if self._down else GIVE_UP_S
        self._client.publish(
            topic=self._topic,
            messages=[PubsubMessage(data=e.message(), attributes={"event_id": e.event_id}) for e in events],
            retry=None if self._down else retry.Retry(transient, initial=0.1, maximum=1.0, timeout=timeout_s),
            timeout=timeout_s,
        )

    def _spill_all(self, events: Sequence[UsageEvent]) -> None:
        for event in events:
            self._spill.write(event)
        with self._arrived:
            self.spilled += len(events)


def client() -> Any:
    """The stock client's own engine, the generated client, without the stock client's new thread for each batch."""
    import grpc
    from google.cloud.pubsub_v1 import PublisherClient as StockClient
    from google.pubsub_v1 import PublisherClient
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

    soon = ("grpc.max_reconnect_backoff_ms", 1000)  # gRPC's own two minutes would spill long after an outage has ended

    class Transport(PublisherGrpcTransport):
        def __init__(self, *, host: str, channel: Any = None, **rest: Any) -> None:
            if channel is not None:  # the client was given an emulator, and made a channel without options
                channel.close()
                channel = grpc.insecure_channel(host, options=[soon])
            super().__init__(host=host, channel=channel, **rest)

        @classmethod
        def create_channel(cls, *args: Any, **rest: Any) -> Any:
            return super().create_channel(*args, **{**rest, "options": [*rest.get("options", ()), soon]})

    stock = StockClient(transport=Transport)  # finds endpoint and credentials
    return PublisherClient(transport=stock.transport)


class _Spill:
    """Events as log lines, each in one write, so that processes may share the file or the pipe."""

    def __init__(self, where: str) -> None:
        self._lock = threading.Lock()
        self._torn = False
        if where == "stdout":
            self._file = 1
            return
        path = Path(where)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, event: UsageEvent) -> None:
        line = b'{"severity":"WARNING","message":"usage_event","event":' + event.message() + b"}\n"
        with self._lock:
            try:
                self._write(b"\n" + line if self._torn else line)
            except OSError as error:  # the disk is full or the pipe is gone: the one place left is standard error
                self._torn = True
                print(line.decode(), end="", file=sys.stderr, flush=True)  # noqa: T201
                log.error("the spill cannot be written", extra={"error": error.strerror})

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._file, line) :]
        self._torn = False
