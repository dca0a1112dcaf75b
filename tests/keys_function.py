"""A keys function in this process, and a company whose budgets are as the alerts function would have told them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from governance import gate
from governance.gate import Head, Limit
from governance.registry import Registry
from tests.conftest import function_app


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, str]) -> Iterator[FlaskClient]:
    """The function with these settings."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    before, level = list(logging.root.handlers), logging.root.level
    yield function_app("keys").test_client()
    logging.root.handlers[:], logging.root.level = before, level


def limit(scope: str, name: str, amount: int, spent: int, *, blocks: bool = True, **changed: object) -> Limit:
    """A monthly budget as the gateways are told it."""
    now = datetime.now(UTC)
    key = "person-month" if scope == "person" else "-".join(part for part in (scope, name, "month") if part)
    made = Limit(
        budget=key,
        scope=scope,
        name=name,
        period=f"{now:%Y-%m}",
        ends_at=now + timedelta(days=9),
        limit_usd=Decimal(amount),
        spent_usd=Decimal(spent),
        blocks_at_usd=Decimal(amount) if blocks else None,
        blocked=blocks and spent >= amount,
        ask="bob@example.com",
    )
    return made if not changed else Limit(**{field: changed.get(field, getattr(made, field)) for field in FIELDS})  # type: ignore[arg-type]


@contextmanager
def listening(client: FlaskClient) -> Iterator[str]:
    """The same function behind a port of its own; its address."""
    server = make_server("127.0.0.1", 0, client.application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


FIELDS = tuple(Limit.__dataclass_fields__)


def counted(registry: Registry, *limits: Limit, default_usd: int | None = 50, stale: bool = False) -> None:
    """Tell the gateways as a tick that has just counted."""
    now = datetime.now(UTC)
    defaults = () if default_usd is None else (limit("person", gate.ANYBODY, default_usd, 0),)
    gate.write(registry, Head(now, now - timedelta(minutes=2), stale, 900.0, defaults), limits)
