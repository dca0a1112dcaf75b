"""The few chart shapes of the dashboard. Colours come from the theme, so light and dark need no code here.

Charts take rows (dicts); dates are written without a zone, so that every browser draws them on their own day.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import altair as alt
import streamlit as st

from streamlit_app import wording
from streamlit_app.figures import Row

# Altair and Streamlit import pandas when they first need it. Cards are drawn by several threads at once: none of them
# may meet it half imported.
importlib.import_module("pandas")

HEIGHT = 268
FLUSH = {"top": 0, "left": 0, "right": 14, "bottom": 0}  # the card already has padding
GREY = "#8A93A3"
_SPANS = {0: "0", 10: "10 s", 60: "1 min", 600: "10 min", 3600: "1 hour", 21_600: "6 hours", 86_400: "1 day"}


def spend_by_model(rows: Sequence[Row], models: Sequence[str]) -> alt.Chart:
    """Daily bars stacked by model; `models` fixes the order and with it the colours."""
    order = {model: n for n, model in enumerate(models)}
    data = _data([{**row, "order": order[row["model"]]} for row in rows])
    pick = alt.selection_point(fields=["model"], bind="legend")
    chart: alt.Chart = (
        alt.Chart(data)
        .mark_bar(width={"band": 0.82})
        .encode(
            x=alt.X(
                "yearmonthdate(day):O",
                title=None,
                axis=alt.Axis(
                    format="%-d %b", labelAngle=0, labelOverlap=True, ticks=False, domain=False, labelSeparation=24
                ),
            ),
            y=alt.Y("sum(cost_usd):Q", title=None, axis=_dollars(_highest_day(rows))),
            color=alt.Color(
                "model:N",
                sort=list(models),
                scale=alt.Scale(domain=list(models)),
                legend=alt.Legend(
                    title=None,
                    values=[
                        model for model in models if any(row["model"] == model and row["cost_usd"] for row in rows)
                    ],
                    columns=alt.ExprRef("width < 420 ? 2 : width < 580 ? 3 : 0"),  # as many in a row as fit; 0: all
                    orient="top",
                    symbolType="square",
                    symbolSize=80,
                    labelFontSize=12,
                    columnPadding=8,
                    labelLimit=130,
                    offset=4,
                ),
            ),
            order=alt.Order("order:Q", sort="descending"),
            opacity=alt.condition(pick, alt.value(1), alt.value(0.18)),
            tooltip=[
                alt.Tooltip("day:T", title="Day", format="%a %-d %b"),
                alt.Tooltip("model:N", title="Model"),
                alt.Tooltip("sum(cost_usd):Q", title="Cost", format="$,.2f"),
            ],
        )
        .add_params(pick)
        .properties(height=HEIGHT, padding=FLUSH)
    )
    return chart


def burn_up(points: Sequence[Row], budget: Decimal | None) -> alt.LayerChart:
    """The month to date, its forecast as a dashed line, and the budget it should stay under."""
    x = alt.X("day:T", title=None, axis=alt.Axis(format="%-d %b", grid=False, tickCount=5, domain=False, ticks=False))
    highest = max([point["spend"] for point in points] + [float(budget or 0)])
    y = alt.Y("spend:Q", title=None, axis=_dollars(highest), scale=alt.Scale(domainMin=0))
    tooltip = [
        alt.Tooltip("day:T", title="Day", format="%a %-d %b"),
        alt.Tooltip("kind:N", title="Is"),
        alt.Tooltip("spend:Q", title="Spend", format="$,.2f"),
    ]
    line = alt.Chart(_data(points)).encode(x=x, y=y, tooltip=tooltip)
    actual, ahead = alt.datum.kind == "actual", alt.datum.kind == "forecast"
    blue = _theme_colour("blueColor")
    layers: list[alt.Chart] = [
        line.transform_filter(actual).mark_area(opacity=0.14, color=blue),
        line.transform_filter(actual).mark_line(strokeWidth=2.5, color=blue),
        line.transform_filter(ahead).mark_line(strokeDash=[5, 4], strokeWidth=2, color=blue, opacity=0.75),
    ]
    if budget is not None:
        limit = alt.Chart(
            _data([{"budget": budget, "label": f"Budget {wording.usd(budget)}", "day": points[0]["day"]}])
        )
        layers += [
            limit.mark_rule(strokeDash=[2, 3], strokeWidth=1.5, opacity=0.8, color=GREY).encode(y="budget:Q"),
            limit.mark_text(align="left", dy=-8, fontSize=12, color=GREY).encode(
                x="day:T", y="budget:Q", text="label:N"
            ),
        ]
    return _layered(*layers)


def weekly_people(weeks: Sequence[Row]) -> alt.LayerChart:
    """Active people of each complete week, before the roster they belong to."""
    x = alt.X(
        "yearmonthdate(week):O",
        title=None,
        axis=alt.Axis(format="%-d %b", labelAngle=0, labelOverlap=True, ticks=False, domain=False, labelSeparation=12),
    )
    shared = [{**row, "share": row["active_people"] / row["roster_people"]} for row in weeks]
    base = alt.Chart(_data(shared)).encode(
        x=x,
        tooltip=[
            alt.Tooltip("week:T", title="Week of", format="%-d %b"),
            alt.Tooltip("active_people:Q", title="Active"),
            alt.Tooltip("roster_people:Q", title="On the roster"),
            alt.Tooltip("share:Q", title="Share", format=".0%"),
        ],
    )
    axis = alt.Axis(tickCount=4, domain=False, format="d")
    roster = base.mark_bar(width={"band": 0.82}, color=GREY, opacity=0.22, cornerRadiusEnd=3).encode(
        y=alt.Y("roster_people:Q", title=None, axis=axis)
    )
    active = base.mark_bar(width={"band": 0.82}, color=_theme_colour("blueColor"), cornerRadiusEnd=3).encode(
        y=alt.Y("active_people:Q", title=None, axis=axis)
    )
    return _layered(roster, active)


def lag(days: Sequence[Row]) -> alt.LayerChart:
    """Seconds until an event was stored: half of a day's events, and 95 of 100."""
    parts = {"lag_p95_s": "95 of 100", "lag_p50_s": "Half"}
    rows = [{"day": row["day"], "part": words, "s": row[name]} for row in days for name, words in parts.items()]
    x = alt.X(
        "yearmonthdate(day):O",
        title=None,
        axis=alt.Axis(format="%a %-d %b", labelAngle=0, labelOverlap=True, ticks=False, domain=False),
    )
    base = alt.Chart(_data(rows)).encode(
        x=x,
        y=alt.Y(
            "s:Q",
            title=None,
            scale=alt.Scale(type="symlog", constant=10, domain=[0, max([60.0, *(row["s"] for row in rows)])]),
            axis=alt.Axis(
                values=list(_SPANS),
                domain=False,
                labelExpr=f"{json.dumps({str(size): said for size, said in _SPANS.items()})}[datum.value]",
            ),
        ),
        color=alt.Color(
            "part:N",
            sort=list(parts.values()),
            scale=alt.Scale(domain=list(parts.values())),
            legend=alt.Legend(title=None, orient="top", symbolType="square", symbolSize=80, labelFontSize=12, offset=4),
        ),
        tooltip=[
            alt.Tooltip("day:T", title="Day", format="%a %-d %b"),
            alt.Tooltip("part:N", title="Of the events"),
            alt.Tooltip("s:Q", title="Stored within, seconds", format=",.1f"),
        ],
    )
    return _layered(base.mark_line(strokeWidth=2.5), base.mark_circle(size=60, opacity=1))


def causes(rows: Sequence[Row]) -> alt.LayerChart:
    """The gap to the bill by cause: to the right what the provider billed and we did not, to the left the opposite."""
    amounts = [0.0, *(float(row["usd"]) for row in rows)]
    margin = 0.16 * (max(amounts) - min(amounts) or 1.0)  # room for the words beside the bars
    domain = [min(amounts) - margin * (min(amounts) < 0), max(amounts) + margin]
    x = alt.X("usd:Q", title=None, axis=None, scale=alt.Scale(domain=domain))
    base = alt.Chart(_data([{**row, "said": wording.signed_usd(row["usd"])} for row in rows])).encode(
        x=x,
        y=alt.Y(
            "cause:N",
            title=None,
            sort=[row["cause"] for row in rows],
            axis=alt.Axis(ticks=False, domain=False, labelLimit=160, labelPadding=10),
        ),
        tooltip=[alt.Tooltip("cause:N", title="Cause"), alt.Tooltip("usd:Q", title="Dollars", format="$,.2f")],
    )
    text = base.encode(text="said:N")
    return _layered(
        base.mark_bar(cornerRadius=3, height={"band": 0.58}, color=_theme_colour("blueColor")),
        text.transform_filter(alt.datum.usd >= 0).mark_text(align="left", dx=6, fontSize=13, color=GREY),
        text.transform_filter(alt.datum.usd < 0).mark_text(align="right", dx=-6, fontSize=13, color=GREY),
    )


def _layered(*layers: alt.Chart) -> alt.LayerChart:
    return alt.LayerChart(layer=list(layers), height=HEIGHT, padding=FLUSH)


def _data(rows: Sequence[Row]) -> alt.Data:
    return alt.Data(  # type: ignore[no-untyped-call]
        values=[{name: _drawable(value) for name, value in row.items()} for row in rows]
    )


def _drawable(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return f"{value:%Y-%m-%d}T00:00:00" if isinstance(value, date) else value


def _dollars(highest: float) -> alt.Axis:
    places = 0 if highest >= 8 else 2 if highest >= 0.08 else 4
    return alt.Axis(format=f"$,.{places}f", tickCount=4, domain=False)


def _highest_day(rows: Sequence[Row]) -> float:
    days: dict[date, float] = {}
    for row in rows:
        days[row["day"]] = days.get(row["day"], 0.0) + float(row["cost_usd"])
    return max(days.values(), default=0.0)


def _theme_colour(name: str) -> str:
    return str(st.get_option(f"theme.{st.context.theme.type or 'light'}.{name}"))
