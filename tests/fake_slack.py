"""A small Slack workspace: its Web API, what it signs, and what is answered to its response_urls."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from flask.testing import FlaskClient

SIGNING, TOKEN, PEPPER = "cAnArY-signing-71", "xoxb-cAnArY-token-72", "cAnArY-pepper-73"
WORKSPACE = "T0TALLY"
PEOPLE = """email,name,team,role,joined_on,left_on
ada@example.com,Ada,Search,engineer,2020-01-06,
bob@example.com,Bob,Search,lead,2020-01-06,
eve@example.com,Eve,Search,engineer,2020-01-06,2024-05-01
fay@example.com,Fay,Finance,finance,2020-01-06,
root@example.com,Root,Platform,admin,2020-01-06,
"""
ADA, BOB, EVE, FAY, ROOT = "U1ADA", "U2BOB", "U3EVE", "U0FAY", "U0ROOT"
_count = itertools.count()


def user(id: str, email: str | None, **changed: Any) -> dict[str, Any]:
    """A member as users.info tells it."""
    profile = {"email": email} if email else {}
    return {"id": id, "team_id": WORKSPACE, "deleted": False, "is_bot": False, "is_email_confirmed": True} | {
        "profile": profile,
        **changed,
    }


class FakeSlack(ThreadingHTTPServer):
    """Answers users.info, users.lookupByEmail, chat.postMessage, views.open; takes answers at /respond/…."""

    daemon_threads = True

    def __init__(self) -> None:
        people = [
            user(ADA, "Ada@Example.com"),
            user(BOB, "bob@example.com"),
            user(EVE, "eve@example.com"),
            user(FAY, "fay@example.com"),
            user(ROOT, "root@example.com"),
            user("U4STRANGER", "ada@example.com", team_id="T0OTHER"),
            user("U5GONE", "ada@example.com", deleted=True),
            user("U6BOT", "ada@example.com", is_bot=True),
            user("U7UNCONFIRMED", "ada@example.com", is_email_confirmed=False),
            user("U8NOMAIL", None),
            user("U9NEW", "new@elsewhere.example"),
        ]
        self.users = {u["id"]: u for u in people}
        self.broken: str | bytes | None = None
        self.slow_s: dict[str, float] = {}  # by method
        self.asked = 0
        self.told: list[dict[str, Any]] = []  # chat.postMessage
        self.views: list[dict[str, Any]] = []  # views.open
        self.responses: list[tuple[str, dict[str, Any]]] = []  # (path of the response_url, message)
        self.woken = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                where = urlsplit(self.path)
                self._answer(where.path, {k: v[0] for k, v in parse_qs(where.query).items()})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self._answer(urlsplit(self.path).path, json.loads(body))

            def _answer(self, path: str, given: dict[str, Any]) -> None:
                fake.asked += 1
                method = path.rpartition("/")[2] if path.startswith("/api/") else "respond"
                fake.woken.wait(fake.slow_s.get(method, 0))
                if method == "respond":
                    fake.responses.append((path, given))
                    body = b"ok"
                else:
                    answer = fake.answer(method, given)
                    if self.headers["Authorization"] != f"Bearer {TOKEN}":
                        answer = {"ok": False, "error": "invalid_auth"}
                    if isinstance(fake.broken, str):
                        answer = {"ok": False, "error": fake.broken}
                    body = fake.broken if isinstance(fake.broken, bytes) else json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        self.root = f"http://127.0.0.1:{self.server_address[1]}"
        self.url = f"{self.root}/api/"

    def answer(self, method: str, given: dict[str, Any]) -> dict[str, Any]:
        """What one method says."""
        if method == "users.info":
            found = self.users.get(given["user"])
            return {"ok": True, "user": found} if found else {"ok": False, "error": "user_not_found"}
        if method == "users.lookupByEmail":
            wanted = given["email"].lower()
            members = (u for u in self.users.values() if u["team_id"] == WORKSPACE and not u["deleted"])
            found = next((u for u in members if str(u["profile"].get("email", "")).lower() == wanted), None)
            return {"ok": True, "user": found} if found else {"ok": False, "error": "users_not_found"}
        if method == "chat.postMessage":
            self.told.append(given)
            return {"ok": True, "channel": f"D{given['channel'][1:]}", "ts": "1.0"}
        if method == "views.open":
            self.views.append(given)
            return {"ok": True, "view": {"id": f"V{len(self.views)}"}}
        return {"ok": False, "error": "unknown_method"}

    def close(self) -> None:
        """Let whoever waits go, and stop."""
        self.woken.set()
        self.shutdown()
        self.server_close()


def environment(folder: Path, slack: FakeSlack, company: str = "keys: {days: 30, per_person: 3}\n") -> dict[str, str]:
    """The settings of a keys function, and its policy in `folder`."""
    (folder / "people.csv").write_text(PEOPLE)
    (folder / "company.yaml").write_text(company)
    return {
        "TALLY_REGISTRY": f"sqlite://{folder}/registry.db",
        "TALLY_KEY_PEPPER": PEPPER,
        "TALLY_SLACK_SIGNING_SECRET": SIGNING,
        "TALLY_SLACK_BOT_TOKEN": TOKEN,
        "TALLY_SLACK_TEAM_ID": WORKSPACE,
        "TALLY_SLACK_API_URL": slack.url,
        "TALLY_POLICY_DIR": str(folder),
        "TALLY_PROXY_URL": "https://gateway.example.com/",
        "TALLY_LOG_LEVEL": "DEBUG",
    }


def form(text: str, user_id: str = ADA, **changed: str) -> bytes:
    """What Slack posts when somebody writes the command."""
    fields = {
        "command": "/tally",
        "text": text,
        "user_id": user_id,
        "team_id": WORKSPACE,
        "trigger_id": f"1337.{next(_count)}",
        "response_url": "https://hooks.example.com/commands/1",
    }
    return urlencode(fields | changed).encode()


def signed(body: bytes, at: float | None = None, secret: str = SIGNING) -> dict[str, str]:
    """The headers with which Slack posts this body."""
    stamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return {
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": f"v0={digest}",
        "Content-Type": "application/x-www-form-urlencoded",
    }


def posted(client: FlaskClient, text: str, user_id: str = ADA) -> dict[str, Any]:
    """The whole answer to `text`."""
    body = form(text, user_id)
    answer = client.post("/", data=body, headers=signed(body))
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json is not None
    assert answer.json["response_type"] == "ephemeral"
    assert "sk-tally-" not in answer.json["text"]  # a notification shows it
    return dict(answer.json)


def say(client: FlaskClient, text: str, user_id: str = ADA) -> str:
    """What Slack shows to the person who wrote `text`, and to nobody else."""
    return words_of(posted(client, text, user_id))


def words_of(message: dict[str, Any]) -> str:
    """All that stands in a message: its blocks, or its text where it has none."""
    sections = [block["text"]["text"] for block in message.get("blocks", ()) if block["type"] == "section"]
    return "\n".join(sections or [message["text"]])


def buttons_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The buttons of a message."""
    rows = [block["elements"] for block in message.get("blocks", ()) if block["type"] == "actions"]
    return [button for row in rows for button in row]


def key_in(text: str) -> str:
    """The one key that stands in a text."""
    (key,) = set(re.findall(r"sk-tally-\w{38}", text))
    return str(key)


def payload(slack: FakeSlack, button: dict[str, Any], user_id: str = ADA, **changed: Any) -> dict[str, Any]:
    """What Slack posts when somebody clicks this button."""
    number = next(_count)
    return {
        "type": "block_actions",
        "team": {"id": WORKSPACE},
        "user": {"id": user_id, "team_id": WORKSPACE},
        "trigger_id": f"1337.{number}",
        "response_url": f"{slack.root}/respond/{number}",
        "container": {"type": "message", "message_ts": "17.5", "channel_id": "D1"},
        "actions": [{k: button[k] for k in ("action_id", "value")} | {"type": "button", "action_ts": f"{number}"}],
    } | changed


def clicked(client: FlaskClient, content: Any) -> Any:
    """Post a payload as Slack does."""
    text = content if isinstance(content, str) else json.dumps(content)
    body = urlencode({"payload": text}).encode()
    return client.post("/", data=body, headers=signed(body))
