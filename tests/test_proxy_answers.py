"""The reading of a provider's answer: its usage however it is told, its words where it is not."""

from __future__ import annotations

import asyncio
import gzip
import json
import warnings
from typing import Any

import httpx
import pytest

from proxy_service import counting, wire
from proxy_service.answers import Answer
from proxy_service.usage import Tokens
from tests.provider_answers import CHAT_STREAM, CHAT_USAGE, answer_of, events_of

with warnings.catch_warnings():  # LiteLLM's own, while it is imported
    warnings.simplefilter("ignore")
    import litellm.litellm_core_utils.default_encoding  # noqa: F401


MESSAGE_START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "model": "claude-sonnet-4-5",
        "usage": {
            "input_tokens": 100,
            "cache_creation_input_tokens": 300,
            "cache_read_input_tokens": 600,
            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
            "output_tokens": 1,
            "service_tier": "standard",
            "inference_geo": "us",
        },
    },
}
TEXT_DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello there"}}
MESSAGE_END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 50}}


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_stream_is_read_however_it_is_cut_into_pieces(size: int) -> None:
    read = answer_of("text/event-stream", *(CHAT_STREAM[at : at + size] for at in range(0, len(CHAT_STREAM), size)))
    assert read.told() == Tokens(300, 600, 100, 0, 50, 20)
    assert (read.id, read.model, read.tier, read.state) == ("chatcmpl-1", "gpt-5.4-2026", "standard", "whole")


def test_a_compressed_answer_is_read() -> None:
    body = gzip.compress(json.dumps({"id": "chatcmpl-1", "usage": CHAT_USAGE}).encode())
    read = answer_of("application/json", body[:20], body[20:], encoding="gzip")
    assert read.told() == Tokens(300, 600, 100, 0, 50, 20)


def test_anthropic_counts_its_cache_beside_the_input() -> None:
    read = answer_of("text/event-stream", events_of(MESSAGE_START, TEXT_DELTA, MESSAGE_END, {"type": "message_stop"}))
    assert read.told() == Tokens(100, 600, 200, 100, 50)
    assert (read.id, read.residency, read.tier) == ("msg_1", "us", "standard")


def test_a_broken_anthropic_stream_keeps_the_input_that_was_told_and_counts_the_output() -> None:
    read = answer_of("text/event-stream", events_of(MESSAGE_START, TEXT_DELTA), end=False)
    read.end("broken")
    assert read.told() is None
    counted = read.counted({"messages": [{"role": "user", "content": "word " * 50}]})
    assert (counted.input_tokens, counted.cache_read_tokens, counted.cache_write_1h_tokens) == (100, 600, 100)
    assert counted.output_tokens == counting.count_text(["Hello there"]) == 2


def test_the_responses_api_counts_its_cache_inside_the_input() -> None:
    told = {"input_tokens": 1000, "input_tokens_details": {"cached_tokens": 600}, "output_tokens": 50}
    response = {"id": "resp_1", "object": "response", "model": "gpt-5.4", "usage": None}
    read = answer_of(
        "text/event-stream",
        events_of(
            {"type": "response.created", "response": response},
            {"type": "response.output_text.delta", "delta": "Hello"},
            {"type": "response.completed", "response": response | {"usage": told}},
        ),
    )
    assert read.told() == Tokens(400, 600, 0, 0, 50)
    assert read.dialect == "responses"
    whole = answer_of("application/json", json.dumps(response | {"usage": told}).encode())
    assert whole.told() == read.told()


@pytest.mark.parametrize(
    ("body", "words", "thoughts"),
    [
        ({"choices": [{"message": {"role": "assistant", "content": "Hello there"}}]}, "Hello there", ""),
        (
            {"choices": [{"message": {"content": None, "reasoning_content": "Hm", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "ls", "arguments": '{"a":1}'}}]}}]},
            'ls{"a":1}', "Hm",
        ),
        (
            {"type": "message", "content": [{"type": "thinking", "thinking": "Hm", "signature": "no"},
             {"type": "text", "text": "Hello"}, {"type": "tool_use", "id": "t", "name": "ls", "input": {"a": 1}}]},
            'Hellols{"a":1}', "Hm",
        ),
        (
            {"object": "response", "output": [{"type": "reasoning", "summary": [{"type": "t", "text": "Hm"}]},
             {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]},
             {"type": "function_call", "name": "ls", "arguments": '{"a":1}'}]},
            'Hellols{"a":1}', "Hm",
        ),
    ],
)  # fmt: skip
def test_the_words_of_an_answer_without_usage_are_counted(body: dict[str, Any], words: str, thoughts: str) -> None:
    read = answer_of("application/json", json.dumps(body).encode())
    assert read.told() is None
    counted = read.counted({"input": "a question"})
    assert counted.reasoning_tokens == counting.count_text([thoughts])
    assert counted.output_tokens == counting.count_text([words]) + counted.reasoning_tokens
    assert counted.input_tokens > 0


def test_a_usage_of_zeros_is_no_usage() -> None:
    body = {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}
    assert answer_of("application/json", json.dumps(body).encode()).told() is None


def test_an_answer_longer_than_is_kept_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    delta = events_of({"id": "c", "choices": [{"delta": {"content": "word word word word"}}]})
    monkeypatch.setattr("proxy_service.answers.KEEP_BYTES", 50 * len(delta))
    long = answer_of("text/event-stream", delta * 500).counted({"messages": []})
    monkeypatch.undo()
    exact = answer_of("text/event-stream", delta * 500).counted({"messages": []})
    assert long.output_tokens == pytest.approx(exact.output_tokens, rel=0.1)


class Body(httpx.AsyncByteStream):
    def __init__(self, *pieces: bytes, fail: bool = False) -> None:
        self._pieces, self._fail = pieces, fail

    async def __aiter__(self) -> Any:
        for piece in self._pieces:
            yield piece
        if self._fail:
            raise httpx.ReadError("cut")


class FakeAsking:
    def __init__(self) -> None:
        self.answers: list[Answer] = []


async def through_the_wire(body: Body, asking: FakeAsking | None, **headers: str) -> httpx.Response:
    async def send(transport: object, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body, request=request)

    token = wire.ASKING.set(asking)
    try:
        return await wire.tapped(send)(None, httpx.Request("POST", "https://api.test/v1", headers=headers))
    finally:
        wire.ASKING.reset(token)


async def test_the_caller_gets_the_bytes_that_the_wire_reads() -> None:
    asking = FakeAsking()
    response = await through_the_wire(Body(CHAT_STREAM[:50], CHAT_STREAM[50:]), asking)
    assert await response.aread() == CHAT_STREAM
    assert asking.answers[0].told() == Tokens(300, 600, 100, 0, 50, 20)


async def test_an_answer_that_breaks_off_is_marked() -> None:
    asking = FakeAsking()
    response = await through_the_wire(Body(CHAT_STREAM[:50], fail=True), asking)
    with pytest.raises(httpx.ReadError):
        await response.aread()
    assert asking.answers[0].state == "broken"


async def test_the_wire_knows_whether_anybody_waits_for_more() -> None:
    asking = FakeAsking()
    response = await through_the_wire(Body(CHAT_STREAM[:50], CHAT_STREAM[50:]), asking)
    answer = asking.answers[0]
    assert not answer.awaited
    pieces = response.aiter_raw()
    await anext(pieces)
    assert not answer.awaited  # its reader has something in hand, and may not come again
    assert answer.hang_up is not None
    await answer.hang_up()
    assert answer.state == "whole"  # the rest had come already
    assert answer.told() == Tokens(300, 600, 100, 0, 50, 20)


async def test_a_reader_who_stops_cuts_the_provider() -> None:
    cut = asyncio.Event()

    class Endless(Body):
        async def __aiter__(self) -> Any:
            try:
                while True:
                    yield CHAT_STREAM[:50]
            finally:
                cut.set()

    asking = FakeAsking()
    response = await through_the_wire(Endless(), asking)
    assert isinstance(response.stream, httpx.AsyncByteStream)
    pieces = aiter(response.stream)
    await anext(pieces)
    del pieces, response  # as LiteLLM does, without a word
    await asyncio.wait_for(cut.wait(), 5)
    assert asking.answers[0].state == "broken"


async def test_what_comes_too_slowly_is_not_waited_for_without_a_reader() -> None:
    asking = FakeAsking()

    class Slow(Body):
        async def __aiter__(self) -> Any:
            yield CHAT_STREAM[:50]
            await asyncio.Event().wait()

    pieces = (await through_the_wire(Slow(), asking)).aiter_raw()
    await anext(pieces)
    answer = asking.answers[0]
    assert answer.hang_up is not None
    await answer.hang_up()
    assert answer.state == "broken"


async def test_bytes_that_cannot_be_read_reach_the_caller_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Answer, data: bytes) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(Answer, "feed", fails)
    response = await through_the_wire(Body(CHAT_STREAM), FakeAsking())
    assert await response.aread() == CHAT_STREAM


async def test_an_own_login_is_a_subscription() -> None:
    asking = FakeAsking()
    await through_the_wire(Body(), asking, authorization="Bearer sk-ant-oat01-own")
    assert asking.answers[0].own_credential
