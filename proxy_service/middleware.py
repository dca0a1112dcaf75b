"""The way of a request: an open door or not, whose key, what may pass, on to LiteLLM, and the count.

Of LiteLLM's seven hundred routes, five can be reached. Everything else is answered here.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from governance import tools
from governance.events import Route
from governance.keys import KeyRecord
from proxy_service import auth, counting, gate_words, guard, powers, refusals
from proxy_service.asked import Asked
from proxy_service.auth import Holder, KeyCheck
from proxy_service.catalogue import Catalogue
from proxy_service.gatekeeper import Gatekeeper
from proxy_service.inflight import Desk
from proxy_service.network import Networks
from proxy_service.pace import Pace
from proxy_service.passage import JSON, App, BrokenOff, Headers, Left, Passage, Receive, Scope, Send, answer, whole_body
from proxy_service.refusals import Refusal, Refused, Words

log = logging.getLogger(__name__)

POST: Final[dict[str, tuple[str, Route | None]]] = {  # path -> (LiteLLM's own path, route of the event)
    "/v1/chat/completions": ("/v1/chat/completions", "chat_completions"),
    "/chat/completions": ("/v1/chat/completions", "chat_completions"),
    "/v1/messages": ("/v1/messages", "messages"),
    "/v1/messages/count_tokens": ("/v1/messages/count_tokens", None),
    "/v1/responses": ("/v1/responses", "responses"),
    "/responses": ("/v1/responses", "responses"),
    "/v1/embeddings": ("/v1/embeddings", "embeddings"),
    "/embeddings": ("/v1/embeddings", "embeddings"),
}
_MODELS: Final = ("/v1/models", "/models")
_OPEN: Final = frozenset({"/", "/api/hello", "/healthz", "/health/liveliness", "/health/liveness", "/health/readiness"})


class Gateway:
    """The ASGI application around LiteLLM's. One per process."""

    def __init__(
        self,
        app: App,
        check: KeyCheck,
        desk: Desk,
        catalogue: Catalogue,
        networks: Networks,
        pace: Pace,
        gate: Gatekeeper,
    ) -> None:
        self._app, self._check, self._desk, self._catalogue = app, check, desk, catalogue
        self._networks, self._pace, self._gate = networks, pace, gate
        self.turned_away = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's request; `lifespan` is main's."""
        if scope["type"] == "websocket":
            return await self._websocket(scope, receive, send)
        path, method = scope["path"], scope["method"]
        if path in _OPEN and method in ("GET", "HEAD"):
            return await answer(send, 200, b'{"status":"ok"}')
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        anthropic = path.startswith("/v1/messages") or "anthropic-version" in headers
        words: Words = "anthropic" if anthropic else "openai"
        target, route = POST.get(path, ("", None)) if method == "POST" else ("", None)
        holder = await self._holder(headers)
        if isinstance(holder, Refusal):
            self.turned_away += 1
            return await answer(send, holder.status, holder.body(words))
        asked = None
        if route is not None:
            asked = Asked(route, holder.record, tools.identify(headers), self._networks.of(scope))
        try:
            if why := auth.refusal(holder):
                raise Refused(Refusal(401, "key_ended", f"Refused: {why}."))
            if target:
                await self._infer(scope, receive, send, holder, asked, headers, target)
            elif method in ("GET", "HEAD") and path.startswith(_MODELS):
                await answer(send, 200, orjson.dumps(self._models(path, holder.record)))
            else:
                raise Refused(refusals.NOT_HERE)
        except Refused as refused:
            refusal = refused.refusal
            if asked is not None:
                asked.refused, asked.http_status = refusal.kind, refusal.status
                self._desk.open(asked)
                self._desk.ended(asked)
            await answer(send, refusal.status, refusal.body(words), refusal.headers)
        except Left:
            log.info("a caller left while writing its request")
        except BrokenOff:
            raise
        except Exception as error:  # ours, before the request went on: LiteLLM's failures are answered in the passage
            log.error("the gateway failed on a request", extra={"error": type(error).__name__})
            await answer(send, refusals.BROKEN.status, refusals.BROKEN.body(words))

    async def _holder(self, headers: dict[str, str]) -> Holder | Refusal:
        key = auth.presented(headers)
        if key is None:
            return refusals.NO_KEY
        try:
            return self._check.cached(key) or await self._check.holder(key) or refusals.UNKNOWN_KEY
        except auth.RegistrySilent:
            return refusals.SILENT

    def _models(self, path: str, record: KeyRecord) -> dict[str, Any]:
        name = path.partition("/models")[2].strip("/")
        if not name:
            return self._catalogue.listing(record.models)
        if refusal := self._catalogue.refusal(name) or powers.refusal(record, name, self._catalogue.provider(name), {}):
            raise Refused(refusal)
        return self._catalogue.entry(name)

    async def _infer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        holder: Holder,
        asked: Asked | None,
        headers: dict[str, str],
        target: str,
    ) -> None:
        if headers.get("content-encoding", "identity") != "identity":
            raise Refused(refusals.ENCODED)
        data = await whole_body(receive)
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise Refused(refusals.NOT_JSON) from None
        if asked is not None and isinstance(body, dict):
            model = body.get("model")
            asked.model, asked.stream = model if isinstance(model, str) else None, body.get("stream") is True
            asked.session_id = asked.caller.session_id or guard.session_in(body)
        passed = guard.check_body(body)
        if isinstance(passed, Refusal):
            raise Refused(passed)
        model = passed.body["model"]
        own_login = headers.get("authorization", "").startswith("Bearer sk-ant-oat")
        if (refusal := self._catalogue.refusal(model)) and not (
            own_login and refusal.kind == "provider_not_configured"
        ):
            raise Refused(refusal)
        provider = self._catalogue.provider(model)
        if refusal := powers.refusal(holder.record, model, provider, passed.body):
            raise Refused(refusal)
        if passed.ignored:
            data = orjson.dumps(passed.body)
        told: Headers = ()
        if asked is not None:
            asked.provider = provider
            subscribed = own_login and asked.route == "messages" and asked.provider == "anthropic"
            told = () if subscribed else self._within_budget(asked, model)
            if refusal := self._pace.refusal(holder.record):  # last: it counts what it lets through
                raise Refused(refusal)
            asked.prompt = counting.prompt_of(passed.body)
            self._desk.open(asked)
        inner = {
            **scope,
            "path": target,
            "raw_path": target.encode(),
            "query_string": b"",
            "headers": guard.check_headers(scope["headers"], asked.request_id if asked else None, len(data)),
            "parsed_body": (tuple(passed.body), passed.body),
        }
        words: Words = "anthropic" if target.startswith("/v1/messages") else "openai"
        passage = Passage(self._app, asked, passed.ignored, words, told)
        try:
            await passage.run(inner, receive, send, data, holder)
        finally:
            if asked is not None:
                self._desk.ended(asked)

    def _within_budget(self, asked: Asked, model: str) -> Headers:
        """Headers of the answer that tell how much is left. Raises Refused where nothing is."""
        verdict = self._gate.check(asked.record, model, asked.provider, asked.caller.family)
        if verdict.refused_by:
            raise Refused(gate_words.refusal(verdict, datetime.now(UTC), asked.route))
        return gate_words.headers(verdict, asked.route)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """No route is metered over a websocket, so there is none."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        holder = await self._holder(headers)
        refusal = holder if isinstance(holder, Refusal) else refusals.NOT_HERE
        await receive()
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            return await send({"type": "websocket.close", "code": 1008})
        start = {"type": "websocket.http.response.start", "status": refusal.status, "headers": [JSON]}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": refusal.body("openai")})
