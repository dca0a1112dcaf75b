"""The warehouse as `sql/` describes it: the tables with their fields, and the views, each after those it reads."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

DATASET = "tally"
SQL = Path(__file__).resolve().parent.parent / "sql"
_COMMENT = re.compile(r"--[^\n]*")
_REFERENCE = re.compile(rf"\b{DATASET}\.(\w+)")


@dataclass(frozen=True)
class Field:
    """One column. `type` is a BigQuery type; `mode` is REQUIRED or NULLABLE."""

    name: str
    type: str
    mode: str
    description: str


@dataclass(frozen=True)
class Table:
    """One file of `sql/tables`. `partition` names the TIMESTAMP or DATE column by whose day the table is divided."""

    name: str
    description: str
    partition: str | None
    cluster: tuple[str, ...]
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class View:
    """One file of `sql/views`. `grain` says what one row is; `sql` is the whole file, one SELECT."""

    name: str
    grain: str
    description: str
    sql: str

    @property
    def reads(self) -> frozenset[str]:
        """Names of the tables and views it selects from."""
        return frozenset(_REFERENCE.findall(_COMMENT.sub("", self.sql)))


def _table(path: Path) -> Table:
    given = json.loads(path.read_text(encoding="utf-8"))
    return Table(
        name=path.stem,
        description=given["description"],
        partition=given["partition"],
        cluster=tuple(given["cluster"]),
        fields=tuple(Field(**field) for field in given["fields"]),
    )


def _view(path: Path) -> View:
    sql = path.read_text(encoding="utf-8")
    head = []
    for line in sql.splitlines():
        if not line.startswith("-- "):
            break
        head.append(line.removeprefix("-- "))
    if len(head) < 2 or not head[0].startswith("Grain: "):
        raise ValueError(f"{path.name} must begin with a line `-- Grain: …` and a line that describes it")
    return View(path.stem, head[0].removeprefix("Grain: "), " ".join(head[1:]), sql)


def read_tables(folder: Path = SQL) -> tuple[Table, ...]:
    """The tables, by name."""
    return tuple(_table(path) for path in sorted((folder / "tables").glob("*.json")))


def read_views(folder: Path = SQL) -> tuple[View, ...]:
    """The views, in an order in which they can be created. Raises graphlib.CycleError when there is none."""
    views = {path.stem: _view(path) for path in sorted((folder / "views").glob("*.sql"))}
    order = TopologicalSorter({name: sorted(view.reads & views.keys()) for name, view in views.items()})
    return tuple(views[name] for name in order.static_order())
