"""Call: one request to the simulated provider with the answer decided for it, and its line of the bill."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from aiohttp import web

from governance.events import Route
from local.ledger import Ledger, Line, Outcome, Payer
from local.wire import completions, messages, responses
from local.wire.turn import NOTHING, STANDARD, Frame, Tokens, Turn

_MOST_STUMBLES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it was read: where it came in, who pays, what it asks for, and the answer decided for it."""

    request_id: str
    occurred_at: datetime
    route: Route
    provider: str
    body: Mapping[str, Any]
    turn: Turn
    payer: Payer

    @property
    def model(self) -> str:
        """The model asked for, which is the one that answers."""
        return str(self.body["model"])

    @property
    def stream(self) -> bool:
        """Whether the caller asked for a stream."""
        return bool(self.body.get("stream")) and self.route != "embeddings"

    @property
    def sends_usage(self) -> bool:
        """Whether the answer tells its usage."""
        if self.route == "chat_completions":
            return completions.sends_usage(self.provider, self.body, self.turn)
        return self.turn.usage != "omit"

    def cost_usd(self, ledger: Ledger, tokens: Tokens) -> Decimal:
        """What the request costs whoever asked, with so many tokens."""
        cost = ledger.charge(self.provider, self.model, tokens, self.turn.terms)
        return completions.with_fee(cost) if self.turn.byok and self.provider == "openrouter" else cost

    def line(self, ledger: Ledger, outcome: Outcome, status: int = 200, said_tokens: int | None = None) -> Line:
        """This call on the bill: all of the answer, or the `said_tokens` of it that were generated before it ended.

        Whoever lost the end of an answer was not told its usage, and pays all the same.
        """
        nothing, turn = outcome == "error", self.turn
        tokens = NOTHING if nothing else turn.tokens if said_tokens is None else turn.tokens.until(said_tokens)
        return Line(
            request_id=self.request_id,
            occurred_at=self.occurred_at,
            route=self.route,
            provider=self.provider,
            model=self.model,
            stream=self.stream,
            status=status,
            outcome=outcome,
            usage="sent" if self.sends_usage and outcome == "answered" else "omitted",
            tokens=tokens,
            cost_usd=Decimal(0) if nothing else self.cost_usd(ledger, tokens),
            payer=self.payer,
            terms=STANDARD if nothing else turn.terms,
        )


def answer(call: Call, cost_usd: Decimal) -> dict[str, Any]:
    """The whole answer to a call that did not ask for a stream."""
    if call.route == "messages":
        return messages.answer(call.request_id, call.body, call.turn)
    if call.route == "responses":
        return responses.answer(call.request_id, call.body, call.turn)
    if call.route == "embeddings":
        return completions.embeddings(call.body, call.turn)
    return completions.answer(call.request_id, call.provider, call.body, call.turn, cost_usd)


def frames(call: Call, cost_usd: Decimal) -> Iterable[Frame]:
    """The frames of the stream that answers a call."""
    if call.route == "messages":
        return messages.frames(call.request_id, call.body, call.turn)
    if call.route == "responses":
        return responses.frames(call.request_id, call.body, call.turn)
    return completions.frames(call.request_id, call.provider, call.body, call.turn, cost_usd)


class Stumbles:
    """How often each request has failed so far, of those told to fail a few times before they are answered."""

    def __init__(self) -> None:
        self._failed: Counter[bytes] = Counter()

    def status(self, body: bytes, turn: Turn) -> int | None:
        """The status with which this request fails now; None when it is answered."""
        if not turn.errors:
            return turn.error
        key = hashlib.sha256(body).digest()
        if self._failed[key] >= turn.errors:
            return None
        if len(self._failed) > _MOST_STUMBLES:
            self._failed.clear()
        self._failed[key] += 1
        return turn.error or 500


@dataclass(slots=True)
class Said:
    """How much of an answer was sent: a provider stops, and bills no further, when its caller has left."""

    tokens: int = 0

    async def send(self, out: web.StreamResponse, events: list[Frame], chunk_ms: int) -> None:
        """Write the frames, with a pause after each where there is one. Raises ConnectionResetError."""
        if not chunk_ms:
            await out.write(b"".join(event.data for event in events))
            self.tokens += sum(event.tokens for event in events)
            return
        for event in events:
            if event.data:  # a provider that thinks silently sends nothing
                await out.write(event.data)
            self.tokens += event.tokens
            await asyncio.sleep(chunk_ms / 1000)
