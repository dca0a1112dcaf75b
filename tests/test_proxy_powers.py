"""What a key may: its models, its pace, its end. The rules by themselves, then against the running gateway."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import openai
import pytest

from governance.events import UsageEvent
from governance.keys import KeyRecord
from proxy_service import powers
from proxy_service.pace import Pace
from tests.conftest import eventually
from tests.gateway import RunningGateway, gateway
from tests.test_proxy import CHAT, EMBEDDING, MESSAGE, RESPONSE, ROUTES

__all__ = ["gateway"]

with warnings.catch_warnings():  # LiteLLM's own, while it is imported
    warnings.simplefilter("ignore")
    import litellm.proxy.litellm_pre_call_utils  # noqa: F401


def record(**more: Any) -> KeyRecord:
    return KeyRecord(key_id="abc", person="ada@example.com", last4="wxyz", created_at=datetime.now(UTC), **more)


# ---- models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "model", "provider", "may"),
    [
        ((), "gpt-5.4", "openai", True),
        (("gpt-5.4",), "gpt-5.4", "openai", True),
        (("gpt-5.4",), "openai/gpt-5.4", "openai", True),
        (("openai/gpt-5.4",), "gpt-5.4", "openai", True),
        (("openai/*",), "gpt-5.4", "openai", True),
        (("gpt-5.4",), "gpt-5.4-mini", "openai", False),
        (("gpt-5*",), "gpt-5.4-mini", "openai", True),
        (("claude-*", "gpt-5.4"), "gpt-5.4", "openai", True),
        (("claude-*",), "gpt-5.4", "openai", False),
        (("claude-*",), "anthropic/claude-opus-5-5", "anthropic", True),
        (("claude-*",), "openrouter/anthropic/claude-opus-5", "openrouter", False),
        (("anthropic/*",), "openrouter/anthropic/claude-opus-5", "openrouter", False),
        (("openrouter/anthropic/*",), "openrouter/anthropic/claude-opus-5", "openrouter", True),
        (("claude-[!o]*",), "claude-opus-5-5", "anthropic", False),
        (("GPT-*",), "gpt-5.4", "openai", False),
    ],
)
def test_a_pattern_fits_a_model_under_each_of_its_names(
    patterns: tuple[str, ...], model: str, provider: str, may: bool
) -> None:
    assert powers.may_use(patterns, model, provider) is may


SECOND: list[tuple[str, dict[str, Any]]] = [
    ("an adviser", {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5-5"}]}),
    ("a router's list", {"models": ["claude-haiku-4-5", "claude-opus-5-5"]}),
    ("a plugin", {"plugins": [{"id": "fusion", "analysis_models": ["claude-opus-5-5"]}]}),
    ("a judge", {"plugins": [{"id": "fusion", "judge_model": "claude-opus-5-5"}]}),
    ("a tool's parameters", {"tools": [{"type": "openrouter:ask", "parameters": {"model": "claude-opus-5-5"}}]}),
    ("a setting", {"web_search_options": {"model": "claude-opus-5-5"}}),
]


@pytest.mark.parametrize("body", [b for _, b in SECOND], ids=[name for name, _ in SECOND])
def test_a_second_model_has_to_fit_as_well(body: dict[str, Any]) -> None:
    narrow, wide = record(models=("claude-haiku-*",)), record(models=("claude-*",))
    assert powers.refusal(wide, "claude-haiku-4-5", "anthropic", body) is None
    refusal = powers.refusal(narrow, "claude-haiku-4-5", "anthropic", body)
    assert refusal is not None
    assert "claude-opus-5-5" in refusal.message
    assert powers.refusal(record(), "claude-haiku-4-5", "anthropic", body) is None


def test_of_a_router_a_second_model_counts_by_its_full_name() -> None:
    body = {"models": ["anthropic/claude-opus-5"]}
    narrow = record(models=("anthropic/*", "openrouter/moonshotai/*"))
    assert powers.refusal(narrow, "openrouter/moonshotai/kimi-k3", "openrouter", body) is not None
    wide = record(models=("openrouter/*",))
    assert powers.refusal(wide, "openrouter/moonshotai/kimi-k3", "openrouter", body) is None


def test_what_people_say_and_what_their_tools_take_names_no_model() -> None:
    schema = {"type": "object", "properties": {"model": {"type": "string"}}, "model": "claude-opus-5-5"}
    body = {
        "messages": [{"role": "user", "content": [{"type": "x", "model": "claude-opus-5-5"}]}],
        "input": [{"model": "claude-opus-5-5"}],
        "metadata": {"model": "claude-opus-5-5"},
        "tools": [
            {"type": "function", "function": {"parameters": schema}},
            {"name": "ask", "input_schema": schema},
            {"type": "custom", "name": "ask", "model": "claude-opus-5-5"},
        ],
        "response_format": {"json_schema": {"schema": schema}},
    }
    assert list(powers.others(body)) == []


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_a_key_may_not_use_is_refused_in_the_routes_words(
    gateway: RunningGateway, path: str, body: dict[str, Any], stream: bool
) -> None:
    key = gateway.new_key("ada@example.com", "research", models=["kimi-*", "claude-haiku-*"])
    response = gateway.post(path, body | ({"stream": True} if stream else {}), key)
    assert response.status_code == 403
    error = response.json()["error"]
    assert ("type" in response.json()) == (path == "/v1/messages")
    assert error["type"] == "permission_error"
    assert body["model"] in error["message"]
    assert "kimi-*, claude-haiku-*" in error["message"]
    assert "ask whoever runs Tally" in error["message"]
    event = gateway.event_of(response)
    assert (event.status, event.error_class, event.http_status) == ("refused", "model_not_allowed", 403)
    assert (event.usage_source, event.model_requested) == ("none", body["model"])


def test_a_model_that_a_key_may_use_passes_whatever_it_is_called(gateway: RunningGateway) -> None:
    key = gateway.new_key(None, "research", kind="service", models=["gpt-5*"], owner="grace@example.com")
    for model in ("gpt-5.4", "openai/gpt-5.4"):
        assert gateway.post("/v1/chat/completions", CHAT | {"model": model}, key).status_code == 200
    response = gateway.post("/v1/messages/count_tokens", MESSAGE, key)
    assert response.status_code == 403
    assert "grace@example.com" in response.json()["error"]["message"]


def test_the_list_names_what_the_key_may_use(gateway: RunningGateway) -> None:
    narrow = gateway.new_key("ada@example.com", "research", models=["gpt-5.4*", "anthropic/claude-haiku-*"])
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=narrow, max_retries=0) as client:
        names = {model.id for model in client.models.list()}
        assert names
        assert all(name.startswith(("gpt-5.4", "claude-haiku-")) for name in names)
        assert client.models.retrieve("gpt-5.4").id == "gpt-5.4"
        with pytest.raises(openai.PermissionDeniedError, match=r"may not use 'o3'"):
            client.models.retrieve("o3")
    with anthropic.Anthropic(base_url=gateway.url, api_key=narrow, max_retries=0) as claude:
        assert {model.id for model in claude.models.list(limit=1000)} == names
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        assert len({model.id for model in client.models.list()}) > len(names)


# ---- pace ---------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 5000.25

    def __call__(self) -> float:
        return self.now


def used(tokens: int, **kinds: int) -> list[UsageEvent]:
    told = UsageEvent(
        event_id="e" * 32, request_id="r" * 32, occurred_at=datetime.now(UTC), route="messages", status="ok",
        usage_source="provider", input_tokens=tokens, **kinds,
    )  # fmt: skip
    return [told]


def test_in_no_minute_does_a_key_make_more_requests_than_its_limit() -> None:
    clock = Clock()
    pace, key = Pace(clock), record(requests_per_minute=20)
    passed: list[float] = []
    for _ in range(2000):
        if pace.refusal(key) is None:
            passed.append(clock.now)
        clock.now += 0.37
    assert len(passed) > 200
    assert all(later - first >= 60 for first, later in zip(passed, passed[20:], strict=False))


def test_who_waits_as_long_as_told_is_let_through() -> None:
    clock = Clock()
    pace, key = Pace(clock), record(requests_per_minute=3)
    for step in (0.0, 0.1, 20.0):
        clock.now += step
        assert pace.refusal(key) is None
    clock.now += 1.5
    refusal = pace.refusal(key)
    assert refusal is not None
    assert (refusal.status, refusal.kind) == (429, "requests_per_minute")
    wait_s = int(dict(refusal.headers)[b"retry-after"])
    assert f"Try again in {wait_s} seconds" in refusal.message
    assert 35 < wait_s < 41
    clock.now += wait_s
    assert pace.refusal(key) is None
    assert pace.refusal(key) is None
    assert pace.refusal(key) is not None


def test_tokens_count_when_a_request_is_over_and_those_from_a_cache_do_not() -> None:
    clock = Clock()
    pace, key = Pace(clock), record(tokens_per_minute=1000)
    pace.spent(key, used(500, cache_read_tokens=100_000))
    assert pace.refusal(key) is None
    pace.spent(key, used(100, cache_write_1h_tokens=100, cache_write_5m_tokens=100, output_tokens=200))
    refusal = pace.refusal(key)
    assert refusal is not None
    assert refusal.kind == "tokens_per_minute"
    assert "1,000 tokens per minute" in refusal.message
    clock.now += 61
    assert pace.refusal(key) is None


def test_a_request_that_is_refused_does_not_count() -> None:
    clock = Clock()
    pace, key = Pace(clock), record(requests_per_minute=1)
    assert pace.refusal(key) is None
    for _ in range(59):
        clock.now += 1
        assert pace.refusal(key) is not None
    clock.now += 2
    assert pace.refusal(key) is None


def test_a_key_without_limits_leaves_no_trace_and_idle_ones_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy_service.pace._WINDOWS", 10)
    clock = Clock()
    pace = Pace(clock)
    for _ in range(5):
        assert pace.refusal(record()) is None
        pace.spent(record(), used(10**9))
    assert not pace._requests
    assert not pace._tokens
    for number in range(100):
        clock.now += 30
        assert pace.refusal(record(requests_per_minute=1).model_copy(update={"key_id": str(number)})) is None
    assert len(pace._requests) <= 10


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize("stream", [False, True])
def test_requests_per_minute_hold_on_every_route(
    gateway: RunningGateway, path: str, body: dict[str, Any], stream: bool
) -> None:
    key = gateway.new_key("ada@example.com", "research", requests_per_minute=2)
    body = body | ({"stream": True} if stream and path != "/v1/embeddings" else {})
    answers = [gateway.post(path, body, key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    refused = answers[2]
    error = refused.json()["error"]
    assert ("type" in refused.json()) == (path == "/v1/messages")
    assert error["type"] == "rate_limit_error"
    assert "limited to 2 requests per minute" in error["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "x-should-retry" not in refused.headers
    event = gateway.event_of(refused)
    assert (event.status, event.error_class, event.http_status) == ("refused", "requests_per_minute", 429)


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize("stream", [False, True])
def test_tokens_per_minute_count_what_the_provider_bills_on_every_route(
    gateway: RunningGateway, path: str, body: dict[str, Any], stream: bool
) -> None:
    embeds = path == "/v1/embeddings"
    directive = "[[sim input=600 output=100]]" if embeds else "[[sim input=600 output=100 cache_read=50000]]"
    body = body | ({"input": directive} if "input" in body else {"messages": [{"role": "user", "content": directive}]})
    body = body | ({"stream": True} if stream and not embeds else {})
    each = 600 if embeds else 700
    key = gateway.new_key("ada@example.com", "research", tokens_per_minute=3 * each)
    for _ in range(3):
        answer = gateway.post(path, body, key)
        assert answer.status_code == 200, answer.text
        assert gateway.event_of(answer).output_tokens == each - 600
    refused = gateway.post(path, body, key)
    assert refused.status_code == 429
    assert f"{3 * each:,} were used" in refused.json()["error"]["message"]
    assert gateway.event_of(refused).error_class == "tokens_per_minute"


def test_what_a_caller_leaves_half_way_counts_against_its_tokens(gateway: RunningGateway) -> None:
    key = gateway.new_key("ada@example.com", "research", tokens_per_minute=5000)
    directive = "[[sim input=6000 output=400 chunks=100 chunk_ms=50]]"
    body = MESSAGE | {"stream": True, "messages": [{"role": "user", "content": directive}]}
    headers = {"x-api-key": key}
    with gateway.client.stream("POST", "/v1/messages", json=body, headers=headers) as answer:
        assert answer.status_code == 200
        next(answer.iter_raw())
    assert eventually(lambda: gateway.post("/v1/messages", MESSAGE, key).status_code == 429)


def test_a_limit_of_a_key_is_no_other_keys(gateway: RunningGateway) -> None:
    slow = gateway.new_key("ada@example.com", "research", requests_per_minute=1)
    other = gateway.new_key("ada@example.com", "research", requests_per_minute=1)
    assert [gateway.post("/v1/embeddings", EMBEDDING, key).status_code for key in (slow, slow, other)] == [
        200,
        429,
        200,
    ]
    assert gateway.post("/v1/responses", RESPONSE, gateway.key).status_code == 200


# ---- the end of a key ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        ({"revoked_at": datetime.now(UTC), "revoked_why": "idle"}, "switched off because nobody used it"),
        ({"revoked_at": datetime.now(UTC), "revoked_why": "left"}, "ended with its owner's time in the company"),
        ({"revoked_at": datetime.now(UTC)}, "was revoked"),
        ({"expires_at": datetime.now(UTC) - timedelta(days=1)}, "expired"),
    ],
)
def test_a_key_that_ended_says_why(gateway: RunningGateway, ended: dict[str, Any], says: str) -> None:
    key = gateway.new_key("ada@example.com", "research", **ended)
    response = gateway.post("/v1/messages", MESSAGE, key)
    assert response.status_code == 401
    assert says in response.json()["error"]["message"]
