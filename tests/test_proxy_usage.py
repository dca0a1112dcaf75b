"""The tokens on the events against the provider's own bill, row by row: told, counted, broken off, left, stopped."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from governance.events import UsageEvent
from tests.conftest import eventually
from tests.gateway import Process, RunningGateway, gateway, plain_environment, run_gateway
from tests.test_proxy import bill

__all__ = ["gateway"]

KINDS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)
ROUTES = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
MODELS = ("gpt-5.4", "claude-sonnet-5-5", "openrouter/anthropic/claude-sonnet-4.5", "kimi-k2.5")


def request(route: str, model: str, said: str, **more: Any) -> dict[str, Any]:
    if route == "/v1/responses":
        return {"model": model, "input": said} | more
    return {"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": said}]} | more


def kinds(event: UsageEvent) -> tuple[int, ...]:
    """Input in all, and each kind apart."""
    return tuple(getattr(event, kind) for kind in KINDS)


def billed(row: dict[str, Any]) -> tuple[int, ...]:
    """The bill's row as the provider's dialect can tell it: outside Anthropic's there is one kind of cache write."""
    told = [row[kind] for kind in KINDS]
    if row["provider"] != "anthropic":
        told[2:4] = [told[2] + told[3], 0]
    return tuple(told)


def row_of(gateway: RunningGateway, event: UsageEvent) -> dict[str, Any]:
    rows = [row for row in bill(gateway) if row["request_id"] == event.provider_request_id]
    assert len(rows) == 1
    return rows[0]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("route", ROUTES)
def test_told_usage_is_the_bill_to_the_token(gateway: RunningGateway, route: str, model: str, stream: bool) -> None:
    cache = "cache_write_5m=200 cache_write_1h=100" if model.startswith("claude") else "cache_write_5m=300"
    said = f"[[sim output=50 input=1000 cache_read=600 {cache} reasoning=20 chunks=7]]"
    response = gateway.post(route, request(route, model, said, stream=stream))
    assert response.status_code == 200, response.text
    event = gateway.event_of(response)
    row = row_of(gateway, event)
    assert (event.status, event.usage_source, event.stream) == ("ok", "provider", stream)
    assert kinds(event) == billed(row)
    assert sum(kinds(event)[:4]) == 1900
    assert event.time_to_first_token_ms is not None


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("route", ROUTES)
def test_untold_usage_is_counted_and_flagged(gateway: RunningGateway, route: str, model: str, stream: bool) -> None:
    said = "Describe the house. " * 40 + "[[sim usage=omit output=60 chunks=7]]"
    response = gateway.post(route, request(route, model, said, stream=stream))
    event = gateway.event_of(response)
    row = row_of(gateway, event)
    assert event.usage_source == "counted"
    assert row["usage"] == "omitted"
    assert event.output_tokens == pytest.approx(row["output_tokens"], rel=0.15)
    assert 160 < event.input_tokens < 260  # the simulator bills four characters a token; we count words
    if response.status_code == 200:
        assert event.status == "ok"
    else:  # LiteLLM cannot translate an Anthropic answer without usage; the provider charges for it all the same
        assert (event.status, model, stream) == ("error", "claude-sonnet-5-5", False)


@pytest.mark.parametrize("route", ROUTES)
def test_a_tools_arguments_are_counted_too(gateway: RunningGateway, route: str) -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    tool: dict[str, Any] = {"name": "write_file", "description": "Writes"}
    if route == "/v1/messages":
        tool |= {"input_schema": schema}
    elif route == "/v1/responses":
        tool |= {"type": "function", "parameters": schema}
    else:
        tool = {"type": "function", "function": tool | {"parameters": schema}}
    model = "claude-sonnet-5-5" if route == "/v1/messages" else "gpt-5.4"
    said = "[[sim usage=omit tool=write_file output=3 chunks=3]]"
    for stream in (False, True):
        event = gateway.event_of(gateway.post(route, request(route, model, said, tools=[tool], stream=stream)))
        assert event.usage_source == "counted"
        assert event.output_tokens >= 8  # write_file, {"path":"notes.txt"}
        assert event.input_tokens > 15


@pytest.mark.parametrize("route", ROUTES)
def test_an_answer_that_the_provider_breaks_off_is_an_error_and_counted(gateway: RunningGateway, route: str) -> None:
    model = "claude-sonnet-5-5" if route == "/v1/messages" else "gpt-5.4"
    said = "[[sim output=80 chunks=20 chunk_ms=5 cut=12]]"
    body = request(route, model, said, stream=True)
    session = uuid.uuid4().hex
    headers = {"authorization": f"Bearer {gateway.key}", "x-session-id": session}
    with suppress(httpx.RemoteProtocolError):  # the caller sees it break off, too
        gateway.client.post(route, json=body, headers=headers)
    event = eventually(lambda: [e for e in gateway.topic.events() if e.session_id == session])[0]
    row = row_of(gateway, event)
    assert row["outcome"] == "cut"
    assert (event.status, event.usage_source) == ("error", "counted")
    assert 0 < event.output_tokens < 80
    assert event.output_tokens == pytest.approx(row["output_tokens"], rel=0.05)
    if route == "/v1/messages":  # Anthropic had told the input by then
        assert event.input_tokens == row["input_tokens"]


# ---- callers who leave --------------------------------------------------------------------------------------------


def leave(gateway: RunningGateway, route: str, body: dict[str, Any], after_bytes: int, wait_s: float) -> str:
    """Send a request and close the connection: after so many bytes of the answer, or after so long without any."""
    session = uuid.uuid4().hex
    headers = {"authorization": f"Bearer {gateway.key}", "x-session-id": session}
    timeout = httpx.Timeout(10, read=wait_s if not after_bytes else 10)
    with httpx.Client(base_url=gateway.url, timeout=timeout, trust_env=False) as client:
        try:
            with client.stream("POST", route, json=body, headers=headers) as response:
                got = 0
                for piece in response.iter_raw():
                    got += len(piece)
                    if after_bytes and got >= after_bytes:
                        break
        except httpx.ReadTimeout:
            pass
    return session


@pytest.mark.parametrize("reasoning", [0, 30], ids=["text", "thinking"])
@pytest.mark.parametrize(("route", "model"), [*zip(ROUTES, ("gpt-5.4", "claude-sonnet-5-5", "gpt-5.4"), strict=True)])
def test_a_stream_that_its_caller_leaves_is_one_event(
    gateway: RunningGateway, route: str, model: str, reasoning: int
) -> None:
    said = f"{'Describe the house. ' * 40}[[sim output=200 reasoning={reasoning} chunks=50 chunk_ms=40]]"
    session = leave(gateway, route, request(route, model, said, stream=True), after_bytes=1500, wait_s=0)
    found = eventually(lambda: [e for e in gateway.topic.events() if e.session_id == session], 20)
    assert len(found) == 1
    event = found[0]
    assert (event.status, event.usage_source, event.error_class) == ("aborted", "counted", "ClientDisconnected")
    assert event.output_tokens < 200
    assert event.input_tokens > 150
    assert event.provider_request_id


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("route", "model"), [*zip(ROUTES, ("gpt-5.4", "claude-sonnet-5-5", "gpt-5.4"), strict=True)])
def test_a_caller_who_leaves_before_the_first_byte_is_one_event(
    gateway: RunningGateway, route: str, model: str, stream: bool
) -> None:
    said = "Describe the house. " * 40 + "[[sim output=50 delay_ms=900]]"
    session = leave(gateway, route, request(route, model, said, stream=stream), after_bytes=0, wait_s=0.3)
    found = eventually(lambda: [e for e in gateway.topic.events() if e.session_id == session], 20)
    assert len(found) == 1
    event = found[0]
    assert event.status == "aborted"
    if event.usage_source == "provider":  # LiteLLM read the answer to its end
        assert kinds(event) == billed(row_of(gateway, event))
    else:
        assert event.usage_source == "counted"
        assert event.input_tokens > 150


def test_a_burst_of_everything_makes_one_event_for_each_request(gateway: RunningGateway) -> None:
    cases = list(product(ROUTES, (False, True), ("", "usage=omit", "error=500", "cut=4", "delay_ms=50")))
    sessions: list[str] = []
    lock = threading.Lock()

    def one(number: int) -> None:
        route, stream, how = cases[number % len(cases)]
        model = "claude-sonnet-5-5" if route == "/v1/messages" else "gpt-5.4"
        session = uuid.uuid4().hex
        body = request(route, model, f"{number} [[sim output=20 {how}]]", stream=stream)
        headers = {"authorization": f"Bearer {gateway.key}", "x-session-id": session}
        with suppress(httpx.RemoteProtocolError):
            gateway.client.post(route, json=body, headers=headers)
        with lock:
            sessions.append(session)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(180)))

    def events() -> list[UsageEvent]:
        return [event for event in gateway.topic.events() if event.session_id in set(sessions)]

    eventually(lambda: len(events()) >= 180, 20)
    assert sorted(event.session_id or "" for event in events()) == sorted(sessions)
    assert len({event.event_id for event in events()}) == 180


# ---- privacy, and the end -----------------------------------------------------------------------------------------

CANARY = "canary-4f1d9e"


def test_neither_prompts_nor_answers_nor_keys_are_written_anywhere(tmp_path: Path) -> None:
    with run_gateway(tmp_path, TALLY_LOG_LEVEL="DEBUG") as own:
        said = f"{CANARY} [[sim output=20 %s]]"
        for route, stream, how in product(ROUTES, (False, True), ("", "usage=omit", "error=400", "error=500", "cut=3")):
            model = "claude-sonnet-5-5" if route == "/v1/messages" else "gpt-5.4"
            with suppress(httpx.RemoteProtocolError):
                own.post(route, request(route, model, said % how, stream=stream))
        own.post(ROUTES[0], {"model": "gpt-5.4", "messages": CANARY})
        own.post(ROUTES[1], {"model": "claude-sonnet-5-5", "messages": [{"role": CANARY}]})
        own.client.post("/v1/chat/completions", content=f"{{{CANARY}", headers={"x-api-key": own.key})
        stranger = own.key[:-1] + ("a" if own.key[-1] != "a" else "b")
        own.post(ROUTES[0], request(ROUTES[0], "gpt-5.4", said), key=stranger)
        eventually(lambda: len(own.topic.events()) >= 33, 20)
        own.process.stop()
        written = own.log() + b"".join(own.topic.messages).decode()
        spill = tmp_path / "spill.jsonl"
        written += spill.read_text() if spill.exists() else ""
        assert "gateway stopped" in written
        assert CANARY not in written
        assert own.key not in written
        assert stranger not in written
        assert own.env["OPENAI_API_KEY"] not in written
        assert own.env["LITELLM_MASTER_KEY" if "LITELLM_MASTER_KEY" in own.env else "ANTHROPIC_API_KEY"] not in written
        assert "simulated provider" not in written  # the answers' words


def test_at_sigterm_answers_under_way_are_finished_and_every_event_is_published(tmp_path: Path) -> None:
    with run_gateway(tmp_path, TALLY_CLOSE_GRACE_S="30") as own:
        own.post(ROUTES[0], request(ROUTES[0], "gpt-5.4", "hello"))
        before = len(eventually(own.topic.events))

        begun = threading.Barrier(13)

        def one(number: int) -> bytes:
            route = ROUTES[number % 3]
            model = "claude-sonnet-5-5" if route == "/v1/messages" else "gpt-5.4"
            how = "usage=omit" if number % 2 else ""
            body = request(route, model, f"[[sim output=40 chunks=10 chunk_ms=150 {how}]]", stream=True)
            with own.client.stream("POST", route, json=body, headers={"x-api-key": own.key}) as answer:
                pieces = answer.iter_raw()
                first = next(pieces)
                begun.wait(10)
                return b"".join([first, *pieces])

        with ThreadPoolExecutor(12) as pool:
            answers = [pool.submit(one, number) for number in range(12)]
            begun.wait(10)
            own.process.stop(signal.SIGTERM)
            ends = (b"[DONE]", b"message_stop", b"response.completed")
            assert all(ends[number % 3] in answer.result() for number, answer in enumerate(answers))
        assert len(own.topic.events()) - before == 12
        assert {event.status for event in own.topic.events()} == {"ok"}
        stopped = json.loads(next(line for line in own.log().splitlines() if "gateway stopped" in line))
        assert stopped["requests"] == stopped["events"] == 13
        assert stopped["failures"] == 0


def test_a_missing_setting_is_named_at_the_start(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "uvicorn", "proxy_service.main:app", "--port", "0"]
    process = Process(argv, tmp_path / "log", plain_environment() | {"TALLY_TOPIC": "projects/p/topics/t"})
    eventually(lambda: process.ended() is not None, 20)
    assert process.stop() != 0
    said = (tmp_path / "log").read_text()
    assert re.search("TALLY_REGISTRY: is not set", said)
    assert re.search("TALLY_KEY_PEPPER: is not set", said)
