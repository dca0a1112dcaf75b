"""ingest: from the topic into the warehouse. Push in, 204 out once the row is durable.

A request is answered in one of two ways. 204: the event is stored, or the message is shelved with the reason, so that
nothing unreadable ever comes again. 503: the warehouse is in trouble, and Pub/Sub brings the message later.

One event loop serves all requests and inserts run beside it, so THREADS means nothing here. Deploy with one vCPU and a
concurrency of 200: while an insert takes 50 ms, that many requests fill the next one (bench/ingest.py). The
subscription's ack deadline must be longer than the warehouse's own timeouts: 90 s.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import partial

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from governance import logs
from governance.settings import IngestSettings, load
from governance.warehouse import WarehouseError, open_warehouse

from .group_commit import GroupCommit
from .message import Delivery, Unreadable, read_event, unwrap

log = logging.getLogger("tally.ingest")
settings = load(IngestSettings)
logs.start(logging.getLevelNamesMapping()[settings.log_level])
warehouse = open_warehouse(settings.warehouse)
events, shelf = (
    GroupCommit(partial(warehouse.append, table), settings.insert_parallel, settings.insert_rows)
    for table in ("events", "shelved")
)


@functions_framework.aio.http
async def ingest(request: Request) -> Response:
    """One push request. A GET only asks whether the function is there."""
    if request.method != "POST":
        return Response(status_code=200)
    delivery, now = unwrap(await request.body()), datetime.now(UTC)
    try:
        reason = await _store(delivery, now)
        if reason is not None:
            await _shelve(delivery, reason, now)
    except WarehouseError as error:
        log.warning("not stored; it will come again", extra={"error": str(error), "message_id": delivery.message_id})
        return Response(status_code=503)
    return Response(status_code=204)


async def _store(delivery: Delivery, now: datetime) -> str | None:
    """Store the delivery's event; why it cannot be, or None when it is durable."""
    if delivery.fault:
        return delivery.fault
    try:
        event = read_event(delivery.data)
    except Unreadable as error:
        return str(error)
    refused = await events.add({**event.row(), "received_at": now})
    return f"the warehouse refused it: {refused}" if refused else None


async def _shelve(delivery: Delivery, reason: str, now: datetime) -> None:
    refused = await shelf.add(delivery.shelved(reason, now))
    if refused:
        raise WarehouseError(f"the shelf refused a message: {refused}")
    log.warning("shelved", extra={"reason": reason, "message_id": delivery.message_id})
