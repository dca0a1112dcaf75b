"""The gateway's process: `uvicorn proxy_service.main:app`. LiteLLM inside, the middleware around it.

Settings are read before LiteLLM is imported, so that a missing one is said at once. Garbage is not collected while
LiteLLM's 2,800 modules are imported, and what they left is never looked at again: else each full collection stops the
world for half a second.
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import logging
import os
import secrets
from pathlib import Path
from typing import Any

from governance import logs, settings
from governance.registry import open_registry

gc.disable()
SETTINGS = settings.load(settings.ProxySettings)
CONFIG = Path(__file__).parent / "config.yaml"

# Ids of responses are sealed with this, so that nobody continues another's: the same in every instance, after restarts.
_SALT = hmac.digest(SETTINGS.key_pepper.get_secret_value().encode(), b"ids of responses", "sha256").hex()

# LiteLLM's own switches; whoever sets one outside wins.
for _name, _value in {
    "CONFIG_FILE_PATH": str(CONFIG),
    "LITELLM_MASTER_KEY": f"sk-{secrets.token_hex(24)}",  # nobody's: custom_auth lets no one in by it
    "LITELLM_SALT_KEY": _SALT,
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # prices change with a deploy, not with GitHub
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "NO_DOCS": "True",
    "NO_REDOC": "True",
    "DISABLE_ADMIN_UI": "True",
}.items():
    os.environ.setdefault(_name, _value)

import litellm  # noqa: E402
import yaml  # noqa: E402
from litellm.proxy.hooks import PROXY_HOOKS  # noqa: E402
from litellm.proxy.proxy_server import app as litellm_app  # noqa: E402

from proxy_service import counting, middleware, tuning, wire  # noqa: E402
from proxy_service.auth import KeyCheck  # noqa: E402
from proxy_service.callback import handler  # noqa: E402
from proxy_service.catalogue import Catalogue, Homes, offers  # noqa: E402
from proxy_service.gate_prices import open_book  # noqa: E402
from proxy_service.gatekeeper import Gatekeeper  # noqa: E402
from proxy_service.heartbeat import Heartbeat  # noqa: E402
from proxy_service.inflight import Desk  # noqa: E402
from proxy_service.middleware import Gateway  # noqa: E402
from proxy_service.network import Networks  # noqa: E402
from proxy_service.pace import Pace  # noqa: E402
from proxy_service.passage import Message, Receive, Scope, Send  # noqa: E402
from proxy_service.publisher import EventPublisher  # noqa: E402

log = logging.getLogger(__name__)
# From SIGTERM a cloud leaves ten seconds: uvicorn gives eight of them to the answers under way.
_DRAIN_S, _PUBLISH_S, _REPORT_S = 0.4, 1.2, 60.0
_BUDGETS_S = 2.0  # a registry that is silent at the start does not keep the gateway from starting
_OURS = ("proxy_service", "governance", "uvicorn")


class Discreet(logging.Filter):
    """Leaves of other people's records only the place: LiteLLM and the providers put prompts into error texts."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always lets the record through, shortened where it is not ours."""
        if not record.name.startswith(_OURS):
            error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
            record.msg, record.args = f"{record.module}:{record.lineno}" + (f" {error}" if error else ""), ()
            record.exc_info = record.exc_text = record.stack_info = None
            for name in [n for n in record.__dict__ if n.startswith("litellm")]:
                del record.__dict__[name]
        return True


def start_logs(level: str) -> None:
    """JSON lines for every logger of the process, LiteLLM's included."""
    logs.start(logging.getLevelNamesMapping()[level])
    for handler_ in logging.getLogger().handlers:
        handler_.addFilter(Discreet())
    for name in ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.ERROR)


class Application:
    """The gateway with its lifespan: starts after LiteLLM, stops before it."""

    def __init__(self) -> None:
        self.desk = Desk(SETTINGS.close_grace_s)
        pepper, registry = SETTINGS.key_pepper.get_secret_value(), open_registry(SETTINGS.registry)
        self.check = KeyCheck(
            registry,
            pepper,
            SETTINGS.key_cache_ttl_s,
            SETTINGS.key_stale_s,
        )
        model_list = yaml.safe_load(Path(os.environ["CONFIG_FILE_PATH"]).read_text())["model_list"]
        self.gate = Gatekeeper(registry, open_book(SETTINGS.policy_dir), SETTINGS.gate_poll_s)
        pace = Pace()
        self.desk.watchers.append(lambda asked, events: pace.spent(asked.record, events))
        self.desk.watchers.append(self.gate.saw_all)
        self.gateway = Gateway(
            litellm_app,
            self.check,
            self.desk,
            Catalogue(offers(model_list, os.environ), litellm.model_cost),
            Networks(pepper, SETTINGS.forwarded_hops),
            pace,
            self.gate,
        )
        self._publisher: EventPublisher | None = None
        self.heartbeat = Heartbeat(registry, lambda: self.desk.last_event_at)
        self._beside: list[asyncio.Task[None]] = []
        handler.desk = self.desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "lifespan":
            return await self.gateway(scope, receive, send)

        async def inwards() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._stop()
            return message

        async def outwards(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._start()
                await asyncio.to_thread(self.gate.wait, _BUDGETS_S)
            await send(message)

        await litellm_app(scope, inwards, outwards)

    def _start(self) -> None:
        start_logs(SETTINGS.log_level)  # again: LiteLLM sets its loggers while it starts
        self._publisher = self.desk.publisher = EventPublisher(SETTINGS.topic, SETTINGS.spill)
        self._beside = [asyncio.create_task(self._report()), asyncio.create_task(self.heartbeat.run())]
        self.gate.start()
        tuning.settle_garbage()

    async def _stop(self) -> None:
        """Close what is under way, and see every event off."""
        for task in self._beside:
            task.cancel()
        await self.desk.drain(_DRAIN_S)
        if self._publisher is not None:
            await asyncio.to_thread(self._publisher.close, _PUBLISH_S)
        self.check.close()
        self.gate.close()
        log.info("gateway stopped", extra=self._figures())

    def _figures(self) -> dict[str, Any]:
        return {
            "requests": self.desk.opened,
            "events": self.desk.published,
            "unaccounted": self.desk.unaccounted,
            "failures": self.desk.failures + handler.failures + self.gate.failures,
            "turned_away": self.gateway.turned_away,
            "key_lookups": self.check.lookups,
            "key_stale": self.check.stale,
            "heartbeat_failures": self.heartbeat.failures,
        }

    async def _report(self) -> None:
        """A line of figures each minute in which there was anything."""
        before: dict[str, Any] = self._figures()
        while True:
            await asyncio.sleep(_REPORT_S)
            now = self._figures()
            if now != before:
                log.info("gateway", extra=now)
                before = now


start_logs(SETTINGS.log_level)
wire.install(Homes(os.environ).provider_at)
counting.warm()
tuning.leave_out_hooks(PROXY_HOOKS)
tuning.put_first(litellm_app, {path for path, _ in middleware.POST.values()})
app = Application()
