"""Slack, in two ways: a bot, which can tell a person alone and offer buttons, and an incoming webhook, which cannot."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import SecretStr

from governance.channels import Post, http_url
from governance.messages import Button, DeliveryError, Message, Unreachable

MOST_TEXT: Final = 2900  # characters of a section, of which Slack takes 3,000
MOST_SECTIONS: Final = 12
_TOKEN: Final = "give TALLY_SLACK_BOT_TOKEN the Bot User OAuth Token that the app has now"  # noqa: S105 - words
_PLACE: Final = "give TALLY_SLACK_CHANNEL a channel's id, and invite the app to it"
_SCOPES: Final = "give the app the scopes chat:write and users:read.email, and install it anew"
_MEND: Final[Mapping[str, str]] = {
    **dict.fromkeys(("invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive"), _TOKEN),
    **dict.fromkeys(("channel_not_found", "not_in_channel", "is_archived"), _PLACE),
    **dict.fromkeys(("missing_scope", "not_allowed_token_type", "no_permission"), _SCOPES),
    "messages_tab_disabled": "switch on the Messages Tab in the app's App Home",
}
_GONE: Final = {"channel_not_found", "user_not_found", "user_disabled", "cannot_dm_bot"}  # of a message to a person
log = logging.getLogger(__name__)


def escaped(text: str) -> str:
    """Text that Slack shows as it is: no links, no mentions of people and channels."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plain(message: Message) -> str:
    """The message as one text, for notifications and for those who cannot draw blocks."""
    return f"*{escaped(message.subject)}*\n{escaped(message.text)}"


class SlackWebhook:
    """An incoming webhook of Slack, or of anything that takes `{"text": …}` and answers 2xx."""

    name = "slack"
    private_too = False

    def __init__(self, url: SecretStr, *, post: Post | None = None) -> None:
        self._url, self._post = http_url(url, "a Slack webhook"), post or Post("the Slack webhook")

    def send(self, message: Message) -> None:
        """Post the text; again on 429, 5xx and a broken connection, and never on another refusal."""
        self._post(self._url, lambda: {"json": {"text": plain(message)}})


class SlackBot:
    """A Slack app's bot. What is private goes to each addressee alone, found by their address.

    What is not goes to `channel`; without one by `shared`, an incoming webhook; without that to each addressee too.
    """

    name = "slack"  # also when a webhook was there before: nothing is said again because of the bot
    private_too = True

    def __init__(
        self,
        token: SecretStr,
        channel: str = "",
        *,
        shared: SlackWebhook | None = None,
        api_url: str = "https://slack.com/api/",
        post: Post | None = None,
    ) -> None:
        if re.search(r"[^!-~]", token.get_secret_value()):
            raise ValueError("a Slack bot token is xoxb-…, without spaces")
        self._token, self._channel, self._shared = token, channel, shared
        self._api = http_url(SecretStr(api_url), "Slack's Web API").get_secret_value().rstrip("/")
        self._post = post or Post("Slack")
        self._users: dict[str, str] = {}  # address to user id

    def send(self, message: Message) -> None:
        """Post the message where it belongs. Raises DeliveryError with what to mend, and whom it has reached."""
        if message.private or not (self._channel or self._shared):
            self._tell_each(message)
        elif self._channel:
            answer = self._say(self._channel, message)
            if not answer.get("ok"):
                raise DeliveryError(_refusal(answer))
        elif self._shared:
            self._shared.send(message)

    def _tell_each(self, message: Message) -> None:
        reached: list[str] = []
        try:
            for address in message.to:
                if self._tell(address, message):
                    reached.append(address)
        except DeliveryError as error:
            raise DeliveryError(str(error), tuple(reached)) from None
        if not reached:
            raise Unreachable("Slack knows none of the addresses that this is for")
        if len(reached) < len(message.to):
            log.warning("Slack does not know some of the addressees", extra={"unknown": len(message.to) - len(reached)})

    def _tell(self, address: str, message: Message) -> bool:
        """Whether this one person was told; False where Slack does not know them, or no longer."""
        if address not in self._users:
            found = self._call("users.lookupByEmail", {"data": {"email": address}})
            if not found.get("ok") and found.get("error") != "users_not_found":
                raise DeliveryError(_refusal(found))
            user = found.get("user")
            if not isinstance(user, dict) or user.get("deleted") or user.get("is_email_confirmed") is False:
                return False
            self._users[address] = str(user.get("id"))
        answer = self._say(self._users[address], message)
        if not answer.get("ok"):
            del self._users[address]
            if answer.get("error") in _GONE:
                return False
            raise DeliveryError(_refusal(answer))
        return True

    def _say(self, where: str, message: Message) -> Mapping[str, Any]:
        said = {"channel": where, "text": plain(message)[: MOST_TEXT * MOST_SECTIONS], "blocks": blocks(message)}
        return self._call("chat.postMessage", {"json": said | {"unfurl_links": False, "unfurl_media": False}})

    def _call(self, method: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
        head = {"authorization": f"Bearer {self._token.get_secret_value()}"}
        return self._post(SecretStr(f"{self._api}/{method}"), lambda: {"headers": head, **content}).body


def _refusal(answer: Mapping[str, Any]) -> str:
    """What Slack said, if it is one of its words, and what to do about it."""
    error = answer.get("error")
    known = error if isinstance(error, str) and re.fullmatch(r"[a-z_]{1,40}", error) else "what it does not document"
    return f"Slack answered {known}" + (f": {_MEND[known]}" if known in _MEND else "")


def blocks(message: Message) -> list[dict[str, Any]]:
    """Block Kit: the text in sections, and the buttons below."""
    drawn: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": part}} for part in _parts(plain(message))
    ]
    if message.buttons:
        drawn.append({"type": "actions", "elements": [_button(button) for button in message.buttons]})
    return drawn


def _button(button: Button) -> dict[str, Any]:
    drawn: dict[str, Any] = {
        "type": "button",
        "text": {"type": "plain_text", "text": button.label},
        "action_id": button.action,
        "value": button.value,
    }
    if button.danger:
        words = {"title": "Are you sure?", "text": f"{button.label}: this cannot be undone.", "confirm": button.label}
        texts = {name: {"type": "plain_text", "text": text} for name, text in (words | {"deny": "Not now"}).items()}
        drawn |= {"style": "danger", "confirm": texts | {"style": "danger"}}
    return drawn


def _parts(text: str) -> Iterator[str]:
    """The text in pieces that a section takes, cut at line ends, and where a line is longer than that, in it."""
    for _ in range(MOST_SECTIONS):
        if len(text) <= MOST_TEXT:
            break
        end = text.rfind("\n", 1, MOST_TEXT) + 1 or MOST_TEXT
        yield text[:end].rstrip("\n")
        text = text[end:]
    if text:
        yield text[:MOST_TEXT]
