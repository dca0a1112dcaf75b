"""The inbox of a laptop takes what the real channels send, and its buttons do what Slack's do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from functions.keys.buttons import click_in
from functions.keys.slack import is_signed
from governance.mail_channel import Mail
from governance.messages import Button, Channel, Message
from governance.policy import read_people
from governance.slack_channel import SlackBot, SlackWebhook
from governance.webhook_channel import SignedWebhook, signature
from local import inbox
from local.messages import Board
from local.workspace import Workspace
from tests.conftest import ROOT, free_port

PEOPLE = read_people(ROOT / "policy" / "people.csv")
SIGNING, SHARED = SecretStr("slack-signing-secret"), SecretStr("webhook-secret-0815")


@dataclass
class Box:
    """An inbox that is open: its page, its SMTP port, what it holds, and the clicks that the keys function was sent."""

    url: str
    smtp: int
    board: Board
    clicks: list[dict[str, Any]]


@pytest.fixture
async def box() -> AsyncIterator[Box]:
    clicks = list[dict[str, Any]]()

    async def keys(request: web.Request) -> web.Response:
        body, head = await request.read(), request.headers
        assert is_signed(SIGNING, head["x-slack-request-timestamp"], head["x-slack-signature"], body, time.time())
        clicks.append(json.loads(str((await request.post())["payload"])))
        return web.Response()

    function, smtp, board = web.Application(), free_port(), Board()
    function.router.add_post("/", keys)
    runners = [web.AppRunner(function)]
    url = await _served(runners[0])
    workspace = Workspace(board, PEOPLE, url, SIGNING.get_secret_value())
    runners.append(web.AppRunner(inbox.application(board, workspace, smtp, SHARED.get_secret_value())))
    yield Box(await _served(runners[1]), smtp, board, clicks)
    for runner in reversed(runners):
        await runner.cleanup()


async def _served(runner: web.AppRunner) -> str:
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


async def test_what_tally_says_by_any_channel_arrives_in_the_inbox(box: Box) -> None:
    first, second = PEOPLE[0].email, PEOPLE[1].email
    alone = Message("Alone", "<you>", (first, second), private=True, buttons=(Button("Revoke", "key.revoke", "k-1"),))
    bot = SlackBot(SecretStr("xoxb-1"), "C0ALL", api_url=box.url + "/api/")
    ways: list[Channel] = [
        SlackWebhook(SecretStr(box.url + "/slack")),
        Mail(SecretStr(f"smtp://127.0.0.1:{box.smtp}"), "tally@localhost"),
        SignedWebhook(SecretStr(box.url + "/webhook"), SHARED),
        SignedWebhook(SecretStr(box.url + "/webhook"), SHARED),  # as if it were tried again
    ]
    for way in ways:
        await asyncio.to_thread(way.send, Message("By <all>", ".. dots", (first,), id="d1"))
    await asyncio.to_thread(bot.send, Message("By the bot", "t", ()))
    await asyncio.to_thread(bot.send, alone)
    assert [said.channel for said in reversed(box.board.messages)] == [
        "slack", "e-mail", "webhook", "slack, C0ALL", f"slack, to {PEOPLE[0].name} alone",
        f"slack, to {PEOPLE[1].name} alone",
    ]  # fmt: skip
    async with aiohttp.ClientSession() as http, http.get(box.url) as answer:
        page = await answer.text()
    assert page.count("<b>By &lt;all&gt;</b>") == 3  # the subject, by whichever channel
    assert ".. dots" in page
    assert page.count("<button>Revoke</button>") == 2


async def test_a_click_reaches_the_keys_function_as_slack_would_send_it_and_its_answer_takes_the_place(
    box: Box,
) -> None:
    bot = SlackBot(SecretStr("xoxb-1"), api_url=box.url + "/api/")
    button = Button("Approve", "raise.approve", "r-1")
    asked = Message("A raise", "t", (PEOPLE[1].email,), private=True, buttons=(button,))
    await asyncio.to_thread(bot.send, asked)
    number = box.board.messages[0].number
    async with aiohttp.ClientSession() as http:
        for page, status in (("cross-site", 403), ("same-origin", 200)):
            async with http.post(f"{box.url}/click/{number}/0", headers={"sec-fetch-site": page}) as answer:
                assert answer.status == status
        async with http.post(f"{box.url}/click/{number}/7") as answer:
            assert answer.status == 404
        (click,) = box.clicks
        assert click["user"]["id"] == "U00003"
        read = click_in(click)  # as the keys function does
        assert read is not None
        assert (read.user, read.action, read.value) == ("U00003", "raise.approve", "r-1")
        assert read.original
        assert click["actions"] == [{"type": "button", "action_id": "raise.approve", "value": "r-1"}]
        async with http.post(click["response_url"], json={"text": "Granted.", "replace_original": True}) as answer:
            assert answer.status == 200
    assert (box.board.messages[0].text, box.board.messages[0].buttons) == ("Granted.", ())


async def test_what_is_not_signed_or_no_message_is_refused(box: Box) -> None:
    signed = {"X-Tally-Signature": signature(SHARED, int(time.time()) - 301, b"{}")}
    async with aiohttp.ClientSession() as http:
        for url, head, body, status in [
            ("/slack", {}, b"{", 400),
            ("/webhook", {}, b"{}", 401),
            ("/webhook", signed, b"{}", 401),
        ]:
            async with http.post(box.url + url, headers=head, data=body) as answer:
                assert answer.status == status
        async with http.post(box.url + "/api/chat.postMessage", json={"channel": "C1"}) as answer:
            assert await answer.json() == {"ok": False, "error": "not_authed"}
    assert not box.board.messages


async def test_the_inbox_knows_the_company_as_slack_does(box: Box) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(box.url + "/api/users.info", params={"user": "U00002"}) as answer:
            user = (await answer.json())["user"]
        async with http.get(box.url + "/api/users.info", params={"user": "U99999"}) as answer:
            assert await answer.json() == {"ok": False, "error": "user_not_found"}
        async with http.post(box.url + "/api/users.lookupByEmail", data={"email": "no@example.com"}) as answer:
            assert await answer.json() == {"ok": False, "error": "users_not_found"}
    assert user["profile"]["email"] == PEOPLE[0].email
