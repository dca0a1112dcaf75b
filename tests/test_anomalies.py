"""Odd days, runaway sessions, leaked keys: found by one's own history, told once, to whom they concern."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.alerts import leaks, loops
from functions.alerts.anomalies import anomalies
from functions.alerts.notices import Notice, deliveries
from functions.alerts.odd_days import is_odd
from functions.alerts.outbox import Outbox
from functions.alerts.usual_days import USUAL, usual
from governance.company import AnomalyRules, Company
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.keys import KeyRecord
from governance.messages import Message
from governance.policy import Person, Policy
from governance.registry import Registry, open_registry
from governance.schema import read_tables, read_views
from tests.googlesql import Reference
from tests.warehouse_rows import Row, event_row, price_rows, store

NOW = datetime(2026, 3, 25, 15, 4, 30, tzinfo=UTC)  # a Wednesday
TODAY = NOW.date()
RULES = AnomalyRules()
JOINED = date(2020, 1, 6)
_ids = iter(range(10**9))


def person(name: str, team: str = "Search", role: str = "engineer", left_on: date | None = None) -> Person:
    return Person(
        email=f"{name}@example.com", name=name.title(), team=team, role=role, joined_on=JOINED, left_on=left_on
    )


POLICY = Policy(
    (
        person("ann"),
        person("lea", role="lead"),
        person("dan", "Data"),
        person("amy", "Data", "admin"),
        person("gone", left_on=date(2026, 3, 1)),
    ),
    (),
    company=Company(operators=("ops@example.com",)),
)
KEYS = (
    KeyRecord(key_id="k1", person="ann@example.com", team="Search", name="laptop", last4="abcd", created_at=NOW),
    KeyRecord(
        key_id="bot", team="Search", kind="service", name="ci", last4="abcd", created_at=NOW, owner="dan@example.com"
    ),
)


@pytest.fixture
def warehouse() -> Iterator[DuckDBWarehouse]:
    opened = DuckDBWarehouse(":memory:")
    opened.apply_schema()
    opened.replace("prices", price_rows("anthropic", "sonnet", *("10",) * 5))
    yield opened
    opened.close()


def used(usd: float, ago: int = 0, at: time = time(9), **fields: Any) -> Row:
    """A request that costs so much, so many days ago: a million output tokens cost ten dollars."""
    moment = datetime.combine(TODAY - timedelta(days=ago), at, UTC)
    tokens = {"input_tokens": 0, "output_tokens": round(usd * 100_000)}
    return event_row(f"{next(_ids):08}", occurred_at=moment, **tokens | fields)


def told(
    warehouse: DuckDBWarehouse, policy: Policy = POLICY, now: datetime = NOW, registry: Registry | None = None
) -> list[Notice]:
    """In a tick that has kept nothing of ticks before, unless a registry is given."""
    with TemporaryDirectory() as folder:
        kept = registry or open_registry(f"sqlite://{folder}/registry.db")
        return anomalies(warehouse, kept, policy, KEYS, now, "https://tally.example.com/")


def odd(spent: Decimal, history: list[Decimal], rules: AnomalyRules = RULES) -> bool:
    return is_odd(spent, usual(history), rules)


# A day


def history(usd: float = 10, days: int = 20, **fields: Any) -> list[Row]:
    """So many days with about so much spending before yesterday."""
    return [used(usd * (0.8 + 0.02 * ago), ago + 2, **fields) for ago in range(days)]


def test_one_huge_day_after_a_quiet_history_is_told_to_the_person_and_of_the_team_to_its_lead(
    warehouse: DuckDBWarehouse,
) -> None:
    store(warehouse, [*history(), used(290), used(22.5, model_requested="opus", tool="codex")])
    own, team = sorted((notice.message for notice in told(warehouse)), key=lambda message: not message.private)
    assert (own.to, own.private, own.audience) == (("ann@example.com",), True, "person")
    assert own.subject == "Tally: $312.50 on 25 March is far more than your usual $9.90"
    assert "so far today, 25 March (UTC)" in own.text
    assert "the median of 20 days" in own.text
    assert "claude_code with sonnet, key laptop (k1): $290.00 in 1 request; codex with sonnet" in own.text
    assert [(b.action, b.value, b.danger) for b in own.buttons] == [("key.revoke", "k1", True)]
    assert (team.to, team.audience, team.buttons) == (("lea@example.com",), "lead", ())
    assert "Team Search has used $312.50" in team.text
    assert not any(word in team.subject + team.text for word in ("ann", "Ann", "k1", "laptop"))


def test_a_team_without_a_lead_is_told_of_to_the_operators_and_who_left_is_not_written_to(
    warehouse: DuckDBWarehouse,
) -> None:
    store(
        warehouse, [*history(person="gone@example.com", team="Data"), used(300, person="gone@example.com", team="Data")]
    )
    (notice,) = told(warehouse)
    assert notice.message.to == ("ops@example.com",)


@pytest.mark.parametrize("days", range(7))
def test_nobodys_first_week_is_judged(warehouse: DuckDBWarehouse, days: int) -> None:
    store(warehouse, [*history(days=days), used(5000)])
    assert told(warehouse) == []


def test_a_day_is_judged_as_soon_as_it_is_above_and_still_in_the_night_after(warehouse: DuckDBWarehouse) -> None:
    known = usual([Decimal(str(0.8 + 0.02 * n)) * 10 for n in range(20)])
    assert known is not None
    limit = float(known.limit_usd(RULES.deviations))
    store(warehouse, [*history(), used(limit)])
    assert told(warehouse) == []
    store(warehouse, [used(0.01)])
    assert {notice.period for notice in told(warehouse)} == {"2026-03-25"}
    assert {notice.period for notice in told(warehouse, now=NOW + timedelta(hours=14))} == {"2026-03-25"}
    assert told(warehouse, now=NOW + timedelta(hours=15)) == []


def test_less_than_the_minimum_is_never_odd(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [*history(0.01), used(19.99)])
    assert told(warehouse) == []
    store(warehouse, [used(0.02)])
    assert len(told(warehouse)) == 2


def test_who_works_twice_a_week_has_a_usual_day_too(warehouse: DuckDBWarehouse) -> None:
    rows = [used(40, ago) for ago in range(28) if (TODAY - timedelta(days=ago)).weekday() in (1, 2)]
    store(warehouse, rows)
    assert told(warehouse) == []


def test_what_is_usual_is_asked_for_once_a_day_and_forgotten_when_the_day_is_over(
    warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    registry = open_registry(f"sqlite://{tmp_path}/registry.db")
    store(warehouse, [*history(), used(290)])
    first = told(warehouse, registry=registry)
    store(warehouse, [used(900, ago) for ago in range(2, 20)])  # late, and in another way odd
    assert [notice.message for notice in told(warehouse, registry=registry)] == [notice.message for notice in first]
    assert told(warehouse) == []
    (kept,) = registry.find(USUAL)
    assert kept.fields["day"] == "2026-03-25"
    registry.put("loaded", "prices", {"sha256": "other prices"})
    assert told(warehouse, registry=registry) == []
    told(warehouse, registry=registry, now=NOW + timedelta(days=1))
    assert registry.find(USUAL) == []


def test_the_history_is_of_as_many_days_as_the_company_says(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [*(used(10, ago) for ago in range(22, 35)), used(300)])
    assert len(told(warehouse)) == 2  # 22 to 28 days ago: seven days
    shorter = Company(anomalies=AnomalyRules(history_days=27))
    assert told(warehouse, replace(POLICY, company=shorter)) == []


money = st.decimals(min_value="0.01", max_value="5000", places=2)


@settings(max_examples=300, deadline=None)
@given(st.lists(money, max_size=28), money, st.decimals(min_value="0.01", max_value="1000", places=2))
def test_scaling_all_that_somebody_spends_makes_no_day_odd_and_none_usual(
    days: list[Decimal], today: Decimal, times: Decimal
) -> None:
    free = AnomalyRules(minimum_usd=Decimal(0))
    scaled = [day * times for day in days]
    assert odd(today * times, scaled, free) == odd(today, days, free)
    if not odd(today, days, free):  # the minimum only takes away
        assert not odd(today * times, scaled)


@settings(max_examples=200, deadline=None)
@given(st.lists(money, min_size=7, max_size=28), money)
def test_a_day_that_was_there_as_often_as_not_is_never_odd(days: list[Decimal], today: Decimal) -> None:
    usual_days = sorted(days)[: len(days) // 2]
    assert not odd(today, [today] * (len(usual_days) + 1) + usual_days)


def test_of_a_hundred_ordinary_days_hardly_one_is_odd() -> None:
    """People's days scatter as a lognormal: one of three is off by more than 65 percent."""
    dice, found, judged = random.Random(3), 0, 0
    for _ in range(200):
        days = [Decimal(str(round(30 * dice.lognormvariate(0, 0.5), 2))) for _ in range(60)]
        for last in range(20, 60):
            judged += 1
            found += odd(days[last], days[last - 20 : last])
    assert found / judged < 0.01


# A loop


def minute(ago: int, requests: int, latency_ms: int | None = 400, **fields: Any) -> Iterable[Row]:
    """So many requests in the minute that began so many minutes ago."""
    began = NOW.replace(second=0) - timedelta(minutes=ago)
    for n in range(requests):
        at = began + timedelta(seconds=59 * n / requests)
        yield event_row(
            f"{next(_ids):08}",
            occurred_at=at,
            **{"session_id": "s1", "latency_ms": latency_ms, "status": "error"} | fields,
        )


def looping(warehouse: DuckDBWarehouse, *minutes: Iterable[Row], now: datetime = NOW) -> list[loops.Loop]:
    store(warehouse, [row for rows in minutes for row in rows])
    return loops.loops(warehouse, RULES, now)


def test_a_session_that_retries_without_a_pause_is_told_to_its_person_with_a_button(warehouse: DuckDBWarehouse) -> None:
    (loop,) = looping(warehouse, minute(5, 20), minute(4, 90), minute(3, 130), minute(2, 110), minute(1, 30))
    assert (loop.requests, loop.minutes, loop.failed) == (330, 3, 330)
    assert (loop.began_at.minute, loop.last_at.minute) == (0, 2)
    (notice,) = told(warehouse)
    assert (notice.message.to, notice.message.private) == (("ann@example.com",), True)
    assert "330 requests, 330 of them failed or refused, in 3 minutes" in notice.message.text
    assert "Key laptop (k1) of ann@example.com" in notice.message.text
    assert notice.message.buttons[0].value == "k1"


def test_ten_agents_at_work_in_one_session_are_no_loop(warehouse: DuckDBWarehouse) -> None:
    busy = [minute(ago, 120, latency_ms=5_000, status="ok") for ago in range(10)]  # ten beside each other
    assert looping(warehouse, *busy) == []


def test_a_swarm_beyond_what_an_agent_starts_is_a_loop(warehouse: DuckDBWarehouse) -> None:
    swarm = [minute(ago, 700, latency_ms=5_000, status="ok") for ago in range(3)]
    assert len(looping(warehouse, *swarm)) == 1


@pytest.mark.parametrize(
    ("minutes", "found"), [((0, 1), 0), ((0, 4, 5), 0), ((0, 2, 4), 1), ((0, 1, 9, 10), 0), ((20, 21, 22), 1)]
)
def test_three_minutes_of_five_are_sustained(warehouse: DuckDBWarehouse, minutes: tuple[int, ...], found: int) -> None:
    assert len(looping(warehouse, *(minute(ago, 61, None) for ago in minutes))) == found


def test_sessions_are_not_added_up_and_scripts_have_none(warehouse: DuckDBWarehouse) -> None:
    several = [minute(ago, 40, session_id=f"s{n}") for ago in range(5) for n in range(3)]
    scripts = [minute(ago, 200, session_id=None) for ago in range(5)]
    assert looping(warehouse, *several, *scripts) == []


def test_copies_of_an_event_make_no_loop(warehouse: DuckDBWarehouse) -> None:
    rows = [row for ago in range(5) for row in minute(ago, 25)]
    store(warehouse, rows * 3)
    assert loops.loops(warehouse, RULES, NOW) == []


def test_a_loop_across_midnight_is_found(warehouse: DuckDBWarehouse) -> None:
    now = datetime(2026, 3, 25, 0, 1, 30, tzinfo=UTC)
    rows = [
        event_row(f"{next(_ids):08}", occurred_at=now - timedelta(seconds=n), session_id="s1") for n in range(30, 270)
    ]
    assert len(looping(warehouse, rows, now=now)) == 1


def test_a_service_that_loops_is_told_to_who_answers_for_it(warehouse: DuckDBWarehouse) -> None:
    looping(warehouse, *(minute(ago, 99, key_id="bot", person=None, key_kind="service") for ago in range(4)))
    (notice,) = told(warehouse)
    assert notice.message.to == ("dan@example.com",)
    assert "a service key of team Search" in notice.message.text


# A leaked key

HOME, ELSEWHERE = "0a1b2c3d4e5f", "f5e4d3c2b1a0"


def place(
    network: str | None = HOME, tool: str = "claude-code", ago: int = 0, at: time = time(14), n: int = 1, **more: Any
) -> list[Row]:
    return [used(0.01, ago, at, network=network, tool=tool, **more) for _ in range(n)]


def at_home(n: int = 12) -> list[Row]:
    return [row for ago in range(1, n + 1) for row in place(ago=ago)]


def test_a_key_with_a_new_tool_from_a_new_network_is_told_to_its_owner_and_the_operators(
    warehouse: DuckDBWarehouse,
) -> None:
    store(warehouse, [*at_home(), *place(), *place(ELSEWHERE, "codex", n=3)])
    (notice,) = told(warehouse)
    message = notice.message
    assert (message.to, message.private) == (("ann@example.com", "ops@example.com"), True)
    assert message.subject == "Tally: key laptop (k1) may have leaked"
    assert "was used with codex, and from a network" in message.text
    assert "3 requests since 25 March, 14:00 UTC" in message.text
    assert "Until then: claude-code, from 1 network." in message.text
    assert [(b.action, b.value) for b in message.buttons] == [("key.revoke", "k1")]
    assert ELSEWHERE not in message.text + message.subject


@pytest.mark.parametrize(
    "rows",
    [
        [*at_home(), *place(ELSEWHERE)],  # travelling
        [*at_home(), *place(HOME, "codex")],  # trying another agent
        [*at_home(), *place(ELSEWHERE, at=time(9)), *place(ELSEWHERE, "codex")],  # the one, and hours later the other
        [*at_home(), *place(HOME, "codex", at=time(9)), *place(ELSEWHERE, "codex")],
        [*at_home(), *place(None, "codex")],  # nobody knows from where
        [*at_home(6), *place(ELSEWHERE, "codex")],  # in its first week
        [*place(ago=8, n=9), *place(ELSEWHERE, "codex")],  # before ten requests
        [*place(None, ago=9, n=20), *place(ELSEWHERE, "codex")],  # nobody noted networks then
        [*at_home(), *place(ELSEWHERE, "codex", key_id="k2")],  # another key
        [*place(ELSEWHERE, "codex", ago=20), *at_home(), *place(ELSEWHERE, "codex")],  # seen before
    ],
)  # fmt: skip
def test_what_happens_every_day_is_no_leak(warehouse: DuckDBWarehouse, rows: list[Row]) -> None:
    store(warehouse, rows)
    assert leaks.leaks(warehouse, RULES, NOW) == []


def test_of_a_key_that_is_revoked_already_nothing_is_told(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    registry = open_registry(f"sqlite://{tmp_path}/registry.db")
    store(warehouse, [*at_home(), *place(ELSEWHERE, "codex")])
    revoked = KEYS[0].model_copy(update={"revoked_at": NOW})
    assert anomalies(warehouse, registry, POLICY, [revoked], NOW) == []


# Once


class Board:
    """A channel that keeps what it is given."""

    name, private_too = "board", True

    def __init__(self) -> None:
        self.taken: list[Message] = []

    def send(self, message: Message) -> None:
        self.taken.append(message)


def test_the_same_findings_in_every_tick_are_told_once(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    board, clock = Board(), [NOW]
    registry = open_registry(f"sqlite://{tmp_path}/registry.db")
    outbox = Outbox(registry, lambda: clock[0])
    store(warehouse, [*history(network=HOME), *place(HOME), used(300)])
    for tick in range(12):
        goes_on = [*place(ELSEWHERE, "codex", at=clock[0].time()), used(10, tool="codex")]
        for ago in (1, 2, 3):
            goes_on += minute(ago - 5 * tick, 99, network=HOME)
        store(warehouse, goes_on if tick < 6 else [used(10)])
        outbox.send(outbox.due(deliveries(told(warehouse, now=clock[0], registry=registry), [board])))
        clock[0] += timedelta(minutes=5)
    assert sorted(message.subject for message in board.taken) == [
        "Tally: $313.29 on 25 March is far more than team Search's usual",
        "Tally: $313.29 on 25 March is far more than your usual $9.90",
        "Tally: claude_code seems to run in a loop (297 requests)",
        "Tally: key laptop (k1) may have leaked",
    ]


def test_bigquery_would_accept_every_statement(warehouse: DuckDBWarehouse) -> None:
    google = Reference()
    for table in read_tables():
        google.add(table.name, [(field.name, field.type) for field in table.fields], [])
    for view in read_views():
        columns, _ = google.query(view.sql)
        google.add(view.name, columns, [])

    class Overheard(DuckDBWarehouse):
        def query(self, sql: str, params: Any = None) -> list[dict[str, Any]]:
            google.analyse(sql, params)
            asked.append(sql)
            return super().query(sql, params)

    asked: list[str] = []
    listening = Overheard(":memory:")
    listening.apply_schema()
    listening.replace("prices", price_rows("anthropic", "sonnet", *("10",) * 5))
    store(listening, [*at_home(), *place(ELSEWHERE, "codex"), *history(network=HOME), used(300)])
    asked.clear()
    assert len(told(listening)) == 3
    assert len(asked) == 8  # three for what is odd; for what was found two and two for the days, one for the key
    listening.close()
