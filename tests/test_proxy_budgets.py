"""Budgets at the real gateway: a crossing stops what comes after it, everywhere, in words that every client reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from governance import gate
from governance.gate import Granted, Limit
from governance.registry import ANY
from tests.conftest import eventually
from tests.gateway import PEPPER, PROVIDER_KEYS, RunningGateway, start_provider
from tests.limits import limit, tell

pytestmark = pytest.mark.timeout(300)

CHAT = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "Say hello [[sim input=1000 output=1000]]"}]}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "messages": ("/v1/messages", {"model": "claude-opus-5-5", "max_tokens": 9, "messages": CHAT["messages"]}),
    "responses": ("/v1/responses", {"model": "gpt-5.4", "input": "Say hello"}),
    "embeddings": ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "hello"}),
}
USD = Decimal("0.0175")  # of one CHAT: 1,000 tokens of input at 2.50 USD a million, 1,000 of output at 15 USD


class Pair:
    """Two instances of the gateway with one registry and one provider. Team `stopped` is over its budget, always, and
    team `near` has used 85 percent of its."""

    def __init__(self, folder: Path, provider_url: str) -> None:
        self.first = RunningGateway(folder / "first", provider_url)
        self.second = RunningGateway(folder / "second", provider_url, TALLY_REGISTRY=self.first.registry_url)
        self.registry = self.first.registry
        self.stopped, self.near = self.key_of("stopped"), self.key_of("near")
        self.tell()
        eventually(lambda: refused(self.chat(self.stopped)) and refused(self.chat(self.stopped, self.second)))
        for gateway in (self.first, self.second):  # the first request to a provider takes seconds: it is none of ours
            assert not refused(self.chat(self.near, gateway))

    def key_of(self, team: str) -> str:
        return self.first.new_key(f"ada@{team}.example.com", team)

    def tell(self, *limits: Limit, **head: Any) -> None:
        tell(self.registry, limit("team", "stopped", "12.40"), limit("team", "near", "8.50"), *limits, **head)

    def chat(self, key: str, gateway: RunningGateway | None = None, body: dict[str, Any] = CHAT) -> httpx.Response:
        return (gateway or self.first).post("/v1/chat/completions", body, key)

    def known(self, key: str) -> bool:
        """Whether the limits of this key's team have arrived at the first instance; it costs next to nothing."""
        return "x-tally-budget" in self.first.post(*REQUESTS["embeddings"], key).headers


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("budgets")
    for name in ("first", "second"):
        (folder / name).mkdir()
    provider, provider_url = start_provider(folder)
    made = Pair(folder, provider_url)
    yield made
    made.second.stop()
    made.first.stop()
    provider.stop()


def refusal(ask: Callable[[], httpx.Response], within_s: float = 10) -> httpx.Response:
    """The first answer that is a refusal."""

    def asked() -> list[httpx.Response]:
        answer = ask()
        return [answer] if refused(answer) else []

    return eventually(asked, within_s)[0]


def refused(response: httpx.Response) -> bool:
    assert response.status_code in (200, 429), response.text
    return response.status_code == 429


def test_from_the_crossing_to_the_refusal_it_is_a_second_and_the_other_instance_agrees_within_five(pair: Pair) -> None:
    key = pair.key_of("crossing")
    pair.tell(limit("team", "crossing", usd=str(2 * USD)))
    eventually(lambda: pair.known(key))
    assert [refused(pair.chat(key)) for _ in range(2)] == [False, False]
    crossed_at = time.monotonic()
    answer = refusal(lambda: pair.chat(key))
    assert time.monotonic() - crossed_at < 10
    eventually(lambda: refused(pair.chat(key, pair.second)), within_s=5)
    event = pair.first.event_of(answer)
    assert (event.status, event.error_class, event.http_status) == ("refused", "budget_exceeded", 429)
    assert (event.provider, event.model_requested, event.input_tokens) == ("openai", "gpt-5.4", 0)


def test_a_burst_goes_over_by_no_more_than_what_was_in_flight(pair: Pair) -> None:
    key = pair.key_of("burst")
    slow = CHAT | {"messages": [{"role": "user", "content": "[[sim input=1000 output=1000 delay_ms=1500]]"}]}
    pair.tell(limit("team", "burst", usd=str(3 * USD)))
    eventually(lambda: pair.known(key))
    with ThreadPoolExecutor(50) as threads:
        burst = list(threads.map(lambda _: pair.chat(key, body=slow), range(50)))
    in_flight = sum(not refused(answer) for answer in burst)
    assert in_flight >= 3
    refusal(lambda: pair.chat(key))
    assert all(refused(pair.chat(key)) for _ in range(20))
    events = eventually(lambda: [e for e in pair.first.topic.events() if e.team == "burst" and e.status == "ok"])
    assert sum(e.route == "chat_completions" for e in events) <= in_flight + 1


def test_a_raise_lets_go_on_within_five_seconds_on_every_instance(pair: Pair) -> None:
    key, one = pair.key_of("raised"), limit("team", "raised", "10")
    pair.tell(one)
    eventually(lambda: refused(pair.chat(key)) and refused(pair.chat(key, pair.second)))
    gate.grant(pair.registry, Granted("r1", one.budget, one.name, one.period, Decimal(5)))
    eventually(lambda: not refused(pair.chat(key)), within_s=5)
    eventually(lambda: not refused(pair.chat(key, pair.second)), within_s=5)


def test_a_new_period_lets_go_on_by_itself_without_a_tick(pair: Pair) -> None:
    key, soon = pair.key_of("periodic"), datetime.now(UTC) + timedelta(seconds=8)
    pair.tell(replace(limit("team", "periodic", "10"), ends_at=soon))
    answer = refusal(lambda: pair.chat(key))
    assert 1 <= int(answer.headers["retry-after"]) <= 8
    eventually(lambda: not refused(pair.chat(key)), within_s=13)
    assert 0 <= (datetime.now(UTC) - soon).total_seconds() < 5


def test_on_stale_data_nothing_new_is_blocked_and_what_was_stays(pair: Pair) -> None:
    key = pair.key_of("unsure")
    pair.tell(limit("team", "unsure", usd=str(USD)), stale=True)
    eventually(lambda: pair.known(key))
    assert not any(refused(pair.chat(key)) for _ in range(4))
    assert refused(pair.chat(pair.stopped))
    assert "unsure" not in {trip.name for trip in gate.tripped(pair.registry)}
    pair.tell(limit("team", "unsure", usd=str(USD)), counted_through=datetime.now(UTC) - timedelta(minutes=5))
    eventually(lambda: refused(pair.chat(key)))  # trustworthy again: what went through here counts


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("route", REQUESTS)
def test_a_refusal_is_in_the_dialect_of_its_route_and_says_all(pair: Pair, route: str, stream: bool) -> None:
    one = limit("team", "stopped", "12.40")
    path, body = REQUESTS[route]
    answer = pair.first.post(path, body | {"stream": stream}, pair.stopped)
    assert refused(answer)
    error = answer.json()["error"]
    assert "Team stopped's monthly budget is used up: 12.40 of 10.00 USD" in error["message"]
    assert f"{one.ends_at:%-d %B %Y} at 00:00 UTC" in error["message"]
    assert "ask for more: `/tally raise <dollars> <reason>`" in error["message"]
    assert "lea@example.com decides" in error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert 0 < int(answer.headers["retry-after"]) <= 3600
    assert answer.headers["content-type"] == "application/json"
    if route == "messages":
        assert answer.json()["type"] == "error"
        assert error["type"] == "billing_error"
    else:
        assert (error["type"], error["code"], error["param"]) == ("usage_limit_reached", "budget_exceeded", None)
        assert error["resets_at"] == int(one.ends_at.timestamp())
    if route == "responses":
        assert "Team stopped's monthly budget" in answer.headers["x-codex-promo-message"]


def requests_of(gateway: RunningGateway, agent: str) -> int:
    return sum(agent in (event.user_agent or "") for event in gateway.topic.events())


@pytest.mark.parametrize("route", ["chat", "responses", "embeddings"])
def test_openais_sdk_raises_its_rate_limit_error_and_does_not_try_again(pair: Pair, route: str) -> None:
    name = f"sdk-{route}"
    client = openai.OpenAI(
        base_url=f"{pair.first.url}/v1", api_key=pair.stopped, max_retries=4, default_headers={"user-agent": name}
    )
    ask: dict[str, Callable[[], object]] = {
        "chat": lambda: client.chat.completions.create(
            model="gpt-5.4", messages=[{"role": "user", "content": "hi"}], stream=True
        ),
        "responses": lambda: client.responses.create(model="gpt-5.4", input="hi", stream=True),
        "embeddings": lambda: client.embeddings.create(model="text-embedding-3-small", input="hi"),
    }
    with closing(client), pytest.raises(openai.RateLimitError, match="Team stopped's monthly budget") as raised:
        ask[route]()
    assert raised.value.code == "budget_exceeded"
    eventually(lambda: requests_of(pair.first, name))
    assert requests_of(pair.first, name) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_anthropics_sdk_raises_its_rate_limit_error_and_does_not_try_again(pair: Pair, stream: bool) -> None:
    name = f"sdk-messages-{stream}"
    client = anthropic.Anthropic(
        base_url=pair.first.url, api_key=pair.stopped, max_retries=4, default_headers={"user-agent": name}
    )
    with closing(client), pytest.raises(anthropic.RateLimitError, match="Team stopped's monthly budget") as raised:
        client.messages.create(
            model="claude-opus-5-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}], stream=stream
        )
    assert raised.value.response.status_code == 429
    eventually(lambda: requests_of(pair.first, name))
    assert requests_of(pair.first, name) == 1


def test_counting_tokens_and_listing_models_is_not_refused(pair: Pair) -> None:
    counted = pair.first.post(
        "/v1/messages/count_tokens", {"model": "claude-opus-5-5", "messages": CHAT["messages"]}, pair.stopped
    )
    assert counted.json()["input_tokens"] > 0
    assert "gpt-5.4" in pair.first.client.get("/v1/models", headers={"x-api-key": pair.stopped}).text


def test_a_subscription_of_ones_own_costs_nothing_and_is_not_refused(pair: Pair) -> None:
    login = {"authorization": "Bearer sk-ant-oat01-own-login", "x-litellm-api-key": f"Bearer {pair.stopped}"}
    answer = pair.first.client.post("/v1/messages", json=REQUESTS["messages"][1], headers=login)
    assert answer.status_code == 200
    assert "x-tally-budget" not in answer.headers
    chat = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": CHAT["messages"]}
    for path, body in (("/v1/chat/completions", chat), REQUESTS["chat"], REQUESTS["responses"]):
        assert refused(pair.first.client.post(path, json=body, headers=login))


@pytest.mark.parametrize("route", REQUESTS)
def test_every_answer_says_how_much_is_left(pair: Pair, route: str) -> None:
    headers = pair.first.post(*REQUESTS[route], pair.near).headers
    assert headers["x-tally-budget"] == "team-near-month"
    assert headers["x-tally-budget-limit-usd"] == "10.00"
    assert Decimal("1.40") <= Decimal(headers["x-tally-budget-remaining-usd"]) <= Decimal("1.50")
    assert headers["x-tally-budget-resets-at"] == f"{limit('team').ends_at:%Y-%m-%dT%H:%M:%SZ}"
    codex = {name: value for name, value in headers.items() if name.startswith("x-codex")}
    if route == "responses":
        assert 85 <= float(codex["x-codex-primary-used-percent"]) < 86
        assert codex["x-codex-primary-window-minutes"] == "43200"
    else:
        assert codex == {}


PRICES = "discounts:\n  - {provider: openai, model: '*', percent: 50, valid_from: 2026-01-01}\n"


def test_a_gateway_that_starts_knows_its_blocks_at_once_and_the_companys_own_prices(pair: Pair, tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.mkdir()
    (policy / "prices.yaml").write_text(PRICES)
    key = pair.key_of("cheap")
    pair.tell(limit("team", "cheap"))
    url = pair.first.env["OPENAI_API_BASE"].removesuffix("/v1")
    more = {"TALLY_REGISTRY": pair.first.registry_url, "TALLY_POLICY_DIR": str(policy)}
    third = RunningGateway(tmp_path, url, **more)
    try:
        assert refused(pair.chat(pair.stopped, third))
        for _ in range(4):
            third.event_of(pair.chat(key, third))
        left = third.post(*REQUESTS["embeddings"], key).headers["x-tally-budget-remaining-usd"]
        assert Decimal(left) == Decimal("9.96")  # 10 less four times half of 0.0175, and never too much
    finally:
        third.stop()


def test_no_secret_is_in_a_refusal_or_the_log_and_a_broken_snapshot_stops_nobody(pair: Pair) -> None:
    answer = pair.chat(pair.stopped)
    shown = answer.text + json.dumps(dict(answer.headers)) + pair.first.log() + pair.second.log()
    for secret in (pair.stopped, *PROVIDER_KEYS.values(), PEPPER):
        assert secret not in shown
    pair.registry.put(gate.GATE, gate.HEAD, {"nonsense": True}, ANY)
    eventually(lambda: "budgets cannot be read" in pair.first.log())
    assert refused(pair.chat(pair.stopped))  # the last known holds
    assert not refused(pair.chat(pair.near))
    pair.tell()
    eventually(lambda: "budgets are read again" in pair.first.log())
