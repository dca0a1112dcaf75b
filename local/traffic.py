"""A trickle of live traffic: people of the synthetic company ask through the gateway, as their agents would.

    python -m local.traffic --proxy http://127.0.0.1:4000 --keys .tally/demo/keys.json --but demo.person@example.com

Each request is a real one: the person's own key, the agent's own headers and route, a stream where the agent streams.
What the simulated provider shall answer stands in the prompt (local/wire/directive.py); there is no other text in it.
Now and then somebody asks the provider itself, with a key of her own: what a gateway does not see.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import random
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp

from governance import logs
from governance.policy import read_people
from local.billed_history import BYPASS_PER_10_000, BYPASSED, OWN_KEY
from local.company import DAYS, Agent, Member, members, model_of, terms_of

PEOPLE_AT_ONCE: Final = 6  # people who work with an agent at a time
log = logging.getLogger("tally.traffic")
_PATHS: Final = {
    "messages": "/v1/messages?beta=true",
    "responses": "/v1/responses",
    "chat_completions": "/v1/chat/completions",
    "embeddings": "/v1/embeddings",
}


def directive(agent: Agent, turn: int, dice: random.Random) -> str:
    """What the provider shall answer to this turn of a session: context grows, most of it is read from the cache."""
    if agent.turns == "completion":
        tokens = f"input={round(dice.lognormvariate(7.0, 1.36)) + 1} output={round(dice.lognormvariate(2.8, 0.85)) + 1}"
        return f"[[sim {tokens} delay_ms={dice.randrange(80, 400)}]]"
    prompt = min(190_000, round(dice.lognormvariate(11.0, 0.4) + turn * 5_000))
    read = round(prompt * min(0.95, max(0.6, dice.gauss(0.68 + 0.16 * min(1, turn / 6), 0.08))))
    fresh = (prompt - read) // 10
    written = f"cache_write_5m={prompt - read - fresh} input={fresh}"
    kinds = written if agent.provider == "anthropic" else f"input={prompt - read}"
    output = min(4_000, round(dice.lognormvariate(6.2, 0.8)) + 1)
    searches = f" web_search={dice.randrange(1, 4)}" if agent.provider in BYPASSED and dice.random() < 0.03 else ""
    trouble = " error=529" if dice.random() < 0.01 else " cut=4" if dice.random() < 0.005 else ""
    pace = f"delay_ms={dice.randrange(300, 1800)} chunks=20 chunk_ms={math.ceil(output / 20)}"
    return f"[[sim {kinds} cache_read={read} output={output} reasoning={output // 4} {pace}{searches}{trouble}]]"


def request(
    agent: Agent, model: str, prompt: str, session_id: str, tier: str = "standard"
) -> tuple[dict[str, Any], dict[str, str]]:
    """(body, headers) of one turn, without the key."""
    terms = {"speed": "fast"} if tier == "fast" else {"service_tier": tier} if tier != "standard" else {}
    version = agent.versions[-1]
    headers = {"user-agent": agent.user_agent.format(version=version)}
    said: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
    if agent.route == "messages":
        headers |= {"anthropic-version": "2023-06-01", "x-app": "cli"}
        if agent.tool == "claude-code":
            headers["x-claude-code-session-id"] = session_id
        body = {"model": model, "max_tokens": 8192, "messages": said, "stream": agent.turns == "agent"}
        return body | terms, headers
    if agent.route == "responses":
        headers |= {"originator": "codex_cli_rs", "session-id": session_id}
        return {"model": model, "input": said, "stream": True, "store": False} | terms, headers
    if agent.route == "embeddings":
        return {"model": model, "input": [prompt]}, headers
    return {"model": model, "messages": said, "stream": True} | terms, headers


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where people ask: the gateway, and the provider that some go to past it; None when nobody does."""

    proxy: str
    provider: str | None = None

    def of(self, agent: Agent, key: str, dice: random.Random) -> tuple[str, str]:
        """(URL, key) for one request."""
        past_it = agent.provider in BYPASSED and dice.random() < BYPASS_PER_10_000 / 10_000
        if past_it and self.provider is not None:
            return self.provider + _PATHS[agent.route], OWN_KEY
        return self.proxy + _PATHS[agent.route], key


async def session(
    http: aiohttp.ClientSession, to: Addresses, who: Member, key: str, per_minute: float, dice: random.Random
) -> None:
    """One person's session with the usual agent: some turns, with time to think in between."""
    agent, session_id = who.agents[0], str(uuid.UUID(int=dice.getrandbits(128), version=4))
    usual = model_of(agent, who, datetime.now(UTC).date(), datetime.now(UTC).date() - timedelta(days=DAYS))
    model, tier = terms_of(agent, usual, dice.random())
    for turn in range(dice.randrange(2, 14)):
        body, headers = request(agent, model, directive(agent, turn, dice), session_id, tier)
        url, own = to.of(agent, key, dice)
        headers["authorization"] = f"Bearer {own}"
        try:
            async with http.post(url, json=body, headers=headers) as answer:
                await answer.read()
                if answer.status >= 400 and answer.status != 529:
                    log.warning("a request was not answered", extra={"status": answer.status, "route": agent.route})
        except (aiohttp.ClientError, TimeoutError) as error:
            log.info("a request was cut off", extra={"error": type(error).__name__})
        await asyncio.sleep(dice.expovariate(per_minute / 60 / PEOPLE_AT_ONCE))


async def trickle(to: Addresses, everybody: list[tuple[Member, str]], per_minute: float) -> None:
    """Sessions without end, a few at a time."""
    dice = random.Random()
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(timeout=timeout) as http:

        async def seat() -> None:
            while True:
                who, key = dice.choice(everybody)
                await session(http, to, who, key, per_minute, dice)

        async with asyncio.TaskGroup() as seats:
            for _ in range(PEOPLE_AT_ONCE):
                seats.create_task(seat())


def main() -> None:
    """Ask until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.traffic", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--proxy", required=True)
    parser.add_argument("--provider", help="where those ask who go past the gateway; without it nobody does")
    parser.add_argument("--keys", type=Path, required=True, help="JSON: a key by e-mail")
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--but", default="", help="e-mail of someone who asks for herself")
    parser.add_argument("--per-minute", type=float, default=30.0)
    given = parser.parse_args()
    logs.start()
    keys: dict[str, str] = json.loads(given.keys.read_text())
    today = datetime.now(UTC).date()
    here = [p for p in read_people(given.people) if p.is_here(today) and p.email != given.but and p.email in keys]
    company = members(here, today - timedelta(days=DAYS), dict.fromkeys(keys, ""))
    # Those who dropped the agents after the pilot leave them alone: a key that nobody uses is to be seen, too.
    asking = [(m, keys[m.person]) for m in company if m.person and m.from_day <= today and not m.pilot]
    asyncio.run(trickle(Addresses(given.proxy, given.provider), asking, given.per_minute))


if __name__ == "__main__":
    main()
