"""The dashboard: what each page states, to whom, and what it says when there is nothing, too little or no answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import jwt
import pytest
import streamlit as st
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from streamlit.testing.v1 import AppTest

from governance import exports
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.policy import Budget
from governance.settings import DashboardSettings
from streamlit_app import books, door, figures, identity, queries, states, tables, tiles, wording
from tests import dashboard_company as company
from tests.conftest import ROOT, free_port
from tests.warehouse_rows import store

SHELL = ROOT / "streamlit_app" / "pages" / "shell.py"
NOW = datetime(2026, 11, 23, 14, 5, tzinfo=UTC)  # a Monday, late in a month
AUDIENCE = "/projects/1/locations/europe-west1/services/tally-dashboard"
Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "filled.duckdb"
    warehouse = DuckDBWarehouse(str(path))
    company.fill(warehouse, NOW)
    warehouse.close()
    return path


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, datetime]:
    """A warehouse with something wrong in it, and when it was filled: the checks look back from the moment they run."""
    path, now = tmp_path_factory.mktemp("troubled") / "troubled.duckdb", datetime.now(UTC)
    warehouse = DuckDBWarehouse(str(path))
    company.fill(warehouse, now)
    company.trouble(warehouse, now)
    warehouse.close()
    return path, now


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    company.write_policy(folder)
    return folder


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch, filled: Path, policy: Path) -> Iterator[Open]:
    """The page as somebody sees it: `viewer` on a laptop, or whoever the headers in `user` prove in the cloud."""

    def open_(
        page: str = "overview",
        query: Mapping[str, str] | None = None,
        *,
        viewer: str = company.ADA,
        user: Mapping[str, str] | None = None,
        now: datetime = NOW,
        warehouse: Path | str = filled,
        policy_dir: Path = policy,
    ) -> AppTest:
        monkeypatch.setenv("TALLY_WAREHOUSE", warehouse if isinstance(warehouse, str) else f"duckdb://{warehouse}")
        monkeypatch.setenv("TALLY_POLICY_DIR", str(policy_dir))
        monkeypatch.setenv("TALLY_PROXY_URL", "http://127.0.0.1:4000")
        monkeypatch.setattr(states, "now", lambda: now)
        identity.settings.clear()
        queries.warehouse.clear()
        if user is None:
            monkeypatch.delenv("TALLY_IAP_AUDIENCE", raising=False)
            monkeypatch.setenv("TALLY_VIEWER", viewer)
        else:
            monkeypatch.delenv("TALLY_VIEWER", raising=False)
            monkeypatch.setenv("TALLY_IAP_AUDIENCE", AUDIENCE)
        at = AppTest.from_file(str(SHELL), default_timeout=60)
        at.user = dict(user or {})
        at.query_params.update(query or {})
        at.run()
        if page != "overview" and not at.error:
            at.switch_page(f"{page}.py")
            at.query_params.update(query or {})
            at.run()
        return at

    forget()
    yield open_
    forget()


def forget() -> None:
    """As a process that has just started."""
    st.cache_data.clear()
    st.cache_resource.clear()


def text_of(at: AppTest) -> str:
    """Everything a page says, tables and tiles included."""
    words = [
        str(element.value)
        for kind in ("title", "subheader", "caption", "markdown", "info", "warning", "error", "code")
        for element in getattr(at, kind)
    ]
    words += [f"{tile.label} {tile.value} {tile.delta}" for tile in at.metric]
    words += [frame.value.to_string() for frame in at.dataframe]
    words += [str(json.loads(chart.proto.spec)) for chart in at.get("vega_lite_chart")]
    return "\n".join(words)


def tile(at: AppTest, label: str) -> Any:
    return next(metric for metric in at.metric if metric.label == label)


def chosen(at: AppTest) -> Any:
    control: Any = at.get_by_key("period")
    return control.value


def table(at: AppTest, column: str) -> Any:
    return next(frame.value for frame in at.dataframe if column in frame.value.columns)


def cost_of(event: Any) -> Decimal:
    """A second opinion on the price of an event."""
    prices = [Decimal(price) for price in company.MODELS[event.model][2]]
    counts = (event.input_tokens, event.cache_read_tokens, event.cache_write_5m_tokens, event.output_tokens)
    return sum((n * price for n, price in zip(counts, prices, strict=True)), Decimal(0)) / 10**6


# --- Overview ---------------------------------------------------------------------------------------------------------


def test_overview_states_what_the_events_cost(open_page: Open) -> None:
    at = open_page()
    assert not at.exception
    assert [metric.label for metric in at.metric] == [
        "Spend",
        "Month-end forecast",
        "Weekly active people",
        "Cost per active person",
        "Served from cache",
    ]
    since = NOW.date() - timedelta(days=27)
    spent = sum(cost_of(event) for event in company.events(NOW) if event.occurred_at.date() >= since)
    assert tile(at, "Spend").value == wording.usd(spent)
    assert len(at.get("vega_lite_chart")) == 3
    assert at.caption[0].value.startswith("Data through Mon 23 Nov, 14:04 UTC")
    assert not at.warning


def test_the_teams_table_adds_up_to_the_month(open_page: Open) -> None:
    at = open_page()
    month = sum(cost_of(event) for event in company.events(NOW) if event.occurred_at.date() >= date(2026, 11, 1))
    teams = table(at, "budget")
    assert teams["spent"].sum() == pytest.approx(float(month), rel=1e-9)
    assert teams["spent"].is_monotonic_decreasing
    assert dict(zip(teams["team"], teams["people"], strict=True)) == {
        "Platform": 12,
        "Payments": 9,
        "Search": 8,
        "Mobile": 6,
        "Small teams": 8,
    }
    assert teams.set_index("team").loc["Small teams", "budget"] == 500 + 700
    assert teams.set_index("team").loc["Mobile", "status"] == ["✕ Over"]


def test_a_passed_budget_gets_attention_and_only_that(open_page: Open) -> None:
    said = [
        markdown.value
        for markdown in open_page().markdown
        if "badge" in markdown.value and "Local" not in markdown.value
    ]
    spent, on = Decimal(0), None
    for event in sorted(company.events(NOW), key=lambda event: event.occurred_at):
        if event.team == "Mobile" and event.occurred_at.date() >= date(2026, 11, 1) and on is None:
            spent += cost_of(event)
            on = event.occurred_at.date() if spent >= company.BUDGETS["Mobile"] else None
    assert on is not None
    assert said == [f":red-badge[:material/error: Over] **Mobile** reached its \\$90 budget on {wording.day(on)}."]


def test_a_team_under_five_is_named_nowhere(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    for team in (None, "Small teams", "Research"):
        for period in ("7 days", "90 days"):
            said = text_of(open_page(query={"period": period} | ({"team": team} if team else {})))
            assert "Small teams" in said
            assert "Research" not in said
            assert "Design" not in said
            assert "@" not in said.replace("platform.0", "").replace("@\u200b", "").replace("\\@", "")


def test_filters_come_from_the_address_and_nonsense_is_dropped(open_page: Open) -> None:
    at = open_page(query={"team": "Search", "period": "7 days"})
    assert (at.selectbox(key="team").value, chosen(at)) == ("Search", "7 days")
    assert [metric.label for metric in at.metric][3] == "Cost per person"
    assert tile(at, "Month-end forecast").delta.endswith("of $2,200")
    at = open_page(query={"team": "Nobody", "period": "1000 days"})
    assert (at.selectbox(key="team").value, chosen(at)) == ("All teams", "28 days")


def test_no_change_is_told_of_a_period_that_is_not_wholly_there(open_page: Open) -> None:
    assert tile(open_page(query={"period": "90 days"}), "Spend").delta == tiles.NO_COMPARISON
    assert tile(open_page(query={"period": "28 days"}), "Spend").delta.endswith("%")


def test_a_model_keeps_its_colour_under_every_filter(open_page: Open) -> None:
    domains = set()
    for team in ("All teams", "Mobile"):
        spec = json.loads(open_page(query={"team": team, "period": "7 days"}).get("vega_lite_chart")[0].proto.spec)
        domains.add(tuple(spec["encoding"]["color"]["scale"]["domain"]))
    assert len(domains) == 1


def test_a_fault_in_the_policy_is_told_and_the_page_still_drawn(open_page: Open, tmp_path: Path) -> None:
    company.write_policy(tmp_path)
    (tmp_path / "budgets.yaml").write_text("budgets:\n  - {scope: team, name: Platform, amount_usd: lots}\n")
    at = open_page(policy_dir=tmp_path)
    assert not at.exception
    assert "budgets.yaml, line 2" in at.warning[0].value
    assert tile(at, "Month-end forecast").delta in (None, "")


# --- States -----------------------------------------------------------------------------------------------------------


PAGES = ["overview", "statements", "my_usage", "data_health"]


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_company_is_told_what_to_do(open_page: Open, tmp_path: Path, page: str) -> None:
    warehouse = DuckDBWarehouse(str(tmp_path / "empty.duckdb"))
    warehouse.apply_schema()
    warehouse.close()
    at = open_page(page, warehouse=tmp_path / "empty.duckdb")
    assert not at.exception
    assert "No requests yet" in [heading.value for heading in at.subheader]
    assert "ANTHROPIC_BASE_URL=http://127.0.0.1:4000" in at.code[0].value
    assert not at.metric


@pytest.mark.parametrize("page", PAGES)
def test_a_silent_warehouse_is_told_once_and_retried(
    open_page: Open, filled: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    at = open_page(page, warehouse=f"http://127.0.0.1:{free_port()}")
    assert not at.exception
    assert [markdown.value for markdown in at.markdown if "does not answer since" in markdown.value]
    assert len(at.button) == 1
    assert not at.metric
    back = DuckDBWarehouse(str(filled))
    monkeypatch.setattr(queries, "warehouse", lambda: back)
    at.button[0].click().run()
    assert at.metric
    assert queries.outage().since is None
    back.close()


@pytest.mark.parametrize("page", ["overview", "my_usage"])
def test_late_data_is_called_late(open_page: Open, page: str) -> None:
    at = open_page(page, now=NOW + timedelta(hours=3))
    assert "Nothing new for 3\u00a0hours" in at.warning[0].value
    assert "Data through Mon 23 Nov, 14:04 UTC" in text_of(at)
    assert at.metric


def test_a_company_of_three_shows_no_teams(open_page: Open, tmp_path: Path) -> None:
    warehouse = DuckDBWarehouse(str(tmp_path / "three.duckdb"))
    warehouse.apply_schema()
    three = [
        {
            "person": f"{n}@example.com",
            "name": n,
            "team": "Core",
            "role": "developer",
            "joined_on": date(2026, 1, 1),
            "left_on": None,
        }
        for n in "abc"
    ]
    warehouse.replace("people", three)
    first = company.one("first-one", email="a@example.com", team="Core", at=NOW)
    store(warehouse, [first.row() | {"received_at": NOW}])
    warehouse.close()
    at = open_page(warehouse=tmp_path / "three.duckdb")
    assert not at.exception
    assert at.selectbox(key="team").options == ["All teams"]
    assert tile(at, "Weekly active people").value == wording.NOTHING
    assert "from five people up" in text_of(at)


# --- My usage ---------------------------------------------------------------------------------------------------------


def test_my_usage_states_my_own_rows(open_page: Open) -> None:
    at = open_page("my_usage", viewer=company.ADA)
    assert not at.exception
    mine = [event for event in company.events(NOW) if event.person == company.ADA]
    month = sum(cost_of(event) for event in mine if event.occurred_at.date() >= date(2026, 11, 1))
    assert tile(at, "This month").value == wording.usd(month)
    assert tile(at, "Requests").value == str(sum(event.occurred_at.date() >= date(2026, 10, 27) for event in mine))
    assert "Only you see this" in text_of(at)
    newest = table(at, "session").iloc[0]
    assert (newest["tool"], newest["model"], newest["cost"]) == ("claude-code 2.1.197", "claude-sonnet-5", "$0.0081")


def test_bob_never_sees_adas_rows_though_she_looked_first(open_page: Open) -> None:
    keys = {email: company.one("any-event", email=email, at=NOW).key_id for email in (company.ADA, company.BOB)}
    first = open_page("my_usage", viewer=company.ADA)
    second = open_page("my_usage", viewer=company.BOB)
    shown = [str(table(at, "session")) + str(table(at, "key")) for at in (first, second)]
    assert str(keys[company.ADA])[-6:] in shown[0]
    assert str(keys[company.ADA])[-6:] not in shown[1]
    assert str(keys[company.BOB])[-6:] in shown[1]
    mine = [event for event in company.events(NOW) if event.person == company.BOB]
    month = sum(cost_of(event) for event in mine if event.occurred_at.date() >= date(2026, 11, 1))
    assert tile(second, "This month").value == wording.usd(month)


def test_no_address_chooses_whose_rows_are_read(open_page: Open) -> None:
    plain = text_of(open_page("my_usage", viewer=company.BOB))
    for name in ("person", "email", "user", "viewer", "key"):
        assert text_of(open_page("my_usage", {name: company.ADA}, viewer=company.BOB)) == plain


def test_every_personal_statement_names_the_person_and_no_shared_one_does() -> None:
    statements = {
        name: sql for name, sql in vars(queries).items() if name.isupper() and isinstance(sql, str) and "FROM" in sql
    }
    personal = {name for name, sql in statements.items() if "person_" in sql or "seat_" in sql}
    assert personal == {"MY_DAILY", "MY_REQUESTS", "MY_SEATS"}
    for name, sql in statements.items():
        assert ("WHERE person = @person AND" in sql) == (name in personal), name
        assert not re.search(r"tally\.(daily_cost|team_|chargeback|monthly_cost)(?!groups)", sql)  # by team, unfolded


def test_a_request_just_made_is_in_the_table(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "live.duckdb"
    filling = DuckDBWarehouse(str(path))
    company.fill(filling, NOW)
    filling.close()
    at = open_page("my_usage", warehouse=path)
    before = table(at, "session")
    new = company.one("just-now", email=company.ADA, at=NOW, model="claude-opus-5-5", usage_source="counted")
    queries.warehouse().append("events", [new.row() | {"received_at": NOW}])
    at.run()
    after = table(at, "session")
    assert len(after) == len(before) + 1
    assert (after.iloc[0]["model"], after.iloc[0]["usage"]) == ("claude-opus-5-5", "Our count")


def test_a_newcomer_is_told_how_to_begin(open_page: Open) -> None:
    at = open_page("my_usage", viewer="new@example.com")
    assert not at.exception
    assert "Nothing of yours yet" in [heading.value for heading in at.subheader]


def test_a_spreadsheet_gets_numbers_and_no_formula() -> None:
    rows = [{"day": date(2026, 11, 2), "tool": "=HYPERLINK(1)", "cost_usd": Decimal("0.000000123")}]
    assert tables.my_csv(rows).splitlines() == ["day,tool,cost_usd", "2026-11-02,'=HYPERLINK(1),1.23E-7"]


def test_a_subscription_costs_nothing_and_its_worth_is_told(open_page: Open, troubled: tuple[Path, datetime]) -> None:
    path, now = troubled
    at = open_page("my_usage", warehouse=path, now=now)
    assert not at.exception
    assert "Your subscription" in [heading.value for heading in at.subheader]
    worth = 9 * (812 * 3 + 14_200 * Decimal("0.3") + 90_000 * 15) / 10**6
    assert f"would cost {wording.plain(wording.usd(worth))} at list prices" in text_of(at)
    seat = table(at, "fee").iloc[0]
    assert (seat["plan"], seat["state"]) == ("Anthropic Max", ["▲ Below its fee"])
    requests = table(at, "session")
    assert {cost for cost in requests["cost"] if cost.startswith("$0 ")} == {"$0 ($1.36)"}
    assert "↻ tried again" in set(requests["status"])
    assert {"Fallback price", "Standard price"} <= set(requests["usage"])


def test_who_has_no_seat_hears_of_none(open_page: Open) -> None:
    assert "Your subscription" not in text_of(open_page("my_usage"))


# --- Data health ------------------------------------------------------------------------------------------------------


def test_data_health_states_every_check_with_its_rule(open_page: Open, troubled: tuple[Path, datetime]) -> None:
    path, now = troubled
    at = open_page("data_health", warehouse=path, now=now)
    assert not at.exception
    assert [metric.label for metric in at.metric] == [
        "Newest request",
        "Stored within",
        "Counted by Tally",
        "Priced from the book",
        "Gap to the bill",
    ]
    checks = table(at, "rule").set_index("name")
    assert len(checks) == 14
    assert checks.loc["Alerts arrive", "status"] == ["✕ Fail"]
    assert checks.loc["Alerts arrive", "result"] == "1\N{NO-BREAK SPACE}channel"
    assert checks.loc["In the price book", "status"] == ["▲ Warning"]
    assert checks.loc["Priced at all", "status"] == ["✓ Pass"]
    assert checks["rule"].str.endswith(".").all()
    assert "checks pass" in at.caption[0].value
    assert len(at.get("vega_lite_chart")) == 2


def test_data_health_names_models_messages_and_causes(open_page: Open, troubled: tuple[Path, datetime]) -> None:
    path, now = troubled
    at = open_page("data_health", warehouse=path, now=now)
    unpriced = table(at, "source").set_index("model")
    assert (unpriced.loc["mystery-1", "source"], unpriced.loc["mystery-1", "calls"]) == ("Fallback price", 3)
    assert "`policy/prices.yaml`" in text_of(at)
    shelved = table(at, "messages").set_index("reason")["messages"]
    assert dict(shelved) == {"input_tokens: not INT64": 2, "not JSON": 1}
    routes = table(at, "gateway").set_index("model")
    assert routes.loc["kimi-k3", "share"] == "+67%"  # LiteLLM has but six tenths of it
    assert routes.loc["gpt-5.6-codex", "difference"] == "$0"
    bills = table(at, "theirs").set_index("provider")
    assert bills.loc["OpenAI", "price_usd"] == "$0"
    assert bills.loc["OpenAI", "bypass_usd"] == bills.loc["OpenAI", "gap"] != "$0"
    assert bills.loc["Anthropic", "price_usd"].startswith("+$")
    assert set(table(at, "revised")["day"]) == {wording.day(now.date() - timedelta(days=5))}


def test_an_empty_company_still_hears_of_unreadable_messages(open_page: Open, tmp_path: Path) -> None:
    warehouse = DuckDBWarehouse(str(tmp_path / "unread.duckdb"))
    warehouse.apply_schema()
    now = datetime.now(UTC)
    warehouse.append("shelved", [{"shelved_at": now, "message_id": "m", "reason": "not JSON", "raw": b"?"}])
    warehouse.close()
    at = open_page("data_health", warehouse=tmp_path / "unread.duckdb", now=now)
    assert not at.exception
    assert "No requests yet" in [heading.value for heading in at.subheader]
    assert list(table(at, "reason")["reason"]) == ["not JSON"]


# --- Statements -------------------------------------------------------------------------------------------------------


def test_an_open_month_is_what_its_events_cost_and_its_seats(open_page: Open, filled: Path) -> None:
    at = open_page("statements")
    assert not at.exception
    month = sum(cost_of(event) for event in company.events(NOW) if event.occurred_at.date() >= date(2026, 11, 1))
    assert tile(at, "Total").value == tile(at, "Requests so far").value == wording.usd(month)
    assert set(table(at, "share")["name"]) == {"Platform", "Payments", "Search", "Mobile", "Small teams"}
    assert table(at, "month")["month"].iloc[0] == "November 2026"
    assert "Research" not in text_of(at)


def test_a_closed_month_keeps_its_statement_and_shows_what_came_later(
    open_page: Open, troubled: tuple[Path, datetime]
) -> None:
    path, now = troubled
    before = now.date().replace(day=1) - timedelta(days=1)
    at = open_page("statements", {"month": f"{before:%B %Y}"}, warehouse=path, now=now)
    assert not at.exception
    late = (812 * 3 + 14_200 * Decimal("0.3") + 120_000 * 15) / 10**6
    assert tile(at, "Adjustments").value == f"+{wording.usd(late)}"
    assert tile(at, "Seats").value == "$1,200"  # twelve of a hundred
    centres = table(at, "late_event").set_index("name")
    assert centres.loc["R&D", "late_event"] == f"+{wording.usd(late)}"
    assert centres.loc["Small teams", "late_event"] == wording.NOTHING
    states_of = table(at, "month").set_index("month")["state"]
    assert states_of[f"{before:%B %Y}"] == ["✓ Closed"]
    assert states_of[f"{now:%B %Y}"] == ["◦ Open"]
    names = [button.proto.label for button in at.get("download_button")]
    assert names == ["Chargeback", "FOCUS 1.2"]


def test_the_files_of_a_month_add_up_to_it(open_page: Open, troubled: tuple[Path, datetime]) -> None:
    path, now = troubled
    open_page("statements", warehouse=path, now=now)
    month = now.date().replace(day=1)
    rows = [row for row in queries.chargeback() if row["month"] == month]
    charges = books.folded(queries.focus(month), queries.groups())
    total = sum((row["cost_usd"] for row in rows if row["entry"] == "open"), Decimal(0))
    usage = [row for row in charges if row["ServiceName"].endswith("API")]
    assert sum(row["BilledCost"] for row in usage) == pytest.approx(total, rel=Decimal("1e-12"))
    assert "Research" not in exports.focus_csv(charges) + exports.chargeback_csv(rows)


# --- Today, and the days before ---------------------------------------------------------------------------------------


def test_days_that_are_over_and_today_make_up_what_one_question_gives(
    open_page: Open, troubled: tuple[Path, datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = troubled
    open_page(warehouse=path, now=now)
    first, today = now.date() - timedelta(days=40), now.date()
    for shown_as in ("", "Platform", "Small teams"):
        params = {"shown_as": shown_as, "first_day": first, "last_day": today}
        for asked, sql in (
            (queries.daily, queries.DAILY),
            (queries.daily_by_model, queries.DAILY_BY_MODEL),
            (queries.daily_by_tool, queries.DAILY_BY_TOOL),
        ):
            at_once = queries.warehouse().query(sql, params)
            assert by_content(asked(shown_as, first, today)) == by_content(at_once)
    at_once = queries.warehouse().query(queries.DAILY_BY_GROUP, {"first_day": first, "last_day": today})
    assert by_content(queries.daily_by_group(first, today)) == by_content(at_once)
    (fresh,) = queries.warehouse().query("SELECT * FROM tally.data_freshness")
    said = queries.freshness(today)
    assert said.pop("counted_share") == pytest.approx(fresh["counted_share"])
    assert said.pop("fallback_share") == pytest.approx(fresh["fallback_share"])
    assert said == {name: fresh[name] for name in said}
    for kept in ("_personal", "_personal_over"):  # kept in a session, and here is none
        monkeypatch.setattr(queries, kept, lambda email, sql, params: queries._ask(sql, {"person": email, **params}))
    mine = {"person": company.ADA, "first_day": first, "last_day": today}
    assert by_content(queries.my_daily(company.ADA, first, today)) == by_content(
        queries.warehouse().query(queries.MY_DAILY, mine)
    )


def by_content(rows: list[queries.Row]) -> list[str]:
    """Rows in one order, with one kind of number."""

    def plain(value: Any) -> Any:
        return Decimal(value).normalize() if isinstance(value, int | Decimal) else value

    return sorted(repr(sorted((name, plain(value)) for name, value in row.items())) for row in rows)


class Noting:
    """A warehouse that remembers what it was asked."""

    def __init__(self, warehouse: DuckDBWarehouse) -> None:
        self._warehouse = warehouse
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        self.asked.append((sql, params or {}))
        return self._warehouse.query(sql, params)


def test_a_page_asks_for_todays_events_once(open_page: Open, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = DuckDBWarehouse(str(filled))
    noting = Noting(opened)
    monkeypatch.setattr(queries, "warehouse", lambda: noting)
    monkeypatch.setattr(noting, "clear", lambda: None, raising=False)
    monkeypatch.setattr(queries.warehouse, "clear", lambda: None, raising=False)
    assert open_page().metric
    bounds = [params["last_day"] for sql, params in noting.asked if "group_daily_cost" in sql and "last_day" in params]
    assert set(bounds) == {NOW.date() - timedelta(days=1)}
    assert [params for sql, params in noting.asked if sql == queries.TODAY] == [{"today": NOW.date()}]
    opened.close()


# --- Identity ---------------------------------------------------------------------------------------------------------


class Iap:
    """Signs as IAP does, with a key of its own; answers google-auth's question for certificates."""

    def __init__(self) -> None:
        self.key, self.asked = ec.generate_private_key(ec.SECP256R1()), 0
        self.status, self.data = 200, self.published()

    def published(self) -> bytes:
        public = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return json.dumps({"k1": public.decode()}).encode()

    def __call__(self, url: str, **_: Any) -> Iap:
        self.asked += 1
        return self

    def sign(self, email: str = company.ADA, *, key: Any = None, algorithm: str = "ES256", **claims: Any) -> str:
        now = int(time.time())
        said = {"iss": identity.ISSUER, "aud": AUDIENCE, "email": email, "sub": "1", "iat": now - 5, "exp": now + 600}
        return jwt.encode(said | claims, key or self.key, algorithm, headers={"kid": "k1"})


@pytest.fixture
def iap() -> Iap:
    return Iap()


def refusals(iap: Iap) -> dict[str, str | None]:
    """Every way of not being let in."""
    past = int(time.time()) - 700
    whole = iap.sign()
    header, claims, signature = whole.split(".")
    other = iap.sign("mallory@example.com").split(".")[1]
    return {
        "missing": None,
        "empty": "",
        "not a token": "ada@example.com",
        "another's key": iap.sign(key=ec.generate_private_key(ec.SECP256R1())),
        "claims exchanged": f"{header}.{other}.{signature}",
        "signature cut": f"{header}.{claims}.",
        "unsigned": jwt.encode({"iss": identity.ISSUER, "aud": AUDIENCE, "email": company.ADA}, "", "none"),
        "signed with the public key": _hmac_with_public_key(iap),
        "expired": iap.sign(iat=past - 600, exp=past),
        "not yet issued": iap.sign(iat=int(time.time()) + 900, exp=int(time.time()) + 1500),
        "another service's": iap.sign(aud="/projects/1/global/backendServices/2"),
        "another issuer's": iap.sign(iss="https://accounts.google.com"),
        "nobody's": iap.sign(email=""),
    }


def _hmac_with_public_key(iap: Iap) -> str:
    import base64
    import hmac

    claims = iap.sign().split(".")[1]
    forged = (
        base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "k1"}).encode()).rstrip(b"=").decode()
    )
    secret = json.loads(iap.data)["k1"].encode()
    signature = hmac.digest(secret, f"{forged}.{claims}".encode(), "sha256")
    return f"{forged}.{claims}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_an_assertion_of_iap_names_its_person_once_checked(iap: Iap) -> None:
    verifier = identity.Verifier(AUDIENCE, "https://certs", iap)
    for _ in range(3):
        assert verifier.check(iap.sign("Ada@Example.com"))[0] == "ada@example.com"
    assert iap.asked == 1


def test_everything_else_is_refused(iap: Iap) -> None:
    verifier = identity.Verifier(AUDIENCE, "https://certs", iap)
    for name, assertion in refusals(iap).items():
        with pytest.raises(identity.NotAllowed) as refusal:
            verifier.check(assertion)
        assert assertion is None or len(assertion) < 20 or assertion not in str(refusal.value), name


def test_a_checked_assertion_is_refused_once_it_expires(iap: Iap, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = identity.Verifier(AUDIENCE, "https://certs", iap)
    assertion = iap.sign()
    verifier.check(assertion)
    later = time.time() + 700
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr("google.auth._helpers.utcnow", lambda: datetime.fromtimestamp(later, UTC).replace(tzinfo=None))
    with pytest.raises(identity.NotAllowed):
        verifier.check(assertion)


def test_a_new_key_of_iap_is_learnt_and_garbage_asks_for_none(iap: Iap, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = identity.Verifier(AUDIENCE, "https://certs", iap)
    verifier.check(iap.sign())
    iap.key = ec.generate_private_key(ec.SECP256R1())
    iap.data = iap.published()
    for _ in range(5):
        with pytest.raises(identity.NotAllowed):
            verifier.check("garbage")
    assert iap.asked == 1
    monkeypatch.setattr("governance.identity._REFETCH_S", 0)
    assert verifier.check(iap.sign())[0] == company.ADA


def test_a_page_is_drawn_for_whom_iap_names(open_page: Open, iap: Iap, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = identity.Verifier(AUDIENCE, "https://certs", iap)
    monkeypatch.setattr(identity, "verifier", lambda *_: verifier)
    at = open_page("my_usage", user={"iap_assertion": iap.sign(company.BOB)})
    assert company.BOB.replace("@", "@\u200b") in at.sidebar.caption[0].value.replace("\\", "")
    assert "Local demo" not in text_of(at)
    assert str(company.one("any-event", email=company.BOB, at=NOW).key_id)[-6:] in table(at, "key")["key"].iloc[0]


def test_nobody_gets_no_page(open_page: Open, iap: Iap, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = identity.Verifier(AUDIENCE, "https://certs", iap)
    monkeypatch.setattr(identity, "verifier", lambda *_: verifier)
    plain = {"email": company.ADA, "iap_email": company.ADA}  # headers that anybody can send name nobody
    for name, assertion in refusals(iap).items():
        at = open_page(user=plain if assertion is None else plain | {"iap_assertion": assertion})
        assert not at.metric, name
        assert not at.title, name
        assert "cannot tell who you are" in at.error[0].value


def test_an_open_page_stays_open_when_its_assertion_expires(
    open_page: Open, iap: Iap, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = identity.Verifier(AUDIENCE, "https://certs", iap)
    monkeypatch.setattr(identity, "verifier", lambda *_: verifier)
    at = open_page(user={"iap_assertion": iap.sign()})
    clock = time.time()
    monkeypatch.setattr(
        "google.auth._helpers.utcnow", lambda: datetime.fromtimestamp(clock + 5000, UTC).replace(tzinfo=None)
    )
    monkeypatch.setattr(time, "time", lambda: clock + 700)
    assert at.run().metric
    monkeypatch.setattr(time, "time", lambda: clock + 600 + identity.SESSION_S + 60)
    assert at.run().error


async def refused_by(guard: door.Door, scope: dict[str, Any]) -> bool:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await guard(scope, receive, send)
    return sent[0] in ({"type": "websocket.close", "code": 1008},) or sent[0].get("status") == 403


async def inside(_: Any, __: Any, send: Any) -> None:
    await send({"type": "reached"})


def scope_of(kind: str, path: str, *assertions: str | None, peer: str = "169.254.1.1") -> dict[str, Any]:
    headers = [(b"x-goog-iap-jwt-assertion", one.encode()) for one in assertions if one is not None]
    return {"type": kind, "path": path, "headers": headers, "client": (peer, 1)}


async def test_the_door_opens_for_a_signed_assertion_alone(iap: Iap, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = DashboardSettings(warehouse="bigquery://p", iap_audience=AUDIENCE, viewer=None)
    guard = door.Door(inside, settings)
    guard._verifier = identity.Verifier(AUDIENCE, "https://certs", iap)
    for kind, path in (
        ("http", "/"),
        ("http", "/my_usage"),
        ("http", "/static/js/index.js"),
        ("websocket", "/_stcore/stream"),
    ):
        assert not await refused_by(guard, scope_of(kind, path, iap.sign()))
        assert await refused_by(guard, scope_of(kind, path, iap.sign(), iap.sign(company.BOB)))
        for name, assertion in refusals(iap).items():
            assert await refused_by(guard, scope_of(kind, path, assertion)), (kind, path, name)
    assert not await refused_by(guard, scope_of("http", door.HEALTH))
    assert await refused_by(guard, scope_of("websocket", door.HEALTH))


async def test_a_chosen_viewer_is_shown_on_this_machine_only() -> None:
    guard = door.Door(inside, DashboardSettings(warehouse="bigquery://p", iap_audience=None, viewer=company.ADA))
    assert not await refused_by(guard, scope_of("http", "/", peer="127.0.0.1"))
    assert not await refused_by(guard, scope_of("websocket", "/_stcore/stream", peer="::1"))
    assert await refused_by(guard, scope_of("http", "/", peer="192.168.1.7"))
    assert await refused_by(guard, scope_of("websocket", "/_stcore/stream", peer="unknown"))


# --- Figures and wording ----------------------------------------------------------------------------------------------


def spent(*amounts: int) -> list[dict[str, Any]]:
    first = NOW.date() - timedelta(days=len(amounts) - 1)
    return [{"day": first + timedelta(days=n), "cost_usd": Decimal(usd)} for n, usd in enumerate(amounts)]


def test_a_change_compares_complete_days_with_the_same_days_before() -> None:
    period = figures.last_days(NOW.date(), 3)
    rows = spent(10, 20, 999, 15, 45, 7)  # 999 is the day that today, not over yet, would stand against
    assert figures.change(rows, "cost_usd", period, rows[0]["day"]) == pytest.approx(1.0)
    assert figures.change(rows, "cost_usd", period, rows[1]["day"]) is None


def test_a_month_burns_up_to_its_forecast_and_weekends_are_flat() -> None:
    today = NOW.date()  # the 16th of 21 working days
    rows = spent(*[10] * 23)
    where = figures.standing("Search", 8, rows, Decimal(240), today)
    assert where.forecast is not None
    assert (where.spent, round(where.forecast, 2)) == (Decimal(230), Decimal("301.88"))
    assert where.state == "At risk"
    assert where.turns_on == date(2026, 11, 24)
    points = figures.burn_up(rows, where.forecast, today)
    ahead = {point["day"]: point["spend"] for point in points if point["kind"] == "forecast"}
    assert ahead[today] == 230
    assert ahead[date(2026, 11, 27)] == ahead[date(2026, 11, 29)] < ahead[date(2026, 11, 30)]
    assert ahead[date(2026, 11, 30)] == pytest.approx(float(where.forecast))


def test_a_budget_is_passed_on_the_day_it_was_passed() -> None:
    assert figures.standing("Search", 8, spent(*[10] * 23), Decimal(45), NOW.date()).turns_on == date(2026, 11, 5)
    assert figures.standing("Search", 8, spent(*[10] * 23), Decimal(900), NOW.date()).turns_on is None


def test_a_group_has_a_budget_when_all_its_teams_have() -> None:
    listed = tuple(Budget(scope="team", name=name, amount_usd=Decimal(100)) for name in ("A", "B"))
    grouped: list[dict[str, Any]] = [{"team": name, "shown_as": "Small teams", "people": 6} for name in ("A", "B")]
    assert queries.fold_budgets(listed, grouped).of("Small teams") == 200
    assert queries.fold_budgets(listed, grouped).of("") == 200
    more = [*grouped, {"team": "C", "shown_as": "Small teams", "people": 6}]
    assert queries.fold_budgets(listed, more).of("Small teams") is None
    assert queries.fold_budgets(listed, more).of("") is None


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("9332.4", "$9,332"),
        ("19.806", "$19.81"),
        ("90", "$90"),
        ("0.42", "$0.42"),
        ("0.0042", "$0.0042"),
        ("0.0123", "$0.012"),
        ("0.00001", "<$0.0001"),
        ("0", "$0"),
        ("-12.5", "-$12.50"),
        ("99.999", "$100"),
    ],
)
def test_dollars_are_said_as_a_person_would(amount: str, said: str) -> None:
    assert wording.usd(Decimal(amount)) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (940, "940"), (12_345, "12.3k"), (999_700, "1.0M"), (4_600_000, "4.6M"), (7_200_000_000, "7.2bn")],
)
def test_counts_have_four_digits_at_most(number: int, said: str) -> None:
    assert wording.count(number) == said


def test_text_from_outside_stays_text() -> None:
    assert wording.plain("a@b [x](y) $1 :red[z]") == "a@\u200bb \\[x\\](y) \\$1 \\:red\\[z\\]"
