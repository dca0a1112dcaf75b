"""One inference request and what is known of it, from its arrival to its event."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from governance.events import Route
from governance.keys import KeyRecord
from governance.tools import Caller
from proxy_service.answers import Answer
from proxy_service.usage import Tokens


@dataclass(frozen=True, slots=True)
class Account:
    """What LiteLLM says of a request. The tokens serve only where the wire showed nothing that we can read."""

    provider: str | None
    model: str | None
    cost_usd: float | None
    error_class: str | None
    tokens: Tokens
    output_measured: bool


@dataclass(slots=True, eq=False)
class Asked:
    """One inference request, from its arrival to its event."""

    route: Route
    record: KeyRecord
    caller: Caller
    network: str | None = None  # see network.py
    occurred_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_s: float = field(default_factory=time.monotonic)
    event_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    model: str | None = None
    provider: str | None = None
    stream: bool = False
    session_id: str | None = None
    prompt: dict[str, Any] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    account: Account | None = None
    refused: str | None = None
    left: bool = False
    http_status: int | None = None
    first_byte_s: float | None = None
    ended_s: float | None = None
    error_class: str | None = None
