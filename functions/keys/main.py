"""The keys function: people's own keys and budgets, by a Slack command and its buttons, or as JSON below /v1.

It faces the internet. Nothing is believed before Slack's signature is, or a token of Google's; each signed request is
answered once. Bodies and answers hold keys, so neither is ever logged.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

import flask
import functions_framework

from governance import logs
from governance.policy_csv import PolicyError
from governance.registry import Conflict, RegistryError
from governance.settings import KeysSettings, load

from . import blocks, buttons, words
from .desk import Request
from .door import Door
from .slack import Slack, SlackError, is_signed
from .terms import Refused

BODY_BYTES: Final = 64 * 1024
ANSWER_S: Final = 2.4  # from a request to its answer, of the three seconds that Slack waits
LATER: Final = "Tally cannot do this right now. Please try again in a minute; `list` shows the keys you have."
_TROUBLE: Final = (RegistryError, Conflict, SlackError, PolicyError)
Answered = tuple[Any, int, dict[str, str]]
log = logging.getLogger(__name__)


door = Door(load(KeysSettings))
logs.start(logging.getLevelNamesMapping()[door.settings.log_level])


@functions_framework.http
def keys(request: flask.Request) -> Answered:
    """Slack's command and clicks at `/`, JSON below `/v1/`. 404 for what is not configured."""
    ends = time.monotonic() + ANSWER_S
    request.max_content_length = BODY_BYTES
    if request.path.startswith("/v1/") and door.settings.has_api:
        from . import api  # only here is google-auth needed

        return api.answer(door, request, ends)
    if door.slack is None or request.path.startswith("/v1/"):
        return _plain("not found", 404)
    return _slack(door.slack, request, ends)


def _slack(slack: Slack, request: flask.Request, ends: float) -> Answered:
    """401 to what Slack did not sign just now, or sent before; else 200."""
    body, headers = request.get_data(), request.headers
    timestamp, signature = headers.get("X-Slack-Request-Timestamp", ""), headers.get("X-Slack-Signature", "")
    secret = door.settings.slack_signing_secret
    if secret is None or not is_signed(secret, timestamp, signature, body, time.time()):
        return _plain("not signed by Slack within five minutes", 401)
    form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
    payload = _payload(form)
    if _team(form, payload) != door.settings.slack_team_id:
        return _plain("not our workspace", 403)
    now = datetime.now(UTC)
    try:
        if not door.is_first(f"signature {signature}", now):
            return _plain("this request was answered before", 401)
        if payload is not None:
            return _interaction(slack, payload, ends, now)
        if form.get("trigger_id") and not door.is_first(f"trigger {form['trigger_id']}", now):
            return _json(blocks.ephemeral(f"{buttons.AGAIN} `list` shows your keys."))  # Slack tries a second time
        return _json(_command(slack, form, ends, now))
    except _TROUBLE as error:
        log.error("a request could not be answered", extra={"reason": f"{type(error).__name__}: {error}"})
        return _json(blocks.ephemeral(LATER))


def _command(slack: Slack, form: dict[str, str], ends: float, now: datetime) -> dict[str, Any]:
    ask = words.read(form.get("text", ""))
    if ask is None or ask[0] == "help":
        return blocks.helped()
    person = door.find(slack.email_of(form.get("user_id", "")), now.date())
    if person is None:
        return blocks.ephemeral(blocks.escaped(buttons.unknown(door, now)))
    try:
        return blocks.drawn(door.office(now, ends).answer(Request(person, "slack", now), *ask))
    except Refused as refusal:
        return blocks.ephemeral(blocks.escaped(refusal.words))


def _interaction(slack: Slack, payload: dict[str, Any], ends: float, now: datetime) -> Answered:
    submitted, click = buttons.submission_in(payload), buttons.click_in(payload)
    if submitted is not None:
        try:
            return _json(buttons.answer_submission(door, slack, *submitted, ends=ends, now=now))
        except _TROUBLE as error:
            log.error("a dialog could not be answered", extra={"reason": f"{type(error).__name__}: {error}"})
            return _json(blocks.shown(blocks.section(LATER)))
    if click is not None:
        try:
            buttons.answer_click(door, slack, click, ends, now)
        except _TROUBLE as error:
            log.error("a click could not be answered", extra={"reason": f"{type(error).__name__}: {error}"})
            buttons.sorry(slack, click, LATER, ends)
        slack.settle(ends)
    return _plain("", 200)


def _payload(form: dict[str, str]) -> dict[str, Any] | None:
    """What a click sent; an empty one where it cannot be read."""
    if "payload" not in form:
        return None
    try:
        found = json.loads(form["payload"])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _team(form: dict[str, str], payload: dict[str, Any] | None) -> object:
    if payload is None:
        return form.get("team_id")
    team = payload.get("team")
    return team.get("id") if isinstance(team, dict) else None


def _plain(text: str, status: int) -> Answered:
    return text, status, {"Content-Type": "text/plain; charset=utf-8"}


def _json(content: dict[str, Any]) -> Answered:
    return content, 200, {"Cache-Control": "no-store"}
