"""The simulated provider speaks as the real ones do, to their own SDKs, and its bill says what it said."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from aiohttp import web

from governance import keys
from local.ledger import Ledger, Line, cost_usd
from local.provider import application
from local.wire.turn import DirectiveError, Tokens, read_turn

PRICES = {
    "input": Decimal(3),
    "cache_read": Decimal("0.3"),
    "cache_write_5m": Decimal("3.75"),
    "cache_write_1h": Decimal(6),
    "output": Decimal(15),
}
KINDS = "input=100 cache_read=600 cache_write_5m=200 cache_write_1h=100 output=50 reasoning=20"
# 100 x 3 + 600 x 0.3 + 200 x 3.75 + 100 x 6 + 50 x 15, by hand, over a million
KINDS_COST = Decimal("0.00258")


@dataclass(frozen=True)
class Provider:
    """A running simulator and the SDKs pointed at it, without retries."""

    url: str
    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic

    async def bill(self) -> list[dict[str, Any]]:
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/bill") as answer:
            return list(await answer.json())


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    runner = web.AppRunner(application(Ledger(price_list=lambda *_: PRICES)))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as of_openai,
        anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as of_anthropic,
    ):
        yield Provider(url, of_openai, of_anthropic)
    await runner.cleanup()


def said(directive: str) -> list[Any]:
    return [{"role": "user", "content": f"hello [[sim {directive}]]"}]


async def test_a_chat_completion_tells_its_usage_and_stands_on_the_bill(provider: Provider) -> None:
    answer = await provider.openai.chat.completions.create(model="m", messages=said(KINDS))
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.completion_tokens_details is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (1000, 50, 1050)
    assert answer.usage.prompt_tokens_details.cached_tokens == 600
    assert answer.usage.prompt_tokens_details.cache_write_tokens == 300
    assert answer.usage.completion_tokens_details.reasoning_tokens == 20
    assert answer.choices[0].message.content
    (row,) = await provider.bill()
    assert row["request_id"] == answer.id
    assert Decimal(row["cost_usd"]) == KINDS_COST
    assert (row["usage"], row["status"], row["outcome"]) == ("sent", 200, "answered")


@pytest.mark.parametrize(
    ("directive", "asked", "told"),
    [("", False, False), ("", True, True), ("usage=omit", True, False), ("usage=send", False, True)],
)
async def test_a_chat_stream_tells_its_usage_only_when_asked(
    provider: Provider, directive: str, asked: bool, told: bool
) -> None:
    stream = await provider.openai.chat.completions.create(
        model="m",
        messages=said(f"output=30 {directive}"),
        stream=True,
        stream_options={"include_usage": True} if asked else openai.omit,
    )
    chunks = [chunk async for chunk in stream]
    usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert [usage.completion_tokens for usage in usages] == ([30] if told else [])
    assert all(not chunk.choices for chunk in chunks if chunk.usage is not None)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    (row,) = await provider.bill()
    assert (row["usage"], row["output_tokens"]) == ("sent" if told else "omitted", 30)


async def test_a_chat_stream_calls_a_tool_in_pieces(provider: Provider) -> None:
    tools: list[Any] = [{"type": "function", "function": {"name": "read_file", "strict": True, "parameters": {}}}]
    async with provider.openai.chat.completions.stream(model="m", messages=said("tool=1"), tools=tools) as stream:
        final = await stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert call.function.name == "read_file"
    assert json.loads(call.function.arguments or "") == {"path": "notes.txt"}
    assert final.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_response_has_its_items_and_its_usage(provider: Provider, streamed: bool) -> None:
    prompt = f"hello [[sim {KINDS} tool=shell]]"
    if streamed:
        async with provider.openai.responses.stream(model="m", input=prompt) as stream:
            kinds = [event.type async for event in stream]
            answer: Any = await stream.get_final_response()
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        assert "response.function_call_arguments.delta" in kinds
        assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") == 2
    else:
        answer = await provider.openai.responses.create(model="m", input=prompt)
    assert [item.type for item in answer.output] == ["reasoning", "function_call"]
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (1000, 50)
    assert answer.usage.input_tokens_details.cached_tokens == 600
    assert answer.usage.output_tokens_details.reasoning_tokens == 20
    (row,) = await provider.bill()
    assert (row["request_id"], row["route"], row["stream"]) == (answer.id, "responses", streamed)
    assert Decimal(row["cost_usd"]) == KINDS_COST


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_message_has_its_blocks_and_its_usage(provider: Provider, streamed: bool) -> None:
    asked: dict[str, Any] = {"model": "m", "max_tokens": 4096, "messages": said(KINDS)}
    if streamed:
        async with provider.anthropic.messages.stream(**asked) as stream:
            kinds = [event.type async for event in stream]
            answer = await stream.get_final_message()
        assert kinds[0] == "message_start"
        assert kinds[-1] == "message_stop"
        assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2
    else:
        answer = await provider.anthropic.messages.create(**asked)
    assert [block.type for block in answer.content] == ["thinking", "text"]
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (100, 600, 300)
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_5m_input_tokens == 200
    assert usage.cache_creation.ephemeral_1h_input_tokens == 100
    assert usage.output_tokens == 50
    (row,) = await provider.bill()
    assert (row["request_id"], Decimal(row["cost_usd"])) == (answer.id, KINDS_COST)


async def test_a_tool_is_called_once_and_not_again_after_its_result(provider: Provider) -> None:
    tool: Any = {"name": "Read", "input_schema": {"type": "object"}}
    talk = said("tool=1")
    first = await provider.anthropic.messages.create(model="m", max_tokens=99, messages=talk, tools=[tool])
    (use,) = first.content
    assert use.type == "tool_use"
    assert (use.name, first.stop_reason) == ("Read", "tool_use")
    talk += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "done"}]},
    ]
    second = await provider.anthropic.messages.create(model="m", max_tokens=99, messages=talk, tools=[tool])
    assert [block.type for block in second.content] == ["text"]


async def test_tokens_are_counted_as_the_message_will_be_billed(provider: Provider) -> None:
    counted = await provider.anthropic.messages.count_tokens(model="m", messages=said("output=1"))
    answer = await provider.anthropic.messages.create(model="m", max_tokens=9, messages=said("output=1"))
    assert counted.input_tokens == answer.usage.input_tokens > 0


async def test_an_embedding_costs_its_input_alone(provider: Provider) -> None:
    answer = await provider.openai.embeddings.create(
        model="m", input=["one [[sim input=1000]]", "two"], encoding_format="float"
    )
    assert [len(item.embedding) for item in answer.data] == [8, 8]
    assert answer.usage.prompt_tokens == 1000
    (row,) = await provider.bill()
    assert (row["output_tokens"], Decimal(row["cost_usd"])) == (0, Decimal("0.003"))


async def test_openrouter_tells_what_it_charges(provider: Provider) -> None:
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/openrouter/api/v1", api_key="k") as client:
        stream = await client.chat.completions.create(model="a/m", messages=said(KINDS), stream=True)
        usage: Any = [chunk.usage async for chunk in stream][-1]
    (row,) = await provider.bill()
    assert usage.cost == float(KINDS_COST) == float(row["cost_usd"])
    assert (row["provider"], row["model"]) == ("openrouter", "a/m")


async def test_moonshot_tells_its_cached_tokens(provider: Provider) -> None:
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/moonshot/v1", api_key="k") as client:
        answer: Any = await client.chat.completions.create(model="kimi", messages=said("cache_read=600 reasoning=2"))
    assert answer.usage.cached_tokens == answer.usage.prompt_tokens_details.cached_tokens == 600
    assert answer.choices[0].message.reasoning_content
    assert [row["provider"] for row in await provider.bill()] == ["moonshot"]


@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
async def test_an_error_is_not_billed(provider: Provider, status: int) -> None:
    with pytest.raises(anthropic.APIStatusError) as told:
        await provider.anthropic.messages.create(model="m", max_tokens=9, messages=said(f"error={status}"))
    with pytest.raises(openai.APIStatusError) as also:
        await provider.openai.responses.create(model="m", input=f"[[sim error={status}]]")
    assert told.value.status_code == also.value.status_code == status
    assert (told.value.response.headers.get("retry-after") is not None) == (status in (429, 529))
    assert [(row["status"], row["cost_usd"]) for row in await provider.bill()] == [(status, "0")] * 2


async def test_a_cut_stream_is_billed_but_its_usage_was_not_told(provider: Provider) -> None:
    stream = await provider.anthropic.messages.create(
        model="m", max_tokens=99, messages=said("cut=4 output=20"), stream=True
    )
    with pytest.raises(Exception, match="incomplete chunked read"):
        async for _ in stream:
            pass
    (row,) = await provider.bill()
    assert (row["outcome"], row["usage"], row["output_tokens"]) == ("cut", "omitted", 20)


async def test_the_same_request_always_costs_the_same(provider: Provider) -> None:
    for _ in range(2):
        await provider.openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "x" * 9000}])
    first, second = await provider.bill()
    assert first["request_id"] != second["request_id"]
    assert first["cost_usd"] == second["cost_usd"]
    assert 0.6 <= first["cache_read_tokens"] / (first["cache_read_tokens"] + first["input_tokens"]) <= 0.95


async def test_a_tally_key_that_reaches_the_provider_is_a_leak(provider: Provider) -> None:
    with pytest.raises(openai.AuthenticationError):
        await provider.openai.with_options(api_key=keys.make()).responses.create(model="m", input="hi")


async def test_the_slow_provider_is_slow(provider: Provider) -> None:
    before = datetime.now(UTC)
    await provider.openai.responses.create(model="m", input="[[sim delay_ms=120]]")
    assert (datetime.now(UTC) - before).total_seconds() >= 0.12


@pytest.mark.parametrize("directive", ["outptu=5", "output=many", "usage=maybe", "output=1 reasoning=2"])
def test_a_misspelt_directive_is_refused(directive: str) -> None:
    body = {"model": "m", "input": f"[[sim {directive}]]"}
    with pytest.raises(DirectiveError):
        read_turn(json.dumps(body).encode(), body)


def test_the_last_directive_counts() -> None:
    body = {"model": "m", "input": "[[sim output=5]] and then [[sim output=7]]"}
    assert read_turn(json.dumps(body).encode(), body).tokens.output_tokens == 7


def test_a_kind_without_a_price_is_charged_as_input() -> None:
    tokens = Tokens(input_tokens=0, cache_write_5m_tokens=1_000_000)
    assert cost_usd(tokens, {"input": Decimal(2), "output": Decimal(10)}) == 2


def test_the_bill_outlives_the_simulator(tmp_path: Path) -> None:
    path = tmp_path / "bill.jsonl"
    first = Ledger(path, price_list=lambda *_: PRICES)
    tokens = Tokens(input_tokens=1)
    now = datetime.now(UTC)
    first.write(
        Line("msg_1", now, "messages", "anthropic", "m", False, 200, "answered", "sent", tokens, Decimal("0.000003"))
    )
    first.close()
    again = Ledger(path)
    assert again.bill() == first.bill()
    again.close()
