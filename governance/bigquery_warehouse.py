"""The Warehouse in BigQuery, with Google's own client: streamed appends, load jobs, queries with typed parameters."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_JOB_RETRY, DEFAULT_RETRY
from requests.exceptions import RequestException

from governance.schema import DATASET, Table, read_tables, read_views
from governance.settings import bigquery_emulator
from governance.warehouse import Row, WarehouseError, on_days

LABELS = {"app": "tally"}
BILLED_MOST = 200 * 2**30  # of one query, in bytes: a page that would read more is a fault, not a page
REQUEST_BYTES = 8_000_000  # of one insert; BigQuery refuses ten million
_TROUBLE = (GoogleAPIError, GoogleAuthError, RequestException, OSError)
# The client's own ten minutes of trying again would outlast whoever asked: a message's deadline, a page's reader.
_RETRY = DEFAULT_RETRY.with_timeout(20.0)
_JOB_RETRY = DEFAULT_JOB_RETRY.with_timeout(60.0)
_REFUSED = (400, 413)  # HTTP: not a request, too large a request
_NEVER = "invalid"  # what BigQuery says of a row that it will never take; backendError, timeout and the like may pass


def _json(value: Any) -> Any:
    """A value as BigQuery's JSON rows have it."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def _parameter(name: str, value: Any) -> bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter:
    if isinstance(value, list | tuple):
        return bigquery.ArrayQueryParameter(name, _type(value[0]) if value else "STRING", list(value))
    return bigquery.ScalarQueryParameter(name, _type(value), value)


def _type(value: Any) -> str:
    for kind, name in (
        (bool, "BOOL"),
        (int, "INT64"),
        (float, "FLOAT64"),
        (Decimal, "BIGNUMERIC"),
        (datetime, "TIMESTAMP"),
        (date, "DATE"),
        (bytes, "BYTES"),
    ):
        if isinstance(value, kind):
            return name
    return "STRING"


def _pieces(rows: Sequence[dict[str, Any]]) -> Iterator[list[int]]:
    """Indices of rows that go into one insert together, by their size."""
    piece: list[int] = []
    size = 0
    for i, row in enumerate(rows):
        length = len(json.dumps(row))
        if piece and size + length > REQUEST_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(i)
        size += length
    if piece:
        yield piece


def rewriting(table: Table, view: str, column: str, days: Sequence[date]) -> str:
    """The statement that replaces the rows of a table of these days by those of a view."""
    columns = ", ".join(field.name for field in table.fields)
    return f"""
MERGE {DATASET}.{table.name} AS old
USING (SELECT {columns} FROM {DATASET}.{view} WHERE {on_days(column, days)}) AS fresh
ON FALSE
WHEN NOT MATCHED BY SOURCE AND {on_days("old." + column, days)} THEN DELETE
WHEN NOT MATCHED BY TARGET THEN INSERT ({columns}) VALUES ({columns})"""  # noqa: S608 - names of ours


class BigQueryWarehouse:
    """The dataset `tally` of one project. The client is safe for threads."""

    def __init__(self, client: bigquery.Client) -> None:
        self._client = client

    @classmethod
    def at(cls, place: str) -> BigQueryWarehouse:
        """`project[?location=EU]`; with BIGQUERY_EMULATOR_HOST, that emulator and no credentials."""
        project, _, options = place.partition("?")
        location = parse_qs(options).get("location", [None])[0]
        credentials = AnonymousCredentials() if bigquery_emulator() else None  # type: ignore[no-untyped-call]
        return cls(bigquery.Client(project=project, location=location, credentials=credentials))

    def append(self, table: str, rows: Sequence[Row]) -> dict[int, str]:
        """See Warehouse. Durable when it returns: BigQuery has the rows, though pages may see them a moment later."""
        sent = [{name: _json(value) for name, value in row.items()} for row in rows]
        bad: dict[int, str] = {}
        for piece in _pieces(sent):
            bad |= self._insert(table, sent, piece)
        return bad

    def _insert(self, table: str, rows: Sequence[dict[str, Any]], piece: list[int]) -> dict[int, str]:
        # The row id lets BigQuery drop most copies of its own accord; the views count each event once in any case.
        ids = [rows[i].get("event_id") or rows[i].get("message_id") for i in piece]
        try:
            faults = self._client.insert_rows_json(
                f"{self._client.project}.{DATASET}.{table}",
                [rows[i] for i in piece],
                row_ids=ids if all(ids) else [None] * len(ids),
                skip_invalid_rows=True,
                retry=_RETRY,
                timeout=30,
            )
        except _TROUBLE as error:
            if isinstance(error, GoogleAPICallError) and error.code in _REFUSED:
                # The request as a whole was refused: find the row at fault, so that it does not come back for ever.
                if len(piece) == 1:
                    return {piece[0]: f"BigQuery refused the row: {error.code}"}
                half = len(piece) // 2
                return self._insert(table, rows, piece[:half]) | self._insert(table, rows, piece[half:])
            raise WarehouseError(f"BigQuery did not take rows of {table}: {type(error).__name__}") from error
        bad = {}
        for fault in faults:
            errors = fault["errors"]
            if not any(e.get("reason") == _NEVER for e in errors):
                raise WarehouseError(f"BigQuery did not take rows of {table}: {errors[0].get('reason')}")
            if any("no such field" in e.get("message", "") for e in errors):
                raise WarehouseError(f"the table {table} is older than this program: apply the schema")
            bad[piece[fault["index"]]] = "; ".join(f"{e.get('location') or 'row'}: {e.get('reason')}" for e in errors)
        return bad

    def replace(self, table: str, rows: Sequence[Row]) -> None:
        """See Warehouse. One load job: readers see the old rows or the new ones."""
        name = f"{self._client.project}.{DATASET}.{table}"
        try:
            config = bigquery.LoadJobConfig(
                schema=self._client.get_table(name, retry=_RETRY).schema,
                source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
                write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
                labels=LABELS,
            )
            lines = (json.dumps({key: _json(value) for key, value in row.items()}) for row in rows)
            content = io.BytesIO("\n".join(lines).encode())
            self._client.load_table_from_file(content, name, job_config=config).result(timeout=120)
        except _TROUBLE as error:
            raise WarehouseError(f"BigQuery did not replace {table}: {error}") from error

    def rewrite(self, table: str, view: str, column: str, days: Sequence[date]) -> None:
        """See Warehouse. One statement, so all or nothing: a MERGE that matches no row deletes and inserts."""
        (known,) = (found for found in read_tables() if found.name == table)
        if not days:
            return
        try:
            self._run(rewriting(known, view, column, days), bigquery.QueryJobConfig(labels=LABELS))
        except _TROUBLE as error:
            raise WarehouseError(f"BigQuery did not rewrite {table}: {error}") from error

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """See Warehouse. A query that would read more than BILLED_MOST is refused before it costs anything."""
        config = bigquery.QueryJobConfig(
            query_parameters=[_parameter(name, value) for name, value in (params or {}).items()],
            maximum_bytes_billed=BILLED_MOST,
            labels=LABELS,
        )
        try:
            return self._run(sql, config)
        except _TROUBLE as error:
            raise WarehouseError(f"BigQuery did not answer: {error}") from error

    def _run(self, sql: str, config: bigquery.QueryJobConfig) -> list[dict[str, Any]]:
        job = self._client.query(sql, job_config=config, retry=_RETRY, job_retry=_JOB_RETRY)
        return [dict(row.items()) for row in job.result(retry=_RETRY, job_retry=_JOB_RETRY)]

    def apply_schema(self) -> None:
        """See Warehouse."""
        try:
            self._client.create_dataset(DATASET, exists_ok=True, retry=_RETRY)
            for table in read_tables():
                self._apply_table(table)
            for view in read_views():
                about = json.dumps(f"{view.description} One row: {view.grain}")  # a JSON string is a GoogleSQL string
                self._run(
                    f"CREATE OR REPLACE VIEW {DATASET}.{view.name} OPTIONS (description = {about}) AS\n{view.sql}",
                    bigquery.QueryJobConfig(labels=LABELS),
                )
        except _TROUBLE as error:
            raise WarehouseError(f"BigQuery did not apply the schema: {error}") from error

    def _apply_table(self, table: Table) -> None:
        fields = [bigquery.SchemaField(f.name, f.type, mode=f.mode, description=f.description) for f in table.fields]
        wanted = bigquery.Table(f"{self._client.project}.{DATASET}.{table.name}", schema=fields)
        wanted.description = table.description
        wanted.labels = LABELS
        if table.partition:
            wanted.time_partitioning = bigquery.TimePartitioning(field=table.partition)
        if table.cluster:
            wanted.clustering_fields = list(table.cluster)
        there = self._client.create_table(wanted, exists_ok=True, retry=_RETRY)
        missing = [field for field in fields if field.name not in {f.name for f in there.schema}]
        if missing:
            there.schema = [*there.schema, *missing]
            self._client.update_table(there, ["schema"], retry=_RETRY)
