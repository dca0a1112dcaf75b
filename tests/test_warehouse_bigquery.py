"""The BigQuery adapter: what it makes of BigQuery's answers, and its calls against an emulator."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from google.api_core.exceptions import GoogleAPICallError, ServiceUnavailable, from_http_status
from google.cloud import bigquery

from governance import rollup
from governance.bigquery_warehouse import REQUEST_BYTES, BigQueryWarehouse
from governance.schema import Table, View, read_tables, read_views
from governance.warehouse import Warehouse, WarehouseError, open_warehouse
from tests.conftest import TOOLS, eventually, free_port, needs
from tests.warehouse_rows import NOON, event_row, person_row, price_rows

EMULATOR = TOOLS / "bqemulator" / "bin"


class FakeClient:
    """Takes rows as BigQuery does: refuses a request with a `poison` row whole, a `wrong` one by its index."""

    project = "demo"

    def __init__(self, *, trouble: GoogleAPICallError | None = None, reason: str = "invalid", said: str = "") -> None:
        self.trouble, self.reason, self.said = trouble, reason, said
        self.requests: list[list[str]] = []
        self.taken: dict[str, dict[str, Any]] = {}

    def insert_rows_json(
        self, table: str, rows: Sequence[dict[str, Any]], row_ids: Sequence[str | None], **options: Any
    ) -> list[dict[str, Any]]:
        assert table == "demo.tally.events"
        assert options["skip_invalid_rows"]
        self.requests.append([str(row["event_id"]) for row in rows])
        if self.trouble:
            raise self.trouble
        if any(row["event_id"] == "poison" for row in rows):
            raise cast(GoogleAPICallError, from_http_status(413, "too large"))  # type: ignore[no-untyped-call]
        faults = []
        for index, (row, row_id) in enumerate(zip(rows, row_ids, strict=True)):
            if row["event_id"] == "wrong":
                error = {"reason": self.reason, "location": "input_tokens", "message": self.said}
                faults.append({"index": index, "errors": [error]})
            else:
                self.taken[str(row_id)] = row
        return faults


def over(client: FakeClient) -> BigQueryWarehouse:
    return BigQueryWarehouse(cast(bigquery.Client, client))


def named(*ids: str) -> list[dict[str, Any]]:
    return [{"event_id": id} for id in ids]


def test_a_row_bigquery_refuses_is_told_by_its_index_and_without_its_content() -> None:
    client = FakeClient(said="Cannot convert value to integer (bad value): my words")
    assert over(client).append("events", named("a", "wrong", "b")) == {1: "input_tokens: invalid"}
    assert list(client.taken) == ["a", "b"]


def test_a_request_refused_whole_is_halved_until_the_row_at_fault_is_found() -> None:
    client = FakeClient()
    bad = over(client).append("events", named("a", "b", "poison", "wrong", "c"))
    assert bad == {2: "BigQuery refused the row: 413", 3: "input_tokens: invalid"}
    assert sorted(client.taken) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "client",
    [
        FakeClient(trouble=ServiceUnavailable("later")),  # type: ignore[no-untyped-call]
        FakeClient(reason="backendError"),
        FakeClient(said="no such field: brand_new."),
    ],
    ids=["no answer", "a row for which BigQuery had no time", "a table older than the program"],
)
def test_trouble_that_may_pass_is_raised_and_not_blamed_on_a_row(client: FakeClient) -> None:
    with pytest.raises(WarehouseError):
        over(client).append("events", named("a", "wrong"))


def test_rows_too_many_for_one_request_go_in_several() -> None:
    client = FakeClient()
    row = {"tool": "x" * (REQUEST_BYTES // 3)}
    assert over(client).append("events", [{"event_id": f"e{n}"} | row for n in range(5)]) == {}
    assert client.requests == [["e0", "e1"], ["e2", "e3"], ["e4"]]


def test_values_go_over_exactly() -> None:
    client = FakeClient()
    over(client).append(
        "events",
        [
            {
                "event_id": "a",
                "gateway_cost_usd": Decimal("0.100000001"),
                "occurred_at": NOON,
                "raw": b"\x00\xff",
                "tool": None,
            }
        ],
    )
    assert client.taken["a"] == {
        "event_id": "a",
        "gateway_cost_usd": "0.100000001",
        "occurred_at": "2026-03-04T12:00:00+00:00",
        "raw": "AP8=",
        "tool": None,
    }


# With an emulator. Its values are not BigQuery's everywhere (five decimals in a BIGNUMERIC, weeks from Sunday, bytes
# left as base64): this is about the calls; the values are compared with GoogleSQL's own in test_views.py.


def _without_bignumeric() -> tuple[Table, ...]:
    """The tables, with columns that it can make: of a BIGNUMERIC it makes a type that its DuckDB does not have."""
    return tuple(
        replace(table, fields=tuple(replace(f, type=f.type.removeprefix("BIG")) for f in table.fields))
        for table in read_tables()
    )


def _asked_for() -> tuple[View, ...]:
    """The views that the tests below read, and those below them: it takes seconds for a deep one, minutes for all."""
    views, wanted = {view.name: view for view in read_views()}, {"requests", "data_freshness", "person_daily"}
    while more := {name for view in wanted for name in views[view].reads & views.keys()} - wanted:
        wanted |= more
    return tuple(view for view in read_views() if view.name in wanted)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Warehouse]:
    needs("bqemulator")
    home = tmp_path_factory.mktemp("bqemulator")
    environment = os.environ | {"HOME": str(home)}
    # It would fetch DuckDB's extensions; they are installed as packages beside it, and need only be shown to DuckDB.
    extensions = sorted((TOOLS / "bqemulator").glob("lib/*/site-packages/duckdb_extension_*/**/*.duckdb_extension"))
    install = "import duckdb, sys; [duckdb.execute(f\"INSTALL '{path}'\") for path in sys.argv[1:]]"
    subprocess.run([EMULATOR / "python", "-c", install, *extensions], check=True, env=environment)
    port = free_port()
    command = [str(EMULATOR / "bqemulator"), "start", "--rest-port", str(port), "--grpc-port", "0"]
    with (home / "log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

        def answers() -> bool:
            assert process.poll() is None, (home / "log").read_text()[-2000:]
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    return True
            except OSError:
                return False

        try:
            eventually(answers, within_s=60)
            patch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{port}")
            patch.setattr("governance.bigquery_warehouse.read_tables", _without_bignumeric)
            patch.setattr("governance.bigquery_warehouse.read_views", _asked_for)
            warehouse = open_warehouse("bigquery://demo?location=US")
            warehouse.apply_schema()
            yield warehouse
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.mark.emulator
def test_tables_and_views_are_created_and_the_schema_can_be_applied_again(emulator: Warehouse) -> None:
    emulator.apply_schema()
    for name in [table.name for table in read_tables()] + [view.name for view in _asked_for()]:
        assert isinstance(emulator.query(f"SELECT * FROM tally.{name} LIMIT 1"), list)


@pytest.mark.emulator
def test_rows_in_rows_out(emulator: Warehouse) -> None:
    later = NOON + timedelta(minutes=1)
    emulator.replace("prices", price_rows("openai", "gpt", "1", None, None, None, "2"))
    emulator.replace("prices", price_rows("anthropic", "sonnet", "3", "0.3", "3.75", "6", "15"))
    emulator.replace("people", [person_row("ann", "Search"), person_row("bob", "Ads", left_on=date(2026, 2, 1))])
    assert emulator.append("events", [event_row("1"), event_row("2", model="mystery", model_requested=None)]) == {}
    assert emulator.append("events", [event_row("1", later), event_row("3") | {"input_tokens": "many"}]).keys() == {1}
    stored = emulator.query(
        "SELECT model, usd_per_million FROM tally.prices WHERE token_kind = @kind", {"kind": "output"}
    )
    assert stored == [{"model": "sonnet", "usd_per_million": Decimal(15)}]
    rows = emulator.query(
        "SELECT event_id, occurred_at, received_at, input_tokens, price_source FROM tally.requests"
        " WHERE day = @day ORDER BY event_id",
        {"day": NOON.date()},
    )
    same = {"occurred_at": NOON, "received_at": NOON, "input_tokens": 1000}
    assert rows == [
        {"event_id": "event-0001", "price_source": "book", **same},
        {"event_id": "event-0002", "price_source": "missing", **same},
    ]
    assert rollup.refresh(emulator) == [NOON.date()]
    assert rollup.refresh(emulator) == []
    (fresh,) = emulator.query("SELECT requests, duplicates, newest_received_at FROM tally.data_freshness")
    assert fresh == {"requests": 2, "duplicates": 1, "newest_received_at": later}


@pytest.mark.emulator
def test_parameters_have_their_types(emulator: Warehouse) -> None:
    given = {"a": 1, "b": Decimal("1.5"), "c": NOON, "d": NOON.date(), "e": True, "f": "é", "g": None, "h": 2.5}
    (row,) = emulator.query("SELECT " + ", ".join(f"@{name} AS {name}" for name in given), given)
    assert row == given
    assert emulator.query("SELECT 1 AS one WHERE 'x' IN UNNEST(@names)", {"names": ["x", "y"]}) == [{"one": 1}]


@pytest.mark.emulator
def test_a_query_that_bigquery_refuses_is_trouble(emulator: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="nope"):
        emulator.query("SELECT nope FROM tally.events")
