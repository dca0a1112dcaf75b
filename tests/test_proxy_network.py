"""A request's network: a name without an address, from a place that no caller writes to. And the sign of life."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from governance.gate import GATEWAYS
from governance.registry import Document, RegistryError, SqliteRegistry
from proxy_service.heartbeat import Heartbeat
from proxy_service.network import Networks, network_of
from tests.gateway import RunningGateway, gateway, run_gateway
from tests.test_proxy import EMBEDDING

__all__ = ["gateway"]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("203.0.113.77:4711", "203.0.113.0/24"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("[2001:db8:1:2::6]:443", "2001:db8:1::/48"),
        ("10.20.30.40", "10.20.30.0/24"),
        ("127.0.0.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("0.0.0.0", None),
        ("fe80::1%eth0", None),
        ("169.254.1.1", None),
        ("unknown", None),
        ("", None),
        ("999.1.1.1", None),
        ("<script>", None),
    ],
)
def test_an_address_belongs_to_a_network_or_is_none(address: str, network: str | None) -> None:
    assert network_of(address) == network


def scope(peer: tuple[str, int] | None, *forwarded: str) -> dict[str, Any]:
    return {"client": peer, "headers": [(b"x-forwarded-for", value.encode()) for value in forwarded]}


def test_the_name_is_of_the_network_and_tells_no_address() -> None:
    networks = Networks("pepper", 0)
    name = networks.of(scope(("203.0.113.77", 9)))
    assert name is not None
    assert len(name) == 12
    assert int(name, 16) >= 0
    assert networks.of(scope(("203.0.113.1", 1234))) == name
    assert networks.of(scope(("203.0.114.1", 1234))) != name
    assert Networks("another pepper", 0).of(scope(("203.0.113.77", 9))) != name


def test_what_the_caller_writes_is_not_looked_at() -> None:
    peer = ("203.0.113.77", 9)
    socket = Networks("pepper", 0)
    assert socket.of(scope(peer, "198.51.100.1")) == socket.of(scope(peer))
    cloud, real = Networks("pepper", 1), Networks("pepper", 0).of(scope(("198.51.100.9", 1)))
    for spoofed in (("198.51.100.9",), ("192.0.2.1, 198.51.100.9",), ("192.0.2.1", "192.0.2.2", " 198.51.100.9 ")):
        assert cloud.of(scope(peer, *spoofed)) == real
    behind = Networks("pepper", 2)
    assert behind.of(scope(peer, "192.0.2.1, 198.51.100.9, 203.0.113.5")) == real
    assert behind.of(scope(peer, "198.51.100.9")) is None
    assert cloud.of(scope(peer)) is None


def test_an_address_that_the_server_read_from_a_header_is_not_the_sockets() -> None:
    assert Networks("pepper", 0).of(scope(("198.51.100.1", 0))) is None
    assert Networks("pepper", 0).of(scope(None)) is None


def test_events_bear_the_network_where_the_operator_says_it_stands(tmp_path: Path, gateway: RunningGateway) -> None:
    own = gateway.post("/v1/embeddings", EMBEDDING, x_forwarded_for="203.0.113.77")
    assert gateway.event_of(own).network is None  # loopback; and nobody is asked what stands in the header
    with run_gateway(tmp_path, TALLY_FORWARDED_HOPS="1") as cloud:
        names = [
            cloud.event_of(cloud.post("/v1/embeddings", EMBEDDING, x_forwarded_for=given)).network
            for given in ("203.0.113.77", "192.0.2.1, 203.0.113.78", "192.0.2.1")
        ]
        refused = cloud.post("/v1/embeddings", EMBEDDING | {"model": "nobody-knows"}, x_forwarded_for="203.0.113.9")
        assert names[0] == names[1] == cloud.event_of(refused).network is not None
        assert names[2] not in (None, names[0])
        assert not any(b"203.0.113" in message or b"192.0.2" in message for message in cloud.topic.messages)
        assert not any(str(ipaddress.ip_address(a)) in cloud.log() for a in ("203.0.113.77", "192.0.2.1"))


# ---- sign of life -------------------------------------------------------------------------------------------------


class Registry:
    """Takes documents, or nothing."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.silent = False

    def put(self, collection: str, id: str, fields: Mapping[str, Any], version: str | None = None) -> str:
        if self.silent:
            raise RegistryError("silent")
        assert (collection, id) == (GATEWAYS, fields["instance"])
        self.written.append(dict(fields))
        return "1"

    def get(self, collection: str, id: str) -> Document | None:
        raise AssertionError("a sign of life is only written")

    def find(self, collection: str, **equal: Any) -> list[Document]:
        raise AssertionError("a sign of life is only written")

    def delete(self, collection: str, id: str, version: str = "*") -> None:
        raise AssertionError("the tick removes old ones")


async def test_a_gateway_tells_of_itself_when_it_made_events_and_only_then() -> None:
    registry, newest = Registry(), [datetime(2026, 11, 24, 9, tzinfo=UTC)]
    told: list[datetime | None] = [None]
    heartbeat = Heartbeat(registry, lambda: told[0])
    await heartbeat.beat()
    assert registry.written == []
    told[0] = newest[0]
    await heartbeat.beat()
    await heartbeat.beat()
    assert [doc["last_event_at"] for doc in registry.written] == ["2026-11-24T09:00:00+00:00"]
    assert datetime.fromisoformat(registry.written[0]["at"]).tzinfo is not None
    told[0] = datetime(2026, 11, 24, 10, tzinfo=UTC)
    await heartbeat.beat()
    assert len(registry.written) == 2
    assert len({doc["instance"] for doc in registry.written}) == 1


async def test_a_registry_that_takes_no_sign_of_life_is_counted_and_told_it_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = Registry()
    heartbeat = Heartbeat(registry, lambda: datetime(2026, 11, 24, 9, tzinfo=UTC))
    registry.silent = True
    await heartbeat.beat()
    await heartbeat.beat()
    assert heartbeat.failures == 2
    assert len([r for r in caplog.records if "sign of life" in r.message]) == 1
    registry.silent = False
    await heartbeat.beat()
    assert len(registry.written) == 1


async def test_the_sign_of_life_beats_by_itself_into_a_real_registry(tmp_path: Path) -> None:
    registry = SqliteRegistry(tmp_path / "registry.db")
    heartbeat = Heartbeat(registry, lambda: datetime(2026, 11, 24, 9, tzinfo=UTC))
    beating = asyncio.create_task(heartbeat.run(every_s=0.01))
    async with asyncio.timeout(10):
        while registry.get(GATEWAYS, heartbeat.instance) is None:
            await asyncio.sleep(0.01)
    beating.cancel()
