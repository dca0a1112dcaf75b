"""Who is looking: as IAP signed it or, on a laptop, as the settings say. Nothing else names a person."""

from __future__ import annotations

import time
from dataclasses import dataclass

import streamlit as st

from governance.identity import CLOCK_SKEW_S, HEADER, ISSUER, NotAllowed, Verifier, fingerprint
from governance.settings import DashboardSettings, load

__all__ = [
    "CLAIM", "CLOCK_SKEW_S", "HEADER", "ISSUER", "NotAllowed", "Verifier", "Viewer", "fingerprint", "settings",
    "verifier", "viewer",
]  # fmt: skip

CLAIM = "iap_assertion"  # what `server.trustedUserHeaders` calls that header in `st.user`
SESSION_S = 3_600  # an open page outlives the assertion it was opened with (10 minutes), as long as Cloud Run lets it
_SESSION_KEY = "_viewer"


@dataclass(frozen=True)
class Viewer:
    """The person a page is drawn for. `is_local`: chosen in the settings of a laptop, not proven."""

    email: str
    is_local: bool


@st.cache_resource(show_spinner=False)
def settings() -> DashboardSettings:
    """The dashboard's settings, read once."""
    return load(DashboardSettings)


@st.cache_resource(show_spinner=False)
def verifier(audience: str, certs_url: str) -> Verifier:
    """The one verifier of this process."""
    return Verifier(audience, certs_url)


def viewer() -> Viewer:
    """The person who is looking. Raises NotAllowed. Never call it inside a cached function: those are shared.

    A page that is open keeps its viewer: for as long as its websocket lives, and an hour at most from when the
    assertion expired. The door refuses an expired one for every new page and websocket.
    """
    ours = settings()
    if ours.viewer is not None:
        return Viewer(ours.viewer.lower(), is_local=True)
    if ours.iap_audience is None:
        raise NotAllowed("no audience")  # the settings do not allow it; the door must not depend on that
    assertion = st.user.get(CLAIM)
    if not isinstance(assertion, str):
        raise NotAllowed("no assertion")
    kept = st.session_state.get(_SESSION_KEY)
    if kept is not None and kept[0] == fingerprint(assertion) and kept[2] + SESSION_S > time.time():
        return Viewer(kept[1], is_local=False)
    email, expires = verifier(ours.iap_audience, ours.iap_certs_url).check(assertion)
    st.session_state[_SESSION_KEY] = (fingerprint(assertion), email, expires)
    return Viewer(email, is_local=False)
