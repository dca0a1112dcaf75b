"""The tables of the dashboard and their CSV: numbers on the right, status as a sign and a word."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date
from typing import Any

import streamlit as st
from streamlit.column_config import (
    AreaChartColumn,
    DatetimeColumn,
    MultiselectColumn,
    NumberColumn,
    ProgressColumn,
    TextColumn,
)

from streamlit_app import wording
from streamlit_app.figures import Row, Standing

ROW_HEIGHT = 38

_STATES = {"On track": "✓ On track", "At risk": "▲ At risk", "Over": "✕ Over", "No budget": "No budget"}
_RESULTS = {"ok": "✓ ok", "error": "✕ error", "aborted": "◦ aborted", "refused": "⊘ refused"}
_SOURCES = {"provider": "Provider", "counted": "Our count", "none": wording.NOTHING}
PRICES = {
    "reported": "Provider",
    "book": "Price book",
    "approximate": "Standard price",
    "fallback": "Fallback price",
    "none": wording.NOTHING,
    "missing": "No price",
}


def height(rows: int) -> int:
    """What a table of so many rows takes, with its header, in pixels."""
    return ROW_HEIGHT * (rows + 1)


def teams(standings: Sequence[Standing]) -> None:
    """Every group: people, trend, and this month against its budget."""
    over = next((group.shown_as for group in standings if group.state == "Over"), None)
    draw(
        [
            {
                "team": group.shown_as,
                "people": group.people,
                "trend": group.trend,
                "spent": float(group.spent),
                "budget": None if group.budget is None else float(group.budget),
                "used": None if group.budget is None else float(100 * group.spent / group.budget),
                "forecast": _of_budget(group),
                "status": [_STATES[group.state]],
            }
            for group in standings
        ],
        alt=f"Spend, budget and forecast of {len(standings)} groups; {over or 'none'} is over its budget",
        team=TextColumn("Team", width="medium"),
        people=NumberColumn("People", width="small"),
        trend=AreaChartColumn("7-day average, 28 days", width="medium", color="blue"),
        spent=NumberColumn("Spent", format="$%,.0f", width="small"),
        budget=NumberColumn("Budget", format="$%,.0f", width="small"),
        used=ProgressColumn("Used", format="%d%%", min_value=0, max_value=100, color="blue"),
        forecast=NumberColumn(
            "Forecast", format="%d%%", width="small", help="Month-end forecast as a share of the budget."
        ),
        status=MultiselectColumn(
            "Status", options=list(_STATES.values()), color=["gray", "orange", "red", "gray"], width="small"
        ),
    )


def _of_budget(group: Standing) -> float | None:
    return None if group.forecast is None or not group.budget else float(100 * group.forecast / group.budget)


def teams_csv(standings: Sequence[Standing]) -> str:
    """What the table of teams shows, for a spreadsheet."""
    return as_csv(
        [
            {
                "team": group.shown_as,
                "people": group.people,
                "spent_usd": group.spent,
                "budget_usd": group.budget,
                "forecast_usd": None if group.forecast is None else round(group.forecast, 2),
                "status": group.state,
            }
            for group in standings
        ]
    )


def tools(rows: Sequence[Row]) -> None:
    """Tools by spending: tool, trend, requests, cost_usd, share."""
    draw(
        [
            {
                "tool": row["tool"],
                "trend": row["trend"],
                "requests": int(row["requests"]),
                "spent": float(row["cost_usd"]),
                "share": 100 * row["share"],
            }
            for row in rows
        ],
        alt=f"{len(rows)} tools; {rows[0]['tool']} stands for {wording.percent(rows[0]['share'])} of the spending",
        tool=TextColumn("Tool"),
        trend=AreaChartColumn("7-day average", color="blue"),
        requests=NumberColumn("Requests", format="localized", width="small"),
        spent=NumberColumn("Spent", format="$%,.0f", width="small"),
        share=ProgressColumn("Share", format="%d%%", min_value=0, max_value=100, color="blue"),
    )


def keys(rows: Sequence[Row], today: date) -> None:
    """One's own tools and keys: tool, key_id, last_day, requests, cost_usd."""
    draw(
        [
            {
                "tool": row["tool"],
                "key": f"…{row['key_id'][-6:]}" if row["key_id"] else wording.NOTHING,
                "last": wording.day_seen(row["last_day"], today),
                "requests": int(row["requests"]),
                "cost": wording.usd(row["cost_usd"]),
            }
            for row in rows
        ],
        alt=f"{len(rows)} pairs of tool and key; {rows[0]['tool']} cost the most",
        tool=TextColumn("Tool"),
        key=TextColumn("Key", help="The end of the key's public id."),
        last=TextColumn("Last used"),
        requests=NumberColumn("Requests", format="localized"),
        cost=TextColumn("Cost", alignment="right"),
    )


def requests(rows: Sequence[Row]) -> None:
    """One's own requests, the newest first."""
    draw(
        [
            {
                "at": row["occurred_at"],
                "tool": " ".join(part for part in (row["tool"], row["tool_version"]) if part),
                "model": row["model"],
                "session": (row["session_id"] or wording.NOTHING)[:8],
                "input": int(row["input_tokens"] or 0),
                "read": int(row["cache_read_tokens"] or 0),
                "written": int(row["cache_write_tokens"] or 0),
                "output": int(row["output_tokens"] or 0),
                "cost": _cost(row),
                "status": "↻ tried again" if row["superseded"] else _RESULTS.get(row["status"], row["status"]),
                "usage": _figures_from(row),
            }
            for row in rows
        ],
        alt=f"Your {len(rows)} newest requests; the last one on {wording.moment(rows[0]['occurred_at'])}",
        at=DatetimeColumn("Time, UTC", format="D MMM HH:mm:ss", timezone="UTC"),
        tool=TextColumn("Tool"),
        model=TextColumn("Model"),
        session=TextColumn("Session", width="small"),
        input=NumberColumn("Input", format="localized", width="small"),
        read=NumberColumn("Cache read", format="localized", width="small"),
        written=NumberColumn("Cache write", format="localized", width="small"),
        output=NumberColumn("Output", format="localized", width="small"),
        cost=TextColumn(
            "Cost",
            alignment="right",
            width="small",
            help="In brackets: what a request of your subscription would cost at list prices.",
        ),
        status=TextColumn("Status", help="Tried again: another call took its place; both are paid for."),
        usage=TextColumn(
            "Figures from",
            help="Tokens: the provider's own, or Tally's count where it sent none. Prices are the price book's, or as "
            "it says here.",
        ),
    )


def _cost(row: Row) -> str:
    if row["billing_mode"] == "subscription":
        return f"$0 ({wording.usd(row['list_cost_usd'])})"
    return wording.usd(row["cost_usd"])


def _figures_from(row: Row) -> str:
    if row["usage_source"] == "provider" and row["price_source"] in ("approximate", "fallback", "missing"):
        return PRICES[row["price_source"]]
    return _SOURCES.get(row["usage_source"], str(row["usage_source"]))


def my_csv(rows: Sequence[Row]) -> str:
    """One's own days, exact, for a spreadsheet."""
    return as_csv(rows)


def as_csv(rows: Sequence[Row]) -> str:
    """Rows for a spreadsheet; nothing in them becomes a formula."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _inert(value: Any) -> Any:
    """A spreadsheet takes text that begins so for a formula, and a tool's name comes from a header anybody may send."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def draw(rows: list[dict[str, Any]], *, alt: str, **columns: Any) -> None:
    """A table of `rows`, as tall as they are; `columns` describe those that are shown, in their order."""
    st.dataframe(rows, hide_index=True, row_height=ROW_HEIGHT, height="content", alt=alt, column_config=columns)
