"""Pager: every page of a provider's report, however often the provider asks to wait.

The admin key stands in a header of the request and nowhere else: no error and no log line carries it, nor any of what
the provider answered.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NoReturn

import requests

from .line import Answer, Malformed

MAX_PAGES = 400  # a year of days, one to a page
MAX_WAIT_S = 60.0  # the longest that one answer may make us wait
FIRST_WAIT_S = 1.0
_TIMEOUT_S = (5.0, 30.0)  # connect, read
Params = Sequence[tuple[str, str]]
log = logging.getLogger(__name__)


class Unavailable(Exception):
    """The provider did not answer in time. It may later."""


class Refused(Exception):
    """The provider will not answer this, however often it is asked: a wrong key, or a request it does not know."""


class Api:
    """The admin API of one provider.

    `clock` gives seconds that only grow; `sleep` waits. All questions together end before the clock shows `deadline_s`.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        deadline_s: float,
    ) -> None:
        self._base_url, self._headers = base_url.rstrip("/"), dict(headers)
        self._clock, self._sleep, self._deadline_s = clock, sleep, deadline_s

    def buckets(self, path: str, params: Params) -> Iterator[Answer]:
        """The buckets of every page, in the provider's order. Raises Unavailable, Refused and Malformed."""
        page: str | None = None
        for _ in range(MAX_PAGES):
            answer = self._get(path, [*params, *([("page", page)] if page else [])])
            data = answer.get("data")
            if not isinstance(data, list) or not all(isinstance(bucket, dict) for bucket in data):
                raise Malformed(f"{path}: data is not a list of objects")
            yield from data
            if not answer.get("has_more"):
                return
            following = answer.get("next_page")
            if not isinstance(following, str) or not following or following == page:
                raise Malformed(f"{path}: more is promised, and no page named")
            page = following
        raise Malformed(f"{path}: no end after {MAX_PAGES} pages")

    def _get(self, path: str, params: Params) -> dict[str, Any]:
        attempt = 0
        while True:
            wait_s, why = min(FIRST_WAIT_S * 2**attempt, MAX_WAIT_S), ""
            try:
                answer = requests.get(
                    self._base_url + path,
                    params=list(params),
                    headers=self._headers,
                    timeout=_TIMEOUT_S,
                    allow_redirects=False,  # a key goes to the host that it was given for
                )
            except requests.RequestException as error:
                why = type(error).__name__
            else:
                if answer.status_code == 200:
                    return _object(path, answer.text)
                if answer.status_code != 429 and answer.status_code < 500:
                    raise Refused(f"{path}: answered {answer.status_code}")
                why = f"answered {answer.status_code}"
                wait_s = max(wait_s, _retry_after_s(answer.headers.get("retry-after", "")))
            if wait_s > MAX_WAIT_S or self._clock() + wait_s > self._deadline_s:
                raise Unavailable(f"{path}: {why}")
            log.info("a report is asked for again", extra={"path": path, "reason": why, "wait_s": wait_s})
            self._sleep(wait_s)
            attempt += 1


def _retry_after_s(told: str) -> float:
    return float(told) if re.fullmatch(r"\d{1,6}(\.\d{1,3})?", told.strip()) else 0.0


def _not_a_number(_: str) -> NoReturn:
    raise ValueError


def _object(path: str, body: str) -> dict[str, Any]:
    """Numbers with a point are Decimal: not one digit of a dollar is lost."""
    try:
        answer = json.loads(body, parse_float=Decimal, parse_constant=_not_a_number)
    except ValueError:
        raise Malformed(f"{path}: not JSON") from None
    if not isinstance(answer, dict):
        raise Malformed(f"{path}: not an object")
    return answer
