"""What the provider really answered: the bytes between LiteLLM and the provider, read as they pass.

LiteLLM puts figures of its own where a provider sends no usage, and nothing marks them; and for some answers that a
caller leaves it reports nothing at all. What passed over the wire does not lie about either. Each call that LiteLLM
makes on behalf of a request under way is attached to that request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, Protocol

import httpx

from proxy_service.answers import Answer

log = logging.getLogger(__name__)
_SUBSCRIPTION = "Bearer sk-ant-oat"  # a person's own Anthropic login

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

    async def __aiter__(self) -> AsyncIterator[bytes]:
        answer = self._answer
        try:
            async for data in self._body:
                try:
                    answer.feed(data)
                except Exception as error:  # ours to lose, never the caller's
                    log.error("an answer cannot be read", extra={"error": type(error).__name__})
                yield data
            _end(answer, whole=True)
        finally:
            _end(answer, whole=False)

    async def aclose(self) -> None:
        _end(self._answer, whole=False)
        await self._body.aclose()


def _end(answer: Answer, whole: bool) -> None:
    if answer.open:
        try:
            answer.end("whole" if whole else "broken")
        except Exception as error:
            answer.state = "broken"
            log.error("an answer cannot be read", extra={"error": type(error).__name__})


def tapped(send: Send) -> Send:
    """A transport's `handle_async_request` that attaches each call to the request on whose behalf it is made."""

    @wraps(send)
    async def handle_async_request(transport: Any, request: httpx.Request) -> httpx.Response:
        asking = ASKING.get()
        if asking is None or request.method != "POST":
            return await send(transport, request)
        request.headers["accept-encoding"] = "gzip, deflate"  # what Answer can read
        answer = Answer(request.url.host, request.headers.get("authorization", "").startswith(_SUBSCRIPTION))
        asking.answers.append(answer)
        try:
            response = await send(transport, request)
        except asyncio.CancelledError:  # sent, and left before the answer: the provider may well have read it
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
            response.stream = _Tapped(response.stream, answer)
        return response

    return handle_async_request


def install() -> None:
    """Tap the one transport that LiteLLM sends everything through. Call once, before the first request.

    Raises RuntimeError where LiteLLM is set to use another one: what it sends would go by unread.
    """
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    if not AsyncHTTPHandler.should_use_aiohttp_transport():
        raise RuntimeError("LiteLLM is set to another transport (DISABLE_AIOHTTP_TRANSPORT, LITELLM_HTTP2): unset it")
    # The class is patched, not replaced: LiteLLM makes its transports in several places and asks for their class.
    setattr(LiteLLMAiohttpTransport, "handle_async_request", tapped(LiteLLMAiohttpTransport.handle_async_request))  # noqa: B010
