"""What the gateway costs beside bare LiteLLM: same run, same simulator, turns about; and the simulator alone.

    python -m bench.proxy [--seconds 5] [--rounds 3]

Goals: requests per second at least 0.95 of bare LiteLLM's, at most 1 ms more at half load, a cached key in 5 µs.
Bare LiteLLM is `uvicorn litellm.proxy.proxy_server:app` with the same models and a master key: no hook, no event. CPU
per request is the figure that other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import yaml

from bench.load import Load, Measured
from governance import keys
from governance.registry import open_registry
from proxy_service import auth
from tests.conftest import ROOT, eventually, free_port
from tests.gateway import PROVIDER_KEYS, Process, RunningGateway, answers, plain_environment, start_provider

MASTER = "sk-a-master-key-for-the-bench"
CONNECTIONS = 16
CASES = {
    "chat": ("/v1/chat/completions", {"model": "gpt-5.4", "messages": [{"role": "user", "content": "Say hello"}]}),
    "messages": (
        "/v1/messages",
        {"model": "claude-sonnet-5-5", "max_tokens": 99, "messages": [{"role": "user", "content": "Say hello"}]},
    ),
    "responses, stream": ("/v1/responses", {"model": "gpt-5.4", "input": "Say hello", "stream": True}),
}


@dataclass
class Target:
    """A server under load, and what was measured of it."""

    name: str
    port: int
    pid: int
    key: str
    measured: list[Measured] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def run(self, case: str, seconds: float, rate: float | None = None) -> Measured:
        path, body = CASES[case]
        load = Load(
            self.port, path, {"authorization": f"Bearer {self.key}"}, json.dumps(body), seconds, CONNECTIONS, rate
        )
        before = sum(psutil.Process(self.pid).cpu_times()[:2])
        done = subprocess.run(
            [sys.executable, "-m", "bench.load", json.dumps(asdict(load))],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        result = Measured(**json.loads(done.stdout))
        assert not result.failed, f"{self.name}: {result.failed} of {result.requests} failed"
        self.cpu_ms.append(1000 * (sum(psutil.Process(self.pid).cpu_times()[:2]) - before) / result.requests)
        self.measured.append(result)
        return result

    def middle(self, figure: str) -> float:
        """The median over the rounds."""
        if figure == "cpu_ms":
            return statistics.median(self.cpu_ms)
        return float(statistics.median(getattr(m, figure) for m in self.measured))

    def forget(self) -> None:
        self.measured.clear()
        self.cpu_ms.clear()


def start_bare(folder: Path, environment: dict[str, str]) -> tuple[Process, int]:
    """LiteLLM by itself, with the gateway's models."""
    models = yaml.safe_load((ROOT / "proxy_service/config.yaml").read_text())["model_list"]
    config = folder / "bare.yaml"
    settings = {"model_list": models, "general_settings": {"master_key": MASTER}, "router_settings": {"num_retries": 0}}
    config.write_text(yaml.safe_dump(settings))
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "litellm.proxy.proxy_server:app", "--host", "127.0.0.1"]
    switches = {
        "CONFIG_FILE_PATH": str(config), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR", "NO_DOCS": "True", "DISABLE_ADMIN_UI": "True",
    }  # fmt: skip
    provider = {n: v for n, v in environment.items() if n.endswith(("_API_BASE", "_API_KEY"))}
    env = plain_environment() | provider | switches
    process = Process([*argv, "--port", str(port), "--no-access-log"], folder / "bare.log", env)
    eventually(lambda: answers(f"http://127.0.0.1:{port}/health/liveliness"), 90)
    return process, port


def key_check_us() -> float:
    """Microseconds to find the holder of a key that is in the cache, spelling and HMAC included."""
    registry = open_registry(f"sqlite://{tempfile.mkdtemp()}/registry.db")
    check = auth.KeyCheck(registry, "pepper", ttl_s=300, stale_s=300)
    key = keys.make()
    hashed, record = keys.new_record(key, "pepper", person="a@example.com", team="t")
    registry.put(keys.COLLECTION, hashed, record.document())
    assert asyncio.run(check.holder(key))
    headers, rounds, best = {"authorization": f"Bearer {key}"}, 20_000, float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(rounds):
            holder = check.cached(auth.presented(headers) or "")
            assert holder is not None
            auth.refusal(holder)
        best = min(best, (time.perf_counter() - started) / rounds * 1e6)
    return best


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.proxy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    provider, provider_url = start_provider(folder)
    running = RunningGateway(folder, provider_url, TALLY_KEY_CACHE_TTL_S="3")
    bare, bare_port = start_bare(folder, running.env | PROVIDER_KEYS)
    simulator = Target("simulator alone", int(provider_url.rpartition(":")[2]), provider.pid, "none")
    litellm = Target("bare LiteLLM", bare_port, bare.pid, MASTER)
    tally = Target("gateway", running.port, running.process.pid, running.key)
    targets = [simulator, litellm, tally]
    try:
        print(f"Load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; medians of {given.rounds} rounds.\n")
        print("| case | server | requests/s | p50 ms | p99 ms | CPU ms/request |\n|---|---|---|---|---|---|")
        for case in CASES:
            for target in targets:
                target.run(case, 2.0)  # warm
                target.forget()
            for round_ in range(given.rounds):
                for target in targets if round_ % 2 == 0 else targets[::-1]:
                    target.run(case, given.seconds)
            for target in targets:
                row = "{:.0f} | {:.2f} | {:.2f} | {:.2f}".format(
                    *(target.middle(f) for f in ("rps", "p50_ms", "p99_ms", "cpu_ms"))
                )
                print(f"| {case} | {target.name} | {row} |")
            ratio = tally.middle("rps") / litellm.middle("rps")
            work = tally.middle("cpu_ms") / litellm.middle("cpu_ms")
            print(f"| {case} | **gateway ÷ bare** | **{ratio:.2f}** (goal ≥ 0.95) | | | {work:.2f} |", flush=True)
            half = litellm.middle("rps") / 2
            for target in targets:
                target.forget()
            for _ in range(given.rounds):
                for target in (litellm, tally):
                    target.run(case, given.seconds, rate=half)
            added = tally.middle("p50_ms") - litellm.middle("p50_ms")
            print(
                f"| {case}, half load ({half:.0f}/s) | gateway less bare | | **{added:+.2f}** (goal ≤ 1)"
                f" | {tally.middle('p99_ms') - litellm.middle('p99_ms'):+.2f} | |",
                flush=True,
            )
            for target in targets:
                target.forget()
        print(f"\nA key in the cache: {key_check_us():.1f} µs (goal ≤ 5)")
        eventually(lambda: len(running.topic.messages) > 0)
    finally:
        bare.stop()
        running.stop()
        provider.stop()


if __name__ == "__main__":
    main()
