"""How a channel hands something over by HTTP: short retries with growing pauses, and no word of where to.

The address of a webhook and the token of a bot are secrets. The libraries underneath put them into their exceptions and
debug lines; so an error is made anew here, outside the `except`, and names the channel and the kind of trouble alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from pydantic import SecretStr

from governance.messages import DeliveryError

# urllib3 writes the request's path at DEBUG and, for odd headers, at WARNING. The path of a webhook is the secret.
logging.getLogger("urllib3").setLevel(logging.ERROR)

CONNECT_S = 3.0
MOST_PATIENCE_S = 10.0  # a longer wait is the outbox's


@dataclass(frozen=True)
class Answer:
    """What a server said. `body` is what its JSON holds, {} where it is none or no object."""

    status: int
    body: Mapping[str, Any]
    wait_s: float | None  # that the server asks for

    @property
    def passing(self) -> bool:
        """Whether the same request may be taken a little later."""
        return self.status == 429 or self.status >= 500 or self.body.get("error") == "ratelimited"


@dataclass(frozen=True)
class Post:
    """Requests that are repeated after 1 s, 2 s, … while the trouble may pass. `who` is how errors name the server."""

    who: str
    attempts: int = 3
    timeout_s: float = 10.0
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, url: SecretStr, made: Callable[[], Mapping[str, Any]]) -> Answer:
        """POST what `made` gives to `requests.post`, made anew for each attempt.

        The answer is a 2xx. Raises DeliveryError.
        """
        trouble = ""
        for attempt in range(self.attempts):
            answer, pause = self._once(url, made()), 2.0**attempt
            if isinstance(answer, requests.RequestException | ValueError):
                trouble = f"could not be reached ({type(answer).__name__})"  # its text holds the address
                if isinstance(answer, requests.ReadTimeout):
                    break  # it may have been taken; so soon again would be twice
            else:
                if answer.status < 300 and not answer.passing:
                    return answer
                limited = answer.body.get("error") == "ratelimited"
                trouble = "asks to be called less often" if limited else f"answered {answer.status}"
                if not answer.passing:
                    break
                pause = max(pause, answer.wait_s or 0)
            if pause > MOST_PATIENCE_S:
                trouble += f", for {pause:.0f} s"
                break
            if attempt + 1 < self.attempts:
                self.sleep(pause)
        raise DeliveryError(f"{self.who} {trouble}")

    def _once(self, url: SecretStr, made: Mapping[str, Any]) -> Answer | requests.RequestException | ValueError:
        """The answer, or the trouble that came instead."""
        given = (CONNECT_S, self.timeout_s)
        try:
            got = requests.post(url.get_secret_value(), timeout=given, allow_redirects=False, **made)
        except (requests.RequestException, ValueError) as error:
            return error
        try:
            body = got.json()
        except ValueError:
            body = None
        asked = got.headers.get("retry-after", "")
        return Answer(
            got.status_code, body if isinstance(body, dict) else {}, int(asked) if asked.isdecimal() else None
        )


def http_url(url: SecretStr, what: str) -> SecretStr:
    """The same URL. Raises ValueError without a word of it when it is none."""
    if not url.get_secret_value().startswith(("https://", "http://")):
        raise ValueError(f"{what} is https://…")
    return url
