"""Everything a page asks of the warehouse and the policy. Summing is the warehouse's work; rows arrive ready to draw.

What belongs to everybody is cached once for all viewers, by statement and parameters. What belongs to one person takes
that person's address as an argument, and is cached in that person's session only.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import streamlit as st

from governance.policy import Budget, PolicyError, read_policy
from governance.warehouse import Warehouse, WarehouseError, open_warehouse
from streamlit_app import identity

log = logging.getLogger("tally.dashboard")

Row = dict[str, Any]

TTL = timedelta(seconds=20)
REACH_DAYS = 190  # the longest period, the one before it, and a few days to see that data began before both

_MEASURES = """
  SUM(requests) AS requests, SUM(errors) AS errors, SUM(cost_usd) AS cost_usd, SUM(input_tokens) AS input_tokens,
  SUM(cache_read_tokens) AS cache_read_tokens, SUM(cache_write_tokens) AS cache_write_tokens,
  SUM(output_tokens) AS output_tokens"""
_FROM_GROUP = """
FROM tally.group_daily_cost
WHERE day BETWEEN @first_day AND @last_day AND (@shown_as = '' OR shown_as = @shown_as)"""

FRESHNESS = """
SELECT newest_event_at, newest_received_at, requests, duplicates, counted_share, fallback_share, shelved
FROM tally.data_freshness"""
GROUPS = "SELECT team, shown_as, people FROM tally.team_groups"
MODELS = """
SELECT model, SUM(cost_usd) AS cost_usd, MIN(day) AS first_day
FROM tally.group_daily_cost WHERE day BETWEEN @first_day AND @last_day GROUP BY model"""
DAILY = f"SELECT day, {_MEASURES} {_FROM_GROUP} GROUP BY day"
DAILY_BY_MODEL = f"SELECT day, model, SUM(cost_usd) AS cost_usd {_FROM_GROUP} GROUP BY day, model"
DAILY_BY_TOOL = f"SELECT day, tool, {_MEASURES} {_FROM_GROUP} GROUP BY day, tool"
DAILY_BY_GROUP = """
SELECT day, shown_as, SUM(cost_usd) AS cost_usd FROM tally.group_daily_cost
WHERE day BETWEEN @first_day AND @last_day GROUP BY day, shown_as"""
WEEKS = """
SELECT week, active_people, roster_people, complete
FROM tally.weekly_active WHERE week BETWEEN @first_day AND @last_day"""
MY_DAILY = """
SELECT day, tool, provider, model, key_id, requests, errors, counted_requests, input_tokens, cache_read_tokens,
  cache_write_tokens, output_tokens, reasoning_tokens, cost_usd, list_cost_usd
FROM tally.person_daily WHERE person = @person AND day BETWEEN @first_day AND @last_day"""
MY_REQUESTS = """
SELECT occurred_at, tool, tool_version, model, session_id, key_id, status, usage_source, price_source, input_tokens,
  cache_read_tokens, cache_write_5m_tokens + cache_write_1h_tokens AS cache_write_tokens, output_tokens, cost_usd,
  latency_ms
FROM tally.person_requests WHERE person = @person AND day BETWEEN @first_day AND @last_day
ORDER BY occurred_at DESC LIMIT @most"""


class _Outage:
    """Since when the warehouse has not answered; shared by all sessions of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: datetime | None = None

    def note(self, failed: bool) -> None:
        with self._lock:
            if not failed:
                self._since = None
            elif self._since is None:
                self._since = datetime.now(UTC)

    @property
    def since(self) -> datetime | None:
        return self._since


@st.cache_resource(show_spinner=False)
def outage() -> _Outage:
    """The warehouse's outage, if it has one."""
    return _Outage()


@st.cache_resource(show_spinner=False)
def warehouse() -> Warehouse:
    """The one connection of this process."""
    return open_warehouse(identity.settings().warehouse)


def _ask(sql: str, params: Mapping[str, Any]) -> list[Row]:
    try:
        rows = warehouse().query(sql, params)
    except WarehouseError as error:
        if outage().since is None:
            log.error("the warehouse does not answer", extra={"reason": str(error)})
        outage().note(failed=True)
        raise
    outage().note(failed=False)
    return [{name: _exact(value) if name.endswith("_usd") else value for name, value in row.items()} for row in rows]


def _exact(amount: Any) -> Decimal:
    """Money as Decimal, whatever the warehouse calls its sum; nothing spent is nothing."""
    return amount if isinstance(amount, Decimal) else Decimal(str(amount or 0))


@st.cache_data(ttl=TTL, max_entries=300, show_spinner=False, refresh_mode="background")  # nobody waits for a refresh
def _shared(sql: str, params: dict[str, Any]) -> list[Row]:
    return _ask(sql, params)


@st.cache_data(ttl=TTL, max_entries=20, show_spinner=False, scope="session")
def _personal(email: str, sql: str, params: dict[str, Any]) -> list[Row]:
    return _ask(sql, {"person": email, **params})


def forget() -> None:
    """Ask anew: what Retry does."""
    _shared.clear()
    _personal.clear()


def freshness() -> Row:
    """The one row of data_freshness; `requests` is 0 in an empty warehouse."""
    rows = _shared(FRESHNESS, {})
    return rows[0]


def groups() -> list[Row]:
    """team, shown_as, people (of the group): small teams are folded into one group before they reach a page."""
    return _shared(GROUPS, {})


def models(today: date) -> tuple[list[str], date | None]:
    """(models of the whole company, dearest first: a model keeps its colour under any filter; first day with data)."""
    rows = _shared(MODELS, {"first_day": today - timedelta(days=REACH_DAYS), "last_day": today})
    ranked = sorted(rows, key=lambda row: (-row["cost_usd"], row["model"] or ""))
    return [row["model"] for row in ranked if row["model"]], min((row["first_day"] for row in rows), default=None)


def daily(shown_as: str, first_day: date, last_day: date) -> list[Row]:
    """A row per day with its measures; `shown_as` '' is the whole company."""
    return _shared(DAILY, {"shown_as": shown_as, "first_day": first_day, "last_day": last_day})


def daily_by_model(shown_as: str, first_day: date, last_day: date) -> list[Row]:
    """day, model, cost_usd"""
    return _shared(DAILY_BY_MODEL, {"shown_as": shown_as, "first_day": first_day, "last_day": last_day})


def daily_by_tool(shown_as: str, first_day: date, last_day: date) -> list[Row]:
    """A row per day and tool with its measures."""
    return _shared(DAILY_BY_TOOL, {"shown_as": shown_as, "first_day": first_day, "last_day": last_day})


def daily_by_group(first_day: date, last_day: date) -> list[Row]:
    """day, shown_as, cost_usd"""
    return _shared(DAILY_BY_GROUP, {"first_day": first_day, "last_day": last_day})


def weeks(today: date, number: int) -> list[Row]:
    """The last weeks, oldest first: week (Monday), active_people and roster_people (None under five), complete."""
    rows = _shared(WEEKS, {"first_day": today - timedelta(weeks=number), "last_day": today})
    return sorted(rows, key=lambda row: row["week"])


def my_daily(email: str, first_day: date, last_day: date) -> list[Row]:
    """One person's days, for that person: a row for each day, tool, provider, model and key."""
    rows = _personal(email, MY_DAILY, {"first_day": first_day, "last_day": last_day})
    return sorted(rows, key=lambda row: (row["day"], row["tool"], row["model"] or ""))


def my_requests_of(email: str, day: date, most: int) -> list[Row]:
    """One person's newest requests of one day, for that person; not cached, for the page asks every two seconds."""
    return _ask(MY_REQUESTS, {"person": email, "first_day": day, "last_day": day, "most": most})


def my_requests_before(email: str, day: date, days: int, most: int) -> list[Row]:
    """The same of the days before, which are over."""
    first_day, last_day = day - timedelta(days=days), day - timedelta(days=1)
    return _personal(email, MY_REQUESTS, {"first_day": first_day, "last_day": last_day, "most": most})


@dataclass(frozen=True)
class Budgets:
    """Monthly budgets as pages show them; `fault` says why there are none when the policy cannot be read."""

    company_usd: Decimal | None
    by_group: Mapping[str, Decimal]
    fault: str | None = None

    def of(self, shown_as: str) -> Decimal | None:
        """The budget of a group, or of the company for ''."""
        return self.by_group.get(shown_as) if shown_as else self.company_usd


@st.cache_data(ttl=TTL, show_spinner=False)
def _policy_budgets() -> tuple[tuple[Budget, ...], str | None]:
    try:
        return read_policy(identity.settings().policy_dir).budgets, None
    except PolicyError as error:
        return (), str(error)


def budgets(grouped: list[Row]) -> Budgets:
    """Budgets by group. A group has one only when each of its teams has: else its spending would not be comparable."""
    listed, fault = _policy_budgets()
    return fold_budgets(listed, grouped, fault)


def fold_budgets(listed: tuple[Budget, ...], grouped: list[Row], fault: str | None = None) -> Budgets:
    """The policy's budgets summed over the groups that pages show."""
    by_team = {budget.name: budget.amount_usd for budget in listed if budget.scope == "team"}
    teams: dict[str, list[str]] = {}
    for row in grouped:
        teams.setdefault(row["shown_as"], []).append(row["team"])
    by_group = {
        shown_as: sum((by_team[team] for team in members), Decimal(0))
        for shown_as, members in teams.items()
        if all(team in by_team for team in members)
    }
    whole = next((budget.amount_usd for budget in listed if budget.scope == "company"), None)
    if whole is None and teams and len(by_group) == len(teams):
        whole = sum(by_group.values(), Decimal(0))
    return Budgets(whole, by_group, fault)
