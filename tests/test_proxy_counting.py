"""Counting where no provider did: near the tokenizers of those who publish one, and learned for those who do not."""

from __future__ import annotations

import json
import socket
import time
import warnings
from random import Random
from typing import Any

import pytest

from local.wire.tokenizer import prompt_tokens
from proxy_service import counting
from proxy_service.counting import Ratios
from tests.conftest import ROOT
from tests.provider_answers import answer_of, events_of

with warnings.catch_warnings():  # LiteLLM's own, while it is imported
    warnings.simplefilter("ignore")
    import litellm.litellm_core_utils.default_encoding  # noqa: F401

SEED = 20261124
TEXTS = [
    path.read_text()
    for pattern in ("*.md", "docs/*.md", "proxy_service/*.py", "sql/views/*.sql", "sql/tables/*.json")
    for path in sorted(ROOT.glob(pattern))
]
PICTURE = "data:image/png;base64," + "iVBORw0KGgo" * 2_000


def _tools(route: str, dice: Random) -> list[dict[str, Any]]:
    names = dice.sample(["Read", "Write", "Bash", "Grep", "WebFetch", "Edit"], dice.randrange(1, 6))
    found = []
    for name in names:
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "The absolute path to the file"},
                "limit": {"type": "integer", "description": "How many lines at most"},
            },
            "required": ["path"],
        }
        about: dict[str, Any] = {"name": name, "description": f"{name}s what it is told, and says what came of it."}
        if route == "messages":
            found.append(about | {"input_schema": schema})
        elif route == "responses":
            found.append({"type": "function", **about, "parameters": schema, "strict": False})
        else:
            found.append({"type": "function", "function": about | {"parameters": schema}})
    return found


def _request(dice: Random) -> dict[str, Any]:
    """A request of an agent: some turns of text and code, tools, now and then a picture or a tool's result."""
    route = dice.choice(["chat", "messages", "responses"])
    turns: list[dict[str, Any]] = []
    for number in range(dice.randrange(1, 8)):
        text = dice.choice(TEXTS)
        at = dice.randrange(max(1, len(text) - 3_000))
        said = text[at : at + dice.randrange(40, 3_000)]
        content: Any = said
        if route == "messages" and number % 3 == 1:
            content = [{"type": "tool_result", "tool_use_id": "toolu_01", "content": [{"type": "text", "text": said}]}]
        elif dice.random() < 0.05 and route != "responses":
            source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
            image = {"type": "image", "source": source} if route == "messages" else {}
            image = image or {"type": "image_url", "image_url": {"url": PICTURE}}
            content = [{"type": "text", "text": said}, image]
        turns.append({"role": "assistant" if number % 2 else "user", "content": content})
    body: dict[str, Any] = {"input" if route == "responses" else "messages": turns}
    if dice.random() < 0.6:
        body["tools"] = _tools(route, dice)
    if route == "messages":
        body["system"] = [{"type": "text", "text": TEXTS[0][:2_000], "cache_control": {"type": "ephemeral"}}]
    elif route == "responses":
        body["instructions"] = TEXTS[0][:2_000]
    return body


def test_prompts_are_counted_within_two_per_cent_in_sum_and_ten_each() -> None:
    dice, ours, theirs = Random(SEED), 0, 0
    for _ in range(200):
        body = _request(dice)
        counted, billed = counting.count_prompt(counting.prompt_of(body), "gpt-5.4"), prompt_tokens(body)
        assert counted == pytest.approx(billed, rel=0.1, abs=20), json.dumps(body)[:500]
        ours, theirs = ours + counted, theirs + billed
    assert abs(ours / theirs - 1) < 0.02, f"{ours} against {theirs}"


def test_the_tables_are_had_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a tokenizer wants the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    counting._encoding.cache_clear()
    counting.warm()
    assert counting.count_text(["hello world"], "gpt-4-turbo") == 2


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-5.4", "o200k_base"),
        ("openai/gpt-4o-mini", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo-2024-04-09", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("claude-opus-5-5", "o200k_base"),
        (None, "o200k_base"),
    ],
)
def test_a_model_has_its_own_tokenizer(model: str | None, name: str) -> None:
    assert counting._name_of(model) == name


def test_pictures_pages_and_token_numbers_are_counted_without_being_read() -> None:
    def prompt(part: dict[str, Any]) -> int:
        return counting.count_prompt({"messages": [{"role": "user", "content": [part]}]})

    blob = "A" * 100_000
    assert prompt({"type": "image", "source": {"type": "base64", "data": blob}}) < 2_000
    assert prompt({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{blob}"}}) < 2_000
    assert prompt({"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}}) < 100
    assert prompt({"type": "input_image", "image_url": f"data:image/png;base64,{blob}"}) < 2_000
    assert prompt({"type": "document", "source": {"type": "base64", "data": blob}}) < 2_000
    assert prompt({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{blob}"}}) < 2_000
    assert prompt({"type": "input_audio", "input_audio": {"data": blob, "format": "wav"}}) < 2_000
    assert counting.count_prompt({"input": [1, 2, 3] * 100}) == pytest.approx(300, rel=0.05)


def test_tools_are_counted_with_their_names_and_schemas() -> None:
    tool = {"name": "write_file", "input_schema": {"properties": {"a_long_name_of_a_parameter": {"type": "string"}}}}
    without = counting.count_prompt({"messages": [{"role": "user", "content": "hi"}]})
    assert counting.count_prompt({"messages": [{"role": "user", "content": "hi"}], "tools": [tool]}) > without + 15


def test_a_text_without_spaces_is_counted_in_reasonable_time() -> None:
    started = time.monotonic()
    assert counting.count_text(["a" * 2_000_000]) > 1000
    assert time.monotonic() - started < 20


# ---- what a provider's own counts teach ---------------------------------------------------------------------------


def test_a_models_ratio_is_used_once_enough_answers_have_shown_it() -> None:
    ratios = Ratios()
    for _ in range(Ratios.ENOUGH - 1):
        ratios.learn("claude-opus-5-5", 130, 100)
    assert ratios.of("claude-opus-5-5") == 1
    ratios.learn("claude-opus-5-5", 130, 100)
    assert ratios.of("claude-opus-5-5") == 1.3
    assert ratios.of("gpt-5.4") == ratios.of(None) == 1


def test_answers_that_are_no_measure_of_a_tokenizer_teach_nothing() -> None:
    ratios = Ratios()
    for told, counted in [(10, 9), (900, 100), (10, 100), (0, 0)] * 10:
        ratios.learn("m", told, counted)
    assert ratios.of("m") == 1
    for _ in range(20):
        ratios.learn("m", 110, 100)
    ratios.learn("m", 190, 100)  # one outlier among many
    assert ratios.of("m") == 1.1


def test_few_answers_of_a_model_are_compared() -> None:
    ratios = Ratios()
    assert 20 < sum(ratios.due("m") for _ in range(1_000)) < 80
    assert not ratios.due(None)


def test_what_whole_answers_teach_is_applied_to_one_that_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy_service.answers.RATIOS", Ratios())
    text = "The quick brown fox jumps over the lazy dog. " * 12
    words = counting.count_text([text])
    said = {"id": "c", "model": "kimi-k3", "choices": [{"delta": {"content": text}}]}
    usage = {"prompt_tokens": 9, "completion_tokens": words * 5 // 4, "total_tokens": 0}
    whole = events_of(said, {"id": "c", "choices": [], "usage": usage}, "[DONE]")
    broken = answer_of("text/event-stream", events_of(said), end=False)
    broken.end("broken")
    assert broken.counted({"messages": []}).output_tokens == words
    for _ in range(Ratios.ENOUGH):
        answer = answer_of("text/event-stream", whole)
        assert answer.teaches
        answer.compare()
    assert broken.counted({"messages": []}).output_tokens == pytest.approx(words * 1.25, abs=1)
    assert not broken.teaches
