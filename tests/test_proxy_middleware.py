"""The middleware around an application that is not LiteLLM: what it does when the inside, or its own books, fail."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from governance import prices
from governance.events import UsageEvent
from governance.registry import SqliteRegistry
from proxy_service import auth, guard, settlement
from proxy_service.auth import KeyCheck
from proxy_service.catalogue import Catalogue, Offer
from proxy_service.gatekeeper import Gatekeeper
from proxy_service.inflight import Desk
from proxy_service.middleware import Gateway
from proxy_service.network import Networks
from proxy_service.pace import Pace
from proxy_service.passage import BrokenOff, Message, Receive, Scope, Send
from proxy_service.refusals import Refusal, Refused
from proxy_service.wire import ASKING
from tests.test_proxy_inflight import FakePublisher, until
from tests.test_proxy_keys import FakeRegistry

with warnings.catch_warnings():  # LiteLLM's own, while it is imported
    warnings.simplefilter("ignore")
    guard.forbidden()

BODY = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "hi"}]}


class Inside:
    """Stands where LiteLLM stands; does what the test says."""

    def __init__(self) -> None:
        self.fails_before = self.fails_after = False
        self.scope: Scope = {}
        self.body = b""
        self.holder: auth.Holder | None = None
        self.waits: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.holder = scope, auth.HOLDER.get()
        self.body = (await receive())["body"]
        if self.waits:
            await self.waits.wait()
        if self.fails_before:
            raise ValueError("with a prompt in it")
        headers = [(b"content-type", b"application/json"), (b"x-litellm-model-api-base", b"http://inside")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        if self.fails_after:
            raise ValueError("with a prompt in it")
        await send({"type": "http.response.body", "body": b"}"})


class House:
    def __init__(self) -> None:
        self.inside, self.registry, self.publisher = Inside(), FakeRegistry(), FakePublisher()
        self.desk = Desk(0.05)
        self.desk.publisher = self.publisher
        check = KeyCheck(self.registry, "pepper", ttl_s=3, stale_s=300)
        self.pace = Pace()
        self.desk.watchers.append(lambda asked, events: self.pace.spent(asked.record, events))
        catalogue = Catalogue([Offer("gpt-*", "openai/gpt-*", True)], {})
        gate = Gatekeeper(self.registry, prices.book(), 2.0)
        networks = Networks("pepper", 0)
        self.gateway = Gateway(self.inside, check, self.desk, catalogue, networks, self.pace, gate)
        self.key = self.registry.add()
        transport = httpx.ASGITransport(self.gateway, raise_app_exceptions=True)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def post(self, path: str = "/v1/chat/completions", body: Any = BODY) -> httpx.Response:
        return await self.client.post(path, json=body, headers={"authorization": f"Bearer {self.key}"})

    async def event(self) -> UsageEvent:
        await until(lambda: self.publisher.events)
        assert len(self.publisher.events) == 1
        return self.publisher.events[0]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    yield made
    await made.client.aclose()


async def test_the_inside_sees_no_key_and_the_outside_no_address(house: House) -> None:
    response = await house.post()
    assert response.json() == {}
    assert "x-litellm-model-api-base" not in response.headers
    headers = dict(house.inside.scope["headers"])
    assert house.key.encode() not in headers.values()
    assert headers[b"x-litellm-call-id"].decode() == response.headers["x-request-id"]
    assert house.inside.holder is not None
    assert house.inside.holder.record.person == "ada@example.com"
    assert auth.HOLDER.get() is None
    assert ASKING.get() is None
    assert (await house.event()).status == "ok"


async def test_what_is_left_out_is_out_of_the_bytes_too(house: House) -> None:
    response = await house.post(body=BODY | {"no-log": True, "num_retries": 9})
    assert json.loads(house.inside.body) == BODY
    assert house.inside.scope["parsed_body"] == (("model", "messages"), BODY)
    assert dict(house.inside.scope["headers"])[b"content-length"].decode() == str(len(house.inside.body))
    assert response.headers["x-tally-ignored"] == "no-log, num_retries"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_failure_inside_is_answered_in_the_routes_words_without_its_text(house: House, path: str) -> None:
    house.inside.fails_before = True
    response = await house.post(path)
    assert response.status_code == 500
    assert ("type" in response.json()) == (path == "/v1/messages")
    assert "prompt" not in response.text
    event = await house.event()
    assert (event.status, event.error_class, event.usage_source) == ("error", "ValueError", "none")


async def test_an_answer_that_fails_half_way_is_broken_off(house: House) -> None:
    house.inside.fails_after = True
    with pytest.raises(BrokenOff, match="cannot be finished"):
        await house.post()
    assert (await house.event()).status == "error"


@pytest.mark.parametrize("broken", ["status_of", "is_complete", "must_be_counted", "events"])
async def test_a_failure_of_our_own_books_never_reaches_the_caller(
    house: House, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(settlement, broken, fails)
    response = await house.post()
    assert response.status_code == 200
    await until(lambda: house.desk.failures)
    assert not house.desk._under_way


async def test_a_failure_of_our_own_before_the_request_goes_on_is_answered_in_words(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("with a prompt in it")

    monkeypatch.setattr(guard, "check_body", fails)
    response = await house.post("/v1/messages")
    assert response.status_code == 500
    assert response.json()["type"] == "error"
    assert "prompt" not in response.text


async def test_a_silent_registry_is_a_503_for_strangers_and_nothing_to_those_who_are_known(house: House) -> None:
    assert (await house.post()).status_code == 200
    house.registry.silent = True
    assert (await house.post()).status_code == 200
    house.key = house.registry.add()
    response = await house.post()
    assert response.status_code == 503
    assert "Try again" in response.json()["error"]["message"]


async def test_a_caller_who_leaves_is_seen_leaving_also_without_a_stream(house: House) -> None:
    house.inside.waits = asyncio.Event()
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    inbox.put_nowait({"type": "http.request", "body": json.dumps(BODY).encode(), "more_body": False})

    async def nowhere(message: Message) -> None:
        return None

    scope = {
        "type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"",
        "headers": [(b"authorization", f"Bearer {house.key}".encode())],
    }  # fmt: skip
    request = asyncio.create_task(house.gateway(scope, inbox.get, nowhere))
    await until(lambda: house.inside.body)
    inbox.put_nowait({"type": "http.disconnect"})
    await until(inbox.empty)
    await asyncio.sleep(0)
    house.inside.waits.set()
    await request
    event = await house.event()
    assert (event.status, event.error_class) == ("aborted", "ClientDisconnected")


async def test_a_request_without_end_is_not_swallowed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy_service.passage.MAX_BODY_BYTES", 1000)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    headers = {"authorization": f"Bearer {house.key}"}
    response = await house.client.post("/v1/responses", content=endless(), headers=headers)
    assert response.status_code == 413
    assert (await house.event()).status == "refused"


async def test_whoever_is_over_budget_is_told_so_before_they_are_told_to_wait(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait of seconds, told to somebody who has to wait for days, would send an agent round and round."""
    over = Refusal(429, "budget_used_up", "over")
    monkeypatch.setattr(Gateway, "_within_budget", lambda *_: (_ for _ in ()).throw(Refused(over)))
    house.key = house.registry.add(requests_per_minute=1)
    for _ in range(3):
        assert (await house.post()).json()["error"]["code"] == "budget_used_up"
    monkeypatch.setattr(Gateway, "_within_budget", lambda *_: ())
    assert [(await house.post()).status_code for _ in range(2)] == [200, 429]


def test_a_real_registry_is_what_the_check_expects(tmp_path: Any) -> None:
    KeyCheck(SqliteRegistry(tmp_path / "registry.db"), "pepper", 3, 300).close()
