"""Keys that come, change and go while two gateways look at them: none lives longer than the TTL, none is shut out.

Ten thousand stories of a key, told to two real key checks over one real registry, on one clock that the story moves;
then some thousand acts against two gateway processes, by the clock on the wall.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from governance import keys
from governance.registry import Document, SqliteRegistry
from proxy_service import auth
from proxy_service.auth import KeyCheck
from tests.gateway import PEPPER, RunningGateway, gateway

__all__ = ["gateway"]

TTL_S = 3.0
BEGIN = datetime(2026, 11, 24, 9, tzinfo=UTC)
STORIES = 10_000


class Time:
    """The story's clock, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return BEGIN + timedelta(seconds=self.now)


class SlowRegistry(SqliteRegistry):
    """The real one; the story may hold an answer back after it was read, so that it comes late and is out of date."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._db.execute("PRAGMA synchronous = OFF")  # what outlives a power cut is not the question here
        self.go_on, self.has_read = threading.Event(), threading.Event()
        self.go_on.set()

    def get(self, collection: str, id: str) -> Document | None:
        document = super().get(collection, id)
        self.has_read.set()
        assert self.go_on.wait(30)
        return document


@dataclass
class Life:
    """One key as the story knows it; times are the story's."""

    key: str
    issued_at: float
    revoked_at: float | None = None
    expires_at: float | None = None
    limited_at: float = 0.0  # when the expiry was written

    def may(self, now: float) -> bool:
        """Whether nothing speaks against a use at this moment."""
        return not (self.revoked_at is not None or (self.expires_at is not None and self.expires_at <= now))


@dataclass
class House:
    """Two checks of two gateways, the registry that both ask, and the clock."""

    registries: tuple[SlowRegistry, SlowRegistry]
    time: Time = field(default_factory=Time)
    uses: int = 0
    accepted: int = 0
    accepted_after_the_end: int = 0
    latest_s: float = 0.0

    def __post_init__(self) -> None:
        self.checks = [KeyCheck(r, PEPPER, TTL_S, stale_s=300, clock=self.time) for r in self.registries]

    def issue(self) -> Life:
        key = keys.make()
        hashed, record = keys.new_record(key, PEPPER, now=self.time.wall(), person="ada@example.com", team="research")
        self.registries[0].put(keys.COLLECTION, hashed, record.document())
        return Life(key, self.time.now)

    def change(self, life: Life, **fields: Any) -> None:
        hashed = keys.key_hash(life.key, PEPPER)
        document = self.registries[1].get(keys.COLLECTION, hashed)
        assert document is not None
        self.registries[1].put(keys.COLLECTION, hashed, document.fields | fields, document.version)

    def revoke(self, life: Life) -> None:
        if life.revoked_at is None:
            self.change(life, revoked_at=self.time.wall().isoformat())
            life.revoked_at = self.time.now

    def rotate(self, life: Life, overlap_s: float) -> Life:
        """A new key at once; the old one goes on for the overlap."""
        self.change(life, expires_at=(self.time.wall() + timedelta(seconds=overlap_s)).isoformat())
        life.expires_at, life.limited_at = self.time.now + overlap_s, self.time.now
        return self.issue()

    def judge(self, life: Life, could: bool, holder: auth.Holder | None) -> None:
        """Hold one use against the two promises. `could`: nothing spoke against it when it began."""
        now = self.time.now
        self.uses += 1
        accepted = holder is not None and auth.refusal(holder, self.time.wall()) is None
        if not accepted:
            assert not (could and life.may(now)), "a valid key was refused"
            return
        self.accepted += 1
        if life.revoked_at is not None:
            self.accepted_after_the_end += 1
            self.latest_s = max(self.latest_s, now - life.revoked_at)
            assert now - life.revoked_at <= TTL_S, "a revoked key was accepted after the TTL"
        if life.expires_at is not None and life.expires_at <= now:
            assert now - life.limited_at <= TTL_S, "an expired key was accepted after the TTL"

    async def use(self, life: Life, proxy: int) -> None:
        could, check = life.may(self.time.now), self.checks[proxy]
        self.judge(life, could, check.cached(life.key) or await check.holder(life.key))

    async def use_slowly(self, life: Life, proxy: int, meanwhile: list[Any], dice: random.Random) -> None:
        """A use whose answer is read, held back while other things happen, and only then arrives."""
        could, check, registry = life.may(self.time.now), self.checks[proxy], self.registries[proxy]
        registry.go_on.clear()
        registry.has_read.clear()
        asking = asyncio.create_task(check.holder(life.key))
        await asyncio.sleep(0)
        if asking.done():  # from the cache: there was nothing to hold back
            registry.go_on.set()
            return self.judge(life, could, asking.result())
        assert await asyncio.to_thread(registry.has_read.wait, 30)
        registry_free = self.registries[1 - proxy]
        for act in meanwhile:
            act(registry_free)
            self.time.now += dice.uniform(0, 0.4)
        registry.go_on.set()
        self.judge(life, could, await asking)


def end(house: House, life: Life, registry: SlowRegistry) -> None:
    """Revoke through the registry that is not held back."""
    if life.revoked_at is None:
        hashed = keys.key_hash(life.key, PEPPER)
        document = SqliteRegistry.get(registry, keys.COLLECTION, hashed)
        assert document is not None
        fields = document.fields | {"revoked_at": house.time.wall().isoformat()}
        registry.put(keys.COLLECTION, hashed, fields, document.version)
        life.revoked_at = house.time.now


async def story(house: House, dice: random.Random) -> None:
    """One random interleaving over the keys of one person."""
    lives = [house.issue()]
    for _ in range(dice.randint(3, 9)):
        life = dice.choice(lives)
        act = dice.random()
        if act < 0.60:
            await house.use(life, dice.randrange(2))
        elif act < 0.66:
            late = [lambda registry, life=life: end(house, life, registry)] if dice.random() < 0.5 else []
            await house.use_slowly(life, dice.randrange(2), [*late, lambda _: None], dice)
        elif act < 0.74:
            house.revoke(life)
        elif act < 0.82 and life.may(house.time.now):
            lives.append(house.rotate(life, dice.choice([0.0, 1.0, 5.0, 86_400.0])))
        elif act < 0.86:
            lives.append(house.issue())
        else:
            house.time.now += dice.choice([0.001, 0.5, 1.0, 2.9, 3.0, 3.1, 10.0])
    for life in lives:  # and once more, when every cache is older than the TTL
        house.time.now += TTL_S
        await house.use(life, dice.randrange(2))


async def test_no_use_is_accepted_later_than_the_ttl_and_no_valid_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    house = House((SlowRegistry(path), SlowRegistry(path)))
    for seed in range(STORIES):
        try:
            await story(house, random.Random(seed))
        except AssertionError as error:
            pytest.fail(f"story {seed}: {error}")
    for check in house.checks:
        check.close()
    assert house.accepted > STORIES
    assert house.accepted_after_the_end > STORIES / 10  # the window is there, and was tried
    assert TTL_S - 0.5 < house.latest_s <= TTL_S


PROCESS_TTL_S = 1.0  # as tests/gateway.py sets it
LASTS_S = 8.0


def test_two_gateway_processes_keep_the_same_promises(gateway: RunningGateway, tmp_path: Path) -> None:
    """As above, by the clock on the wall; a use asks for a model's entry, which asks nobody but the key check."""
    one = gateway
    two = RunningGateway(tmp_path, one.env["ANTHROPIC_API_BASE"], TALLY_REGISTRY=one.registry_url)
    dice, uses, late = random.Random(4), 0, 0
    lives = [Life(one.new_key("ada@example.com", "research"), time.monotonic())]

    def is_let_in(proxy: RunningGateway, key: str) -> bool:
        response = proxy.client.get("/v1/models/gpt-5.4", headers={"x-api-key": key})
        assert response.status_code in (200, 401), response.text
        return response.status_code == 200

    try:
        until = time.monotonic() + LASTS_S
        while time.monotonic() < until:
            life, act = dice.choice(lives[-8:]), dice.random()
            if act < 0.01 and life.revoked_at is None:
                one.change_key(life.key, revoked_at=datetime.now(UTC).isoformat())
                life.revoked_at = time.monotonic()
            elif act < 0.02 and life.may(time.monotonic()):
                overlap_s = dice.choice([0.5, 3600.0])
                ends = datetime.now(UTC) + timedelta(seconds=overlap_s)
                life.expires_at = time.monotonic() + overlap_s
                one.change_key(life.key, expires_at=ends.isoformat())
                life.limited_at = time.monotonic()
                lives.append(Life(one.new_key("ada@example.com", "research"), time.monotonic()))
            elif act < 0.03:
                lives.append(Life(one.new_key("ada@example.com", "research"), time.monotonic()))
            else:
                before = time.monotonic()
                could = life.may(before)
                let_in = is_let_in(dice.choice([one, two]), life.key)
                uses += 1
                if not let_in:
                    assert not (could and life.may(time.monotonic() + 0.1)), "a valid key was refused"
                elif life.revoked_at is not None:
                    late += 1
                    assert before - life.revoked_at <= PROCESS_TTL_S, "a revoked key was accepted after the TTL"
                elif life.expires_at is not None and life.expires_at <= before:
                    assert before - life.limited_at <= PROCESS_TTL_S, "an expired key was accepted after the TTL"
        assert uses > 500
        assert late > 10
    finally:
        two.stop()
