"""Who is let in at all: every page, asset and websocket passes here first."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from governance.settings import DashboardSettings
from streamlit_app.identity import HEADER, NotAllowed, Verifier

log = logging.getLogger("tally.dashboard")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH = "/_stcore/health"  # a platform's probe comes past IAP; it learns "ok" and nothing else
_REFUSED = b"403: Tally cannot tell who you are. Open it through its own address, behind the sign-in."


class Door:
    """In the cloud: only with a valid IAP assertion. On a laptop, where the viewer is merely chosen: only from here."""

    def __init__(self, app: App, settings: DashboardSettings) -> None:
        self._app = app
        audience = settings.iap_audience
        self._verifier = None if audience is None else Verifier(audience, settings.iap_certs_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] == HEALTH):
            await self._app(scope, receive, send)
            return
        why = await self._why_not(scope)
        if why is None:
            await self._app(scope, receive, send)
            return
        log.warning("refused at the door", extra={"reason": why, "kind": scope["type"]})
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: a 403
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": _REFUSED})

    async def _why_not(self, scope: Scope) -> str | None:
        if self._verifier is None:
            return None if _from_here(scope) else "another machine, and the viewer is not proven"
        given = [value for name, value in scope["headers"] if name.lower() == HEADER.encode()]
        if len(given) != 1:
            return f"{len(given)} assertions"
        try:
            await asyncio.to_thread(self._verifier.check, given[0].decode("latin-1"))
        except NotAllowed as refusal:
            return str(refusal)
        return None


def _from_here(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
