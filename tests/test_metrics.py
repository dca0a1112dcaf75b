"""docs/metrics.md explains every view, and every column of money in it; so it does the table of budgets."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
import sqlglot
from sqlglot import exp

from governance.prices import TOKEN_KINDS
from governance.schema import read_views
from tests.conftest import ROOT

KINDS = (*TOKEN_KINDS, "web_search")
BUDGETS = "budget_standings"  # no view says the same of budgets


def sections(text: str) -> dict[str, str]:
    """The text below each heading of the third level."""
    parts = re.split(r"^### (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (re.split(r"^#", part, flags=re.MULTILINE)[0] for part in parts[2::2]), strict=True))


def unexplained(text: str, money: dict[str, list[str]]) -> list[str]:
    """Views without a section, and columns of money that their section does not name, as view or view.column."""
    found, said = [], sections(text)
    for view, columns in money.items():
        if not said.get(view, "").strip():
            found.append(view)
            continue
        named = set(re.findall(r"`([\w<>]+)`", said[view]))
        for column in columns:
            general = re.sub(rf"^(list_)?({'|'.join(KINDS)})_usd$", r"\1<kind>_usd", column)
            if not named & {column, general}:
                found.append(f"{view}.{column}")
    return found


@pytest.fixture(scope="module")
def money() -> dict[str, list[str]]:
    """View, and the table of budgets, to its columns of money."""
    columns = json.loads((ROOT / f"sql/tables/{BUDGETS}.json").read_text())["fields"]
    found = {BUDGETS: [column["name"] for column in columns if column["name"].endswith("_usd")]}
    for view in read_views():
        select = sqlglot.parse_one(view.sql, read="bigquery")
        assert isinstance(select, exp.Query)
        found[view.name] = [column for column in select.named_selects if column.endswith("_usd")]
    return found


def test_every_view_and_every_figure_of_money_is_explained(money: dict[str, list[str]]) -> None:
    assert "cost_usd" in money["requests"]
    assert unexplained((ROOT / "docs/metrics.md").read_text(), money) == []


def test_a_view_or_a_column_that_is_not_explained_is_found(money: dict[str, list[str]]) -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    assert unexplained(text.replace("### chargeback\n", ""), money) == ["chargeback"]
    assert unexplained(text, {**money, "weekly_active": ["saved_usd"]}) == ["weekly_active.saved_usd"]
    assert unexplained(text, {**money, "new_view": []}) == ["new_view"]


def test_no_section_is_about_a_view_that_is_gone_and_none_stands_twice(money: dict[str, list[str]]) -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    assert set(sections(text)) <= set(money)
    assert max(Counter(re.findall(r"^### (\w+)$", text, flags=re.MULTILINE)).values()) == 1
