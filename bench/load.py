"""Load for a bench: keep-alive connections that send one prepared request again and again, closed loop or at a rate.

Its own process, so that its work is not on the account of what it measures: `python -m bench.load JSON` prints a line
of JSON. Raw sockets, because a client library costs more than some of the servers here.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import cast

import uvloop


@dataclass(frozen=True)
class Load:
    """Where to send what, for how long: closed loop over so many connections, or at a rate."""

    port: int
    path: str
    headers: dict[str, str]
    body: str
    seconds: float
    connections: int
    rate: float | None = None


@dataclass(frozen=True)
class Measured:
    """Answers per second, and milliseconds to the end of an answer."""

    rps: float
    p50_ms: float
    p99_ms: float
    requests: int
    failed: int


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._done: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, gap, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not gap or self._done is None:
            return
        lower = head.lower()
        if b"content-length: " in lower:
            whole = len(rest) >= int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
        else:
            whole = rest.endswith(b"0\r\n\r\n")
        if whole:
            done, self._done = self._done, None
            self._buffer.clear()
            done.set_result(b" 200 " in head[:16])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None:
            self._done.set_result(False)

    async def ask(self, request: bytes) -> bool:
        """Send and wait for the whole answer; whether it was a 200."""
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._done

    def close(self) -> None:
        self._transport.close()


async def measure(load: Load) -> Measured:
    """Run the load."""
    lines = [f"POST {load.path} HTTP/1.1", "host: bench", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in load.headers.items()] + [f"content-length: {len(load.body)}"]
    request = ("\r\n".join(lines) + "\r\n\r\n" + load.body).encode()
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(Connection, "127.0.0.1", load.port) for _ in range(load.connections)]
    connections = [protocol for _, protocol in made]
    took: list[float] = []
    failed = 0
    started = time.perf_counter()
    until = started + load.seconds
    due = iter(range(10**9))

    async def one(connection: Connection) -> None:
        nonlocal failed
        while (now := time.perf_counter()) < until:
            if load.rate is not None:
                at = started + next(due) / load.rate
                if at >= until:
                    return
                await asyncio.sleep(max(0.0, at - now))
                now = at  # from when it was due: a server that is late is not excused
            failed += not await connection.ask(request)
            took.append(time.perf_counter() - now)

    await asyncio.gather(*map(one, connections))
    elapsed = time.perf_counter() - started
    for connection in connections:
        connection.close()
    took.sort()

    def milliseconds(share: float) -> float:
        return 1000 * took[min(len(took) - 1, int(len(took) * share))]

    return Measured(len(took) / elapsed, milliseconds(0.5), milliseconds(0.99), len(took), failed)


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(measure(Load(**json.loads(sys.argv[1])))))))
