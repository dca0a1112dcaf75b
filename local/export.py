"""`python -m local export chargeback --month 2026-10 [--out FILE]`, or `export focus`: a month of charges, as CSV."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from governance import exports
from governance.warehouse import open_warehouse
from local.home import read_run

EXPORTS: dict[str, tuple[str, Callable[[Sequence[exports.Row]], str]]] = {
    "chargeback": (exports.CHARGEBACK_SQL, exports.chargeback_csv),
    "focus": (exports.FOCUS_SQL, exports.focus_csv),
}


class CannotExport(Exception):
    """What was asked for makes no sense, or there is nothing of it."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("what", choices=EXPORTS, help="by cost centre and provider, or every charge as FOCUS 1.2")
    command.add_argument("--month", required=True, help="such as 2026-10, UTC")
    command.add_argument("--out", type=Path, help="the file to write; without it, the screen")
    command.add_argument("--warehouse", help="such as bigquery://project; without it, that of the running Tally")


def export(given: argparse.Namespace) -> None:
    """Write the CSV. Raises CannotExport, NotRunning, and WarehouseError."""
    sql, as_csv = EXPORTS[given.what]
    try:
        month = exports.month(given.month)
        warehouse = open_warehouse(given.warehouse or read_run()["warehouse_url"])
    except ValueError as error:
        raise CannotExport(str(error)) from None
    rows = warehouse.query(sql, {"month": month})
    if not rows:
        raise CannotExport(f"nothing was charged in {given.month}")
    text = as_csv(rows)
    if given.out is None:
        sys.stdout.write(text)
        return
    try:
        given.out.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise CannotExport(f"cannot write {given.out}: {error.strerror}") from None
    print(f"{len(rows)} lines in {given.out}", file=sys.stderr)
