"""A fake of Slack's Web API, as far as a bot needs it, and of any other server that takes a POST."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from pydantic import SecretStr

TOKEN = "xoxb-cAnArY-4711"


class Server(ThreadingHTTPServer):
    """Keeps every request: (path, headers, body). What `answer` gives is sent."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got = list[tuple[str, Mapping[str, str], bytes]]()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.got.append((self.path, headers, body))
                status, more, said = server.answer(self.path, headers, body)
                content = json.dumps(said).encode()
                self.send_response(status)
                for name, value in {**more, "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the path may be a secret."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], Any]:
        return 200, {}, {}

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class SlackAPI(Server):
    """A workspace: `users` by e-mail, what was `said` where. `troubles` are answered first, in turn."""

    def __init__(self, users: Mapping[str, str], channels: tuple[str, ...] = ("C0ALERTS",)) -> None:
        self.users, self.channels = dict(users), channels
        self.said = list[tuple[str, dict[str, Any]]]()
        self.troubles = list[tuple[int, dict[str, str], Any]]()
        self.token = SecretStr(TOKEN)
        super().__init__()

    @property
    def calls(self) -> list[str]:
        return [path.rpartition("/")[2] for path, _, _ in self.got]

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], Any]:
        if self.troubles:
            return self.troubles.pop(0)
        if headers.get("authorization") != f"Bearer {self.token.get_secret_value()}":
            return 200, {}, {"ok": False, "error": "invalid_auth"}
        if path == "/api/users.lookupByEmail":
            user = self.users.get(parse_qs(body.decode())["email"][0])
            found = {"id": user, "deleted": False, "is_bot": False, "is_email_confirmed": True}
            return 200, {}, {"ok": True, "user": found} if user else {"ok": False, "error": "users_not_found"}
        assert path == "/api/chat.postMessage", path
        message = json.loads(body)
        where = message["channel"]
        if where not in self.channels and where not in self.users.values():
            return 200, {}, {"ok": False, "error": "channel_not_found"}
        self.said.append((where, message))
        return 200, {}, {"ok": True, "channel": where, "ts": "1.0"}
