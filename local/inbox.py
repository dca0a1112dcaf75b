"""Where Tally's messages arrive on a laptop: a Slack-compatible webhook and an SMTP server, both shown on one page.

    python -m local.inbox --port 8026 --smtp-port 2525 --people policy/people.csv

`/slack` takes what an incoming webhook takes. `/api/users.info` knows the company as Slack would: the person on line n
of people.csv is user `U0000n`, so that the keys function can be tried. Nothing is kept beyond the process.
"""

from __future__ import annotations

import argparse
import asyncio
import html
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default as modern
from pathlib import Path
from typing import Final

from aiohttp import web

from governance.policy import Person, read_people

TEAM_ID: Final = "T0TALLY"
KEPT: Final = 200
_PAGE: Final = """<!doctype html><meta charset=utf-8><title>Tally: messages</title><style>
body{{font:15px/1.5 system-ui;max-width:46rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}}
article{{border-left:3px solid #3b6fb6;padding:.1rem 1rem;margin:1rem 0}}small{{opacity:.7}}
pre{{white-space:pre-wrap;font:inherit;margin:.3rem 0}}</style><h1>What Tally said</h1>{articles}"""


class Inbox:
    """The messages that arrived, newest first: (when, channel, text)."""

    def __init__(self, people: tuple[Person, ...]) -> None:
        self.messages: deque[tuple[datetime, str, str]] = deque(maxlen=KEPT)
        self._users = {f"U{number:05d}": person for number, person in enumerate(people, 2)}

    def take(self, channel: str, text: str) -> None:
        """Keep a message, and log its first line."""
        self.messages.appendleft((datetime.now(UTC), channel, text))
        print(f"{channel}: {text.strip().splitlines()[0] if text.strip() else '(empty)'}", flush=True)

    async def slack(self, request: web.Request) -> web.Response:
        """An incoming webhook: {"text": …}, answered with ok."""
        try:
            text = (await request.json())["text"]
        except (ValueError, KeyError, TypeError):
            return web.Response(status=400, text="invalid_payload")
        self.take("slack", str(text))
        return web.Response(text="ok")

    async def users_info(self, request: web.Request) -> web.Response:
        """Slack's users.info, for the people of the company."""
        user = request.query.get("user", "")
        person = self._users.get(user)
        if person is None:
            return web.json_response({"ok": False, "error": "user_not_found"})
        profile = {"email": person.email, "real_name": person.name}
        found = {"id": user, "team_id": TEAM_ID, "deleted": False, "is_bot": False, "is_email_confirmed": True}
        return web.json_response({"ok": True, "user": found | {"profile": profile}})

    async def page(self, request: web.Request) -> web.Response:
        """The messages, as a page."""
        articles = "".join(
            f"<article><small>{at:%-d %B, %H:%M} UTC · {channel}</small><pre>{html.escape(text)}</pre></article>"
            for at, channel, text in self.messages
        )
        page = _PAGE.format(articles=articles or "<p>Nothing yet.</p>")
        return web.Response(text=page, content_type="text/html")

    async def smtp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One SMTP conversation: enough of RFC 5321 for a client that sends a message."""

        async def say(text: str) -> None:
            writer.write(text.encode() + b"\r\n")
            await writer.drain()

        await say("220 tally ready")
        while line := await reader.readline():
            verb = line[:4].upper().rstrip()
            if verb == b"DATA":
                await say("354 end with a dot")
                body = b""
                while (line := await reader.readline()) not in (b".\r\n", b""):
                    body += line.removeprefix(b".") if line.startswith(b"..") else line
                self._mail(body)
                await say("250 taken")
            elif verb == b"QUIT":
                await say("221 bye")
                break
            else:
                await say("250 fine" if verb in (b"EHLO", b"HELO", b"MAIL", b"RCPT", b"RSET", b"NOOP") else "502 no")
        writer.close()

    def _mail(self, raw: bytes) -> None:
        mail = message_from_bytes(raw, policy=modern)
        part = mail.get_body(("plain",))
        text = part.get_content() if part else ""
        self.take("e-mail", f"{mail['Subject']}\nTo: {mail['To']}\n\n{text}")


def application(inbox: Inbox, smtp_port: int) -> web.Application:
    """The page, the webhook, Slack's user list, and the SMTP server that lives as long as they do."""

    async def mail(_: web.Application) -> AsyncIterator[None]:
        server = await asyncio.start_server(inbox.smtp, "127.0.0.1", smtp_port)
        yield
        server.close()

    app = web.Application()
    app.cleanup_ctx.append(mail)
    app.router.add_get("/", inbox.page)
    app.router.add_post("/slack", inbox.slack)
    app.router.add_get("/api/users.info", inbox.users_info)
    return app


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.inbox", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--smtp-port", type=int, required=True)
    parser.add_argument("--people", type=Path, required=True)
    given = parser.parse_args()
    app = application(Inbox(read_people(given.people)), given.smtp_port)
    web.run_app(app, host="127.0.0.1", port=given.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
