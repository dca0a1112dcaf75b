"""One tick of the alerts function for a large company, from reading the policy to the last document written.

    python -m bench.tick [--events 10000000] [--people 10000]

The company of bench/pages.py, with ninety days of events, rolled up; a thousand budgets, one of them each person's.
Before each tick some minutes' events come in. The first tick loads what there is to load and tells of what is crossed
already; the others are what a tick costs day by day.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.pages import TEAMS, company
from functions.alerts.tick import Room, tick
from governance import keys
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.keys import KeyRecord
from governance.messages import Message
from governance.registry import SqliteRegistry
from governance.schema import DATASET

BUDGETS, TICKS, EVERY_S = 1_000, 5, 300


class Nowhere:
    """A channel that takes everything at once."""

    name, private_too = "nowhere", True

    def __init__(self) -> None:
        self.taken = 0

    def send(self, message: Message) -> None:
        """Count it."""
        self.taken += 1


def write_policy(folder: Path, people: int) -> None:
    """So many people in twenty teams, and a thousand budgets."""
    lines = ["email,name,team,role,joined_on,left_on"]
    for number in range(people):
        role = "lead" if number < TEAMS else "admin" if number == TEAMS else "engineer"
        lines.append(f"somebody.{number}@example.com,Somebody {number},Team {number % TEAMS},{role},2020-01-06,")
    (folder / "people.csv").write_text("\n".join(lines) + "\n")
    rules = ["{scope: company, amount_usd: 10000000}", "{scope: person, amount_usd: 4000, action: block}"]
    rules += [
        f"{{scope: team, name: Team {number}, period: {period}, amount_usd: 1000000, action: block}}"
        for number in range(TEAMS)
        for period in ("day", "week", "month")
    ]
    rules += [
        f"{{scope: person, name: somebody.{number}@example.com, period: week, amount_usd: 3000}}"
        for number in range(BUDGETS - len(rules))
    ]
    (folder / "budgets.yaml").write_text("budgets:\n" + "".join(f"  - {rule}\n" for rule in rules))


def put_keys(registry: SqliteRegistry, people: int) -> None:
    """A key of each person, as the events name them."""
    now = datetime.now(UTC)
    with registry._lock:  # one commit, where `put` would make ten thousand
        registry._db.execute("BEGIN")
        for number in range(people):
            record = KeyRecord(
                key_id=f"0123456789{number}", person=f"somebody.{number}@example.com", team=f"Team {number % TEAMS}",
                last4="0000", created_at=now,
            )  # fmt: skip
            sql = "INSERT INTO documents VALUES (?, ?, 1, ?)"
            registry._db.execute(sql, (keys.COLLECTION, f"{number:064}", record.model_dump_json()))
        registry._db.execute("COMMIT")


def come_in(warehouse: DuckDBWarehouse, events: int, round_: int) -> None:
    """The events of some minutes, like those that there are."""
    warehouse._connection.execute(
        f"INSERT INTO {DATASET}.events BY NAME SELECT * REPLACE (md5(event_id || '{round_}') AS event_id,"
        f" now() AS occurred_at, now() AS received_at) FROM (SELECT * FROM {DATASET}.events LIMIT {events})"
    )


def timed(took: dict[str, float], name: str, act: Callable[..., Any]) -> Callable[..., Any]:
    """The same, its seconds added up."""

    def called(*given: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        try:
            return act(*given, **named)
        finally:
            took[name] += time.perf_counter() - begun

    return called


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.tick", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--people", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, took, board = Path(name), defaultdict[str, float](float), Nowhere()
        warehouse = company(given.events, folder / "warehouse.duckdb", given.people)
        write_policy(folder, given.people)
        registry = SqliteRegistry(folder / "registry.db")
        put_keys(registry, given.people)
        for act in ("query", "append", "replace", "rewrite"):
            setattr(warehouse, act, timed(took, "warehouse", getattr(warehouse, act)))
        for act in ("get", "put", "find", "delete"):
            setattr(registry, act, timed(took, "registry", getattr(registry, act)))
        room = Room(warehouse, registry, [board], folder, "", 86_400, 5, lambda: datetime.now(UTC))
        ticks, parts = list[float](), list[dict[str, float]]()
        for number in range(TICKS + 1):
            come_in(warehouse, given.events * EVERY_S // (90 * 86_400), number)
            took.clear()
            begun = time.perf_counter()
            done = tick(room)
            ticks.append(time.perf_counter() - begun)
            parts.append(dict(took))
        usual = {part: statistics.median(each[part] for each in parts[1:]) for part in ("warehouse", "registry")}
        print(
            f"{given.people:,} people, {BUDGETS:,} budgets ({sum(done['budgets'].values()):,} judged), "
            f"{given.events:,} events; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n\n"
            "| | s |\n|---|---|\n"
            f"| the first tick, which loads all and tells {board.taken:,} messages | {ticks[0]:.1f} |\n"
            f"| a tick, median of {TICKS} | **{statistics.median(ticks[1:]):.1f}** (goal ≤ 5) |\n"
            f"| of it the warehouse | {usual['warehouse']:.1f} |\n"
            f"| of it the registry | {usual['registry']:.1f} |"
        )
        warehouse.close()


if __name__ == "__main__":
    main()
