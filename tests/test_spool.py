"""What the proxy spilled reaches the topic as log entries, each line once it is whole, and none is left out."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from governance.events import UsageEvent
from tests.conftest import eventually
from tests.pipeline import TOPIC, Receiver, Server, pubsub, receiving, sample, spool


def line(event: UsageEvent) -> bytes:
    """The event as the publisher spills it."""
    return b'{"severity":"WARNING","message":"usage_event","event":' + event.message() + b"}\n"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def server(tmp_path: Path, receiver: Receiver) -> Iterator[Server]:
    with pubsub(tmp_path, "--topic", TOPIC, "--push", receiver.url) as running:
        yield running


def arrived(receiver: Receiver) -> list[bytes]:
    """The data of each message so far."""
    return [base64.b64decode(envelope["message"]["data"]) for envelope in list(receiver.envelopes)]


def append(path: Path, *lines: bytes) -> None:
    """Write on at the end of the file."""
    with path.open("ab") as file:
        file.write(b"".join(lines))


def test_a_line_arrives_in_the_form_of_a_log_entry(tmp_path: Path, receiver: Receiver, server: Server) -> None:
    path, event = tmp_path / "spill.jsonl", sample()
    append(path, line(event))
    with spool(tmp_path, path, server.port):
        eventually(lambda: receiver.envelopes)
    entry: dict[str, Any] = json.loads(arrived(receiver)[0])
    assert entry["severity"] == "WARNING"
    assert entry["jsonPayload"]["message"] == "usage_event"
    assert UsageEvent.model_validate(entry["jsonPayload"]["event"]) == event


def test_a_line_waits_until_it_is_whole(tmp_path: Path, receiver: Receiver, server: Server) -> None:
    path, first, second = tmp_path / "spill.jsonl", sample(), sample()
    with spool(tmp_path, path, server.port):
        append(path, line(first), line(second)[:200])
        eventually(lambda: receiver.envelopes)
        append(path, line(second)[200:])
        eventually(lambda: len(receiver.envelopes) == 2)
    entries = [json.loads(data)["jsonPayload"]["event"]["event_id"] for data in arrived(receiver)]
    assert sorted(entries) == sorted([first.event_id, second.event_id])


def test_a_line_that_is_no_json_is_passed_on_as_it_stands(tmp_path: Path, receiver: Receiver, server: Server) -> None:
    path = tmp_path / "spill.jsonl"
    append(path, b'{"severity":"WARNING","mess\n', b"\n", b"[1]\n", b"\xff\xfe\n")
    with spool(tmp_path, path, server.port):
        eventually(lambda: len(receiver.envelopes) == 3)
    assert sorted(arrived(receiver)) == sorted([b'{"severity":"WARNING","mess', b"[1]", b"\xff\xfe"])


def test_after_a_kill_it_goes_on_where_it_was(tmp_path: Path, receiver: Receiver, server: Server) -> None:
    path, events = tmp_path / "spill.jsonl", [sample() for _ in range(3)]
    replay = spool(tmp_path, path, server.port)
    append(path, line(events[0]))
    with replay:
        eventually(lambda: (tmp_path / "spill.jsonl.place").exists())
    append(path, line(events[1]))
    with replay:
        append(path, line(events[2]))
        eventually(lambda: len(receiver.envelopes) == 3)
    ids = [json.loads(data)["jsonPayload"]["event"]["event_id"] for data in arrived(receiver)]
    assert sorted(ids) == sorted(event.event_id for event in events)


def test_another_file_of_the_same_name_is_read_from_its_start(
    tmp_path: Path, receiver: Receiver, server: Server
) -> None:
    path, first, second = tmp_path / "spill.jsonl", sample(), sample()
    append(path, line(first))
    with spool(tmp_path, path, server.port):
        eventually(lambda: receiver.envelopes)
        append(tmp_path / "new.jsonl", line(second))
        (tmp_path / "new.jsonl").replace(path)
        eventually(lambda: len(receiver.envelopes) == 2)
    assert json.loads(arrived(receiver)[1])["jsonPayload"]["event"]["event_id"] == second.event_id


def test_lines_wait_while_the_topic_is_down(tmp_path: Path, receiver: Receiver, server: Server) -> None:
    path, events = tmp_path / "spill.jsonl", [sample() for _ in range(1500)]
    server.kill()
    append(path, *map(line, events))
    with spool(tmp_path, path, server.port) as replay:
        log = tmp_path / "spool.log"
        eventually(lambda: "the topic takes no lines" in log.read_text(), within_s=20)
        server.start()
        ids = {event.event_id for event in events}
        eventually(
            lambda: {json.loads(data)["jsonPayload"]["event"]["event_id"] for data in arrived(receiver)} == ids,
            within_s=30,
        )
        eventually((tmp_path / "spill.jsonl.place").exists)
        assert replay.stop() == 0
