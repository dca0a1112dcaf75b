"""The log sink on a laptop: events that the proxy spilled into a file are published as the log entries they would be.

    python -m local.spool --path .tally/spool.jsonl --topic projects/local/topics/usage-events

Only whole lines are read. How far it has come stands in a file beside the spill file and moves on when the topic has
taken the lines: a restart or an outage repeats a few, and loses none. A line that is no JSON is published as it stands,
so that ingest shelves it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from google.api_core.exceptions import GoogleAPIError
from google.pubsub_v1.types import PubsubMessage

from governance import logs
from proxy_service.publisher import client

BATCH_BYTES: Final = 1_000_000  # read at once; longer than any line
TIMEOUT_S: Final = 5.0

log = logging.getLogger("tally.spool")


def log_entry(line: bytes) -> bytes:
    """The line as Cloud Logging's sink would publish it; the line itself when it is no JSON object."""
    try:
        payload = json.loads(line)
    except ValueError:
        return line
    if not isinstance(payload, dict):
        return line
    entry = {
        "logName": "projects/local/logs/run.googleapis.com%2Fstdout",
        "severity": payload.pop("severity", "DEFAULT"),
        "receiveTimestamp": datetime.now(UTC).isoformat(),
        "jsonPayload": payload,
    }
    return json.dumps(entry).encode()


class Place:
    """How far a file has been read, kept in a file beside it. Another file under the same name starts at its start."""

    def __init__(self, path: Path) -> None:
        self._path, self._kept = path, path.with_name(path.name + ".place")
        self._read: dict[str, int] = json.loads(self._kept.read_text()) if self._kept.exists() else {}

    def lines(self) -> tuple[list[bytes], dict[str, int]]:
        """(whole lines not yet taken, the place behind them)."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                known = self._read.get("inode") == found.st_ino and self._read["offset"] <= found.st_size
                offset = self._read["offset"] if known else 0
                file.seek(offset)
                whole, newline, _ = file.read(BATCH_BYTES).rpartition(b"\n")
        except FileNotFoundError:
            return [], self._read
        return [line for line in whole.split(b"\n") if line], {
            "inode": found.st_ino,
            "offset": offset + len(whole) + len(newline),
        }

    def keep(self, behind: dict[str, int]) -> None:
        """What comes before this place is done, also after a restart."""
        if behind == self._read:
            return
        new = self._kept.with_name(self._kept.name + ".new")
        new.write_text(json.dumps(behind))
        new.replace(self._kept)
        self._read = behind


def follow(path: Path, topic: str, stop: threading.Event, every_s: float = 1.0) -> None:
    """Publish each line of the file as it appears, until `stop` is set."""
    place, publisher, down = Place(path), client(), False
    while not stop.is_set():
        lines, behind = place.lines()
        try:
            if lines:
                _publish(publisher, topic, lines)
        except GoogleAPIError as error:
            if not down:
                log.warning("the topic takes no lines; they wait", extra={"error_class": type(error).__name__})
            down = True
            stop.wait(every_s)
            continue
        down = False
        place.keep(behind)
        if lines:
            log.info("published spilled events", extra={"lines": len(lines)})
        else:
            stop.wait(every_s)


def _publish(publisher: Any, topic: str, lines: list[bytes]) -> None:
    """At most 1,000 messages go into one request."""
    for start in range(0, len(lines), 500):
        messages = [PubsubMessage(data=log_entry(line)) for line in lines[start : start + 500]]
        publisher.publish(topic=topic, messages=messages, retry=None, timeout=TIMEOUT_S)


def main() -> None:
    """Read the command line and follow the file until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="local.spool", description="Publishes what the proxy spilled into a file.")
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--every-s", type=float, default=1.0, help="how often to look")
    given = parser.parse_args()
    logs.start()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    follow(given.path, given.topic, stop, given.every_s)


if __name__ == "__main__":
    main()
