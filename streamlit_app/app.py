"""What is served: the pages behind the door. `streamlit run streamlit_app/app.py`, the repository on PYTHONPATH."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from governance import logs
from governance.settings import DashboardSettings, load
from streamlit_app.door import Door

logs.start()
log = logging.getLogger("tally.dashboard")

for heavy in ("pyarrow", "streamlit_app.charts", "streamlit_app.tables"):
    importlib.import_module(heavy)  # now, and not while the first visitor waits


def report(error: Exception) -> None:
    """A page failed: the traceback to the log, a plain sentence to the page."""
    log.error("a page failed", exc_info=error)


app = st.App(
    Path(__file__).parent / "pages" / "shell.py",
    middleware=[Middleware(Door, settings=load(DashboardSettings))],
    on_script_error=report,
)
