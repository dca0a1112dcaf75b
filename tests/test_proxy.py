"""The gateway's doors: who is let in, to what, and what a caller cannot talk it into. Against the running process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from governance import keys
from tests.conftest import ROOT, eventually
from tests.gateway import PROVIDER_KEYS, RunningGateway, gateway, plain_environment, run_gateway

__all__ = ["gateway"]

CHAT: dict[str, Any] = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "Say hello"}]}
MESSAGE: dict[str, Any] = CHAT | {"model": "claude-sonnet-5-5", "max_tokens": 200}
RESPONSE: dict[str, Any] = {"model": "gpt-5.4", "input": "Say hello"}
EMBEDDING: dict[str, Any] = {"model": "text-embedding-3-small", "input": "Say hello"}
ROUTES = [
    ("/v1/chat/completions", CHAT),
    ("/v1/messages", MESSAGE),
    ("/v1/responses", RESPONSE),
    ("/v1/embeddings", EMBEDDING),
]


def bill(gateway: RunningGateway) -> list[dict[str, Any]]:
    rows = httpx.get(gateway.env["ANTHROPIC_API_BASE"] + "/bill", trust_env=False).json()
    assert isinstance(rows, list)
    return rows


# ---- inference ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize("alias", [False, True])
def test_every_inference_route_answers_and_makes_one_event(
    gateway: RunningGateway, path: str, body: dict[str, Any], alias: bool
) -> None:
    if alias and path == "/v1/messages":
        path += "?beta=true"
    elif alias:
        path = path.removeprefix("/v1")
    response = gateway.post(path, body)
    assert response.status_code == 200, response.text
    event = gateway.event_of(response)
    assert (event.person, event.team, event.status) == ("ada@example.com", "research", "ok")
    assert event.model == event.model_requested == body["model"]
    assert event.usage_source == "provider"
    assert event.input_tokens > 0
    assert event.gateway_cost_usd is not None
    assert event.latency_ms is not None
    assert event.key_id == keys.key_id(keys.key_hash(gateway.key, gateway.env["TALLY_KEY_PEPPER"]))
    assert event.request_id == response.headers["x-request-id"]
    assert event.provider_request_id in {row["request_id"] for row in bill(gateway)} or path.endswith("embeddings")


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-5.4", "openai"),
        ("o3", "openai"),
        ("openai/gpt-5.4", "openai"),
        ("claude-sonnet-5-5", "anthropic"),
        ("anthropic/claude-sonnet-5-5", "anthropic"),
        ("openrouter/anthropic/claude-sonnet-4.5", "openrouter"),
        ("kimi-k2.5", "moonshot"),
        ("moonshot/kimi-k2.5", "moonshot"),
        ("gpt-99-not-priced-anywhere", "openai"),
    ],
)
def test_a_model_goes_to_its_provider(gateway: RunningGateway, model: str, provider: str) -> None:
    response = gateway.post("/v1/chat/completions", CHAT | {"model": model})
    assert response.status_code == 200, response.text
    event = gateway.event_of(response)
    assert (event.provider, event.model_requested) == (provider, model)
    assert event.model == model.removeprefix(f"{provider}/")


def test_the_vendors_own_clients_work_with_a_key_and_a_base_url(gateway: RunningGateway) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        chat = client.chat.completions.create(model="gpt-5.4", messages=[{"role": "user", "content": "hi"}])
        assert chat.choices[0].message.content
        with client.responses.stream(model="gpt-5.4", input="hi") as stream:
            assert stream.get_final_response().output_text
        assert "claude-sonnet-5-5" in {model.id for model in client.models.list()}
        with pytest.raises(openai.NotFoundError, match="No provider here serves"):
            client.responses.create(model="nobody-knows", input="hi")
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as claude:
        with claude.messages.stream(
            model="claude-sonnet-5-5", max_tokens=100, messages=[{"role": "user", "content": "hi"}]
        ) as messages:
            assert messages.get_final_text()
        counted = claude.messages.count_tokens(model="claude-sonnet-5-5", messages=[{"role": "user", "content": "hi"}])
        assert counted.input_tokens > 0
        assert "claude-sonnet-5-5" in {model.id for model in claude.models.list(limit=1000)}
        with pytest.raises(anthropic.NotFoundError, match="No provider here serves"):
            claude.messages.create(model="nobody-knows", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key="sk-tally-wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError, match="/tally issue"),
    ):
        stranger.models.list()


def test_counting_tokens_and_listing_models_make_no_event(gateway: RunningGateway) -> None:
    silent = [
        gateway.post("/v1/messages/count_tokens", MESSAGE),
        gateway.client.get("/v1/models", headers={"x-api-key": gateway.key, "x-session-id": uuid.uuid4().hex}),
        gateway.client.get("/v1/models/gpt-5.4", headers={"x-api-key": gateway.key, "x-session-id": uuid.uuid4().hex}),
    ]
    assert [response.status_code for response in silent] == [200, 200, 200]
    gateway.event_of(gateway.post("/v1/embeddings", EMBEDDING))
    assert not any(gateway.events_of(response) for response in silent)


def test_an_agents_session_and_name_are_on_the_event(gateway: RunningGateway) -> None:
    session = str(uuid.uuid4())
    named = {"user-agent": "claude-cli/2.1.197 (external, cli)", "x-claude-code-session-id": session}
    response = gateway.client.post("/v1/messages", json=MESSAGE, headers={"x-api-key": gateway.key} | named)
    assert response.status_code == 200
    event = eventually(lambda: [e for e in gateway.topic.events() if e.session_id == session])[0]
    assert (event.tool, event.tool_version) == ("claude-code", "2.1.197")


def test_a_session_in_anthropics_metadata_is_found(gateway: RunningGateway) -> None:
    session = str(uuid.uuid4())
    body = MESSAGE | {"metadata": {"user_id": json.dumps({"device_id": "d", "session_id": session})}}
    assert gateway.client.post("/v1/messages", json=body, headers={"x-api-key": gateway.key}).status_code == 200
    assert eventually(lambda: [e for e in gateway.topic.events() if e.session_id == session])


def test_a_login_of_ones_own_is_a_subscription_and_reaches_the_provider(gateway: RunningGateway) -> None:
    login = {"authorization": "Bearer sk-ant-oat01-own-login", "x-litellm-api-key": f"Bearer {gateway.key}"}
    response = gateway.post("/v1/messages", MESSAGE, **login)
    assert response.status_code == 200, response.text
    assert gateway.event_of(response).billing_mode == "subscription"
    assert gateway.event_of(gateway.post("/v1/messages", MESSAGE)).billing_mode == "metered"


# ---- keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize("key", ["sk-tally-rubbish", "sk-1234", PROVIDER_KEYS["OPENAI_API_KEY"], "unknown", "nothing"])
def test_a_stranger_is_turned_away_in_the_routes_own_words_without_an_event(
    gateway: RunningGateway, path: str, body: dict[str, Any], key: str
) -> None:
    headers = {"x-session-id": uuid.uuid4().hex}
    if key != "nothing":
        headers["authorization"] = f"Bearer {keys.make() if key == 'unknown' else key}"
    response = gateway.client.post(path, json=body, headers=headers)
    assert response.status_code == 401
    error = response.json()["error"]
    assert "/tally issue" in error["message"]
    assert error["type"] == "authentication_error"
    assert ("type" in response.json()) == (path == "/v1/messages")
    assert not gateway.events_of(response)


def test_the_master_key_is_nobodys(tmp_path: Path) -> None:
    master = "sk-a-master-key-of-an-operator"
    with run_gateway(tmp_path, LITELLM_MASTER_KEY=master) as own:
        for path, body in ROUTES:
            assert own.post(path, body, key=master).status_code == 401
        assert own.client.get("/key/list", headers={"authorization": f"Bearer {master}"}).status_code == 401
        assert own.post("/v1/embeddings", EMBEDDING).status_code == 200


def test_a_revoked_key_is_refused_within_five_seconds_and_the_refusal_is_an_event(gateway: RunningGateway) -> None:
    key = gateway.new_key("leaver@example.com", "research")
    assert gateway.post("/v1/embeddings", EMBEDDING, key).status_code == 200
    revoked = time.monotonic()
    gateway.change_key(key, revoked_at=datetime.now(UTC).isoformat())
    while (response := gateway.post("/v1/messages", MESSAGE, key)).status_code == 200:
        assert time.monotonic() - revoked < 5
        time.sleep(0.1)
    assert time.monotonic() - revoked < 5
    assert response.status_code == 401
    assert "revoked" in response.json()["error"]["message"]
    event = gateway.event_of(response)
    assert (event.status, event.usage_source, event.error_class) == ("refused", "none", "key_ended")
    assert (event.person, event.input_tokens) == ("leaver@example.com", 0)


def test_an_expired_key_is_refused(gateway: RunningGateway) -> None:
    key = gateway.new_key("a@example.com", "x", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    response = gateway.post("/v1/responses", RESPONSE, key)
    assert response.status_code == 401
    assert "expired" in response.json()["error"]["message"]


# ---- everything else ----------------------------------------------------------------------------------------------


def litellms_routes(folder: Path) -> list[tuple[str, str]]:
    """Every (method, path) of the running application, websockets included, as the process itself lists them."""
    code = (
        "import importlib, json\n"
        "from litellm.proxy._lazy_features import LAZY_FEATURES\n"
        "from proxy_service.main import litellm_app\n"
        "for feature in LAZY_FEATURES:\n"  # LiteLLM adds these when they are first asked for
        "    feature.register_fn(litellm_app, importlib.import_module(feature.module_path))\n"
        "def walk(routes):\n"
        "    for r in routes:\n"
        "        if hasattr(r, 'effective_route_contexts'):\n"  # FastAPI's included routers
        "            yield from walk(r.effective_route_contexts())\n"
        "        elif 'WebSocket' in type(getattr(r, 'original_route', r)).__name__:\n"
        "            yield 'WEBSOCKET', r.path\n"
        "        elif getattr(r, 'methods', None):\n"
        "            yield from ((method, r.path) for method in r.methods)\n"
        "        else:\n"  # a mounted application
        "            yield from ((method, r.path + '/x') for method in ('GET', 'POST'))\n"
        "print('ROUTES' + json.dumps(sorted(set(walk(litellm_app.routes)))))\n"
    )
    env = plain_environment() | {
        "TALLY_REGISTRY": f"sqlite://{folder / 'registry.db'}",
        "TALLY_KEY_PEPPER": "p",
        "TALLY_TOPIC": "projects/p/topics/t",
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    listed = next(line for line in done.stdout.splitlines() if line.startswith("ROUTES"))
    return [(method, path) for method, path in json.loads(listed.removeprefix("ROUTES"))]


OURS = re.compile(
    r"POST (/v1)?/(chat/completions|responses|embeddings)|POST /v1/messages(/count_tokens)?"
    r"|(GET|HEAD) (/v1)?/models(/.*)?|(GET|HEAD) (/|/health/liveliness|/health/liveness|/health/readiness)"
)


def test_a_key_opens_none_of_litellms_other_routes(gateway: RunningGateway, tmp_path: Path) -> None:
    routes = litellms_routes(tmp_path)
    assert len(routes) > 1000
    assert sum(method == "WEBSOCKET" for method, _ in routes) > 3
    wrong = []
    for method, pattern in routes:
        path = re.sub(r"\{[^}]*\}", "x", pattern)
        if OURS.fullmatch(f"{method} {path}"):
            continue
        for headers, wanted in (({"authorization": f"Bearer {gateway.key}"}, 403), ({}, 401)):
            if method == "WEBSOCKET":
                status = websocket_status(gateway, path, headers)
            else:
                status = gateway.client.request(method, path, headers=headers, json={} if headers else None).status_code
            if status != wanted:
                wrong.append((method, path, status, wanted))
    assert not wrong


def websocket_status(gateway: RunningGateway, path: str, headers: dict[str, str]) -> int:
    try:
        with connect(f"ws://127.0.0.1:{gateway.port}{path}", additional_headers=headers, proxy=None):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions/", "//v1/chat/completions", "/v1/../key/generate", "/V1/MODELS"]
)
def test_a_path_that_only_looks_like_an_open_one_is_shut(gateway: RunningGateway, path: str) -> None:
    request = httpx.Request("POST", gateway.url, headers={"authorization": f"Bearer {gateway.key}"}, json=CHAT)
    request.url = request.url.copy_with(raw_path=path.encode())
    assert gateway.client.send(request).status_code == 403


def test_probes_are_answered_without_a_key(gateway: RunningGateway) -> None:
    for method, path in (("HEAD", "/"), ("HEAD", "/api/hello"), ("GET", "/health/readiness"), ("GET", "/healthz")):
        assert gateway.client.request(method, path).status_code == 200


# ---- what a caller cannot talk it into ----------------------------------------------------------------------------

HOLES: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("switch its log off", {"no-log": True}, {}),
    ("switch its log off in LiteLLM's metadata", {"litellm_metadata": {"no-log": True}}, {}),
    ("switch callbacks off", {}, {"x-litellm-disable-callbacks": "proxy_service.callback.handler,custom_callback"}),
    ("have its failures repeated", {"num_retries": 3}, {"x-litellm-num-retries": "3"}),
    ("name another model to fall back to", {"fallbacks": ["claude-opus-4-6"]}, {}),
    ("set a price", {"input_cost_per_token": 0, "output_cost_per_token": 0}, {}),
    ("borrow a cheaper model's price", {"base_model": "gpt-5-nano", "model_info": {"base_model": "gpt-5-nano"}}, {}),
    ("have an answer made up", {"mock_response": "pwned", "mock_tool_calls": []}, {}),
    ("name another person", {"metadata": {"user_api_key_user_id": "mallory", "user_api_key_team_id": "t"}}, {}),
    ("name another person in LiteLLM's metadata", {"litellm_metadata": {"user_api_key_user_id": "mallory"}}, {}),
    ("name an end user", {"user": "mallory"}, {"x-litellm-end-user-id": "mallory", "x-litellm-customer-id": "m"}),
    ("tag its cost", {"metadata": {"tags": ["free"]}, "tags": ["free"]}, {"x-litellm-tags": "free"}),
    ("choose its own id", {"litellm_call_id": "FIXED-ID-1"}, {"x-litellm-call-id": "FIXED-ID-1"}),
    ("choose its own session", {}, {"x-litellm-session-id": "FIXED-ID-1", "x-litellm-trace-id": "FIXED-ID-1"}),
    ("send headers to the provider", {"extra_headers": {"authorization": "Bearer mine"}}, {}),
    ("cut the gateway's patience", {"timeout": 0.0001}, {"x-litellm-timeout": "0.0001"}),
]  # fmt: skip


@pytest.mark.parametrize(("hole", "fields", "headers"), HOLES, ids=[hole[0].replace(" ", "_") for hole in HOLES])
@pytest.mark.parametrize(("path", "body"), ROUTES[:3], ids=["chat", "messages", "responses"])
def test_a_caller_cannot(
    gateway: RunningGateway, path: str, body: dict[str, Any], hole: str, fields: dict[str, Any], headers: dict[str, str]
) -> None:
    before = len(bill(gateway))
    response = gateway.post(path, body | fields, **headers)
    assert response.status_code == 200, response.text
    assert "pwned" not in response.text
    event = gateway.event_of(response)
    assert (event.person, event.team) == ("ada@example.com", "research")
    assert event.usage_source == "provider"
    assert (event.gateway_cost_usd or 0) > 0
    assert "FIXED-ID-1" not in (event.event_id, event.request_id)
    rows = bill(gateway)[before:]
    assert [row["model"] for row in rows] == [body["model"]]
    assert event.provider_request_id == rows[0]["request_id"]
    ignored = response.headers.get("x-tally-ignored", "").split(", ")
    assert {name for name in fields if name != "user"} <= set(ignored)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize(
    "fields",
    [
        {"model": "gpt-5.4,claude-sonnet-5-5"},
        {"api_base": "http://127.0.0.1:1/v1"},
        {"base_url": "http://127.0.0.1:1/v1"},
        {"api_key": "sk-own"},
        {"custom_llm_provider": "anthropic"},
        {"background": True},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_caller_who_wants_it_elsewhere_is_refused_and_told_why(
    gateway: RunningGateway, path: str, fields: dict[str, Any]
) -> None:
    body = dict(ROUTES)[path]
    before = len(bill(gateway))
    response = gateway.post(path, body | fields)
    assert response.status_code == 400
    event = gateway.event_of(response)
    assert (event.status, event.usage_source, event.http_status) == ("refused", "none", 400)
    assert event.person == "ada@example.com"
    assert len(bill(gateway)) == before


def test_a_caller_cannot_continue_another_persons_response(gateway: RunningGateway) -> None:
    response_id = gateway.post("/v1/responses", RESPONSE).json()["id"]
    own = gateway.post("/v1/responses", RESPONSE | {"previous_response_id": response_id})
    assert own.status_code == 200, own.text
    stranger = gateway.new_key("eve@example.com", "sales")
    for stolen in (response_id, "resp_guessed"):
        refused = gateway.post("/v1/responses", RESPONSE | {"previous_response_id": stolen}, stranger)
        assert refused.status_code == 403
        assert gateway.event_of(refused).usage_source == "none"


def test_usage_is_asked_for_on_a_stream_even_when_the_caller_forbids_it(gateway: RunningGateway) -> None:
    for options in ({"include_usage": False}, None):
        body = CHAT | {"stream": True} | ({"stream_options": options} if options else {})
        response = gateway.post("/v1/chat/completions", body)
        assert '"usage":{' not in response.text.replace(" ", "")
        assert gateway.event_of(response).usage_source == "provider"


def test_an_error_of_the_provider_is_called_once_and_costs_nothing(gateway: RunningGateway) -> None:
    for (path, body), status in zip(ROUTES[:3] * 2, (429, 500, 529, 503, 429, 400), strict=True):
        directive = f"[[sim error={status}]]"
        said = {"input": directive} if "input" in body else {"messages": [{"role": "user", "content": directive}]}
        before = len(bill(gateway))
        response = gateway.post(path, body | said | {"num_retries": 3, "stream": status == 500})
        assert response.status_code >= 400
        assert ("type" in response.json()) == (path == "/v1/messages")
        event = gateway.event_of(response)
        assert (event.status, event.usage_source, event.input_tokens) == ("error", "none", 0)
        assert event.error_class
        assert len(bill(gateway)) == before + 1


def test_a_body_that_is_no_request_is_refused_in_words(gateway: RunningGateway) -> None:
    headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    for content, status in ((b"{", 400), (b"[]", 400), (b"{}", 400), (b'{"model": "x' + b"x" * 70_000_000, 413)):
        response = gateway.client.post("/v1/chat/completions", content=content, headers=headers)
        assert response.status_code == status
        assert response.json()["error"]["message"]
    compressed = headers | {"content-encoding": "zstd"}
    assert gateway.client.post("/v1/responses", content=b"x", headers=compressed).status_code == 415
