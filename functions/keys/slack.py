"""Slack at our door: is this request Slack's own and fresh, whose e-mail is behind it, and how to answer later.

Slack waits three seconds for our answer, so every call of ours has an end, however slowly its bytes come in.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as TooSlow
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from pydantic import SecretStr

WINDOW_S = 300  # how far a request's own time may be from ours, either way
CALL_S: Final = 1.4  # one call of ours, however it goes
_TIMEOUT_S = (1.0, 1.3)  # connect, and each read: what is left behind in a thread ends too
_REMEMBERED_S, _REMEMBERED = 60.0, 1_000
_NOBODY = {"user_not_found", "user_not_visible"}
_UNKNOWN = {"users_not_found", "user_not_found"}
# urllib3 writes the request's path at DEBUG, and for odd headers at WARNING; that of a response_url is a secret.
logging.getLogger("urllib3").setLevel(logging.ERROR)
log = logging.getLogger(__name__)


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
    """Slack's Web API, as far as a key desk needs it. Thread-safe."""

    def __init__(self, api_url: str, bot_token: SecretStr, team_id: str) -> None:
        self._api, self._token, self._team_id = api_url.rstrip("/"), bot_token, team_id
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="slack")
        self._emails: dict[str, tuple[str, float]] = {}
        self._under_way: set[Future[None]] = set()

    def email_of(self, user_id: str) -> str | None:
        """The confirmed e-mail, in lower case, of a living member of our own workspace; None for everybody else.

        Known for a minute. Raises SlackError when Slack could not be asked.
        """
        if not re.fullmatch(r"[UW][A-Z0-9]{2,30}", user_id):
            return None
        known = self._emails.get(user_id)
        if known is not None and time.monotonic() - known[1] < _REMEMBERED_S:
            return known[0]
        answer = self._call("users.info", {"user": user_id}, may_say=_NOBODY)
        email = self._email(answer.get("user"), user_id) if answer.get("ok") is True else None
        if email is not None:
            if len(self._emails) >= _REMEMBERED:
                self._emails.clear()
            self._emails[user_id] = (email, time.monotonic())
        return email

    def _email(self, user: object, user_id: str | None) -> str | None:
        if not isinstance(user, dict) or user.get("team_id") != self._team_id:
            return None
        if user_id is not None and user.get("id") != user_id:
            return None
        # Slack lets a member change the address; until the new one is confirmed it could be anybody's.
        if user.get("deleted") or user.get("is_bot") or user.get("is_email_confirmed") is not True:
            return None
        profile = user.get("profile")
        email = profile.get("email") if isinstance(profile, dict) else None
        return email.strip().lower() if isinstance(email, str) and email.strip() else None

    def tell(self, emails: tuple[str, ...], message: Mapping[str, Any], within_s: float) -> int:
        """Send each of these people the message, alone; how many were told in time. What fails is logged."""
        futures = [self._pool.submit(self._tell, email, message) for email in emails]
        ends, told = time.monotonic() + within_s, 0
        for future in futures:
            try:
                told += future.result(max(ends - time.monotonic(), 0))
            except TooSlow:
                log.error("Slack was too slow to tell somebody")
            except SlackError as error:
                log.error("Slack did not tell somebody", extra={"reason": str(error)})
        return told

    def tell_beside(self, email: str, message: Mapping[str, Any], told: Callable[[], None]) -> None:
        """Send one person the message without waiting, then call `told`; `settle` gives it the time that is left."""
        future = self._pool.submit(self._tell_and, email, message, told)
        self._under_way.add(future)
        future.add_done_callback(self._ended)

    def _tell_and(self, email: str, message: Mapping[str, Any], told: Callable[[], None]) -> None:
        if self._tell(email, message):
            told()

    def _ended(self, future: Future[None]) -> None:
        self._under_way.discard(future)
        error = future.exception()
        if error is not None:
            log.error("Slack did not tell somebody", extra={"reason": f"{type(error).__name__}: {error}"})

    def settle(self, ends: float) -> None:
        """Wait for what is under way, until `ends` by the monotonic clock at most."""
        wait(set(self._under_way), max(ends - time.monotonic(), 0))

    def _tell(self, email: str, message: Mapping[str, Any]) -> bool:
        found = self._answer("users.lookupByEmail", {"email": email}, None, _UNKNOWN)
        user = found.get("user")
        if not isinstance(user, dict) or self._email(user, None) != email:
            return False
        self._answer("chat.postMessage", None, {"channel": str(user.get("id")), **message})
        return True

    def open_view(self, trigger_id: str, view: Mapping[str, Any]) -> None:
        """Show a dialog. Raises SlackError."""
        self._call("views.open", None, {"trigger_id": trigger_id, "view": view})

    def respond(self, response_url: str, message: Mapping[str, Any], within_s: float = CALL_S) -> None:
        """Answer a click. Raises SlackError."""
        if not self._is_slacks(response_url):
            raise SlackError("a response_url that is not Slack's")
        self._in_time(self._pool.submit(self._post, response_url, message), min(within_s, CALL_S))

    def _is_slacks(self, url: str) -> bool:
        try:
            parts, api = urlsplit(url), urlsplit(self._api)
        except ValueError:
            return False
        slacks = parts.scheme == "https" and (parts.hostname or "").endswith((".slack.com", ".slack-gov.com"))
        return slacks or (parts.scheme, parts.netloc) == (api.scheme, api.netloc)

    def _post(self, url: str, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer = requests.post(url, json=message, timeout=_TIMEOUT_S, allow_redirects=False)
        except (requests.RequestException, ValueError) as error:  # its text holds the address
            raise SlackError(type(error).__name__) from None
        if answer.status_code != 200:
            raise SlackError(f"response_url answered {answer.status_code}")
        return {}

    def _call(
        self,
        method: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None = None,
        may_say: set[str] | frozenset[str] = frozenset(),
    ) -> dict[str, Any]:
        return self._in_time(self._pool.submit(self._answer, method, query, body, may_say))

    @staticmethod
    def _in_time(future: Future[dict[str, Any]], within_s: float = CALL_S) -> dict[str, Any]:
        try:
            return future.result(within_s)
        except TooSlow:
            raise SlackError("too slow") from None

    def _answer(
        self,
        method: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None = None,
        may_say: set[str] | frozenset[str] = frozenset(),
    ) -> dict[str, Any]:
        """The answer to one call; one that is not ok only where it says what it `may_say`. Raises SlackError."""
        url, headers = f"{self._api}/{method}", {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        try:
            if body is None:
                told = requests.get(url, params=query, headers=headers, timeout=_TIMEOUT_S, allow_redirects=False)
            else:
                told = requests.post(url, json=body, headers=headers, timeout=_TIMEOUT_S, allow_redirects=False)
            content = told.json()
        except (requests.RequestException, ValueError) as error:
            raise SlackError(type(error).__name__) from None
        answer: dict[str, Any] = content if isinstance(content, dict) else {}
        error_said = str(answer.get("error", ""))
        if answer.get("ok") is not True and error_said not in may_say:
            raise SlackError(error_said if re.fullmatch(r"[a-z_]{1,40}", error_said) else "an answer that is none")
        return answer
