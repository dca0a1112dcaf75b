"""A running gateway for tests: the real proxy process, the simulated provider, a topic that remembers its events."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.pubsub_v1 import types

from governance import keys
from governance.events import UsageEvent
from governance.registry import ANY, open_registry
from tests.conftest import ROOT, eventually, free_port

TOPIC = "projects/test/topics/usage-events"
PEPPER = "a pepper for tests"
PROVIDER_KEYS = {
    "OPENAI_API_KEY": "sk-openai-of-the-gateway",
    "ANTHROPIC_API_KEY": "sk-ant-of-the-gateway",
    "OPENROUTER_API_KEY": "sk-or-of-the-gateway",
    "MOONSHOT_API_KEY": "sk-moonshot-of-the-gateway",
}


class Topic:
    """A Pub/Sub endpoint that only takes messages, and keeps them in memory."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        handler = grpc.unary_unary_rpc_method_handler(
            self._publish,
            request_deserializer=types.PublishRequest.deserialize,
            response_serializer=types.PublishResponse.serialize,
        )
        service = grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", {"Publish": handler})
        self._server.add_generic_rpc_handlers((service,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _publish(self, request: types.PublishRequest, _: grpc.ServicerContext) -> types.PublishResponse:
        with self._lock:
            first = len(self.messages)
            self.messages.extend(message.data for message in request.messages)
        return types.PublishResponse(message_ids=[str(first + at) for at in range(len(request.messages))])

    def events(self) -> list[UsageEvent]:
        with self._lock:
            return [UsageEvent.read(data) for data in self.messages]

    def stop(self) -> None:
        self._server.stop(0).wait()


class Process:
    """A child whose output goes to a file."""

    def __init__(self, argv: list[str], log: Path, env: Mapping[str, str]) -> None:
        self.log = log
        with log.open("ab") as out:
            self._child = subprocess.Popen(argv, cwd=ROOT, env=dict(env), stdout=out, stderr=subprocess.STDOUT)

    @property
    def pid(self) -> int:
        return self._child.pid

    def ended(self) -> int | None:
        return self._child.poll()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self._child.poll() is None:
            self._child.send_signal(how)
        try:
            return self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
            raise


def plain_environment() -> dict[str, str]:
    """This environment without what would reach the proxy by accident."""
    left_out = ("TALLY_", "OPENAI", "ANTHROPIC", "OPENROUTER", "MOONSHOT", "LITELLM", "PUBSUB")
    return {n: v for n, v in os.environ.items() if not n.startswith(left_out) and not n.lower().endswith("_proxy")}


def start_provider(folder: Path) -> tuple[Process, str]:
    """The simulated provider on a free port, and its URL."""
    port = free_port()
    argv = [sys.executable, "-m", "local.provider", "--port", str(port)]
    process = Process(argv, folder / "provider.log", plain_environment())
    url = f"http://127.0.0.1:{port}"
    eventually(lambda: answers(f"{url}/healthz"), 30)
    return process, url


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


class RunningGateway:
    """The proxy as deployed: uvicorn, its own process, configured by its environment alone."""

    def __init__(self, folder: Path, provider_url: str, **more: str) -> None:
        self.folder, self.topic = folder, Topic()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.registry_url = f"sqlite://{folder / 'registry.db'}"
        self.registry = open_registry(self.registry_url)
        self.env = plain_environment() | {
            "TALLY_REGISTRY": self.registry_url,
            "TALLY_KEY_PEPPER": PEPPER,
            "TALLY_TOPIC": TOPIC,
            "TALLY_SPILL": str(folder / "spill.jsonl"),
            "TALLY_KEY_CACHE_TTL_S": "1",
            "TALLY_CLOSE_GRACE_S": "1",
            "PUBSUB_EMULATOR_HOST": self.topic.address,
            "OPENAI_API_BASE": f"{provider_url}/v1",
            "ANTHROPIC_API_BASE": provider_url,
            "OPENROUTER_API_BASE": f"{provider_url}/openrouter/api/v1",
            "MOONSHOT_API_BASE": f"{provider_url}/moonshot/v1",
            **PROVIDER_KEYS,
            **more,
        }
        self.process = self._start()
        self.key = self.new_key("ada@example.com", "research")
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def _start(self) -> Process:
        argv = [sys.executable, "-m", "uvicorn", "proxy_service.main:app", "--host", "127.0.0.1"]
        argv += ["--port", str(self.port), "--no-access-log", "--no-proxy-headers", "--timeout-graceful-shutdown", "8"]
        process = Process(argv, self.folder / "proxy.log", self.env)

        def ready() -> bool:
            assert process.ended() is None, process.log.read_text()[-3000:]
            return answers(f"{self.url}/health/readiness")

        eventually(ready, 180)
        return process

    def new_key(self, person: str | None, team: str | None, **more: Any) -> str:
        key = keys.make()
        hashed, record = keys.new_record(key, PEPPER, person=person, team=team, **more)
        self.registry.put(keys.COLLECTION, hashed, record.document())
        return key

    def change_key(self, key: str, **fields: Any) -> None:
        hashed = keys.key_hash(key, PEPPER)
        document = self.registry.get(keys.COLLECTION, hashed)
        assert document is not None
        self.registry.put(keys.COLLECTION, hashed, document.fields | fields, ANY)

    def post(self, path: str, body: Any, key: str | None = None, **headers: str) -> httpx.Response:
        """One request, marked by a session of its own, which `events_of` finds again."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        all_headers = {"authorization": f"Bearer {key or self.key}", "x-session-id": uuid.uuid4().hex} | named
        return self.client.post(path, json=body, headers=all_headers)

    def events_of(self, response: httpx.Response) -> list[UsageEvent]:
        """The events of the request behind this response, when there are any."""
        session = response.request.headers["x-session-id"]
        return [event for event in self.topic.events() if event.session_id == session]

    def event_of(self, response: httpx.Response) -> UsageEvent:
        """The one event of the request behind this response."""
        found = eventually(lambda: self.events_of(response), 15)
        assert len(found) == 1
        return found[0]

    def log(self) -> str:
        return (self.folder / "proxy.log").read_text()

    def stop(self) -> None:
        self.client.close()
        self.process.stop()
        self.topic.stop()


@contextmanager
def run_gateway(folder: Path, **more: str) -> Iterator[RunningGateway]:
    """A gateway and a provider of its own, for a test that stops or breaks it."""
    provider, provider_url = start_provider(folder)
    try:
        running = RunningGateway(folder, provider_url, **more)
        try:
            yield running
        finally:
            running.stop()
    finally:
        provider.stop()


_SHARED = pytest.StashKey[RunningGateway]()


@pytest.fixture(scope="session")
def gateway(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> RunningGateway:
    """The gateway that most tests share; started once in a session, whichever module asks first."""
    if _SHARED not in pytestconfig.stash:
        stack = ExitStack()
        pytestconfig.stash[_SHARED] = stack.enter_context(run_gateway(tmp_path_factory.mktemp("gateway")))
        pytestconfig.add_cleanup(stack.close)
    return pytestconfig.stash[_SHARED]
