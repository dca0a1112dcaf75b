"""Data health: can I believe the numbers? Every check with its rule, and what lies behind those that fail."""

from __future__ import annotations

from datetime import date, timedelta

import streamlit as st

from streamlit_app import charts, figures, health, health_tables, identity, queries, states, tables, tiles, wording

DAYS = 28

today: date = states.now().date()
since = today - timedelta(days=DAYS - 1)
settings = identity.settings()

_, below = states.heading("Data health", identity.viewer())
with below, states.whole_page("data-health"):
    freshness = queries.freshness(today)
    checks = queries.checks()
    shelved = queries.shelved(since)


def figures_row() -> None:
    """Five tiles: fresh, stored soon, counted, priced, against the bill."""
    lag = queries.lag()
    bills = queries.billed(since, today)
    theirs = sum((bill["theirs_usd"] for bill in bills), start=figures.NOTHING)
    gap = sum((bill["gap_usd"] for bill in bills), start=figures.NOTHING)
    apart = health.gap_share(theirs, gap)
    fallback, counted = freshness["fallback_share"], health.value_of(checks, "Usage from the provider")
    stored = health.value_of(checks, "Stored soon")
    with st.grid(5, min_column_width=tiles.MIN_WIDTH, gap="small"):
        tiles.tile(
            "Newest request",
            wording.span(states.now() - freshness["newest_event_at"]),
            "How long ago the newest request reached the gateway.",
            moved="ago",
        )
        tiles.tile(
            "Stored within",
            None if stored is None else health.result(stored, "seconds"),
            "How long storing took for 95 of 100 requests of today and yesterday, the answer's own time included.",
            course=[day["lag_p95_s"] for day in lag],
            moved=f"half within {health.result(lag[-1]['lag_p50_s'], 'seconds')}" if lag else None,
        )
        tiles.tile(
            "Counted by Tally",
            None if counted is None else wording.percent(counted),
            f"Of the calls with tokens in the last {DAYS} days: those whose provider sent no usage.",
            moved="of calls",
        )
        tiles.tile(
            "Priced from the book",
            None if fallback is None else wording.percent(1 - fallback),
            "Of the cost at list prices: that of models which the price book knows, or whose provider told the cost.",
            moved="of the cost",
        )
        tiles.tile(
            "Gap to the bill",
            None if apart is None else wording.percent(abs(apart)),
            f"What providers billed less what we have, over the days of the last {DAYS} that they have billed.",
            moved=f"{wording.signed_usd(gap)} of {wording.usd(theirs)}" if theirs else "no bill read yet",
        )


def all_checks() -> None:
    """Every check with its rule."""
    with st.container(border=True):
        st.subheader("Checks", anchor=False)
        health_tables.checks(checks)
        st.caption(
            f"Looked at {wording.moment(checks[0]['looked_at'])}, over {DAYS} days where the rule says nothing else. A "
            "warning is a figure to know of; a fail says that numbers on other pages are wrong or late, or an alert is."
        )


@st.fragment(parallel=True)
def lag() -> None:
    """How long storing took, day by day."""
    st.subheader("Until it is stored", anchor=False)
    with states.card(charts.HEIGHT, "lag"):
        days = queries.lag()
        if not days:
            states.empty("No requests in the last seven days.", "Make one.")
            return
        said = health.result(days[-1]["lag_p95_s"], "seconds")
        st.altair_chart(
            charts.lag(days), alt=f"95 of 100 events of {wording.day(days[-1]['day'])} were stored in {said}"
        )
        st.caption("Time from a request's arrival at the gateway to its row, the answer's own time included.")


@st.fragment(parallel=True)
def unattributed() -> None:
    """Calls of nobody."""
    st.subheader("Put down to nobody", anchor=False)
    with states.card(tables.height(3), "unattributed"):
        rows = queries.unattributed()
        if rows:
            health_tables.unattributed(rows, today)
            st.caption(
                f"The last {DAYS} days. No person: a key without an owner that is not a service's. No team: nobody "
                "pays for it. Give the key's owner a team in `policy/people.csv`."
            )
        else:
            states.empty(f"Every call of the last {DAYS} days has a person and a team.", "Nothing to do.")


def unreadable() -> None:
    """Messages put aside, by reason."""
    st.subheader("Put aside, unreadable", anchor=False)
    if shelved:
        health_tables.shelved(shelved, today)
        st.caption(
            f"Messages of the last {DAYS} days that ingest could not read, kept whole in the table `shelved`. The "
            "reason names the field, never its content."
        )
    else:
        states.empty(f"Every message of the last {DAYS} days could be read.", "Nothing to do.")


@st.fragment(parallel=True)
def unpriced() -> None:
    """Models that the price book lacks."""
    st.subheader("Not in the price book", anchor=False)
    with states.card(tables.height(3), "unpriced"):
        rows = queries.unpriced()
        if not rows:
            states.empty("Every model that was used is in the price book.", "Nothing to do.")
            return
        health_tables.unpriced(rows, today)
        st.caption(
            "Never free: such a model costs the fallback price, or its own standard price where only the tier is "
            "unknown. What to do: write its price into `policy/prices.yaml`, or run `make prices` once it is on the "
            "public list. All requests of open months are then costed anew."
        )


@st.fragment(parallel=True)
def alerts() -> None:
    """Whether messages get out, by channel."""
    st.subheader("Whether alerts arrive", anchor=False)
    with states.card(tables.height(3), "deliveries"):
        rows = queries.deliveries()
        if not rows:
            states.empty(f"No message was due in the last {DAYS} days.", "Nothing to do.")
            return
        health_tables.deliveries(rows, today)
        st.caption(
            f"The last {DAYS} days. A message that a channel does not take is tried again, each time later, at most an "
            "hour: nothing is lost while a channel is down, and each message is sent once. `docs/channels.md` says how "
            "to set channels up."
        )


@st.fragment(parallel=True)
def gateway() -> None:
    """Ours against LiteLLM's own figure."""
    st.subheader("Ours against the gateway's figure", anchor=False)
    with states.card(tables.height(6), "routes"):
        rows = queries.by_route()
        if not rows:
            states.empty_period()
            return
        health_tables.routes(rows)
        st.caption(
            f"The last {DAYS} days. LiteLLM knows list prices only, so ours is at list here. Compared are metered "
            "calls whose provider told its usage. Where the two differ, the bill below says who is right."
        )


@st.fragment(parallel=True)
def bill() -> None:
    """Ours against the providers' bills, by cause."""
    st.subheader("Ours against the bill", anchor=False)
    with states.card(charts.HEIGHT + tables.height(2), "bill"):
        rows = queries.billed(since, today)
        if not rows:
            states.empty("No bill has been read yet.", "Give `functions/bills` a read-only admin key of the provider.")
            return
        left, right = st.columns([3, 2], gap="medium")
        with left:
            found = health.causes(rows)
            largest = max(found, key=lambda row: abs(row["usd"]))
            said = f"The gap by cause; the largest is {largest['cause']}, {wording.signed_usd(largest['usd'])}"
            st.altair_chart(charts.causes(found), alt=said)
        with right:
            revised = queries.revised(since, today)
            if revised:
                health_tables.revisions(revised)
                st.caption("Days that a provider has billed otherwise after they were over.")
            else:
                states.empty("No provider has changed a day after the fact.", "Days are read again for weeks.")
        health_tables.bills(rows)
        first, last = min(row["first_day"] for row in rows), max(row["last_day"] for row in rows)
        st.caption(
            f"{wording.day(first)} to {wording.day(last)}, complete days that are billed. The gap is the bill less "
            "ours, and the causes add up to it. *Past the gateway*: paid for other keys. *Price*: the same tokens, "
            "priced otherwise. *Cache kinds*: as many input tokens, of other kinds. *Counted by Tally*: volume whose "
            "usage we were not told. *Timing*: requests around midnight, and lines that come late."
        )


with below:
    if not freshness["requests"]:
        states.empty_company(settings.proxy_url)
        if shelved:
            with st.container(border=True):
                unreadable()
        st.stop()
    passed, looked = health.passed(checks)
    sign = ":green[:material/check_circle:]" if passed == looked else ":orange[:material/warning:]"
    states.data_through(freshness, settings.stale_after_s, f"{sign} {passed} of {looked} checks pass")
with states.card(tiles.HEIGHT, "tiles"):
    figures_row()
all_checks()
left, right = st.columns([3, 2], gap="small")
with left.container(border=True, height="stretch"):
    lag()
with right.container(border=True, height="stretch"):
    unreadable()
    unattributed()
for part in (unpriced, alerts, gateway, bill):
    with st.container(border=True):
        part()
