"""Pub/Sub on a laptop: the stock clients speak to it, push subscriptions get the real envelope, and it forgets nothing.

What a publisher was told is published survives the death of this process and is pushed after the next start. As in the
real service a message may come twice, an answer other than 2xx brings it again later, and a dead-letter topic takes it
after so many attempts. Left out: pull, ordering, filters, authentication.

    python -m local.pubsub --port 8085 --path .tally/pubsub.db --topic projects/local/topics/usage-events --push URL
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import uvloop
from google.pubsub_v1 import types

from governance import logs
from local import journal
from local.journal import Change, Journal, Message
from local.push import Push

CONCURRENCY: Final = 80  # requests under way for one subscription; Cloud Run's default for one instance
MESSAGE_LIMIT: Final = 20_000_000  # bytes; the service itself takes requests of 10 MB

log = logging.getLogger("tally.pubsub")
Context = Any  # grpc.aio.ServicerContext


class Commits:
    """Group commit: while one transaction is being written, the changes of the next one gather."""

    def __init__(self, file: Journal) -> None:
        self._file = file
        self._waiting: list[tuple[list[Change], asyncio.Future[None]]] = []
        self._thread = ThreadPoolExecutor(1, "journal")
        self._writing: asyncio.Task[None] | None = None

    def add(self, changes: list[Change]) -> asyncio.Future[None]:
        """Write the changes; the future is done when they are durable, and raises sqlite3.Error otherwise."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((changes, done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return done

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            changes = list(itertools.chain.from_iterable(changes for changes, _ in group))
            try:
                await loop.run_in_executor(self._thread, self._file.apply, changes)
            except sqlite3.Error as error:
                log.error("the journal cannot be written", extra={"error": str(error)})
                for _, done in group:
                    done.set_exception(error)
            else:
                for _, done in group:
                    done.set_result(None)

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._writing:
            await self._writing
        self._thread.shutdown()


class PubSub:
    """Topics and subscriptions, and the calls of the two gRPC services on them."""

    def __init__(self, file: Journal, concurrency: int = CONCURRENCY) -> None:
        self._file, self._commits, self._concurrency = file, Commits(file), concurrency
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._ids = itertools.count(time.time_ns() // 1000)  # never one of an earlier run
        self.topics = {topic.name: topic for topic in map(types.Topic.deserialize, file.topics())}
        self.pushes: dict[str, Push] = {}
        for body in file.subscriptions():
            self._start(types.Subscription.deserialize(body))

    def _start(self, subscription: types.Subscription) -> None:
        push = Push(subscription, self._http, self._file, self._commits.add, self._dead_letter, self._concurrency)
        self.pushes[subscription.name] = push

    async def close(self) -> None:
        """Stop pushing; everything undelivered stays in the journal."""
        await asyncio.gather(*(push.close() for push in self.pushes.values()))
        await self._commits.close()
        await self._http.close()
        self._file.close()

    async def add_topic(self, topic: types.Topic) -> None:
        """Make the topic, or replace it."""
        await self._commits.add(journal.topic_added(topic.name, types.Topic.serialize(topic)))
        self.topics[topic.name] = topic

    async def add_subscription(self, subscription: types.Subscription) -> None:
        """Make the subscription, or replace it; a replaced one goes on with what it has not yet delivered."""
        before = self.pushes.get(subscription.name)
        if before:
            await before.close()
        body = types.Subscription.serialize(subscription)
        await self._commits.add(journal.subscription_added(subscription.name, body))
        self._start(subscription)

    async def send(
        self, topic: str, messages: list[tuple[bytes, dict[str, str], str]], settled: list[Change]
    ) -> list[int]:
        """Publish (data, attributes, ordering key)s, durably, in one transaction with `settled`. The message ids."""
        published_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        names = [push.name for push in self.pushes.values() if push.subscription.topic == topic]
        new = [Message(next(self._ids), *message, published_at) for message in messages]
        changes = list(settled)
        if names:  # nobody will ever ask for a message that no subscription was there for
            for message in new:
                changes += journal.published(message, names)
        await self._commits.add(changes)
        for push in filter(None, map(self.pushes.get, names)):  # asked again: it may have been replaced meanwhile
            push.add([message.id for message in new])
        return [message.id for message in new]

    async def _dead_letter(self, topic: str, message: Message, settled: list[Change]) -> bool:
        if topic not in self.topics:
            return False
        await self.send(topic, [(message.data, message.attributes, message.ordering_key)], settled)
        return True

    # The calls, as named in google.pubsub.v1.

    async def create_topic(self, request: types.Topic, context: Context) -> types.Topic:
        if request.name in self.topics:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "Topic already exists")
        await self.add_topic(request)
        return request

    async def get_topic(self, request: types.GetTopicRequest, context: Context) -> types.Topic:
        if request.topic not in self.topics:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Topic not found")
        found: types.Topic = self.topics[request.topic]
        return found

    async def publish(self, request: types.PublishRequest, context: Context) -> types.PublishResponse:
        if request.topic not in self.topics:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Topic not found")
        messages = [(m.data, dict(m.attributes), m.ordering_key) for m in types.PublishRequest.pb(request).messages]
        if not messages or any(not data and not attributes for data, attributes, _ in messages):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "A message needs data or attributes")
        try:
            ids = await self.send(request.topic, messages, [])
        except sqlite3.Error as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"the journal cannot be written: {error}")
        return types.PublishResponse(message_ids=list(map(str, ids)))

    async def create_subscription(self, request: types.Subscription, context: Context) -> types.Subscription:
        if request.topic not in self.topics:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Topic not found")
        if request.name in self.pushes:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "Subscription already exists")
        if not request.push_config.push_endpoint or request.push_config.no_wrapper:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "only wrapped push subscriptions are known here")
        await self.add_subscription(request)
        return request

    async def get_subscription(self, request: types.GetSubscriptionRequest, context: Context) -> types.Subscription:
        if request.subscription not in self.pushes:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Subscription not found")
        return self.pushes[request.subscription].subscription

    async def delete_subscription(self, request: types.DeleteSubscriptionRequest, context: Context) -> None:
        push = self.pushes.pop(request.subscription, None)
        if push is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Subscription not found")
        else:
            await push.close()
            await self._commits.add(journal.subscription_deleted(request.subscription))


def _method(call: Callable[[Any, Context], Awaitable[Any]], request: type[Any]) -> grpc.RpcMethodHandler:
    def serialize(answer: Any) -> bytes:
        return b"" if answer is None else bytes(type(answer).serialize(answer))  # no bytes are google.protobuf.Empty

    return grpc.unary_unary_rpc_method_handler(call, request.deserialize, serialize)


def services(hub: PubSub) -> tuple[grpc.GenericRpcHandler, ...]:
    """The gRPC services as the client library calls them; it brings no server stubs."""
    publisher = {
        "CreateTopic": _method(hub.create_topic, types.Topic),
        "GetTopic": _method(hub.get_topic, types.GetTopicRequest),
        "Publish": _method(hub.publish, types.PublishRequest),
    }
    subscriber = {
        "CreateSubscription": _method(hub.create_subscription, types.Subscription),
        "GetSubscription": _method(hub.get_subscription, types.GetSubscriptionRequest),
        "DeleteSubscription": _method(hub.delete_subscription, types.DeleteSubscriptionRequest),
    }
    return (
        grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher),
        grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", subscriber),
    )


def _pushing(topic: str, url: str) -> types.Subscription:
    """The subscription that pushes a topic to one place, under a name of its own."""
    backoff = types.RetryPolicy(minimum_backoff=timedelta(seconds=0.2), maximum_backoff=timedelta(seconds=5))
    push = types.PushConfig(push_endpoint=url)
    name = topic.replace("/topics/", "/subscriptions/") + "-push"
    return types.Subscription(name=name, topic=topic, push_config=push, ack_deadline_seconds=90, retry_policy=backoff)


async def serve(port: int, path: Path, topic: str | None, push: str | None, concurrency: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises SystemExit when the port is taken."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MESSAGE_LIMIT)])
    try:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    except RuntimeError:
        raise SystemExit(f"pubsub: port {port} is taken") from None
    hub = PubSub(Journal(path), concurrency)
    if topic and topic not in hub.topics:
        await hub.add_topic(types.Topic(name=topic))
    if topic and push:
        await hub.add_subscription(_pushing(topic, push))
    server.add_generic_rpc_handlers(services(hub))
    await server.start()
    log.info("listening", extra={"port": port})
    await stop.wait()
    await server.stop(grace=2)
    await hub.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="local.pubsub", description="Pub/Sub on a laptop.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", type=Path, required=True, help="where undelivered messages are kept")
    parser.add_argument("--topic", help="a topic to have from the start: projects/<project>/topics/<topic>")
    parser.add_argument("--push", help="the URL to push that topic to")
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY, help="pushes under way at once")
    given = parser.parse_args()
    if given.push and not given.topic:
        parser.error("--push needs --topic")
    logs.start()
    uvloop.run(serve(given.port, given.path, given.topic, given.push, given.concurrency))


if __name__ == "__main__":
    main()
