"""What happens at a click. A button proves nothing: who clicks, and what is theirs, is looked up anew."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from governance.registry import RegistryError

from . import blocks
from .answers import Issued, Listed
from .desk import Request
from .door import Door
from .office import Office
from .slack import Slack, SlackError
from .terms import KEY_ID, Refused

LAST_S: Final = 0.4  # what the last call may take beyond the time of the rest
AGAIN: Final = "This was answered a moment ago."
_VERBS: Final = {
    blocks.REVOKE: ("revoke", "which"),
    blocks.APPROVE: ("approve", "id"),
    blocks.REFUSE: ("refuse", "id"),
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Click:
    """One action of a `block_actions` payload; anything that is missing is an empty text."""

    user: str
    action: str
    value: str
    message: str  # where the button stands: channel and time
    response_url: str
    trigger_id: str
    original: tuple[dict[str, Any], ...]  # the blocks around the button, where Slack tells them

    @property
    def name(self) -> str:
        """The same for every click of this person on this button."""
        return f"click {self.user} {self.message} {self.action} {self.value}"


def click_in(payload: Mapping[str, Any]) -> Click | None:
    """The click that a payload tells of, or None."""
    actions = payload.get("actions")
    action = actions[0] if isinstance(actions, list) and actions and isinstance(actions[0], dict) else None
    if payload.get("type") != "block_actions" or action is None:
        return None
    container, message = _part(payload, "container"), _part(payload, "message")
    original = message.get("blocks")
    return Click(
        _text(_part(payload, "user"), "id"),
        _text(action, "action_id"),
        _text(action, "value"),
        f"{_text(container, 'channel_id')} {_text(container, 'message_ts') or _text(container, 'view_id')}",
        _text(payload, "response_url"),
        _text(payload, "trigger_id"),
        tuple(block for block in original if isinstance(block, dict)) if isinstance(original, list) else (),
    )


def submission_in(payload: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """(user, view, key id) of the dialog that was submitted, or None."""
    view = _part(payload, "view")
    if payload.get("type") != "view_submission" or _text(view, "callback_id") != blocks.ROTATE:
        return None
    return _text(_part(payload, "user"), "id"), _text(view, "id"), _text(view, "private_metadata")


def answer_click(door: Door, slack: Slack, click: Click, ends: float, now: datetime) -> None:
    """Do what the button says, once, and say so in its place. Raises RegistryError, SlackError, PolicyError."""
    if click.action == blocks.HIDE:
        slack.respond(click.response_url, {"delete_original": True}, _left(ends))
        return
    if click.action not in (*_VERBS, blocks.ROTATE):
        return  # a link, or a button of a version to come
    person = door.find(slack.email_of(click.user), now.date())
    if person is None:
        _beside(slack, click, unknown(door, now), ends)
        return
    asked, office = Request(person, "slack", now), door.office(now, ends)
    if click.action == blocks.ROTATE:
        _open(slack, office, asked, click, ends)
        return
    if not door.is_first(click.name, now):
        return  # a double click: the first one is being answered
    try:
        said = _done(office, asked, click)
    except Refused as refusal:
        if refusal.status == 409 and click.action != blocks.REVOKE:
            # Somebody else has decided meanwhile, or the period is over: the buttons are of no more use.
            _instead(slack, click, blocks.escaped(refusal.words), ends, None, asked)
        else:
            door.forget(click.name)
            _beside(slack, click, blocks.escaped(refusal.words), ends)
        return
    except Exception:
        door.forget(click.name)
        raise
    _instead(slack, click, said, ends, office, asked)


def _done(office: Office, asked: Request, click: Click) -> str:
    verb, argument = _VERBS[click.action]
    return str(blocks.drawn(office.answer(asked, verb, {argument: click.value}))["text"])


def _open(slack: Slack, office: Office, asked: Request, click: Click, ends: float) -> None:
    """The dialog in which a key is replaced, if it is this person's."""
    try:
        record = office.desk.rotatable(asked, click.value)
    except Refused as refusal:
        _beside(slack, click, blocks.escaped(refusal.words), ends)
        return
    hours = office.desk.company.keys.overlap_hours
    try:
        slack.open_view(click.trigger_id, blocks.rotation(record.key_id, record.name, hours))
    except SlackError as error:
        log.error("Slack did not show a dialog", extra={"reason": str(error)})
        words = f"Slack does not show the dialog. Write `rotate {record.key_id}` after the command."
        _beside(slack, click, words, ends)


def answer_submission(
    door: Door, slack: Slack, user: str, view: str, key_id: str, ends: float, now: datetime
) -> dict[str, Any]:
    """The dialog with the new key in it, once. Raises RegistryError, SlackError, PolicyError."""
    person = door.find(slack.email_of(user), now.date())
    if person is None:
        return blocks.shown(blocks.section(unknown(door, now)))
    name = f"view {user} {view}"
    if not KEY_ID.fullmatch(key_id) or not door.is_first(name, now):
        return blocks.shown(blocks.section(f"{AGAIN} `list` shows your keys."))
    try:
        made = door.office(now, ends).answer(Request(person, "slack", now), "rotate", {"which": key_id})
    except Refused as refusal:
        return blocks.shown(blocks.section(blocks.escaped(refusal.words)))
    except Exception:
        door.forget(name)
        raise
    return blocks.shown(blocks.issued(made) if isinstance(made, Issued) else [])


def unknown(door: Door, now: datetime) -> str:
    """What somebody reads whom policy/ does not know, or no longer."""
    return f"Tally does not know you under your Slack e-mail. Please ask {door.whom_to_ask(now.date())}."


def sorry(slack: Slack, click: Click, text: str, ends: float) -> None:
    """Say that it did not work, if even that works."""
    try:
        _beside(slack, click, text, ends)
    except SlackError as error:
        log.error("a click's trouble was not said", extra={"reason": str(error)})


def _beside(slack: Slack, click: Click, text: str, ends: float) -> None:
    slack.respond(click.response_url, {**blocks.ephemeral(text), "replace_original": False}, _left(ends))


def _left(ends: float) -> float:
    """What is left for the last call, seconds."""
    return max(ends + LAST_S - time.monotonic(), LAST_S)


def _instead(slack: Slack, click: Click, text: str, ends: float, office: Office | None, asked: Request) -> None:
    """Put what came of it in the button's place: below what the message said, or above the list as it is now.

    The act is done by now: that it cannot be said is logged, and no reason to do it again.
    """
    kept = [block for block in click.original if block.get("type") not in ("actions", "context")][:40]
    message: dict[str, Any] = {"text": text, "blocks": [*kept, *blocks.section(text)], "replace_original": True}
    try:
        if not kept and office is not None and click.action == blocks.REVOKE:
            listed = office.answer(asked, "list", {})
            if isinstance(listed, Listed) and listed.keys:
                message["blocks"] += blocks.drawn(listed)["blocks"]
        slack.respond(click.response_url, message, _left(ends))
    except (SlackError, RegistryError) as error:
        log.error("what a click did was not said", extra={"reason": str(error)})


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _text(content: Mapping[str, Any], name: str) -> str:
    found = content.get(name)
    return found if isinstance(found, str) else ""
