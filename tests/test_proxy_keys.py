"""The key cache: how often the registry is asked, and what an outage and a revocation do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from governance import keys
from governance.registry import ANY, Document, RegistryError
from proxy_service import auth
from proxy_service.auth import KeyCheck, RegistrySilent

PEPPER = "pepper"


class FakeRegistry:
    """A registry that counts its questions, and can be made slow or silent."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.questions = 0
        self.silent = False
        self.answer_after = threading.Event()
        self.answer_after.set()

    def add(self, **fields: Any) -> str:
        key = keys.make()
        hashed, record = keys.new_record(key, PEPPER, person="ada@example.com", team="research")
        self.documents[hashed] = record.document() | fields
        return key

    def get(self, collection: str, id: str) -> Document | None:
        self.questions += 1
        self.answer_after.wait(10)
        if self.silent:
            raise RegistryError("silent")
        fields = self.documents.get(id)
        return Document(id, dict(fields), "1") if fields else None

    def put(self, collection: str, id: str, fields: Mapping[str, Any], version: str | None = None) -> str:
        raise AssertionError("the gateway writes no keys")

    def delete(self, collection: str, id: str, version: str = ANY) -> None:
        raise AssertionError("the gateway removes no keys")

    def find(self, collection: str, **equal: Any) -> list[Document]:
        raise AssertionError("the gateway lists no keys")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def check(registry: FakeRegistry, clock: Clock) -> KeyCheck:
    return KeyCheck(registry, PEPPER, ttl_s=3, stale_s=300, clock=clock)


async def test_a_key_is_asked_for_once_within_its_ttl(check: KeyCheck, registry: FakeRegistry, clock: Clock) -> None:
    key = registry.add()
    for _ in range(5):
        holder = await check.holder(key)
        assert holder is not None
        assert holder.record.person == "ada@example.com"
    assert registry.questions == 1
    assert check.cached(key) is not None
    clock.now += 3
    assert check.cached(key) is None
    await check.holder(key)
    assert registry.questions == 2


async def test_a_hundred_callers_with_one_key_ask_once(check: KeyCheck, registry: FakeRegistry) -> None:
    key = registry.add()
    registry.answer_after.clear()
    waiting = [asyncio.create_task(check.holder(key)) for _ in range(100)]
    await asyncio.sleep(0)
    registry.answer_after.set()
    assert all(await asyncio.gather(*waiting))
    assert registry.questions == 1


async def test_a_revocation_is_seen_when_the_ttl_is_over(check: KeyCheck, registry: FakeRegistry, clock: Clock) -> None:
    key = registry.add()
    holder = await check.holder(key)
    assert holder is not None
    assert auth.refusal(holder) is None
    registry.documents[keys.key_hash(key, PEPPER)]["revoked_at"] = datetime.now(UTC).isoformat()
    clock.now += 3
    holder = await check.holder(key)
    assert holder is not None
    assert "revoked" in (auth.refusal(holder) or "")


async def test_an_expired_key_is_refused_without_asking_again(check: KeyCheck, registry: FakeRegistry) -> None:
    key = registry.add(expires_at=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    holder = await check.holder(key)
    assert holder is not None
    assert "expired" in (auth.refusal(holder) or "")


async def test_a_known_key_survives_an_outage_and_an_unknown_one_gets_nowhere(
    check: KeyCheck, registry: FakeRegistry, clock: Clock
) -> None:
    key, other = registry.add(), registry.add()
    await check.holder(key)
    registry.silent = True
    clock.now += 200
    assert await check.holder(key) is not None
    with pytest.raises(RegistrySilent):
        await check.holder(other)
    clock.now += 101
    with pytest.raises(RegistrySilent):
        await check.holder(key)


async def test_a_slow_registry_holds_a_known_caller_for_a_second_at_most(
    check: KeyCheck, registry: FakeRegistry, clock: Clock
) -> None:
    key = registry.add()
    await check.holder(key)
    clock.now += 10
    registry.answer_after.clear()
    started = time.monotonic()
    assert await check.holder(key) is not None
    assert time.monotonic() - started < 2
    registry.answer_after.set()


async def test_an_unknown_key_is_remembered_as_unknown(check: KeyCheck, registry: FakeRegistry, clock: Clock) -> None:
    key = keys.make()
    assert await check.holder(key) is None
    assert await check.holder(key) is None
    assert registry.questions == 1
    clock.now += 3
    assert await check.holder(key) is None
    assert registry.questions == 2


async def test_a_document_that_is_no_key_opens_nothing(check: KeyCheck, registry: FakeRegistry) -> None:
    key = registry.add(created_at="not a time")
    assert await check.holder(key) is None


async def test_the_caches_are_bounded(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_KNOWN", 10)
    monkeypatch.setattr(auth, "_UNKNOWN", 10)
    check = KeyCheck(registry, PEPPER, ttl_s=3, stale_s=300)
    for _ in range(30):
        await check.holder(registry.add())
        await check.holder(keys.make())
    assert len(check._known) == len(check._unknown) == 10


def test_a_key_is_found_wherever_an_agent_puts_it() -> None:
    key = keys.make()
    assert auth.presented({"authorization": f"Bearer {key}"}) == key
    assert auth.presented({"x-api-key": key}) == key
    assert auth.presented({"authorization": "Bearer sk-ant-oat01-own", "x-litellm-api-key": f"Bearer {key}"}) == key
    assert auth.presented({"authorization": "Bearer sk-tally-rubbish"}) is None
    assert auth.presented({}) is None


async def test_litellm_is_told_nobody_without_the_middleware() -> None:
    from litellm.proxy._types import ProxyException

    with pytest.raises(ProxyException):
        await auth.custom_auth(None, keys.make())  # type: ignore[arg-type]
