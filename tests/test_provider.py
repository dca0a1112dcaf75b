"""The simulated provider speaks as the real ones do, to their own SDKs, and its bill says what it said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from aiohttp import web

from governance import keys
from local.ledger import Ledger, Line, cost_usd, payer
from local.provider import application
from local.wire.directive import DirectiveError, read_turn
from local.wire.tokenizer import prompt_tokens
from local.wire.turn import Tokens

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
ONE_CACHE_COST = Decimal("0.002355")  # OpenAI tells no lifetimes apart: 300 x 3.75 are written


def prices(
    provider: str, model: str, day: date, service_tier: str, residency: str, prompt_tokens: int
) -> dict[str, Decimal]:
    """A list with a price of its own for every term: flex is half, priority and fast twice, `us` a tenth more."""
    factor = {"flex": Decimal("0.5"), "priority": Decimal(2), "fast": Decimal(2)}.get(service_tier, Decimal(1))
    factor *= (Decimal("1.1") if residency == "us" else 1) * (2 if prompt_tokens > 272_000 else 1)
    sound = {"input_audio": Decimal(32), "output_audio": Decimal(64)}
    return {kind: price * factor for kind, price in (PRICES | sound).items()} | {"web_search": Decimal(10_000)}


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
    runner = web.AppRunner(application(Ledger(price_list=prices)))
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
    assert Decimal(row["cost_usd"]) == ONE_CACHE_COST
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
    assert json.loads(call.function.arguments or "")["path"] == "notes.txt"
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
    assert Decimal(row["cost_usd"]) == ONE_CACHE_COST


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
    assert Decimal(repr(usage.cost)) == ONE_CACHE_COST == Decimal(row["cost_usd"])
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


async def test_a_cut_stream_is_billed_as_far_as_it_came_but_its_usage_was_not_told(provider: Provider) -> None:
    stream = await provider.anthropic.messages.create(
        model="m", max_tokens=99, messages=said("cut=4 output=20"), stream=True
    )
    with pytest.raises(Exception, match="incomplete chunked read"):
        async for _ in stream:
            pass
    (row,) = await provider.bill()
    assert (row["outcome"], row["usage"], row["output_tokens"]) == ("cut", "omitted", 2)  # the first of ten deltas


async def test_the_same_request_always_costs_the_same(provider: Provider) -> None:
    for _ in range(2):
        await provider.openai.chat.completions.create(model="m", messages=[{"role": "user", "content": "x" * 9000}])
    first, second = await provider.bill()
    assert first["request_id"] != second["request_id"]
    assert first["cost_usd"] == second["cost_usd"]
    assert 0.6 <= first["cache_read_tokens"] / (first["cache_read_tokens"] + first["input_tokens"]) <= 0.95


async def test_the_bill_names_the_key_by_its_public_id_and_the_project_it_belongs_to(provider: Provider) -> None:
    for key in ("simulated", "somebody-else's"):
        await provider.openai.with_options(api_key=key).responses.create(model="m", input="hi")
        await provider.anthropic.with_options(api_key=key).messages.create(
            model="m", max_tokens=9, messages=said("output=1")
        )
    rows = await provider.bill()
    assert [row["project"] for row in rows] == ["gateway", "gateway", "other", "other"]
    assert [row["api_key_id"] for row in rows] == [payer("simulated").api_key_id] * 2 + [
        payer("somebody-else's").api_key_id
    ] * 2
    assert "somebody-else" not in json.dumps(rows)


async def test_a_tally_key_that_reaches_the_provider_is_a_leak(provider: Provider) -> None:
    with pytest.raises(openai.AuthenticationError):
        await provider.openai.with_options(api_key=keys.make()).responses.create(model="m", input="hi")


@pytest.mark.parametrize(("asked", "told"), [("flex", "flex"), ("priority", "priority"), ("auto", "default")])
async def test_a_service_tier_is_honoured_reported_and_charged(provider: Provider, asked: Any, told: str) -> None:
    prompt = "[[sim input=1000 cache_read=0 output=100]]"
    chat = await provider.openai.chat.completions.create(
        model="m", messages=[{"role": "user", "content": prompt}], service_tier=asked
    )
    stream = await provider.openai.responses.create(model="m", input=prompt, service_tier=asked, stream=True)
    last: Any = [event async for event in stream][-1]
    assert chat.service_tier == last.response.service_tier == told
    rows = await provider.bill()
    assert {row["service_tier"] for row in rows} == {"standard" if told == "default" else told}
    expected = Decimal("0.0045") * {"flex": Decimal("0.5"), "priority": Decimal(2)}.get(told, Decimal(1))
    assert {Decimal(row["cost_usd"]) for row in rows} == {expected}


async def test_another_tier_than_was_asked_for_is_what_is_charged(provider: Provider) -> None:
    prompt = "[[sim input=1000 cache_read=0 output=100 tier=standard]]"
    answer = await provider.openai.responses.create(model="m", input=prompt, service_tier="priority")
    assert answer.service_tier == "default"
    assert [Decimal(row["cost_usd"]) for row in await provider.bill()] == [Decimal("0.0045")]


async def test_fast_and_a_region_are_told_and_charged_by_anthropic(provider: Provider) -> None:
    answer = await provider.anthropic.messages.create(
        model="m",
        max_tokens=9,
        messages=said("input=1000 cache_read=0 output=100"),
        extra_body={"speed": "fast", "inference_geo": "us"},
    )
    assert (answer.usage.speed, answer.usage.inference_geo, answer.usage.service_tier) == ("fast", "us", "standard")
    (row,) = await provider.bill()
    assert (row["service_tier"], row["residency"]) == ("fast", "us")
    assert Decimal(row["cost_usd"]) == Decimal("0.0045") * 2 * Decimal("1.1")
    plain = await provider.anthropic.messages.create(model="m", max_tokens=9, messages=said("output=1"))
    assert (plain.usage.speed, plain.usage.inference_geo) == (None, "global")
    assert (await provider.bill())[1]["residency"] is None


async def test_a_long_prompt_costs_what_long_prompts_cost(provider: Provider) -> None:
    for tokens in (272_000, 272_001):
        await provider.openai.responses.create(model="m", input=f"[[sim input={tokens} cache_read=0 output=0]]")
    costs = [Decimal(row["cost_usd"]) for row in await provider.bill()]
    assert costs == [Decimal("0.816"), Decimal("1.632006")]


@pytest.mark.parametrize("streamed", [False, True])
async def test_searches_are_told_and_charged_by_the_piece(provider: Provider, streamed: bool) -> None:
    directive = "input=0 cache_read=0 output=1 web_search=2 loop=3"
    asked: dict[str, Any] = {"model": "m", "max_tokens": 99, "messages": said(directive)}
    if streamed:
        async with provider.anthropic.messages.stream(**asked) as events:
            message: Any = await events.get_final_message()
        async with provider.openai.responses.stream(model="m", input=f"[[sim {directive}]]") as also:
            response: Any = await also.get_final_response()
    else:
        message = await provider.anthropic.messages.create(**asked)
        response = await provider.openai.responses.create(model="m", input=f"[[sim {directive}]]")
    kinds = [block.type for block in message.content]
    assert kinds == ["server_tool_use", "web_search_tool_result"] * 2 + ["text"]
    assert message.usage.server_tool_use.web_search_requests == 2
    assert [item.type for item in response.output] == ["web_search_call"] * 2 + ["message"]
    rows = await provider.bill()
    assert [(row["web_searches"], Decimal(row["cost_usd"])) for row in rows] == [(2, Decimal("0.020015"))] * 2


async def test_chat_completions_does_not_tell_searches_and_so_makes_none(provider: Provider) -> None:
    with pytest.raises(openai.BadRequestError, match="no searches"):
        await provider.openai.chat.completions.create(model="m", messages=said("web_search=1"))


async def test_the_usage_of_a_tool_loop_grows_while_it_is_streamed(provider: Provider) -> None:
    stream = await provider.anthropic.messages.create(
        model="m", max_tokens=99, messages=said(f"{KINDS} loop=3"), stream=True
    )
    events: list[Any] = [event async for event in stream]
    start, deltas = events[0].message.usage, [event.usage for event in events if event.type == "message_delta"]
    assert (start.input_tokens, start.cache_creation_input_tokens) == (33, 166)
    assert (start.cache_creation.ephemeral_5m_input_tokens, start.cache_creation.ephemeral_1h_input_tokens) == (66, 100)
    assert [usage.input_tokens for usage in deltas] == [33, 66, 100]
    assert [usage.cache_creation_input_tokens for usage in deltas] == [166, 233, 300]
    assert [usage.output_tokens for usage in deltas] == [16, 33, 50]
    assert Decimal((await provider.bill())[0]["cost_usd"]) == KINDS_COST


async def test_usage_at_the_end_only_stands_in_the_last_event_that_can_hold_it(provider: Provider) -> None:
    stream = await provider.anthropic.messages.create(
        model="m", max_tokens=99, messages=said(f"{KINDS} usage=end"), stream=True
    )
    events: list[Any] = [event async for event in stream]
    assert (events[0].message.usage.input_tokens, events[0].message.usage.output_tokens) == (0, 0)
    (told,) = [event.usage for event in events if event.type == "message_delta"]
    assert (told.input_tokens, told.cache_creation["ephemeral_1h_input_tokens"], told.output_tokens) == (100, 100, 50)
    chat = await provider.openai.chat.completions.create(
        model="m", messages=said("output=30 usage=end"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in chat]
    assert [bool(chunk.choices and chunk.choices[0].finish_reason) for chunk in chunks if chunk.usage] == [True]
    assert [row["usage"] for row in await provider.bill()] == ["sent", "sent"]


async def test_sound_is_told_apart_and_has_its_own_price(provider: Provider) -> None:
    directive = "input=100 input_audio=40 cache_read=0 output=50 output_audio=30"
    answer = await provider.openai.chat.completions.create(model="m", messages=said(directive))
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.prompt_tokens_details.audio_tokens == 40
    assert answer.usage.completion_tokens_details.audio_tokens == 30
    (row,) = await provider.bill()
    assert (row["input_audio_tokens"], row["output_audio_tokens"]) == (40, 30)
    assert Decimal(row["cost_usd"]) == Decimal(60 * 3 + 40 * 32 + 20 * 15 + 30 * 64) / 1_000_000


@pytest.mark.parametrize("status", [500, 529])
async def test_a_request_that_fails_twice_is_answered_the_third_time(provider: Provider, status: int) -> None:
    patient = provider.anthropic.with_options(max_retries=2)
    await patient.messages.create(model="m", max_tokens=9, messages=said(f"errors=2 error={status}"))
    rows = await provider.bill()
    assert [row["status"] for row in rows] == [status, status, 200]
    assert [Decimal(row["cost_usd"]) > 0 for row in rows] == [False, False, True]


async def test_openrouter_with_a_key_of_ones_own_tells_its_fee_and_the_vendors_price(provider: Provider) -> None:
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/openrouter/api/v1", api_key="k") as client:
        answer = await client.chat.completions.create(model="a/m", messages=said(f"{KINDS} byok=1"))
    usage: Any = answer.usage
    assert usage.is_byok is True
    fee, vendor = (Decimal(repr(told)) for told in (usage.cost, usage.cost_details["upstream_inference_cost"]))
    assert (fee, vendor) == (ONE_CACHE_COST * Decimal("0.05"), ONE_CACHE_COST)
    assert Decimal((await provider.bill())[0]["cost_usd"]) == fee + vendor


async def test_openrouter_lists_its_models_with_their_prices(provider: Provider) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{provider.url}/openrouter/api/v1/models") as answer:
        listed = (await answer.json())["data"]
    first = listed[0]
    assert Decimal(first["pricing"]["prompt"]) == PRICES["input"] / 1_000_000
    assert Decimal(first["pricing"]["input_cache_read"]) == PRICES["cache_read"] / 1_000_000
    assert Decimal(first["pricing"]["web_search"]) == Decimal("0.01")
    assert {"id", "name", "context_length", "architecture", "top_provider", "supported_parameters"} <= first.keys()


async def test_whoever_leaves_pays_for_what_was_generated_until_then(provider: Provider) -> None:
    stream = await provider.openai.responses.create(
        model="m", input="[[sim output=200 chunks=50 chunk_ms=20]]", stream=True
    )
    heard = 0
    async for event in stream:
        heard += event.type == "response.output_text.delta"
        if heard == 10:
            break
    await stream.close()
    for _ in range(100):
        if rows := await provider.bill():
            break
        await asyncio.sleep(0.02)
    assert (rows[0]["outcome"], rows[0]["usage"]) == ("client_gone", "omitted")
    assert 40 <= rows[0]["output_tokens"] < 80


def test_a_prompt_is_as_long_as_a_tokenizer_says() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "The test is green. " * 100}]}
    assert 500 <= prompt_tokens(body) <= 510
    assert prompt_tokens(body | {"tools": [{"name": "Read", "input_schema": {"type": "object"}}]}) > 510


def test_a_dictated_answer_beyond_all_reason_is_not_written_out() -> None:
    body = {"model": "m", "input": "[[sim output=5000000]]"}
    turn = read_turn(json.dumps(body).encode(), body)
    assert turn.tokens.output_tokens == 5_000_000
    assert len(turn.text()) < 200_000
    assert sum(piece.tokens for piece in turn.deltas()) == 5_000_000


async def test_the_slow_provider_is_slow(provider: Provider) -> None:
    before = datetime.now(UTC)
    await provider.openai.responses.create(model="m", input="[[sim delay_ms=120]]")
    assert (datetime.now(UTC) - before).total_seconds() >= 0.12


@pytest.mark.parametrize(
    "directive", ["outptu=5", "output=many", "usage=maybe", "output=1 reasoning=2", "tier=gold", "input=-1"]
)
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
        Line(
            "msg_1",
            now,
            "messages",
            "anthropic",
            "m",
            False,
            200,
            "answered",
            "sent",
            tokens,
            Decimal("0.000003"),
            payer("k"),
        )
    )
    first.close()
    again = Ledger(path)
    assert again.bill() == first.bill()
    again.close()
