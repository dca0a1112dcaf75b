"""Exports: chargeback and FOCUS 1.2 add up to what was reported, to the last digit, and are files others can read."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from functions.alerts import months
from governance import exports
from governance.duckdb_warehouse import DuckDBWarehouse
from local.__main__ import main
from tests.warehouse_rows import Row, event_row, person_row, price_rows, random_company, store

OCTOBER = date(2026, 10, 1)
PRICES = price_rows("anthropic", "sonnet", "3", "0.3", "3.75", "6", "15", more={"web_search": "10000"})
CONTRACT = price_rows("anthropic", "sonnet", "2", "0.2", "2.5", "4", "10", price_list="contract")
SEAT = {
    "person": "ann@example.com", "provider": "anthropic", "plan": "max", "usd_per_month": Decimal(31),
    "valid_from": OCTOBER, "valid_to": date(2026, 10, 3),
}  # fmt: skip
DEAR = price_rows("anthropic", "sonnet", "4", "0.3", "3.75", "6", "20")


def opened(tables: dict[str, list[Row]]) -> DuckDBWarehouse:
    warehouse = DuckDBWarehouse(":memory:")
    warehouse.apply_schema()
    for table, rows in tables.items():
        assert warehouse.append(table, rows) == {}
    return warehouse


@pytest.fixture
def warehouse() -> Iterable[DuckDBWarehouse]:
    found = opened({"prices": PRICES + CONTRACT, "people": [person_row("ann", "Search"), person_row("bob", "")]})
    yield found
    found.close()


@pytest.fixture(scope="module", params=range(3))
def company(request: pytest.FixtureRequest) -> Iterable[DuckDBWarehouse]:
    found = opened(random_company(request.param))
    yield found
    found.close()


def at(day: int = 1, **fields: Any) -> dict[str, Any]:
    return {"occurred_at": datetime(2026, 10, day, 12, tzinfo=UTC), **fields}


def chargeback(warehouse: DuckDBWarehouse) -> list[Row]:
    rows = warehouse.query(exports.CHARGEBACK_SQL, {"month": OCTOBER})
    return sorted(rows, key=lambda row: (row["cost_centre"], row["entry"]))


def focus(warehouse: DuckDBWarehouse, **where: object) -> list[Row]:
    rows = warehouse.query(exports.FOCUS_SQL, {"month": OCTOBER})
    found = [row for row in rows if all(row[name] == value for name, value in where.items())]
    return sorted(found, key=lambda row: (row["ChargePeriodStart"], row["SkuId"] or ""))


def sums(rows: Iterable[Row], by: str, *columns: str) -> dict[object, tuple[Decimal, ...]]:
    found: dict[object, tuple[Decimal, ...]] = defaultdict(lambda: (Decimal(0),) * len(columns))
    for row in rows:
        found[row[by]] = tuple(a + row[b] for a, b in zip(found[row[by]], columns, strict=True))
    return {key: value for key, value in found.items() if any(value)}


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# Chargeback


def test_a_cost_centre_pays_for_its_teams_and_a_team_without_one_for_itself(warehouse: DuckDBWarehouse) -> None:
    warehouse.replace("teams", [{"team": team, "cost_centre": "R&D"} for team in ("Search", "Ads")])
    store(warehouse, [event_row("1", **at()), event_row("2", **at(team="Ads")), event_row("3", **at(team="Core"))])
    store(warehouse, [event_row("4", **at(team=None)), event_row("5", **at(team=None, key_kind="service"))])
    found = {
        row["cost_centre"]: (row["requests"], row["cost_usd"], row["list_cost_usd"]) for row in chargeback(warehouse)
    }
    one, listed = Decimal("0.003"), Decimal("0.0045")
    assert found == {
        "R&D": (2, 2 * one, 2 * listed),
        "Core": (1, one, listed),
        "No team": (1, one, listed),
        "Services": (1, one, listed),
    }


def test_a_month_has_its_statement_its_changes_and_its_seats_apart(warehouse: DuckDBWarehouse) -> None:
    warehouse.replace("prices", PRICES)
    warehouse.replace("seats", [SEAT, SEAT | {"person": "bob@example.com"}])
    store(warehouse, [event_row("1", **at())])
    closing = datetime(2026, 11, 5, 6, tzinfo=UTC)
    months.close(warehouse, closing, 5)
    warehouse.replace("prices", DEAR)
    store(warehouse, [event_row("2", **at())])
    months.post(warehouse, (), closing)
    found = [(row["cost_centre"], row["entry"], row["requests"], row["cost_usd"]) for row in chargeback(warehouse)]
    assert found == [
        ("No team", "seats", 0, Decimal(2)),
        ("Search", "late_event", 0, Decimal("0.006")),
        ("Search", "price", 0, Decimal("0.0015")),
        ("Search", "seats", 0, Decimal(2)),
        ("Search", "statement", 1, Decimal("0.0045")),
    ]


def test_the_chargeback_of_every_month_is_what_was_reported_and_the_seats(company: DuckDBWarehouse) -> None:
    reported = company.query("SELECT month, cost_usd, list_cost_usd FROM tally.monthly_cost")
    seats = company.query("SELECT DATE_TRUNC(day, MONTH) AS month, fee_usd AS cost_usd FROM tally.seat_days")
    whole = [*reported, *({**row, "list_cost_usd": Decimal(0)} for row in seats)]
    rows = company.query("SELECT * FROM tally.chargeback")
    assert sums(rows, "month", "cost_usd", "list_cost_usd") == sums(whole, "month", "cost_usd", "list_cost_usd")
    tokens = "SUM(requests) AS a, SUM(prompt_tokens) AS b, SUM(output_tokens) AS c"
    (ours,) = company.query(f"SELECT {tokens} FROM tally.chargeback")
    assert [ours] == company.query(f"SELECT {tokens} FROM tally.monthly_cost")
    assert sums(rows, "month", "cost_usd") == sums(company.query("SELECT * FROM tally.team_cost"), "month", "cost_usd")


# FOCUS


def test_metered_use_is_a_row_for_each_kind_with_list_and_contract_apart(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [event_row("1", **at(cache_read_tokens=500, web_searches=3)), event_row("2", **at())])
    figures = ("SkuMeter", "ConsumedQuantity", "ConsumedUnit", "PricingQuantity", "PricingUnit", "ListUnitPrice",
               "ListCost", "ContractedUnitPrice", "ContractedCost", "EffectiveCost", "BilledCost")  # fmt: skip
    found = {row["SkuMeter"]: [row[name] for name in figures[1:]] for row in focus(warehouse)}

    def usage(quantity: str, unit: str, priced: str, priced_unit: str, listed: str, ours: str) -> list[object]:
        many, cost = Decimal(priced), Decimal(priced) * Decimal(ours)
        prices = [Decimal(listed), many * Decimal(listed), Decimal(ours)]
        return [Decimal(quantity), unit, many, priced_unit, *prices, cost, cost, cost]

    assert found == {
        "input": usage("2000", "Tokens", "0.002", "1000000 Tokens", "3", "2"),
        "cache read": usage("500", "Tokens", "0.0005", "1000000 Tokens", "0.3", "0.2"),
        "output": usage("200", "Tokens", "0.0002", "1000000 Tokens", "15", "10"),
        "web search": usage("3", "Requests", "3", "Requests", "0.01", "0.01"),
    }
    (first, *_) = focus(warehouse, SkuMeter="input")
    assert json.loads(first["SkuPriceDetails"]) == {
        "x_Model": "sonnet", "x_TokenKind": "input", "x_ServiceTier": "standard", "x_ContextAbove": 0,
    }  # fmt: skip
    assert (first["BillingPeriodStart"], first["BillingPeriodEnd"]) == (
        datetime(2026, 10, 1, tzinfo=UTC),
        datetime(2026, 11, 1, tzinfo=UTC),
    )
    assert first["ChargePeriodEnd"] == datetime(2026, 10, 2, tzinfo=UTC)


def test_use_under_a_seat_has_a_list_cost_and_is_neither_billed_nor_effective(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [event_row("1", **at(billing_mode="subscription", output_tokens=0))])
    (row,) = focus(warehouse)
    costs = ("ListCost", "ContractedCost", "EffectiveCost", "BilledCost", "PricingCategory")
    assert [row[name] for name in costs] == [Decimal("0.003"), Decimal("0.002"), 0, 0, "Other"]


def test_a_seat_is_billed_by_the_month_and_effective_by_the_day_and_names_nobody(warehouse: DuckDBWarehouse) -> None:
    warehouse.replace("people", [person_row("ann", "Search"), person_row("eve", "Search")])
    warehouse.replace("seats", [SEAT, SEAT | {"person": "eve@example.com"}])
    (bought,) = focus(warehouse, ChargeCategory="Purchase")
    assert (bought["PricingQuantity"], bought["ListUnitPrice"]) == (2, 2)  # two seats, two days of thirty-one dollars
    assert (bought["BilledCost"], bought["EffectiveCost"], bought["ListCost"]) == (4, 0, 4)
    held = focus(warehouse, ChargeCategory="Usage")
    assert [(row["ConsumedQuantity"], row["BilledCost"], row["EffectiveCost"]) for row in held] == [(2, 0, 2)] * 2
    assert "example.com" not in exports.focus_csv(focus(warehouse))


def test_a_cost_that_the_provider_told_is_priced_in_its_credits(warehouse: DuckDBWarehouse) -> None:
    store(warehouse, [event_row("1", **at(provider="openrouter", provider_cost_usd=Decimal("0.012345678901")))])
    (row,) = focus(warehouse)
    assert (row["ConsumedQuantity"], row["PricingUnit"], row["ListUnitPrice"]) == (1100, "Credits", 1)
    assert row["PricingQuantity"] == row["EffectiveCost"] == row["ListCost"] == Decimal("0.012345678901")


def test_a_closed_month_is_exported_as_it_was_reported_with_its_corrections(warehouse: DuckDBWarehouse) -> None:
    warehouse.replace("prices", PRICES)
    store(warehouse, [event_row("1", **at()), event_row("2", **at(provider="openai", model="gpt"))])
    closing = datetime(2026, 11, 5, 6, tzinfo=UTC)
    months.close(warehouse, closing, 5)
    before = focus(warehouse)
    assert [row["SkuMeter"] for row in before] == ["input", "output"] * 2
    warehouse.replace("prices", DEAR)
    months.post(warehouse, (), closing)
    (stated,) = focus(warehouse, SkuMeter="all tokens")
    assert (stated["ConsumedQuantity"], stated["EffectiveCost"], stated["ListCost"]) == (
        1100,
        Decimal("0.0045"),
        Decimal("0.0045"),
    )
    (change,) = focus(warehouse, ChargeCategory="Adjustment")
    assert (change["ChargeClass"], change["ChargeFrequency"]) == ("Correction", "One-Time")
    assert change["BilledCost"] == change["EffectiveCost"] == Decimal("0.0015")
    assert change["ChargeDescription"] == "sonnet: price"


def test_effective_cost_of_every_month_is_what_was_reported_and_the_seats(company: DuckDBWarehouse) -> None:
    charges = company.query("SELECT * FROM tally.focus_charges")
    months_of = [{**row, "month": row["BillingPeriodStart"].date()} for row in charges]
    costs = company.query("SELECT month, cost_usd FROM tally.chargeback")
    assert sums(months_of, "month", "EffectiveCost") == sums(costs, "month", "cost_usd")
    assert sums(months_of, "month", "BilledCost") == sums(costs, "month", "cost_usd")
    listed = company.query("SELECT month, list_cost_usd FROM tally.monthly_cost")
    used = [row for row in months_of if row["ChargeCategory"] == "Usage"]
    assert sums(used, "month", "ListCost") == sums(listed, "month", "list_cost_usd")


def test_quantity_times_price_is_cost_to_the_last_digit_and_one_charge_is_one_row(company: DuckDBWarehouse) -> None:
    charges = company.query("SELECT * FROM tally.focus_charges")
    for row in charges:
        if row["ChargeCategory"] != "Adjustment":
            assert row["PricingQuantity"] * row["ListUnitPrice"] == row["ListCost"]
            assert row["PricingQuantity"] * row["ContractedUnitPrice"] == row["ContractedCost"]
            assert all(key.startswith("x_") for key in json.loads(row["SkuPriceDetails"]))
        assert json.loads(row["Tags"]).keys() == {"cost_centre"}
    grain = (
        "ChargePeriodStart",
        "ChargePeriodEnd",
        "BillingAccountId",
        "SubAccountId",
        "SkuPriceId",
        "PricingCategory",
        "ChargeDescription",
    )
    assert len({tuple(row[name] for name in grain) for row in charges}) == len(charges)


def test_the_view_has_the_columns_of_the_file(company: DuckDBWarehouse) -> None:
    for view, columns in (("focus_charges", exports.FOCUS_COLUMNS), ("chargeback", exports.CHARGEBACK_COLUMNS)):
        assert tuple(company.query(f"SELECT * FROM tally.{view} LIMIT 1")[0]) == columns


# The files


def row_of(columns: Sequence[str], **given: object) -> Row:
    return {name: given.get(name) for name in columns}


def test_decimals_are_written_with_every_digit_and_never_with_an_exponent() -> None:
    row = row_of(exports.CHARGEBACK_COLUMNS, cost_usd=Decimal("1E-18"), list_cost_usd=Decimal("1200.500000"))
    assert exports.chargeback_csv([row]).splitlines()[1] == ",,,,,,,0.000000000000000001,1200.5"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_text_that_a_spreadsheet_takes_for_a_formula_is_made_inert(text: str) -> None:
    (chargeback_line,) = parsed(exports.chargeback_csv([row_of(exports.CHARGEBACK_COLUMNS, cost_centre=text)]))
    (focus_line,) = parsed(exports.focus_csv([row_of(exports.FOCUS_COLUMNS, ChargeDescription=text)]))
    assert chargeback_line["cost_centre"] == focus_line["ChargeDescription"] == f"'{text}"


def test_a_negative_amount_stays_a_number() -> None:
    (line,) = parsed(exports.focus_csv([row_of(exports.FOCUS_COLUMNS, BilledCost=Decimal("-12"))]))
    assert line["BilledCost"] == "-12.0"


def test_the_same_rows_in_any_order_are_the_same_file(company: DuckDBWarehouse) -> None:
    for view, as_csv in (("chargeback", exports.chargeback_csv), ("focus_charges", exports.focus_csv)):
        rows = company.query(f"SELECT * FROM tally.{view}")
        assert as_csv(rows) == as_csv(rows[::-1])
        assert len(parsed(as_csv(rows))) == len(rows)


# The command


def run(tmp_path: Path, *arguments: str) -> int:
    stored = f"duckdb://{tmp_path}/tally.duckdb"
    return main(["export", *arguments, "--warehouse", stored])


@pytest.fixture
def stored(tmp_path: Path) -> None:
    warehouse = DuckDBWarehouse(f"{tmp_path}/tally.duckdb")
    warehouse.apply_schema()
    warehouse.append("prices", PRICES)
    store(warehouse, [event_row("1", **at()), event_row("2", occurred_at=datetime(2026, 9, 30, 23, 59, tzinfo=UTC))])
    warehouse.close()


@pytest.mark.usefixtures("stored")
def test_the_command_writes_a_month_to_the_screen_or_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "chargeback", "--month", "2026-10") == 0
    assert capsys.readouterr().out.splitlines() == [
        "month,cost_centre,provider,entry,requests,prompt_tokens,output_tokens,cost_usd,list_cost_usd",
        "2026-10-01,Search,anthropic,open,1,1000,100,0.0045,0.0045",
    ]
    assert run(tmp_path, "focus", "--month", "2026-10", "--out", str(tmp_path / "october.csv")) == 0
    lines = parsed((tmp_path / "october.csv").read_text())
    assert [(line["SkuMeter"], line["EffectiveCost"]) for line in lines] == [("output", "0.0015"), ("input", "0.003")]


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--month", "October"), "a month is written like 2026-10, not 'October'"),
        (("--month", "2026-13"), "a month is written like 2026-10, not '2026-13'"),
        (("--month", "2025-01"), "nothing was charged in 2025-01"),
        (("--month", "2026-10", "--out", "/no/such/folder/x.csv"), "cannot write /no/such/folder/x.csv: No such file"),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    assert run(tmp_path, "chargeback", *arguments) == 2
    assert told in capsys.readouterr().err


def test_without_a_running_tally_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TALLY_HOME", str(tmp_path))
    assert main(["export", "focus", "--month", "2026-10"]) == 2
    assert "no Tally runs from" in capsys.readouterr().err
    assert main(["export", "focus", "--month", "2026-10", "--warehouse", "mysql://x"]) == 2
    assert "a warehouse is bigquery://" in capsys.readouterr().err
