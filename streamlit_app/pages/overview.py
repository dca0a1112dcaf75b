"""Overview: are we fine? What is spent, where it stands against the budgets, whether it is used. By group only."""

from __future__ import annotations

from datetime import date, timedelta

import streamlit as st

from streamlit_app import charts, figures, identity, queries, states, tables, tiles, wording

ALL = "All teams"
WEEKS = 13

today: date = states.now().date()
month_start = today.replace(day=1)
settings = identity.settings()

filters, below = states.heading("Overview", identity.viewer())
with below, states.whole_page("overview"):
    freshness = queries.freshness(today)
    groups = queries.groups() if freshness["requests"] else []
    budgets = queries.budgets(groups)
    models, first_day = queries.models(today)
    standings_since = min(month_start, today - timedelta(days=figures.TREND_DAYS + figures.WEEK))
    by_group = queries.daily_by_group(standings_since, today)
if not freshness["requests"]:
    with below:
        states.empty_company(settings.proxy_url)
    st.stop()

standings = figures.standings(groups, by_group, budgets.by_group, today)
names = sorted(group.shown_as for group in standings)
with filters:
    days = states.period_filter()
    team = st.selectbox("Team", [ALL, *names], key="team", bind="query-params", label_visibility="collapsed", width=170)
with below:
    states.data_through(freshness, settings.stale_after_s)
    if budgets.fault:
        st.warning(f"No budgets are shown: {wording.plain(budgets.fault)}", icon=":material/savings:")

period = figures.last_days(today, days)
shown_as = "" if team == ALL else team
limit = budgets.of(shown_as)


def attention() -> None:
    """Budgets that are passed or will be; nothing where there is nothing to say."""
    said = [line for group in standings if (line := _worry(group)) is not None]
    if said:
        st.container(border=True).markdown("\u2003".join(said))


def _worry(group: figures.Standing) -> str | None:
    if group.budget is None or group.turns_on is None:
        return None
    name, amount, day = wording.plain(group.shown_as), wording.plain(wording.usd(group.budget)), group.turns_on
    if group.state == "Over":
        return f":red-badge[:material/error: Over] **{name}** reached its {amount} budget on {wording.day(day)}."
    return f":orange-badge[:material/warning: At risk] **{name}** will pass {amount} about {wording.day(day)}."


@st.fragment(parallel=True)
def figures_row() -> None:
    """Five tiles: spend, forecast, active people, cost of one, cache."""
    with states.card(tiles.HEIGHT, "tiles"):
        rows = queries.daily(shown_as, period.reach, today)
        month = queries.daily(shown_as, month_start, today)
        weeks = figures.activity(queries.weeks(today, WEEKS))
        company = queries.daily("", today - timedelta(weeks=WEEKS + 1), today) if not shown_as else []
        with st.grid(5, min_column_width=tiles.MIN_WIDTH, gap="small"):
            _spend(rows)
            _forecast(month)
            _active(weeks)
            if shown_as:
                _cost_per_head(rows)
            else:
                _cost_per_active(company, weeks)
            _cache(rows)


def _spend(rows: list[queries.Row]) -> None:
    tiles.tile(
        "Spend",
        wording.usd(figures.total(rows, "cost_usd", period.first, period.last)),
        f"The last {days} days. Compared with the {days} days before, over days that are complete in both.",
        course=figures.weekly_mean(rows, "cost_usd", period.first, period.last),
        moved=tiles.by_percent(figures.change(rows, "cost_usd", period, first_day)),
        since="vs. before",
    )


def _forecast(month: list[queries.Row]) -> None:
    where = figures.standing(shown_as, None, month, limit, today)
    tiles.tile(
        "Month-end forecast",
        None if where.forecast is None else wording.usd(where.forecast),
        "This month's spending until its end, at the pace of its working days so far.",
        course=[point["spend"] for point in figures.burn_up(month, None, today)],
        moved=f"{where.forecast / limit:.0%} of {wording.usd(limit)}" if limit and where.forecast is not None else None,
        alarm=where.state in ("At risk", "Over"),
    )


def _active(weeks: figures.Activity) -> None:
    tiles.tile(
        "Weekly active people",
        wording.percent(weeks.rates[-1]) if weeks.rates else None,
        "Of everybody on the company's roster, who got at least one answer in the last complete week.",
        course=weeks.rates,
        shape="line",
        moved=tiles.by_points(*weeks.rate_now_and_before(4)),
        since="in 4 weeks",
    )


def _cost_per_active(company: list[queries.Row], weeks: figures.Activity) -> None:
    costs = figures.costs_per_active(company, weeks, first_day)
    old = costs.get(weeks.newest - timedelta(weeks=4)) if weeks.newest else None
    new = costs.get(weeks.newest) if weeks.newest else None
    tiles.tile(
        "Cost per active person",
        None if new is None else wording.usd(new),
        "Dollars in the last complete week, for each person who was active in it.",
        course=[float(cost) for cost in costs.values()],
        moved=tiles.by_percent(float(new / old - 1) if new is not None and old else None),
        since="in 4 weeks",
    )


def _cost_per_head(rows: list[queries.Row]) -> None:
    people = next((group.people for group in standings if group.shown_as == shown_as), None)
    week = figures.total(rows, "cost_usd", today - timedelta(days=figures.WEEK), today - timedelta(days=1))
    means = figures.weekly_mean(rows, "cost_usd", period.first, period.last)
    tiles.tile(
        "Cost per person",
        wording.usd(week / people) if people else None,
        f"Dollars in the last seven complete days, for each of the {people} people in this group."
        if people
        else "Services are nobody's.",
        course=[figures.WEEK * mean / people for mean in means] if people else [],
        moved="per week",
    )


def _cache(rows: list[queries.Row]) -> None:
    share = figures.cache_share(rows, period.first, period.last)
    tiles.tile(
        "Served from cache",
        None if share is None else wording.percent(share),
        "Share of input tokens that providers read from their prompt cache, at about a tenth of the price.",
        course=figures.cache_course(rows, period),
        shape="line",
        moved=tiles.by_points(*figures.cache_now_and_before(rows, period, first_day)),
        since="vs. before",
    )


@st.fragment(parallel=True)
def by_model() -> None:
    """Daily spending by model."""
    st.subheader("Spend by model", anchor=False)
    with states.card(charts.HEIGHT, "models"):
        states.model_chart(queries.daily_by_model(shown_as, period.first, period.last), models, period, "Daily spend")


@st.fragment(parallel=True)
def burn_up() -> None:
    """The month against its budget."""
    st.subheader(f"{today:%B} against budget" if limit else f"{today:%B} so far", anchor=False)
    with states.card(charts.HEIGHT, "burn-up"):
        month = queries.daily(shown_as, month_start, today)
        where = figures.standing(shown_as, None, month, limit, today)
        said = f"{wording.usd(where.spent)} spent in {today:%B}"
        said += f", forecast {wording.usd(where.forecast)}" if where.forecast is not None else ""
        said += f", of a budget of {wording.usd(limit)}: {where.state.lower()}" if limit else ""
        st.altair_chart(charts.burn_up(figures.burn_up(month, where.forecast, today), limit), alt=said)


def teams() -> None:
    """Every group: people, trend, and the month against its budget."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader("Teams", anchor=False)
            if standings:
                states.csv_button(
                    st.container(width="content"), tables.teams_csv(standings), f"teams-{today:%Y-%m}.csv"
                )
        if not standings:
            states.empty("Teams are shown from five people up.", "Name the people of your company in `policy/`.")
            return
        tables.teams(standings)
        st.caption(f"{today:%B} to date. Teams of fewer than five people are folded into one.")


@st.fragment(parallel=True)
def by_tool() -> None:
    """Which agents the spending goes through."""
    st.subheader("Spend by tool", anchor=False)
    with states.card(charts.HEIGHT, "tools"):
        rows = queries.daily_by_tool(shown_as, period.first - timedelta(days=figures.WEEK), period.last)
        found = figures.tools(rows, period)
        if found:
            tables.tools(found)
        else:
            states.empty_period()


@st.fragment(parallel=True)
def people() -> None:
    """Whether it is used: active people week by week."""
    st.subheader("Weekly active people", anchor=False)
    with states.card(charts.HEIGHT, "people"):
        weeks = figures.activity(queries.weeks(today, WEEKS)).weeks
        if not weeks:
            states.empty("No complete week of five or more people yet.", "Come back on Monday.")
            return
        said = f"{weeks[-1]['active_people']} of {weeks[-1]['roster_people']} people"
        st.altair_chart(charts.weekly_people(weeks), alt=f"{said} were active in the last complete week")
        st.caption("Complete weeks, whole company. Grey: everybody on the roster.")


attention()
figures_row()
left, right = st.columns([5, 3], gap="small")
with left.container(border=True, height="stretch"):
    by_model()
with right.container(border=True, height="stretch"):
    burn_up()
teams()
left, right = st.columns([5, 3], gap="small")
with left.container(border=True, height="stretch"):
    by_tool()
with right.container(border=True, height="stretch"):
    people()
