"""Every provider's and route's usage object, in its documented shape; beside each, what Tally reads in it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy_service.answers import Answer
from proxy_service.usage import Tokens
from tests.provider_answers import events_of

PAYLOADS = sorted((Path(__file__).parent / "payloads" / "usage").glob("*.json"))


def read(payload: dict[str, Any], piece_bytes: int) -> Answer:
    answer = Answer(payload.get("host", "provider.test"), False)
    if "events" in payload:
        content_type, data = "text/event-stream", events_of(*payload["events"])
    else:
        content_type, data = "application/json", payload.get("text", json.dumps(payload.get("body"))).encode()
    answer.begin(200, content_type, "")
    for at in range(0, len(data), piece_bytes):
        answer.feed(data[at : at + piece_bytes])
    answer.end("whole")
    return answer


@pytest.mark.parametrize("piece_bytes", [17, 1 << 20], ids=["in_pieces", "at_once"])
@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_a_payload_is_read_as_written_beside_it(path: Path, piece_bytes: int) -> None:
    payload = json.loads(path.read_text())
    answer, expected = read(payload, piece_bytes), dict(payload["expected"])
    assert answer.told() == Tokens(**expected.pop("tokens"))
    advised = [{"model": model, "tokens": tokens} for model, tokens in answer.advised()]
    wanted = [{"model": a["model"], "tokens": Tokens(**a["tokens"])} for a in expected.pop("advised", [])]
    assert advised == wanted
    cost = expected.pop("cost_usd", None)
    assert answer.cost_usd == (None if cost is None else Decimal(cost))
    assert {name: getattr(answer, name) for name in expected} == expected


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_the_usage_object_is_kept_beside_what_was_read_in_it(path: Path) -> None:
    payload = json.loads(path.read_text())
    raw = read(payload, 1 << 20).raw_usage
    assert raw is not None
    kept = orjson.loads(raw)
    body = payload.get("body") or (json.loads(payload["text"]) if "text" in payload else None)
    if body is not None:
        assert kept == body["usage"]
    else:
        last = [event for event in payload["events"] if isinstance(event, dict) and "usage" in json.dumps(event)][-1]
        told = last.get("usage") or (last.get("response") or last["choices"][0])["usage"]
        assert kept == kept | {name: value for name, value in told.items() if value is not None}


def test_there_is_a_payload_of_every_provider_and_route() -> None:
    names = {path.stem for path in PAYLOADS}
    for kind in ("openai_chat_", "openai_responses_", "openai_embeddings", "anthropic_", "openrouter_", "moonshot_"):
        assert any(name.startswith(kind) for name in names)
    assert len(names) > 35
