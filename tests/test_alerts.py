"""People learn of a crossed threshold once: not twice, not never, and not from old data."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from aiosmtpd.controller import Controller
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.alerts.outbox import LEASE, SENT, Delivery, Outbox
from functions.alerts.reference import LOADED
from functions.alerts.tick import Room, tick
from governance.events import UsageEvent
from governance.messages import DeliveryError, Message
from governance.policy import PolicyError
from governance.registry import ANY, Document, Registry, RegistryError, open_registry
from governance.schema import read_tables, read_views
from governance.warehouse import Warehouse, WarehouseError, open_warehouse
from tests.conftest import ROOT, eventually, free_port, function_app
from tests.googlesql import Reference
from tests.warehouse_rows import event_row, price_rows

PEOPLE = """email,name,team,role,joined_on,left_on
ada@example.com,Ada,Search,lead,2020-01-06,
bob@example.com,Bob,Data,lead,2020-01-06,
eve@example.com,Eve,Data,finance,2020-01-06,
"""
BUDGETS = """budgets:
  - {scope: company, amount_usd: 1000}
  - {scope: team, name: Search, amount_usd: 100}
  - {scope: team, name: Data, amount_usd: 100}
"""
NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)


class Clock:
    """The time, as a test says."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **how_long: float) -> None:
        self.now += timedelta(**how_long)


class Board:
    """A channel that keeps what it is given; it can be down, or die before or after it has taken a message."""

    private_too = True

    def __init__(self, name: str = "slack") -> None:
        self.name, self.taken, self.down, self.dies = name, list[Message](), False, ""
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        if self.down:
            raise DeliveryError("the board is down")
        if self.dies == "before":
            raise Killed
        with self._lock:
            self.taken.append(message)
        if self.dies == "after":
            raise Killed

    @property
    def subjects(self) -> list[str]:
        return [message.subject.removeprefix("Tally: ") for message in self.taken]


class Killed(BaseException):
    """kill -9, as near as a thread comes to it."""


_ids = iter(range(10**9))


def spend(
    warehouse: Warehouse,
    usd: float,
    team: str | None = "Search",
    at: datetime = NOON,
    received_at: datetime | None = None,
) -> None:
    """One request that costs so many dollars: a million output tokens of this model cost ten."""
    event = UsageEvent(
        event_id=f"event-{next(_ids):08}", request_id="request-1", occurred_at=at, person="ada@example.com", team=team,
        route="messages", provider="test", model="ten", status="ok", usage_source="provider",
        output_tokens=round(usd * 100_000),
    )  # fmt: skip
    assert warehouse.append("events", [{**event.row(), "received_at": received_at or at}]) == {}


@pytest.fixture(autouse=True)
def book(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = ("10",) * 5
    day = date(1970, 1, 1)
    rows = price_rows("test", "ten", *flat, valid_from=day) + price_rows("*", "*", *flat, valid_from=day)
    monkeypatch.setattr("governance.prices.rows_for_warehouse", lambda contract=None: rows)


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def room(tmp_path: Path, board: Board, clock: Clock) -> Room:
    (tmp_path / "people.csv").write_text(PEOPLE)
    (tmp_path / "budgets.yaml").write_text(BUDGETS)
    (tmp_path / "company.yaml").write_text("alerts: {digests: []}\n")
    warehouse = open_warehouse("duckdb://:memory:")
    warehouse.apply_schema()
    return Room(
        warehouse, open_registry(f"sqlite://{tmp_path}/registry.db"), [board], tmp_path, "", 86400.0, 5, clock
    )  # fmt: skip


# One message each


def test_nothing_is_said_while_nothing_is_crossed(room: Room, board: Board) -> None:
    spend(room.warehouse, 79.99)
    done = tick(room)
    assert (board.taken, done["sent"]) == ([], 0)
    assert done["budgets"] == {"on track": 2, "at risk": 1, "over": 0}
    stood = room.warehouse.query("SELECT budget, spent_usd FROM tally.budget_standings ORDER BY budget")
    assert [(row["budget"], float(row["spent_usd"])) for row in stood] == [
        ("company-month", 79.99), ("team-Data-month", 0), ("team-Search-month", 79.99),
    ]  # fmt: skip


def test_eighty_and_then_a_hundred_percent_are_said_once_each(room: Room, board: Board, clock: Clock) -> None:
    spend(room.warehouse, 80)
    for _ in range(3):
        tick(room)
        clock.pass_(minutes=5)
    assert board.subjects == ["team Search has passed 80% of its monthly budget (November 2026)"]
    assert board.taken[0].to == ("ada@example.com", "eve@example.com")
    assert "$80.00 of $100.00" in board.taken[0].text
    spend(room.warehouse, 30)
    for _ in range(3):
        tick(room)
        clock.pass_(hours=5)
    assert board.subjects[1:] == ["team Search has passed 100% of its monthly budget (November 2026)"]
    assert "$110.00 of $100.00" in board.taken[1].text


def test_the_company_pays_for_keys_of_no_team_and_only_the_budgets_concerned_speak(room: Room, board: Board) -> None:
    spend(room.warehouse, 85, "Data")
    spend(room.warehouse, 720, None)
    tick(room)
    assert sorted(board.subjects) == [
        "team Data has passed 80% of its monthly budget (November 2026)",
        "the company has passed 80% of its monthly budget (November 2026)",
    ]
    (company,) = [m for m in board.taken if "company" in m.subject]
    assert company.to == ("eve@example.com",)
    assert "$805.00 of $1,000.00" in company.text


def test_a_new_month_starts_anew_and_last_months_spending_is_not_its_own(
    room: Room, board: Board, clock: Clock
) -> None:
    spend(room.warehouse, 200, at=datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC))
    clock.now = datetime(2026, 11, 30, 23, 59, 59, 999999, tzinfo=UTC)
    tick(room)
    assert len(board.taken) == 2
    clock.now = datetime(2026, 12, 1, tzinfo=UTC)
    tick(room)
    assert len(board.taken) == 2
    spend(room.warehouse, 90, at=datetime(2026, 12, 1, 9, tzinfo=UTC))
    clock.pass_(hours=10)
    tick(room)
    assert board.subjects[2:] == ["team Search has passed 80% of its monthly budget (December 2026)"]


def test_an_event_stored_three_times_is_spent_once(room: Room, board: Board) -> None:
    event = UsageEvent(
        event_id="the-same-event", request_id="request-1", occurred_at=NOON, team="Search", route="messages",
        provider="test", model="ten", status="ok", usage_source="provider", output_tokens=7_000_000,
    )  # fmt: skip
    for n in range(3):
        room.warehouse.append("events", [{**event.row(), "received_at": NOON + timedelta(seconds=n)}])
    tick(room)
    assert board.taken == []


def test_parallel_ticks_say_it_once(room: Room, board: Board) -> None:
    spend(room.warehouse, 150)
    spend(room.warehouse, 150, "Data")
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: tick(room), range(16)))
    assert Counter(board.subjects) == {
        f"team {team} has passed {percent}% of its monthly budget (November 2026)": 1
        for team in ("Search", "Data")
        for percent in (80, 100)
    }
    assert sum(d["sent"] for d in done) == 4


@pytest.mark.parametrize("failed_before", [False, True])
def test_two_that_see_the_same_work_due_do_it_once(room: Room, board: Board, clock: Clock, failed_before: bool) -> None:
    one, other = Outbox(room.registry, clock), Outbox(room.registry, clock)
    deliveries = [Delivery(f"b{n}", "2026-11", 80, board, Message(f"b{n}", "", ())) for n in range(2)]
    if failed_before:
        board.down = True
        one.send(one.due(deliveries))
        board.down = False
        clock.pass_(minutes=5)
    seen_by_one, seen_by_other = one.due(deliveries), other.due(deliveries)
    assert len(seen_by_one) == len(seen_by_other) == 2
    assert one.send(seen_by_one) == {"sent": 2}
    assert other.send(seen_by_other) == {"elsewhere": 2}
    assert len(board.taken) == 2


def test_a_team_with_any_name_has_a_message_of_its_own(room: Room, board: Board, tmp_path: Path) -> None:
    odd = "R&D / <Ops> | ü"
    (tmp_path / "people.csv").write_text(PEOPLE + f"zoe@example.com,Zoë,{odd},lead,2020-01-06,\n")
    (tmp_path / "budgets.yaml").write_text(BUDGETS + f"  - {{scope: team, name: '{odd}', amount_usd: 10}}\n")
    spend(room.warehouse, 9, odd)
    tick(room)
    tick(room)
    assert board.subjects == [f"team {odd} has passed 80% of its monthly budget (November 2026)"]


# When a channel, a process or the data fails


def test_a_channel_down_for_an_hour_loses_nothing_and_sends_each_once(room: Room, clock: Clock) -> None:
    slack, mail = Board("slack"), Board("mail")
    room = replace(room, channels=[slack, mail])
    slack.down = True
    spend(room.warehouse, 85)
    spend(room.warehouse, 85, "Data")
    attempts = 0
    for _ in range(12):
        done = tick(room)
        attempts += done["failed"]
        clock.pass_(minutes=5)
    assert (len(mail.taken), slack.taken) == (2, [])
    assert 3 <= attempts <= 12  # again and again, and never more than one in a tick
    slack.down = False
    for _ in range(24):
        tick(room)
        clock.pass_(minutes=5)
    assert sorted(slack.subjects) == sorted(mail.subjects)
    assert len(slack.taken) == 2


def test_a_message_that_is_always_refused_does_not_keep_the_others_waiting(room: Room, clock: Clock) -> None:
    class Picky(Board):
        def send(self, message: Message) -> None:
            if "Search" in message.subject:
                raise DeliveryError("not this one")
            super().send(message)

    picky = Picky()
    room = replace(room, channels=[picky])
    spend(room.warehouse, 85)
    spend(room.warehouse, 85, "Data")
    for _ in range(2):
        tick(room)
        clock.pass_(minutes=5)
    assert picky.subjects == ["team Data has passed 80% of its monthly budget (November 2026)"]


@pytest.mark.parametrize(("dies", "at_once", "later"), [("before", 0, 1), ("after", 1, 2)])
def test_who_dies_between_claim_and_mark_is_stood_in_for_later_and_only_once(
    room: Room, board: Board, clock: Clock, dies: str, at_once: int, later: int
) -> None:
    spend(room.warehouse, 85)
    board.dies = dies
    with pytest.raises(Killed):
        tick(room)
    board.dies = ""
    assert tick(room)["sent"] == 0  # it may still be under way
    clock.pass_(seconds=LEASE.total_seconds() - 1)
    assert tick(room)["sent"] == 0
    assert len(board.taken) == at_once
    clock.pass_(seconds=1)
    for _ in range(20):
        tick(room)
        clock.pass_(minutes=5)
    assert len(board.taken) == later


def test_a_tick_that_always_dies_does_not_storm(room: Room, board: Board, clock: Clock) -> None:
    spend(room.warehouse, 85)
    board.dies = "after"
    for _ in range(6 * 60 // 5):
        with suppress(Killed):
            tick(room)
        clock.pass_(minutes=5)
    assert 1 < len(board.taken) <= 12


def test_where_no_gateway_tells_what_it_sent_data_too_old_says_nothing(room: Room, board: Board, clock: Clock) -> None:
    spend(room.warehouse, 85)
    clock.pass_(days=1, seconds=1)
    assert tick(room)["stale"]
    assert board.taken == []
    spend(room.warehouse, 0.01, at=clock.now)
    tick(room)
    assert len(board.taken) == 1
    clock.pass_(days=3)
    assert tick(room)["sent"] == 0  # a quiet weekend with nothing to say is no fault


class Down:
    """A warehouse that is away."""

    def append(self, table: str, rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        raise WarehouseError("away")

    def replace(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        raise WarehouseError("away")

    def rewrite(self, table: str, view: str, column: str, days: Sequence[date]) -> None:
        raise WarehouseError("away")

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        raise WarehouseError("away")

    def apply_schema(self) -> None:
        raise WarehouseError("away")


def test_a_warehouse_that_is_away_says_nothing(room: Room, board: Board) -> None:
    with pytest.raises(WarehouseError):
        tick(replace(room, warehouse=Down()))
    assert board.taken == []


class LosesAnswers:
    """A registry that fails after every nth write, or before it."""

    def __init__(self, registry: Registry, fails: Iterator[str]) -> None:
        self._registry, self._fails = registry, fails

    def get(self, collection: str, id: str) -> Document | None:
        return self._registry.get(collection, id)

    def put(self, collection: str, id: str, fields: Mapping[str, Any], version: str | None = None) -> str:
        fails = next(self._fails)
        if fails == "before":
            raise RegistryError("away")
        written = self._registry.put(collection, id, fields, version)
        if fails == "after":
            raise RegistryError("no answer")
        return written

    def delete(self, collection: str, id: str, version: str = ANY) -> None:
        self._registry.delete(collection, id, version)

    def find(self, collection: str, **equal: Any) -> list[Document]:
        return self._registry.find(collection, **equal)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["", "", "before", "after"]), max_size=30), st.lists(st.booleans(), max_size=12))
def test_whatever_fails_each_message_is_sent_at_least_once_and_no_more_often_than_its_marks_were_lost(
    tmp_path_factory: pytest.TempPathFactory, fails: list[str], downs: list[bool]
) -> None:
    registry = open_registry(f"sqlite://{tmp_path_factory.mktemp('r')}/registry.db")
    clock, board = Clock(), Board()
    flaky = LosesAnswers(registry, iter(fails + [""] * 1000))
    deliveries = [Delivery(f"b{n}", "2026-11", 80, board, Message(f"b{n}", "", ())) for n in range(3)]
    for down in downs + [False] * 30:
        board.down = down
        outbox = Outbox(flaky, clock)
        with suppress(RegistryError):
            outbox.send(outbox.due(deliveries))
        clock.pass_(minutes=61)
    sent = Counter(message.subject for message in board.taken)
    assert set(sent) == {"b0", "b1", "b2"}
    assert sum(sent.values()) - 3 <= sum(fail != "" for fail in fails)
    assert all(document.fields["state"] == "sent" for document in registry.find(SENT))


class Overheard:
    """A warehouse whose questions are kept."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse, self.asked = warehouse, list[tuple[str, dict[str, Any]]]()

    def append(self, table: str, rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        return self._warehouse.append(table, rows)

    def replace(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self._warehouse.replace(table, rows)

    def rewrite(self, table: str, view: str, column: str, days: Sequence[date]) -> None:
        self._warehouse.rewrite(table, view, column, days)

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        self.asked.append((sql, dict(params or {})))
        return self._warehouse.query(sql, params)

    def apply_schema(self) -> None:
        self._warehouse.apply_schema()


def test_a_tick_asks_as_many_questions_for_one_budget_as_for_thirty_and_bigquery_would_accept_each(
    room: Room, tmp_path: Path
) -> None:
    overheard, again = Overheard(room.warehouse), Overheard(room.warehouse)
    tick(room)  # loads what there is to load
    tick(replace(room, warehouse=overheard))
    teams = "".join(f"p{n}@example.com,P,Team {n},engineer,2020-01-06,\n" for n in range(30))
    (tmp_path / "people.csv").write_text(PEOPLE + teams)
    more = "".join(f"  - {{scope: team, name: Team {n}, amount_usd: 1}}\n" for n in range(30))
    (tmp_path / "budgets.yaml").write_text(BUDGETS + more)
    tick(room)
    tick(replace(room, warehouse=again))
    google = Reference()
    for table in read_tables():
        google.add(table.name, [(field.name, field.type) for field in table.fields], [])
    for view in read_views():
        columns, _ = google.query(view.sql)
        google.add(view.name, columns, [])
    assert len(overheard.asked) == len(again.asked) < 16
    for sql, params in overheard.asked:
        google.analyse(sql, params)


# Models without a price


def mystery(warehouse: Warehouse, count: int, model: str = "mystery-1") -> None:
    """So many requests to a model that no book knows."""
    rows = [
        event_row(f"{model}-{n}", provider="openai", model=model, model_requested=model, occurred_at=NOON)
        for n in range(count)
    ]
    assert warehouse.append("events", rows) == {}


def test_a_model_the_book_lacks_is_told_once_and_not_with_every_request(room: Room, board: Board, clock: Clock) -> None:
    for more in range(1, 4):
        mystery(room.warehouse, 40 * more)
        tick(room)
        clock.pass_(minutes=5)
    clock.pass_(days=20)  # another month: nothing new about it
    tick(room)
    assert [message.subject for message in board.taken] == ["Tally: no price for openai/mystery-1"]
    assert board.taken[0].to == ("eve@example.com",)
    assert "40 calls so far are costed at the fallback price: $0.44" in board.taken[0].text
    (row,) = room.warehouse.query("SELECT model, price_source, calls, cost_usd FROM tally.unpriced_models")
    assert row == {"model": "mystery-1", "price_source": "fallback", "calls": 120, "cost_usd": Decimal("1.32")}
    mystery(room.warehouse, 1, "mystery-2")
    clock.pass_(hours=25)
    tick(room)
    assert len(board.taken) == 2


def test_a_tick_rolls_up_closes_the_month_before_and_posts_what_changes_later(room: Room, clock: Clock) -> None:
    spend(room.warehouse, 10, at=datetime(2026, 10, 20, 12, tzinfo=UTC))
    done = tick(room)
    assert (done["rolled_up"], done["closed"], done["adjustments"]) == (["2026-10-20"], ["2026-10-01"], 0)
    spend(room.warehouse, 5, at=datetime(2026, 10, 21, 12, tzinfo=UTC), received_at=NOON)
    clock.pass_(hours=25)  # all days are looked at once a day
    done = tick(room)
    assert (done["rolled_up"], done["closed"], done["adjustments"]) == (["2026-10-21"], [], 1)
    (row,) = room.warehouse.query("SELECT reason, cost_usd FROM tally.adjustment_ledger")
    assert row == {"reason": "late_event", "cost_usd": Decimal(5)}
    assert tick(room)["adjustments"] == 0


# Reference tables


def test_policy_and_prices_are_loaded_when_they_change_and_only_then(room: Room, tmp_path: Path) -> None:
    assert tick(room)["loaded"] == ["people", "prices", "budgets", "company"]
    assert tick(room)["loaded"] == []
    (tmp_path / "people.csv").write_text(PEOPLE.replace("Eve,Data", "Eve,Search"))
    assert tick(room)["loaded"] == ["people"]
    rows = room.warehouse.query("SELECT person, team FROM tally.people ORDER BY person")
    assert [(r["person"], r["team"]) for r in rows][2] == ("eve@example.com", "Search")
    room.warehouse.replace("prices", [])
    assert tick(room)["loaded"] == ["prices"]  # somebody emptied it
    assert room.warehouse.query("SELECT COUNT(*) AS n FROM tally.prices")[0]["n"] == 10
    assert room.registry.get(LOADED, "people")


def test_seats_and_cost_centres_are_loaded_and_so_is_what_the_company_pays(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the book itself
    (tmp_path / "teams.csv").write_text("team,cost_centre\nSearch,CC-1\n")
    (tmp_path / "seats.csv").write_text(
        "email,provider,plan,usd_per_month,from,to\nada@example.com,anthropic,Max,100,2026-01-01,\n"
    )
    discount = "discounts: [{provider: openai, model: gpt-4o, percent: 10, valid_from: 2026-01-01}]\n"
    (tmp_path / "prices.yaml").write_text(discount)
    assert tick(room)["loaded"] == ["people", "prices", "seats", "teams", "budgets", "company"]
    assert tick(room)["loaded"] == []
    (seat,) = room.warehouse.query("SELECT person, usd_per_month, valid_to FROM tally.seats")
    assert seat == {"person": "ada@example.com", "usd_per_month": 100, "valid_to": None}
    assert room.warehouse.query("SELECT * FROM tally.teams") == [{"team": "Search", "cost_centre": "CC-1"}]
    paid = (
        "SELECT usd_per_million AS usd FROM tally.prices WHERE price_list = 'contract' AND model = 'gpt-4o'"
        " AND token_kind = 'input' AND service_tier = 'standard'"
    )
    assert room.warehouse.query(paid) == [{"usd": Decimal("2.25")}]
    (tmp_path / "seats.csv").unlink()
    (tmp_path / "prices.yaml").write_text(discount.replace("10", "20"))
    assert tick(room)["loaded"] == ["prices", "seats"]
    assert room.warehouse.query(paid) == [{"usd": Decimal(2)}]


def test_a_load_that_failed_is_done_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as m:
        m.setattr(type(room.warehouse), "replace", Down.replace)
        with pytest.raises(WarehouseError):
            tick(room)
    assert tick(room)["loaded"] == ["people", "prices", "budgets", "company"]


def test_a_fault_in_the_policy_stops_the_tick_with_its_line(room: Room, board: Board, tmp_path: Path) -> None:
    spend(room.warehouse, 85)
    (tmp_path / "budgets.yaml").write_text(BUDGETS + "  - {scope: team, name: Sales, amount_usd: 1}\n")
    with pytest.raises(PolicyError, match=r"budgets\.yaml, line 5: nobody"):
        tick(room)
    assert board.taken == []


# As deployed

CANARY = "cAnArY-hook-91"


class Hook(ThreadingHTTPServer):
    """A Slack-compatible webhook."""

    daemon_threads = True

    def __init__(self) -> None:
        self.texts, self.status = list[str](), 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = json.loads(self.rfile.read(int(self.headers["content-length"])))["text"]
                if hook.status == 200:
                    hook.texts.append(text)
                self.send_response(hook.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    yield server
    server.shutdown()
    server.server_close()


class Box:
    """An SMTP server's side: whom each mail went to."""

    def __init__(self) -> None:
        self.to: list[list[str]] = []

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        self.to.append(list(envelope.rcpt_tos))
        return "250 OK"


def test_served_by_the_functions_framework_it_tells_slack_and_mail_and_keeps_the_webhook_to_itself(
    tmp_path: Path, hook: Hook
) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    (tmp_path / "budgets.yaml").write_text(BUDGETS)
    file, port, log = tmp_path / "warehouse.duckdb", free_port(), tmp_path / "log.txt"
    warehouse = open_warehouse(f"duckdb://{file}")
    warehouse.apply_schema()
    now = datetime.now(UTC)
    for _ in range(2):  # the real price book's fallback decides what this costs: far more than any budget here
        spend(warehouse, 10_000, at=now)
    del warehouse
    mail = Controller(Box(), hostname="127.0.0.1", port=free_port())
    mail.start()
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TALLY_WAREHOUSE": f"duckdb://{file}",
        "TALLY_REGISTRY": f"sqlite://{tmp_path}/registry.db",
        "TALLY_POLICY_DIR": str(tmp_path),
        "TALLY_SLACK_WEBHOOK_URL": f"http://127.0.0.1:{hook.server_address[1]}/services/{CANARY}",
        "TALLY_SMTP_URL": f"smtp://127.0.0.1:{mail.port}",
        "TALLY_DASHBOARD_URL": "https://tally.example.com",
        "TALLY_LOG_LEVEL": "DEBUG",
    }
    command = [str(Path(sys.executable).parent / "functions-framework"), "--source", "functions/alerts/main.py"]
    with log.open("w") as out:
        server = subprocess.Popen(
            [*command, "--target", "alerts", "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}/"
    try:
        eventually(lambda: _status(url) == 405, within_s=60)
        hook.status = 403
        first = requests.post(url, timeout=60)
        assert first.status_code == 200, first.text
        assert (first.json()["failed"], first.json()["sent"]) == (
            1,
            5,
        )  # company, Search and the unknown model, by mail alone
        hook.status = 200
        second = requests.post(url, timeout=60)
        assert second.json()["sent"] == 4
        assert requests.post(url, timeout=60).json()["sent"] == 0
        (tmp_path / "people.csv").write_text("nonsense")
        broken = requests.post(url, timeout=60)
        assert broken.status_code == 500
        assert "people.csv, line 1" in broken.text
    finally:
        server.terminate()
        server.wait(20)
        server_side = mail.server
        eventually(lambda: not (getattr(server_side, "_clients", ()) or getattr(server_side, "_active_count", 0)))
        mail.stop()
    assert len(hook.texts) == 4
    assert all("https://tally.example.com" in text for text in hook.texts)
    assert sorted(map(sorted, mail.handler.to)) == [
        ["ada@example.com", "eve@example.com"], ["ada@example.com", "eve@example.com"],
        ["eve@example.com"], ["eve@example.com"], ["eve@example.com"],
    ]  # fmt: skip
    written = log.read_text()
    assert "an alert was not delivered" in written
    assert CANARY not in written + first.text + second.text + broken.text
    assert CANARY not in "".join(p.read_bytes().decode(errors="replace") for p in tmp_path.glob("registry.db*"))


def _status(url: str) -> int:
    try:
        return requests.get(url, timeout=2).status_code
    except requests.ConnectionError:
        return 0


def test_trouble_is_a_503_so_that_the_tick_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: Hook
) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    (tmp_path / "budgets.yaml").write_text(BUDGETS)
    url = f"http://127.0.0.1:{free_port()}"
    for name, value in {
        "WAREHOUSE": url,
        "REGISTRY": f"sqlite://{tmp_path}/registry.db",
        "POLICY_DIR": str(tmp_path),
        "SLACK_WEBHOOK_URL": f"http://127.0.0.1:{hook.server_address[1]}/{CANARY}",
    }.items():
        monkeypatch.setenv(f"TALLY_{name}", value)
    handlers, level = list(logging.root.handlers), logging.root.level
    client = function_app("alerts").test_client()
    answer = client.post("/")
    logging.root.handlers[:], logging.root.level = handlers, level
    assert answer.status_code == 503
    assert "WarehouseError" in answer.text
    assert hook.texts == []


def test_a_wrong_address_stops_the_start_and_says_which_without_its_words(tmp_path: Path) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "TALLY_WAREHOUSE": "http://127.0.0.1:1",
        "TALLY_REGISTRY": f"sqlite://{tmp_path}/registry.db",
        "TALLY_SMTP_URL": f"mail://tally:{CANARY}@example.com",
    }
    done = subprocess.run(
        [sys.executable, "-c", "import functions.alerts.main"], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "TALLY_SMTP_URL" in done.stderr
    assert CANARY not in done.stderr


def test_the_day_of_a_message_is_the_day_of_the_tick(room: Room, board: Board, clock: Clock, tmp_path: Path) -> None:
    left = PEOPLE.replace("Ada,Search,lead,2020-01-06,", f"Ada,Search,lead,2020-01-06,{NOON.date()}")
    (tmp_path / "people.csv").write_text(left)
    spend(room.warehouse, 85)
    tick(room)
    assert board.taken[0].to == ("eve@example.com",)  # Ada left this morning
