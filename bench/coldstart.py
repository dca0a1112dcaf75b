"""How long from the start of the keys function's process to its first answer, on one core?

    python -m bench.coldstart [--starts 7]

The function runs as it is deployed, under functions-framework, held to one core; the stand-ins for Slack, Google and
Firestore (Google's emulator, where there is Java) run on the others. What is sent first is the costliest: `issue`, by
Slack's command or as JSON. Goal: 1.5 s. Where the core is shared with others the wall clock says so; "CPU s" is what
the process and its children have used by then, and what a core of its own would take.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import requests

from bench.ingest import FRAMEWORK, cpu_s
from tests.conftest import ROOT, emulator_jar, free_port
from tests.fake_google import FakeGoogle
from tests.fake_slack import FakeSlack, environment, form, signed
from tests.firestore import firestore_emulator

GOAL_S = 1.5


def first_answer(core: int, settings: dict[str, str], google: FakeGoogle, slack: bool) -> tuple[float, float]:
    """(seconds, CPU seconds) from the start of a process to its first key."""
    port = free_port()
    body, headers = form("issue"), {"Authorization": f"Bearer {google.token()}"}
    url = f"http://127.0.0.1:{port}"
    began = time.perf_counter()
    function = subprocess.Popen(
        [*FRAMEWORK, "--source", "functions/keys/main.py", "--target", "keys", "--port", str(port)],
        cwd=ROOT,
        env=os.environ | settings | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    try:
        while True:
            try:
                if slack:
                    answer = requests.post(url, data=body, headers=signed(body), timeout=30)
                else:
                    answer = requests.post(f"{url}/v1/issue", json={}, headers=headers, timeout=30)
                break
            except requests.ConnectionError:
                time.sleep(0.002)
        took_s, used_s = time.perf_counter() - began, cpu_s(psutil.Process(function.pid))
    finally:
        function.terminate()
        function.wait(20)
    assert "sk-tally-" in answer.text, answer.text
    return took_s, used_s


@contextmanager
def registries(folder: Path) -> Iterator[dict[str, dict[str, str]]]:
    """What to call a registry: its settings."""
    sqlite = {"SQLite": {"TALLY_REGISTRY": f"sqlite://{folder}/registry.db"}}
    if emulator_jar("firestore") is None:
        yield sqlite
        return
    with firestore_emulator() as host:
        yield {"Firestore": {"TALLY_REGISTRY": "firestore://demo-cold", "FIRESTORE_EMULATOR_HOST": host}} | sqlite


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="bench.coldstart", description=__doc__)
    parser.add_argument("--starts", type=int, default=7)
    given = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {core} or {core})
    slack, google = FakeSlack(), FakeGoogle()
    print("| first request | registry | median s | slowest s | goal | CPU s |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        company = "keys: {per_person: 50}\n"
        with registries(folder) as known:
            for registry, where in known.items():
                for door in ("Slack", "JSON"):
                    settings = environment(folder, slack, company) | google.settings() | where
                    first_answer(core, settings, google, door == "Slack")  # what Python compiles once, a build does
                    runs = [first_answer(core, settings, google, door == "Slack") for _ in range(given.starts)]
                    walls, cpus = zip(*runs, strict=True)
                    median = statistics.median(walls)
                    met = "met" if median <= GOAL_S else "not met"
                    print(
                        f"| {door} | {registry} | {median:.2f} | {max(walls):.2f} | {GOAL_S} ({met}) "
                        f"| {statistics.median(cpus):.2f} |"
                    )
                    sys.stdout.flush()
    slack.close()
    google.close()


if __name__ == "__main__":
    main()
