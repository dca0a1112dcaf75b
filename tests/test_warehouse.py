"""The Warehouse on a laptop: in this process, and behind the process that owns the file. Both keep one contract."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from governance.duckdb_warehouse import DuckDBWarehouse
from governance.http_warehouse import decode, encode
from governance.warehouse import Warehouse, WarehouseError, open_warehouse
from tests.conftest import ROOT, eventually, free_port
from tests.warehouse_rows import NOON, event_row, person_row


@contextmanager
def owner(path: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """The owner process of `path`, answering; killed at the end if it is still there."""
    command = [sys.executable, "-m", "local.warehouse", "--port", str(port), "--path", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: process.poll() is not None or healthy(port), within_s=30)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.communicate()


def healthy(port: int) -> bool:
    try:
        return ask(port, "GET", "/healthz")[0] == 200
    except OSError:
        return False


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterable[int]:
    port = free_port()
    with owner(tmp_path_factory.mktemp("owner") / "new" / "tally.duckdb", port):
        yield port


@pytest.fixture(params=["in process", "owner process"])
def warehouse(request: pytest.FixtureRequest) -> Iterable[Warehouse]:
    if request.param == "in process":
        opened = open_warehouse("duckdb://:memory:")
        opened.apply_schema()
        yield opened
        assert isinstance(opened, DuckDBWarehouse)
        opened.close()
    else:
        opened = open_warehouse(f"http://127.0.0.1:{request.getfixturevalue('owned')}")
        for table in ("events", "people", "prices", "shelved"):
            opened.replace(table, [])
        yield opened


# The contract


def test_a_row_comes_back_as_it_went_in(warehouse: Warehouse) -> None:
    row = event_row(
        "1", NOON + timedelta(microseconds=1), gateway_cost_usd=Decimal("12345678901.123456789"), tool="é\0"
    )
    assert warehouse.append("events", [row]) == {}
    assert warehouse.query("SELECT * FROM tally.events") == [row]
    shelved = {"shelved_at": NOON, "message_id": None, "reason": "r", "raw": bytes(range(256)), "attributes": "{}"}
    warehouse.append("shelved", [shelved])
    assert warehouse.query("SELECT * FROM tally.shelved") == [shelved | {"subscription": None}]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("input_tokens", "many"),
        ("input_tokens", 2**63),
        ("input_tokens", 1.5),
        ("input_tokens", True),
        ("event_id", None),
        ("input_tokens", Decimal(1)),
        ("tool", 7),
        ("tool", "\ud800"),
        ("stream", "true"),
        ("occurred_at", "yesterday"),
        ("occurred_at", 7),
        ("gateway_cost_usd", Decimal("0.0000000001")),
        ("gateway_cost_usd", Decimal("NaN")),
        ("gateway_cost_usd", Decimal(10**30)),
    ],
)
def test_a_row_that_never_fits_is_told_by_its_index_and_the_others_are_stored(
    warehouse: Warehouse, column: str, value: object
) -> None:
    wrong = event_row("2") | {column: value}
    bad = warehouse.append("events", [event_row("1"), wrong, event_row("3")])
    assert list(bad) == [1]
    assert bad[1].startswith(column)
    assert value is None or str(value) not in bad[1].removeprefix(column)
    stored = warehouse.query("SELECT event_id FROM tally.events ORDER BY event_id")
    assert [row["event_id"] for row in stored] == ["event-0001", "event-0003"]


def test_a_column_that_the_table_lacks_is_trouble_and_not_the_rows_fault(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="apply the schema"):
        warehouse.append("events", [event_row("1") | {"brand_new": 1}])


def test_an_unknown_table_is_trouble(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="no table"):
        warehouse.append("nonsense", [{"a": 1}])


def test_replace_is_the_whole_content_or_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.replace("people", [person_row("ann", "Search"), person_row("bob", "Ads")])
    warehouse.replace("people", [person_row("cleo", "Ads", left_on=date(2026, 1, 2))])
    whole = "SELECT name, left_on FROM tally.people"
    assert warehouse.query(whole) == [{"name": "cleo", "left_on": date(2026, 1, 2)}]
    with pytest.raises(WarehouseError, match="people, row 1: joined_on"):
        warehouse.replace("people", [person_row("dan", "Ads"), person_row("eve", "Ads") | {"joined_on": "soon"}])
    assert warehouse.query(whole) == [{"name": "cleo", "left_on": date(2026, 1, 2)}]
    warehouse.replace("people", [])
    assert warehouse.query(whole) == []


def test_parameters_have_their_types_and_one_too_many_does_no_harm(warehouse: Warehouse) -> None:
    given = {"a": 1, "b": Decimal("1.5"), "c": NOON, "d": NOON.date(), "e": True, "f": "é'", "g": 2.5, "h": b"\xff"}
    sql = "SELECT " + ", ".join(f"@{name} AS {name}" for name in given)
    (row,) = warehouse.query(sql, given | {"unused": 1})
    assert row == given
    assert warehouse.query("SELECT 1 AS one WHERE 'x' IN UNNEST(@names)", {"names": ["x", "y"]}) == [{"one": 1}]
    assert warehouse.query("SELECT 1 AS one WHERE @name IS NULL", {"name": None}) == [{"one": 1}]


def test_times_are_utc_whatever_the_zone_they_came_in(warehouse: Warehouse) -> None:
    tokyo = datetime.fromisoformat("2026-03-05T01:30:00+09:00")
    warehouse.append("events", [event_row("1", received_at=tokyo)])
    (row,) = warehouse.query("SELECT received_at, DATE(received_at) AS day FROM tally.events")
    assert row == {"received_at": datetime(2026, 3, 4, 16, 30, tzinfo=UTC), "day": date(2026, 3, 4)}
    assert row["received_at"].utcoffset() == timedelta(0)


def test_a_sum_of_integers_is_an_integer(warehouse: Warehouse) -> None:
    warehouse.append("events", [event_row(str(n), input_tokens=10**12) for n in range(3)])
    (row,) = warehouse.query("SELECT SUM(input_tokens) AS n, SUM(http_status) AS nothing FROM tally.events")
    assert row == {"n": 3 * 10**12, "nothing": None}
    assert type(row["n"]) is int


@pytest.mark.parametrize("sql", ["SELECT nope FROM tally.events", "SELEC 1", "SELECT @missing", "SELECT 1 / 0"])
def test_a_query_that_cannot_be_answered_is_trouble(warehouse: Warehouse, sql: str) -> None:
    with pytest.raises(WarehouseError):
        warehouse.query(sql)


def test_the_schema_can_be_applied_again_and_keeps_the_rows(warehouse: Warehouse) -> None:
    warehouse.append("events", [event_row("1")])
    warehouse.apply_schema()
    assert warehouse.query("SELECT COUNT(*) AS n FROM tally.requests") == [{"n": 1}]


def test_many_threads_append_while_others_read(warehouse: Warehouse) -> None:
    def append(worker: int) -> None:
        for batch in range(10):
            rows = [event_row(f"{worker}-{batch}-{n}") for n in range(20)]
            assert warehouse.append("events", rows) == {}

    def read(_: int) -> list[int]:
        return [warehouse.query("SELECT COUNT(*) AS n FROM tally.requests")[0]["n"] for _ in range(10)]

    with ThreadPoolExecutor(8) as pool:
        appended, counts = [pool.submit(append, n) for n in range(4)], list(pool.map(read, range(4)))
        for future in appended:
            future.result()
    assert all(seen == sorted(seen) and all(n % 20 == 0 for n in seen) for seen in counts)
    assert warehouse.query("SELECT COUNT(*) AS n FROM tally.requests") == [{"n": 800}]


# DuckDB


def test_a_column_added_to_a_table_later_is_null_in_the_rows_of_before(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    with duckdb.connect(str(path)) as old:
        old.execute("CREATE SCHEMA tally; CREATE TABLE tally.shelved (shelved_at TIMESTAMPTZ, reason VARCHAR)")
        old.execute("INSERT INTO tally.shelved VALUES ('2026-03-04 12:00:00+00', 'r')")
    warehouse = DuckDBWarehouse(str(path))
    warehouse.apply_schema()
    (row,) = warehouse.query("SELECT * FROM tally.shelved")
    warehouse.close()
    assert (row["shelved_at"], row["reason"], row["raw"]) == (NOON, "r", None)


def test_a_file_that_another_process_owns_is_trouble(owned: int, tmp_path: Path) -> None:
    port = free_port()
    with owner(tmp_path / "tally.duckdb", port), pytest.raises(WarehouseError, match="cannot open"):
        open_warehouse(f"duckdb://{tmp_path / 'tally.duckdb'}")


@pytest.mark.parametrize("url", ["", "bigquery://", "sqlite:///x", "duckdb:", "http://"])
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="a warehouse is"):
        open_warehouse(url)


# The owner process


def test_every_value_passes_the_wire_unchanged() -> None:
    body = {
        "rows": [
            {"a": Decimal("0.10"), "b": b"\x00", "c": date(2026, 1, 2), "d": NOON, "e": [1, None, True, "$", 0.1]}
        ],
        "$decimal": "a column of that name, beside another",
    }
    assert decode(encode(body)) == body
    with pytest.raises(TypeError):
        encode({"a": {1, 2}})


def test_an_owner_that_is_not_there_is_trouble() -> None:
    with pytest.raises(WarehouseError, match="did not answer"):
        open_warehouse(f"http://127.0.0.1:{free_port()}").query("SELECT 1")


def test_a_web_page_cannot_ask_the_owner(owned: int) -> None:
    body = encode({"sql": "SELECT 1 AS one", "params": {}})
    kind = {"Content-Type": "application/json"}
    assert ask(owned, "POST", "/query", body, **kind)[0] == 200
    assert ask(owned, "POST", "/query", body, **{"Content-Type": "text/plain"})[0] == 403
    assert ask(owned, "POST", "/query", body, Host=f"rebound.example.com:{owned}", **kind)[0] == 403
    assert ask(owned, "GET", "/query")[0] == 404


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"{}", b'{"sql": 7, "params": {}}', b'{"sql": "SELECT 1"}'])
def test_a_question_that_makes_no_sense_is_refused_and_the_owner_goes_on(owned: int, body: bytes) -> None:
    status, answer = ask(owned, "POST", "/query", body, **{"Content-Type": "application/json"})
    assert status == 400
    assert "error" in answer
    assert healthy(owned)


def test_the_owner_ends_cleanly_and_the_file_is_whole(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "tally.duckdb"
    with owner(path, port) as process:
        open_warehouse(f"http://127.0.0.1:{port}").append("events", [event_row("secret-words")])
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=20)
        assert process.returncode == 0
    assert "secret-words" not in said
    assert [path] == list(tmp_path.iterdir())
    warehouse = DuckDBWarehouse(str(path))
    assert warehouse.query("SELECT COUNT(*) AS n FROM tally.requests") == [{"n": 1}]
    warehouse.close()


def test_after_kill_9_under_load_every_acknowledged_row_is_there(tmp_path: Path) -> None:
    path = tmp_path / "tally.duckdb"
    acknowledged: set[str] = set()
    for life in range(3):
        port = free_port()
        ended = threading.Event()

        def load(worker: int, port: int = port, life: int = life, ended: threading.Event = ended) -> None:
            warehouse, batch = open_warehouse(f"http://127.0.0.1:{port}"), 0
            while not ended.is_set():
                rows = [event_row(f"{life}-{worker}-{batch}-{n}") for n in range(10)]
                try:
                    warehouse.append("events", rows)
                except WarehouseError:
                    return
                acknowledged.update(str(row["event_id"]) for row in rows)
                batch += 1

        with owner(path, port) as process:
            there = open_warehouse(f"http://127.0.0.1:{port}").query("SELECT event_id FROM tally.requests")
            assert acknowledged <= {row["event_id"] for row in there}
            goal = len(acknowledged) + 300
            threads = [threading.Thread(target=load, args=(worker,)) for worker in range(4)]
            for thread in threads:
                thread.start()
            eventually(lambda goal=goal: len(acknowledged) >= goal, within_s=30)  # type: ignore[misc]
            process.kill()
            ended.set()
            for thread in threads:
                thread.join()
    warehouse = DuckDBWarehouse(str(path))
    rows = warehouse.query("SELECT event_id, COUNT(*) AS n FROM tally.requests GROUP BY event_id")
    warehouse.close()
    assert acknowledged <= {row["event_id"] for row in rows}
    assert {row["n"] for row in rows} == {1}
