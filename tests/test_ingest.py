"""Ingest stores every event once, shelves what it cannot read, and never sends a message round for ever."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.cloud.pubsub_v1 import PublisherClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from functions.ingest.group_commit import GroupCommit
from functions.ingest.message import RAW_LIMIT, Unreadable, read_event, unwrap
from governance.events import UsageEvent
from governance.warehouse import Row, Warehouse, WarehouseError, open_warehouse
from tests.conftest import ROOT, eventually, function_app
from tests.pipeline import SUBSCRIPTION, TOPIC, Server, ingest, post, pubsub, sample, warehouse_owner

SECRET = "the-prompt-nobody-may-see"


def push(content: bytes, **more: Any) -> bytes:
    """A push request's body."""
    message = {"data": base64.b64encode(content).decode(), "messageId": "17", "attributes": {"event_id": "e"}, **more}
    return json.dumps({"message": message, "subscription": SUBSCRIPTION}).encode()


def spilled(event: UsageEvent) -> dict[str, Any]:
    """The event as the publisher spills it."""
    return {"severity": "WARNING", "message": "usage_event", "event": json.loads(event.message())}


def log_entry(event: UsageEvent) -> bytes:
    """The event as a log sink publishes it: numbers have become doubles, the severity has moved."""
    payload = spilled(event)
    payload.pop("severity")
    payload["event"] = {k: float(v) if type(v) is int else v for k, v in payload["event"].items()}
    return json.dumps({"insertId": "1", "severity": "WARNING", "jsonPayload": payload}).encode()


class FakeWarehouse:
    """Keeps rows; refuses or fails as it is told."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {"events": [], "shelved": []}
        self.refuse: Callable[[Row], str | None] = lambda _: None
        self.trouble: dict[str, bool] = {"events": False, "shelved": False}
        self.lock = threading.Lock()

    def append(self, table: str, rows: Sequence[Row]) -> dict[int, str]:
        if self.trouble[table]:
            raise WarehouseError("the warehouse is away")
        refused = {i: reason for i, row in enumerate(rows) if table == "events" and (reason := self.refuse(row))}
        with self.lock:
            self.rows[table] += [row for i, row in enumerate(rows) if i not in refused]
        return refused


@pytest.fixture
def warehouse(monkeypatch: pytest.MonkeyPatch) -> FakeWarehouse:
    fake = FakeWarehouse()
    monkeypatch.setattr("governance.warehouse.open_warehouse", lambda _: fake)
    return fake


def framework_app() -> ASGIApp:
    """The function as the framework loads it."""
    app: ASGIApp = function_app("ingest")
    return app


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch, warehouse: FakeWarehouse) -> Iterator[TestClient]:
    """The function under the framework, in this process."""
    monkeypatch.setenv("TALLY_WAREHOUSE", "http://127.0.0.1:9")
    with TestClient(framework_app()) as client:
        yield client


# What a message says


@pytest.mark.parametrize("form", [UsageEvent.message, lambda e: json.dumps(spilled(e)).encode(), log_entry])
def test_an_event_is_read_from_each_form_it_travels_in(form: Callable[[UsageEvent], bytes]) -> None:
    event = sample(gateway_cost_usd=Decimal("0.123456789"), input_tokens=10**12, http_status=None)
    assert read_event(form(event)) == event


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the message has no data"),
        (b"\xff\xfe\x00", "the data is not JSON"),
        (b"{", "the data is not JSON"),
        (b"[" * 100_000, "the data is not JSON"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "the data is not JSON"),
        (b"[]", "the data holds no JSON object"),
        (b'"text"', "the data holds no JSON object"),
        (b'{"message":"usage_event","event":[]}', "the data holds no JSON object"),
        (b'{"jsonPayload":{"message":"usage_event"}}', "the data holds no JSON object"),
        (b'{"schema_version":2}', "schema_version: not one that this ingest knows"),
    ],
)
def test_what_is_no_event_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=f"^{re.escape(reason)}$"):
        read_event(data)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"input_tokens": SECRET}, "input_tokens: int_parsing"),
        ({"input_tokens": -1, "stream": SECRET}, "input_tokens: greater_than_equal; stream: bool_parsing"),
        ({SECRET: SECRET}, "a field that events do not have"),
        ({"tool": SECRET * 100}, "tool: string_too_long"),
        ({"route": SECRET}, "route: literal_error"),
        ({"reasoning_tokens": 10_000}, "event: value_error"),
        ({"gateway_cost_usd": "1e400000"}, "gateway_cost_usd: "),
        ({"occurred_at": "2026-11-23T10:00:00"}, "occurred_at: value_error"),
        ({"event_id": None}, "event_id: string_type"),
    ],
)
def test_a_fault_is_told_by_field_and_never_by_content(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_event(json.dumps({**json.loads(sample().message()), **fields}).encode())
    assert str(caught.value).startswith(reason)
    assert SECRET not in str(caught.value)


@given(st.binary(max_size=200))
def test_no_bytes_make_reading_fail_in_another_way(data: bytes) -> None:
    assert unwrap(data).fault
    with pytest.raises(Unreadable):
        read_event(data)


def test_what_is_too_long_for_a_row_is_cut_and_said_so() -> None:
    row = unwrap(b"x" * (RAW_LIMIT + 5)).shelved("why", datetime.now(UTC))
    assert len(row["raw"]) == RAW_LIMIT
    assert row["reason"] == f"why; kept the first {RAW_LIMIT} of {RAW_LIMIT + 5} bytes"


# What the function does with it


def test_an_event_becomes_a_row_with_the_time_it_was_received(function: TestClient, warehouse: FakeWarehouse) -> None:
    event, before = sample(), datetime.now(UTC)
    assert function.post("/", content=push(event.message())).status_code == 204
    [row] = warehouse.rows["events"]
    assert before <= row["received_at"] <= datetime.now(UTC)
    assert row == {**event.row(), "received_at": row["received_at"]}
    assert warehouse.rows["shelved"] == []


def test_what_cannot_be_read_is_shelved_whole(function: TestClient, warehouse: FakeWarehouse) -> None:
    assert function.post("/", content=push(b"\x00nonsense")).status_code == 204
    [row] = warehouse.rows["shelved"]
    assert row.pop("shelved_at").tzinfo is UTC  # type: ignore[attr-defined]
    assert row == {
        "message_id": "17", "reason": "the data is not JSON", "raw": b"\x00nonsense",
        "attributes": '{"event_id": "e"}', "subscription": SUBSCRIPTION,
    }  # fmt: skip
    assert warehouse.rows["events"] == []


def test_data_that_is_not_base64_is_shelved_as_it_stands(function: TestClient, warehouse: FakeWarehouse) -> None:
    assert function.post("/", content=push(b"", data="not base64: é")).status_code == 204
    [row] = warehouse.rows["shelved"]
    assert (row["reason"], row["raw"]) == ("the data is not base64", "not base64: é".encode())


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"\xff", b"null", b"[1]", b'{"message":null}', b'{"message":{"data":7}}',
        b'{"message":{"attributes":{"a":1}}}', b'{"message":{"messageId":"\\ud800"}}', b"[" * 100_000,
        json.dumps({"message": {"attributes": {"a": "x" * 300_000}}}).encode(),
        json.dumps({"message": {"messageId": "x" * 300}}).encode(),
    ],
)  # fmt: skip
def test_a_body_that_is_no_push_is_shelved_too(function: TestClient, warehouse: FakeWarehouse, body: bytes) -> None:
    assert function.post("/", content=body).status_code == 204
    [row] = warehouse.rows["shelved"]
    assert (row["reason"], row["raw"]) == ("the request is no Pub/Sub push", body)


def test_a_row_the_warehouse_refuses_is_shelved_and_its_neighbours_are_stored(
    function: TestClient, warehouse: FakeWarehouse
) -> None:
    warehouse.refuse = lambda row: "http_status: not INT64" if row["http_status"] == 599 else None
    events = [sample(http_status=599 if n % 3 == 0 else 200) for n in range(30)]
    with ThreadPoolExecutor(10) as pool:
        bodies = [push(event.message()) for event in events]
        assert set(pool.map(lambda body: function.post("/", content=body).status_code, bodies)) == {204}
    assert {row["event_id"] for row in warehouse.rows["events"]} == {e.event_id for e in events if e.http_status == 200}
    assert {row["reason"] for row in warehouse.rows["shelved"]} == {"the warehouse refused it: http_status: not INT64"}
    assert {row["raw"] for row in warehouse.rows["shelved"]} == {e.message() for e in events if e.http_status == 599}


@pytest.mark.parametrize(("table", "data"), [("events", sample().message()), ("shelved", b"nonsense")])
def test_trouble_in_the_warehouse_is_answered_with_503_and_passes(
    function: TestClient, warehouse: FakeWarehouse, table: str, data: bytes
) -> None:
    warehouse.trouble[table] = True
    assert function.post("/", content=push(data)).status_code == 503
    warehouse.trouble[table] = False
    assert function.post("/", content=push(data)).status_code == 204
    assert len(warehouse.rows[table]) == 1


def test_a_get_stores_nothing(function: TestClient, warehouse: FakeWarehouse) -> None:
    assert function.get("/").status_code == 200
    assert warehouse.rows == {"events": [], "shelved": []}


def test_nothing_of_a_message_is_logged(
    function: TestClient, warehouse: FakeWarehouse, capfd: pytest.CaptureFixture[str]
) -> None:
    warehouse.refuse = lambda row: "tool: not STRING"
    for data in (SECRET.encode(), json.dumps({SECRET: SECRET}).encode(), sample(tool=SECRET).message()):
        assert function.post("/", content=push(data)).status_code == 204
    out, err = capfd.readouterr()
    assert SECRET not in out + err


def test_without_settings_the_function_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLY_WAREHOUSE", raising=False)
    with pytest.raises(SystemExit, match="TALLY_WAREHOUSE: is not set"):
        framework_app()


def test_the_function_starts_from_the_files_that_are_deployed_and_no_others(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(ROOT / "functions/ingest", bundle)
    shutil.copytree(ROOT / "governance", bundle / "governance")
    function = ingest(tmp_path, "http://127.0.0.1:9", bundle)
    with function:
        assert post(function.url, push(sample().message())) == 503


# Group commit


async def test_rows_that_arrive_while_an_insert_is_under_way_share_the_next_one() -> None:
    sizes: list[int] = []
    go_on = threading.Event()

    def store(rows: Sequence[Row]) -> dict[int, str]:
        sizes.append(len(rows))
        assert go_on.wait(10)
        return {}

    commit = GroupCommit(store, parallel=2, rows=30)
    adding = [asyncio.create_task(commit.add({"n": n})) for n in range(100)]
    while len(sizes) < 2:
        await asyncio.sleep(0.01)
    go_on.set()
    assert await asyncio.gather(*adding) == [None] * 100
    assert sorted(sizes) == sorted([30, 30, 30, 10])


async def test_each_row_learns_its_own_fate() -> None:
    commit = GroupCommit(lambda rows: {i: "odd" for i, row in enumerate(rows) if row["n"] % 2}, 1, 7)
    assert await asyncio.gather(*(commit.add({"n": n}) for n in range(20))) == [None, "odd"] * 10


async def test_when_an_insert_fails_all_of_its_rows_fail_and_the_next_are_tried() -> None:
    def store(rows: Sequence[Row]) -> dict[int, str]:
        if any(row["n"] == 3 for row in rows):
            raise WarehouseError("away")
        return {}

    commit = GroupCommit(store, parallel=1, rows=5)
    fates = await asyncio.gather(*(commit.add({"n": n}) for n in range(10)), return_exceptions=True)
    assert [type(fate) for fate in fates] == [WarehouseError] * 5 + [type(None)] * 5


async def test_a_request_that_is_given_up_does_not_hold_up_its_neighbours() -> None:
    commit = GroupCommit(lambda rows: {}, 1, 10)
    given_up, other = asyncio.create_task(commit.add({"n": 1})), asyncio.create_task(commit.add({"n": 2}))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await asyncio.wait_for(other, 5) is None


# Whole, with the real warehouse


def totals(warehouse: Warehouse) -> dict[str, Any]:
    """What a page would show of everything stored."""
    sql = "SELECT COUNT(*) AS requests, SUM(input_tokens) AS input, SUM(output_tokens) AS output FROM tally.requests"
    return warehouse.query(sql)[0]


def mixed(count: int, seed: int) -> list[UsageEvent]:
    """Events of several days, with different numbers."""
    dice = random.Random(seed)
    return [
        sample(
            event_id=f"{seed:04}-{n:08}", occurred_at=datetime(2026, 11, dice.randint(1, 20), 23, 59, 59, n, UTC),
            input_tokens=dice.randint(0, 10**6), output_tokens=dice.randint(0, 10**4),
        )
        for n in range(count)
    ]  # fmt: skip


def test_every_event_replayed_three_times_in_any_order_is_counted_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TALLY_WAREHOUSE", "duckdb://:memory:")
    real = open_warehouse("duckdb://:memory:")
    real.apply_schema()
    monkeypatch.setattr("governance.warehouse.open_warehouse", lambda _: real)
    events = mixed(300, 1)
    forms: list[Callable[[UsageEvent], bytes]] = [
        UsageEvent.message,
        lambda e: json.dumps(spilled(e)).encode(),
        log_entry,
    ]
    with TestClient(framework_app()) as client, ThreadPoolExecutor(8) as pool:

        def replay(bodies: list[bytes]) -> None:
            assert set(pool.map(lambda body: client.post("/", content=body).status_code, bodies)) == {204}

        replay([push(event.message()) for event in events])
        once = totals(real)
        again = [push(form(event)) for event in events for form in forms]
        random.Random(2).shuffle(again)
        replay(again)
    assert once["requests"] == 300
    assert once["input"] == sum(event.input_tokens for event in events)
    assert totals(real) == once
    stored = real.query("SELECT COUNT(*) AS copies FROM tally.events")[0]["copies"]
    assert stored == 1200


@pytest.mark.stack
@pytest.mark.parametrize("victim", ["ingest", "warehouse", "pubsub"])
def test_after_a_kill_under_load_every_acknowledged_event_is_there_once(
    victim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warehouse_owner(tmp_path) as owner, ingest(tmp_path, owner.url) as function:
        options = ("--topic", TOPIC, "--push", function.url)
        with pubsub(tmp_path, *options) as topic:
            monkeypatch.setenv("PUBSUB_EMULATOR_HOST", topic.address)
            servers: dict[str, Server] = {"ingest": function, "warehouse": owner, "pubsub": topic}
            with _load() as acknowledged:
                for kills in range(1, 4):
                    eventually(lambda: len(acknowledged) >= 250 * kills, within_s=60)  # noqa: B023
                    servers[victim].kill()
                    servers[victim].start()
            stored = open_warehouse(owner.url)
            eventually(lambda: _ids(stored, "requests") >= acknowledged, within_s=60, every_s=0.2)
            assert totals(stored)["requests"] == len(_ids(stored, "events"))


@contextmanager
def _load() -> Iterator[set[str]]:
    """Some 300 events a second for the time of the block; the ids that the topic has acknowledged so far."""
    client, stop = PublisherClient(), threading.Event()
    acknowledged: set[str] = set()

    def publish_on() -> None:
        while not stop.wait(0.1):
            sent = {e.event_id: client.publish(TOPIC, e.message(), event_id=e.event_id) for e in _some(30)}
            for id, future in sent.items():
                future.result(timeout=60)  # the stock client retries while the topic is away
                acknowledged.add(id)

    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(publish_on)
        try:
            yield acknowledged
        finally:
            stop.set()
            load.result()
            client.transport.close()


def _some(count: int) -> list[UsageEvent]:
    return [sample() for _ in range(count)]


def _ids(warehouse: Warehouse, table: str) -> set[str]:
    try:
        return {row["event_id"] for row in warehouse.query(f"SELECT event_id FROM tally.{table}")}
    except WarehouseError:
        return set()


def malformed(count: int) -> Iterator[bytes]:
    """Push requests that are nearly right: flipped, cut, swapped, nested, empty, of another version or tongue."""
    dice = random.Random(11)
    odd: list[Any] = [None, True, "", "x" * 5000, -1, 10**400, 1e308, [], {}, [[]], "\x00", "NaN", "é", 0.1, "2026"]
    names = list(UsageEvent.model_fields)

    def event() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(sample().message())
        return found

    def flipped(data: bytes) -> bytes:
        out = bytearray(data)
        for _ in range(dice.randint(1, 8)):
            out[dice.randrange(len(out))] ^= 1 << dice.randrange(8)
        return bytes(out)

    kinds: list[Callable[[], bytes]] = [
        lambda: push(flipped(sample().message())),
        lambda: flipped(push(sample().message())),
        lambda: push(sample().message()[: dice.randint(0, 900)]),
        lambda: push(sample().message())[: dice.randint(0, 900)],
        lambda: push(json.dumps({**event(), dice.choice(names): dice.choice(odd)}).encode()),
        lambda: push(json.dumps({k: dice.choice(odd) for k in dice.sample(names, 5)}).encode()),
        lambda: push(json.dumps({**event(), "schema_version": dice.choice([0, 2, "1", None, 99])}).encode()),
        lambda: push(json.dumps({**event(), "surprise": 1}).encode()),
        lambda: push(b'{"a":' * dice.randint(1, 3000)),
        lambda: push(b"[" * dice.randint(1, 3000) + b"]" * dice.randint(1, 3000)),
        lambda: push(b'{"input_tokens":' + b"9" * dice.randint(1, 6000) + b"}"),
        lambda: push(dice.randbytes(dice.randint(0, 300))),
        lambda: dice.randbytes(dice.randint(0, 300)),
        lambda: push(b""),
        lambda: json.dumps({"message": {"attributes": {"a": "b"}, "messageId": "1"}, "subscription": "s"}).encode(),
        lambda: json.dumps({"message": {"data": dice.choice(odd)}, "subscription": dice.choice(odd)}).encode(),
        lambda: push(sample().message(), attributes=dice.choice(odd), messageId=dice.choice(odd)),
        lambda: push(json.dumps({"jsonPayload": dice.choice(odd), "message": "usage_event"}).encode()),
        lambda: push(json.dumps({"message": "usage_event", "event": dice.choice(odd)}).encode()),
        lambda: push(sample().message().decode().encode("utf-16")),
        lambda: push(sample(occurred_at=datetime(dice.choice([1, 1970, 9999]), 1, 1, tzinfo=UTC)).message()),
        lambda: push(json.dumps({**event(), "latency_ms": 2 ** dice.randint(31, 80)}).encode()),
        lambda: push(sample().message()),
    ]
    for n in range(count):
        yield kinds[n % len(kinds)]()


@pytest.mark.stack
def test_ten_thousand_malformed_messages_are_stored_or_shelved_and_none_comes_back(tmp_path: Path) -> None:
    with warehouse_owner(tmp_path) as owner, ingest(tmp_path, owner.url) as function:
        with ThreadPoolExecutor(40) as pool:
            statuses = list(pool.map(lambda body: post(function.url, body), malformed(10_000), chunksize=1))
        good = sample()
        assert post(function.url, push(good.message())) == 204
        stored = open_warehouse(owner.url)
        assert good.event_id in _ids(stored, "requests")
        counts = {
            table: stored.query(f"SELECT COUNT(*) AS n FROM tally.{table}")[0]["n"] for table in ("events", "shelved")
        }
        reasons = [row["reason"] for row in stored.query("SELECT DISTINCT reason FROM tally.shelved")]
    assert set(statuses) == {204}
    assert counts["events"] + counts["shelved"] == 10_001
    assert counts["events"] > 1000
    assert counts["shelved"] > 5000
    assert len(reasons) > 20
