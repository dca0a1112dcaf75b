"""The provider's bill against the warehouse, through the real gateway: the matrix, a test for each cell that exists.

All of its traffic is driven once, by the vendors' own SDKs, with their own retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.bill_traffic import Seen, drive, leave, untold
from tests.conftest import eventually
from tests.matrix import Cell, cells, meaningless
from tests.stack import Stack, running

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

CELLS = cells()
UNTOLD = list(untold(200))
KINDS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning")
FACTS = (
    *(f"{kind}_tokens" for kind in KINDS),
    "input_audio_tokens",
    "output_audio_tokens",
    "web_searches",
    "residency",
)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home: Path = tmp_path_factory.mktemp("bill") / "tally"
    with running(home, "--no-history", "--no-traffic") as started:
        yield started


@dataclass(frozen=True)
class Accounts:
    """Both accounts of the same traffic: the bill by the provider's id, our rows by the gateway's, what callers saw."""

    seen: dict[str, Seen]
    bill: dict[str, Row]
    rows: dict[str, list[Row]]

    def of(self, cell: Cell) -> list[tuple[int, Row]]:
        """(status the caller saw, our row) of each request of a cell."""
        found = []
        for status, request_id in self.seen[str(cell)].answers:
            (row,) = self.rows[request_id]
            found.append((status, row))
        return found


def _rows(stack: Stack, count: int, before: int = 0) -> dict[str, list[Row]]:
    eventually(lambda: stack.request_count() >= before + count, within_s=120)
    rows: dict[str, list[Row]] = {}
    for row in stack.warehouse.query("SELECT * FROM tally.requests"):
        rows.setdefault(row["request_id"], []).append(row)
    return rows


@pytest.fixture(scope="module")
def accounts(stack: Stack) -> Accounts:
    seen = asyncio.run(drive(stack.run["proxy_url"], stack.run["key"], CELLS))
    rows = _rows(stack, sum(len(one.answers) for one in seen))
    return Accounts({one.name: one for one in seen}, {row["request_id"]: row for row in stack.bill()}, rows)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_warehouse_equals_the_bill(accounts: Accounts, cell: Cell) -> None:
    answered = accounts.of(cell)
    expected = {"ok": [200], "4xx": [4], "5xx": [5], "retry": [5, 200]}[cell.outcome]
    if cell.kind == "tool_loop":
        expected *= 2
    assert [status if status == 200 else status // 100 for status, _ in answered] == expected
    ours = theirs = Decimal(0)
    for status, row in answered:
        assert (row["http_status"], row["stream"], row["superseded"]) == (status, cell.stream, False)
        if status != 200:
            assert (row["status"], row["usage_source"], row["cost_usd"]) == ("error", "none", 0)
            continue
        bill = accounts.bill[row["provider_request_id"]]
        assert (row["status"], row["model"]) == ("ok", bill["model"])
        if cell.usage == "omitted" and bill["usage"] == "omitted":
            assert row["usage_source"] == "counted"
            assert row["cost_usd"] > 0
            continue
        assert (row["usage_source"], bill["usage"]) == ("provider", "sent")
        assert {fact: row[fact] for fact in FACTS} == {fact: bill[fact] for fact in FACTS}
        assert (row["service_tier"] or "standard") == bill["service_tier"]
        assert row["price_source"] == ("reported" if row["provider"] == "openrouter" else "book")
        assert row["cost_usd"] == Decimal(bill["cost_usd"]) > 0
        ours, theirs = ours + row["cost_usd"], theirs + Decimal(bill["cost_usd"])
    assert abs(ours - theirs) <= theirs * Decimal("1e-9")


def test_every_request_is_one_row_and_one_line_of_the_bill(accounts: Accounts) -> None:
    requests = [request_id for seen in accounts.seen.values() for _, request_id in seen.answers]
    assert len(set(requests)) == len(requests) == len(accounts.bill)
    assert {len(accounts.rows[request_id]) for request_id in requests} == {1}
    told = [row for request_id in requests for row in accounts.rows[request_id]]
    assert {row["provider_request_id"] for row in told if row["status"] == "ok"} <= accounts.bill.keys()


def test_the_bill_was_paid_with_the_gateways_key(accounts: Accounts) -> None:
    assert {row["project"] for row in accounts.bill.values()} == {"gateway"}
    assert {row["service_tier"] for row in accounts.bill.values()} == {"standard", "flex", "priority"}
    assert {row["residency"] for row in accounts.bill.values()} == {None, "us"}
    assert sum(row["web_searches"] for row in accounts.bill.values()) > 0


def test_what_is_left_out_of_the_matrix_is_left_out_for_a_reason() -> None:
    for field, values in {
        "route": 3, "stream": 2, "usage": 3, "cache": 5, "kind": 3, "terms": 5, "outcome": 4,
    }.items():  # fmt: skip
        assert len({getattr(cell, field) for cell in CELLS}) == values
    assert len({cell.number for cell in CELLS}) == len(CELLS) > 500
    assert meaningless(Cell("responses", True, "sent", "write_1h", "plain", "standard", "ok"))


@dataclass(frozen=True)
class Left:
    """The cases of which nobody was told what was consumed, with their rows on both sides."""

    ids: dict[int, str]
    ours: list[Row]
    theirs: list[Row]


@pytest.fixture(scope="module")
def left(stack: Stack, accounts: Accounts) -> Left:
    known, billed = set(accounts.rows), len(stack.bill())
    before = sum(map(len, accounts.rows.values()))
    ids = asyncio.run(leave(stack.run["proxy_url"], stack.run["key"], UNTOLD))
    rows = _rows(stack, len(UNTOLD), before)
    ours = [row for request_id, found in rows.items() if request_id not in known for row in found]
    eventually(lambda: len(stack.bill()) >= billed + len(UNTOLD), within_s=30)
    return Left(ids, ours, stack.bill()[billed:])


def _cost(rows: list[Row]) -> Decimal:
    return sum((Decimal(row["cost_usd"]) for row in rows), Decimal(0))


def test_what_was_not_told_is_counted_and_each_row_says_so(left: Left) -> None:
    assert len(left.ours) == len(left.theirs) == len(UNTOLD)
    billed = {row["request_id"]: row for row in left.theirs}
    counted = [row for row in left.ours if row["usage_source"] == "counted"]
    assert len(counted) > 0.7 * len(UNTOLD)
    assert all(row["input_tokens"] > 0 and row["cost_usd"] > 0 for row in counted)
    for row in left.ours:
        if row not in counted:  # LiteLLM read on to the end when its caller had gone, and so it was told
            bill = billed[row["provider_request_id"]]
            assert (row["usage_source"], bill["usage"]) == ("provider", "sent")
            assert row["cost_usd"] == Decimal(bill["cost_usd"])


def test_each_way_to_end_is_told_apart(left: Left) -> None:
    by_id = {row["request_id"]: row for row in left.ours}
    told = {case.how: by_id[left.ids[case.number]]["status"] for case in UNTOLD if case.number in left.ids}
    assert told == {
        "omitted": "ok",
        "mid-text": "aborted",
        "mid-tool call": "aborted",
        "mid-reasoning": "aborted",
        "cut by the provider": "error",
    }


def test_what_was_counted_is_within_five_per_cent_of_the_bill(left: Left) -> None:
    ours, theirs = _cost(left.ours), _cost(left.theirs)
    assert theirs > 0
    assert abs(ours - theirs) <= theirs * Decimal("0.05"), f"{ours} against {theirs}: {(ours / theirs - 1):.2%}"
