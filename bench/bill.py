"""The same traffic in three accounts: the provider's bill, Tally's warehouse, LiteLLM's own `response_cost`.

    python -m bench.bill

The matrix of tests/test_bill.py, and two hundred requests of which nobody was told what they consumed, through the real
gateway of a real start; by route, streamed or not, and by what is special about the requests.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tests.bill_traffic import drive, leave, untold
from tests.conftest import eventually
from tests.matrix import Cell, cells
from tests.stack import Stack, running

CASES: Final = 200
SETTLED_S: Final = 150.0  # the gateway waits a minute for answers that are read on although their caller has left
Row = dict[str, Any]


@dataclass
class Sums:
    """The three figures of some requests, US dollars."""

    requests: int = 0
    bill: Decimal = Decimal(0)
    ours: Decimal = Decimal(0)
    litellm: Decimal = Decimal(0)

    def add(self, bill: Decimal, ours: Decimal, litellm: Decimal) -> None:
        """One more request."""
        self.requests += 1
        self.bill, self.ours, self.litellm = self.bill + bill, self.ours + ours, self.litellm + litellm

    def line(self, name: str) -> str:
        """A line of the table, with the distance from the bill."""
        figures = [f"{self.bill:.6f}", f"{self.ours:.6f}", self._off(self.ours), f"{self.litellm:.6f}"]
        return f"| {' | '.join((name, f'{self.requests:,}', *figures, self._off(self.litellm)))} |"

    def _off(self, figure: Decimal) -> str:
        if figure == self.bill:
            return "**0**"
        return f"{(figure - self.bill) / self.bill * 100:+.2f} %" if self.bill else "—"


def _special(cell: Cell, row: Row) -> Iterable[str]:
    """Under which names a request of the matrix counts."""
    yield f"{cell.route}, {'stream' if cell.stream else 'whole'}"
    if cell.usage == "omitted" and row["usage_source"] == "counted":
        unseen = cell.kind == "reasoning" and cell.route != "messages"
        yield f"usage omitted by the provider{', who thought unseen' if unseen else ''}"
        return
    if cell.terms != "standard":
        yield f"terms: {cell.terms}"
    if cell.cache != "none":
        yield f"cache: {cell.cache}"
    if row["web_searches"]:
        yield "web searches"
    if row["provider"] == "openrouter":
        yield "through OpenRouter"


def _table(sums: dict[str, Sums]) -> None:
    print("| requests | n | the bill, $ | ours, $ | off | LiteLLM, $ | off |\n|---|---|---|---|---|---|---|")
    for name in sorted(sums):
        print(sums[name].line(name))


def _by_id(stack: Stack, known: set[str], count: int) -> dict[str, Row]:
    def fresh() -> list[Row]:
        return [r for r in stack.warehouse.query("SELECT * FROM tally.requests") if r["request_id"] not in known]

    rows: Callable[[], list[Row] | None] = lambda: found if len(found := fresh()) >= count else None  # noqa: E731
    return {row["request_id"]: row for row in eventually(rows, within_s=SETTLED_S, every_s=0.5) or ()}


def main() -> None:
    """Drive the traffic; print the tables."""
    with running(Path(tempfile.mkdtemp()) / "tally", "--no-history", "--no-traffic") as stack:
        url, key = stack.run["proxy_url"], stack.run["key"]
        plan = {str(cell): cell for cell in cells()}
        seen = asyncio.run(drive(url, key, list(plan.values())))
        rows = _by_id(stack, set(), sum(len(one.answers) for one in seen))
        billed = {row["request_id"]: Decimal(row["cost_usd"]) for row in stack.bill()}
        sums: dict[str, Sums] = defaultdict(Sums)
        for one in seen:
            for _, request_id in one.answers:
                row = rows[request_id]
                figures = (row["cost_usd"], row["gateway_cost_usd"] or Decimal(0))
                for name in ("all of the matrix", *_special(plan[one.name], row)):
                    sums[name].add(billed.get(row["provider_request_id"], Decimal(0)), *figures)
        _table(sums)
        before = len(stack.bill())
        asyncio.run(leave(url, key, list(untold(CASES))))
        left = _by_id(stack, set(rows), CASES)
        total = Sums(
            CASES,
            sum((Decimal(row["cost_usd"]) for row in stack.bill()[before:]), Decimal(0)),
            sum((row["cost_usd"] for row in left.values()), Decimal(0)),
            sum((row["gateway_cost_usd"] or Decimal(0) for row in left.values()), Decimal(0)),
        )
        counted = sum(row["usage_source"] == "counted" for row in left.values())
        print(f"\nUsage omitted, callers gone, answers cut; {counted} of {CASES} rows say `counted`:\n")
        _table({"nobody was told": total})


if __name__ == "__main__":
    main()
