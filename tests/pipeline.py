"""The way from the topic to the warehouse, as processes of their own that a test starts, kills and starts again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import grpc

from governance.events import UsageEvent
from tests.conftest import ROOT, emulator_jar, eventually, free_port

TOPIC = "projects/local/topics/usage-events"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SUBSCRIPTION = "projects/local/subscriptions/usage-events-push"


def sample(**fields: Any) -> UsageEvent:
    """An event like the proxy's, with an id of its own."""
    usual: dict[str, Any] = {
        "event_id": uuid.uuid4().hex, "request_id": uuid.uuid4().hex, "occurred_at": datetime.now(UTC),
        "person": "ada@example.com", "team": "Platform", "key_id": "0123456789ab", "tool": "claude-code",
        "tool_version": "2.0.14", "route": "messages", "provider": "anthropic", "model_requested": "claude-sonnet-4-5",
        "model": "claude-sonnet-4-5", "stream": True, "status": "ok", "http_status": 200, "latency_ms": 2100,
        "usage_source": "provider", "input_tokens": 1200, "cache_read_tokens": 90_000, "output_tokens": 812,
    }  # fmt: skip
    return UsageEvent(**{**usual, **fields})


def answers(url: str) -> bool:
    """Whether something answers a GET there with 200."""
    try:
        with _DIRECT.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def post(url: str, body: bytes) -> int:
    """The status of the answer to a push; 0 when there is none."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with _DIRECT.open(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (OSError, ConnectionError):
        return 0


def speaks_grpc(port: int) -> bool:
    """Whether a gRPC server is ready on the port."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=1)
        except grpc.FutureTimeoutError:
            return False
        return True


class Server:
    """One process and how to know that it is ready. It can die and start again on the same port."""

    def __init__(
        self, port: int, ready: Callable[[], bool], command: list[str], log: Path, cwd: Path = ROOT, **environment: str
    ) -> None:
        self.port, self._ready, self._command, self._log, self._cwd = port, ready, command, log, cwd
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address for HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it is ready."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self._cwd, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        process = self.process

        def ready() -> bool:
            assert process.poll() is None, f"ended with {process.returncode}: {self._log.read_text()[-2000:]}"
            return self._ready()

        eventually(ready, within_s=60)
        return self

    def kill(self) -> None:
        """SIGKILL to it and its children: it cannot say goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        process, self.process = self.process, None
        try:
            os.killpg(process.pid, how)
            return process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


def pubsub(folder: Path, *options: str) -> Server:
    """The local Pub/Sub, with its journal in the folder."""
    port = free_port()
    command = [sys.executable, "-m", "local.pubsub", "--port", str(port), "--path", str(folder / "pubsub.db"), *options]
    return Server(port, lambda: speaks_grpc(port), command, folder / "pubsub.log")


def java_pubsub(folder: Path) -> Server:
    """Google's emulator."""
    port, jar = free_port(), str(emulator_jar("pubsub"))
    command = ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar", jar]
    command += ["--host=127.0.0.1", f"--port={port}"]
    return Server(port, lambda: speaks_grpc(port), command, folder / "java.log")


def warehouse_owner(folder: Path) -> Server:
    """The process that owns the DuckDB file in the folder."""
    port = free_port()
    command = [sys.executable, "-m", "local.warehouse", "--port", str(port), "--path", str(folder / "warehouse.duckdb")]
    return Server(port, lambda: answers(f"http://127.0.0.1:{port}/healthz"), command, folder / "warehouse.log")


def ingest(folder: Path, warehouse_url: str, bundle: Path | None = None) -> Server:
    """The ingest function under functions-framework: from this repository, or from a folder with what is deployed."""
    port = free_port()
    source = bundle / "main.py" if bundle else ROOT / "functions/ingest/main.py"
    command = [sys.executable, "-m", "functions_framework", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--source", str(source), "--target", "ingest"]
    environment = {"TALLY_WAREHOUSE": warehouse_url, "PYTHONPATH": "" if bundle else str(ROOT)}
    cwd = folder if bundle else ROOT
    return Server(
        port, lambda: answers(f"http://127.0.0.1:{port}/"), command, folder / "ingest.log", cwd, **environment
    )


def spool(folder: Path, spilled: Path, pubsub_port: int) -> Server:
    """The replay of spilled events. It has no port; it is ready when it runs."""
    command = [sys.executable, "-m", "local.spool", "--path", str(spilled), "--topic", TOPIC, "--every-s", "0.1"]
    host = f"127.0.0.1:{pubsub_port}"
    return Server(0, lambda: True, command, folder / "spool.log", PUBSUB_EMULATOR_HOST=host)


class Receiver(ThreadingHTTPServer):
    """A push endpoint: remembers every envelope and answers what `status` says."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, status: Callable[[dict[str, Any]], int] = lambda _: 204) -> None:
        super().__init__(("127.0.0.1", 0), _Push)
        self.status = status
        self.envelopes: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where to push."""
        return f"http://127.0.0.1:{self.server_port}/push"

    def ids(self) -> set[str]:
        """The event ids received so far."""
        with self.lock:
            return {envelope["message"]["attributes"].get("event_id", "") for envelope in self.envelopes}


class _Push(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        envelope = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.envelopes.append(envelope)
            self.server.headers.append(dict(self.headers))
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        status = self.server.status(envelope)
        with self.server.lock:
            self.server.under_way -= 1
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """No line for each request."""


@contextmanager
def receiving(status: Callable[[dict[str, Any]], int] = lambda _: 204) -> Iterator[Receiver]:
    """A push endpoint for the time of a test."""
    receiver = Receiver(status)
    thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()
