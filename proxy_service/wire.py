"""What the provider really answered: the bytes between LiteLLM and the provider, read as they pass.

LiteLLM puts figures of its own where a provider sends no usage, and nothing marks them; and for some answers that a
caller leaves it reports nothing at all. What passed over the wire does not lie about either. Each call that LiteLLM
makes on behalf of a request under way is attached to that request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import wraps
from typing import Any, Protocol

import httpx

from proxy_service.answers import Answer

log = logging.getLogger(__name__)
_REST_S = 0.1  # for what a provider has sent and nobody has read
_REST_PIECES = 64  # of 16 kB; more is not kept of a connection that is not read
_SUBSCRIPTION = "Bearer sk-ant-oat"  # a person's own Anthropic login

# What ends a call after the request has gone out. A connection that is not had at all is another matter.
_SENT = (asyncio.CancelledError, httpx.ReadError, httpx.ReadTimeout)

Send = Callable[[Any, httpx.Request], Awaitable[httpx.Response]]


class Asking(Protocol):
    """A request under way, as far as the wire is concerned."""

    answers: list[Answer]


# Set by the middleware for the time of one inference request; LiteLLM's own tasks inherit it.
ASKING: ContextVar[Asking | None] = ContextVar("asking", default=None)


class _Tapped(httpx.AsyncByteStream):
    """A body that an Answer reads along with its real reader."""

    def __init__(self, body: httpx.AsyncByteStream, answer: Answer) -> None:
        self._body, self._answer = body, answer
        self._pieces = aiter(body)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        answer = self._answer
        try:
            answer.awaited = True
            async for data in self._pieces:
                answer.awaited = False
                self._feed(data)
                yield data
                answer.awaited = True
            _end(answer, whole=True)
        finally:
            await self._let_go(0)

    def _feed(self, data: bytes) -> None:
        try:
            self._answer.feed(data)
        except Exception as error:  # ours to lose, never the caller's
            log.error("an answer cannot be read", extra={"error": type(error).__name__})

    async def _let_go(self, patience_s: float) -> None:
        """End the connection, after taking what has come and was not read: the provider charges for it."""
        self._answer.hang_up = None
        if not isinstance(self._pieces, AsyncGenerator):
            return _end(self._answer, whole=False)
        try:
            if self._answer.open and not self._answer.awaited:  # else the body itself ended in an error
                async with asyncio.timeout(patience_s):
                    for _ in range(_REST_PIECES):
                        self._feed(await anext(self._pieces))
        except StopAsyncIteration:
            _end(self._answer, whole=True)
        except (TimeoutError, httpx.HTTPError, RuntimeError):  # nothing more has come; or its reader came back just now
            pass
        finally:
            _end(self._answer, whole=False)
            with suppress(RuntimeError):
                await self._pieces.aclose()

    async def hang_up(self) -> None:
        """In place of a reader that does not come again."""
        await self._let_go(_REST_S)

    async def aclose(self) -> None:
        await self._let_go(0)
        await self._body.aclose()


def _end(answer: Answer, whole: bool) -> None:
    if answer.open:
        try:
            answer.end("whole" if whole else "broken")
        except Exception as error:
            answer.state = "broken"
            log.error("an answer cannot be read", extra={"error": type(error).__name__})


def _unknown(url: str) -> None:
    """No provider is known by its address."""


def tapped(send: Send, provider_at: Callable[[str], str | None] = _unknown) -> Send:
    """A transport's `handle_async_request` that attaches each call to the request on whose behalf it is made."""

    @wraps(send)
    async def handle_async_request(transport: Any, request: httpx.Request) -> httpx.Response:
        asking = ASKING.get()
        if asking is None or request.method != "POST":
            return await send(transport, request)
        request.headers["accept-encoding"] = "gzip, deflate"  # what Answer can read
        own_login = request.headers.get("authorization", "").startswith(_SUBSCRIPTION)
        answer = Answer(request.url.host, own_login, provider_at(str(request.url)))
        asking.answers.append(answer)
        try:
            response = await send(transport, request)
        except _SENT:  # and left before the answer: the provider may well have read it, and charge for it
            answer.state = "broken"
            raise
        except BaseException:
            answer.state = "failed"
            raise
        answer.begin(
            response.status_code,
            response.headers.get("content-type", ""),
            response.headers.get("content-encoding", ""),
        )
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = tap = _Tapped(response.stream, answer)
            answer.hang_up = tap.hang_up
        return response

    return handle_async_request


def install(provider_at: Callable[[str], str | None] = _unknown) -> None:
    """Tap the one transport that LiteLLM sends everything through. Call once, before the first request.

    Raises RuntimeError where LiteLLM is set to use another one: what it sends would go by unread.
    """
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    if not AsyncHTTPHandler.should_use_aiohttp_transport():
        raise RuntimeError("LiteLLM is set to another transport (DISABLE_AIOHTTP_TRANSPORT, LITELLM_HTTP2): unset it")
    # The class is patched, not replaced: LiteLLM makes its transports in several places and asks for their class.
    tap = tapped(LiteLLMAiohttpTransport.handle_async_request, provider_at)
    setattr(LiteLLMAiohttpTransport, "handle_async_request", tap)  # noqa: B010
