"""GoogleSQL's own analyser and reference implementation (the `zetasql` wheel, WebAssembly), for tests of `sql/`.

The analyser says whether BigQuery would accept a statement; the reference implementation says what its rows are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import zetasql.core.wasm_client as wasm
import zetasql.types as T
from google.protobuf import timestamp_pb2  # type: ignore[import-untyped]
from zetasql.api import Analyzer, CatalogBuilder, TableBuilder
from zetasql.core import ZetaSqlLocalService
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2

from governance.schema import DATASET

Columns = Sequence[tuple[str, str]]  # name, GoogleSQL type
Row = Mapping[str, Any]


class _Cached(wasm.Config):  # type: ignore[misc]
    """Keep the compiled module between runs: half a minute to compile, a second to load."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = True


wasm.Config = _Cached

_KINDS = {
    "STRING": T.TypeKind.TYPE_STRING,
    "INT64": T.TypeKind.TYPE_INT64,
    "FLOAT64": T.TypeKind.TYPE_DOUBLE,
    "BOOL": T.TypeKind.TYPE_BOOL,
    "NUMERIC": T.TypeKind.TYPE_NUMERIC,
    "BIGNUMERIC": T.TypeKind.TYPE_BIGNUMERIC,
    "TIMESTAMP": T.TypeKind.TYPE_TIMESTAMP,
    "DATE": T.TypeKind.TYPE_DATE,
    "BYTES": T.TypeKind.TYPE_BYTES,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_TABLE = re.compile(rf"\b({DATASET}\.\w+)")
_DECIMALS = {"NUMERIC": 9, "BIGNUMERIC": 38}

_LANGUAGE = T.LanguageOptions.maximum_features()
_LANGUAGE.product_mode = T.ProductMode.PRODUCT_EXTERNAL  # BigQuery's: INT64, not INT32
_LANGUAGE.reserved_keywords.append("QUALIFY")


def _bytes(value: Decimal, decimals: int) -> bytes:
    number = int(value.scaleb(decimals).to_integral_exact())
    return number.to_bytes(max(1, (number.bit_length() + 8) // 8), "little", signed=True)


def _value(value: Any, kind: str) -> T.Value:
    if value is None:
        return T.Value()
    if kind == "NUMERIC":
        return T.Value(numeric_value=_bytes(Decimal(value), 9))
    if kind == "BIGNUMERIC":
        return T.Value(bignumeric_value=_bytes(Decimal(value), 38))
    if kind == "TIMESTAMP":
        moment = timestamp_pb2.Timestamp()
        moment.FromDatetime(value.astimezone(UTC).replace(tzinfo=None))
        return T.Value(timestamp_value=moment)
    if kind == "DATE":
        return T.Value(date_value=(value - date(1970, 1, 1)).days)
    field = {"STRING": "string", "INT64": "int64", "FLOAT64": "double", "BOOL": "bool", "BYTES": "bytes"}[kind]
    return T.Value(**{f"{field}_value": value})


def _python(value: Any, kind: str) -> Any:
    if value.WhichOneof("value") is None:
        return None
    if kind in _DECIMALS:
        raw = value.numeric_value if kind == "NUMERIC" else value.bignumeric_value
        return Decimal(int.from_bytes(raw, "little", signed=True)).scaleb(-_DECIMALS[kind])
    if kind == "TIMESTAMP":
        return value.timestamp_value.ToDatetime().replace(tzinfo=UTC)
    if kind == "DATE":
        return date.fromordinal(date(1970, 1, 1).toordinal() + value.date_value)
    return getattr(value, value.WhichOneof("value"))


def _kind(value: Any) -> str:
    for kind, name in ((bool, "BOOL"), (int, "INT64"), (Decimal, "NUMERIC"), (datetime, "TIMESTAMP"), (date, "DATE")):
        if isinstance(value, kind):
            return name
    return "STRING"


class Reference:
    """Tables of the dataset `tally` with their rows, and what GoogleSQL makes of statements over them."""

    def __init__(self) -> None:
        self._columns: dict[str, Columns] = {}
        self._content: dict[str, T.TableContent] = {}

    def add(self, name: str, columns: Columns, rows: Iterable[Row]) -> None:
        """A table. Its rows lack nothing but what is null."""
        self._columns[name] = columns
        cells = [T.TableData.Row(cell=[_value(row.get(c), kind) for c, kind in columns]) for row in rows]
        self._content[f"{DATASET}.{name}"] = T.TableContent(table_data=T.TableData(row=cells))

    def analyse(self, sql: str, params: Row | None = None) -> None:
        """Raises what the analyser says when BigQuery would not accept the statement."""
        Analyzer(self._options(params or {}), self._catalog()).analyze_statement(sql)

    def query(self, sql: str, params: Row | None = None) -> tuple[Columns, list[dict[str, Any]]]:
        """(columns, rows) of a SELECT."""
        params = params or {}
        read = set(_TABLE.findall(sql))
        service = ZetaSqlLocalService.get_instance()
        prepared = service.wasm_client.call_grpc_func(
            "ZetaSqlLocalService_PrepareQuery",
            T.PrepareQueryRequest(
                sql=_TABLE.sub(r"`\1`", sql),
                options=self._options(params),
                simple_catalog=self._catalog(),
                table_content={name: rows for name, rows in self._content.items() if name in read},
            ).to_proto(),
            local_service_pb2.PrepareQueryResponse,
        ).prepared
        given = [T.Parameter(name=name, value=_value(value, _kind(value))) for name, value in params.items()]
        answer = service.wasm_client.call_grpc_func(
            "ZetaSqlLocalService_EvaluateQuery",
            T.EvaluateQueryRequest(prepared_query_id=prepared.prepared_query_id, params=given).to_proto(),
            local_service_pb2.EvaluateQueryResponse,
        )
        service.unprepare_query(prepared_query_id=prepared.prepared_query_id)
        columns = [(column.name, _NAMES[column.type.type_kind]) for column in prepared.columns]
        rows = [
            {name: _python(cell, kind) for cell, (name, kind) in zip(row.cell, columns, strict=True)}
            for row in answer.content.table_data.row
        ]
        return columns, rows

    def _catalog(self) -> Any:
        dataset = CatalogBuilder(DATASET)
        project = CatalogBuilder("project")
        for number, (name, columns) in enumerate(self._columns.items()):
            # Once as BigQuery has it, table in dataset; once as the evaluator takes content, by one name.
            for catalog, full_name in ((dataset, name), (project, f"{DATASET}.{name}")):
                table = TableBuilder(full_name, serialization_id=2 * number + (catalog is project) + 1)
                for column, kind in columns:
                    table.add_column(column, T.Type(type_kind=_KINDS[kind]))
                catalog.add_table(table.build())
        functions = T.ZetaSQLBuiltinFunctionOptions(language_options=_LANGUAGE)
        built = project.with_builtin_functions(functions).build()
        built.catalog.append(dataset.build())
        return built

    def _options(self, params: Row) -> T.AnalyzerOptions:
        options = T.AnalyzerOptions(language_options=_LANGUAGE, default_timezone="UTC")
        for name, value in params.items():
            kind = T.Type(type_kind=_KINDS[_kind(value)])
            options.query_parameters.append(T.AnalyzerOptions.QueryParameter(name=name, type=kind))
        return options
