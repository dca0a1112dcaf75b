"""BigQuery SQL on DuckDB: each statement gives what GoogleSQL's reference implementation gives."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest

from governance.dialect import to_duckdb
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.schema import read_tables
from governance.warehouse import WarehouseError
from tests.googlesql import Reference
from tests.warehouse_rows import NOON, random_company

T = "tally.events"
STATEMENTS = {
    "decimals of NUMERIC": "SELECT NUMERIC '0.1' + NUMERIC '0.2' AS a, 1234 * NUMERIC '0.0000025' AS b",
    "decimals of BIGNUMERIC": "SELECT BIGNUMERIC '0.000001' * 3 AS a, CAST('0.123456789012345678' AS BIGNUMERIC) AS b",
    "rounding of NUMERIC": "SELECT ROUND(NUMERIC '2.675', 2) AS a, ROUND(NUMERIC '-2.5') AS b",
    "sums of NUMERIC": f"SELECT team, SUM(gateway_cost_usd) AS a FROM {T} GROUP BY team ORDER BY team",
    "COUNTIF of nothing": f"SELECT COUNTIF(stream) AS a, COUNT(*) AS b, SUM(input_tokens) AS c FROM {T} WHERE FALSE",
    "COUNTIF": f"SELECT tool, COUNTIF(status = 'error') AS a FROM {T} GROUP BY tool ORDER BY tool",
    "division": "SELECT 7 / 2 AS a, SAFE_DIVIDE(1, 0) AS b, DIV(7, 2) AS c, MOD(-7, 3) AS d",
    "shares": f"SELECT SAFE_DIVIDE(COUNTIF(status = 'ok'), COUNT(*)) AS a FROM {T}",
    "halves to integers": "SELECT CAST(2.5 AS INT64) AS a, CAST(-2.5 AS INT64) AS b, CAST(5 / 2 AS INT64) AS c",
    "SAFE_CAST": "SELECT SAFE_CAST('x' AS INT64) AS a, SAFE_CAST('12' AS INT64) AS b",
    "nulls first": f"SELECT DISTINCT team FROM {T} ORDER BY team",
    "nulls last, descending": f"SELECT DISTINCT team FROM {T} ORDER BY team DESC",
    "nulls in functions": "SELECT CONCAT('a', CAST(NULL AS STRING)) AS a, GREATEST(1, NULL) AS b, LEAST(NULL, 2) AS c",
    "IFNULL and IF": "SELECT IFNULL(team, '') AS a, IF(stream, 1, 2) AS b, COUNT(*) AS n"
    f" FROM {T} GROUP BY 1, 2 ORDER BY 1",
    "week, ISO": f"SELECT DATE_TRUNC(DATE(occurred_at), ISOWEEK) AS a, COUNT(*) AS n FROM {T} GROUP BY a ORDER BY a",
    "week, Monday": f"SELECT DATE_TRUNC(DATE(occurred_at), WEEK(MONDAY)) AS a FROM {T} ORDER BY a",
    "week, Sunday": f"SELECT DATE_TRUNC(DATE(occurred_at), WEEK) AS a FROM {T} ORDER BY a",
    "month": f"SELECT DATE_TRUNC(DATE(occurred_at), MONTH) AS a, COUNT(*) AS n FROM {T} GROUP BY a ORDER BY a",
    "timestamps truncated": "SELECT TIMESTAMP_TRUNC(occurred_at, DAY) AS a, COUNT(*) AS n"
    f" FROM {T} GROUP BY a ORDER BY a",
    "days in a time zone": "SELECT DATE(occurred_at, 'America/New_York') AS a, COUNT(*) AS n"
    f" FROM {T} GROUP BY a ORDER BY a",
    "dates moved": "SELECT DATE_ADD(DATE '2026-01-31', INTERVAL 1 MONTH) AS a,"
    " DATE_SUB(DATE '2026-03-31', INTERVAL 1 DAY) AS b",
    "differences of dates": "SELECT DATE_DIFF(DATE '2026-09-07', DATE '2026-09-06', WEEK(MONDAY)) AS a,"
    " DATE_DIFF(DATE '2026-09-07', DATE '2026-09-06', WEEK) AS b,"
    " DATE_DIFF(DATE '2026-10-01', DATE '2026-09-30', MONTH) AS c",
    "differences of times": "SELECT"
    " TIMESTAMP_DIFF(TIMESTAMP '2026-01-02 00:00:00+00', TIMESTAMP '2026-01-01 12:30:00+00', HOUR) AS a",
    "parts of a date": f"SELECT EXTRACT(DAYOFWEEK FROM occurred_at) AS a, EXTRACT(ISOWEEK FROM occurred_at) AS b,"
    " EXTRACT(WEEK FROM occurred_at) AS w,"
    f" EXTRACT(HOUR FROM occurred_at) AS c, COUNT(*) AS n FROM {T} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
    "written dates": "SELECT FORMAT_DATE('%Y-%m', DATE '2026-09-02') AS a,"
    " FORMAT_DATE('%b %d', DATE '2026-09-02') AS b",
    "written times": "SELECT"
    " FORMAT_TIMESTAMP('%F %H:%M', TIMESTAMP '2026-03-01 03:00:00+00', 'America/Los_Angeles') AS a",
    "all days of a span": "SELECT d"
    " FROM UNNEST(GENERATE_DATE_ARRAY(DATE '2026-08-31', DATE '2026-09-08')) AS d ORDER BY d",
    "no days of no span": "SELECT d FROM UNNEST(GENERATE_DATE_ARRAY(CAST(NULL AS DATE), DATE '2026-09-08')) AS d",
    "first of each": f"SELECT tool, event_id FROM {T} WHERE TRUE"
    " QUALIFY ROW_NUMBER() OVER (PARTITION BY tool ORDER BY occurred_at, received_at, event_id) = 1 ORDER BY tool",
    "running sums": f"SELECT day, SUM(n) OVER (ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) AS a"
    f" FROM (SELECT DATE(occurred_at) AS day, COUNT(*) AS n FROM {T} GROUP BY day) ORDER BY day",
    "quantiles": "SELECT DISTINCT tool, PERCENTILE_CONT(input_tokens, 0.9) OVER (PARTITION BY tool) AS a"
    f" FROM {T} ORDER BY tool",
    "distinct counts": f"SELECT COUNT(DISTINCT person) AS a, COUNT(team) AS b, MAX(team) AS c FROM {T}",
    "names in a list": f"SELECT COUNT(*) AS a FROM {T} WHERE team IN ('Ads', 'Web') AND tool NOT IN ('codex')",
    "a row for each": "SELECT team, STRING_AGG(DISTINCT tool, ',' ORDER BY tool) AS a"
    f" FROM {T} GROUP BY team ORDER BY team",
    "texts": "SELECT REGEXP_CONTAINS('gpt-4o', r'^gpt') AS a, SPLIT('a/b', '/')[SAFE_OFFSET(1)] AS b, UPPER('é') AS c",
    "written numbers": "SELECT FORMAT('%.2f', 1.005e3) AS a, FORMAT('%d items', 7) AS b",
    "both sides of a join": "SELECT COUNT(*) AS a"
    f" FROM {T} AS e LEFT JOIN tally.people AS p ON e.person = p.person AND p.team = e.team",
}


@pytest.fixture(scope="module")
def engines() -> Iterable[tuple[Reference, DuckDBWarehouse]]:
    content, reference, duck = random_company(11), Reference(), DuckDBWarehouse(":memory:")
    duck.apply_schema()
    for table in read_tables():
        rows = content.get(table.name, [])
        reference.add(table.name, [(field.name, field.type) for field in table.fields], rows)
        duck.append(table.name, rows)
    yield reference, duck
    duck.close()


@pytest.mark.parametrize("name", STATEMENTS)
def test_duckdb_answers_as_googlesql_does(engines: tuple[Reference, DuckDBWarehouse], name: str) -> None:
    reference, duck = engines
    _, expected = reference.query(STATEMENTS[name])
    found = duck.query(STATEMENTS[name])
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert list(ours) == list(theirs)
        for column, value in theirs.items():
            assert same(ours[column], value), (column, ours, theirs)


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, float) and ours is not None:
        return math.isclose(ours, theirs, rel_tol=1e-12)
    return bool(ours == theirs) and isinstance(ours, bool) == isinstance(theirs, bool)


def test_parameters_keep_their_names_and_can_be_compared(engines: tuple[Reference, DuckDBWarehouse]) -> None:
    reference, duck = engines
    sql = (
        f"SELECT COUNT(*) AS n FROM {T} WHERE DATE(occurred_at) BETWEEN @first AND @last"
        " AND (@tool IS NULL OR tool = @tool)"
    )
    assert to_duckdb(sql).parameters == {"first", "last", "tool"}
    for tool in ("codex", None):
        given = {"first": NOON.date(), "last": NOON.date().replace(year=2099), "tool": tool}
        assert duck.query(sql, given) == reference.query(sql, given)[1]


def test_division_by_zero_is_an_error_in_both(engines: tuple[Reference, DuckDBWarehouse]) -> None:
    reference, duck = engines
    with pytest.raises(Exception, match="division by zero"):
        reference.query("SELECT 1 / 0 AS a")
    with pytest.raises(WarehouseError, match="division by zero"):
        duck.query("SELECT 1 / 0 AS a")


def test_a_statement_is_translated_once() -> None:
    sql = "SELECT 1 AS only_here"
    assert to_duckdb(sql) is to_duckdb(sql)
