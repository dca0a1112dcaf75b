"""The keys function: a Slack slash command with which people issue, list and revoke their own keys.

It faces the internet. Nothing is believed before Slack's signature is; then each signed request is answered once.
Bodies and answers hold keys, so neither is ever logged.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import flask
import functions_framework

from governance import logs
from governance.policy import PolicyError
from governance.registry import Conflict, RegistryError
from governance.settings import KeysSettings, load

from .door import Door
from .slack import SlackError, is_signed

BODY_BYTES = 64 * 1024
LATER = "Tally cannot do this right now. Please try again in a minute; `list` shows the keys you have."
log = logging.getLogger(__name__)


door = Door(load(KeysSettings))
logs.start(logging.getLevelNamesMapping()[door.settings.log_level])


@functions_framework.http
def keys(request: flask.Request) -> tuple[Any, int, dict[str, str]]:
    """401 to what Slack did not sign just now, or sent before; else 200 with a text that only the asker sees."""
    request.max_content_length = BODY_BYTES
    body, headers = request.get_data(), request.headers
    timestamp, signature = headers.get("X-Slack-Request-Timestamp", ""), headers.get("X-Slack-Signature", "")
    if not is_signed(door.settings.slack_signing_secret, timestamp, signature, body, time.time()):
        return _plain("not signed by Slack within five minutes", 401)
    form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
    if form.get("team_id") != door.settings.slack_team_id:
        return _plain("not our workspace", 403)
    now = datetime.now(UTC)
    try:
        if not door.is_first(f"signature {signature}", now):
            return _plain("this request was answered before", 401)
        if form.get("trigger_id") and not door.is_first(f"trigger {form['trigger_id']}", now):
            return _ephemeral("This was answered a moment ago. `list` shows your keys.")  # Slack tries a second time
        return _ephemeral(door.answer(form, now))
    except (RegistryError, Conflict, SlackError, PolicyError) as error:
        log.error("a request could not be answered", extra={"reason": f"{type(error).__name__}: {error}"})
        return _ephemeral(LATER)


def _plain(text: str, status: int) -> tuple[Any, int, dict[str, str]]:
    return text, status, {"Content-Type": "text/plain; charset=utf-8"}


def _ephemeral(text: str) -> tuple[Any, int, dict[str, str]]:
    return {"response_type": "ephemeral", "text": text}, 200, {"Cache-Control": "no-store"}
