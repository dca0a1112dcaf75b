"""The past of the synthetic company, as rows of `events`: drawn day by day, the same each time, appended where missing.

An event of the past is called `history-<day>-<number>`, so nobody takes it for a request that was made. The newest of
them is where the next start goes on; the oldest tells the day on which the history began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from governance.policy import Person
from governance.warehouse import Warehouse
from local.company import DAYS, EDITOR, PREVIEW, Agent, Member, effort, members, model_of, terms_of
from local.ledger import KINDS, PriceList

Progress = Callable[[int, int], None]  # days done, days to do
Row = dict[str, Any]
Counts = NDArray[np.int64]

SEED: Final = 20_261_123
ID: Final = "history-"
BATCH_ROWS: Final = 8_000
_DAY_S: Final = 86_400.0
_SHARE_ERROR, _SHARE_ABORTED, _SHARE_UNTOLD, _SHARE_SIDE, _SHARE_SEARCH = 0.012, 0.008, 0.006, 0.08, 0.03
_UNTOLD: Final[dict[str, Any]] = {  # what no request of the past has
    "superseded": False,
    "input_audio_tokens": 0,
    "input_image_tokens": 0,
    "output_audio_tokens": 0,
    "output_image_tokens": 0,
    "provider_cost_usd": None,
    "raw_usage": None,
    "network": None,
}
_ERRORS: Final = ((429, "RateLimitError"), (529, "InternalServerError"), (500, "InternalServerError"))
_CONTEXT_START: Final = (11.15, 0.45)  # of an agent's first turn, lognormal: system prompt, tools, the first files
_CONTEXT_GROWTH: Final = (8.7, 0.9)  # tokens that each turn adds
_CONTEXT_MAX: Final = 190_000  # an agent compacts before it gets longer
_AGENT_OUTPUT: Final = (6.8, 0.9)
_PROMPT, _COMPLETION = (7.0, 1.36), (2.8, 0.85)  # completions, as measured on real code traffic


def draw_day(company: Sequence[Member], day: date, first_day: date, prices: PriceList) -> list[Row]:
    """All events of one UTC day in the order of their time, as rows of `events`."""
    dice = np.random.default_rng([SEED, day.toordinal()])
    sessions = dice.poisson([effort(who, day, first_day) for who in company])
    noon = datetime(day.year, day.month, day.day, tzinfo=UTC)
    rows: list[Row] = []
    for who, count in zip(company, sessions.tolist(), strict=True):
        for _ in range(count):
            rows += _session(who, day, first_day, noon, dice, prices)
    rows.sort(key=lambda row: row["occurred_at"])
    for number, row in enumerate(rows):
        row["event_id"] = row["request_id"] = f"{ID}{day:%Y%m%d}-{number:06d}"
    return rows


def _session(
    who: Member, day: date, first_day: date, midnight: datetime, dice: np.random.Generator, prices: PriceList
) -> list[Row]:
    agent = who.agents[0] if len(who.agents) == 1 or dice.random() < 0.8 else who.agents[1]
    turns = int(dice.geometric(1 / who.turns)) + 1
    begin = (who.first_hour + abs(dice.normal(4.2, 2.3))) * 3600
    gaps = dice.lognormal(3.4, 0.9, turns) if agent.turns == "agent" else dice.lognormal(4.5, 1.0, turns)
    at = begin + np.cumsum(gaps)
    at = at[at < _DAY_S]
    tokens = _agent_tokens(len(at), dice) if agent.turns == "agent" else _completion_tokens(len(at), agent, dice)
    model, tier = terms_of(agent, model_of(agent, who, day, first_day), dice.random())
    session_id = dice.bytes(16).hex() if agent.turns == "agent" else None
    known = min(len(agent.versions) - 1, max(0, (day - first_day).days) * len(agent.versions) // DAYS)
    version = agent.versions[known if dice.random() < 0.7 else max(0, known - 1)]
    asks = np.where(dice.random(len(at)) < _SHARE_SIDE, agent.side_model or model, model).tolist()
    fate = dice.random(len(at))
    speed = dice.lognormal(6.9, 0.45, len(at))
    pace = dice.uniform(7, 16, len(at))
    searching = agent.route in ("messages", "responses") and agent.turns == "agent"
    searches = (dice.random(len(at)) < _SHARE_SEARCH).astype(np.int64) * dice.integers(1, 4, len(at)) * searching
    fixed = _UNTOLD | {
        "schema_version": 1,
        "person": who.person,
        "team": who.team,
        "key_id": who.key_id,
        "key_kind": "human" if who.person else "service",
        "tool": agent.tool,
        "tool_version": version,
        "user_agent": agent.user_agent.format(version=version),
        "session_id": session_id,
        "route": agent.route,
        "provider": agent.provider,
        "stream": agent.turns == "agent" or agent is EDITOR,
        "billing_mode": "subscription" if who.subscription and agent.tool == "claude-code" else "metered",
        "residency": None,
    }
    rows = []
    for turn, second in enumerate(at.tolist()):
        counts = {kind: int(tokens[kind][turn]) for kind in tokens}
        side = asks[turn] != model
        if side:  # a title, a summary: short, and nothing cached
            counts = dict.fromkeys(tokens, 0) | {"input_tokens": 900 + counts["output_tokens"], "output_tokens": 24}
        rows.append(
            fixed
            | _outcome(
                float(fate[turn]),
                counts | {"web_searches": 0 if side else int(searches[turn])},
                float(speed[turn]),
                float(pace[turn]),
                agent,
                "standard" if side else tier,
            )
            | {
                "occurred_at": midnight + timedelta(seconds=second),
                "received_at": midnight + timedelta(seconds=second + 2.5),
                "model_requested": asks[turn],
                "provider_request_id": f"sim-{dice.bytes(9).hex()}",
            }
        )
    return [_with_gateway_cost(row, prices) for row in rows]


def _agent_tokens(turns: int, dice: np.random.Generator) -> dict[str, Counts]:
    """A conversation that grows: most of each prompt was seen before, and is read from the cache."""
    context = dice.lognormal(*_CONTEXT_START, 1) + np.cumsum(dice.lognormal(*_CONTEXT_GROWTH, turns))
    prompt = np.where(context > _CONTEXT_MAX, _CONTEXT_MAX / 3 + context % (_CONTEXT_MAX / 3 * 2), context)
    settled = np.clip(np.arange(turns) / 6, 0, 1)
    read = prompt * np.clip(dice.normal(0.68 + 0.16 * settled, 0.08, turns), 0.6, 0.95)
    output = dice.lognormal(*_AGENT_OUTPUT, turns) + 1
    return {
        "input_tokens": ((prompt - read) * 0.1).astype(np.int64),
        "cache_read_tokens": read.astype(np.int64),
        "cache_write_5m_tokens": ((prompt - read) * 0.9).astype(np.int64),
        "cache_write_1h_tokens": np.zeros(turns, np.int64),
        "output_tokens": output.astype(np.int64),
        "reasoning_tokens": (output * dice.uniform(0.1, 0.5, turns)).astype(np.int64),
    }


def _completion_tokens(turns: int, agent: Agent, dice: np.random.Generator) -> dict[str, Counts]:
    nothing = np.zeros(turns, np.int64)
    output = nothing if agent.route == "embeddings" else dice.lognormal(*_COMPLETION, turns).astype(np.int64) + 1
    return dict.fromkeys(
        ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "reasoning_tokens"), nothing
    ) | {"input_tokens": dice.lognormal(*_PROMPT, turns).astype(np.int64) + 1, "output_tokens": output}


def _outcome(fate: float, counts: Mapping[str, int], speed_ms: float, pace_ms: float, agent: Agent, tier: str) -> Row:
    """How a request ended, and what follows for its counts and times."""
    if agent.provider != "anthropic":  # what is written to a cache costs nothing extra there, and is not told apart
        counts = {**counts, "input_tokens": counts["input_tokens"] + counts["cache_write_5m_tokens"]}
        counts["cache_write_5m_tokens"] = 0
    if not agent.thinks:
        counts = {**counts, "reasoning_tokens": 0}
    ended: Row = {
        "status": "ok",
        "http_status": 200,
        "error_class": None,
        "usage_source": "provider",
        "service_tier": tier,
        "time_to_first_token_ms": round(speed_ms),
        "latency_ms": round(speed_ms + counts["output_tokens"] * pace_ms),
        **counts,
    }
    if fate < _SHARE_ERROR:
        status, name = _ERRORS[int(fate * 1e6) % len(_ERRORS)]
        return (
            ended
            | dict.fromkeys(counts, 0)
            | {
                "status": "error",
                "http_status": status,
                "error_class": name,
                "usage_source": "none",
                "service_tier": None,
                "time_to_first_token_ms": None,
                "latency_ms": round(speed_ms / 3),
            }
        )
    fate -= _SHARE_ERROR
    if fate < _SHARE_ABORTED:
        return ended | {"status": "aborted", "usage_source": "counted"}
    if fate < _SHARE_ABORTED + _SHARE_UNTOLD:
        return ended | {"usage_source": "counted"}
    return ended


def _with_gateway_cost(row: Row, prices: PriceList) -> Row:
    """The row with the model served, and LiteLLM's own figure: no aborted request, no search, no unknown model."""
    failed = row["status"] == "error"
    row["model"] = None if failed else row["model_requested"]
    row["gateway_cost_usd"] = None
    if not failed and row["usage_source"] == "provider":
        row["gateway_cost_usd"] = Decimal(0)
        if row["model"] != PREVIEW:
            day, tier = row["occurred_at"].date(), row["service_tier"]
            book = prices(row["provider"], row["model"], day, tier, "", 0)
            cost = sum((row[f"{kind}_tokens"] * book.get(kind, book["input"]) for kind in KINDS), Decimal(0))
            row["gateway_cost_usd"] = (cost / 1_000_000).quantize(Decimal("1e-9"))
    return row


def _span(warehouse: Warehouse) -> tuple[datetime | None, datetime | None]:
    """When the oldest and the newest event of the history took place."""
    found = warehouse.query(
        "SELECT MIN(occurred_at) AS oldest, MAX(occurred_at) AS newest FROM tally.events "
        "WHERE STARTS_WITH(event_id, @id)",
        {"id": ID},
    )[0]
    return found["oldest"], found["newest"]


def missing(
    people: Sequence[Person],
    key_ids: Mapping[str, str],
    oldest: datetime | None,
    newest: datetime | None,
    now: datetime,
    prices: PriceList,
) -> Iterator[tuple[int, int, list[Row]]]:
    """(days done, days in all, rows) from the newest event up to now; from DAYS ago where there is none."""
    first_day = oldest.date() if oldest else now.date() - timedelta(days=DAYS)
    begin = newest.date() if newest else first_day
    company = members(people, first_day, key_ids)
    days = (now.date() - begin).days + 1
    for number in range(days):
        rows = draw_day(company, begin + timedelta(days=number), first_day, prices)
        fresh = [r for r in rows if r["occurred_at"] <= now and (newest is None or r["occurred_at"] > newest)]
        yield number + 1, days, fresh


def seed(
    warehouse: Warehouse,
    people: Sequence[Person],
    key_ids: Mapping[str, str],
    now: datetime,
    prices: PriceList,
    progress: Progress,
    bill: Callable[[list[Row]], None] = lambda rows: None,
) -> int:
    """Append what the past lacks, oldest first, in whole days, so that a stop loses nothing. Returns rows.

    `bill` is given the same rows first, so that no day is in the warehouse and on no bill.
    """
    total, batch = 0, list[Row]()
    oldest, newest = _span(warehouse)
    done = days = 0
    for done, days, rows in missing(people, key_ids, oldest, newest, now, prices):
        batch += rows
        if len(batch) >= BATCH_ROWS:
            bill(batch)
            total += _append(warehouse, batch)
            batch = []
            progress(done, days)
    if batch:
        bill(batch)
    total += _append(warehouse, batch)
    progress(done, days)
    return total


def _append(warehouse: Warehouse, rows: list[Row]) -> int:
    refused = warehouse.append("events", rows) if rows else {}
    if refused:
        raise RuntimeError(f"the warehouse refuses the history: {next(iter(refused.values()))}")
    return len(rows)
