"""Events leave the proxy without holding it up, and every one arrives, whatever happens to the topic."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from governance.events import UsageEvent
from proxy_service.publisher import EventPublisher
from tests.conftest import ROOT, eventually, free_port, needs
from tests.pipeline import SUBSCRIPTION, TOPIC, Server, java_pubsub, pubsub, receiving, sample, spool

OUTAGE_S = float(os.environ.get("TALLY_TEST_OUTAGE_S", "8"))


def spilled(path: Path) -> list[UsageEvent]:
    """The events of the spill file; fails on a line that is not exactly one of them."""
    events = []
    for line in path.read_bytes().splitlines():
        record = json.loads(line)
        assert record.keys() == {"severity", "message", "event"}
        assert (record["severity"], record["message"]) == ("WARNING", "usage_event")
        events.append(UsageEvent.model_validate(record["event"]))
    return events


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pub/Sub refuses connections."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{free_port()}")


@pytest.fixture
def black_hole(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pub/Sub takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{listening.getsockname()[1]}")
        yield


@contextmanager
def running(which: str, folder: Path, push_to: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A Pub/Sub that pushes the topic to a URL."""
    if which == "java":
        needs("java")
    with pubsub(folder) if which == "local" else java_pubsub(folder) as server:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
        publisher = PublisherClient()
        publisher.create_topic(name=TOPIC)
        publisher.transport.close()
        subscriber = SubscriberClient(credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
        push = {"push_endpoint": push_to}
        subscriber.create_subscription(request={"name": SUBSCRIPTION, "topic": TOPIC, "push_config": push})
        subscriber.close()
        yield server


@pytest.mark.parametrize("which", ["local", pytest.param("java", marks=pytest.mark.emulator)])
def test_every_event_arrives_whole_under_its_id(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = {event.event_id: event for event in (sample(input_tokens=n) for n in range(1500))}
    with receiving() as receiver, running(which, tmp_path, receiver.url, monkeypatch):
        publisher = EventPublisher(TOPIC, str(tmp_path / "spill.jsonl"))
        for event in events.values():
            publisher.publish(event)
        publisher.close(30)
        eventually(lambda: len(receiver.ids()) == 1500, within_s=60)
    for envelope in receiver.envelopes:
        message = envelope["message"]
        event = events[message["attributes"]["event_id"]]
        assert base64.b64decode(message["data"]) == event.message()
    assert (publisher.published, publisher.spilled) == (1500, 0)
    assert spilled(tmp_path / "spill.jsonl") == []


@pytest.mark.usefixtures("nowhere")
def test_what_a_refusing_topic_does_not_take_is_spilled_once(tmp_path: Path) -> None:
    events = [sample() for _ in range(2000)]
    publisher = EventPublisher(TOPIC, str(tmp_path / "not there yet" / "spill.jsonl"))
    for event in events:
        publisher.publish(event)
    eventually(lambda: publisher.spilled == 2000, within_s=20)
    publisher.close()
    assert publisher.published == 0
    assert spilled(tmp_path / "not there yet" / "spill.jsonl") == events


@pytest.mark.usefixtures("black_hole")
def test_a_topic_that_never_answers_costs_two_threads_and_loses_nothing(tmp_path: Path) -> None:
    publisher = EventPublisher(TOPIC, str(tmp_path / "spill.jsonl"))
    first = sample()
    publisher.publish(first)
    eventually(lambda: publisher.spilled == 1, within_s=20)  # by now the client is loaded, and the topic known as down
    threads, events, slowest_s = psutil.Process().num_threads(), [sample() for _ in range(300)], 0.0
    most_threads = threads
    for event in events:
        began = time.thread_time()
        publisher.publish(event)
        slowest_s = max(slowest_s, time.thread_time() - began)
        most_threads = max(most_threads, psutil.Process().num_threads())
        time.sleep(0.01)
    eventually(lambda: publisher.spilled == 301, within_s=20)
    publisher.close()
    assert most_threads <= threads + 2
    assert slowest_s < 0.02
    assert spilled(tmp_path / "spill.jsonl") == [first, *events]


@pytest.mark.usefixtures("black_hole")
def test_close_keeps_its_time_and_spills_what_is_left(tmp_path: Path) -> None:
    publisher = EventPublisher(TOPIC, str(tmp_path / "spill.jsonl"))
    events = [sample() for _ in range(1200)]
    for event in events:
        publisher.publish(event)
    began = time.monotonic()
    publisher.close(0.5)
    assert time.monotonic() - began < 3
    late = sample()
    publisher.publish(late)
    publisher.close(0.5)
    assert sorted(e.event_id for e in spilled(tmp_path / "spill.jsonl")) == sorted(e.event_id for e in [*events, late])
    assert publisher.spilled == 1201


def test_a_topic_that_is_not_there_spills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pubsub(tmp_path) as server:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
        publisher = EventPublisher(TOPIC, str(tmp_path / "spill.jsonl"))
        event = sample()
        publisher.publish(event)
        publisher.close()
    assert spilled(tmp_path / "spill.jsonl") == [event]


@pytest.mark.usefixtures("nowhere")
def test_handing_over_an_event_takes_microseconds(tmp_path: Path) -> None:
    publisher = EventPublisher(TOPIC, str(tmp_path / "spill.jsonl"))
    event = sample()
    began = time.thread_time()
    for _ in range(10_000):
        publisher.publish(event)
    each_us = (time.thread_time() - began) * 100
    publisher.close()
    assert each_us < 50


@pytest.mark.usefixtures("nowhere")
def test_what_waits_is_bounded_and_the_rest_is_spilled_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy_service.publisher.WAITING_EVENTS", 10)
    publisher = EventPublisher(TOPIC, str(tmp_path / "spill.jsonl"))
    events = [sample() for _ in range(5000)]
    for event in events:
        publisher.publish(event)
    publisher.close()
    assert {e.event_id for e in spilled(tmp_path / "spill.jsonl")} == {e.event_id for e in events}
    assert publisher.spilled == 5000


@pytest.mark.usefixtures("nowhere")
def test_the_spill_may_be_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    publisher = EventPublisher(TOPIC, "stdout")
    event = sample()
    publisher.publish(event)
    publisher.close()
    (tmp_path / "out").write_text(capfd.readouterr().out)
    assert spilled(tmp_path / "out") == [event]


@pytest.mark.usefixtures("nowhere")
def test_processes_that_share_a_spill_file_write_whole_lines(tmp_path: Path) -> None:
    program = (
        "import sys; from proxy_service.publisher import EventPublisher; from tests.pipeline import TOPIC, sample\n"
        "publisher = EventPublisher(TOPIC, sys.argv[1])\n"
        "for _ in range(2000): publisher.publish(sample())\n"
        "publisher.close()"
    )
    path = tmp_path / "spill.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=ROOT) for _ in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert len({event.event_id for event in spilled(path)}) == 6000


@pytest.mark.usefixtures("nowhere")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_when_the_spill_is_full_the_event_goes_to_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    publisher = EventPublisher(TOPIC, "/dev/full")
    event = sample()
    publisher.publish(event)
    publisher.close()
    (tmp_path / "err").write_text(
        "\n".join(line for line in capfd.readouterr().err.splitlines() if event.event_id in line)
    )
    assert spilled(tmp_path / "err") == [event]


@pytest.mark.parametrize("topic", ["", "usage-events", "projects/p/topics/", "projects/p/subscriptions/s"])
def test_a_topic_that_cannot_be_one_is_refused_at_once(topic: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a topic is projects/"):
        EventPublisher(topic, str(tmp_path / "spill.jsonl"))


def test_the_topic_goes_away_under_load_and_every_event_arrives_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, process, events = tmp_path / "spill.jsonl", psutil.Process(), []
    with (
        receiving() as receiver,
        running("local", tmp_path, receiver.url, monkeypatch) as server,
        spool(tmp_path, path, server.port),
    ):
        publisher, stop = EventPublisher(TOPIC, str(path)), threading.Event()

        def fifty_a_second() -> None:
            while not stop.wait(0.02):
                events.append(sample())
                publisher.publish(events[-1])

        load = threading.Thread(target=fifty_a_second)
        load.start()
        eventually(lambda: publisher.published > 50, within_s=20)
        threads, rss = process.num_threads(), process.memory_info().rss
        server.kill()
        end, most_threads = time.monotonic() + OUTAGE_S, 0
        while time.monotonic() < end:
            most_threads = max(most_threads, process.num_threads())
            time.sleep(0.1)
        grown = process.memory_info().rss - rss
        server.start()
        before = publisher.published
        eventually(lambda: publisher.published > before + 50, within_s=20)
        stop.set()
        load.join()
        publisher.close()
        eventually(lambda: _arrived(receiver.envelopes) >= {e.event_id for e in events}, within_s=30)
    assert publisher.spilled > 0
    assert publisher.published + publisher.spilled == len(events)
    assert most_threads <= threads + 4
    assert grown < 20_000_000


def _arrived(envelopes: list[dict[str, dict[str, str]]]) -> set[str]:
    ids = set()
    for envelope in list(envelopes):
        body = json.loads(base64.b64decode(envelope["message"]["data"]))
        ids.add(body.get("jsonPayload", {}).get("event", body)["event_id"])
    return ids
