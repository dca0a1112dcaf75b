"""The bills function: Cloud Scheduler POSTs, and what the providers say of our use is read into the warehouse.

IAM stands in front of it. A reading may come late, twice or in parallel. It holds admin keys, read-only where the
provider has such: nobody else needs them, and they are in no log line, error or row.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

import flask
import functions_framework

from governance import logs
from governance.settings import BillsSettings, load
from governance.warehouse import WarehouseError, open_warehouse

from . import anthropic_bill, openai_bill
from .pager import Api
from .reading import Bill, Room, read_bills

DEADLINE_S = 240.0  # of one provider, waiting included: together they stay below a function's usual nine minutes
log = logging.getLogger(__name__)


def _bills(settings: BillsSettings) -> list[Bill]:
    bills = []
    if settings.openai_admin_key is not None:
        key = {"Authorization": f"Bearer {settings.openai_admin_key.get_secret_value()}"}
        read = partial(_read, openai_bill, settings.openai_admin_url, key)
        bills.append(Bill("openai", read, settings.gateway_of("openai")))
    if settings.anthropic_admin_key is not None:
        key = {
            "x-api-key": settings.anthropic_admin_key.get_secret_value(),
            "anthropic-version": anthropic_bill.VERSION,
        }
        read = partial(_read, anthropic_bill, settings.anthropic_admin_url, key)
        bills.append(Bill("anthropic", read, settings.gateway_of("anthropic")))
    return bills


def _read(provider: Any, url: str, headers: dict[str, str], *days: Any) -> Any:
    """Each reading has a deadline of its own."""
    return provider.read(Api(url, headers, time.monotonic, time.sleep, time.monotonic() + DEADLINE_S), *days)


_settings = load(BillsSettings)
logs.start(logging.getLevelNamesMapping()[_settings.log_level])
room = Room(open_warehouse(_settings.warehouse), _bills(_settings), _settings.bill_days, lambda: datetime.now(UTC))


@functions_framework.http
def bills(request: flask.Request) -> tuple[dict[str, Any], int]:
    """200 with what was read; 503 when it must be done again later; 500 when a key or an answer has a fault."""
    if request.method != "POST":
        return {"error": "a reading is a POST"}, 405
    try:
        done = read_bills(room)
    except WarehouseError as error:
        log.error("a reading was put off", extra={"reason": f"{type(error).__name__}: {error}"})
        return {"error": f"{type(error).__name__}: {error}"}, 503
    for provider, reason in (done.later | done.wrong).items():
        log.error("a bill was not read", extra={"provider": provider, "reason": reason})
    log.info("reading", extra={"done": done.read})
    answer = {"read": done.read, "later": done.later, "wrong": done.wrong}
    return answer, 500 if done.wrong else 503 if done.later else 200
