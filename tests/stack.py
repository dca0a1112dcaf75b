"""All of Tally, started for the tests as a person starts it: `python -m local demo`, in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from governance.warehouse import Warehouse, open_warehouse
from tests.conftest import ROOT, eventually

START_S = 150.0


@dataclass(frozen=True)
class Stack:
    """A running Tally: what stands in run.json, and the process that holds it together."""

    home: Path
    process: subprocess.Popen[bytes]
    run: dict[str, Any]

    @property
    def warehouse(self) -> Warehouse:
        return open_warehouse(self.run["warehouse_url"])

    def bill(self) -> list[dict[str, Any]]:
        """The simulated provider's own ledger, a row per request."""
        answer = requests.get(self.run["provider_url"] + "/bill", timeout=60)
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()
        return rows

    def request_count(self) -> int:
        return int(self.warehouse.query("SELECT COUNT(*) AS n FROM tally.requests")[0]["n"])


@contextmanager
def running(home: Path, *options: str) -> Iterator[Stack]:
    """Tally, until the block ends. Fails with the end of its output when it does not start."""
    log = home.parent / (home.name + ".out")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TALLY_", "ANTHROPIC", "OPENAI"))}
    environment |= {"TALLY_HOME": str(home), "PYTHONPATH": str(ROOT)}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "local", "demo", *options],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    run_file = home / "run.json"
    deadline = time.monotonic() + START_S
    try:
        while not run_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Tally did not start:\n{log.read_text()[-4000:]}")
            time.sleep(0.1)
        yield Stack(home, process, json.loads(run_file.read_text()))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    eventually(lambda: not run_file.exists())
