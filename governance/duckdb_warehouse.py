"""The Warehouse in one DuckDB file, for a laptop and for tests. Only one process at a time can open the file."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot.errors import SqlglotError

from governance.dialect import BIGNUMERIC, MACROS, NUMERIC, to_duckdb
from governance.schema import DATASET, Field, Table, read_tables, read_views
from governance.warehouse import Row, WarehouseError, on_days

_CATALOG = "warehouse"
# BigQuery type: DuckDB type, Arrow type, the Python types that fit it.
_TYPES: dict[str, tuple[str, pa.DataType, tuple[type, ...]]] = {
    "STRING": ("VARCHAR", pa.string(), (str,)),
    "INT64": ("BIGINT", pa.int64(), (int,)),
    "FLOAT64": ("DOUBLE", pa.float64(), (float, int)),
    "BOOL": ("BOOLEAN", pa.bool_(), (bool,)),
    "NUMERIC": (NUMERIC, pa.decimal128(38, 9), (Decimal, int)),
    "BIGNUMERIC": (BIGNUMERIC, pa.decimal128(38, 18), (Decimal, int)),
    "TIMESTAMP": ("TIMESTAMPTZ", pa.timestamp("us", tz="UTC"), (datetime,)),
    "DATE": ("DATE", pa.date32(), (date,)),
    "BYTES": ("BLOB", pa.binary(), (bytes,)),
}
_ALIKE = {bool: int, datetime: date}  # a subclass in Python, another type in a warehouse
_UNFIT = (pa.ArrowException, ValueError, TypeError, OverflowError)


def _column(values: list[Any], field: Field) -> pa.Array:
    """Raises one of _UNFIT when a value does not fit the field."""
    _, arrow, fitting = _TYPES[field.type]
    for kind in set(map(type, values)) - {type(None)}:
        if not issubclass(kind, fitting) or _ALIKE.get(kind) in fitting:
            raise TypeError(kind.__name__)
    column = pa.array(values, arrow)
    if field.mode == "REQUIRED" and column.null_count:
        raise ValueError("null")
    return column


def _fault(row: Row, fields: Sequence[Field]) -> str | None:
    """Why the table can never take this row: the column and what it wants, not the value."""
    for field in fields:
        try:
            _column([row.get(field.name)], field)
        except _UNFIT:
            return f"{field.name}: not {field.type}" if row.get(field.name) is not None else f"{field.name}: missing"
    return None


def _arrow(rows: Sequence[Row], fields: Sequence[Field]) -> pa.Table:
    columns = [_column([row.get(field.name) for row in rows], field) for field in fields]
    return pa.table(columns, names=[field.name for field in fields])


def _fitting(rows: Sequence[Row], table: Table) -> tuple[pa.Table, dict[int, str]]:
    """(the rows that fit, the others with the reason). The usual case, that all fit, costs one conversion."""
    names = {field.name for field in table.fields}
    if not all(row.keys() <= names for row in rows):
        raise WarehouseError(f"the table {table.name} is older than this program: apply the schema")
    try:
        return _arrow(rows, table.fields), {}
    except _UNFIT:
        bad = {i: fault for i, row in enumerate(rows) if (fault := _fault(row, table.fields))}
        return _arrow([row for i, row in enumerate(rows) if i not in bad], table.fields), bad


class _Batch:
    """Rows on their way to the disk."""

    def __init__(self, table: str, rows: pa.Table) -> None:
        self.table, self.rows = table, rows
        self.done = False
        self.error: Exception | None = None


class DuckDBWarehouse:
    """`path` is a file's path or :memory:. Reads run beside each other and beside the one write."""

    def __init__(self, path: str) -> None:
        if path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._connection = duckdb.connect()
        quoted = path.replace("'", "''")
        try:
            # Under a name of ours: a file tally.duckdb would be the catalog `tally`, and so hide the schema `tally`.
            self._connection.execute(f"ATTACH '{quoted}' AS {_CATALOG}; USE {_CATALOG}")
        except duckdb.Error as error:
            self._connection.close()
            raise WarehouseError(f"DuckDB cannot open {path}: {error}") from error
        self._connection.execute("SET GLOBAL TimeZone = 'UTC'")
        self._connection.execute(MACROS)
        self._tables = {table.name: table for table in read_tables()}
        self._writing = threading.Lock()
        self._waiting: deque[_Batch] = deque()

    def close(self) -> None:
        """Write everything into the file itself and give it free."""
        with self._writing:
            self._connection.close()

    def append(self, table: str, rows: Sequence[Row]) -> dict[int, str]:
        """See Warehouse. Threads that append at the same time share one transaction, so one flush of the disk."""
        good, bad = _fitting(rows, self._table(table))
        if good.num_rows:
            self._store(_Batch(table, good))
        return bad

    def replace(self, table: str, rows: Sequence[Row]) -> None:
        """See Warehouse."""
        good, bad = _fitting(rows, self._table(table))
        if bad:
            index, reason = next(iter(bad.items()))
            raise WarehouseError(f"{table}, row {index}: {reason}")

        def whole() -> None:
            self._connection.execute(f"DELETE FROM {DATASET}.{table}")  # noqa: S608 - a table of ours, looked up above
            self._insert(table, good)

        with self._writing:
            try:
                self._transaction(whole)
            except duckdb.Error as error:
                raise WarehouseError(f"DuckDB did not replace {table}: {error}") from error

    def rewrite(self, table: str, view: str, column: str, days: Sequence[date]) -> None:
        """See Warehouse."""
        names = [field.name for field in self._table(table).fields]
        if column not in names or view not in {found.name for found in read_views()}:
            raise WarehouseError(f"{table} cannot be rewritten from {view} by {column}")
        if not days:
            return
        columns, where = ", ".join(names), on_days(column, days)

        def again() -> None:
            self._connection.execute(f"DELETE FROM {DATASET}.{table} WHERE {where}")  # noqa: S608 - names of ours
            self._connection.execute(
                f"INSERT INTO {DATASET}.{table} BY NAME SELECT {columns} FROM {DATASET}.{view} WHERE {where}"  # noqa: S608
            )

        with self._writing:
            try:
                self._transaction(again)
            except duckdb.Error as error:
                raise WarehouseError(f"DuckDB did not rewrite {table}: {error}") from error

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """See Warehouse."""
        try:
            text, names = to_duckdb(sql)
            given = {name: (params or {})[name] for name in names}
            with self._connection.cursor() as cursor:
                cursor.execute(f"USE {_CATALOG}")
                answer = cursor.sql(text, params=given)
                if answer is None:
                    return []
                return _rows(answer)
        except KeyError as error:
            raise WarehouseError(f"the query lacks a value for @{error.args[0]}") from None
        except (duckdb.Error, SqlglotError) as error:
            raise WarehouseError(f"DuckDB did not answer: {error}") from error

    def apply_schema(self) -> None:
        """See Warehouse."""
        statements = [f"CREATE SCHEMA IF NOT EXISTS {DATASET}"]
        for table in self._tables.values():
            name = f"{DATASET}.{table.name}"
            columns = [f"{field.name} {_TYPES[field.type][0]}" for field in table.fields]
            statements.append(f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(columns)})")
            statements += [f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {column}" for column in columns]
        statements += [
            f"CREATE OR REPLACE VIEW {DATASET}.{view.name} AS {to_duckdb(view.sql).sql}" for view in read_views()
        ]
        with self._writing:
            try:
                self._transaction(lambda: self._connection.execute(";\n".join(statements)))
            except duckdb.Error as error:
                raise WarehouseError(f"DuckDB did not apply the schema: {error}") from error

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            raise WarehouseError(f"there is no table {name}")
        return self._tables[name]

    def _store(self, batch: _Batch) -> None:
        self._waiting.append(batch)
        with self._writing:
            if not batch.done:  # nobody has taken it along: it takes along all that wait by now
                group = [self._waiting.popleft() for _ in range(len(self._waiting))]
                self._store_group(group)
        if batch.error is not None:
            raise WarehouseError(f"DuckDB did not store into {batch.table}: {batch.error}") from batch.error

    def _store_group(self, group: list[_Batch]) -> None:
        def insert_all() -> None:
            for table in {batch.table: None for batch in group}:
                self._insert(table, pa.concat_tables([batch.rows for batch in group if batch.table == table]))

        error: Exception | None = None
        try:
            self._transaction(insert_all)
        except duckdb.Error as trouble:
            error = trouble
        for batch in group:
            batch.done, batch.error = True, error

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._connection.register("arriving", rows)
        self._connection.execute(f"INSERT INTO {DATASET}.{table} BY NAME SELECT * FROM arriving")  # noqa: S608
        self._connection.unregister("arriving")

    def _transaction(self, work: Callable[[], object]) -> None:
        self._connection.execute("BEGIN")
        try:
            work()
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _rows(answer: duckdb.DuckDBPyRelation) -> list[dict[str, Any]]:
    whole = {name for name, kind in zip(answer.columns, answer.types, strict=True) if str(kind) == "HUGEINT"}
    rows: list[dict[str, Any]] = answer.to_arrow_table().to_pylist()
    for row in rows:
        for name in whole:  # a sum of integers, which Arrow carries as a decimal
            value: Decimal | None = row[name]
            row[name] = None if value is None else int(value)
    return rows
