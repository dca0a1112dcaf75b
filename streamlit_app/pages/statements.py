"""Statements: what each month was reported with, what was added since, and who pays. By cost centre only."""

from __future__ import annotations

from datetime import date

import streamlit as st

from governance import exports
from streamlit_app import book_tables, books, identity, queries, states, tiles, wording

today: date = states.now().date()
settings = identity.settings()

filters, below = states.heading("Statements", identity.viewer())
with below, states.whole_page("statements"):
    freshness = queries.freshness(today)
    rows = queries.chargeback()
    groups = queries.groups() if rows else []
if not rows:
    with below:
        states.empty_company(settings.proxy_url)
    st.stop()

months = books.months(rows)
by_name = {line.name: (month, line) for month, line in months}
with filters:
    chosen = st.selectbox(
        "Month", list(by_name), key="month", bind="query-params", label_visibility="collapsed", width=190
    )
month, line = by_name[chosen or months[0][1].name]
state = ":material/lock: closed" if line.closed else ":material/lock_open: open"
with below:
    states.data_through(freshness, settings.stale_after_s, f"{line.name}: {state}")


def chargeback_csv() -> str:
    """The month by cost centre, provider and entry, as this page may show it."""
    return exports.chargeback_csv([row for row in rows if row["month"] == month])


def focus_csv() -> str:
    """The month's charges, with the names of small teams folded."""
    return exports.focus_csv(books.folded(queries.focus(month), groups))


with filters:
    for label, made in (("Chargeback", chargeback_csv), ("FOCUS 1.2", focus_csv)):
        st.download_button(
            label,
            made,
            f"{label.split()[0].lower()}-{month:%Y-%m}.csv",
            "text/csv",
            icon=":material/download:",
            type="tertiary",
            on_click="ignore",
        )

with st.grid(4, min_column_width=tiles.MIN_WIDTH, gap="small"):
    tiles.tile(
        "Total",
        wording.usd(line.total_usd),
        "What the month costs the company: requests, what was added since it was closed, and seats.",
        moved=line.name,
    )
    tiles.tile(
        "Statement" if line.closed else "Requests so far",
        wording.usd(line.use_usd),
        "Metered requests at what the company pays. A closed month stays as it was reported.",
        moved=f"{wording.count(line.requests)} requests",
    )
    tiles.tile(
        "Adjustments",
        wording.signed_usd(line.adjustments_usd) if line.closed else None,
        "Added since the month was closed: corrected prices, late requests, reconciliation with the bill.",
        moved="since it was closed" if line.closed else "none while it is open",
    )
    tiles.tile(
        "Seats",
        wording.usd(line.seats_usd),
        "Fees of subscriptions, spread over the days of the month; of a month that runs, up to today.",
        moved=f"requests worth {wording.usd(line.list_usd)} at list",
    )
with st.container(border=True):
    st.subheader(f"{line.name} by cost centre", anchor=False)
    book_tables.cost_centres(books.cost_centres(rows, month), line.closed)
    st.caption(
        "Cost centres as `policy/teams.csv` names them; a team that it does not name pays for itself, and teams of "
        "fewer than five people are folded into one. Services that belong to no team stand under Services."
    )
with st.container(border=True):
    st.subheader("Months", anchor=False)
    book_tables.months([line for _, line in months])
    st.caption(
        "A closed month keeps its statement, and every later change is an adjustment with its reason. Open months are "
        "costed anew whenever a price is corrected."
    )
