"""Calls that LiteLLM makes again: one event for each that is billed, tied by one request id, and none for a failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from governance.events import UsageEvent
from tests.conftest import ROOT, eventually
from tests.gateway import RunningGateway, run_gateway
from tests.test_proxy import bill
from tests.test_proxy_usage import ROUTES, request

OMITS = "[[sim usage=omit output=10]]"  # LiteLLM cannot translate an Anthropic answer without usage, and asks again


@pytest.fixture(scope="module")
def retrying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway whose operator has let LiteLLM try again, and fall back to another provider."""
    folder = tmp_path_factory.mktemp("retrying")
    config = yaml.safe_load((ROOT / "proxy_service" / "config.yaml").read_text())
    config["litellm_settings"]["num_retries"] = config["router_settings"]["num_retries"] = 2
    config["router_settings"]["fallbacks"] = [{"claude-haiku-5-5": ["gpt-5.4"]}]
    path: Path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    with run_gateway(folder, CONFIG_FILE_PATH=str(path)) as running:
        yield running


def ask(gateway: RunningGateway, path: str, body: dict[str, Any]) -> tuple[int, list[UsageEvent], list[dict[str, Any]]]:
    """The status of the answer, the events of the request, and what the providers have of it."""
    before = len(bill(gateway))
    response = gateway.post(path, body)
    eventually(lambda: [e for e in gateway.events_of(response) if not e.superseded], 15)
    return response.status_code, gateway.events_of(response), bill(gateway)[before:]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [529, 500])
@pytest.mark.parametrize("route", ROUTES)
def test_a_retry_after_a_failure_is_one_event(retrying: RunningGateway, route: str, status: int, stream: bool) -> None:
    model = "claude-sonnet-5-5" if route == "/v1/messages" else "gpt-5.4-mini"
    said = f"{route} {status} {stream} [[sim errors=1 error={status} input=1000 output=50]]"
    answered, events, rows = ask(retrying, route, request(route, model, said, stream=stream))
    assert (answered, [row["status"] for row in rows]) == (200, [status, 200])
    assert len(events) == 1
    event = events[0]
    assert (event.status, event.usage_source, event.superseded) == ("ok", "provider", False)
    assert (event.input_tokens, event.output_tokens) == (1000, 50)
    assert event.provider_request_id == rows[1]["request_id"]
    assert (event.gateway_cost_usd or 0) > 0  # of the call that was answered, not of the one that failed
    assert event.error_class is None


def test_each_billed_call_of_a_request_is_an_event(retrying: RunningGateway) -> None:
    answered, events, rows = ask(
        retrying, "/v1/chat/completions", request("/v1/chat/completions", "claude-sonnet-5-5", OMITS)
    )
    assert answered >= 400
    assert len(rows) == len(events) == 3
    assert len({event.event_id for event in events}) == 3
    assert len({event.request_id for event in events}) == 1
    assert sorted(event.superseded for event in events) == [False, True, True]
    assert sorted(str(e.provider_request_id) for e in events) == sorted(row["request_id"] for row in rows)
    own = next(event for event in events if not event.superseded)
    assert (own.status, own.http_status, own.provider_request_id) == ("error", answered, rows[-1]["request_id"])
    for event in events:
        assert (event.usage_source, event.provider, event.person) == ("counted", "anthropic", "ada@example.com")
        assert event.output_tokens == pytest.approx(10, abs=1)
        if event.superseded:
            assert (event.latency_ms, event.gateway_cost_usd, event.http_status) == (None, None, None)


def test_what_a_fallback_replaces_is_billed_by_its_own_provider(retrying: RunningGateway) -> None:
    answered, events, rows = ask(
        retrying, "/v1/chat/completions", request("/v1/chat/completions", "claude-haiku-5-5", OMITS)
    )
    assert answered == 200
    assert [(row["provider"], row["model"]) for row in rows] == [("anthropic", "claude-haiku-5-5")] * 3 + [
        ("openai", "gpt-5.4")
    ]
    by_id = {event.provider_request_id: event for event in events}
    assert len(by_id) == len(events) == 4
    for row in rows:
        event = by_id[row["request_id"]]
        assert (event.provider, event.model) == (row["provider"], row["model"])
        assert event.superseded == (row is not rows[-1])
        assert event.model_requested == "claude-haiku-5-5"
    assert by_id[rows[-1]["request_id"]].status == "ok"


def test_where_every_call_fails_there_is_one_event_that_costs_nothing(retrying: RunningGateway) -> None:
    said = "[[sim error=500]]"
    answered, events, rows = ask(
        retrying, "/v1/chat/completions", request("/v1/chat/completions", "claude-haiku-5-5", said)
    )
    assert answered >= 500
    assert len(rows) == 6
    assert [(e.status, e.usage_source, e.superseded, e.input_tokens) for e in events] == [("error", "none", False, 0)]


def test_a_call_that_the_provider_hangs_up_on_may_be_billed(retrying: RunningGateway) -> None:
    """It had the request; what it does with it nobody learns."""
    said = "What is it? [[sim cut=1 output=10]]"
    answered, events, rows = ask(
        retrying, "/v1/chat/completions", request("/v1/chat/completions", "gpt-5.4-mini", said)
    )
    assert answered >= 500
    assert len(events) == len(rows) == 3
    assert {(e.status, e.usage_source, e.provider, e.output_tokens) for e in events} == {
        ("error", "counted", "openai", 0)
    }
    assert all(event.input_tokens > 5 for event in events)
