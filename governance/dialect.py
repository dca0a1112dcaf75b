"""BigQuery SQL to DuckDB. sqlglot does most of it; each fix here closes one measured difference in meaning.

The reference is GoogleSQL's own implementation: tests run the same statements in both and compare the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import sqlglot
from sqlglot import exp

NUMERIC, BIGNUMERIC = "DECIMAL(38, 9)", "DECIMAL(38, 18)"
# DuckDB divides by zero without a word.
MACROS = "CREATE OR REPLACE MACRO bq_div(a, b) AS CASE WHEN b = 0 THEN error('division by zero') ELSE a / b END"

Fix = Callable[[Any], exp.Expr | None]
_FIXES: dict[type[exp.Expr], Fix] = {}


class Translation(NamedTuple):
    """A statement for DuckDB, and the names of the parameters it has."""

    sql: str
    parameters: frozenset[str]


def _fixes(*kinds: type[exp.Expr]) -> Callable[[Fix], Fix]:
    def register(fix: Fix) -> Fix:
        _FIXES.update(dict.fromkeys(kinds, fix))
        return fix

    return register


def _cast(node: exp.Expr, kind: str) -> exp.Expr:
    return exp.Cast(this=node, to=exp.DataType.build(kind, dialect="duckdb"))


@_fixes(exp.DataType)
def _decimal(node: exp.DataType) -> exp.Expr | None:
    """NUMERIC has 9 decimals and BIGNUMERIC more than any price needs; DuckDB's own defaults are 3 and 5."""
    if node.expressions:
        return None
    width = {exp.DataType.Type.DECIMAL: NUMERIC, exp.DataType.Type.BIGDECIMAL: BIGNUMERIC}.get(node.this)
    return exp.DataType.build(width, dialect="duckdb") if width else None


@_fixes(exp.CountIf)
def _count_if(node: exp.CountIf) -> exp.Expr | None:
    """COUNTIF over no rows is 0, not NULL."""
    return exp.Count(this=exp.Case(ifs=[exp.If(this=node.this, true=exp.Literal.number(1))]))


@_fixes(exp.Div)
def _divide(node: exp.Div) -> exp.Expr | None:
    """Dividing by zero is an error, not infinity."""
    return exp.Anonymous(this="bq_div", expressions=[node.left, node.right])


@_fixes(exp.Cast)
def _round(node: exp.Cast) -> exp.Expr | None:
    """CAST to INT64 rounds a half away from zero; DuckDB rounds it to even."""
    if node.to.this == exp.DataType.Type.BIGINT and isinstance(node.this.unnest(), exp.Anonymous | exp.Literal):
        inner = node.this.unnest()
        if isinstance(inner, exp.Literal) or inner.name == "bq_div":
            node.set("this", exp.Round(this=node.this.copy()))
    return None


@_fixes(exp.DateTrunc, exp.DateAdd, exp.DateSub)
def _date(node: exp.Expr) -> exp.Expr | None:
    """A function of a DATE gives a DATE; DuckDB gives a TIMESTAMP."""
    return None if isinstance(node.parent, exp.Cast) else _cast(node.copy(), "DATE")


@_fixes(exp.TimestampDiff)
def _elapsed(node: exp.TimestampDiff) -> exp.Expr | None:
    """TIMESTAMP_DIFF counts whole units elapsed, not boundaries crossed."""
    unit = exp.Literal.string(node.text("unit").lower())
    return exp.Anonymous(this="DATE_SUB", expressions=[unit, node.expression, node.this])


@_fixes(exp.Extract)
def _extract(node: exp.Extract) -> exp.Expr | None:
    """ISOWEEK, WEEK and DAYOFWEEK count otherwise in DuckDB."""
    part = node.name.upper()
    if part in ("ISOWEEK", "WEEK"):
        picture = exp.Literal.string("%V" if part == "ISOWEEK" else "%U")
        return _cast(exp.Anonymous(this="strftime", expressions=[node.expression, picture]), "BIGINT")
    if part == "DAYOFWEEK":
        return exp.Paren(this=exp.Add(this=node.copy(), expression=exp.Literal.number(1)))
    return None


@_fixes(exp.TimeToStr)
def _format_time(node: exp.TimeToStr) -> exp.Expr | None:
    """FORMAT_TIMESTAMP in a time zone."""
    zone = node.args.get("zone")
    if zone is None:
        return None
    moment = node.this.this if isinstance(node.this, exp.TsOrDsToTimestamp) else node.this
    local = exp.AtTimeZone(this=moment.copy(), zone=zone.copy())
    return exp.Anonymous(this="strftime", expressions=[local, exp.Literal.string(node.text("format"))])


@_fixes(exp.Format)
def _format(node: exp.Format) -> exp.Expr | None:
    return exp.Anonymous(this="printf", expressions=[node.this, *node.expressions])


def _rewrite(tree: exp.Expr) -> exp.Expr:
    for node in reversed(list(tree.walk(bfs=False))):  # children before parents, so that a parent sees them fixed
        fix = _FIXES.get(type(node))
        fixed = fix(node) if fix else None
        if fixed is not None:
            tree = fixed if node is tree else tree
            node.replace(fixed)
    return tree


@lru_cache(maxsize=1024)
def to_duckdb(sql: str) -> Translation:
    """One BigQuery statement, for DuckDB. @name becomes $name. Raises sqlglot.errors.SqlglotError."""
    tree = _rewrite(sqlglot.parse_one(sql, read="bigquery"))
    names = frozenset(parameter.name for parameter in tree.find_all(exp.Parameter))
    return Translation(tree.sql(dialect="duckdb", comments=False), names)
