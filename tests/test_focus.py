"""The FOCUS export against the FinOps Foundation's validator, and against the rules that it passes over."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from governance import exports
from governance.duckdb_warehouse import DuckDBWarehouse
from tests.conftest import TOOLS, needs
from tests.focus_1_2 import PRICED, broken
from tests.warehouse_rows import Row, event_row, price_rows, random_company, store

PRICES = price_rows("anthropic", "sonnet", "3", "0.3", "3.75", "6", "15")
PRICES += price_rows("anthropic", "sonnet", "2", "0.2", "2.5", "4", "10", price_list="contract")


def opened(tables: dict[str, list[Row]]) -> DuckDBWarehouse:
    warehouse = DuckDBWarehouse(":memory:")
    warehouse.apply_schema()
    for table, rows in tables.items():
        assert warehouse.append(table, rows) == {}
    return warehouse


SUPPORTED = (
    "ACCOUNT_NAMING_SUPPORTED,NEGOTIATED_PRICING_SUPPORTED,PUBLIC_PRICE_LIST_SUPPORTED,USAGE_MEASUREMENT_SUPPORTED,"
    "UNIT_PRICING_SUPPORTED,SUB_ACCOUNT_SUPPORTED,TAGGING_SUPPORTED,MULTIPLE_PRICING_CATEGORIES_SUPPORTED"
)
# Half of an either-or (InvoiceId-C-003-C, which passes): the validator checks "null without an invoice" and "not null
# with one" of every row, and one of the two always fails. Tally knows no invoices.
CONTRADICTED = {"InvoiceId-C-005-C"}


def faults(text: str, folder: Path) -> set[str]:
    """The rules of FOCUS 1.2 that the validator finds broken in a CSV."""
    needs("focus")
    (folder / "charges.csv").write_text(text, newline="")
    (rules,) = (TOOLS / "focus").glob("lib/python3*/site-packages/focus_validator")
    (folder / "focus_validator").symlink_to(rules.resolve())  # it looks for its list of currencies from here
    command = [str(TOOLS / "focus/bin/focus-validator"), "--data-file", "charges.csv", "--validate-version", "1.2"]
    command += ["--block-download", "--applicability-criteria", SUPPORTED]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ))
    total = re.search(r"^Total: (\d+) \| Pass: (\d+) \| Fail: (\d+)", ran.stdout, re.MULTILINE)
    assert total, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert int(total[2]) > 200  # it did check
    found = re.findall(r"^\S+ (\S+): FAIL", ran.stdout, re.MULTILINE)
    assert len(found) == int(total[3])
    return set(found)


def test_the_validator_finds_nothing_wrong(tmp_path: Path) -> None:
    company = opened(random_company(0))
    text = exports.focus_csv(company.query("SELECT * FROM tally.focus_charges"))
    company.close()
    kinds = {(row["ChargeCategory"], row["PricingUnit"]) for row in csv.DictReader(io.StringIO(text))}
    assert kinds >= {("Adjustment", ""), ("Purchase", "Seats"), ("Usage", "Credits"), ("Usage", "1000000 Tokens")}
    assert faults(text, tmp_path) == CONTRADICTED


def test_the_validator_finds_what_is_wrong(tmp_path: Path) -> None:
    company = opened(random_company(0, events=30))
    rows = [dict(row) for row in company.query("SELECT * FROM tally.focus_charges")]
    company.close()
    tokens = [row for row in rows if row["PricingUnit"] == "1000000 Tokens" and row["ListCost"]]
    (bought, *_) = (row for row in rows if row["ChargeCategory"] == "Purchase")
    tokens[0]["ConsumedUnit"] = None
    tokens[1]["BillingCurrency"] = "XXQ"
    tokens[2]["SkuPriceDetails"] = "x"
    tokens[3]["ListUnitPrice"] = Decimal(-1)
    bought["EffectiveCost"] = Decimal(1)
    bought["ChargeFrequency"] = "Usage-Based"
    planted = {
        "ConsumedUnit-C-006-C", "BillingCurrency-C-006-M", "SkuPriceDetails-C-001-M", "ListUnitPrice-C-008-M",
        "EffectiveCost-C-005-C", "ChargeFrequency-C-004-C",
    }  # fmt: skip
    assert faults(exports.focus_csv(rows), tmp_path) >= planted


def test_the_rules_that_the_validator_passes_over_hold() -> None:
    company = opened(random_company(1))
    assert broken(company.query("SELECT * FROM tally.focus_charges")) == set()
    company.close()


@pytest.mark.parametrize(
    ("rule", "planted"),
    [
        *((name, {name: None}) for name in PRICED),
        ("ListCost", {"ListCost": Decimal("0.003000000000000001")}),
        ("ContractedCost", {"ContractedUnitPrice": Decimal(3)}),
        ("ChargeCategory", {"ChargeCategory": "Use"}),
        ("ChargeClass", {"ChargeClass": "Fix"}),
        ("ChargeFrequency", {"ChargeFrequency": "Daily"}),
        ("PricingCategory values", {"PricingCategory": "Cheap"}),
        ("ServiceCategory", {"ServiceSubcategory": "Machine Learning"}),
        ("ConsumedQuantity", {"ConsumedQuantity": None}),
        ("EffectiveCost of a purchase", {"ChargeCategory": "Purchase"}),
        ("costs of an adjustment", {"ChargeCategory": "Adjustment"}),
        ("BillingPeriod", {"BillingPeriodEnd": datetime(2026, 10, 2, tzinfo=UTC)}),
        ("ChargePeriod", {"ChargePeriodEnd": datetime(2026, 11, 2, tzinfo=UTC)}),
    ],
)
def test_a_row_that_breaks_a_rule_is_found(rule: str, planted: dict[str, object]) -> None:
    warehouse = opened({"prices": PRICES})
    store(warehouse, [event_row("1", occurred_at=datetime(2026, 10, 1, 12, tzinfo=UTC), output_tokens=0)])
    (row,) = warehouse.query("SELECT * FROM tally.focus_charges")
    warehouse.close()
    assert broken([row]) == set()
    assert rule in broken([{**row, **planted}])
