"""What a provider says of our use stands in the warehouse whole, once, and as the provider says it now."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest

from functions.bills import anthropic_bill, openai_bill
from functions.bills.line import Days, Line, Malformed
from functions.bills.pager import Api, Refused, Unavailable
from functions.bills.reading import Bill, Room, read_bills
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.settings import BillsSettings, SettingsError, load
from governance.warehouse import WarehouseError
from local.billing import ADMIN_KEY
from local.wire.turn import Terms, Tokens
from tests.billing import Provider, Time, charge, day_before, provider
from tests.conftest import free_port, function_app

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TOKENS = Tokens(1000, 20_000, 3000, 400, 500, 100)
CANARY = "sk-cAnArY-0815"


@pytest.fixture(scope="module")
def tables() -> Iterator[DuckDBWarehouse]:
    made = DuckDBWarehouse(":memory:")
    made.apply_schema()
    yield made
    made.close()


@pytest.fixture
def warehouse(tables: DuckDBWarehouse) -> DuckDBWarehouse:
    tables.replace("bills", [])
    tables.replace("gateway_keys", [])
    return tables


@pytest.fixture
def simulated() -> Iterator[Provider]:
    with provider(NOW) as made:
        yield made


def room_of(warehouse: DuckDBWarehouse, simulated: Provider, *bills: Bill, days: int = 35) -> Room:
    return Room(warehouse, bills or (simulated.bill("openai"), simulated.bill("anthropic")), days, simulated.time)


def fill(simulated: Provider) -> dict[str, Decimal]:
    """A request of each sort on each of forty days; provider -> what the last 35 days and today cost."""
    total = {"openai": Decimal(0), "anthropic": Decimal(0)}
    number = 0
    for days in range(40, -1, -1):
        for model in ("opus", "haiku", "gpt", "gpt-small", "embed"):
            for project in ("gateway", "other"):
                number += 1
                tokens = Tokens(700 + number) if model == "embed" else replace(TOKENS, input_tokens=900 + number)
                if number % 7 == 0 and model != "embed":
                    tokens = replace(tokens, input_tokens=300_000)
                who = "openai" if model in ("gpt", "gpt-small", "embed") else "anthropic"
                terms = Terms(
                    service_tier="flex" if number % 5 == 0 else "standard",
                    residency="us" if number % 3 == 0 and who == "anthropic" else "",
                    web_searches=2 if model in ("opus", "gpt") else 0,
                )
                at = day_before(NOW, days) + timedelta(hours=9, seconds=number)
                cost = charge(simulated.ledger, number, at, model, tokens, project, terms)
                total[who] += cost if days <= 35 else 0
    return total


def test_all_pages_of_all_days_add_up_to_the_bill_to_the_last_digit(
    warehouse: DuckDBWarehouse, simulated: Provider
) -> None:
    total = fill(simulated)
    done = read_bills(room_of(warehouse, simulated))
    assert (done.later, done.wrong) == ({}, {})
    assert {who: read["days"] for who, read in done.read.items()} == {"openai": 36, "anthropic": 36}
    sums = warehouse.query("SELECT provider, SUM(amount_usd) AS usd FROM tally.provider_bill GROUP BY provider")
    assert {row["provider"]: row["usd"] for row in sums} == total
    assert simulated.time.waited_s, "the simulator asked nobody to wait"


def test_tokens_stand_apart_by_kind_key_project_and_tier(warehouse: DuckDBWarehouse, simulated: Provider) -> None:
    at = NOW - timedelta(days=1)
    charge(simulated.ledger, 1, at, "gpt", TOKENS, terms=Terms(service_tier="flex"))
    charge(simulated.ledger, 2, at, "opus", TOKENS, terms=Terms(web_searches=3))
    read_bills(room_of(warehouse, simulated))
    kinds = "SELECT * FROM tally.provider_bill WHERE report = 'usage' AND provider = @provider"
    of_openai = warehouse.query(kinds, {"provider": "openai"})
    assert {row["token_kind"]: row["quantity"] for row in of_openai} == {
        "input": 1000,
        "cache_read": 20_000,
        "cache_write_5m": 3400,  # OpenAI knows one kind of writing
        "output": 500,
        "requests": 1,
    }
    assert {(row["api_key_id"], row["project"], row["service_tier"], row["model"]) for row in of_openai} == {
        ("key_gateway", "proj_gateway", "flex", "gpt")
    }
    of_anthropic = warehouse.query(kinds, {"provider": "anthropic"})
    assert {row["token_kind"]: row["quantity"] for row in of_anthropic} == {
        "input": 1000,
        "cache_read": 20_000,
        "cache_write_5m": 3000,
        "cache_write_1h": 400,
        "output": 500,
        "web_search": 3,
    }
    assert {(row["project"], row["service_tier"]) for row in of_anthropic} == {("wrkspc_gateway", "standard")}


def test_reading_again_stores_nothing_where_nothing_changed(warehouse: DuckDBWarehouse, simulated: Provider) -> None:
    fill(simulated)
    room = room_of(warehouse, simulated)
    read_bills(room)
    before = warehouse.query("SELECT COUNT(*) AS lines FROM tally.bills")
    again = read_bills(room)
    assert [read["changed"] for read in again.read.values()] == [[], []]
    assert warehouse.query("SELECT COUNT(*) AS lines FROM tally.bills") == before


def test_a_day_that_grows_is_stored_again_whole_and_counts_once(
    warehouse: DuckDBWarehouse, simulated: Provider
) -> None:
    yesterday = day_before(NOW, 1)
    total = sum(
        charge(simulated.ledger, n, yesterday + timedelta(hours=1, seconds=n), "opus", TOKENS) for n in range(99)
    )
    room = room_of(warehouse, simulated)
    simulated.time.now = day_before(NOW, 0) + timedelta(minutes=30)  # some of yesterday is not told yet
    read_bills(room)
    simulated.time.now = NOW
    later = read_bills(room)
    assert later.read["anthropic"]["changed"] == [str(yesterday.date())]
    (now,) = warehouse.query("SELECT SUM(amount_usd) AS usd FROM tally.provider_bill")
    assert now["usd"] == total
    (revised,) = warehouse.query("SELECT * FROM tally.bill_revisions")
    assert (revised["provider"], revised["day"], revised["readings"]) == ("anthropic", yesterday.date(), 2)
    assert revised["now_usd"] == total == revised["first_usd"] + revised["revised_usd"]
    assert 0 < revised["revised_usd"] < total / 4


class Scripted(ThreadingHTTPServer):
    """An API that answers as it is told: one answer after the other, the last for ever."""

    daemon_threads = True

    def __init__(self, *answers: tuple[int, dict[str, str], str]) -> None:
        self.answers, self.asked = list(answers), []  # type: ignore[var-annotated]
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                script.asked.append((self.path, dict(self.headers)))
                status, headers, body = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body.encode()))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@contextmanager
def scripted(*answers: tuple[int, dict[str, str], str]) -> Iterator[Scripted]:
    server = Scripted(*answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def page(*buckets: dict[str, Any], following: str | None = None) -> tuple[int, dict[str, str], str]:
    return 200, {}, json.dumps({"data": buckets, "has_more": following is not None, "next_page": following})


def api_of(server: Scripted, time: Time, deadline_s: float = 240, key: str = CANARY) -> Api:
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    return Api(url, {"x-api-key": key}, time.monotonic, time.sleep, deadline_s)


def test_a_busy_or_broken_provider_is_asked_again_after_the_time_it_names() -> None:
    time = Time(NOW)
    broken: list[tuple[int, dict[str, str], str]] = [
        (429, {"retry-after": "7"}, ""),
        (503, {}, "down"),
        (529, {"retry-after": "soon"}, ""),
    ]
    with scripted(*broken, page({"n": 1})) as server:
        assert list(api_of(server, time).buckets("/p", [])) == [{"n": 1}]
    assert time.waited_s == [7.0, 2.0, 4.0]


@pytest.mark.parametrize(("wait", "deadline_s"), [("61", 240.0), ("30", 20.0), ("1", 20.0)])
def test_waiting_has_an_end(wait: str, deadline_s: float) -> None:
    time = Time(NOW)
    with scripted((429, {"retry-after": wait}, "")) as server, pytest.raises(Unavailable, match="answered 429"):
        list(api_of(server, time, deadline_s).buckets("/p", []))
    assert time.monotonic() <= deadline_s


def test_nobody_there_is_unavailable_and_a_wrong_key_is_refused_without_telling_it(simulated: Provider) -> None:
    time = Time(NOW)
    with pytest.raises(Unavailable) as gone:
        list(
            Api(f"http://127.0.0.1:{free_port()}", {"x-api-key": CANARY}, time.monotonic, time.sleep, 9).buckets(
                "/p", []
            )
        )
    with pytest.raises(Refused, match="answered 401") as refused:
        simulated.bill("anthropic", CANARY).read(NOW.date(), NOW.date())
    with scripted((302, {"location": "http://127.0.0.1:1/"}, "")) as server, pytest.raises(Refused, match="302"):
        list(api_of(server, time).buckets("/p", []))
    assert CANARY not in str(gone.value) + str(refused.value)


def test_the_documented_questions_are_asked(simulated: Provider) -> None:
    with scripted(page()) as server:
        anthropic_bill.read(api_of(server, Time(NOW)), date(2026, 11, 1), date(2026, 11, 20))
        openai_bill.read(api_of(server, Time(NOW)), date(2026, 11, 1), date(2026, 11, 20))
    assert [path.replace("%5B%5D", "[]").replace("%3A", ":") for path, _ in server.asked] == [
        "/v1/organizations/cost_report?starting_at=2026-11-01T00:00:00Z&ending_at=2026-11-21T00:00:00Z"
        "&bucket_width=1d&limit=20&group_by[]=workspace_id&group_by[]=description",
        "/v1/organizations/usage_report/messages?starting_at=2026-11-01T00:00:00Z&ending_at=2026-11-21T00:00:00Z"
        "&bucket_width=1d&limit=20&group_by[]=model&group_by[]=api_key_id&group_by[]=workspace_id&group_by[]=service_tier",
        "/v1/organization/costs?start_time=1793491200&end_time=1795219200"
        "&bucket_width=1d&limit=20&group_by[]=line_item&group_by[]=project_id&group_by[]=api_key_id",
        "/v1/organization/usage/completions?start_time=1793491200&end_time=1795219200&bucket_width=1d&limit=20"
        "&group_by[]=model&group_by[]=project_id&group_by[]=api_key_id&group_by[]=service_tier&group_by[]=batch",
        "/v1/organization/usage/embeddings?start_time=1793491200&end_time=1795219200&bucket_width=1d&limit=20"
        "&group_by[]=model&group_by[]=project_id&group_by[]=api_key_id",
    ]


DAY = {"starting_at": "2026-11-20T00:00:00Z", "ending_at": "2026-11-21T00:00:00Z"}
COST = {"amount": "1.5", "currency": "USD", "cost_type": "tokens"}


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "[]",
        "{}",
        '{"data": {}}',
        '{"data": [1]}',
        json.dumps({"data": [], "has_more": True}),
        json.dumps({"data": [], "has_more": True, "next_page": 7}),
        json.dumps({"data": [DAY]}),
        json.dumps({"data": [{**DAY, "results": [3]}]}),
        json.dumps({"data": [{**DAY, "results": []}, {**DAY, "results": []}]}),
        json.dumps({"data": [{"starting_at": "2026-11-20T01:00:00Z", "results": []}]}),
        json.dumps({"data": [{"starting_at": "2026-10-02T00:00:00Z", "results": []}]}),
        json.dumps({"data": [{"starting_at": None, "results": []}]}),
        json.dumps({"data": [{**DAY, "results": [{**COST, "amount": "much"}]}]}),
        json.dumps({"data": [{**DAY, "results": [{**COST, "amount": "NaN"}]}]}),
        json.dumps({"data": [{**DAY, "results": [{**COST, "amount": "1e99"}]}]}),
        json.dumps({"data": [{**DAY, "results": [{**COST, "currency": "EUR"}]}]}),
        json.dumps({"data": [{**DAY, "results": [{**COST, "model": ["opus"]}]}]}),
        json.dumps({"data": [{**DAY, "results": []}]}).replace("[]", '[{"amount": NaN}]'),
    ],
)
def test_an_answer_that_is_not_as_documented_is_reported_and_nothing_of_it_stored(
    warehouse: DuckDBWarehouse, simulated: Provider, body: str
) -> None:
    good = page({**DAY, "results": [COST]})
    with scripted(good if "results" not in body else (200, {}, body), (200, {}, body)) as server:
        api = api_of(server, Time(NOW))
        bill = Bill("anthropic", lambda first, last: anthropic_bill.read(api, first, last))
        done = read_bills(room_of(warehouse, simulated, bill, days=2))
    assert list(done.wrong) == ["anthropic"]
    assert warehouse.query("SELECT * FROM tally.bills") == []


@pytest.mark.parametrize(
    "row",
    [
        {"input_tokens": -1},
        {"input_tokens": 1.5},
        {"input_tokens": "7"},
        {"input_tokens": 10**30},
        {"input_tokens": 5, "input_cached_tokens": 6},
    ],
)
def test_impossible_counts_are_malformed(row: dict[str, Any]) -> None:
    bucket = {"start_time": 1795132800, "end_time": 1795219200}
    pages = page({**bucket, "results": []}), page({**bucket, "results": [row]})
    with scripted(*pages) as server, pytest.raises(Malformed):
        openai_bill.read(api_of(server, Time(NOW)), NOW.date(), NOW.date())


@pytest.mark.parametrize(
    ("item", "model", "tier", "kind"),
    [
        ("gpt-5.4-2026-03-05, input", "gpt-5.4-2026-03-05", "standard", "input"),
        ("gpt-5.4-2026-03-05, cached input", "gpt-5.4-2026-03-05", "standard", "cache_read"),
        ("gpt-5.6-sol, cache writes", "gpt-5.6-sol", "standard", "cache_write_5m"),
        ("priority | gpt-5.6-sol, output, long context", "gpt-5.6-sol", "priority", "output"),
        ("gpt-audio-mini-2025-12-15 audio, input", "gpt-audio-mini-2025-12-15", "standard", "input"),
        ("web search tool calls", None, None, "web_search"),
        ("assistants api | file search", None, None, None),
        ("evals | gpt-4o-mini, input", None, None, None),
        ("whisper-1, audio", None, None, None),
        (None, None, None, None),
    ],
)
def test_openais_line_items_are_understood_or_kept_in_openais_words(
    item: str | None, model: str | None, tier: str | None, kind: str | None
) -> None:
    row = json.dumps({"line_item": item, "amount": {"value": 4711, "currency": "usd"}})
    exact = row.replace("4711", "0.123456789012345678")  # more digits than a float has
    body = f'{{"data": [{{"start_time": 1795132800, "end_time": 1795219200, "results": [{exact}]}}]}}'
    with scripted((200, {}, body), page()) as server:
        days = openai_bill.read(api_of(server, Time(NOW)), NOW.date(), NOW.date())
    assert days["cost", NOW.date()] == [
        Line(model, None, None, tier, kind, None, Decimal("0.123456789012345678"), item)
    ]


def test_a_provider_that_fails_does_not_keep_the_others_from_being_read(
    warehouse: DuckDBWarehouse, simulated: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    charge(simulated.ledger, 1, NOW - timedelta(days=1), "opus", TOKENS)
    caplog.set_level(logging.DEBUG)
    wrong, right = simulated.bill("openai", CANARY), simulated.bill("anthropic")
    done = read_bills(room_of(warehouse, simulated, wrong, right))
    assert list(done.wrong) == ["openai"]
    assert done.read["anthropic"]["changed"] == [str(NOW.date() - timedelta(days=1))]
    said = caplog.text + str(done) + str([record.__dict__ for record in caplog.records])
    assert CANARY not in said
    assert ADMIN_KEY not in said


def test_a_day_that_the_provider_takes_back_is_empty_from_then_on(
    warehouse: DuckDBWarehouse, simulated: Provider
) -> None:
    day = NOW.date() - timedelta(days=3)
    said: list[Days] = [
        {("cost", day): [Line(model="opus", amount_usd=Decimal(5))], ("usage", day): [Line(model="opus", quantity=7)]},
        {("cost", day): [], ("usage", day): []},
        {("cost", day): [], ("usage", day): []},
    ]
    room = room_of(warehouse, simulated, Bill("anthropic", lambda *_: said.pop(0)))
    changes = []
    for _ in range(3):
        changes.append(read_bills(room).read["anthropic"]["lines"])
        simulated.time.now += timedelta(hours=1)
    assert changes == [2, 2, 0]
    (now,) = warehouse.query("SELECT SUM(amount_usd) AS usd, SUM(quantity) AS tokens FROM tally.provider_bill")
    assert (now["usd"], now["tokens"]) == (0, 0)


def test_a_day_is_stored_in_one_piece_or_the_reading_fails(warehouse: DuckDBWarehouse, simulated: Provider) -> None:
    day = NOW.date() - timedelta(days=3)
    lines = [Line(model="opus", amount_usd=Decimal(5)), Line(model="opus", amount_usd=Decimal(6))]

    class Counting:
        """A warehouse that notes what it is given at once, and refuses when told to."""

        def __init__(self) -> None:
            self.given: list[int] = []
            self.refused: dict[int, str] = {}

        def append(self, table: str, rows: Any) -> dict[int, str]:
            self.given.append(len(rows))
            return self.refused or warehouse.append(table, rows)

        def __getattr__(self, name: str) -> Any:
            return getattr(warehouse, name)

    counting = Counting()
    bill = Bill("anthropic", lambda *_: {("cost", day): lines, ("usage", day): [Line(model="opus", quantity=1)]})
    room = replace(room_of(warehouse, simulated, bill), warehouse=counting)
    read_bills(room)
    assert counting.given == [3]
    counting.refused = {0: "amount_usd: not BIGNUMERIC"}
    lines.append(Line(model="opus", amount_usd=Decimal(7)))
    with pytest.raises(WarehouseError, match="amount_usd"):
        read_bills(room)


def test_what_is_the_gateways_own_follows_the_settings(warehouse: DuckDBWarehouse, simulated: Provider) -> None:
    def keys() -> list[tuple[str, str]]:
        return sorted((row["provider"], row["id"]) for row in warehouse.query("SELECT * FROM tally.gateway_keys"))

    read_bills(room_of(warehouse, simulated, simulated.bill("openai", gateway=("proj_a", "key_b"))))
    assert keys() == [("openai", "key_b"), ("openai", "proj_a")]
    read_bills(room_of(warehouse, simulated, simulated.bill("anthropic", gateway=("default",))))
    assert keys() == [("anthropic", "default")]


async def test_openais_own_sdk_reads_the_simulators_reports(simulated: Provider) -> None:
    cost = charge(simulated.ledger, 1, NOW - timedelta(days=1), "gpt", TOKENS)
    client = openai.AsyncOpenAI(base_url=f"{simulated.url}/v1", admin_api_key=ADMIN_KEY, max_retries=0)
    begin = int(day_before(NOW, 1).timestamp())
    async with client:
        costs = await client.admin.organization.usage.costs(start_time=begin, limit=1, group_by=["line_item"])
        usage = await client.admin.organization.usage.completions(start_time=begin, limit=1, group_by=["model"])
    lines: list[Any] = list(costs.data[0].results)
    assert {line.line_item for line in lines} == {"gpt, input", "gpt, cached input", "gpt, cache writes", "gpt, output"}
    assert sum(line.amount.value for line in lines) == pytest.approx(float(cost), rel=1e-12)
    assert {line.project_id for line in lines} == {None}
    (used,) = usage.data[0].results
    assert (used.model, used.input_tokens, used.input_cached_tokens) == ("gpt", 24_400, 20_000)  # type: ignore[union-attr]
    assert costs.has_more
    assert costs.next_page


@pytest.fixture
def client(simulated: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """The function as functions-framework serves it."""
    handlers, level = list(logging.root.handlers), logging.root.level

    def make(key: str = ADMIN_KEY) -> Any:
        for name, value in {
            "WAREHOUSE": f"duckdb://{tmp_path}/bills.duckdb",
            "ANTHROPIC_ADMIN_KEY": key,
            "ANTHROPIC_ADMIN_URL": simulated.url,
            "ANTHROPIC_GATEWAY": "wrkspc_gateway",
        }.items():
            monkeypatch.setenv(f"TALLY_{name}", value)
        return function_app("bills").test_client()

    yield make
    logging.root.handlers[:], logging.root.level = handlers, level
    if "main" in sys.modules:
        sys.modules["main"].room.warehouse.close()


def test_the_function_reads_on_a_post(client: Callable[..., Any], simulated: Provider) -> None:
    served = client()
    assert served.get("/").status_code == 405
    assert served.post("/").status_code == 503  # there are no tables yet
    sys.modules["main"].room.warehouse.apply_schema()
    answer = served.post("/")
    assert answer.status_code == 200
    assert answer.json["read"]["anthropic"]["days"] == 36


def test_the_function_says_that_a_key_is_wrong_and_not_which(
    client: Callable[..., Any], simulated: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    served = client(CANARY)
    sys.modules["main"].room.warehouse.apply_schema()
    answer = served.post("/")
    assert answer.status_code == 500
    assert answer.json["wrong"] == {"anthropic": "/v1/organizations/cost_report: answered 401"}
    told = capfd.readouterr()
    assert CANARY not in answer.text + told.out + told.err


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({}, "TALLY_OPENAI_ADMIN_KEY or TALLY_ANTHROPIC_ADMIN_KEY"),
        ({"ANTHROPIC_ADMIN_KEY": CANARY, "ANTHROPIC_GATEWAY": "apikey_01"}, "names no keys"),
    ],
)
def test_settings_that_cannot_work_stop_the_start(
    given: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"WAREHOUSE": "duckdb://:memory:", **given}.items():
        monkeypatch.setenv(f"TALLY_{name}", value)
    with pytest.raises(SettingsError, match=fault) as caught:
        load(BillsSettings)
    assert CANARY not in str(caught.value)
