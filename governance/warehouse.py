"""Warehouse: rows in, rows out. BigQuery in the cloud; on a laptop DuckDB, owned by one process and reached by HTTP.

Everybody writes BigQuery SQL and reads the views of `sql/views` by their names in the dataset `tally`. Values are str,
int, Decimal, float, bool, bytes, date and datetime (UTC); None is NULL. Each adapter is a module of its own, imported
only when its URL is opened, so that a small function does not carry the libraries of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Protocol

Row = Mapping[str, Any]


class WarehouseError(Exception):
    """Trouble that may pass: nothing is known to be stored or read. Ask again later, or answer 5xx."""


class Warehouse(Protocol):
    """Safe to use from several threads at once. Every call blocks."""

    def append(self, table: str, rows: Sequence[Row]) -> dict[int, str]:
        """Store rows; they are durable when this returns.

        Returns the rows that the warehouse will never take: index in `rows` to the reason, which names the column and
        not its content. All others are stored. Raises WarehouseError when any of them may not be.
        """

    def replace(self, table: str, rows: Sequence[Row]) -> None:
        """Make `rows` the whole content of a small table, all at once. Raises WarehouseError and changes nothing."""

    def rewrite(self, table: str, view: str, column: str, days: Sequence[date]) -> None:
        """Replace the rows of `table` whose `column` is one of `days` by those that `view` has for them, all at once.

        The view has the table's columns. Raises WarehouseError and changes nothing.
        """

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of a BigQuery SELECT; `params` gives the value of each @name in it. Raises WarehouseError."""

    def apply_schema(self) -> None:
        """Create what `sql/` describes and is not there, add new columns, and bring every view up to date."""


def open_warehouse(url: str) -> Warehouse:
    """The warehouse at a URL. Raises ValueError for a URL of another form.

    bigquery://project[?location=EU]   BigQuery
    http://127.0.0.1:port              the process that owns a DuckDB file (`python -m local.warehouse`)
    duckdb:///absolute/path            that file itself, in this process alone; duckdb://:memory: for tests
    """
    scheme, _, rest = url.partition("://")
    if scheme == "bigquery" and rest:
        from governance.bigquery_warehouse import BigQueryWarehouse

        return BigQueryWarehouse.at(rest)
    if scheme == "http" and rest:
        from governance.http_warehouse import HTTPWarehouse

        return HTTPWarehouse(rest)
    if scheme == "duckdb" and rest:
        from governance.duckdb_warehouse import DuckDBWarehouse

        return DuckDBWarehouse(rest)
    raise ValueError("a warehouse is bigquery://project, http://host:port or duckdb:///path")


def on_days(column: str, days: Sequence[date]) -> str:
    """The condition that a DATE column is one of `days`; as text, so that an engine leaves out all other partitions."""
    listed = ", ".join(f"DATE '{day:%Y-%m-%d}'" for day in days)
    return f"{column} IN ({listed})"
