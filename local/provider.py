"""A simulated provider: OpenAI, Anthropic, OpenRouter and Moonshot on one port, with a bill of its own.

    python -m local.provider --port 9100 [--ledger .tally/bill.jsonl]

OpenAI and Anthropic answer below `/v1`, OpenRouter below `/openrouter/api/v1`, Moonshot below `/moonshot/v1`. What an
answer looks like is the request's choice (local/wire/turn.py). `GET /bill` gives a row per request; `?after=1000`
leaves out the first thousand. Neither prompts nor answers are kept. A Tally key that reaches a provider is a leak: 401.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import secrets
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

from aiohttp import web

from governance.events import Route
from governance.keys import PREFIX
from local.ledger import Ledger, Line, Outcome
from local.wire import completions, messages, responses
from local.wire.turn import DirectiveError, Turn, prompt_tokens, read_turn

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
RETRY_AFTER_S: Final = "1"
MODELS: Final = (
    ("claude-opus-5-5", "anthropic"),
    ("claude-sonnet-5-5", "anthropic"),
    ("claude-haiku-5-5", "anthropic"),
    ("gpt-6.1-sol", "openai"),
    ("gpt-6-luna", "openai"),
    ("text-embedding-3-small", "openai"),
    ("kimi-k3", "moonshot"),
)
_PREFIX: Final[dict[Route, str]] = {
    "chat_completions": "chatcmpl-",
    "messages": "msg_",
    "responses": "resp_",
    "embeddings": "emb-",
}
LEDGER: Final = web.AppKey("ledger", Ledger)
_SERIES: Final = secrets.token_hex(5)
_NUMBER: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it was read: where it came in, what it asks for, and the answer decided for it."""

    request_id: str
    occurred_at: datetime
    route: Route
    provider: str
    body: Mapping[str, Any]
    turn: Turn
    cost_usd: Decimal

    @property
    def stream(self) -> bool:
        """Whether the caller asked for a stream."""
        return bool(self.body.get("stream")) and self.route != "embeddings"

    @property
    def sends_usage(self) -> bool:
        """Whether the answer tells its usage."""
        if self.route == "chat_completions":
            return completions.sends_usage(self.provider, self.body, self.turn)
        return self.turn.usage != "omit"

    def line(self, outcome: Outcome, status: int = 200) -> Line:
        """This call on the bill. Whoever lost the end of an answer was not told its usage, and pays all the same."""
        told = self.sends_usage and outcome == "answered"
        nothing = outcome == "error"
        return Line(
            request_id=self.request_id,
            occurred_at=self.occurred_at,
            route=self.route,
            provider=self.provider,
            model=str(self.body["model"]),
            stream=self.stream,
            status=status,
            outcome=outcome,
            usage="sent" if told else "omitted",
            tokens=replace(self.turn.tokens, **dict.fromkeys(self.turn.tokens.__slots__, 0))
            if nothing
            else self.turn.tokens,
            cost_usd=Decimal(0) if nothing else self.cost_usd,
        )


def _request_id(route: Route, provider: str) -> str:
    prefix = "gen-" if provider == "openrouter" else _PREFIX[route]
    return f"{prefix}{_SERIES}{next(_NUMBER):014x}"


def _failure(route: Route, status: int, request_id: str, what: str = "") -> web.Response:
    told = messages.error(status, request_id, what) if route == "messages" else completions.error(status, what)
    headers = {"request-id" if route == "messages" else "x-request-id": request_id}
    if status in (429, 503, 529):
        headers["retry-after"] = RETRY_AFTER_S
    return web.json_response(told, status=status, headers=headers)


def _leaks(request: web.Request) -> bool:
    return any(PREFIX in value for value in request.headers.values())


def answer(call: Call) -> dict[str, Any]:
    """The whole answer to a call that did not ask for a stream."""
    if call.route == "messages":
        return messages.answer(call.request_id, call.body, call.turn)
    if call.route == "responses":
        return responses.answer(call.request_id, call.body, call.turn)
    if call.route == "embeddings":
        return completions.embeddings(call.body, call.turn)
    return completions.answer(call.request_id, call.provider, call.body, call.turn, call.cost_usd)


def frames(call: Call) -> Iterable[bytes]:
    """The frames of the stream that answers a call."""
    if call.route == "messages":
        return messages.frames(call.request_id, call.body, call.turn)
    if call.route == "responses":
        return responses.frames(call.request_id, call.body, call.turn)
    return completions.frames(call.request_id, call.provider, call.body, call.turn, call.cost_usd)


class Endpoint:
    """One inference route of one provider."""

    def __init__(self, route: Route, provider: str) -> None:
        self.route, self.provider = route, provider

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Read, decide, put on the bill, answer."""
        ledger = request.app[LEDGER]
        request_id = _request_id(self.route, self.provider)
        raw = await request.read()
        try:
            body = json.loads(raw)
            model = body["model"]
            turn = read_turn(raw, body)
        except DirectiveError as error:
            return _failure(self.route, 400, request_id, str(error))
        except (ValueError, KeyError, TypeError, AttributeError):
            return _failure(self.route, 400, request_id, "the body is not a request with a model")
        if self.route == "embeddings":
            turn = replace(turn, tokens=replace(turn.tokens, output_tokens=0, reasoning_tokens=0))
        price = ledger.charge(self.provider, model, turn.tokens)
        call = Call(request_id, datetime.now(UTC), self.route, self.provider, body, turn, price)
        if turn.delay_ms:
            await asyncio.sleep(turn.delay_ms / 1000)
        status = 401 if _leaks(request) else turn.error
        if status is not None:
            ledger.write(call.line("error", status))
            return _failure(self.route, status, request_id)
        if call.stream:
            return await self._stream(request, call)
        if turn.cut is not None:
            ledger.write(call.line("cut"))
            _hang_up(request)
            return web.Response()
        ledger.write(call.line("answered" if _is_there(request) else "client_gone"))
        return web.json_response(answer(call), headers={"request-id": request_id, "x-request-id": request_id})

    async def _stream(self, request: web.Request, call: Call) -> web.StreamResponse:
        ledger, turn = request.app[LEDGER], call.turn
        out = web.StreamResponse(
            headers={
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-cache",
                "request-id": call.request_id,
                "x-request-id": call.request_id,
            }
        )
        await out.prepare(request)
        events = list(frames(call))
        outcome: Outcome = "client_gone"
        try:
            if turn.cut is not None:
                await _send(out, events[: turn.cut], turn.chunk_ms)
                outcome = "cut"
                _hang_up(request)
                return out
            # The bill is written before the last frame: whoever has read the answer to its end finds it there.
            await _send(out, events[:-1], turn.chunk_ms)
            outcome = "answered"
        finally:
            ledger.write(call.line(outcome))
        with contextlib.suppress(ConnectionResetError):  # gone after the last frame but one: it has its usage
            await out.write(events[-1])
            await out.write_eof()
        return out


async def _send(out: web.StreamResponse, events: list[bytes], chunk_ms: int) -> None:
    if not chunk_ms:
        await out.write(b"".join(events))
        return
    for event in events:
        await out.write(event)
        await asyncio.sleep(chunk_ms / 1000)


def _is_there(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


async def _count_tokens(request: web.Request) -> web.Response:
    return web.json_response({"input_tokens": prompt_tokens(await request.json())})


async def _compact(request: web.Request) -> web.Response:
    raw, request_id = await request.read(), _request_id("responses", "openai")
    body = json.loads(raw)
    turn, ledger = read_turn(raw, body), request.app[LEDGER]
    price = ledger.charge("openai", body["model"], turn.tokens)
    ledger.write(Call(request_id, datetime.now(UTC), "responses", "openai", body, turn, price).line("answered"))
    return web.json_response(responses.compaction(request_id, turn))


async def _models(request: web.Request) -> web.Response:
    data = [
        {"id": name, "object": "model", "type": "model", "display_name": name, "created": 0, "owned_by": owner}
        for name, owner in MODELS
    ]
    return web.json_response({"object": "list", "data": data, "has_more": False})


async def _bill(request: web.Request) -> web.Response:
    try:
        after = int(request.query.get("after", "0"))
    except ValueError:
        return web.json_response({"error": "after is a number of rows"}, status=400)
    return web.json_response(request.app[LEDGER].bill(max(0, after)))


async def _healthy(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def application(ledger: Ledger) -> web.Application:
    """The server, with this bill."""

    async def closed(_: web.Application) -> AsyncIterator[None]:
        yield
        ledger.close()

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[LEDGER] = ledger
    app.cleanup_ctx.append(closed)
    served: list[tuple[str, Route, str]] = [
        ("/v1/chat/completions", "chat_completions", "openai"),
        ("/v1/responses", "responses", "openai"),
        ("/v1/embeddings", "embeddings", "openai"),
        ("/v1/messages", "messages", "anthropic"),
        ("/openrouter/api/v1/chat/completions", "chat_completions", "openrouter"),
        ("/openrouter/api/v1/responses", "responses", "openrouter"),
        ("/moonshot/v1/chat/completions", "chat_completions", "moonshot"),
    ]
    for path, route, provider in served:
        app.router.add_post(path, Endpoint(route, provider).answer)
    app.router.add_post("/v1/messages/count_tokens", _count_tokens)
    app.router.add_post("/v1/responses/compact", _compact)
    for prefix in ("/v1", "/openrouter/api/v1", "/moonshot/v1"):
        app.router.add_get(f"{prefix}/models", _models)
    app.router.add_get("/bill", _bill)
    for path in ("/", "/healthz", "/api/hello"):
        app.router.add_get(path, _healthy)  # and HEAD, with which Claude Code begins
    return app


def main(argv: list[str] | None = None) -> Literal[0]:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local.provider", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--ledger", type=Path, help="a file that keeps the bill across runs")
    given = parser.parse_args(argv)
    import uvloop

    ledger = Ledger(given.ledger)
    web.run_app(
        application(ledger),
        host="127.0.0.1",
        port=given.port,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
