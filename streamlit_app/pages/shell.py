"""What surrounds every page: its icon, the list of pages, and who is looking.

It lies in pages/ and not beside it: of a folder called pages beside its script Streamlit runs the files by themselves,
before the script has said which of them there are and for whom.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from streamlit_app import acts, identity, states, wording

STATIC = Path(__file__).parents[1] / "static"

st.set_page_config(page_title="Tally", page_icon=str(STATIC / "tally.svg"), layout="wide")
st.logo(str(STATIC / "wordmark.svg"), icon_image=str(STATIC / "tally.svg"), size="large")

try:
    viewer = identity.viewer()
except identity.NotAllowed:
    states.refused()
    st.stop()

system = [st.Page("data_health.py", title="Data health", icon=":material/monitor_heart:")]
if acts.may_read(viewer.email, states.now().date()):  # for everybody else the page does not exist
    system.append(st.Page("audit.py", title="Audit log", icon=":material/history:"))
page = st.navigation(
    {
        "Spend": [
            st.Page("overview.py", title="Overview", icon=":material/dashboard:", default=True),
            st.Page("statements.py", title="Statements", icon=":material/receipt_long:"),
        ],
        "You": [st.Page("my_usage.py", title="My usage", icon=":material/person:")],
        "System": system,
    }
)
with st.sidebar:
    st.caption(f":material/account_circle: {wording.plain(viewer.email)}")
page.run()
