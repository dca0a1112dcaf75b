"""What the tests share: which outside parts are there, a free port, a wait for a condition."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import functions_framework
import pytest
from hypothesis import HealthCheck, settings

# A loaded machine draws examples slowly; how fast is no claim of ours.
settings.register_profile("tally", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tally")

Part = Literal["java", "chromium", "npm", "bqemulator", "focus", "tmux"]
ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else LiteLLM fetches its price list when imported
TOOLS = ROOT / ".tally" / "tools"  # what `make check` installs for the tests alone
T = TypeVar("T")


def documents() -> list[Path]:
    """Every page of documentation in this repository."""
    found = sorted(ROOT.rglob("*.md"))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]


def function_app(name: str) -> Any:
    """A function as the framework loads it, in this process: as `main`, and its own modules as parts of that. Those of
    the function that was loaded before go first, or it would take their modules of the same names for its own."""
    for module in [known for known in sys.modules if known.partition(".")[0] == "main"]:
        del sys.modules[module]
    return functions_framework.create_app(name, str(ROOT / f"functions/{name}/main.py"))  # type: ignore[no-untyped-call]


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


_FOUND: dict[Part, tuple[Callable[[], object], str]] = {
    "java": (
        lambda: shutil.which("java") and emulator_jar("pubsub") and emulator_jar("firestore"),
        "no Java, or no gcloud emulators (gcloud components install pubsub-emulator cloud-firestore-emulator)",
    ),
    "chromium": (_chromium, "no chromium on the path"),
    "npm": (
        lambda: (TOOLS / "agents/node_modules/.bin/claude").exists(),
        "no coding agents here (make agents, with npm)",
    ),
    "tmux": (lambda: shutil.which("tmux"), "no tmux on the path"),
    "bqemulator": (
        lambda: (TOOLS / "bqemulator" / "bin" / "bqemulator").exists(),
        "no BigQuery emulator (make emulators)",
    ),
    "focus": (
        lambda: (TOOLS / "focus" / "bin" / "focus-validator").exists(),
        "no FOCUS validator (make focus)",
    ),
}


def needs(part: Part) -> None:
    """Skip the test where the part is absent; fail it where TALLY_REQUIRE names the part, as CI does."""
    found, why = _FOUND[part]
    if found():
        return
    if part in os.environ.get("TALLY_REQUIRE", "").split(","):
        pytest.fail(f"{part} is required here: {why}")
    pytest.skip(why)


def emulator_jar(name: Literal["pubsub", "firestore"]) -> Path | None:
    """The jar of a gcloud emulator, where the Google Cloud SDK is installed."""
    gcloud = shutil.which("gcloud")
    roots = [Path(r) for r in (os.environ.get("CLOUDSDK_ROOT"), "/usr/lib/google-cloud-sdk") if r]
    if gcloud:
        roots.append(Path(gcloud).resolve().parent.parent)
    pattern = {
        "pubsub": "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar",
        "firestore": "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar",
    }[name]
    return next((jar for root in roots for jar in sorted(root.glob(pattern))), None)


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def eventually(condition: Callable[[], T], within_s: float = 10.0, every_s: float = 0.05) -> T:
    """The condition's first truthy value; fails with its last value when there is none in time."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s} s; last value: {value!r}")
        time.sleep(every_s)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser."""
    needs("chromium")
    from playwright.sync_api import sync_playwright

    from tests.browser import FLAGS

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=FLAGS)
        yield browser
        browser.close()
