"""The topic stops for a minute under 50 requests a second: does a request fail or slow, and does every event arrive?

python -m bench.outage [seconds]
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import aiohttp
import psutil

from tests.conftest import eventually
from tests.stack import Stack, running

REQUESTS_PER_S = 50
ANSWER_MS = 200  # a model that answers at once would hide a slow-down in its noise, and is none


@dataclass(frozen=True)
class Phase:
    """Some seconds of load."""

    latencies_ms: list[float]
    failures: int
    threads: int
    rss_mib: int

    @property
    def p50_ms(self) -> float:
        return median(self.latencies_ms)

    @property
    def p95_ms(self) -> float:
        return quantiles(self.latencies_ms, n=20)[-1]

    @property
    def p99_ms(self) -> float:
        return quantiles(self.latencies_ms, n=100)[-1]


def process_of(stack: Stack, module: str) -> psutil.Process:
    """The process of the stack that runs this module."""
    for child in psutil.Process(stack.process.pid).children(recursive=True):
        if any(module in word for word in child.cmdline()):
            return child
    raise LookupError(module)


async def _load(run: dict[str, Any], seconds: float) -> tuple[list[float], int]:
    latencies: list[float] = []
    failures = 0
    body = {"model": "gpt-5.4", "messages": [{"role": "user", "content": f"[[sim delay_ms={ANSWER_MS} output=20]]"}]}
    headers = {"authorization": f"Bearer {run['key']}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one() -> None:
            nonlocal failures
            began = time.perf_counter()
            try:
                async with session.post(run["proxy_url"] + "/v1/chat/completions", json=body) as answer:
                    await answer.read()
                    failures += answer.status != 200
            except aiohttp.ClientError:
                failures += 1
            latencies.append(1000 * (time.perf_counter() - began))

        began, tasks = time.perf_counter(), []
        for number in range(int(seconds * REQUESTS_PER_S)):
            await asyncio.sleep(max(0.0, began + number / REQUESTS_PER_S - time.perf_counter()))
            tasks.append(asyncio.create_task(one()))
        await asyncio.gather(*tasks)
    return latencies, failures


def load(stack: Stack, seconds: float) -> Phase:
    """Fifty requests a second, evenly, whatever the answers take."""
    proxy = process_of(stack, "proxy_service.main:app")
    latencies, failures = asyncio.run(_load(stack.run, seconds))
    return Phase(latencies, failures, proxy.num_threads(), proxy.memory_info().rss >> 20)


def outage(stack: Stack, before_s: float, outage_s: float) -> tuple[Phase, Phase, int]:
    """(before, during, requests sent). The server is stopped as a black hole stops: it accepts, and never answers."""
    load(stack, 5)  # warm
    before = load(stack, before_s)
    topic = process_of(stack, "local.pubsub")
    topic.send_signal(signal.SIGSTOP)
    try:
        during = load(stack, outage_s)
    finally:
        topic.send_signal(signal.SIGCONT)
    return before, during, int((5 + before_s + outage_s) * REQUESTS_PER_S)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder) / "tally", "--no-history", "--no-traffic") as stack,
    ):
        before, during, sent = outage(stack, seconds, seconds)
        began = time.monotonic()
        eventually(lambda: stack.request_count() >= sent, within_s=180)
        print("| | topic up | topic stopped | ratio |\n|---|---|---|---|")
        for name in ("p50_ms", "p95_ms", "p99_ms"):
            up, down = getattr(before, name), getattr(during, name)
            print(f"| {name.replace('_', ' ')} | {up:.0f} | {down:.0f} | {down / up:.3f} |")
        print(f"| failed requests | {before.failures} | {during.failures} | |")
        print(f"| threads of the proxy | {before.threads} | {during.threads} | |")
        print(f"| memory of the proxy, MiB | {before.rss_mib} | {during.rss_mib} | |")
        print(f"\nAll {sent} events were rows {time.monotonic() - began:.0f} s after the topic came back.\n")


if __name__ == "__main__":
    main()
