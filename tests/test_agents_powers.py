"""Real agents and what a key may: a refusal is read on the terminal, a wait is waited for."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from governance.events import UsageEvent
from tests.conftest import TOOLS, eventually, needs
from tests.gateway import RunningGateway, gateway
from tests.test_agents import CODEX_CONFIG

__all__ = ["gateway"]

pytestmark = [pytest.mark.agents, pytest.mark.timeout(400)]

AGENTS = {"claude": "claude-opus-4-8", "codex": "gpt-5.4"}


def say_hello(agent: str, gateway: RunningGateway, key: str, home: Path) -> tuple[int, str]:
    """The agent's exit code and everything it printed. It runs in a home of its own."""
    home.mkdir(exist_ok=True)
    (home / ".codex").mkdir(exist_ok=True)
    (home / ".codex" / "config.toml").write_text(CODEX_CONFIG.format(url=gateway.url))
    binary = TOOLS / "agents" / "node_modules" / ".bin" / agent
    arguments = ["-p", "Say hello"] if agent == "claude" else ["exec", "--skip-git-repo-check", "Say hello"]
    done = subprocess.run(
        [str(binary), *arguments],
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ANTHROPIC_BASE_URL": gateway.url,
            "ANTHROPIC_AUTH_TOKEN": key,
            "ANTHROPIC_MODEL": AGENTS["claude"],
            "TALLY_KEY": key,
        },
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def events_of(gateway: RunningGateway, person: str) -> list[UsageEvent]:
    return sorted((e for e in gateway.topic.events() if e.person == person), key=lambda e: e.occurred_at)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_model_that_the_key_may_not_use_is_explained_on_the_terminal(
    gateway: RunningGateway, tmp_path: Path, agent: str
) -> None:
    needs("npm")
    person = f"models-{agent}@example.com"
    key = gateway.new_key(person, "research", models=["claude-haiku-*", "o3"])
    code, printed = say_hello(agent, gateway, key, tmp_path)
    assert code != 0
    assert f"403 {'Forbidden: ' if agent == 'codex' else ''}This key may not use '{AGENTS[agent]}'." in printed
    assert "It may use: claude-haiku-*, o3. Choose one of these, or ask whoever runs Tally here for more." in printed
    refused = eventually(lambda: events_of(gateway, person))
    assert {event.error_class for event in refused} == {"model_not_allowed"}
    assert len(refused) <= (6 if agent == "codex" else 1)  # Codex reconnects five times, whatever it is told


def test_an_agent_that_is_too_fast_waits_as_long_as_it_is_told_and_goes_on(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    needs("npm")

    def twice(agent: str) -> None:
        person = f"pace-{agent}@example.com"
        key = gateway.new_key(person, "research", requests_per_minute=1)
        for _ in range(2):
            code, printed = say_hello(agent, gateway, key, tmp_path / agent)
            assert code == 0, printed
        eventually(lambda: len(events_of(gateway, person)) == 3)
        events = events_of(gateway, person)
        assert [event.error_class for event in events] == [None, "requests_per_minute", None]
        assert (events[2].occurred_at - events[0].occurred_at).total_seconds() >= 60

    with ThreadPoolExecutor() as pool:
        list(pool.map(twice, AGENTS))
