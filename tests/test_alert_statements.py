"""What the alerts function and the audit page ask: DuckDB's rows are those of GoogleSQL's reference implementation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from functions.alerts import digests, key_tables, leaks, loops, odd_days, usual_days
from governance.company import AnomalyRules
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.schema import read_views
from streamlit_app import acts
from tests.test_views_googlesql import assert_same, reference
from tests.warehouse_rows import random_company


def statements(now: datetime) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Name to statement and parameters, so that each has rows."""
    today, rules = now.date(), AnomalyRules()
    week = {"first_day": today - timedelta(days=27), "last_day": today}
    day = {"first_day": today - timedelta(days=40), "today": today}
    edge = {"yesterday": today - timedelta(days=9), "now": now, "known_by": 1}
    return {
        "spent": (odd_days.SPENT, {**day, "minimum_usd": Decimal("0.01")}),
        "usual": usual_days.question("team", ["Search", "Ads"], today, rules),
        "evidence of persons": odd_days.evidence("person", ["gone@example.com", "ads0@example.com"], day),
        "evidence of teams": odd_days.evidence("team", ["Search"], day),
        "loops": (loops.LOOPS, {**day, "since": now - timedelta(days=40), "now": now, "requests_per_minute": 1}),
        "new tools": (leaks.NEW_TOOLS, {**day, "first_day": today - timedelta(days=12), **edge}),
        "places": leaks.places({"k1", "k2"}, day),
        "last used": (key_tables.USED, {"since": day["first_day"], "today": today}),
        "rows": (key_tables.ROWS, {}),
        "digest": (digests.USED, {**week, "before": today - timedelta(days=55)}),
        "active": (digests.ACTIVE, {**week, "few": 2}),
        "own": (digests.OWN, week),
        "audit": (acts.LOG, {"since": now - timedelta(days=1), "action": "", "about": "k", "most": 100}),
    }


def test_every_statement_has_the_rows_of_the_reference_implementation() -> None:
    content = random_company(11)
    google, duck = reference(content), DuckDBWarehouse(":memory:")
    duck.apply_schema()
    for table, rows in content.items():
        assert duck.append(table, rows) == {}
    for view in read_views():
        google.add(view.name, *google.query(view.sql))
    for name, (sql, params) in statements(datetime.now(UTC)).items():
        _, expected = google.query(sql, params)
        assert expected or name == "new tools", f"{name} has no rows to compare"
        assert_same(name, expected, duck.query(sql, params))
    duck.close()
