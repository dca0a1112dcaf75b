"""OpenAI's reports: `/v1/organization/costs` in dollars, `/v1/organization/usage/…` in tokens.

Cost lines name model and kind in one string, such as `priority | gpt-5.4-2026-03-05, cached input, long context` or
`web search tool calls`. What is not of the first form has no model here: it is kept in the provider's words.
OpenAI counts cached and cache-written tokens inside input tokens; here each kind stands apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from .line import Answer, Days, Line, Malformed, Report, count, dollars, results, text, tier
from .pager import Api

COSTS = "/v1/organization/costs"
COMPLETIONS = "/v1/organization/usage/completions"
EMBEDDINGS = "/v1/organization/usage/embeddings"
MAX_BUCKETS = {COSTS: 180, COMPLETIONS: 31, EMBEDDINGS: 31}
GROUPS = {
    COSTS: ("line_item", "project_id", "api_key_id"),
    COMPLETIONS: ("model", "project_id", "api_key_id", "service_tier", "batch"),
    EMBEDDINGS: ("model", "project_id", "api_key_id"),
}
_LINE_ITEM = re.compile(
    r"(?:(?P<tier>priority|flex|batch|ultrafast) \| )?"
    r"(?P<model>[^\s,|]+)(?: (?:text|audio|image))?, "
    r"(?P<kind>cached input|cache writes|input|output)(?:, long context)?"
)
_KINDS = {"input": "input", "cached input": "cache_read", "cache writes": "cache_write_5m", "output": "output"}
_SEARCH = "web search tool calls"


def read(api: Api, first_day: date, last_day: date) -> Days:
    """Lines of both reports, day by day, the last day included. Raises Unavailable, Refused and Malformed."""
    days: Days = {}
    _read(api, COSTS, "cost", first_day, last_day, days)
    _read(api, COMPLETIONS, "usage", first_day, last_day, days)
    _read(api, EMBEDDINGS, "usage", first_day, last_day, days)
    return days


def _read(api: Api, path: str, report: Report, first_day: date, last_day: date, days: Days) -> None:
    span = (last_day - first_day).days + 1
    params = [
        ("start_time", str(_unix(first_day))),
        ("end_time", str(_unix(last_day + timedelta(days=1)))),
        ("bucket_width", "1d"),
        ("limit", str(min(span, MAX_BUCKETS[path]))),
        *(("group_by[]", group) for group in GROUPS[path]),
    ]
    seen = set()
    for bucket in api.buckets(path, params):
        day = _day(bucket)
        if day in seen or not first_day <= day <= last_day:
            raise Malformed(f"{path}: a day twice, or one that was not asked for")
        seen.add(day)
        lines = days.setdefault((report, day), [])
        for row in results(bucket):
            lines.extend([_cost(row)] if report == "cost" else _usage(row))


def _unix(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _day(bucket: Answer) -> date:
    begin, end = count(bucket, "start_time"), count(bucket, "end_time")
    if begin % 86_400 or end - begin > 86_400 or begin > 4_102_444_800:
        raise Malformed("start_time: not a UTC day")
    return datetime.fromtimestamp(begin, UTC).date()


def _cost(row: Answer) -> Line:
    item, amount = text(row, "line_item"), row.get("amount")
    if not isinstance(amount, dict):
        raise Malformed("amount is not an object")
    told = _LINE_ITEM.fullmatch(item or "")
    line = Line(
        api_key_id=text(row, "api_key_id"),
        project=text(row, "project_id"),
        token_kind="web_search" if item == _SEARCH else None,
        quantity=_whole(row.get("quantity")),
        amount_usd=dollars(amount.get("value"), amount.get("currency"), "amount"),
        line_item=item,
    )
    if told is None:
        return line
    return replace(line, model=told["model"], service_tier=told["tier"] or "standard", token_kind=_KINDS[told["kind"]])


def _whole(quantity: object) -> int | None:
    """Storage and sessions are counted in fractions of something: of these, dollars are all there is to compare."""
    whole = isinstance(quantity, int | Decimal) and Decimal(quantity).is_finite() and quantity == int(quantity)
    return count({"quantity": quantity}, "quantity") if whole else None


def _usage(row: Answer) -> Iterator[Line]:
    read, written = count(row, "input_cached_tokens"), count(row, "input_cache_write_tokens")
    plain = count(row, "input_tokens") - read - written
    if plain < 0:
        raise Malformed("input_tokens: fewer than the cached ones among them")
    counts = {
        "input": plain,
        "cache_read": read,
        "cache_write_5m": written,
        "output": count(row, "output_tokens"),
        "requests": count(row, "num_model_requests"),
    }
    told_tier = "batch" if row.get("batch") is True else tier(text(row, "service_tier"))
    for kind, quantity in counts.items():
        if quantity:
            yield Line(
                model=text(row, "model"),
                api_key_id=text(row, "api_key_id"),
                project=text(row, "project_id"),
                service_tier=told_tier,
                token_kind=kind,
                quantity=quantity,
            )
