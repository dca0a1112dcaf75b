"""A simulated provider: OpenAI, Anthropic, OpenRouter and Moonshot on one port, with a bill of its own.

    python -m local.provider --port 9100 [--ledger .tally/bill.jsonl] [--policy policy]

OpenAI and Anthropic answer below `/v1`, OpenRouter below `/openrouter/api/v1`, Moonshot below `/moonshot/v1`. What an
answer looks like is the request's choice (local/wire/directive.py). `GET /bill` gives a row per request; `?after=1000`
leaves out the first thousand; `POST /bill` adds the company's past (local/billed_history.py). Neither prompts nor
answers are kept. A Tally key that reaches a provider is a leak: 401.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

from aiohttp import web

from governance.events import Route
from governance.keys import PREFIX
from governance.policy import read_policy
from local import billing
from local.call import Call, Said, Stumbles, answer, frames
from local.ledger import Ledger, Outcome, prices_of
from local.wire import completions, messages, models, responses
from local.wire.directive import DirectiveError, read_turn
from local.wire.tokenizer import prompt_tokens
from local.wire.turn import Frame, Turn

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
RETRY_AFTER_S: Final = "1"
_PREFIX: Final[dict[Route, str]] = {
    "chat_completions": "chatcmpl-",
    "messages": "msg_",
    "responses": "resp_",
    "embeddings": "emb-",
}
LEDGER: Final = web.AppKey("ledger", Ledger)
STUMBLES: Final = web.AppKey("stumbles", Stumbles)
_SERIES: Final = secrets.token_hex(5)
_NUMBER: Final = itertools.count(1)


def _request_id(route: Route, provider: str) -> str:
    prefix = "gen-" if provider == "openrouter" else _PREFIX[route]
    return f"{prefix}{_SERIES}{next(_NUMBER):014x}"


def _failure(route: Route, status: int, request_id: str, what: str = "") -> web.Response:
    told = messages.error(status, request_id, what) if route == "messages" else completions.error(status, what)
    headers = {"request-id" if route == "messages" else "x-request-id": request_id}
    if status in (429, 503, 529):
        headers["retry-after"] = RETRY_AFTER_S
    return web.json_response(told, status=status, headers=headers)


def _key(request: web.Request) -> str:
    """The provider key of a request; empty without one."""
    return request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")


def _leaks(request: web.Request) -> bool:
    return any(PREFIX in value for value in request.headers.values())


class Endpoint:
    """One inference route of one provider."""

    def __init__(self, route: Route, provider: str) -> None:
        self.route, self.provider = route, provider

    def _turn(self, raw: bytes, body: Mapping[str, Any]) -> Turn:
        """The answer, as this route of this provider can give it. Raises DirectiveError."""
        turn = read_turn(raw, body)
        if self.route == "embeddings":
            turn = replace(turn, tokens=replace(turn.tokens, output_tokens=0, reasoning_tokens=0))
        if self.provider != "anthropic":
            turn = replace(turn, tokens=turn.tokens.one_cache(), terms=replace(turn.terms, residency=""))
        if self.provider in ("openrouter", "moonshot"):
            turn = replace(turn, terms=replace(turn.terms, service_tier="standard"))
        untold = self.route == "embeddings" or (self.route == "chat_completions" and self.provider != "openrouter")
        if turn.terms.web_searches and untold:
            raise DirectiveError("no searches here: this route would not tell them")
        return turn

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Read, decide, put on the bill, answer."""
        ledger = request.app[LEDGER]
        request_id = _request_id(self.route, self.provider)
        raw = await request.read()
        try:
            body = json.loads(raw)
            model = body["model"]
            turn = self._turn(raw, body)
        except DirectiveError as error:
            return _failure(self.route, 400, request_id, str(error))
        except (ValueError, KeyError, TypeError, AttributeError):
            return _failure(self.route, 400, request_id, "the body is not a request with a model")
        if not isinstance(model, str):
            return _failure(self.route, 400, request_id, "a model has a name")
        payer = ledger.payer(_key(request))
        call = Call(request_id, datetime.now(UTC), self.route, self.provider, body, turn, payer)
        if turn.delay_ms:
            await asyncio.sleep(turn.delay_ms / 1000)
        status = 401 if _leaks(request) else request.app[STUMBLES].status(raw, turn)
        if status is not None:
            ledger.write(call.line(ledger, "error", status))
            return _failure(self.route, status, request_id)
        if call.stream:
            return await self._stream(request, call)
        if turn.cut is not None:
            ledger.write(call.line(ledger, "cut"))
            _hang_up(request)
            return web.Response()
        line = call.line(ledger, "answered" if _is_there(request) else "client_gone")
        ledger.write(line)
        headers = {"request-id": request_id, "x-request-id": request_id}
        return web.json_response(answer(call, line.cost_usd), headers=headers)

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
        said, events = Said(), list[Frame]()
        outcome: Outcome = "client_gone"
        try:
            await out.prepare(request)
            events = list(frames(call, call.cost_usd(ledger, turn.tokens)))
            if turn.cut is not None:
                await said.send(out, events[: turn.cut], turn.chunk_ms)
                outcome = "cut"
                _hang_up(request)
                return out
            # The bill is written before the last frame: whoever has read the answer to its end finds it there.
            await said.send(out, events[:-1], turn.chunk_ms)
            outcome = "answered"
        finally:
            ledger.write(call.line(ledger, outcome, said_tokens=None if outcome == "answered" else said.tokens))
        with contextlib.suppress(ConnectionResetError):  # gone after the last frame but one: it has its usage
            await out.write(events[-1].data)
            await out.write_eof()
        return out


def _is_there(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


async def _count_tokens(request: web.Request) -> web.Response:
    return web.json_response({"input_tokens": prompt_tokens(await request.json())})


async def _compact(request: web.Request) -> web.Response:
    raw, request_id = await request.read(), _request_id("responses", "openai")
    body, ledger = json.loads(raw), request.app[LEDGER]
    turn, payer = read_turn(raw, body), ledger.payer(_key(request))
    call = Call(request_id, datetime.now(UTC), "responses", "openai", body, turn, payer)
    ledger.write(call.line(ledger, "answered"))
    return web.json_response(responses.compaction(request_id, turn))


async def _models(request: web.Request) -> web.Response:
    return web.json_response(models.listing())


async def _routed_models(request: web.Request) -> web.Response:
    def listed(slug: str) -> Mapping[str, Decimal]:
        return request.app[LEDGER].price_list("openrouter", slug, datetime.now(UTC).date(), "standard", "", 0)

    return web.json_response(models.routed(listed))


async def _bill(request: web.Request) -> web.Response:
    try:
        after = int(request.query.get("after", "0"))
    except ValueError:
        return web.json_response({"error": "after is a number of rows"}, status=400)
    return web.json_response(request.app[LEDGER].bill(max(0, after)))


async def _bill_history(request: web.Request) -> web.Response:
    """Rows for the past of the synthetic company; those that are there already stay as they are."""
    rows = await request.json()
    return web.json_response({"added": request.app[LEDGER].add(rows)})


async def _healthy(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def application(ledger: Ledger) -> web.Application:
    """The server, with this bill."""

    async def closed(_: web.Application) -> AsyncIterator[None]:
        yield
        ledger.close()

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[LEDGER] = ledger
    app[STUMBLES] = Stumbles()
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
    for prefix in ("/v1", "/moonshot/v1"):
        app.router.add_get(f"{prefix}/models", _models)
    app.router.add_get("/openrouter/api/v1/models", _routed_models)
    app.router.add_get("/bill", _bill)
    app.router.add_post("/bill", _bill_history)
    billing.routes(app, ledger)
    for path in ("/", "/healthz", "/api/hello"):
        app.router.add_get(path, _healthy)  # and HEAD, with which Claude Code begins
    return app


def main(argv: list[str] | None = None) -> Literal[0]:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local.provider", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--ledger", type=Path, help="a file that keeps the bill across runs")
    parser.add_argument("--policy", type=Path, help="where the company's contract is; without it the list is paid")
    given = parser.parse_args(argv)
    import uvloop

    contract = read_policy(given.policy).contract if given.policy else None
    ledger = Ledger(given.ledger, prices_of("contract", contract))
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
