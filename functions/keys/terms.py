"""The words people ask with: names, expiries, dollars and rates, each read once and refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
KEY_ID = re.compile(r"[0-9a-f]{12}")
_DAYS = re.compile(r"([0-9]{1,4})d")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DOLLARS = re.compile(r"\$?([0-9]{1,9}(?:\.[0-9]{1,2})?)")
_PATTERN = re.compile(r"[A-Za-z0-9*?\[\]!._:/-]{1,100}")
_TAG = re.compile(r"[\w.:/-]{1,64}")
PERIODS = ("day", "week", "month")


class Refused(Exception):
    """What cannot be done, in words for whom it concerns; `status` is how HTTP says it."""

    def __init__(self, words: str, status: int = 400) -> None:
        super().__init__(words)
        self.words, self.status = words, status


def is_expiry(word: str) -> bool:
    """Whether this can only be meant as an expiry: `30d` or `2026-12-31`."""
    return bool(_DAYS.fullmatch(word) or _DAY.fullmatch(word))


def key_name(word: str) -> str:
    """A key's name. Raises Refused."""
    if not NAME.fullmatch(word) or KEY_ID.fullmatch(word) or is_expiry(word):
        raise Refused("A key's name is one word of letters, digits, `.`, `_` or `-`, for example `issue laptop`.")
    return word


def expiry(word: str | None, now: datetime, usual_days: int, longest_days: int, zone: ZoneInfo) -> datetime:
    """When a key ends that is made `now` (UTC): as wished, or after the usual days. Raises Refused past the ceiling.

    A day is meant to its end, in the company's time zone.
    """
    if word is None:
        return now + timedelta(days=min(usual_days, longest_days))
    days, today = _DAYS.fullmatch(word), now.astimezone(zone).date()
    if days:
        ends, left = now + timedelta(days=int(days[1])), int(days[1])
    else:
        last = _day(word)
        ends = datetime.combine(last + timedelta(days=1), time(), zone).astimezone(UTC)
        left = (last - today).days
    if ends <= now:
        raise Refused("That is over already. An expiry is like `30d`, or a day to come like `2027-01-31`.")
    if left > longest_days:
        raise Refused(
            f"A key may live {longest_days} days at most, until {today + timedelta(days=longest_days)}; "
            "`rotate` gives you a new one in time."
        )
    return ends


def _day(word: str) -> date:
    try:
        found = date.fromisoformat(word) if _DAY.fullmatch(word) else None
    except ValueError:
        found = None
    if found is None or found.year > 9000:
        raise Refused("An expiry is a number of days like `30d`, or a day like `2027-01-31`.")
    return found


def dollars(word: str) -> Decimal:
    """An amount above zero, in US dollars. Raises Refused."""
    found = _DOLLARS.fullmatch(word.strip())
    if not found or not Decimal(found[1]):
        raise Refused("How many dollars? For example `raise 20 because of the release`.")
    return Decimal(found[1])


def per_minute(word: str, what: str) -> int:
    """A limit of requests or tokens per minute. Raises Refused."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", word):
        raise Refused(f"`{what}` is a whole number above zero, per minute.")
    return int(word)


def patterns(word: str) -> tuple[str, ...]:
    """Model patterns with commas between: `claude-*,gpt-5-mini`. Raises Refused."""
    found = tuple(part for part in word.split(",") if part)
    if not found or len(found) > 50 or not all(_PATTERN.fullmatch(part) for part in found):
        raise Refused("`models` are names or patterns with commas between, for example `claude-*,gpt-5-mini`.")
    return found


def tag(name: str, word: str) -> str:
    """A tag as keys bear it: `project=apollo`. Raises Refused."""
    if not _TAG.fullmatch(word):
        raise Refused(f"`{name}` is one word of letters, digits, `.`, `_`, `:`, `/` or `-`.")
    return f"{name}={word}"


def budget(word: str) -> tuple[Decimal, str]:
    """(amount, period) of `50/month`. Raises Refused."""
    amount, slash, period = word.partition("/")
    if not slash or period not in PERIODS:
        raise Refused("`budget` is dollars and a period: `50/month`, `20/week` or `5/day`.")
    return dollars(amount), period


def only(given: Mapping[str, str], *allowed: str, needs: tuple[str, ...] = ()) -> None:
    """Refuse an argument that is not allowed, and the absence of one that is needed. Raises Refused."""
    unknown = sorted(set(given) - set(allowed) - set(needs))
    if unknown:
        known = ", ".join(f"`{name}`" for name in (*needs, *allowed))
        raise Refused(f"There is no such argument; known: {known or 'none'}.")
    missing = [name for name in needs if not given.get(name)]
    if missing:
        raise Refused(f"`{missing[0]}` is missing.")
