"""Who is looking: as IAP signed it or, on a laptop, as the settings say. Nothing else names a person."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st
from google.auth import exceptions, transport
from google.oauth2 import id_token

from governance.settings import DashboardSettings, load

HEADER = "x-goog-iap-jwt-assertion"
CLAIM = "iap_assertion"  # what `server.trustedUserHeaders` calls that header in `st.user`
ISSUER = "https://cloud.google.com/iap"
CLOCK_SKEW_S = 10
SESSION_S = 3_600  # an open page outlives the assertion it was opened with (10 minutes), as long as Cloud Run lets it
FETCH_S = 5
_CERTIFICATES_S = 3_600
_REFETCH_S = 60  # an unknown key asks for new certificates at most this often
_REMEMBERED = 4_096
_SESSION_KEY = "_viewer"


class NotAllowed(Exception):
    """Nobody of ours: the assertion is absent, forged, expired or meant for another service. Holds no part of it."""


@dataclass(frozen=True)
class Viewer:
    """The person a page is drawn for. `is_local`: chosen in the settings of a laptop, not proven."""

    email: str
    is_local: bool


class _Certificates(transport.Request):
    """The transport google-auth asks for certificates at every check; it answers from memory for an hour."""

    def __init__(self, fetch: Callable[..., Any]) -> None:
        self._fetch, self._lock = fetch, threading.Lock()
        self._answer: Any = None
        self._fetched = 0.0

    def __call__(
        self, url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: Any = None, **rest: Any
    ) -> Any:
        with self._lock:
            if self._answer is None or time.monotonic() - self._fetched > _CERTIFICATES_S:
                answer = self._fetch(url, method=method, body=body, headers=headers, timeout=timeout or FETCH_S, **rest)
                if answer.status != 200:
                    return answer
                self._answer, self._fetched = answer, time.monotonic()
            return self._answer

    def forget_old(self) -> bool:
        """Drop certificates that may have been replaced meanwhile; False when they are too fresh for that."""
        with self._lock:
            if self._answer is None or time.monotonic() - self._fetched < _REFETCH_S:
                return False
            self._answer = None
            return True


class Verifier:
    """Checks IAP assertions for one audience. Thread-safe; a checked assertion costs a look-up until it expires."""

    def __init__(self, audience: str, certs_url: str, fetch: Callable[..., Any] | None = None) -> None:
        if fetch is None:
            from google.auth.transport.requests import Request

            fetch = Request()
        self._audience, self._certs_url = audience, certs_url
        self._certificates = _Certificates(fetch)
        self._known: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, assertion: str | None) -> tuple[str, float]:
        """(e-mail, when the assertion expires as seconds since 1970). Raises NotAllowed."""
        if not assertion:
            raise NotAllowed("no assertion")
        digest = fingerprint(assertion)
        with self._lock:
            known = self._known.get(digest)
        if known is not None and known[1] + CLOCK_SKEW_S > time.time():
            return known
        claims = self._claims(assertion)
        email = claims.get("email")
        if claims.get("iss") != ISSUER or not isinstance(email, str) or "@" not in email:
            raise NotAllowed("not an assertion of IAP about a person")
        checked = (email.lower(), float(claims["exp"]))
        with self._lock:
            self._known[digest] = checked
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return checked

    def _claims(self, assertion: str) -> Mapping[str, Any]:
        try:
            return self._verify(assertion)
        except NotAllowed:
            if not self._certificates.forget_old():
                raise
        return self._verify(assertion)  # IAP may have begun to sign with a new key

    def _verify(self, assertion: str) -> Mapping[str, Any]:
        try:
            claims: Mapping[str, Any] = id_token.verify_token(
                assertion,
                self._certificates,
                audience=self._audience,
                certs_url=self._certs_url,
                clock_skew_in_seconds=CLOCK_SKEW_S,
            )
        except (ValueError, TypeError, KeyError, exceptions.GoogleAuthError) as error:
            raise NotAllowed(type(error).__name__) from None
        return claims


def fingerprint(assertion: str) -> bytes:
    """What is kept of an assertion, so that a dump of memory or state opens nothing."""
    return hashlib.sha256(assertion.encode()).digest()


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
