"""The key desk behind Slack: only Slack is believed, only once, and a person reaches only their own keys."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import functions_framework
import pytest
import requests
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from functions.keys.desk import Desk
from functions.keys.slack import Slack, SlackError, is_signed
from governance import keys
from governance.policy import Person
from governance.registry import ANY, Document, Registry, RegistryError, open_registry
from tests.conftest import ROOT, eventually, free_port

SIGNING, TOKEN, PEPPER = "cAnArY-signing-71", "xoxb-cAnArY-token-72", "cAnArY-pepper-73"
WORKSPACE = "T0TALLY"
PEOPLE = """email,name,team,role,joined_on,left_on
ada@example.com,Ada,Search,engineer,2020-01-06,
bob@example.com,Bob,Search,lead,2020-01-06,
eve@example.com,Eve,Search,engineer,2020-01-06,2024-05-01
root@example.com,Root,Platform,admin,2020-01-06,
"""


def user(id: str, email: str | None, **changed: Any) -> dict[str, Any]:
    profile = {"email": email} if email else {}
    return {"id": id, "team_id": WORKSPACE, "deleted": False, "is_bot": False, "is_email_confirmed": True} | {
        "profile": profile,
        **changed,
    }


class FakeSlack(ThreadingHTTPServer):
    """users.info of a small workspace."""

    daemon_threads = True

    def __init__(self) -> None:
        people = [
            user("U1ADA", "Ada@Example.com"),
            user("U2BOB", "bob@example.com"),
            user("U3EVE", "eve@example.com"),
            user("U4STRANGER", "ada@example.com", team_id="T0OTHER"),
            user("U5GONE", "ada@example.com", deleted=True),
            user("U6BOT", "ada@example.com", is_bot=True),
            user("U7UNCONFIRMED", "ada@example.com", is_email_confirmed=False),
            user("U8NOMAIL", None),
            user("U9NEW", "new@elsewhere.example"),
        ]
        self.users = {u["id"]: u for u in people}
        self.broken: str | bytes | None = None
        self.asked = 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.asked += 1
                where = urlsplit(self.path)
                found = fake.users.get(parse_qs(where.query)["user"][0])
                answer: dict[str, Any] = (
                    {"ok": True, "user": found} if found else {"ok": False, "error": "user_not_found"}
                )
                if where.path != "/api/users.info" or self.headers["Authorization"] != f"Bearer {TOKEN}":
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
        self.url = f"http://127.0.0.1:{self.server_address[1]}/api/"


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    server = FakeSlack()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(f"sqlite://{tmp_path}/registry.db")


def environment(tmp_path: Path, slack: FakeSlack) -> dict[str, str]:
    (tmp_path / "people.csv").write_text(PEOPLE)
    return {
        "TALLY_REGISTRY": f"sqlite://{tmp_path}/registry.db",
        "TALLY_KEY_PEPPER": PEPPER,
        "TALLY_SLACK_SIGNING_SECRET": SIGNING,
        "TALLY_SLACK_BOT_TOKEN": TOKEN,
        "TALLY_SLACK_TEAM_ID": WORKSPACE,
        "TALLY_SLACK_API_URL": slack.url,
        "TALLY_POLICY_DIR": str(tmp_path),
        "TALLY_PROXY_URL": "https://gateway.example.com/",
        "TALLY_KEYS_PER_PERSON": "3",
        "TALLY_KEY_DAYS": "30",
        "TALLY_LOG_LEVEL": "DEBUG",
    }


@pytest.fixture
def client(tmp_path: Path, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    for name, value in environment(tmp_path, slack).items():
        monkeypatch.setenv(name, value)
    before, level = list(logging.root.handlers), logging.root.level
    source = str(ROOT / "functions/keys/main.py")
    yield functions_framework.create_app(target="keys", source=source).test_client()  # type: ignore[no-untyped-call]
    logging.root.handlers[:], logging.root.level = before, level


_trigger = iter(range(10**9))


def form(text: str, user_id: str = "U1ADA", **changed: str) -> bytes:
    fields = {
        "command": "/tally",
        "text": text,
        "user_id": user_id,
        "team_id": WORKSPACE,
        "trigger_id": f"1337.{next(_trigger)}",
        "response_url": "https://hooks.example.com/commands/1",
    }
    return urlencode(fields | changed).encode()


def signed(body: bytes, at: float | None = None, secret: str = SIGNING) -> dict[str, str]:
    import hashlib
    import hmac

    stamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return {
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": f"v0={digest}",
        "Content-Type": "application/x-www-form-urlencoded",
    }


def say(client: FlaskClient, text: str, user_id: str = "U1ADA") -> str:
    """What Slack shows to the person who wrote `text`, and to nobody else."""
    body = form(text, user_id)
    answer = client.post("/", data=body, headers=signed(body))
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json is not None
    assert answer.json["response_type"] == "ephemeral"
    return str(answer.json["text"])


def key_in(text: str) -> str:
    (key,) = set(re.findall(r"sk-tally-\w{38}", text))
    return str(key)


def live(registry: Registry, person: str = "ada@example.com") -> list[keys.KeyRecord]:
    found = [keys.KeyRecord.model_validate(d.fields) for d in registry.find(keys.COLLECTION, person=person)]
    return [key for key in found if key.refusal(datetime.now(UTC)) is None]


# What people do


def test_a_person_has_a_working_key_at_once_and_only_its_hash_is_kept(client: FlaskClient, registry: Registry) -> None:
    text = say(client, "issue laptop")
    key = key_in(text)
    assert keys.well_formed(key)
    document = registry.get(keys.COLLECTION, keys.key_hash(key, PEPPER))
    assert document
    record = keys.KeyRecord.model_validate(document.fields)
    assert (record.person, record.team, record.name, record.kind) == ("ada@example.com", "Search", "laptop", "human")
    assert record.refusal(datetime.now(UTC)) is None
    assert record.refusal(datetime.now(UTC) + timedelta(days=31)) is not None
    assert key not in json.dumps(document.fields)
    assert f"ANTHROPIC_BASE_URL=https://gateway.example.com\nexport ANTHROPIC_AUTH_TOKEN={key}" in text
    assert 'base_url = "https://gateway.example.com/v1"' in text
    assert record.key_id in text


def test_list_names_ones_keys_without_the_keys(client: FlaskClient) -> None:
    assert "no keys" in say(client, "list")
    key = key_in(say(client, "issue laptop"))
    say(client, "issue")
    listed = say(client, "list")
    assert listed.index("`laptop`") < listed.index("`default`")
    assert keys.key_id(keys.key_hash(key, PEPPER)) in listed
    assert f"ends in `{key[-4:]}`" in listed
    assert key not in listed
    assert key[:-4] not in listed


@pytest.mark.parametrize("by", ["name", "id"])
def test_a_revoked_key_is_refused_from_then_on(client: FlaskClient, registry: Registry, by: str) -> None:
    key, other = key_in(say(client, "issue laptop")), key_in(say(client, "issue desktop"))
    hashed = keys.key_hash(key, PEPPER)
    said = say(client, f"revoke {'laptop' if by == 'name' else keys.key_id(hashed)}")
    assert "revoked" in said
    document, kept = registry.get(keys.COLLECTION, hashed), registry.get(keys.COLLECTION, keys.key_hash(other, PEPPER))
    assert document
    assert kept
    assert "was revoked" in str(keys.KeyRecord.model_validate(document.fields).refusal(datetime.now(UTC)))
    assert keys.KeyRecord.model_validate(kept.fields).refusal(datetime.now(UTC)) is None
    assert "laptop" not in say(client, "list")
    assert "no such key" in say(client, "revoke laptop")
    assert keys.well_formed(key_in(say(client, "issue laptop")))  # the name is free again


def test_another_persons_key_can_be_neither_seen_nor_revoked_nor_told_from_none(
    client: FlaskClient, registry: Registry
) -> None:
    key_id = keys.key_id(keys.key_hash(key_in(say(client, "issue secretname", "U2BOB")), PEPPER))
    assert say(client, "list") == "You have no keys. `issue` gives you one."
    nothing = say(client, "revoke 0123456789ab")
    assert {say(client, f"revoke {which}") for which in (key_id, "secretname")} == {nothing}
    assert [key.name for key in live(registry, "bob@example.com")] == ["secretname"]
    assert key_in(say(client, "issue secretname"))  # the name is free for Ada


def test_a_service_key_is_not_its_owners_to_revoke_here(client: FlaskClient, registry: Registry) -> None:
    hashed, record = keys.new_record(keys.make(), PEPPER, person="ada@example.com", team="Search", kind="service")
    registry.put(keys.COLLECTION, hashed, record.document())
    assert "no such key" in say(client, f"revoke {record.key_id}")
    assert "no keys" in say(client, "list")


def test_nobody_holds_more_keys_than_the_policy_allows(client: FlaskClient, registry: Registry) -> None:
    for _ in range(3):
        key_in(say(client, "issue"))
    assert "3 keys at a time" in say(client, "issue")
    assert sorted(key.name for key in live(registry)) == ["default", "default-2", "default-3"]
    say(client, "revoke default-2")
    assert key_in(say(client, "issue"))
    assert sorted(key.name for key in live(registry)) == ["default", "default-2", "default-3"]


def test_expired_keys_are_listed_as_such_and_make_room(client: FlaskClient, registry: Registry) -> None:
    for n in range(3):
        past = datetime.now(UTC) - timedelta(days=1)
        hashed, record = keys.new_record(
            keys.make(), PEPPER, person="ada@example.com", team="Search", name=f"old-{n}", expires_at=past
        )
        registry.put(keys.COLLECTION, hashed, record.document())
    assert say(client, "list").count("expired") == 3
    assert key_in(say(client, "issue"))
    assert "revoked" in say(client, "revoke old-1")


def test_a_name_is_unique_among_ones_keys_and_one_plain_word(client: FlaskClient, registry: Registry) -> None:
    key_in(say(client, "issue laptop"))
    assert "Choose another name" in say(client, "issue laptop")
    for name in ("<!channel>", "`x`", "x" * 41, "-x", "0123456789ab", "\u0444"):
        assert "one word" in say(client, f"issue {name}")
    assert len(live(registry)) == 1


@pytest.mark.parametrize("text", ["", "help", "  help ", "issue a b", "revoke", "list all", "drop tables", "\u0000"])
def test_everything_else_is_answered_with_help(client: FlaskClient, registry: Registry, text: str) -> None:
    assert "`issue [name]`" in say(client, text)
    assert registry.find(keys.COLLECTION) == []


@pytest.mark.parametrize(
    "user_id",
    ["U3EVE", "U4STRANGER", "U5GONE", "U6BOT", "U7UNCONFIRMED", "U8NOMAIL", "U9NEW", "UNOBODY", "", "U1ADA&user=U2BOB"],
)
def test_a_leaver_a_stranger_and_an_unconfirmed_address_are_sent_to_an_admin(
    client: FlaskClient, registry: Registry, user_id: str
) -> None:
    assert say(client, "issue", user_id) == (
        "Tally does not know you under your Slack e-mail. Please ask root@example.com."
    )
    assert registry.find(keys.COLLECTION) == []


# Who is believed


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Slack-Signature": ""},
        {"X-Slack-Request-Timestamp": "soon"},
        {"X-Slack-Request-Timestamp": "-1"},
        {"X-Slack-Request-Timestamp": "9" * 400},
        {"X-Slack-Request-Timestamp": "\xb2\xb2"},
        {"X-Slack-Signature": "v0="},
        {"X-Slack-Signature": "v0=" + "0" * 64},
        {"X-Slack-Signature": "v1=" + "0" * 64},
        {"X-Slack-Signature": "\xff\xfe"},
    ],
)
def test_what_slack_did_not_sign_is_refused(
    client: FlaskClient, registry: Registry, slack: FakeSlack, headers: dict[str, str]
) -> None:
    body = form("issue")
    given_headers = signed(body) | headers if headers else {}
    assert client.post("/", data=body, headers=given_headers).status_code == 401
    assert (registry.find(keys.COLLECTION), slack.asked) == ([], 0)


def test_a_signature_holds_for_one_body_and_one_secret(client: FlaskClient, registry: Registry) -> None:
    body = form("issue")
    assert client.post("/", data=body + b"&text=list", headers=signed(body)).status_code == 401
    assert client.post("/", data=body, headers=signed(body, secret="another")).status_code == 401
    assert client.get("/").status_code == 401
    assert registry.find(keys.COLLECTION) == []


@pytest.mark.parametrize(("off_s", "status"), [(-310, 401), (310, 401), (-280, 200), (280, 200)])
def test_a_stale_and_a_future_signature_are_refused(client: FlaskClient, off_s: int, status: int) -> None:
    body = form("help")
    assert client.post("/", data=body, headers=signed(body, time.time() + off_s)).status_code == status


def test_a_replayed_request_is_refused_and_mints_nothing(client: FlaskClient, registry: Registry) -> None:
    body = form("issue laptop")
    headers = signed(body)
    first, second = (client.post("/", data=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 401)
    assert len(live(registry)) == 1


def test_slacks_own_second_try_does_not_mint_twice(client: FlaskClient, registry: Registry) -> None:
    body = form("issue")
    first = client.post("/", data=body, headers=signed(body, time.time() - 2))
    second = client.post("/", data=body, headers=signed(body) | {"X-Slack-Retry-Num": "1"})
    assert "sk-tally-" in first.text
    assert second.status_code == 200
    assert "answered a moment ago" in second.text
    assert "sk-tally-" not in second.text
    assert len(live(registry)) == 1


def test_another_workspace_is_refused_even_when_signed(client: FlaskClient, slack: FakeSlack) -> None:
    for body in (form("issue", team_id="T0OTHER"), b"text=issue&user_id=U1ADA", b"", b"\xff%%&&==", b"team_id"):
        assert client.post("/", data=body, headers=signed(body)).status_code == 403
    assert slack.asked == 0


def test_a_body_too_large_is_not_read(client: FlaskClient) -> None:
    body = form("x" * 70_000)
    assert client.post("/", data=body, headers=signed(body)).status_code == 413


any_text = st.text(max_size=80)


@given(any_text, any_text, st.binary(max_size=200), st.floats(allow_nan=False, allow_infinity=False), any_text)
def test_checking_a_signature_never_raises_and_never_believes_garbage(
    timestamp: str, signature: str, body: bytes, now_s: float, secret: str
) -> None:
    assert is_signed(SecretStr(secret), timestamp, signature, body, now_s) is False


@given(st.binary(max_size=300), st.integers(min_value=0, max_value=10**10), st.integers(-300, 300))
def test_what_slack_signs_is_believed_for_five_minutes_either_way(body: bytes, at: int, off_s: int) -> None:
    headers = signed(body, at)
    stamp, signature = headers["X-Slack-Request-Timestamp"], headers["X-Slack-Signature"]
    assert is_signed(SecretStr(SIGNING), stamp, signature, body, at + off_s)
    assert not is_signed(SecretStr(SIGNING), stamp, signature, body + b"x", at + off_s)
    assert not is_signed(SecretStr(SIGNING), stamp, signature, body, at + 300.5)
    assert not is_signed(SecretStr(SIGNING), stamp, signature, body, at - 300.5)


# When something else is broken


@pytest.mark.parametrize("broken", ["ratelimited", "invalid_auth", "no such <error>", b"<html>", b"[]", b""])
def test_slack_in_trouble_changes_nothing_and_is_said_politely(
    client: FlaskClient, slack: FakeSlack, registry: Registry, broken: str | bytes
) -> None:
    slack.broken = broken
    assert "try again in a minute" in say(client, "issue")
    assert registry.find(keys.COLLECTION) == []
    slack.broken = None
    assert key_in(say(client, "issue"))


def test_slack_away_is_an_error_of_slack() -> None:
    gone = Slack(f"http://127.0.0.1:{free_port()}/api", SecretStr(TOKEN), WORKSPACE)
    with pytest.raises(SlackError, match="ConnectionError"):
        gone.email_of("U1ADA")


def test_a_registry_in_trouble_is_said_politely(client: FlaskClient, tmp_path: Path) -> None:
    say(client, "list")
    blocker = open_registry(f"sqlite://{tmp_path}/registry.db")
    blocker._db.execute("DROP TABLE documents")  # type: ignore[attr-defined]
    assert "try again in a minute" in say(client, "issue")


def test_a_faulty_people_file_leaves_the_last_good_one_in_force(client: FlaskClient, tmp_path: Path) -> None:
    assert key_in(say(client, "issue"))
    (tmp_path / "people.csv").write_text(PEOPLE + "broken\n")
    assert key_in(say(client, "issue"))
    (tmp_path / "people.csv").write_text(PEOPLE.replace("ada@", "ida@"))
    assert "does not know you" in say(client, "issue")


# At once


class Racing:
    """A registry in which somebody else writes the key just before its revocation does."""

    def __init__(self, registry: Registry, races: int) -> None:
        self._registry, self.races = registry, races

    def get(self, collection: str, id: str) -> Document | None:
        return self._registry.get(collection, id)

    def put(self, collection: str, id: str, fields: Any, version: str | None = None) -> str:
        if version is not None and self.races:
            self.races -= 1
            now = self._registry.get(collection, id)
            assert now
            self._registry.put(collection, id, {**now.fields, "seen": self.races}, ANY)
        return self._registry.put(collection, id, fields, version)

    def find(self, collection: str, **equal: Any) -> list[Document]:
        return self._registry.find(collection, **equal)


ADA = Person(email="ada@example.com", name="Ada", team="Search", role="lead", joined_on=datetime(2020, 1, 6).date())


def desk(registry: Registry) -> Desk:
    return Desk(registry, SecretStr(PEPPER), "https://gateway.example.com", key_days=30, keys_per_person=3)


def test_a_revocation_overwrites_nobody_elses_change(registry: Registry) -> None:
    now = datetime.now(UTC)
    desk(registry).answer(ADA, "issue laptop", now)
    assert "revoked" in desk(Racing(registry, 2)).answer(ADA, "revoke laptop", now)
    (document,) = registry.find(keys.COLLECTION)
    assert document.fields["seen"] == 0
    assert document.fields["revoked_at"]
    desk(registry).answer(ADA, "issue laptop", now)
    assert "try again" in desk(Racing(registry, 99)).answer(ADA, "revoke laptop", now)
    assert len(live(registry)) == 1


def test_many_requests_at_once_leave_no_more_keys_than_allowed(registry: Registry) -> None:
    now = datetime.now(UTC)
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda n: desk(registry).answer(ADA, f"issue n{n}", now), range(24)))
    shown = {key_in(text) for text in said if "sk-tally-" in text}
    assert len(live(registry)) <= 3
    hashes = {keys.key_id(keys.key_hash(key, PEPPER)) for key in shown}
    assert hashes == {key.key_id for key in live(registry)}  # what was shown works, and nothing else does


def test_a_registry_error_is_not_swallowed_by_the_desk(tmp_path: Path) -> None:
    broken = open_registry(f"sqlite://{tmp_path}/gone.db")
    broken._db.execute("DROP TABLE documents")  # type: ignore[attr-defined]
    with pytest.raises(RegistryError):
        desk(broken).answer(ADA, "list", datetime.now(UTC))


# As deployed


def test_served_by_the_functions_framework_it_keeps_every_secret(tmp_path: Path, slack: FakeSlack) -> None:
    port, log = free_port(), tmp_path / "log.txt"
    command = [str(Path(sys.executable).parent / "functions-framework"), "--source", "functions/keys/main.py"]
    env = os.environ | environment(tmp_path, slack) | {"PYTHONPATH": str(ROOT)}
    with log.open("w") as out:
        server = subprocess.Popen(
            [*command, "--target", "keys", "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        eventually(lambda: _status(port) == 401, within_s=60)
        answers = []
        for text in ("issue laptop", "issue", "list", "revoke laptop", "help"):
            body = form(text)
            answers.append(requests.post(f"http://127.0.0.1:{port}/", body, headers=signed(body), timeout=10))
        assert [a.status_code for a in answers] == [200] * 5
        slack.broken = b"not json"
        body = form("issue tablet")
        assert "again" in requests.post(f"http://127.0.0.1:{port}/", body, headers=signed(body), timeout=10).text
    finally:
        server.terminate()
        server.wait(20)
    written = log.read_text() + "".join(p.read_bytes().decode(errors="replace") for p in tmp_path.glob("registry.db*"))
    assert "key issued" in written
    for secret in (SIGNING, TOKEN, PEPPER, key_in(answers[0].text), key_in(answers[1].text)):
        assert secret not in written
    assert "issue laptop" not in written
    assert not any(secret in a.text for a in answers for secret in (SIGNING, TOKEN, PEPPER))


def _status(port: int) -> int:
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=2).status_code
    except requests.ConnectionError:
        return 0


def test_a_cold_start_imports_no_google_client(tmp_path: Path, slack: FakeSlack) -> None:
    heavy = ("google.cloud.firestore", "google.cloud.bigquery", "google.cloud.secretmanager", "grpc", "yaml", "duckdb")
    code = f"import sys, functions.keys.main; print(*[m for m in sys.modules if m.startswith({heavy!r})])"
    env = os.environ | environment(tmp_path, slack)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_it_does_not_start_without_its_secrets(tmp_path: Path, slack: FakeSlack) -> None:
    env = {k: v for k, v in environment(tmp_path, slack).items() if k != "TALLY_SLACK_SIGNING_SECRET"}
    done = subprocess.run(
        [sys.executable, "-c", "import functions.keys.main"],
        cwd=ROOT, env={"PATH": os.environ["PATH"]} | env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "TALLY_SLACK_SIGNING_SECRET: is not set" in done.stderr
    assert TOKEN not in done.stderr


def test_log_records_hold_no_key(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = key_in(desk(registry).answer(ADA, "issue laptop", datetime.now(UTC)))
    assert [record.getMessage() for record in caplog.records] == ["key issued"]
    assert key not in "".join(str(vars(record)) for record in caplog.records)
