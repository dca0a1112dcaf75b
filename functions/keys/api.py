"""The verbs as JSON, for companies without Slack, for pages and for the command line.

    POST /v1/<verb>     a JSON object of arguments; GET works for verbs that change nothing, with arguments as a query

Who asks is proven by IAP's assertion or by a Google ID token of the person's own. A POST must say that it is JSON: a
page elsewhere cannot make a browser send that, and with it the sign-in, unasked. Errors: `{"error": {"message": …}}`.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import flask

from governance.audit import Origin
from governance.identity import GOOGLE, HEADER, NotAllowed, Verifier
from governance.policy_csv import PolicyError
from governance.registry import Conflict, RegistryError
from governance.settings import audiences

from .answers import Issued, as_json
from .desk import Request
from .door import Door
from .office import READING, VERBS
from .terms import Refused

LATER = "Tally cannot do this right now. Please try again in a minute."
Answered = tuple[Any, int, dict[str, str]]
log = logging.getLogger(__name__)


@lru_cache(maxsize=8)
def _verifier(kind: str, for_whom: str, certs_url: str) -> Verifier:
    if kind == "iap":
        return Verifier(audiences(for_whom), certs_url)
    return Verifier(audiences(for_whom), certs_url, issuers=GOOGLE, confirmed=True)


def email_of(door: Door, headers: Any) -> str:
    """Who sent the request, as proven. Raises NotAllowed.

    An assertion counts before a token, and exactly one of either: whoever sends two is not believed.
    """
    s = door.settings
    assertions, tokens = headers.getlist(HEADER), headers.getlist("Authorization")
    if assertions and audiences(s.iap_audiences):
        if len(assertions) != 1:
            raise NotAllowed("more than one assertion")
        return _verifier("iap", s.iap_audiences, s.iap_certs_url).check(assertions[0])[0]
    scheme, _, token = tokens[0].partition(" ") if len(tokens) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not audiences(s.api_audience):
        raise NotAllowed("no token")
    return _verifier("google", s.api_audience, s.api_certs_url).check(token.strip())[0]


def answer(door: Door, request: flask.Request, ends: float) -> Answered:
    """401 without a proven e-mail, 403 for whom policy/ does not know; then what the verb says."""
    try:
        email = email_of(door, request.headers)
    except NotAllowed as refusal:
        log.info("not let in", extra={"reason": str(refusal)})
        words = "Say who you are: a Google ID token for this service as `Authorization: Bearer`, or come through IAP."
        return _error(words, 401, {"WWW-Authenticate": "Bearer"})
    now = datetime.now(UTC)
    try:
        person = door.find(email, now.date())
        if person is None:
            return _error(f"Tally does not know {email}. Please ask {door.whom_to_ask(now.date())}.", 403)
        verb = request.path.removeprefix("/v1/").strip("/")
        given = _arguments(request, verb)
        # Which of the two it was serves the reader of the audit log; nothing hangs on it.
        origin: Origin = "tally" if request.headers.get("User-Agent") == "tally" else "api"
        made = door.office(now, ends).answer(Request(person, origin, now), verb, given)
    except Refused as refusal:
        return _error(refusal.words, refusal.status, {"Allow": "POST"} if refusal.status == 405 else {})
    except (RegistryError, Conflict, PolicyError) as error:
        log.error("a request could not be answered", extra={"reason": f"{type(error).__name__}: {error}"})
        return _error(LATER, 503, {"Retry-After": "5"})
    if door.slack is not None:
        door.slack.settle(ends)
    return as_json(made), 201 if isinstance(made, Issued) else 200, {"Cache-Control": "no-store"}


def _arguments(request: flask.Request, verb: str) -> dict[str, str]:
    """The arguments as texts. Raises Refused."""
    if verb not in VERBS:
        raise Refused("There is no such verb.", 404)
    if request.method == "GET" and verb in READING:
        return {name: request.args[name] for name in request.args}
    if request.method != "POST":
        raise Refused("This changes something: POST it.", 405)
    if request.mimetype != "application/json":
        raise Refused("Send a JSON object, as application/json.", 415)
    given = request.get_json(silent=True)
    if not isinstance(given, dict) or not all(isinstance(v, str | int | float | None) for v in given.values()):
        raise Refused("Send a JSON object of texts and numbers.")
    return {str(name): _as_text(value) for name, value in given.items() if value is not None}


def _as_text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value}"


def _error(words: str, status: int, headers: dict[str, str] | None = None) -> Answered:
    return {"error": {"message": words}}, status, {"Cache-Control": "no-store", **(headers or {})}
