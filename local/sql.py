"""`python -m local sql "SELECT …"`: BigQuery SQL against the running warehouse, a JSON object per row."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from governance.warehouse import open_warehouse
from local.home import read_run


def _other(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, date):  # and datetime
        return value.isoformat()
    return str(value)


def json_line(row: Mapping[str, Any]) -> str:
    """The row as JSON. A decimal is a number with all its digits; times are ISO 8601, bytes base64."""
    return "{" + ", ".join(f"{json.dumps(name)}: {_cell(value)}" for name, value in row.items()) + "}"


def _cell(value: object) -> str:
    if not isinstance(value, Decimal):
        return json.dumps(value, default=_other)
    whole, point, rest = f"{value:f}".partition(".")
    return whole + (point + rest.rstrip("0")).rstrip(".")


def ask(sql: str) -> None:
    """Print the rows. Raises NotRunning, and WarehouseError when the warehouse does not understand the SQL."""
    for row in open_warehouse(read_run()["warehouse_url"]).query(sql):
        print(json_line(row))
