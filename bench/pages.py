"""What a page asks, at ten million events and at a hundred thousand; and what BigQuery would read for it.

    python -m bench.pages [--events 10000000]

A company of a thousand people in twenty teams over ninety days, drawn by the warehouse itself, rolled up as the alerts
function does. Every statement of the Overview runs in turn; the ratio is between the sums of medians of one run. The
bytes are computed, not measured: the columns that a statement reads (traced through the views), in the days it asks
for, by BigQuery's documented sizes of their values, from the same tables.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.pushdown_projections import pushdown_projections
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import traverse_scope

from governance import prices, rollup
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.schema import DATASET, read_tables, read_views
from streamlit_app import figures, queries

PEOPLE, TEAMS, DAYS, FEW = 1_000, 20, 90, 100_000
USUAL = PEOPLE * DAYS * 14  # the rate of the demo's company: fourteen requests a person and day
ROUNDS = 7
ROLLUPS = ("team_rollup", "person_rollup")
MEBIBYTE = 1 << 20
_PAST, _LIVE = "day < CURRENT_DATE", "day >= CURRENT_DATE"
_WIDTH = {"INT64": 8, "FLOAT64": 8, "BOOL": 1, "DATE": 8, "TIMESTAMP": 8, "NUMERIC": 16, "BIGNUMERIC": 32}
_DRAWN: Mapping[str, str] = {  # of event i, made by person p
    "schema_version": "1",
    "event_id": "md5(i::VARCHAR)",
    "request_id": "md5(i::VARCHAR)",
    "occurred_at": "t",
    "received_at": "t + INTERVAL 2 SECOND",
    "person": "'somebody.' || p || '@example.com'",
    "team": f"'Team ' || (p % {TEAMS})",
    "key_id": "'0123456789' || p",
    "key_kind": "'human'",
    "tool": "CASE WHEN p % 3 = 0 THEN 'codex' ELSE 'claude-code' END",
    "tool_version": "'2.1.197'",
    "user_agent": "'claude-cli/2.1.197 (external, cli)'",
    "route": "CASE WHEN p % 3 = 0 THEN 'responses' ELSE 'messages' END",
    "provider": "CASE WHEN p % 3 = 0 THEN 'openai' ELSE 'anthropic' END",
    "model": "m",
    "model_requested": "m",
    "stream": "TRUE",
    "status": "CASE WHEN hash(i, 9) % 80 = 0 THEN 'error' ELSE 'ok' END",
    "usage_source": "CASE WHEN hash(i, 5) % 60 = 0 THEN 'counted' ELSE 'provider' END",
    "input_tokens": "(hash(i, 6) % 9000)::BIGINT",
    "cache_read_tokens": "(hash(i, 7) % 160000)::BIGINT",
    "output_tokens": "(hash(i, 8) % 3000 + 1)::BIGINT",
    "billing_mode": "'metered'",
    "service_tier": "'standard'",
    "superseded": "FALSE",
}
_MODELS = (
    "CASE WHEN p % 3 = 0 THEN CASE WHEN hash(i, 3) % 5 = 0 THEN 'gpt-5-mini' ELSE 'gpt-6.1-sol' END "
    "ELSE CASE WHEN hash(i, 3) % 5 = 0 THEN 'claude-haiku-4-5' ELSE 'claude-opus-5-5' END END"
)


def company(events: int, path: Path, people: int = PEOPLE) -> DuckDBWarehouse:
    """A warehouse with so many events of so many people, of the last ninety days in the order of time, rolled up."""
    warehouse = DuckDBWarehouse(str(path))
    warehouse.apply_schema()
    warehouse.replace("prices", prices.rows_for_warehouse())
    (table,) = (found for found in read_tables() if found.name == "events")
    drawn = {field.name: _DRAWN.get(field.name, "0" if field.mode == "REQUIRED" else "NULL") for field in table.fields}
    columns = ", ".join(f"{what} AS {name}" for name, what in drawn.items())
    spread_s = DAYS * 86_400 / events
    warehouse._connection.execute(  # a million rows a second, where `append` would take minutes
        f"INSERT INTO {DATASET}.events BY NAME SELECT {columns} FROM ("
        f"SELECT i, p, {_MODELS} AS m, date_trunc('day', now()) - INTERVAL {DAYS - 1} DAY"
        f" + to_seconds(i * {spread_s}) AS t"
        f" FROM (SELECT i, (hash(i, 1) % {people})::BIGINT AS p FROM range({events}) numbers(i)))"
    )
    listed = [
        {
            "person": f"somebody.{number}@example.com", "name": f"Somebody {number}", "team": f"Team {number % TEAMS}",
            "role": "engineer", "joined_on": date(2020, 1, 1), "left_on": None,
        }
        for number in range(people)
    ]  # fmt: skip
    warehouse.replace("people", listed)
    rollup.refresh(warehouse)
    return warehouse


def statements(today: date) -> dict[str, tuple[str, dict[str, Any]]]:
    """What the Overview asks in all as it opens, with empty caches: name to statement and parameters."""
    period, yesterday = figures.last_days(today, 28), today - timedelta(days=1)

    def since(first_day: date, last_day: date = yesterday, **more: str) -> dict[str, Any]:
        return {"first_day": first_day, "last_day": last_day, **more}

    reach, thirteen_weeks = today - timedelta(days=queries.REACH_DAYS), today - timedelta(weeks=13)
    return {
        "freshness": (queries.FRESHNESS, {"last_day": yesterday}),
        "shelved": (queries.SHELVED, {}),
        "groups": (queries.GROUPS, {"last_day": yesterday}),
        "today": (queries.TODAY, {"today": today}),
        "models": (queries.MODELS, since(reach)),
        "daily": (queries.DAILY, since(period.reach, shown_as="")),
        "daily, the month": (queries.DAILY, since(today.replace(day=1), shown_as="")),
        "daily, thirteen weeks": (queries.DAILY, since(thirteen_weeks, shown_as="")),
        "daily by model": (queries.DAILY_BY_MODEL, since(period.first, shown_as="")),
        "daily by tool": (queries.DAILY_BY_TOOL, since(period.first - timedelta(days=7), shown_as="")),
        "daily by group": (queries.DAILY_BY_GROUP, since(period.first - timedelta(days=7))),
        "weeks": (queries.WEEKS, since(thirteen_weeks, today)),
    }


def timed(warehouse: DuckDBWarehouse, sql: str, params: Mapping[str, Any]) -> float:
    """Milliseconds, the median of some runs."""
    found = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        warehouse.query(sql, params)
        found.append(1000 * (time.perf_counter() - begun))
    return statistics.median(found)


class Bytes:
    """How much BigQuery would read for a statement: whole columns of the partitions that it cannot leave out.

    A branch of a view that is about other days than those asked for has no partition left: of `day < CURRENT_DATE()`
    and `day >= CURRENT_DATE()` only one is read by a statement that ends yesterday, or that asks for today.
    """

    def __init__(self, warehouse: DuckDBWarehouse, today: date) -> None:
        self._warehouse, self._today = warehouse, today
        self._tables = {table.name: table for table in read_tables()}
        self._columns = {name: {f.name: f.type for f in table.fields} for name, table in self._tables.items()}
        self._views = {view.name: sqlglot.parse_one(view.sql, read="bigquery") for view in read_views()}

    def of(self, sql: str, params: Mapping[str, Any]) -> int:
        """Bytes for one run of a statement."""
        first = params.get("first_day", params.get("today", date(1970, 1, 1)))
        last = params.get("last_day", params.get("today", self._today))
        tree = self._expanded(sqlglot.parse_one(sql, read="bigquery"), first < self._today, last >= self._today)
        whole = pushdown_projections(qualify(tree, schema={DATASET: self._columns}, dialect="bigquery"))
        read = set()
        for scope in traverse_scope(whole):
            tables = {name: node for name, node in scope.sources.items() if isinstance(node, exp.Table)}
            for column in scope.columns:
                node = tables.get(column.table)
                if node is not None and not node.meta.get("left_out"):
                    read.add((node.name, column.name))
        return sum(self._size(table, column, first, last) for table, column in sorted(read))

    def _expanded(self, tree: exp.Expr, past: bool, live: bool) -> exp.Expr:
        """The statement with every view in it written out; tables of which no day is asked for are marked."""
        for node in list(tree.find_all(exp.Table)):
            select = node.find_ancestor(exp.Select)
            found = select.args.get("where") if select is not None else None
            where = found.sql("bigquery") if found is not None else ""
            its_past, its_live = past and _LIVE not in where, live and _PAST not in where
            if node.db != DATASET:
                continue
            if node.name in self._views:
                view = self._expanded(self._views[node.name].copy(), its_past, its_live)
                node.replace(exp.Subquery(this=view, alias=exp.TableAlias(this=exp.to_identifier(node.alias_or_name))))
            elif (self._tables[node.name].partition and not (its_past or its_live)) or (
                node.name == "events" and not its_live
            ):
                node.meta["left_out"] = True
        return tree

    def _size(self, table: str, column: str, first: date, last: date) -> int:
        """Of a column in the days that are read; of events, today's."""
        kind, partition = self._columns[table][column], self._tables[table].partition
        width = f"COUNT({column}) * {_WIDTH[kind]}" if kind in _WIDTH else f"SUM(LENGTH({column}) + 2)"  # null is free
        since = self._today if table == "events" else first
        where = f"WHERE DATE({partition}) BETWEEN @first_day AND @last_day" if partition else ""
        sql = f"SELECT IFNULL({width}, 0) AS bytes FROM {DATASET}.{table} {where}"
        return int(self._warehouse.query(sql, {"first_day": since, "last_day": last})[0]["bytes"])


def main() -> None:
    """Measure both companies, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    given = parser.parse_args()
    today = datetime.now(UTC).date()
    asked = statements(today)
    with tempfile.TemporaryDirectory() as folder:
        few, usual, many = (company(n, Path(folder) / f"{n}.duckdb") for n in (FEW, USUAL, given.events))
        print(f"{PEOPLE:,} people, {TEAMS} teams, {DAYS} days. MiB: what BigQuery would read.\n")
        heads = (
            f"ms at {FEW:,} events",
            f"ms at {given.events:,}",
            "ratio",
            f"MiB at {USUAL:,}",
            f"MiB at {given.events:,}",
        )
        print("| statement | " + " | ".join(heads) + " |\n|---|---|---|---|---|---|")
        totals = [0.0] * 4
        for name, (sql, params) in asked.items():
            took = [timed(few, sql, params), timed(many, sql, params)]
            read = [Bytes(warehouse, today).of(sql, params) / MEBIBYTE for warehouse in (usual, many)]
            totals = [total + value for total, value in zip(totals, [*took, *read], strict=True)]
            print(_line(name, *took, *read))
        print(_line("**the whole page**", *totals))
        rows = [many.query(f"SELECT COUNT(*) AS n FROM tally.{table}")[0]["n"] for table in ROLLUPS]
        print(f"\nRows of the rollups by team and by person at {given.events:,} events: {rows[0]:,} and {rows[1]:,}.")
        for warehouse in (few, usual, many):
            warehouse.close()


def _line(name: str, small_ms: float, large_ms: float, usual_mib: float, many_mib: float) -> str:
    return (
        f"| {name} | {small_ms:.0f} | {large_ms:.0f} | {large_ms / small_ms:.2f} | {usual_mib:.1f} | {many_mib:.1f} |"
    )


if __name__ == "__main__":
    main()
