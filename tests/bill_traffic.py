"""The matrix driven through the gateway by both vendors' SDKs; and callers who leave, providers who tell nothing."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import cycle, islice
from types import SimpleNamespace
from typing import Any, Final

import anthropic
import httpx
import httpx2
import openai

from tests.matrix import Cell

AT_ONCE: Final = 24
LEAVING_AT_ONCE: Final = 8  # a gateway that is busy notices late who has gone
SEED: Final = 20_261_124
PATHS: Final = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
_WORDS: Final = (
    "Look",
    " at",
    " the",
    " house",
    " by",
    " the",
    " river",
    " and",
    " say",
    " what",
    " is",
    " green",
    ".",
)


@dataclass
class Seen:
    """What a caller saw of the requests made for one cell: the status and the gateway's id of each."""

    name: str
    answers: list[tuple[int, str]] = field(default_factory=list)


_SEEN: ContextVar[Seen] = ContextVar("seen")


async def _note(response: httpx.Response | httpx2.Response) -> None:
    _SEEN.get().answers.append((response.status_code, response.headers["x-request-id"]))


async def _put_together(events: Any) -> Any:
    """The tool calls of a streamed message. The SDK's own way to put one together needs a usage, which some lack."""
    calls: dict[int, SimpleNamespace] = {}
    async for event in events:
        if event.type == "content_block_start" and event.content_block.type == "tool_use":
            block = event.content_block
            calls[event.index] = SimpleNamespace(type="tool_use", id=block.id, name=block.name, json="")
        elif event.type == "content_block_delta" and event.delta.type == "input_json_delta" and event.index in calls:
            calls[event.index].json += event.delta.partial_json
    for call in calls.values():
        call.input = json.loads(call.json)
    return SimpleNamespace(content=list(calls.values()))


class Caller:
    """Both SDKs, pointed at the gateway with one person's key."""

    def __init__(self, url: str, key: str, http: httpx.AsyncClient, http2: httpx2.AsyncClient) -> None:
        self.openai = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, http_client=http, max_retries=0)
        self.anthropic = anthropic.AsyncAnthropic(base_url=url, auth_token=key, http_client=http2, max_retries=0)

    async def ask(self, cell: Cell, body: dict[str, Any]) -> Any:
        """The answer, streamed or whole, as the SDK puts it together."""
        retries = 2 if cell.outcome == "retry" else 0
        told = {name: value for name, value in body.items() if name != "stream"}
        if cell.route == "messages":
            client = self.anthropic.with_options(max_retries=retries)
            answer = await client.messages.create(**body)
            return await _put_together(answer) if cell.stream else answer
        of_openai = self.openai.with_options(max_retries=retries)
        route: Any = of_openai.chat.completions if cell.route == "chat" else of_openai.responses
        if not cell.stream:
            return await route.create(**told)
        async with route.stream(**told) as events:
            async for _ in events:
                pass
            return await events.get_final_completion() if cell.route == "chat" else await events.get_final_response()

    async def run(self, cell: Cell) -> Seen:
        """All requests of a cell, one after the other."""
        seen = Seen(str(cell))
        _SEEN.set(seen)
        with suppress(openai.APIStatusError, anthropic.APIStatusError):
            answer = await self.ask(cell, cell.body())
            if cell.kind == "tool_loop":
                await self.ask(cell, cell.next_body(answer))
        return seen


async def drive(url: str, key: str, cells: list[Cell]) -> list[Seen]:
    """Every cell once, some at a time, in an order that mixes them."""
    order = list(cells)
    random.Random(SEED).shuffle(order)
    gate = asyncio.Semaphore(AT_ONCE)
    async with (
        httpx.AsyncClient(event_hooks={"response": [_note]}, timeout=120) as http,
        httpx2.AsyncClient(event_hooks={"response": [_note]}, timeout=120) as http2,
    ):
        caller = Caller(url, key, http, http2)

        async def one(cell: Cell) -> Seen:
            async with gate:
                return await caller.run(cell)

        return list(await asyncio.gather(*(asyncio.create_task(one(cell)) for cell in order)))


@dataclass(frozen=True)
class Untold:
    """A request whose provider or caller leaves nobody told what was consumed."""

    number: int
    how: str  # omitted, before the first byte, mid-text, mid-tool call, mid-reasoning, cut by the provider
    route: str
    stream: bool
    model: str
    words: int
    output: int

    def directive(self) -> str:
        """What the simulated provider is told. Nothing is dictated of the prompt: its tokenizer counts it."""
        words = [f"output={self.output} reasoning=0 chunks=50"]
        words += {
            "omitted": ["usage=omit"],
            "before the first byte": ["delay_ms=6000"],
            "mid-text": ["chunk_ms=80"],
            "mid-tool call": ["tool=1 chunk_ms=80"],
            "mid-reasoning": [f"reasoning={self.output - 1} chunk_ms=80"],
            "cut by the provider": [f"cut={8 + self.number % 25} chunk_ms=20"],
        }[self.how]
        return f"[[sim {' '.join(words)}]]"

    def body(self) -> dict[str, Any]:
        """The request. Its prompt is too short for any cache."""
        said = f"{self.number}: {''.join(islice(cycle(_WORDS), self.words))} {self.directive()}"
        body: dict[str, Any] = {"model": self.model, "stream": self.stream}
        body |= {"input": said} if self.route == "responses" else {"messages": [{"role": "user", "content": said}]}
        return body | ({"max_tokens": 8192} if self.route == "messages" else {})


def untold(count: int) -> Iterator[Untold]:
    """So many of them, always the same. Reasoning is left in the middle only where it is told at full length."""
    dice = random.Random(SEED)
    models = {"chat": "gpt-5.4", "messages": "claude-sonnet-5-5", "responses": "gpt-6.1-sol"}
    ways = ("omitted", "omitted", "before the first byte", "mid-text", "mid-text", "mid-tool call", "mid-reasoning")
    for number, how in zip(range(count), cycle((*ways, "cut by the provider")), strict=False):
        route = "messages" if how == "mid-reasoning" else dice.choice(tuple(PATHS))
        stream = how != "omitted" or dice.random() < 0.5
        yield Untold(number, how, route, stream, models[route], dice.randrange(5, 600), dice.randrange(40, 600))


async def leave(url: str, key: str, cases: list[Untold]) -> dict[int, str]:
    """Make these requests, and hang up on those that are to be left. The gateway's id of each that told one."""
    headers = {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
    gate, ids = asyncio.Semaphore(LEAVING_AT_ONCE), dict[int, str]()

    async def one(http: httpx.AsyncClient, case: Untold) -> None:
        patience = httpx.Timeout(60, read=3.0 if case.how == "before the first byte" else 60)
        enough = 12 + case.number % 25 if case.how.startswith("mid-") else None
        async with gate:
            with suppress(httpx.TimeoutException, httpx.RemoteProtocolError):
                async with http.stream("POST", PATHS[case.route], json=case.body(), timeout=patience) as answer:
                    ids[case.number] = answer.headers["x-request-id"]
                    heard = 0
                    async for line in answer.aiter_lines():
                        heard += line.startswith("data:")
                        if heard == enough:
                            return

    async with httpx.AsyncClient(base_url=url, headers=headers) as http:
        await asyncio.gather(*(one(http, case) for case in cases))
    return ids
