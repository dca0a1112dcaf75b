"""Everything a page asks of the warehouse and the policy. Summing is the warehouse's work; rows arrive ready to draw.

Days that are over come from the rollup and are kept for minutes. Today is not over: it is read from the events, once
for all cards of a page, at the finest grain that any of them needs, and added to what each of them asks.

What belongs to everybody is cached once for all viewers, by statement and parameters. What belongs to one person takes
that person's address as an argument, and is cached in that person's session only.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import streamlit as st

from governance import exports
from governance.policy import Budget, PolicyError, read_policy
from governance.warehouse import Warehouse, WarehouseError, open_warehouse
from streamlit_app import identity

log = logging.getLogger("tally.dashboard")

Row = dict[str, Any]

TTL = timedelta(seconds=20)
OVER_TTL = timedelta(minutes=5)  # days that are over change by late events and corrected prices alone
REACH_DAYS = 190  # the longest period, the one before it, and a few days to see that data began before both

MEASURES = (
    "requests", "errors", "cost_usd", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
)  # fmt: skip
QUALITY = (
    "requests", "calls", "used_calls", "counted_requests", "copies", "list_cost_usd", "fallback_cost_usd",
)  # fmt: skip
NEWEST = ("newest_event_at", "newest_received_at")

_MEASURES = ", ".join(f"SUM({name}) AS {name}" for name in MEASURES)
_QUALITY = ", ".join(f"SUM({name}) AS {name}" for name in QUALITY)
_NEWEST = "MAX(last_at) AS newest_event_at, MAX(newest_received_at) AS newest_received_at"
_FROM_ALL = "FROM tally.group_daily_cost"
_FROM_GROUP = f"""
{_FROM_ALL}
WHERE day BETWEEN @first_day AND @last_day AND (@shown_as = '' OR shown_as = @shown_as)"""

FRESHNESS = f"SELECT {_NEWEST}, {_QUALITY} {_FROM_ALL} WHERE day <= @last_day"
SHELVED = "SELECT COUNT(DISTINCT message_id) + COUNTIF(message_id IS NULL) AS shelved FROM tally.shelved"
GROUPS = "SELECT team, shown_as, people FROM tally.team_groups"
TODAY = f"""
SELECT day, shown_as, tool, model, {_NEWEST}, {_MEASURES}, {_QUALITY.partition(", ")[2]}
{_FROM_ALL} WHERE day = @today GROUP BY day, shown_as, tool, model"""
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
SELECT day, tool, provider, model, key_id, billing_mode, requests, errors, counted_requests, input_tokens,
  cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_usd, list_cost_usd
FROM tally.person_daily WHERE person = @person AND day BETWEEN @first_day AND @last_day"""
MY_REQUESTS = """
SELECT occurred_at, tool, tool_version, model, session_id, key_id, status, usage_source, price_source, input_tokens,
  cache_read_tokens, cache_write_5m_tokens + cache_write_1h_tokens AS cache_write_tokens, output_tokens, cost_usd,
  list_cost_usd, billing_mode, superseded, latency_ms
FROM tally.person_requests WHERE person = @person AND day BETWEEN @first_day AND @last_day
ORDER BY occurred_at DESC LIMIT @most"""

MY_SEATS = """
SELECT month, provider, plan, fee_usd, days, active_days, list_cost_usd, saved_usd
FROM tally.seat_months WHERE person = @person AND month BETWEEN @first_day AND @last_day"""

CHECKS = "SELECT place, name, rule, value, unit, status, looked_at FROM tally.data_checks"
LAG = "SELECT day, events, late_events, lag_p50_s, lag_p95_s FROM tally.data_lag"
SHELVED_BY_REASON = """
SELECT reason, SUM(messages) AS messages, MAX(last_at) AS last_at FROM tally.data_shelved
WHERE day >= @first_day GROUP BY reason"""
UNATTRIBUTED = (
    "SELECT reason, tool, SUM(calls) AS calls, MAX(day) AS last_day FROM tally.data_unattributed GROUP BY reason, tool"
)
UNPRICED = "SELECT provider, model, price_source, first_day, last_day, calls, list_cost_usd FROM tally.unpriced_models"
DELIVERIES = """
SELECT channel, sent, failed, unreachable, failed_24h, last_sent_at, last_failed_at, last_reason, failing
FROM tally.data_deliveries"""
BY_ROUTE = """
SELECT provider, model, route, calls, compared_calls, counted_share, ours_usd, gateway_usd, difference_usd
FROM tally.data_by_route"""
BILLED = """
SELECT provider, MIN(day) AS first_day, MAX(day) AS last_day, SUM(theirs_usd) AS theirs_usd, SUM(ours_usd) AS ours_usd,
  SUM(gap_usd) AS gap_usd, SUM(bypass_usd) AS bypass_usd, SUM(price_usd) AS price_usd,
  SUM(unpriced_usd) AS unpriced_usd, SUM(cache_usd) AS cache_usd, SUM(counted_usd) AS counted_usd,
  SUM(timing_usd) AS timing_usd
FROM tally.reconciliation WHERE day BETWEEN @first_day AND @last_day GROUP BY provider"""
REVISED = """
SELECT provider, day, first_usd, now_usd, revised_usd FROM tally.bill_revisions
WHERE day BETWEEN @first_day AND @last_day"""

CHARGEBACK = """
SELECT month, cost_centre, provider, entry, requests, prompt_tokens, output_tokens, cost_usd, list_cost_usd
FROM tally.group_chargeback"""


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


@st.cache_data(ttl=OVER_TTL, max_entries=300, show_spinner=False, refresh_mode="background")
def _over(sql: str, params: dict[str, Any]) -> list[Row]:
    return _ask(sql, params)


@st.cache_data(ttl=TTL, max_entries=20, show_spinner=False, scope="session")
def _personal(email: str, sql: str, params: dict[str, Any]) -> list[Row]:
    return _ask(sql, {"person": email, **params})


@st.cache_data(ttl=OVER_TTL, max_entries=20, show_spinner=False, scope="session")
def _personal_over(email: str, sql: str, params: dict[str, Any]) -> list[Row]:
    return _ask(sql, {"person": email, **params})


def forget() -> None:
    """Ask anew: what Retry does."""
    for kept in (_shared, _over, _personal, _personal_over):
        kept.clear()


def _yesterday(today: date) -> date:
    return today - timedelta(days=1)


def _today(today: date) -> list[Row]:
    return _shared(TODAY, {"today": today})


def _daily(
    sql: str, keys: Sequence[str], measures: Sequence[str], first_day: date, last_day: date, shown_as: str | None = None
) -> list[Row]:
    """The days before `last_day` as the statement says, and `last_day`, which is today, folded to the same columns."""
    which = {} if shown_as is None else {"shown_as": shown_as}
    over = _over(sql, {**which, "first_day": first_day, "last_day": _yesterday(last_day)})
    live = [row for row in _today(last_day) if not shown_as or row["shown_as"] == shown_as]
    return [*over, *fold(live, ("day", *keys), measures)]


def fold(rows: Iterable[Row], keys: Sequence[str], measures: Sequence[str]) -> list[Row]:
    """Rows summed by `keys`: what GROUP BY does."""
    folded: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        into = folded.setdefault(key, dict(zip(keys, key, strict=True)) | dict.fromkeys(measures, 0))
        for name in measures:
            into[name] += row[name] or 0
    return list(folded.values())


def freshness(today: date) -> Row:
    """How fresh and how sure everything is, as data_freshness has it; `requests` is 0 in an empty warehouse."""
    parts = [*_over(FRESHNESS, {"last_day": _yesterday(today)}), *_today(today)]
    known = (fold(parts, (), QUALITY) or [dict.fromkeys(QUALITY, 0)])[0]
    newest = {name: max((row[name] for row in parts if row[name]), default=None) for name in NEWEST}
    used, listed = known["used_calls"], known["list_cost_usd"]
    return {
        **newest,
        "requests": known["requests"],
        "duplicates": known["copies"] - known["calls"],
        "counted_share": known["counted_requests"] / used if used else None,
        "fallback_share": float(known["fallback_cost_usd"] / listed) if listed else None,
        "shelved": _shared(SHELVED, {})[0]["shelved"],
    }


def groups() -> list[Row]:
    """team, shown_as, people (of the group): small teams are folded into one group before they reach a page."""
    return _shared(GROUPS, {})


def models(today: date) -> tuple[list[str], date | None]:
    """(models of the whole company, dearest first: a model keeps its colour under any filter; first day with data)."""
    over = _over(MODELS, {"first_day": today - timedelta(days=REACH_DAYS), "last_day": _yesterday(today)})
    live = [row | {"first_day": row["day"]} for row in _today(today)]
    ranked = sorted(
        fold([*over, *live], ["model"], ["cost_usd"]), key=lambda row: (-row["cost_usd"], row["model"] or "")
    )
    first_day = min((row["first_day"] for row in [*over, *live]), default=None)
    return [row["model"] for row in ranked if row["model"]], first_day


def daily(shown_as: str, first_day: date, last_day: date) -> list[Row]:
    """A row per day with its measures; `shown_as` '' is the whole company. `last_day`, here and below, is today."""
    return _daily(DAILY, (), MEASURES, first_day, last_day, shown_as)


def daily_by_model(shown_as: str, first_day: date, last_day: date) -> list[Row]:
    """day, model, cost_usd"""
    return _daily(DAILY_BY_MODEL, ["model"], ["cost_usd"], first_day, last_day, shown_as)


def daily_by_tool(shown_as: str, first_day: date, last_day: date) -> list[Row]:
    """A row per day and tool with its measures."""
    return _daily(DAILY_BY_TOOL, ["tool"], MEASURES, first_day, last_day, shown_as)


def daily_by_group(first_day: date, last_day: date) -> list[Row]:
    """day, shown_as, cost_usd"""
    return _daily(DAILY_BY_GROUP, ["shown_as"], ["cost_usd"], first_day, last_day)


def weeks(today: date, number: int) -> list[Row]:
    """The last weeks, oldest first: week (Monday), active_people and roster_people (None under five), complete."""
    rows = _over(WEEKS, {"first_day": today - timedelta(weeks=number), "last_day": today})
    return sorted(rows, key=lambda row: row["week"])


def my_daily(email: str, first_day: date, last_day: date) -> list[Row]:
    """One person's days up to today, for that person: a row for each day, tool, provider, model, key, billing mode."""
    over = _personal_over(email, MY_DAILY, {"first_day": first_day, "last_day": _yesterday(last_day)})
    rows = [*over, *_personal(email, MY_DAILY, {"first_day": last_day, "last_day": last_day})]
    return sorted(rows, key=lambda row: (row["day"], row["tool"], row["model"] or ""))


def my_requests_of(email: str, day: date, most: int) -> list[Row]:
    """One person's newest requests of one day, for that person; not cached, for the page asks every two seconds."""
    return _ask(MY_REQUESTS, {"person": email, "first_day": day, "last_day": day, "most": most})


def my_requests_before(email: str, day: date, days: int, most: int) -> list[Row]:
    """The same of the days before, which are over."""
    first_day, last_day = day - timedelta(days=days), _yesterday(day)
    return _personal_over(email, MY_REQUESTS, {"first_day": first_day, "last_day": last_day, "most": most})


def my_seats(email: str, first_day: date, last_day: date) -> list[Row]:
    """One person's seats by month, newest first, for that person: fee_usd against list_cost_usd of their use."""
    rows = _personal_over(email, MY_SEATS, {"first_day": first_day, "last_day": last_day})
    return sorted(rows, key=lambda row: (row["month"], row["fee_usd"]), reverse=True)


def checks() -> list[Row]:
    """Every check with its rule and its last result, in order: name, rule, value, unit, status, looked_at."""
    return sorted(_shared(CHECKS, {}), key=lambda row: int(row["place"]))


def lag() -> list[Row]:
    """How long storing took on the last days, oldest first: lag_p50_s, lag_p95_s."""
    return sorted(_shared(LAG, {}), key=lambda row: row["day"])


def shelved(first_day: date) -> list[Row]:
    """Unreadable messages by reason, the most frequent first."""
    return sorted(_shared(SHELVED_BY_REASON, {"first_day": first_day}), key=lambda row: -row["messages"])


def unattributed() -> list[Row]:
    """Calls of nobody by reason and tool, the most frequent first."""
    return sorted(_shared(UNATTRIBUTED, {}), key=lambda row: -row["calls"])


def unpriced() -> list[Row]:
    """Models that the price book lacks, the dearest first."""
    return sorted(_shared(UNPRICED, {}), key=lambda row: -row["list_cost_usd"])


def deliveries() -> list[Row]:
    """Whether messages get out, by channel, those that fail first."""
    return sorted(_shared(DELIVERIES, {}), key=lambda row: (not row["failing"], row["channel"]))


def by_route() -> list[Row]:
    """Ours against the gateway's figure by provider, model and route, the dearest first."""
    return sorted(_shared(BY_ROUTE, {}), key=lambda row: -row["ours_usd"])


def billed(first_day: date, last_day: date) -> list[Row]:
    """Ours against the provider's bill and the causes of the gap, by provider, the dearest first."""
    rows = _over(BILLED, {"first_day": first_day, "last_day": last_day})
    return sorted(rows, key=lambda row: -row["theirs_usd"])


def revised(first_day: date, last_day: date) -> list[Row]:
    """Days whose bill a provider has changed after the fact, the newest first."""
    rows = _over(REVISED, {"first_day": first_day, "last_day": last_day})
    return sorted(rows, key=lambda row: row["day"], reverse=True)


def chargeback() -> list[Row]:
    """What every month is reported with, by cost centre, provider and entry."""
    return _shared(CHARGEBACK, {})


def focus(month: date) -> list[Row]:
    """Rows of focus_charges of one month."""
    return _over(exports.FOCUS_SQL, {"month": month})


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
    monthly = [budget for budget in listed if budget.period == "month"]
    by_team = {budget.name: budget.amount_usd for budget in monthly if budget.scope == "team"}
    teams: dict[str, list[str]] = {}
    for row in grouped:
        teams.setdefault(row["shown_as"], []).append(row["team"])
    by_group = {
        shown_as: sum((by_team[team] for team in members), Decimal(0))
        for shown_as, members in teams.items()
        if all(team in by_team for team in members)
    }
    whole = next((budget.amount_usd for budget in monthly if budget.scope == "company"), None)
    if whole is None and teams and len(by_group) == len(teams):
        whole = sum(by_group.values(), Decimal(0))
    return Budgets(whole, by_group, fault)
