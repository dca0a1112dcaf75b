"""What our own checks add to a request, beside LiteLLM's work on it: for a key without powers, and for one with all.

    python -m bench.guard

Each check by itself, and all of them as the middleware makes them, around an application that does nothing. Reading the
body as JSON is not among them: LiteLLM would do it, and is handed what was read here.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from governance import keys, prices, tools
from governance.keys import KeyRecord
from governance.registry import open_registry
from proxy_service import auth, gate_words, guard, powers
from proxy_service.auth import Holder, KeyCheck
from proxy_service.gatekeeper import Gatekeeper
from proxy_service.network import Networks
from proxy_service.pace import Pace
from proxy_service.refusals import Refusal
from tests.limits import limit, tell

ROUNDS, REPEATS = 2_000, 40
GOAL_US = 50
POWERS: dict[str, Any] = {
    "expires_at": datetime.now(UTC) + timedelta(days=30),
    "models": ("claude-opus-*", "claude-sonnet-*", "claude-haiku-*", "gpt-5*", "openrouter/moonshotai/*"),
    "requests_per_minute": 10**7,
    "tokens_per_minute": 10**9,
    "tags": ("project=apollo", "cost_centre=4711"),
}
BUDGETS = [  # of everything that a request of the key below counts against, and three hundred others
    ("company", ""),
    ("team", "t"),
    ("person", "a@example.com"),
    ("model", "claude-sonnet-5-5"),
    ("tool", "claude-code"),
    ("provider", "anthropic"),
    ("tag", "project=apollo"),
    *(("person", f"p{number}@example.com") for number in range(300)),
]
HEADERS = [
    (b"host", b"tally.example.com"),
    (b"user-agent", b"claude-cli/2.1.197 (external, cli)"),
    (b"content-type", b"application/json"),
    (b"anthropic-version", b"2023-06-01"),
    (b"anthropic-beta", b"claude-code-20250219,interleaved-thinking-2025-05-14"),
    (b"x-claude-code-session-id", b"0199f3a2-1111-7000-8000-000000000001"),
    (b"x-app", b"cli"),
    (b"x-forwarded-for", b"203.0.113.77"),
]


def agents_body() -> dict[str, Any]:
    """A turn in the middle of a session: sixty messages, twenty tools, some 300 kB."""
    said = [{"type": "text", "text": "some lines of code and of what is to be done with them " * 90}]
    tool = {
        "name": "Edit",
        "description": "Replaces a text. " * 40,
        "input_schema": {"type": "object", "properties": {}},
    }
    return {
        "model": "claude-sonnet-5-5",
        "max_tokens": 32_000,
        "stream": True,
        "system": said,
        "tools": [tool | {"name": f"Tool{number}"} for number in range(20)],
        "messages": [{"role": ("user", "assistant")[at % 2], "content": said} for at in range(60)],
        "metadata": {"user_id": "user_abc_account__session_0199f3a2-1111-7000-8000-000000000001"},
        "thinking": {"type": "adaptive"},
    }


def each_us(work: Callable[[], object]) -> float:
    """Microseconds of processor time of one call: the best of some short series, or other work would be in it."""
    best = float("inf")
    for _ in range(REPEATS):
        started = time.process_time()
        for _ in range(ROUNDS):
            work()
        best = min(best, time.process_time() - started)
    return best / ROUNDS * 1e6


class Checks:
    """Everything that the middleware asks before a request goes on to LiteLLM, for one key."""

    def __init__(self, check: KeyCheck, gate: Gatekeeper, key: str) -> None:
        self._check, self._gate, self._pace = check, gate, Pace()
        self._networks = Networks("a pepper for the bench", 1)
        raw = [*HEADERS, (b"authorization", f"Bearer {key}".encode())]
        self._raw, self._scope = raw, {"headers": raw, "client": ("10.0.0.1", 5)}
        self._headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
        self._body = orjson.loads(orjson.dumps(agents_body()))

    def holder(self) -> Holder:
        holder = self._check.cached(auth.presented(self._headers) or "")
        assert holder is not None
        assert auth.refusal(holder) is None
        return holder

    def caller(self) -> object:
        caller = tools.identify(self._headers)
        return caller.session_id or guard.session_in(self._body), self._networks.of(self._scope)

    def body(self) -> object:
        passed = guard.check_body(self._body)
        assert not isinstance(passed, Refusal)
        return guard.check_headers(self._raw, "a request's id", 300_000)

    def powers(self, record: KeyRecord) -> object:
        assert powers.refusal(record, self._body["model"], "anthropic", self._body) is None
        return self._pace.refusal(record)

    def budgets(self, record: KeyRecord) -> object:
        verdict = self._gate.check(record, self._body["model"], "anthropic", "claude-code")
        assert not verdict.refused_by
        return gate_words.headers(verdict, "messages")

    def all(self) -> object:
        holder = self.holder()
        return self.caller(), self.body(), self.powers(holder.record), self.budgets(holder.record)


def main() -> None:
    """Measure and print a table."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # as in the gateway: nothing is fetched
    registry = open_registry(f"sqlite://{tempfile.mkdtemp()}/registry.db")
    check = KeyCheck(registry, "a pepper for the bench", ttl_s=3600, stale_s=3600)
    gate = Gatekeeper(registry, prices.book(), 2.0)
    tell(registry, *(limit(scope, name, spent="500", usd="1000") for scope, name in BUDGETS))
    gate.look()
    print("| what is asked, µs | a key without powers | a key with all of them |\n|---|---|---|")
    made: list[tuple[Checks, KeyRecord]] = []
    for fields in ({}, POWERS):
        key = keys.make()
        hashed, record = keys.new_record(key, "a pepper for the bench", person="a@example.com", team="t", **fields)
        registry.put(keys.COLLECTION, hashed, record.document())
        assert asyncio.run(check.holder(key)) is not None
        made.append((Checks(check, gate, key), record))
    for name, work in (
        ("whose key, and does it hold", lambda checks, _: checks.holder()),
        ("which tool, session and network", lambda checks, _: checks.caller()),
        ("what stands in body and headers", lambda checks, _: checks.body()),
        ("its models and its pace", lambda checks, record: checks.powers(record)),
        ("what is left of its budgets", lambda checks, record: checks.budgets(record)),
        ("**all**", lambda checks, _: checks.all()),
    ):
        row = [each_us(lambda work=work, c=c, r=r: work(c, r)) for c, r in made]  # type: ignore[misc]
        goal = f" (goal ≤ {GOAL_US})" if name == "**all**" else ""
        print(f"| {name}{goal} | " + " | ".join(f"{us:.1f}" for us in row) + " |", flush=True)
    check.close()


if __name__ == "__main__":
    main()
