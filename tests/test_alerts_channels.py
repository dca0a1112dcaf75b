"""The alerts function with every channel at once, as deployed: who gets what, and where no secret is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
import requests
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from governance.events import UsageEvent
from governance.warehouse import Warehouse, open_warehouse
from tests import certificate
from tests.conftest import ROOT, eventually, free_port
from tests.slack_web_api import TOKEN, Server, SlackAPI

PEOPLE = """email,name,team,role,joined_on,left_on
ada@example.com,Ada,Search,engineer,2020-01-06,
bob@example.com,Bob,Search,lead,2020-01-06,
eve@example.com,Eve,Data,admin,2020-01-06,
"""
BUDGETS = "budgets:\n  - {scope: team, name: Search, amount_usd: 100}\n  - {scope: person, amount_usd: 100}\n"
SECRET, PASSWORD, PATH = "cAnArY-signing-0815", "cAnArY-smtp-0815", "cAnArY-path-0815"
HOSTS = ("127.0.0.1",)


class Postbox:
    """Whom each mail went to, and its subject."""

    def __init__(self) -> None:
        self.mails = list[tuple[list[str], str]]()

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append((list(envelope.rcpt_tos), str(message_from_bytes(envelope.content)["subject"])))
        return "250 OK"

    def login(self, _server: object, _session: object, _e: object, _m: object, data: object) -> AuthResult:
        return AuthResult(success=isinstance(data, LoginPassword) and data.password == PASSWORD.encode())


@pytest.fixture
def slack() -> Iterator[SlackAPI]:
    server = SlackAPI({"ada@example.com": "U0ADA", "bob@example.com": "U0BOB"})
    yield server
    server.stop()


@pytest.fixture
def receiver() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[tuple[Warehouse, str]]:
    """A warehouse in which Ada has used up her budget and her team's, and its URL."""
    port, now = free_port(), datetime.now(UTC)
    given = ["--port", str(port), "--path", str(tmp_path / "warehouse.duckdb")]
    with (tmp_path / "warehouse.txt").open("w") as out:
        owner = subprocess.Popen([sys.executable, "-m", "local.warehouse", *given], cwd=ROOT, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    eventually(lambda: _status(f"{url}/healthz") == 200, within_s=60)
    opened = open_warehouse(url)
    event = UsageEvent(
        event_id="event-01", request_id="request-1", occurred_at=now, person="ada@example.com", team="Search",
        route="messages", provider="openai", model="gpt-4o", status="ok", usage_source="provider",
        output_tokens=100_000_000,
    )  # fmt: skip
    assert opened.append("events", [{**event.row(), "received_at": now}]) == {}
    yield opened, url
    owner.terminate()
    owner.wait(20)


def test_with_every_channel_a_person_is_told_alone_and_no_secret_is_left_anywhere(
    tmp_path: Path, slack: SlackAPI, receiver: Server, warehouse: tuple[Warehouse, str]
) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    (tmp_path / "budgets.yaml").write_text(BUDGETS)
    postbox, log, port = Postbox(), tmp_path / "log.txt", free_port()
    mail = Controller(
        postbox, hostname="127.0.0.1", port=free_port(), tls_context=certificate.written(tmp_path / "tls.pem", HOSTS),
        authenticator=postbox.login, auth_required=True,
    )  # fmt: skip
    mail.start()
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TALLY_WAREHOUSE": warehouse[1],
        "TALLY_REGISTRY": f"sqlite://{tmp_path}/registry.db",
        "TALLY_POLICY_DIR": str(tmp_path),
        "TALLY_SLACK_BOT_TOKEN": TOKEN,
        "TALLY_SLACK_CHANNEL": "C0ALERTS",
        "TALLY_SLACK_API_URL": f"{slack.url}/api/",
        "TALLY_SMTP_URL": f"smtp://tally:{PASSWORD}@127.0.0.1:{mail.port}",
        "SSL_CERT_FILE": str(tmp_path / "tls.pem"),
        "TALLY_WEBHOOK_URL": f"{receiver.url}/{PATH}",
        "TALLY_WEBHOOK_SECRET": SECRET,
        "TALLY_LOG_LEVEL": "DEBUG",
    }
    answers = ticks(env, port, log, slack)
    server = mail.server
    eventually(lambda: not (getattr(server, "_clients", ()) or getattr(server, "_active_count", 0)))
    mail.stop()
    told = [(where, message["text"].partition("\n")[0]) for where, message in slack.said]
    alone = [(where, subject) for where, subject in told if where != "C0ALERTS"]
    assert {where for where, _ in alone} == {"U0ADA", "U0BOB"}  # herself, and her lead
    assert len(alone) == len(set(alone)) == 3  # of 80 % and 100 % for two; the first is tried again in a minute
    assert {tuple(to) for to, subject in postbox.mails if "Search" not in subject} == {
        ("ada@example.com",), ("bob@example.com",),
    }  # fmt: skip
    said = [json.loads(body) for _, _, body in receiver.got]
    assert {one["about"] for one in said} == {"team-Search-month"}
    assert len({one["id"] for one in said}) == len(said) == 2
    assert [answer["sent"] for answer in answers][2] == 0
    rows = warehouse[0].query("SELECT * FROM tally.deliveries ORDER BY tried_at")
    assert {row["channel"] for row in rows if row["state"] == "sent"} == {"slack", "mail", "webhook"}
    assert [row["reason"] for row in rows if row["state"] == "failed"][:1] == [
        "Slack answered invalid_auth: give TALLY_SLACK_BOT_TOKEN the Bot User OAuth Token that the app has now"
    ]
    written = log.read_text() + json.dumps(answers, default=str) + repr(rows)
    written += "".join(path.read_bytes().decode(errors="replace") for path in tmp_path.glob("*.d*"))
    assert "an alert was delivered" in written
    for secret in (TOKEN, SECRET, PASSWORD, PATH):
        assert secret not in written
    assert "@example.com" not in log.read_text()


def ticks(env: dict[str, str], port: int, log: Path, slack: SlackAPI) -> list[dict[str, Any]]:
    """Three ticks of a served function; in the first one Slack refuses the token."""
    command = [str(Path(sys.executable).with_name("functions-framework")), "--source", "functions/alerts/main.py"]
    with log.open("w") as out:
        server = subprocess.Popen(
            [*command, "--target", "alerts", "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    url, answers = f"http://127.0.0.1:{port}/", list[dict[str, Any]]()
    try:
        eventually(lambda: _status(url) == 405, within_s=60)
        slack.troubles = [(200, {}, {"ok": False, "error": "invalid_auth"})]
        for _ in range(3):
            answer = requests.post(url, timeout=120)
            assert answer.status_code == 200, answer.text
            answers.append(answer.json())
    finally:
        server.terminate()
        server.wait(20)
    return answers


def _status(url: str) -> int:
    try:
        return requests.get(url, timeout=2).status_code
    except requests.ConnectionError:
        return 0
