"""The closing of requests: one event for each, whoever speaks first, and where nobody speaks."""

from __future__ import annotations

import asyncio
import json
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from governance.events import UsageEvent
from governance.keys import KeyRecord
from governance.tools import Caller
from proxy_service import settlement
from proxy_service.answers import Answer
from proxy_service.asked import Account, Asked
from proxy_service.inflight import Desk
from proxy_service.usage import Tokens
from tests.provider_answers import CHAT_STREAM, answer_of, events_of

with warnings.catch_warnings():  # LiteLLM's own, while it is imported
    warnings.simplefilter("ignore")
    from proxy_service.auth import Holder
    from proxy_service.callback import Callback
    from proxy_service.passage import Message, Passage, Receive, Scope, Send


class FakePublisher:
    def __init__(self) -> None:
        self.events: list[UsageEvent] = []
        self.fails = False

    def publish(self, event: UsageEvent) -> None:
        if self.fails:
            raise RuntimeError("no topic")
        self.events.append(event)


RECORD = KeyRecord(key_id="abc", person="ada@example.com", team="research", last4="wxyz", created_at=datetime.now(UTC))
ACCOUNT = Account("openai", "openai/gpt-5.4", 0.00123, None, Tokens(), True)


def asked(**more: Any) -> Asked:
    made = Asked("chat_completions", RECORD, Caller("codex", "1.0"))
    made.model, made.http_status = "gpt-5.4", 200
    for name, value in more.items():
        setattr(made, name, value)
    return made


def a_desk(grace_s: float = 0.05) -> tuple[Desk, FakePublisher]:
    desk, publisher = Desk(grace_s), FakePublisher()
    desk.publisher = publisher
    return desk, publisher


async def until(condition: Any) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("told_first", [True, False])
async def test_an_end_and_an_account_in_either_order_make_one_event(told_first: bool) -> None:
    desk, publisher = a_desk()
    request = asked(answers=[answer_of("text/event-stream", CHAT_STREAM)])
    desk.open(request)
    steps: list[Callable[[], None]] = [lambda: desk.told(request.request_id, ACCOUNT), lambda: desk.ended(request)]
    for step in steps if told_first else steps[::-1]:
        assert not publisher.events
        step()
    for step in steps:
        step()
    await asyncio.sleep(0.1)
    assert len(publisher.events) == 1
    made = publisher.events[0]
    assert (made.status, made.usage_source, made.input_tokens, made.output_tokens) == ("ok", "provider", 300, 50)
    assert (made.model, made.provider, made.provider_request_id) == ("gpt-5.4-2026", "openai", "chatcmpl-1")
    assert str(made.gateway_cost_usd) == "0.001230000"
    assert desk.strays == 1


async def test_where_litellm_says_nothing_the_request_is_closed_after_the_grace() -> None:
    desk, publisher = a_desk()
    request = asked(answers=[answer_of("text/event-stream", CHAT_STREAM)], left=True)
    desk.open(request)
    desk.ended(request)
    await until(lambda: publisher.events)
    desk.told(request.request_id, ACCOUNT)
    assert [e.status for e in publisher.events] == ["aborted"]
    assert publisher.events[0].usage_source == "provider"
    assert desk.unaccounted == 1


async def test_an_answer_that_goes_on_without_its_caller_is_waited_for() -> None:
    desk, publisher = a_desk()
    going_on = answer_of("text/event-stream", CHAT_STREAM[:150], end=False)
    going_on.awaited = True
    request = asked(answers=[going_on], left=True)
    desk.open(request)
    desk.ended(request)
    await asyncio.sleep(0.2)
    assert not publisher.events
    going_on.feed(CHAT_STREAM[150:])
    await until(lambda: publisher.events)
    assert publisher.events[0].output_tokens == 50


async def test_an_answer_that_nobody_reads_any_more_is_hung_up_on() -> None:
    desk, publisher = a_desk()
    dropped, ended = answer_of("text/event-stream", CHAT_STREAM[:150], end=False), asyncio.Event()

    async def hang_up() -> None:
        dropped.end("broken")
        ended.set()

    dropped.awaited, dropped.hang_up, dropped.fed_s = False, hang_up, 1.0
    request = asked(answers=[dropped], left=True)
    desk.open(request)
    desk.ended(request)
    await until(lambda: publisher.events)
    await asyncio.wait_for(ended.wait(), 1)
    assert (publisher.events[0].status, publisher.events[0].usage_source) == ("aborted", "counted")


async def test_what_the_provider_did_not_count_is_counted_off_the_loop_and_flagged() -> None:
    desk, publisher = a_desk()
    without = events_of({"id": "c", "model": "m", "choices": [{"delta": {"content": "Hello there"}}]}, "[DONE]")
    request = asked(answers=[answer_of("text/event-stream", without)], prompt={"messages": [{"content": "a question"}]})
    desk.open(request)
    desk.told(request.request_id, ACCOUNT)
    desk.ended(request)
    await until(lambda: publisher.events)
    made = publisher.events[0]
    assert (made.usage_source, made.output_tokens) == ("counted", 2)
    assert made.input_tokens > 2
    assert not request.answers[0]._kept


async def test_nothing_was_consumed_where_no_provider_answered() -> None:
    desk, publisher = a_desk()
    failed = Answer("provider.test", False)
    failed.begin(429, "application/json", "")
    failed.end("whole")
    request = asked(answers=[failed], http_status=429)
    desk.open(request)
    desk.told(request.request_id, Account("openai", "gpt-5.4", 0.0, "RateLimitError", Tokens(), True))
    desk.ended(request)
    made = publisher.events[0]
    assert (made.status, made.usage_source, made.error_class) == ("error", "none", "RateLimitError")
    assert made.gateway_cost_usd is None


def a_call(answer: Answer, provider: str, own_login: bool = False) -> Answer:
    answer.provider, answer.own_credential = provider, own_login
    return answer


async def test_each_billed_call_is_an_event_and_the_last_is_the_requests_own() -> None:
    desk, publisher = a_desk()
    failed = Answer("provider.test", False)
    failed.begin(529, "application/json", "")
    failed.end("whole")
    cut = a_call(answer_of("text/event-stream", CHAT_STREAM[:60], end=False), "anthropic", own_login=True)
    cut.end("broken")
    last = a_call(answer_of("text/event-stream", CHAT_STREAM), "openai")
    request = asked(answers=[cut, failed, last], prompt={"messages": [{"content": "a question"}]})
    desk.open(request)
    desk.told(request.request_id, Account("anthropic", "claude-x", 0.5, "Timeout", Tokens(), True))
    desk.told(request.request_id, ACCOUNT)
    desk.ended(request)
    await until(lambda: len(publisher.events) == 2)
    replaced, own = publisher.events
    assert (replaced.superseded, own.superseded, own.event_id) == (True, False, request.event_id)
    assert replaced.request_id == own.request_id == request.request_id
    assert replaced.event_id != own.event_id
    assert (replaced.provider, replaced.status, replaced.error_class) == ("anthropic", "error", "StreamBroken")
    assert (replaced.usage_source, own.usage_source) == ("counted", "provider")
    assert (replaced.billing_mode, own.billing_mode) == ("subscription", "metered")
    assert (replaced.gateway_cost_usd, str(own.gateway_cost_usd)) == (None, "0.001230000")
    assert (own.provider, own.status, own.input_tokens) == ("openai", "error", 300)  # one of its answers broke off
    assert (desk.closed, desk.published) == (1, 2)


async def test_a_failed_calls_account_is_not_taken_for_the_answered_ones() -> None:
    desk, publisher = a_desk(grace_s=0.3)
    request = asked(answers=[answer_of("text/event-stream", CHAT_STREAM)])
    desk.open(request)
    desk.told(request.request_id, Account("anthropic", "claude-x", 0.5, "InternalServerError", Tokens(), True))
    desk.ended(request)
    assert not publisher.events  # the account of the call that was answered is still to come
    await until(lambda: publisher.events)
    assert publisher.events[0].gateway_cost_usd is None
    assert (publisher.events[0].status, publisher.events[0].usage_source) == ("ok", "provider")


async def test_another_model_asked_on_the_way_is_an_event_of_its_own() -> None:
    desk, publisher = a_desk()
    advice = {"type": "advisor_message", "model": "claude-opus-4-6", "input_tokens": 823, "output_tokens": 1612}
    usage = {"input_tokens": 412, "output_tokens": 531, "service_tier": "standard", "iterations": [advice]}
    message = {"id": "msg_1", "type": "message", "model": "claude-sonnet-4-5", "content": [], "usage": usage}
    request = asked(answers=[a_call(answer_of("application/json", json.dumps(message).encode()), "anthropic")])
    desk.open(request)
    desk.told(request.request_id, Account("anthropic", "claude-sonnet-4-5", 0.1, None, Tokens(), True))
    desk.ended(request)
    advised, own = publisher.events
    assert (advised.model, advised.input_tokens, advised.output_tokens) == ("claude-opus-4-6", 823, 1612)
    assert (own.model, own.input_tokens, own.output_tokens) == ("claude-sonnet-4-5", 412, 531)
    assert (advised.superseded, own.superseded) == (True, False)
    assert advised.request_id == own.request_id
    assert advised.provider_request_id == own.provider_request_id == "msg_1"


async def test_what_a_provider_tells_beside_its_tokens_is_on_the_event() -> None:
    desk, publisher = a_desk()
    usage = '{"prompt_tokens": 194, "completion_tokens": 40, "cost": 0.001182000000000001, "note": "%s"}' % ("x" * 99)
    body = '{"id": "gen-1", "model": "anthropic/claude-sonnet-4.5", "choices": [], "usage": ' + usage + "}"
    request = asked(answers=[a_call(answer_of("application/json", body.encode()), "openrouter")])
    desk.open(request)
    desk.told(request.request_id, Account("openrouter", "x", 0.1, None, Tokens(), True))
    desk.ended(request)
    made = publisher.events[0]
    assert str(made.provider_cost_usd) == "0.001182000000000001"
    assert json.loads(made.raw_usage or "") == {
        "prompt_tokens": 194,
        "completion_tokens": 40,
        "cost": 0.001182000000000001,
    }
    assert UsageEvent.read(made.message()) == made


async def test_an_answer_that_cannot_be_measured_is_an_event_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Answer) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(Answer, "told", fails)
    desk, publisher = a_desk()
    request = asked(answers=[answer_of("text/event-stream", CHAT_STREAM)])
    desk.open(request)
    desk.told(request.request_id, ACCOUNT)
    desk.ended(request)
    await until(lambda: publisher.events)
    assert (publisher.events[0].usage_source, publisher.events[0].output_tokens) == ("counted", 0)
    assert desk.failures == 1


async def test_a_publisher_that_fails_breaks_nothing() -> None:
    desk, publisher = a_desk()
    publisher.fails = True
    request = asked(refused="key_ended", http_status=401)
    desk.open(request)
    desk.ended(request)
    assert desk.failures == 1
    assert not desk._under_way


async def test_draining_closes_what_is_still_under_way() -> None:
    desk, publisher = a_desk(grace_s=60)
    without = events_of({"id": "c", "choices": [{"delta": {"content": "Hello there"}}]})
    requests = [asked(answers=[answer_of("text/event-stream", without, end=False)]) for _ in range(3)]
    for request in requests:
        desk.open(request)
    desk.ended(requests[0])
    await desk.drain(0.2)
    assert len(publisher.events) == 3
    assert len({made.event_id for made in publisher.events}) == 3


def test_an_account_that_cannot_be_read_is_counted_and_hurts_nobody() -> None:
    callback = Callback()
    callback.desk = Desk(1)
    callback._tell({"standard_logging_object": {"metadata": 7, "litellm_call_id": "x"}})
    assert callback.failures == 1


def test_a_request_that_never_got_an_answer_is_an_error() -> None:
    assert settlement.status_of(asked(http_status=None)) == "error"


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        (b"data: [DONE]\n\n", False),
        (b'event: message_stop\ndata: {"type": "message_stop"}\n\n', False),
        (b'event: response.completed\ndata: {"type":"response.completed"}\n\n', False),
        (b'data: {"type":"response.completed","response":{}}\n\n', False),
        (b'data: {"type":"response.output_text.delta","delta":"event: message_stop"}\n\n', True),
        (b'data: {"choices":[{"delta":{"content":"data: [DONE]"}}]}\n\n', True),
    ],
)
async def test_who_hangs_up_after_the_last_event_had_the_whole_answer(sent: bytes, left: bool) -> None:
    request, gone = asked(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": sent, "more_body": True})
        gone.set()
        assert (await receive())["type"] == "http.disconnect"

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    await Passage(app, request, (), "openai").run({}, receive, send, b"{}", Holder(RECORD, "abc"))
    assert request.left is left
