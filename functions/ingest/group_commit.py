"""GroupCommit: requests that arrive together share one insert, and none waits for company."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]
Store = Callable[[Sequence[Row]], dict[int, str]]


class GroupCommit:
    """Stores rows with the blocking `store`, up to `rows` in one call and `parallel` calls at once.

    There is no timer: a row that comes alone is stored at once, and while calls are under way the next group gathers.
    """

    def __init__(self, store: Store, parallel: int, rows: int) -> None:
        self._store, self._parallel, self._rows = store, parallel, rows
        self._waiting: list[tuple[Row, asyncio.Future[str | None]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def add(self, row: Row) -> str | None:
        """Returns once the row is durable: None, or why it will never be taken. Raises what `store` raises."""
        stored: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, stored))
        if len(self._under_way) < self._parallel:
            work = asyncio.create_task(self._work())
            self._under_way.add(work)
            work.add_done_callback(self._under_way.discard)
        return await stored

    async def _work(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[: self._rows], self._waiting[self._rows :]
            try:
                refused = await asyncio.to_thread(self._store, [row for row, _ in group])
            except Exception as error:
                for _, stored in group:
                    if not stored.done():  # its request may have been given up
                        stored.set_exception(error)
            else:
                for i, (_, stored) in enumerate(group):
                    if not stored.done():
                        stored.set_result(refused.get(i))
