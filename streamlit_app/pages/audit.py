"""Audit log: who did what to what. For admins; for everybody else there is no such page."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from streamlit_app import acts, identity, states, tables

now = states.now()
viewer = identity.viewer()
if not acts.may_read(viewer.email, now.date()):  # the shell offers it to admins alone; this is for whoever finds a way
    st.stop()

filters, below = states.heading("Audit log", viewer)
with filters:
    days = states.period_filter()
    action = st.selectbox(
        "Action",
        list(acts.ACTIONS),
        index=None,
        format_func=lambda name: acts.ACTIONS[name],
        placeholder="Every action",
        key="action",
        bind="query-params",
        label_visibility="collapsed",
        width=190,
    )
    about = st.text_input(
        "Person or subject",
        key="about",
        bind="query-params",
        placeholder="Person, key or budget",
        label_visibility="collapsed",
        width=210,
    )
with below:
    if not acts.note_look(viewer.email, now):
        st.error(
            "**The audit log cannot be shown now.** That somebody looks at it is written into it, and that is not "
            "possible at the moment. Try again in a minute.",
            icon=":material/cloud_off:",
        )
        st.stop()
    with states.whole_page("audit"):
        rows = acts.entries(
            (now - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0), action or "", about or ""
        )
    cut = f"The newest {acts.MOST:,} entries" if len(rows) == acts.MOST else f"{len(rows):,} entries"
    st.caption(f"{cut} of the last {days} days · :material/lock: Only admins see this, and each look is an entry too")
states.csv_button(filters, tables.as_csv(rows), f"audit-{now:%Y-%m-%d}.csv")
with st.container(border=True):
    if rows:
        acts.draw(rows)
        st.caption(
            "What is done now is here after the next tick of the alerts function. Before and after are what changed; "
            "a key stands here by its id, never by itself."
        )
    else:
        states.empty("No entries.", "Try a longer period, or other filters.")
