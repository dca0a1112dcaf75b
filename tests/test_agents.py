"""Real agents against the whole of Tally: the answer arrives, and within five seconds the request is a row."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.browser import drawn, opened, picture
from tests.conftest import TOOLS, eventually, needs
from tests.stack import Stack, running

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

SEEN_WITHIN_S = 5.0
PINNED = json.loads((Path(__file__).parent / "agents" / "package.json").read_text())["dependencies"]
KINDS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning")
CODEX_CONFIG = """
model = "gpt-5.4"
model_provider = "tally"
[model_providers.tally]
name = "Tally"
base_url = "{url}/v1"
env_key = "TALLY_KEY"
wire_api = "responses"
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("agents") / "tally", "--no-history", "--no-traffic") as started:
        yield started


def run_agent(name: str, *arguments: str, home: Path, **environment: str) -> str:
    """What the agent printed. It runs in an empty home, with nothing of this process's environment but the path."""
    binary = TOOLS / "agents" / "node_modules" / ".bin" / name
    done = subprocess.run(
        [str(binary), *arguments],
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environment},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def row_of(stack: Stack, tool: str, route: str, since: datetime) -> dict[str, Any]:
    """The first request of this tool on this route since then; it must be there within five seconds of now."""
    rows = eventually(
        lambda: stack.warehouse.query(
            "SELECT * FROM tally.requests WHERE tool = @tool AND route = @route AND occurred_at >= @since "
            "ORDER BY occurred_at",
            {"tool": tool, "route": route, "since": since},
        ),
        within_s=SEEN_WITHIN_S,
    )
    return rows[0]


def check(stack: Stack, row: dict[str, Any], model: str) -> None:
    """The row names the right person, and says of tokens and dollars what the provider's bill says."""
    people = stack.warehouse.query("SELECT team FROM tally.people WHERE person = @p", {"p": stack.run["person"]})
    assert (row["person"], row["team"]) == (stack.run["person"], people[0]["team"])
    assert (row["model"], row["status"], row["usage_source"], row["price_source"]) == (model, "ok", "provider", "book")
    bill = next(line for line in stack.bill() if line["request_id"] == row["provider_request_id"])
    assert {k: row[f"{k}_tokens"] for k in KINDS} == {k: bill[f"{k}_tokens"] for k in KINDS}
    assert row["cost_usd"] == Decimal(bill["cost_usd"]) > 0


@pytest.mark.agents
def test_claude_code_gets_an_answer_and_its_request_is_a_row(stack: Stack, tmp_path: Path) -> None:
    needs("npm")
    since = datetime.now(UTC)
    said = run_agent(
        "claude",
        "-p",
        "Say hello",
        home=tmp_path,
        ANTHROPIC_BASE_URL=stack.run["proxy_url"],
        ANTHROPIC_AUTH_TOKEN=stack.run["key"],
        ANTHROPIC_MODEL="claude-opus-4-8",
    )
    assert "simulated provider" in said
    row = row_of(stack, "claude-code", "messages", since)
    assert row["tool_version"] == PINNED["@anthropic-ai/claude-code"]
    assert re.fullmatch(r"[0-9a-f-]{36}", row["session_id"])
    assert row["stream"] is True
    check(stack, row, "claude-opus-4-8")


@pytest.mark.agents
def test_codex_gets_an_answer_and_its_request_is_a_row(stack: Stack, tmp_path: Path) -> None:
    needs("npm")
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "config.toml").write_text(CODEX_CONFIG.format(url=stack.run["proxy_url"]))
    since = datetime.now(UTC)
    said = run_agent("codex", "exec", "--skip-git-repo-check", "Say hello", home=tmp_path, TALLY_KEY=stack.run["key"])
    assert "simulated provider" in said
    row = row_of(stack, "codex", "responses", since)
    assert row["tool_version"] == PINNED["@openai/codex"]
    assert re.fullmatch(r"[0-9a-f-]{36}", row["session_id"])
    check(stack, row, "gpt-5.4")


# Cells of the matrix (tests/matrix.py) that the agents can produce: they stream, and ask on standard terms. The SDKs
# drive all of it in tests/test_bill.py.
CELLS = {
    "no cache": "input=2100 cache_read=0 output=40",
    "read": "input=210 cache_read=14321 output=40",
    "written for 5 m": "input=210 cache_write_5m=777 output=40",
    "written for 1 h": "input=210 cache_write_1h=333 output=40",
    "mixed": "input=210 cache_read=9001 cache_write_5m=210 cache_write_1h=97 output=40",
    "reasoning": "input=210 cache_read=9001 output=90 reasoning=40",
    "tool loop": "input=210 cache_read=9001 output=40 tool=1",
    "retry then ok": "input=210 cache_read=9001 output=41 errors=1",
}
ONLY_ANTHROPIC = {"written for 1 h", "mixed"}


def check_each(stack: Stack, tool: str, since: datetime, answers: int) -> list[dict[str, Any]]:
    """Every request of this tool since then says what the bill says; so many of them at least were answered."""

    def answered() -> list[dict[str, Any]]:
        rows = stack.warehouse.query(
            "SELECT * FROM tally.requests WHERE tool = @tool AND occurred_at >= @since ORDER BY occurred_at",
            {"tool": tool, "since": since},
        )
        return rows if sum(row["status"] == "ok" for row in rows) >= answers else []

    rows = eventually(answered, within_s=SEEN_WITHIN_S)
    bill = {line["request_id"]: line for line in stack.bill()}
    for row in rows:
        if row["status"] == "ok":
            line = bill[row["provider_request_id"]]
            assert {k: row[f"{k}_tokens"] for k in KINDS} == {k: line[f"{k}_tokens"] for k in KINDS}
            assert row["usage_source"] == "provider"
            assert row["cost_usd"] == Decimal(line["cost_usd"])
        else:
            assert (row["status"], row["cost_usd"]) == ("error", 0)
    return rows


@pytest.mark.agents
@pytest.mark.parametrize("cell", CELLS)
def test_what_claude_code_does_costs_what_the_bill_says(stack: Stack, tmp_path: Path, cell: str) -> None:
    needs("npm")
    since = datetime.now(UTC)
    fails = " error=529" if "errors" in CELLS[cell] else ""
    prompt = f"Say hello [[sim {CELLS[cell].replace('tool=1', 'tool=Glob')}{fails}]]"
    run_agent(
        "claude",
        "-p",
        prompt,
        home=tmp_path,
        ANTHROPIC_BASE_URL=stack.run["proxy_url"],
        ANTHROPIC_AUTH_TOKEN=stack.run["key"],
        ANTHROPIC_MODEL="claude-opus-4-8",
    )
    rows = check_each(stack, "claude-code", since, answers=2 if cell == "tool loop" else 1)
    assert (cell == "retry then ok") == any(row["status"] == "error" for row in rows)


@pytest.mark.agents
@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell not in ONLY_ANTHROPIC])
def test_what_codex_does_costs_what_the_bill_says(stack: Stack, tmp_path: Path, cell: str) -> None:
    needs("npm")
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "config.toml").write_text(CODEX_CONFIG.format(url=stack.run["proxy_url"]))
    since = datetime.now(UTC)
    prompt = f"Say hello [[sim {CELLS[cell]}]]"
    run_agent("codex", "exec", "--skip-git-repo-check", prompt, home=tmp_path, TALLY_KEY=stack.run["key"])
    rows = check_each(stack, "codex", since, answers=2 if cell == "tool loop" else 1)
    assert (cell == "retry then ok") == any(row["status"] == "error" for row in rows)


@pytest.mark.agents
@pytest.mark.browser
def test_what_an_agent_did_is_on_my_usage_within_five_seconds(stack: Stack, tmp_path: Path, chromium: Any) -> None:
    needs("npm")
    environment = {
        "ANTHROPIC_BASE_URL": stack.run["proxy_url"],
        "ANTHROPIC_AUTH_TOKEN": stack.run["key"],
        "ANTHROPIC_MODEL": "claude-opus-5-5",
    }
    run_agent("claude", "-p", "Say hello", home=tmp_path, **environment)  # so that the page has something to draw
    with opened(chromium, stack.run["dashboard_url"] + "/my_usage") as page:
        drawn(page, charts=1, tables=2)
        since = datetime.now(UTC)
        run_agent("claude", "-p", "Say hello once more", home=tmp_path, **environment)
        session = row_of(stack, "claude-code", "messages", since)["session_id"]
        seen = "session => [...document.querySelectorAll('canvas')].some(it => it.textContent.includes(session))"
        page.wait_for_function(seen, arg=session[:8], timeout=1000 * SEEN_WITHIN_S)
        picture(page, "my-usage-after-claude-code")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_the_openai_sdk_on_chat_completions(stack: Stack, stream: bool) -> None:
    since = datetime.now(UTC)
    with closing(
        openai.OpenAI(base_url=stack.run["proxy_url"] + "/v1", api_key=stack.run["key"], max_retries=0)
    ) as client:
        answer = client.chat.completions.create(
            model="gpt-5.4", messages=[{"role": "user", "content": "Say hello"}], stream=stream
        )
        if isinstance(answer, openai.Stream):
            text = "".join(choice.delta.content or "" for chunk in answer for choice in chunk.choices)
        else:
            text = answer.choices[0].message.content or ""
        assert text.startswith("This")
    row = row_of(stack, "openai-sdk", "chat_completions", since)
    assert row["tool_version"] == openai.__version__
    check(stack, row, "gpt-5.4")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_the_openai_sdk_on_responses(stack: Stack, stream: bool) -> None:
    since = datetime.now(UTC)
    with closing(
        openai.OpenAI(base_url=stack.run["proxy_url"] + "/v1", api_key=stack.run["key"], max_retries=0)
    ) as client:
        answer = client.responses.create(model="gpt-6.1-sol", input="Say hello", stream=stream)
        if isinstance(answer, openai.Stream):
            assert [event.type for event in answer][-1] == "response.completed"
        else:
            assert answer.output_text.startswith("This")
    check(stack, row_of(stack, "openai-sdk", "responses", since), "gpt-6.1-sol")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_the_anthropic_sdk_on_messages(stack: Stack, stream: bool) -> None:
    since = datetime.now(UTC)
    with closing(
        anthropic.Anthropic(base_url=stack.run["proxy_url"], api_key=stack.run["key"], max_retries=0)
    ) as client:
        said: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Say hello"}]
        if stream:
            with client.messages.stream(model="claude-sonnet-5-5", max_tokens=99, messages=said) as events:
                text = "".join(events.text_stream)
        else:
            block = client.messages.create(model="claude-sonnet-5-5", max_tokens=99, messages=said).content[0]
            assert isinstance(block, anthropic.types.TextBlock)
            text = block.text
        assert text.startswith("This")
    row = row_of(stack, "anthropic-sdk", "messages", since)
    assert row["tool_version"] == anthropic.__version__
    check(stack, row, "claude-sonnet-5-5")
