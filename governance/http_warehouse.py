"""The Warehouse behind `local/warehouse.py`: one process owns the DuckDB file, the others ask it over HTTP.

A body is one JSON object. What JSON has no form for is an object with one key: {"$decimal": "1.5"}, {"$time": …},
{"$date": …}, {"$bytes": base64}. Both sides use `encode` and `decode`, so that nothing passes through a float.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from http.client import HTTPConnection, HTTPException
from typing import Any

from governance.warehouse import Row, WarehouseError

_READERS: dict[str, Callable[[str], Any]] = {
    "$decimal": Decimal,
    "$time": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$bytes": base64.b64decode,
}


def _wrap(value: object) -> dict[str, str]:
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, datetime):
        return {"$time": value.isoformat()}
    if isinstance(value, date):
        return {"$date": value.isoformat()}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(f"a warehouse has no {type(value).__name__}")


def _unwrap(found: dict[str, Any]) -> Any:
    if len(found) == 1:
        (key, value), *_ = found.items()
        if key in _READERS:
            return _READERS[key](value)
    return found


def encode(body: Mapping[str, Any]) -> bytes:
    """The body as JSON bytes. Raises TypeError for a value that a warehouse cannot hold."""
    return json.dumps(body, default=_wrap).encode()


def decode(body: bytes) -> dict[str, Any]:
    """The body that `encode` was given. Raises ValueError when it is no such thing."""
    found = json.loads(body, object_hook=_unwrap)
    if not isinstance(found, dict):
        raise ValueError("the body is not an object")
    return found


class HTTPWarehouse:
    """`address` is host:port. A connection for each call: it is loopback, and nothing can go stale."""

    def __init__(self, address: str, timeout_s: float = 60.0) -> None:
        self._address, self._timeout_s = address.rstrip("/"), timeout_s

    def append(self, table: str, rows: Sequence[Row]) -> dict[int, str]:
        """See Warehouse."""
        bad = self._ask("append", {"table": table, "rows": [dict(row) for row in rows]})["bad"]
        return {int(index): str(reason) for index, reason in bad.items()}

    def replace(self, table: str, rows: Sequence[Row]) -> None:
        """See Warehouse."""
        self._ask("replace", {"table": table, "rows": [dict(row) for row in rows]})

    def rewrite(self, table: str, view: str, column: str, days: Sequence[date]) -> None:
        """See Warehouse."""
        self._ask("rewrite", {"table": table, "view": view, "column": column, "days": list(days)})

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """See Warehouse."""
        answer = self._ask("query", {"sql": sql, "params": dict(params or {})})
        return [dict(zip(answer["columns"], values, strict=True)) for values in answer["rows"]]

    def apply_schema(self) -> None:
        """See Warehouse. The owner does so at its start; this does it again."""
        self._ask("apply_schema", {})

    def _ask(self, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        connection = HTTPConnection(self._address, timeout=self._timeout_s)
        try:
            connection.request("POST", f"/{what}", encode(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            found = decode(answer.read())
        except (OSError, HTTPException, ValueError) as error:
            raise WarehouseError(f"the warehouse at {self._address} did not answer: {type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise WarehouseError(str(found.get("error", f"the warehouse answered {answer.status}")))
        return found
