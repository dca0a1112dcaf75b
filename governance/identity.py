"""Who is asking, as Google signed it: the assertion that IAP adds to a request, or a person's own ID token.

Needs google-auth and cryptography; whoever starts lean imports this module when the first token arrives.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.auth import exceptions, transport
from google.oauth2 import id_token

HEADER = "x-goog-iap-jwt-assertion"
ISSUER = "https://cloud.google.com/iap"
GOOGLE = ("https://accounts.google.com", "accounts.google.com")
CLOCK_SKEW_S = 10
FETCH_S = 5
_CERTIFICATES_S = 3_600
_REFETCH_S = 60  # an unknown key asks for new certificates at most this often
_REMEMBERED = 4_096


class NotAllowed(Exception):
    """Nobody of ours: the token is absent, forged, expired or meant for another service. Holds no part of it."""


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
    """Checks the tokens of one issuer for our audiences. Thread-safe; a checked one costs a look-up until it expires.

    `issuers` are the ways in which the issuer writes its name. With `confirmed` a token must say that its e-mail is.
    """

    def __init__(
        self,
        audience: str | Sequence[str],
        certs_url: str,
        fetch: Callable[..., Any] | None = None,
        *,
        issuers: Sequence[str] = (ISSUER,),
        confirmed: bool = False,
    ) -> None:
        if fetch is None:
            from google.auth.transport.requests import Request

            fetch = Request()
        self._audiences = [audience] if isinstance(audience, str) else list(audience)
        if not self._audiences or not all(self._audiences):
            raise ValueError("a token is checked for an audience")  # google-auth would take any, if there were none
        self._certs_url, self._issuers, self._confirmed = certs_url, tuple(issuers), confirmed
        self._certificates = _Certificates(fetch)
        self._known: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, token: str | None) -> tuple[str, float]:
        """(e-mail, when the token expires as seconds since 1970). Raises NotAllowed."""
        if not token:
            raise NotAllowed("no assertion")
        digest = fingerprint(token)
        with self._lock:
            known = self._known.get(digest)
        if known is not None and known[1] + CLOCK_SKEW_S > time.time():
            return known
        claims = self._claims(token)
        email = claims.get("email")
        if claims.get("iss") not in self._issuers or not isinstance(email, str) or "@" not in email:
            raise NotAllowed("not about a person, or by another issuer")
        if self._confirmed and claims.get("email_verified") is not True:
            raise NotAllowed("the e-mail is not confirmed")
        checked = (email.lower(), float(claims["exp"]))
        with self._lock:
            self._known[digest] = checked
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return checked

    def _claims(self, token: str) -> Mapping[str, Any]:
        try:
            return self._verify(token)
        except NotAllowed:
            if not self._certificates.forget_old():
                raise
        return self._verify(token)  # the issuer may have begun to sign with a new key

    def _verify(self, token: str) -> Mapping[str, Any]:
        try:
            claims: Mapping[str, Any] = id_token.verify_token(
                token,
                self._certificates,
                audience=self._audiences,
                certs_url=self._certs_url,
                clock_skew_in_seconds=CLOCK_SKEW_S,
            )
        except (ValueError, TypeError, KeyError, exceptions.GoogleAuthError) as error:
            raise NotAllowed(type(error).__name__) from None
        return claims


def fingerprint(token: str) -> bytes:
    """What is kept of a token, so that a dump of memory or state opens nothing."""
    return hashlib.sha256(token.encode(errors="replace")).digest()
