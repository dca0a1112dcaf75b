"""What people and their agents are told of a budget: a refusal that says what to do, and headers on every answer.

What each agent shows of it is in docs/budgets-in-agents.md, as it was measured.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from governance.events import Route
from governance.gate import Limit
from proxy_service.gate import Standing, Verdict
from proxy_service.refusals import Refusal

Headers = tuple[tuple[bytes, bytes], ...]

KIND: Final = "budget_exceeded"
WARNS_FROM: Final = 0.8  # of a limit
_LONGEST_WAIT_S: Final = 3600  # a raise may come any minute: nobody should sleep through it
_CENT: Final = Decimal("0.01")
_RAISED: Final = frozenset({"company", "team", "person"})
_PERIODS: Final = {"day": "daily", "week": "weekly", "month": "monthly"}
_MINUTES: Final = {"day": 1_440, "week": 10_080, "month": 43_200}  # by these Codex calls a limit daily, weekly, monthly


def refusal(verdict: Verdict, now: datetime, route: Route) -> Refusal:
    """The answer to a request that a budget refuses. The longest of several is explained, the others are named."""
    first, *others = verdict.refused_by
    limit = first.limit
    spent = f": {_usd(first.spent_usd)} of {_usd(limit.limit_usd)} USD spent in {_in_words(limit.period)}"
    said = [f"{_upper(entity(limit))} is used up{'' if limit.hidden else spent}."]
    if others:
        said.append(f"So is {' and '.join(entity(each.limit) for each in others)}.")
    resets_at = limit.ends_at.astimezone(UTC)
    said.append(f"It resets on {resets_at:%-d %B %Y at %H:%M} UTC.")
    said.append(_advice(limit))
    text = " ".join(said)
    wait_s = min(max(1, int((limit.ends_at - now).total_seconds()) + 1), _LONGEST_WAIT_S)
    headers: Headers = ((b"retry-after", str(wait_s).encode()), (b"x-should-retry", b"false"))
    headers = headers if limit.hidden else (*headers, *_figures(first))
    if route == "responses":  # of a refusal Codex shows this header, and nothing else
        headers = (*headers, (b"x-codex-promo-message", _ascii(text.removesuffix(".")).encode()))
    return Refusal(429, KIND, text, headers, resets_at=int(limit.ends_at.timestamp()))


def _advice(limit: Limit) -> str:
    """A raise may be asked for where the budget is somebody's; of a model's or a project's people decide otherwise."""
    if limit.scope not in _RAISED:
        return f"To go on before, ask {limit.ask or 'whoever runs Tally'}."
    how = "`/tally raise <dollars> <reason>` in Slack or `tally raise <dollars> <reason>`"
    return f"To go on before, ask for more: {how}" + (f"; {limit.ask} decides." if limit.ask else ".")


def headers(verdict: Verdict, route: Route) -> Headers:
    """Of an answer: how much is left of the limit of which most is used, and from 80 percent on what Codex shows."""
    if verdict.tightest is None:
        return ()
    told = _figures(verdict.tightest)
    near = verdict.blocking
    if route != "responses" or near is None or near.used < WARNS_FROM:
        return told
    used = min(int(1000 * near.used) / 10, 100.0)
    return (
        *told,
        (b"x-codex-primary-used-percent", str(used).encode()),
        (b"x-codex-primary-window-minutes", str(_MINUTES[_kind(near.limit)]).encode()),
        (b"x-codex-primary-reset-at", str(int(near.limit.ends_at.timestamp())).encode()),
    )


def _figures(standing: Standing) -> Headers:
    limit = standing.limit
    budget, amount, resets_at = _named(limit.budget, limit.limit_usd, limit.ends_at)
    left = (b"x-tally-budget-remaining-usd", _usd(standing.remaining_usd, ROUND_DOWN).encode())
    return budget, amount, left, resets_at


@lru_cache(maxsize=4096)
def _named(budget: str, limit_usd: Decimal, ends_at: datetime) -> Headers:
    """The headers that stay the same through the period."""
    return (
        (b"x-tally-budget", quote(budget, safe="@=.+ ").encode()),
        (b"x-tally-budget-limit-usd", _usd(limit_usd).encode()),
        (b"x-tally-budget-resets-at", f"{ends_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}".encode()),
    )


def entity(limit: Limit) -> str:
    """Whose budget it is, in words: team Search's monthly budget."""
    period, name = _PERIODS[_kind(limit)], limit.name
    if limit.scope == "company":
        return f"the company's {period} budget"
    if limit.scope == "key":
        return f"this key's {period} budget"
    if limit.scope == "person":
        return f"{name}'s {period} budget"
    if limit.scope == "team":
        return f"team {name}'s {period} budget"
    if limit.scope == "tag":
        return f"the {period} budget for {name}"
    return f"the {period} budget for the {limit.scope} {name}"


def _kind(limit: Limit) -> str:
    return limit.budget.rpartition("-")[2]


def _in_words(period: str) -> str:
    """2026-11-24, 2026-W48 and 2026-11 as people say them."""
    year, _, rest = period.partition("-")
    if rest.startswith("W"):
        return f"week {int(rest[1:])} of {year}"
    if "-" in rest:
        return f"{date.fromisoformat(period):the day of %-d %B %Y}"
    return f"{date.fromisoformat(period + '-01'):%B %Y}"


def _upper(text: str) -> str:
    return text if "@" in text.partition("'")[0] else text[0].upper() + text[1:]


def _usd(amount: Decimal, rounding: str = ROUND_HALF_EVEN) -> str:
    return str(amount.quantize(_CENT, rounding))


def _ascii(text: str) -> str:
    """As a header can bear it, and Codex reads it: accents go, other letters become question marks."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[^\x20-\x7e]", "?", plain)
