"""Slack at our door: is this request Slack's own and fresh, and whose e-mail is behind the user who asks?"""

from __future__ import annotations

import hashlib
import hmac
import re

import requests
from pydantic import SecretStr

WINDOW_S = 300  # how far a request's own time may be from ours, either way
_TIMEOUT_S = (1.0, 1.5)  # connect, read: Slack itself waits three seconds for our answer
_NOBODY = {"user_not_found", "user_not_visible"}


class SlackError(Exception):
    """Slack could not be asked, or did not let us. Names the kind of trouble only."""


def is_signed(secret: SecretStr, timestamp: str, signature: str, body: bytes, now_s: float) -> bool:
    """Whether Slack signed exactly these bytes within the last five minutes. Garbage is False, never an exception."""
    if not re.fullmatch(r"[0-9]{1,12}", timestamp) or abs(now_s - int(timestamp)) > WINDOW_S:
        return False
    signed = b"v0:" + timestamp.encode() + b":" + body
    wanted = "v0=" + hmac.digest(secret.get_secret_value().encode(), signed, hashlib.sha256).hex()
    return hmac.compare_digest(wanted.encode(), signature.encode(errors="replace"))


class Slack:
    """Slack's Web API, as far as a key desk needs it."""

    def __init__(self, api_url: str, bot_token: SecretStr, team_id: str) -> None:
        self._url, self._token, self._team_id = api_url.rstrip("/") + "/users.info", bot_token, team_id

    def email_of(self, user_id: str) -> str | None:
        """The confirmed e-mail, in lower case, of a living member of our own workspace; None for everybody else.

        Raises SlackError when Slack could not be asked.
        """
        if not re.fullmatch(r"[UW][A-Z0-9]{2,30}", user_id):
            return None
        answer = self._ask(user_id)
        error = str(answer.get("error", ""))
        if answer.get("ok") is not True:
            if error in _NOBODY:
                return None
            raise SlackError(error if re.fullmatch(r"[a-z_]{1,40}", error) else "an answer that is none")
        user = answer.get("user")
        if not isinstance(user, dict) or user.get("id") != user_id or user.get("team_id") != self._team_id:
            return None
        # Slack lets a member change the address; until the new one is confirmed it could be anybody's.
        if user.get("deleted") or user.get("is_bot") or user.get("is_email_confirmed") is not True:
            return None
        profile = user.get("profile")
        email = profile.get("email") if isinstance(profile, dict) else None
        return email.strip().lower() if isinstance(email, str) and email.strip() else None

    def _ask(self, user_id: str) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        try:
            answer = requests.get(
                self._url, params={"user": user_id}, headers=headers, timeout=_TIMEOUT_S, allow_redirects=False
            )
            content = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise SlackError(type(error).__name__) from None
        return content if isinstance(content, dict) else {}
