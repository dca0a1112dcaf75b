"""Where Tally's messages arrive on a laptop: a Slack workspace, an SMTP server and a signed webhook, on one page.

    python -m local.inbox --port 8026 --smtp-port 2525 --people policy/people.csv

`/slack` takes what an incoming webhook takes, `/api/` is Slack's Web API, `/webhook` takes what is signed under
TALLY_WEBHOOK_SECRET. With `--interact` and TALLY_SLACK_SIGNING_SECRET buttons can be clicked. Nothing is kept beyond
the process.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import time
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.policy import default as modern
from pathlib import Path
from typing import Final

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope

from governance.policy import read_people
from local.messages import Board
from local.workspace import TEAM_ID, Workspace

__all__ = ["TEAM_ID", "application", "main"]

WINDOW_S: Final = 300  # how far a signature's time may be from ours


class Mailbox:
    """The SMTP server's side: every mail is taken."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def handle_DATA(self, server: SMTP, session: object, envelope: Envelope) -> str:
        """Keep one mail."""
        content = envelope.content
        mail = message_from_bytes(content if isinstance(content, bytes) else b"", policy=modern)
        part = mail.get_body(("plain",))
        text = part.get_content() if part else ""
        subject = str(mail["Subject"]).strip()  # a long one stands on a line of its own, after a space
        self._board.take("e-mail", f"{subject}\nTo: {mail['To']}\n\n{text}")
        return "250 taken"


class Receiver:
    """A server that takes signed messages, as docs/channels.md tells to write one: checked, and each id once."""

    def __init__(self, board: Board, secret: str) -> None:
        self._board, self._secret, self._seen = board, secret, set[str]()

    async def take(self, request: web.Request) -> web.Response:
        """One message: 200 when it is ours or was before, 401 when it is not signed, or long ago."""
        body = await request.read()
        if not self._secret or not _is_signed(self._secret, request.headers.get("x-tally-signature", ""), body):
            return web.Response(status=401, text="not signed")
        said = json.loads(body)
        if said["id"] not in self._seen:
            self._seen.add(said["id"])
            self._board.take("webhook", f"{said['subject']}\n{said['text']}")
        return web.Response(text="ok")


def _is_signed(secret: str, header: str, body: bytes) -> bool:
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    at = parts.get("t", "")
    if not (at.isascii() and at.isdecimal()) or abs(time.time() - int(at)) > WINDOW_S:
        return False
    wanted = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), parts.get("v1", "").encode())


def application(board: Board, workspace: Workspace, smtp_port: int, webhook_secret: str = "") -> web.Application:
    """The page, the workspace, the webhook, and the SMTP server that lives as long as they do."""

    async def mail(_: web.Application) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: SMTP(Mailbox(board), loop=loop, enable_SMTPUTF8=True), "127.0.0.1", smtp_port
        )
        yield
        server.close()

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=board.page(), content_type="text/html")

    app = web.Application()
    app.cleanup_ctx.append(mail)
    app.router.add_get("/", page)
    app.router.add_post("/webhook", Receiver(board, webhook_secret).take)
    workspace.add_to(app)
    return app


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.inbox", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--smtp-port", type=int, required=True)
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--interact", default="", help="where clicks go: the keys function's address")
    given = parser.parse_args()
    board, signing = Board(), os.environ.get("TALLY_SLACK_SIGNING_SECRET", "")
    workspace = Workspace(board, read_people(given.people), given.interact, signing)
    app = application(board, workspace, given.smtp_port, os.environ.get("TALLY_WEBHOOK_SECRET", ""))
    web.run_app(app, host="127.0.0.1", port=given.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
