"""A Slack workspace on a laptop: its Web API as far as Tally asks it, and buttons that can be clicked.

The person on line n of people.csv is user `U0000n`. A click is posted to the keys function as Slack would post it,
signed; what the function answers to it takes the message's place.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from governance.policy import Person
from local.messages import Board, Button, Said

TEAM_ID: Final = "T0TALLY"


def _text(content: Mapping[str, Any]) -> str:
    """What a message shows: its sections, or where it has none, its text."""
    sections = [block.get("text", {}).get("text", "") for block in content.get("blocks") or ()]
    shown = "\n".join(filter(None, sections)) or str(content.get("text", ""))
    return shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _buttons(content: Mapping[str, Any]) -> tuple[Button, ...]:
    elements = [element for block in content.get("blocks") or () for element in block.get("elements", ())]
    return tuple(
        Button(element["text"]["text"], element["action_id"], element["value"])
        for element in elements
        if element.get("type") == "button"
    )


class Workspace:
    """The people of the company as Slack's users. `interact_url` is where clicks go; "" where nobody takes them."""

    def __init__(self, board: Board, people: tuple[Person, ...], interact_url: str = "", secret: str = "") -> None:
        self._board, self._interact_url, self._secret = board, interact_url, secret
        self._users = {f"U{number:05d}": person for number, person in enumerate(people, 2)}
        self._ids = {person.email: user for user, person in self._users.items()}

    def add_to(self, app: web.Application) -> None:
        """The routes of the workspace."""
        app.router.add_post("/slack", self.webhook)
        app.router.add_route("*", "/api/users.info", self.users_info)
        app.router.add_route("*", "/api/users.lookupByEmail", self.lookup)
        app.router.add_post("/api/chat.postMessage", self.post_message)
        app.router.add_post("/response/{number}", self.respond)
        app.router.add_post("/click/{number}/{button}", self.click)

    async def webhook(self, request: web.Request) -> web.Response:
        """An incoming webhook: {"text": …}, answered with ok."""
        try:
            content = await request.json()
            self._board.take("slack", _text({"text": content["text"]}))
        except (ValueError, KeyError, TypeError):
            return web.Response(status=400, text="invalid_payload")
        return web.Response(text="ok")

    async def users_info(self, request: web.Request) -> web.Response:
        """Slack's users.info."""
        return self._user((await _arguments(request)).get("user", ""), "user_not_found")

    async def lookup(self, request: web.Request) -> web.Response:
        """Slack's users.lookupByEmail."""
        email = (await _arguments(request)).get("email", "").strip().lower()
        return self._user(self._ids.get(email, ""), "users_not_found")

    def _user(self, user: str, error: str) -> web.Response:
        person = self._users.get(user)
        if person is None:
            return web.json_response({"ok": False, "error": error})
        profile = {"email": person.email, "real_name": person.name}
        found = {"id": user, "team_id": TEAM_ID, "deleted": False, "is_bot": False, "is_email_confirmed": True}
        return web.json_response({"ok": True, "user": found | {"profile": profile}})

    async def post_message(self, request: web.Request) -> web.Response:
        """Slack's chat.postMessage: to a channel, or to a person alone."""
        if not request.headers.get("authorization", "").startswith("Bearer "):
            return web.json_response({"ok": False, "error": "not_authed"})
        try:
            content = await request.json()
            where, person = str(content["channel"]), self._users.get(str(content["channel"]))
            if person is None and where.startswith("U"):
                return web.json_response({"ok": False, "error": "channel_not_found"})
            place = f"slack, to {person.name} alone" if person else f"slack, {where}"
            said = self._board.take(place, _text(content), _buttons(content), content.get("blocks") or [], where)
        except (ValueError, KeyError, TypeError, AttributeError):
            return web.json_response({"ok": False, "error": "invalid_arguments"})
        return web.json_response({"ok": True, "channel": where, "ts": f"{said.number}.0"})

    async def respond(self, request: web.Request) -> web.Response:
        """A response_url: the answer to a click, in the message's place or beside it."""
        said, content = self._board.find(request.match_info["number"]), await request.json()
        if said is None:
            return web.Response(status=404, text="used_url")
        if content.get("delete_original"):
            self._board.replace(said, "(hidden)", ())
        elif content.get("replace_original"):
            self._board.replace(said, _text(content), _buttons(content))
        else:
            self._board.take(said.channel, _text(content), _buttons(content), content.get("blocks") or [], said.where)
        return web.Response(text="ok")

    async def click(self, request: web.Request) -> web.Response:
        """Click a button of the page: by the person whom the message went to, else by the first of the company."""
        said, number = self._board.find(request.match_info["number"]), request.match_info["button"]
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return web.Response(status=403, text="only from the page itself")
        if said is None or not number.isdecimal() or int(number) >= len(said.buttons) or not self._interact_url:
            return web.Response(status=404, text="no such button, or nobody who takes clicks")
        user = said.where if said.where in self._users else next(iter(self._users))
        answers = f"{request.url.origin()}/response/{said.number}"
        async with aiohttp.ClientSession() as http:
            body = self._payload(said, said.buttons[int(number)], user, answers)
            async with http.post(self._interact_url, data=body, headers=self._signed(body)) as answer:
                if answer.status != 200:
                    return web.Response(status=502, text=f"the keys function answered {answer.status}")
        raise web.HTTPSeeOther("/")

    @staticmethod
    def _payload(said: Said, button: Button, user: str, answers: str) -> bytes:
        place = {"type": "message", "channel_id": said.where, "message_ts": f"{said.number}.0"}
        click = {
            "type": "block_actions",
            "team": {"id": TEAM_ID},
            "user": {"id": user, "team_id": TEAM_ID},
            "container": place,
            "message": {"ts": place["message_ts"], "blocks": said.blocks},
            "response_url": answers,
            "trigger_id": "1.2.3",
            "actions": [{"type": "button", "action_id": button.action, "value": button.value}],
        }
        return urlencode({"payload": json.dumps(click)}).encode()

    def _signed(self, body: bytes) -> dict[str, str]:
        now = str(int(time.time()))
        signed = hmac.digest(self._secret.encode(), b"v0:" + now.encode() + b":" + body, hashlib.sha256).hex()
        return {
            "content-type": "application/x-www-form-urlencoded",
            "x-slack-request-timestamp": now,
            "x-slack-signature": f"v0={signed}",
        }


async def _arguments(request: web.Request) -> dict[str, str]:
    """Slack takes a query or a form."""
    form = await request.post() if request.method == "POST" else {}
    return {**request.query, **{name: str(value) for name, value in form.items()}}
