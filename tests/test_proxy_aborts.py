"""Callers who leave: on each route, before the first byte and in the middle of text, of a tool call, of reasoning.

Each is one event, aborted, with the input known and the output counted, and the provider is not left writing.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from governance.events import UsageEvent
from tests.conftest import eventually
from tests.gateway import RunningGateway, gateway
from tests.test_proxy import bill

__all__ = ["gateway"]

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
OUTPUT = 400  # tokens that the answer would have had
SAID = "Describe the house, its garden, the street and who lives there. " * 30
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}, "content": {"type": "string"}}}


@dataclass(frozen=True)
class Cell:
    """Where a caller leaves: the route, the model, what the answer is in the middle of, and the bytes that tell so."""

    route: str
    moment: str
    model: str
    mark: bytes
    hidden: bool = False  # the provider thinks and says nothing of it: there is nothing to count

    @property
    def directive(self) -> str:
        more = {"tool_call": "tool=write_file", "reasoning": f"reasoning={OUTPUT - 20}", "first_byte": "delay_ms=2500"}
        return f"[[sim output={OUTPUT} chunks=100 chunk_ms=25 {more.get(self.moment, '')}]]"

    def body(self) -> dict[str, Any]:
        said = f"{uuid.uuid4().hex} {SAID}{self.directive}"
        tool: dict[str, Any] = {"name": "write_file", "description": "Writes a file"}
        if self.route == MESSAGES:
            tool |= {"input_schema": SCHEMA}
        elif self.route == RESPONSES:
            tool |= {"type": "function", "parameters": SCHEMA}
        else:
            tool = {"type": "function", "function": tool | {"parameters": SCHEMA}}
        body: dict[str, Any] = {"model": self.model, "stream": True}
        if self.moment == "tool_call":
            body["tools"] = [tool]
        if self.route == RESPONSES:
            return body | {"input": said}
        return body | {"messages": [{"role": "user", "content": said}], "max_tokens": 1000}


CELLS = [
    Cell(CHAT, "first_byte", "gpt-5.4", b""),
    Cell(CHAT, "text", "gpt-5.4", b"code"),
    Cell(CHAT, "tool_call", "gpt-5.4", b"notes"),
    Cell(CHAT, "reasoning", "kimi-k2.5", b"green"),
    Cell(MESSAGES, "first_byte", "claude-sonnet-5-5", b""),
    Cell(MESSAGES, "text", "claude-sonnet-5-5", b"code"),
    Cell(MESSAGES, "tool_call", "claude-sonnet-5-5", b"notes"),
    Cell(MESSAGES, "reasoning", "claude-sonnet-5-5", b"green"),
    Cell(RESPONSES, "first_byte", "gpt-5.4", b""),
    Cell(RESPONSES, "text", "gpt-5.4", b"code"),
    Cell(RESPONSES, "tool_call", "gpt-5.4", b"notes"),
    Cell(RESPONSES, "reasoning", "gpt-5.4", b"reasoning", hidden=True),
]


def leave(gateway: RunningGateway, cell: Cell) -> str:
    """Ask, and close the connection when the answer has come to the mark, or before its first byte."""
    session = uuid.uuid4().hex
    headers = {"authorization": f"Bearer {gateway.key}", "x-session-id": session}
    timeout = httpx.Timeout(30, read=0.7 if not cell.mark else 30)
    with httpx.Client(base_url=gateway.url, timeout=timeout, trust_env=False) as client:
        try:
            with client.stream("POST", cell.route, json=cell.body(), headers=headers) as response:
                got = b""
                for piece in response.iter_raw():
                    got += piece
                    if cell.mark in got:
                        break
        except httpx.ReadTimeout:
            assert not cell.mark
    return session


def event_of(gateway: RunningGateway, session: str) -> UsageEvent:
    found = eventually(lambda: [e for e in gateway.topic.events() if e.session_id == session], 30)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: f"{c.route.rpartition('/')[2]}-{c.moment}")
def test_a_caller_who_leaves_is_one_event_and_the_provider_is_cut(gateway: RunningGateway, cell: Cell) -> None:
    before = len(bill(gateway))
    session = leave(gateway, cell)
    row = eventually(lambda: bill(gateway)[before:], 30)[0]
    event = event_of(gateway, session)
    assert (event.status, event.error_class, event.usage_source) == ("aborted", "ClientDisconnected", "counted")
    assert not event.superseded
    assert row["outcome"] == "client_gone"
    assert row["output_tokens"] < OUTPUT  # it did not write to the end
    assert event.input_tokens + event.cache_read_tokens == pytest.approx(
        row["input_tokens"] + row["cache_read_tokens"], rel=0.05
    )
    if cell.moment == "first_byte":
        assert event.output_tokens <= 1  # Anthropic may have begun to tell, and begins with one
    else:
        assert event.provider_request_id == row["request_id"]
        in_flight = 0.15 * OUTPUT  # written, and not yet read, when the caller left
        assert cell.hidden or row["output_tokens"] - in_flight < event.output_tokens <= row["output_tokens"] * 1.1 + 5
    if cell.route == MESSAGES and cell.moment != "first_byte":  # Anthropic had told the input
        assert (event.input_tokens, event.cache_read_tokens) == (row["input_tokens"], row["cache_read_tokens"])
    if cell.moment == "reasoning" and not cell.hidden:
        assert event.reasoning_tokens == event.output_tokens > 0


def test_a_caller_who_leaves_is_on_the_topic_within_seconds(gateway: RunningGateway) -> None:
    started = time.monotonic()
    event_of(gateway, leave(gateway, CELLS[1]))
    assert time.monotonic() - started < 10
