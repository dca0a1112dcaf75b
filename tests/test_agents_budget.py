"""Real agents over budget: the person reads why on the terminal, and the agent stops. What is shown is kept as text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from governance.gate import Limit
from tests.conftest import TOOLS, eventually, needs
from tests.gateway import RunningGateway, run_gateway
from tests.limits import limit, tell
from tests.test_agents import CODEX_CONFIG

pytestmark = [pytest.mark.agents, pytest.mark.timeout(300)]

TEAM = "research"  # of the gateway's key
WHY = (
    "Team research's monthly budget is used up: 12.40 of 10.00 USD spent in {month}. "
    "It resets on {day} at 00:00 UTC. To go on before, ask for more: `/tally raise <dollars> <reason>` in Slack or "
    "`tally raise <dollars> <reason>`; lea@example.com decides"
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with run_gateway(tmp_path_factory.mktemp("agents-budget")) as started:
        yield started


def environment(agent: str, house: RunningGateway, home: Path) -> dict[str, str]:
    """An empty home, in which the agent knows the gateway and nothing else."""
    given = {"PATH": os.environ["PATH"], "HOME": str(home)}
    if agent == "claude":
        seen = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
        about = {"hasCompletedOnboarding": True, "theme": "dark", "projects": {str(home): seen}}
        (home / ".claude.json").write_text(json.dumps(about))
        login = {"ANTHROPIC_BASE_URL": house.url, "ANTHROPIC_AUTH_TOKEN": house.key}
        return given | login | {"ANTHROPIC_MODEL": "claude-opus-4-8", "DISABLE_AUTOUPDATER": "1"}
    (home / ".codex").mkdir()
    trusted = f'[projects."{home}"]\ntrust_level = "trusted"\n'
    (home / ".codex" / "config.toml").write_text(CODEX_CONFIG.format(url=house.url) + trusted)
    return given | {"TALLY_KEY": house.key}


def run(agent: str, arguments: list[str], house: RunningGateway, home: Path) -> tuple[int, str]:
    """Its exit status, and all that it printed."""
    done = subprocess.run(
        [str(TOOLS / "agents/node_modules/.bin" / agent), *arguments], cwd=home, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        env=environment(agent, house, home),
    )  # fmt: skip
    return done.returncode, done.stdout


class Terminal:
    """A terminal of 150 columns in which an agent runs, and what is on its screen."""

    def __init__(self, agent: str, house: RunningGateway, home: Path) -> None:
        self._name = f"tally-{uuid.uuid4().hex[:8]}"
        variables = environment(agent, house, home) | {"TERM": "xterm-256color"}
        command = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        command.append(str(TOOLS / "agents/node_modules/.bin" / agent))
        self._tmux("new-session", "-d", "-s", "it", "-x", "150", "-y", "50", "-c", str(home), *command)

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._name, *arguments], stdout=subprocess.PIPE, text=True, check=True, timeout=20
        )
        return done.stdout

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p", "-t", "it", "-S", "-200")

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-t", "it", "-l", text)
        eventually(lambda: text in self.screen())
        self._tmux("send-keys", "-t", "it", "Enter")

    def until(self, pattern: str, within_s: float = 30) -> str:
        """The words on the screen, lines joined, as soon as they hold the pattern."""

        def seen() -> str:
            text = " ".join(self.screen().split())
            return text if re.search(pattern, text) else ""

        return eventually(seen, within_s)

    def close(self) -> None:
        self._tmux("kill-server")


def told(house: RunningGateway, one: Limit) -> None:
    """The gateway knows this limit: it knows another that is told with it."""
    other = uuid.uuid4().hex
    tell(house.registry, one, limit("team", other, "99"))
    key, body = house.new_key(None, other), {"model": "text-embedding-3-small", "input": "hello"}
    eventually(lambda: house.post("/v1/embeddings", body, key).status_code == 429)


@pytest.fixture
def over_budget(house: RunningGateway) -> str:
    """The explanation that the person is to read."""
    needs("npm")
    one = limit("team", TEAM, "12.40")
    told(house, one)
    house.topic.messages.clear()
    month = date.fromisoformat(f"{one.period}-01")
    return WHY.format(month=f"{month:%B %Y}", day=f"{one.ends_at:%-d %B %Y}")


def refusals(house: RunningGateway, tool: str) -> int:
    """How many requests of this tool were refused; each of its requests was."""
    events = [event for event in house.topic.events() if event.tool == tool]
    assert {(event.status, event.error_class) for event in events} <= {("refused", "budget_exceeded")}
    return len(events)


def test_claude_code_says_why_and_stops_after_one_request(
    house: RunningGateway, over_budget: str, tmp_path: Path
) -> None:
    status, printed = run("claude", ["-p", "Say hello"], house, tmp_path)
    assert status == 1
    assert printed.strip() == f"API Error: Request rejected (429) · {over_budget}."
    eventually(lambda: refusals(house, "claude-code"))
    assert refusals(house, "claude-code") == 1


def test_codex_says_why_and_stops_after_one_request(house: RunningGateway, over_budget: str, tmp_path: Path) -> None:
    status, printed = run("codex", ["exec", "--skip-git-repo-check", "Say hello"], house, tmp_path)
    assert status == 1
    assert f"ERROR: You\u2019ve hit your usage limit. {over_budget}, or try again at " in printed
    assert "Reconnecting" not in printed
    eventually(lambda: refusals(house, "codex"))
    assert refusals(house, "codex") == 1


def test_claude_code_on_its_own_screen_says_why_and_stops(
    house: RunningGateway, over_budget: str, tmp_path: Path
) -> None:
    needs("tmux")
    terminal = Terminal("claude", house, tmp_path)
    try:
        terminal.until("Claude Code v")
        terminal.type("Say hello")
        shown = terminal.until(re.escape("To go on before"))
        assert over_budget in shown
        eventually(lambda: refusals(house, "claude-code"))
        terminal.until(r"for \d+s")  # the turn is over
        assert refusals(house, "claude-code") == 1
    finally:
        terminal.close()


def test_codex_on_its_own_screen_says_why_and_stops(house: RunningGateway, over_budget: str, tmp_path: Path) -> None:
    needs("tmux")
    terminal = Terminal("codex", house, tmp_path)
    try:
        terminal.until("OpenAI Codex")
        terminal.type("Say hello")
        shown = terminal.until("or try again at")
        assert "You\u2019ve hit your usage limit. Team research's monthly budget is used up: 12.40 of 10.00" in shown
        assert "lea@example.com decides" in shown
        eventually(lambda: refusals(house, "codex"))
        assert refusals(house, "codex") <= 2  # the turn, and the title it wants for the conversation
    finally:
        terminal.close()


def test_codex_on_its_own_screen_warns_from_eighty_percent_on(house: RunningGateway, tmp_path: Path) -> None:
    needs("npm")
    needs("tmux")
    told(house, limit("team", TEAM, "8.20"))
    terminal = Terminal("codex", house, tmp_path)
    try:
        terminal.until("OpenAI Codex")
        terminal.type("Say hello")
        shown = terminal.until("limit left")
        assert "Heads up, you have less than 25% of your monthly limit left" in shown
        assert re.search(r"monthly limit: 1\d% left · resets at", terminal.until("monthly limit:"))
    finally:
        terminal.close()
