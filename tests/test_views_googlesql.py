"""The statements of `sql/`: GoogleSQL accepts each, and DuckDB gives the rows of its reference implementation."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from governance.bigquery_warehouse import rewriting
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.events import UsageEvent
from governance.schema import View, read_tables, read_views
from tests.googlesql import Reference
from tests.warehouse_rows import NOON, Row, random_company

VIEWS = read_views()
NOW = {"closed_at", "looked_at"}  # when it was asked: another moment for each of the two
AGES = ("data_checks", "Fresh")  # and what is measured from then


def reference(content: dict[str, list[Row]] | None = None) -> Reference:
    made = Reference()
    for table in read_tables():
        columns = [(field.name, field.type) for field in table.fields]
        made.add(table.name, columns, (content or {}).get(table.name, []))
    return made


def test_every_field_of_the_event_is_a_column_and_nothing_else_but_when_it_was_received() -> None:
    (events,) = (table for table in read_tables() if table.name == "events")
    fields = UsageEvent.model_fields
    assert [field.name for field in events.fields] == [*fields, "received_at"]
    assert [field.description for field in events.fields[:-1]] == [field.description for field in fields.values()]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_view_says_its_grain_and_names_its_columns(view: View) -> None:
    assert view.grain.startswith("one row")
    assert len(view.description) > 40
    columns, _, _ = view.sql.rpartition("\nSELECT\n")[2].partition("\nFROM")
    assert not re.search(r"(^|\.)\s*\*", columns)


def test_googlesql_accepts_every_view_as_bigquery_is_given_it() -> None:
    google = reference()
    for view in VIEWS:
        google.analyse(f"CREATE OR REPLACE VIEW tally.{view.name} OPTIONS (description = 'd') AS\n{view.sql}")
        columns, _ = google.query(view.sql)
        google.add(view.name, columns, [])
    google.analyse(
        "SELECT SUM(cost_usd) FROM tally.daily_cost WHERE day BETWEEN @a AND @b", {"a": NOON.date(), "b": NOON.date()}
    )


def test_googlesql_accepts_the_statement_that_rewrites_days_of_a_table() -> None:
    google = reference()
    for view in VIEWS:
        columns, _ = google.query(view.sql)
        google.add(view.name, columns, [])
    pairs = {"person_rollup": "live_usage", "team_rollup": "team_usage", "statements": "statement_lines"}
    for table in read_tables():
        if table.name in pairs:
            column = table.partition or ""
            google.analyse(rewriting(table, pairs[table.name], column, [date(2026, 11, 1), date(2026, 11, 2)]))


def test_googlesql_refuses_what_duckdb_would_let_pass() -> None:
    with pytest.raises(Exception, match="neither grouped nor aggregated"):
        reference().analyse("SELECT team, COUNT(*) FROM tally.events GROUP BY tool")
    with pytest.raises(Exception, match="No matching signature"):
        reference().analyse("SELECT input_tokens + team FROM tally.events")


@pytest.mark.parametrize("seed", range(6))
def test_every_view_has_the_rows_of_the_reference_implementation(seed: int) -> None:
    while True:
        day = datetime.now(UTC).date()
        content = random_company(seed)
        google, duck = reference(content), DuckDBWarehouse(":memory:")
        duck.apply_schema()
        for table, rows in content.items():
            assert duck.append(table, rows) == {}
        pairs = []
        for view in VIEWS:
            columns, rows = google.query(view.sql)
            google.add(view.name, columns, rows)
            pairs.append((view.name, rows, duck.query(f"SELECT * FROM tally.{view.name}")))
        duck.close()
        if datetime.now(UTC).date() == day:  # both asked for today; they saw the same one
            break
    for name, expected, found in pairs:
        assert expected, f"{name} has no rows to compare"
        assert_same(name, expected, found)


def assert_same(name: str, expected: list[Row], found: list[Row]) -> None:
    def key(row: Row) -> str:  # exact values: two that are equal look the same, whatever the engine's decimals
        exact = [(k, v) for k, v in sorted(row.items()) if k not in NOW and not isinstance(v, float)]
        return repr([(k, f"{v.normalize():f}" if isinstance(v, Decimal) else str(v)) for k, v in exact])

    assert len(found) == len(expected), name
    for theirs, ours in zip(sorted(expected, key=key), sorted(found, key=key), strict=True):
        assert list(theirs) == list(ours), name
        for column, value in theirs.items():
            if column in NOW or (column == "value" and (name, theirs["name"]) == AGES):
                continue
            if isinstance(value, float):
                assert math.isclose(value, ours[column], rel_tol=1e-9), (name, column, theirs, ours)
            else:
                assert value == ours[column], (name, column, theirs, ours)
