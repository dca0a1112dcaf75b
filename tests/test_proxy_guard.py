"""What a caller may not write into a request, how a refusal is worded, and which models there are."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

from governance import keys
from proxy_service import guard, refusals
from proxy_service.catalogue import Catalogue, Homes, Offer
from proxy_service.guard import Passed
from proxy_service.refusals import Refusal

with warnings.catch_warnings():  # LiteLLM's own, while it is imported
    warnings.simplefilter("ignore")
    import litellm.proxy.litellm_pre_call_utils  # noqa: F401


BODY: dict[str, Any] = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "hi"}]}


def passed(body: Any) -> Passed:
    result = guard.check_body(body)
    assert isinstance(result, Passed)
    return result


def test_what_the_providers_know_passes_untouched() -> None:
    anthropic = BODY | {
        "max_tokens": 10,
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": []},
        "output_config": {"effort": "high"},
        "metadata": {"user_id": "u"},
        "stop_sequences": ["x"],
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "tools": [],
        "mcp_servers": [],
        "service_tier": "auto",
    }
    openai = BODY | {
        "user": "u",
        "stream_options": {"include_usage": True},
        "prompt_cache_key": "k",
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "high"},
        "text": {"verbosity": "low"},
        "parallel_tool_calls": True,
        "client_metadata": {"a": "b"},
        "logprobs": True,
        "seed": 1,
        "previous_response_id": "resp_1",
        "safety_identifier": "s",
    }
    for body in (anthropic, openai):
        assert passed(body) == Passed(body)
        assert passed(body).body is body


@pytest.mark.parametrize(
    "name",
    [
        "no-log", "num_retries", "fallbacks", "input_cost_per_token", "output_cost_per_token", "mock_response", "tags",
        "litellm_call_id", "litellm_metadata", "litellm_session_id", "model_info", "base_model", "cache", "guardrails",
        "user_api_key_user_id", "extra_headers", "extra_body", "timeout", "callbacks", "success_callback",
        "mock_tool_calls", "turn_off_message_logging", "max_retries", "context_window_fallbacks", "drop_params",
        "proxy_server_request", "standard_logging_object", "api_version", "aws_region_name", "vertex_project",
        "azure_ad_token", "model_list", "routing_strategy", "mock_testing_fallbacks", "ttl", "silent_model",
    ],
)  # fmt: skip
def test_a_setting_of_litellms_is_left_out(name: str) -> None:
    result = passed(BODY | {name: 0})
    assert result.body == BODY
    assert result.ignored == (name,)


@pytest.mark.parametrize("name", ["api_base", "base_url", "api_key", "custom_llm_provider", "organization"])
def test_whoever_wants_another_address_is_told_so(name: str) -> None:
    result = guard.check_body(BODY | {name: "http://elsewhere"})
    assert isinstance(result, Refusal)
    assert result.status == 400
    assert name in result.message


@pytest.mark.parametrize(
    "body", [[], "x", None, {}, {"model": ""}, {"model": 3}, {"model": "gpt-5.4,kimi-k2"}, BODY | {"background": True}]
)
def test_what_cannot_be_one_metered_request_is_refused(body: Any) -> None:
    result = guard.check_body(body)
    assert isinstance(result, Refusal)
    assert result.status == 400


def test_metadata_keeps_what_providers_know_and_nothing_of_litellms() -> None:
    given = {"user_id": "u", "project": "p", "purpose": "x", "tags": ["t"], "user_api_key_user_id": "mallory", "n": 1}
    result = passed(BODY | {"metadata": given})
    assert result.body["metadata"] == {"user_id": "u", "purpose": "x"} | (
        {"project": "p"} if "project" not in guard.forbidden() else {}
    )
    assert result.ignored == ("metadata",)


def test_of_the_headers_only_the_providers_reach_litellm() -> None:
    given = {
        "authorization": f"Bearer {keys.make()}",
        "x-api-key": "k",
        "x-litellm-call-id": "FIXED",
        "x-litellm-tags": "t",
        "x-litellm-disable-callbacks": "all",
        "x-litellm-end-user-id": "mallory",
        "x-litellm-timeout": "0.01",
        "cache-control": "no-store",
        "x-session-id": "session-1",
        "traceparent": "00-1",
        "anthropic-beta": "context-1m",
        "content-type": "application/json",
    }
    result = dict(guard.check_headers([(n.encode(), v.encode()) for n, v in given.items()], "minted", 12))
    assert result == {
        b"anthropic-beta": b"context-1m",
        b"content-type": b"application/json",
        b"content-length": b"12",
        b"x-litellm-call-id": b"minted",
        b"x-litellm-api-key": b"gateway",
    }


def test_an_own_anthropic_login_is_passed_on() -> None:
    login = (b"authorization", b"Bearer sk-ant-oat01-own")
    assert login in guard.check_headers([login], "minted", 0)


@pytest.mark.parametrize(
    ("user_id", "session"),
    [
        ("user_abc_account__session_0199f3a2-1111-7000-8000-000000000001", "0199f3a2-1111-7000-8000-000000000001"),
        ('{"device_id":"d","session_id":"0199f3a2-1111"}', "0199f3a2-1111"),
        ('{"session_id":7}', None),
        ("{broken", None),
        ("somebody", None),
        (7, None),
    ],
)
def test_a_session_is_read_from_anthropics_user_id(user_id: Any, session: str | None) -> None:
    assert guard.session_in({"metadata": {"user_id": user_id}}) == session


def test_a_refusal_is_worded_as_the_routes_provider_would() -> None:
    openai = json.loads(refusals.NO_KEY.body("openai"))
    anthropic = json.loads(refusals.NO_KEY.body("anthropic"))
    assert openai["error"]["code"] == "invalid_api_key"
    assert anthropic["type"] == "error"
    assert anthropic["error"]["type"] == "authentication_error"
    assert "/tally issue" in openai["error"]["message"] == anthropic["error"]["message"]


KNOWN: dict[str, dict[str, Any]] = {
    "gpt-5.4": {"litellm_provider": "openai", "mode": "chat"},
    "o3": {"litellm_provider": "openai", "mode": "responses"},
    "gpt-image-1": {"litellm_provider": "openai", "mode": "image_generation"},
    "claude-sonnet-4-5": {"litellm_provider": "anthropic", "mode": "chat"},
    "moonshot/kimi-k2.5": {"litellm_provider": "moonshot", "mode": "chat"},
    "mistral-large": {"litellm_provider": "mistral", "mode": "chat"},
}
OFFERS = [
    Offer("gpt-*", "openai/gpt-*", True),
    Offer("o*", "openai/o*", True),
    Offer("openrouter/*", "openrouter/*", True),
    Offer("claude-*", "anthropic/claude-*", False),
    Offer("kimi-*", "moonshot/kimi-*", True),
]


def test_the_list_names_what_can_be_had_in_both_dialects() -> None:
    listing = Catalogue(OFFERS, KNOWN).listing()
    assert [entry["id"] for entry in listing["data"]] == ["gpt-5.4", "kimi-k2.5", "o3"]
    assert listing["object"] == "list"
    assert listing["has_more"] is False
    assert {entry["object"] for entry in listing["data"]} == {entry["type"] for entry in listing["data"]} == {"model"}


def test_a_model_is_served_by_the_longest_pattern_or_refused_with_what_to_do() -> None:
    catalogue = Catalogue(OFFERS, KNOWN)
    assert (offer := catalogue.offer("openrouter/x/y")) is not None
    assert offer.provider == "openrouter"
    assert catalogue.refusal("gpt-99-brand-new") is None
    assert (unknown := catalogue.refusal("mistral-large")) is not None
    assert "gpt-*" in unknown.message
    assert (unpaid := catalogue.refusal("claude-sonnet-4-5")) is not None
    assert "anthropic" in unpaid.message


@pytest.mark.parametrize("base", ["", "http://127.0.0.1:9100"])
def test_a_call_is_known_by_its_address(base: str) -> None:
    environment = {
        "OPENAI_API_BASE": f"{base}/v1",
        "ANTHROPIC_API_BASE": base,
        "OPENROUTER_API_BASE": f"{base}/openrouter/api/v1",
        "MOONSHOT_API_BASE": f"{base}/moonshot/v1/",
    }
    homes = Homes(environment if base else {})
    openai, anthropic = (base, base) if base else ("https://api.openai.com", "https://api.anthropic.com")
    openrouter = f"{base}/openrouter" if base else "https://openrouter.ai"
    moonshot = f"{base}/moonshot" if base else "https://api.moonshot.ai"
    for url, provider in {
        f"{openai}/v1/chat/completions": "openai",
        f"{openai}/v1/responses": "openai",
        f"{anthropic}/v1/messages?beta=true": "anthropic",
        f"{openrouter}/api/v1/chat/completions": "openrouter",
        f"{moonshot}/v1/chat/completions": "moonshot",
        "https://elsewhere.example/v1/chat/completions": None,
    }.items():
        assert homes.provider_at(url) == provider


def test_openais_regional_address_is_openais() -> None:
    homes = Homes({"OPENAI_BASE_URL": "https://eu.api.openai.com/v1"})
    assert homes.provider_at("https://eu.api.openai.com/v1/responses") == "openai"
