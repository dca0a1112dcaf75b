"""My usage: the viewer's own requests and their cost. The page takes no person: it asks who is looking."""

from __future__ import annotations

from datetime import date, timedelta

import streamlit as st

from streamlit_app import book_tables, figures, identity, queries, states, tables, tiles, wording

RECENT = 25
RECENT_DAYS = 7
LIVE_S = 2
TILES_S = 15

today: date = states.now().date()
month_start = today.replace(day=1)
settings = identity.settings()
viewer = identity.viewer()
email = viewer.email

filters, below = states.heading("My usage", viewer)
with filters:
    period = figures.last_days(today, states.period_filter())
since = min(period.first - timedelta(days=figures.WEEK), month_start)
with below, states.whole_page("my-usage"):
    freshness = queries.freshness(today)
    rows = queries.my_daily(email, since, today)
    models, _ = queries.models(today)
inside = [row for row in rows if row["day"] >= period.first]
states.csv_button(filters, tables.my_csv(inside), f"my-usage-{period.first}-{period.last}.csv")
with below:
    states.data_through(freshness, settings.stale_after_s, ":material/lock: Only you see this")
    if not freshness["requests"]:
        states.empty_company(settings.proxy_url)
        st.stop()
    if not rows:
        states.empty_person(period.days, settings.proxy_url)


@st.fragment(run_every=TILES_S)
def figures_row() -> None:
    """Four tiles, drawn anew now and then while the page is open."""
    with states.card(tiles.HEIGHT, "tiles"):
        mine = queries.my_daily(email, since, today)
        share = figures.cache_share(mine, period.first, period.last)
        requests = figures.by_day(mine, "requests", period.first, period.last)
        active = sum(1 for _, number in requests if number)
        cost = figures.total(mine, "cost_usd", period.first, period.last)
        read = int(figures.total(mine, "cache_read_tokens", period.first, period.last))
        with st.grid(4, min_column_width=tiles.MIN_WIDTH, gap="small"):
            tiles.tile(
                "This month",
                wording.usd(figures.total(mine, "cost_usd", month_start, today)),
                f"What your requests in {today:%B} have cost. The curve: the last {period.days} days.",
                course=figures.weekly_mean(mine, "cost_usd", period.first, period.last),
                moved=f"{wording.usd(cost)} in {period.days} days",
            )
            tiles.tile(
                "Requests",
                f"{sum(number for _, number in requests):,.0f}",
                f"In the last {period.days} days, on all keys of yours.",
                course=figures.weekly_mean(mine, "requests", period.first, period.last),
                moved=f"{sum(number for _, number in requests) / active:.1f} per active day" if active else None,
            )
            tiles.tile(
                "Active days",
                f"{active} of {period.days}",
                f"Days of the last {period.days} with a request of yours.",
                course=[float(number) for _, number in requests],
                shape="bar",
                moved=f"{sum(1 for _, number in requests[-7:] if number)} in the last 7",
            )
            tiles.tile(
                "Served from cache",
                None if share is None else wording.percent(share),
                "Share of your input tokens that providers read from their prompt cache.",
                course=figures.cache_course(mine, period),
                shape="line",
                moved=f"{wording.count(read)} tokens",
            )


def subscription() -> None:
    """My seats, and what the requests of my subscription would cost; nothing where there are none."""
    used = [row for row in inside if row["billing_mode"] == "subscription"]
    with states.card(tables.height(2), "seats"):
        seats = queries.my_seats(email, (month_start - timedelta(days=1)).replace(day=1), today)
        if not (used or seats):
            return
        with st.container(border=True):
            st.subheader("Your subscription", anchor=False)
            if seats:
                book_tables.seats(seats)
            worth = wording.plain(wording.usd(figures.total(used, "list_cost_usd", period.first, period.last)))
            st.caption(
                f"Requests of a subscription cost nothing by the piece. Those of the last {period.days} days would "
                f"cost {worth} at list prices. A fee is spread over the days of its month; of this month, those so far."
            )


@st.fragment(run_every=LIVE_S)
def recent() -> None:
    """My newest requests: today's are asked for every two seconds, those of the days before are kept."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader("Recent requests", anchor=False)
            st.badge("Live", icon=":material/sensors:", color="green")
        with states.card(tables.height(RECENT_DAYS), "recent"):
            now = states.now().date()
            newest = queries.my_requests_of(email, now, RECENT)
            if len(newest) < RECENT:
                newest += queries.my_requests_before(email, now, RECENT_DAYS, RECENT)[: RECENT - len(newest)]
            if newest:
                tables.requests(newest)
            else:
                states.empty(f"No requests in the last {RECENT_DAYS} days.", "Make one: it is here within seconds.")


figures_row()
left, right = st.columns([4, 3], gap="small")
with left.container(border=True, height="stretch"):
    st.subheader("Daily cost by model", anchor=False)
    states.model_chart(inside, models, period, "Your daily cost")
with right.container(border=True, height="stretch"):
    st.subheader("By tool and key", anchor=False)
    if inside:
        tables.keys(figures.by_key(inside, ["tool", "key_id"], ["cost_usd", "requests"]), today)
    else:
        states.empty_period()
subscription()
recent()
