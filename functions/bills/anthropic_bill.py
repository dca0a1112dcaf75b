"""Anthropic's reports: `/v1/organizations/cost_report` in cents, `/v1/organizations/usage_report/messages` in tokens.

The cost report names workspaces and no keys, and leaves out the priority tier, which is paid by contract. The default
workspace has no id: it is null.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from .line import Answer, Days, Line, Malformed, Report, count, dollars, results, text, tier
from .pager import Api

COSTS = "/v1/organizations/cost_report"
MESSAGES = "/v1/organizations/usage_report/messages"
VERSION = "2023-06-01"
MAX_BUCKETS = 31
GROUPS = {
    COSTS: ("workspace_id", "description"),
    MESSAGES: ("model", "api_key_id", "workspace_id", "service_tier"),
}
_KINDS = {
    "uncached_input_tokens": "input",
    "cache_read_input_tokens": "cache_read",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
    "output_tokens": "output",
}


def read(api: Api, first_day: date, last_day: date) -> Days:
    """Lines of both reports, day by day, the last day included. Raises Unavailable, Refused and Malformed."""
    days: Days = {}
    _read(api, COSTS, "cost", first_day, last_day, days)
    _read(api, MESSAGES, "usage", first_day, last_day, days)
    return days


def _read(api: Api, path: str, report: Report, first_day: date, last_day: date, days: Days) -> None:
    params = [
        ("starting_at", f"{first_day}T00:00:00Z"),
        ("ending_at", f"{last_day + timedelta(days=1)}T00:00:00Z"),
        ("bucket_width", "1d"),
        ("limit", str(min((last_day - first_day).days + 1, MAX_BUCKETS))),
        *(("group_by[]", group) for group in GROUPS[path]),
    ]
    for bucket in api.buckets(path, params):
        day = _day(bucket)
        if (report, day) in days or not first_day <= day <= last_day:
            raise Malformed(f"{path}: a day twice, or one that was not asked for")
        lines = days[report, day] = []
        for row in results(bucket):
            lines.extend([_cost(row)] if report == "cost" else _usage(row))


def _day(bucket: Answer) -> date:
    try:
        begin = datetime.fromisoformat(str(bucket.get("starting_at"))).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Malformed("starting_at is not a time") from None
    if begin.timestamp() % 86_400:
        raise Malformed("starting_at: not a UTC day")
    return begin.date()


def _cost(row: Answer) -> Line:
    kind = row.get("token_type")
    return Line(
        model=text(row, "model"),
        project=text(row, "workspace_id"),
        service_tier=tier(text(row, "service_tier")),
        token_kind="web_search" if row.get("cost_type") == "web_search" else _KINDS.get(str(kind)),
        amount_usd=dollars(_cents(row), row.get("currency"), "amount"),
        line_item=text(row, "description"),
    )


def _cents(row: Answer) -> Decimal:
    """Dollars from cents, which come as a decimal string. Moving the point loses nothing."""
    try:
        return Decimal(str(row.get("amount"))).scaleb(-2)
    except InvalidOperation:
        raise Malformed("amount is not a decimal number") from None


def _part(row: Answer, name: str) -> dict[str, Any]:
    part = row.get(name)
    if part is not None and not isinstance(part, dict):
        raise Malformed(f"{name} is not an object")
    return part or {}


def _usage(row: Answer) -> Iterator[Line]:
    written, tools = _part(row, "cache_creation"), _part(row, "server_tool_use")
    counts = {
        "input": count(row, "uncached_input_tokens"),
        "cache_read": count(row, "cache_read_input_tokens"),
        "cache_write_5m": count(written, "ephemeral_5m_input_tokens"),
        "cache_write_1h": count(written, "ephemeral_1h_input_tokens"),
        "output": count(row, "output_tokens"),
        "web_search": count(tools, "web_search_requests"),
    }
    for kind, quantity in counts.items():
        if quantity:
            yield Line(
                model=text(row, "model"),
                api_key_id=text(row, "api_key_id"),
                project=text(row, "workspace_id"),
                service_tier=tier(text(row, "service_tier")),
                token_kind=kind,
                quantity=quantity,
            )
