"""Services: the processes of one Tally on this machine, started in order, watched, and stopped without leaving one.

A service starts when those it comes after answer. When one ends, all end, and its last words are shown. Everything
that a service prints goes to `logs/<name>.log`; with `echo` also to the screen, merged and in colours.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

START_S: Final = 90.0  # a first start compiles every library's bytecode
STOP_S: Final = 8.0
LAST_LINES: Final = 15
LOG_BYTES: Final = 20_000_000  # a log longer than this begins anew at the next start
_COLOURS: Final = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94, 91)


class ServiceFailed(Exception):
    """A service did not start, or ended. The message names it and tells its last lines."""


@dataclass(frozen=True)
class Service:
    """One process. `ready` is a URL that answers below 500 once it serves, or host:port that accepts a connection."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: str | None = None
    after: tuple[str, ...] = ()


def free_ports(count: int) -> list[int]:
    """So many different ports that are free on loopback now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def port_near(wanted: int, span: int = 50) -> int:
    """`wanted`, or the next port above it that is free; any free one where the whole span is taken."""
    for port in range(wanted, wanted + span):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if _claim(port):
            return port
    return free_ports(1)[0]


def _claim(port: int) -> bool:
    """Whether this port is ours until this process ends: two Tallies that start together choose different ones."""
    path = Path(tempfile.gettempdir()) / f"tally-{os.getuid()}-port-{port}.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    return True  # held open on purpose: the claim ends with the process


def last_lines(path: Path, count: int = LAST_LINES) -> str:
    """The end of a log."""
    if not path.exists():
        return ""
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 16_000))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-count:])


def _die_with_parent() -> None:
    """In the child: be told to end when the launcher is gone, even when it was killed (Linux knows how)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Services:
    """A set of services, as an asynchronous context: whoever leaves it leaves no process behind."""

    def __init__(self, services: Sequence[Service], cwd: Path, logs: Path, env: Mapping[str, str], echo: bool) -> None:
        self._services, self._cwd, self._logs, self._env, self._echo = list(services), cwd, logs, dict(env), echo
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._ready = {service.name: asyncio.Event() for service in services}
        self._pumps: list[asyncio.Task[None]] = []
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Services:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        if self._http is not None:
            await self._http.close()

    async def start(self, told: Callable[[str, float], None]) -> None:
        """Start all. `told` hears the name and the seconds as each gets ready. Raises ServiceFailed."""
        begun = time.monotonic()

        async def one(service: Service) -> None:
            for name in service.after:
                await self._ready[name].wait()
            await self._spawn(service)
            await self._until_ready(service)
            self._ready[service.name].set()
            told(service.name, time.monotonic() - begun)

        with first_failure():
            async with asyncio.TaskGroup() as group:
                for service in self._services:
                    group.create_task(one(service))

    async def ready(self, *names: str) -> None:
        """Wait until these are ready."""
        for name in names:
            await self._ready[name].wait()

    async def until_one_ends(self) -> None:
        """Wait for the first service to end. Raises ServiceFailed."""
        waits = {asyncio.create_task(process.wait(), name=name) for name, process in self._running.items()}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        ended = next(iter(done))
        raise self.failure(ended.get_name(), f"ended with {ended.result()}")

    async def stop(self) -> None:
        """Stop all, the last first, so that what one has left to say finds the next one still there."""
        for name in reversed([service.name for service in self._services]):
            if process := self._running.get(name):
                await _stop(process)
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._running.clear()

    async def _spawn(self, service: Service) -> None:
        log = self._logs / f"{service.name}.log"
        fresh = not log.exists() or log.stat().st_size > LOG_BYTES
        process = await asyncio.create_subprocess_exec(
            *service.argv,
            cwd=self._cwd,
            env=self._env | dict(service.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        self._running[service.name] = process
        colour = _COLOURS[len(self._running) % len(_COLOURS)] if self._echo else None
        self._pumps.append(asyncio.create_task(_pump(process, log, "wb" if fresh else "ab", service.name, colour)))

    async def _until_ready(self, service: Service) -> None:
        process, deadline = self._running[service.name], time.monotonic() + START_S
        while service.ready is not None and not await self._answers(service.ready):
            if process.returncode is not None:
                raise self.failure(service.name, f"ended with {process.returncode} while starting")
            if time.monotonic() > deadline:
                raise self.failure(service.name, f"did not answer within {START_S:.0f} s")
            await asyncio.sleep(0.05)

    async def _answers(self, where: str) -> bool:
        try:
            if "://" not in where:
                host, _, port = where.rpartition(":")
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                return True
            if self._http is None:
                raise RuntimeError("enter the context first")
            async with self._http.get(where, allow_redirects=False) as answer:
                return answer.status < 500
        except (OSError, TimeoutError, aiohttp.ClientError):
            return False

    def failure(self, name: str, what: str) -> ServiceFailed:
        """What to raise when this service is at fault: its name, what it did, and its last words."""
        log = self._logs / f"{name}.log"
        return ServiceFailed(f"{name} {what}. The end of {log}:\n{last_lines(log)}")


@contextlib.contextmanager
def first_failure() -> Iterator[None]:
    """Of what several tasks raise at once, raise one thing: a service's failure before what followed from it."""
    try:
        yield
    except BaseExceptionGroup as group:
        failed = group.subgroup(ServiceFailed) or group
        raise failed.exceptions[0] from None


async def _pump(process: asyncio.subprocess.Process, log: Path, mode: str, name: str, colour: int | None) -> None:
    if process.stdout is None:
        raise RuntimeError("a service's output is always a pipe")
    with log.open(mode, buffering=0) as out:
        while chunk := await process.stdout.read(65_536):
            out.write(chunk)
            if colour is not None:
                for line in chunk.decode(errors="replace").splitlines():
                    print(f"\x1b[{colour}m{name:>9} |\x1b[0m {line}", flush=True)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """SIGTERM to the process and its children; SIGKILL to what is left of them."""
    for word, patience_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, 2.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, word)
        deadline = time.monotonic() + patience_s
        while process.returncode is None or _group_lives(process.pid):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        else:
            return


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so of a group whose last member is just ending
        return False
    return True
