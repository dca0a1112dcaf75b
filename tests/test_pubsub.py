"""The local Pub/Sub keeps the service's promises; where it can, the same test runs against Google's emulator."""

from __future__ import annotations

import base64
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import AlreadyExists, InvalidArgument, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from local.journal import Journal
from tests.conftest import eventually, needs
from tests.pipeline import SUBSCRIPTION, TOPIC, Server, java_pubsub, pubsub, receiving

DEAD_TOPIC = "projects/local/topics/dead-letters"
DEAD_SUBSCRIPTION = "projects/local/subscriptions/dead-letters-push"
SOON = {"minimum_backoff": timedelta(seconds=0.1), "maximum_backoff": timedelta(seconds=1)}


class Clients:
    """The stock clients on one server."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
        self.publisher = PublisherClient()
        self.subscriber = SubscriberClient(credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]

    def publish(self, data: bytes, **attributes: str) -> str:
        """The message id, once it is acknowledged."""
        return str(self.publisher.publish(TOPIC, data, **attributes).result(timeout=20))

    def push(self, url: str, name: str = SUBSCRIPTION, topic: str = TOPIC, **more: Any) -> None:
        """Make a push subscription."""
        request = {"name": name, "topic": topic, "push_config": {"push_endpoint": url}, "retry_policy": SOON, **more}
        self.subscriber.create_subscription(request=request)

    def close(self) -> None:
        """Close the channels."""
        self.publisher.transport.close()
        self.subscriber.close()


@pytest.fixture(params=["local", pytest.param("java", marks=pytest.mark.emulator)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    if request.param == "java":
        needs("java")
    with pubsub(tmp_path) if request.param == "local" else java_pubsub(tmp_path) as running:
        yield running


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Server]:
    with pubsub(tmp_path) as running:
        yield running


@pytest.fixture
def clients(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    which = "local" if "local" in request.fixturenames else "server"
    connected = Clients(request.getfixturevalue(which), monkeypatch)
    connected.publisher.create_topic(name=TOPIC)
    yield connected
    connected.close()


def test_a_push_bears_the_data_the_attributes_and_both_spellings(server: Server, clients: Clients) -> None:
    with receiving() as receiver:
        clients.push(receiver.url + "?x=1")
        id = clients.publish(b"\x00 caf\xc3\xa9 \xff", event_id="e1", team="Platform")
        eventually(lambda: receiver.envelopes)
    envelope = receiver.envelopes[0]
    message = envelope["message"]
    assert envelope["subscription"] == SUBSCRIPTION
    assert base64.b64decode(message["data"], validate=True) == b"\x00 caf\xc3\xa9 \xff"
    assert message["attributes"] == {"event_id": "e1", "team": "Platform"}
    assert message["messageId"] == message["message_id"] == id
    assert message["publishTime"] == message["publish_time"]
    assert datetime.fromisoformat(message["publishTime"]).tzinfo is not None
    assert receiver.headers[0]["Content-Type"] == "application/json"


def test_a_message_of_attributes_alone_has_no_data(server: Server, clients: Clients) -> None:
    with receiving() as receiver:
        clients.push(receiver.url)
        clients.publish(b"", event_id="e1")
        eventually(lambda: receiver.envelopes)
    assert not receiver.envelopes[0]["message"].get("data")


def test_an_empty_message_is_refused(server: Server, clients: Clients) -> None:
    with pytest.raises(InvalidArgument):
        clients.publish(b"")


def test_what_there_is_already_and_what_there_is_not(server: Server, clients: Clients) -> None:
    with pytest.raises(AlreadyExists):
        clients.publisher.create_topic(name=TOPIC)
    assert clients.publisher.get_topic(topic=TOPIC).name == TOPIC
    with pytest.raises(NotFound):
        clients.publisher.get_topic(topic="projects/local/topics/nowhere")
    with pytest.raises(NotFound):
        clients.publisher.publish("projects/local/topics/nowhere", b"x").result(timeout=20)
    with pytest.raises(NotFound):
        clients.push("http://127.0.0.1:9/", topic="projects/local/topics/nowhere")
    clients.push("http://127.0.0.1:9/")
    with pytest.raises(AlreadyExists):
        clients.push("http://127.0.0.1:9/")
    assert clients.subscriber.get_subscription(subscription=SUBSCRIPTION).topic == TOPIC
    clients.subscriber.delete_subscription(subscription=SUBSCRIPTION)
    with pytest.raises(NotFound):
        clients.subscriber.get_subscription(subscription=SUBSCRIPTION)
    with pytest.raises(NotFound):
        clients.subscriber.delete_subscription(subscription=SUBSCRIPTION)


def test_a_refused_message_comes_again_until_it_is_taken(server: Server, clients: Clients) -> None:
    seen: list[str] = []

    def status(envelope: dict[str, Any]) -> int:
        seen.append(envelope["message"]["messageId"])
        return 204 if len(seen) > 2 else 503

    with receiving(status) as receiver:
        clients.push(receiver.url)
        id = clients.publish(b"x")
        eventually(lambda: len(seen) == 3, within_s=20)
        clients.publish(b"another, to see that the first does not come again")
        eventually(lambda: len(seen) == 4, within_s=20)
    assert seen[:3] == [id] * 3
    assert seen[3] != id


def test_a_deleted_subscription_is_pushed_nothing_more(server: Server, clients: Clients) -> None:
    with receiving(lambda _: 500) as refusing, receiving() as other:
        clients.push(refusing.url)
        clients.publish(b"x", event_id="before")
        eventually(lambda: refusing.envelopes)
        clients.subscriber.delete_subscription(subscription=SUBSCRIPTION)
        clients.push(other.url, name=SUBSCRIPTION + "-2")
        clients.publish(b"x", event_id="after")
        eventually(lambda: other.ids() == {"after"})
        assert "after" not in refusing.ids()


def test_after_so_many_attempts_a_message_goes_to_the_dead_letter_topic(server: Server, clients: Clients) -> None:
    clients.publisher.create_topic(name=DEAD_TOPIC)
    with receiving(lambda _: 500) as refusing, receiving() as dead:
        clients.push(dead.url, name=DEAD_SUBSCRIPTION, topic=DEAD_TOPIC)
        policy = {"dead_letter_topic": DEAD_TOPIC, "max_delivery_attempts": 5}
        clients.push(refusing.url, dead_letter_policy=policy)
        clients.publish(b"poison", event_id="e1")
        eventually(lambda: dead.envelopes, within_s=30)
    message = dead.envelopes[0]["message"]
    assert base64.b64decode(message["data"]) == b"poison"
    assert len(refusing.envelopes) == 5
    source = {key: value for key, value in message["attributes"].items() if key.startswith("CloudPubSubDeadLetter")}
    assert message["attributes"]["event_id"] == "e1"
    assert source["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"
    assert source["CloudPubSubDeadLetterSourceSubscription"] == SUBSCRIPTION.rsplit("/", 1)[1]
    assert source["CloudPubSubDeadLetterSourceSubscriptionProject"] == "local"
    assert source["CloudPubSubDeadLetterSourceTopicPublishTime"]


def test_with_a_dead_letter_topic_a_push_says_which_attempt_it_is(local: Server, clients: Clients) -> None:
    clients.publisher.create_topic(name=DEAD_TOPIC)
    with receiving(lambda envelope: 204 if envelope["deliveryAttempt"] == 3 else 500) as receiver:
        clients.push(receiver.url, dead_letter_policy={"dead_letter_topic": DEAD_TOPIC, "max_delivery_attempts": 5})
        clients.publish(b"x")
        eventually(lambda: len(receiver.envelopes) == 3)
    assert [envelope["deliveryAttempt"] for envelope in receiver.envelopes] == [1, 2, 3]


def test_retries_wait_longer_each_time(local: Server, clients: Clients) -> None:
    at: list[float] = []

    def status(_: dict[str, Any]) -> int:
        at.append(time.monotonic())
        return 500

    with receiving(status) as receiver:
        policy = {"minimum_backoff": timedelta(seconds=0.2), "maximum_backoff": timedelta(seconds=0.6)}
        clients.push(receiver.url, retry_policy=policy)
        clients.publish(b"x")
        eventually(lambda: len(at) >= 5)
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert gaps[0] >= 0.2
    assert gaps[1] >= 0.4
    assert all(gap >= 0.6 for gap in gaps[2:])


def test_an_endpoint_that_is_down_is_asked_now_and_then_and_at_full_speed_once_it_is_back(
    local: Server, clients: Clients
) -> None:
    down, refused = True, [0]

    def status(_: dict[str, Any]) -> int:
        refused[0] += down
        return 503 if down else 204

    with receiving(status) as receiver:
        clients.push(receiver.url)
        for future in [clients.publisher.publish(TOPIC, b"x", event_id=str(n)) for n in range(1000)]:
            future.result(timeout=20)
        eventually(lambda: refused[0] >= 20)
        time.sleep(3)
        asked = refused[0]
        down = False
        eventually(lambda: len(receiver.envelopes) >= asked + 1000)
    assert asked <= 120  # 80 at once before the first answer, then two a second
    assert receiver.ids() == {str(n) for n in range(1000)}


def test_pushes_run_beside_each_other_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = threading.Barrier(4, timeout=20)

    def status(_: dict[str, Any]) -> int:
        full.wait()
        return 204

    with receiving(status) as receiver:
        options = ("--concurrency", "4", "--topic", TOPIC, "--push", receiver.url)
        with pubsub(tmp_path, *options) as running:
            clients = Clients(running, monkeypatch)
            for n in range(20):
                clients.publish(b"x", event_id=str(n))
            eventually(lambda: receiver.ids() == {str(n) for n in range(20)})
            clients.close()
    assert receiver.most_under_way == 4


def test_what_is_acknowledged_outlives_a_kill_and_is_pushed_once_the_endpoint_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged: set[str] = set()
    with receiving() as receiver, pubsub(tmp_path, "--topic", TOPIC, "--push", "http://127.0.0.1:9/") as running:
        stop = threading.Event()

        def publish_on() -> None:
            clients = Clients(running, monkeypatch)
            n = 0
            while not stop.is_set():
                sent = {
                    str(n + i): clients.publisher.publish(TOPIC, b"x" * 500, event_id=str(n + i)) for i in range(50)
                }
                for id, future in sent.items():
                    future.result(timeout=60)  # the stock client retries until the server is there again
                    acknowledged.add(id)
                n += 50
            clients.close()

        thread = threading.Thread(target=publish_on)
        thread.start()
        for kills in range(1, 4):
            eventually(lambda: len(acknowledged) >= 400 * kills, within_s=60)  # noqa: B023
            running.kill()
            running.start()
        stop.set()
        thread.join()
        running.kill()
        options = ("--topic", TOPIC, "--push", receiver.url)
        with pubsub(tmp_path, *options):
            eventually(lambda: acknowledged <= receiver.ids(), within_s=60)
    assert len(acknowledged) >= 1200


def test_topics_and_subscriptions_outlive_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver, pubsub(tmp_path) as running:
        clients = Clients(running, monkeypatch)
        clients.publisher.create_topic(name=TOPIC)
        clients.push(receiver.url)
        running.kill()
        running.start()
        clients.publish(b"x", event_id="after")
        eventually(lambda: receiver.ids() == {"after"})
        clients.close()


def test_what_is_taken_leaves_nothing_in_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver, pubsub(tmp_path, "--topic", TOPIC, "--push", receiver.url) as running:
        clients = Clients(running, monkeypatch)
        for n in range(100):
            clients.publish(b"x", event_id=str(n))
        eventually(lambda: len(receiver.ids()) == 100)
        clients.close()
        assert running.stop() == 0
    journal = Journal(tmp_path / "pubsub.db")
    assert journal.undelivered(SUBSCRIPTION) == []
    with pytest.raises(KeyError):
        journal.message(0)
    journal.close()


def test_a_thousand_messages_a_second_and_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver, pubsub(tmp_path, "--topic", TOPIC, "--push", receiver.url) as running:
        clients = Clients(running, monkeypatch)
        clients.publish(b"warm", event_id="warm")
        began = time.monotonic()
        futures = [clients.publisher.publish(TOPIC, b"x" * 1200, event_id=str(n)) for n in range(5000)]
        for future in futures:
            future.result(timeout=60)
        rate = 5000 / (time.monotonic() - began)
        eventually(lambda: len(receiver.ids()) == 5001, within_s=60)
        clients.close()
    assert rate >= 1000


def test_a_taken_port_is_said_and_not_shared(local: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local.pubsub", "--port", str(local.port), "--path", str(tmp_path / "other.db")]
    ended = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert b"is taken" in ended.stderr
