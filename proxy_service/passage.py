"""One request's stay inside LiteLLM: its body read and handed in, its answer watched as it goes out."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from proxy_service import refusals
from proxy_service.answers import LAST_EVENTS
from proxy_service.asked import Asked
from proxy_service.auth import HOLDER, Holder
from proxy_service.refusals import Refused, Words
from proxy_service.wire import ASKING

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

MAX_BODY_BYTES = 64 << 20
JSON: Final = (b"content-type", b"application/json")
_HIDDEN: Final = (b"x-litellm-", b"llm_provider-")  # of an answer's headers: addresses and figures of the gateway's own
# The last event of a stream, at the beginning of a line: agents hang up as soon as they have read it.
_LAST_EVENT: Final = re.compile(
    rb'^(?:event: ?|data: ?\{"type": ?")(?:%b)\b|^data: ?\[DONE\]' % "|".join(map(re.escape, LAST_EVENTS)).encode(),
    re.MULTILINE,
)


class BrokenOff(RuntimeError):
    """An answer that had begun cannot be finished; the server closes the connection."""


class Left(Exception):
    """The caller went away while still writing."""


class Passage:
    """One request's stay in LiteLLM: its body handed in, its answer watched as it goes out."""

    def __init__(
        self, app: App, asked: Asked | None, ignored: tuple[str, ...], words: Words, headers: Headers = ()
    ) -> None:
        self._app, self._asked, self._ignored, self._words, self._headers = app, asked, ignored, words, headers
        self._started = self._finished = False

    async def run(self, scope: Scope, receive: Receive, send: Send, data: bytes, holder: Holder) -> None:
        """Returns when the answer has gone out; the answer to a failure of LiteLLM is ours."""
        gone, unread = asyncio.Event(), True

        async def watch() -> None:
            await receive()  # the body is read: what comes now is the caller's going, or the end
            if self._asked is not None and not self._finished:
                self._asked.left = True
            gone.set()

        async def replay() -> Message:
            nonlocal unread
            if unread:
                unread = False
                return {"type": "http.request", "body": data, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def outwards(message: Message) -> None:
            self._seen(message)
            await send(message)

        watcher = asyncio.create_task(watch())
        held, asking = HOLDER.set(holder), ASKING.set(self._asked)
        try:
            await self._app(scope, replay, outwards)
        except Exception as error:
            self._failed(type(error).__name__)
            log.error("LiteLLM failed on a request", extra={"error": type(error).__name__})
            if self._started:
                raise BrokenOff("the answer cannot be finished") from None
            await answer(outwards, refusals.BROKEN.status, refusals.BROKEN.body(self._words))
        except asyncio.CancelledError:
            self._failed("GatewayStopped")
            raise
        finally:
            HOLDER.reset(held)
            ASKING.reset(asking)
            watcher.cancel()

    def _failed(self, error_class: str) -> None:
        if self._asked is not None:
            self._asked.error_class = error_class

    def _status(self, status: int) -> int:
        """The provider's own status of a failure: of a 529, which tells agents to wait, LiteLLM makes a 500."""
        last = self._asked.answers[-1].status if self._asked is not None and self._asked.answers else None
        return last if last is not None and last >= 500 and status >= 500 else status

    def _seen(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            kept = [header for header in message["headers"] if not header[0].lower().startswith(_HIDDEN)]
            if self._asked is not None:
                self._asked.http_status = message["status"] = self._status(message["status"])
                kept.append((b"x-request-id", self._asked.request_id.encode()))
            if self._ignored:
                kept.append((b"x-tally-ignored", ", ".join(self._ignored).encode("ascii", "replace")))
            message["headers"] = [*kept, *self._headers]
        elif message["type"] == "http.response.body":
            if message.get("body") and self._asked is not None and self._asked.first_byte_s is None:
                self._asked.first_byte_s = time.monotonic()
            last = not message.get("more_body", False) or _LAST_EVENT.search(message.get("body", b"")) is not None
            self._finished = self._finished or last


async def whole_body(receive: Receive) -> bytes:
    """The request's body. Raises Refused when it is too large."""
    message = await receive()
    if not message.get("more_body") and message["type"] == "http.request":
        return bytes(message.get("body", b""))
    parts, size = [], 0
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise Refused(refusals.TOO_LARGE)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    raise Left


async def answer(send: Send, status: int, body: bytes, more: Headers = ()) -> None:
    """A short JSON answer of our own, with `more` headers."""
    headers = [JSON, (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
