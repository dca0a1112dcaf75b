"""The key desk behind Slack: only Slack is believed, only once, and a person reaches only their own keys."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from functions.keys.answers import Issued
from functions.keys.desk import Desk, Request
from functions.keys.slack import Slack, SlackError, is_signed
from functions.keys.terms import Refused
from governance import audit, keys
from governance.company import Company, KeyRules
from governance.policy import Person
from governance.registry import ANY, Document, Registry, RegistryError, open_registry
from tests.conftest import ROOT, eventually, free_port
from tests.fake_slack import (
    BOB,
    PEOPLE,
    PEPPER,
    SIGNING,
    TOKEN,
    WORKSPACE,
    FakeSlack,
    environment,
    form,
    key_in,
    say,
    signed,
)
from tests.keys_function import serving


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    server = FakeSlack()
    yield server
    server.close()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(f"sqlite://{tmp_path}/registry.db")


@pytest.fixture
def client(tmp_path: Path, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    with serving(monkeypatch, environment(tmp_path, slack)) as served:
        yield served


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
    key_id = keys.key_id(keys.key_hash(key_in(say(client, "issue secretname", BOB)), PEPPER))
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
    assert "`issue [name] [expiry]`" in say(client, text)
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

    def delete(self, collection: str, id: str, version: str = ANY) -> None:
        self._registry.delete(collection, id, version)

    def find(self, collection: str, **equal: Any) -> list[Document]:
        return self._registry.find(collection, **equal)


ADA = Person(email="ada@example.com", name="Ada", team="Search", role="lead", joined_on=datetime(2020, 1, 6).date())
COMPANY = Company(keys=KeyRules(days=30, per_person=3))


def desk(registry: Registry) -> Desk:
    note = lambda entry: audit.record(registry, entry)  # noqa: E731
    return Desk(registry, SecretStr(PEPPER), "https://gateway.example.com", COMPANY, note)


def by_ada() -> Request:
    return Request(ADA, "slack", datetime.now(UTC))


def test_a_revocation_overwrites_nobody_elses_change(registry: Registry) -> None:
    desk(registry).issue(by_ada(), "laptop", None)
    assert desk(Racing(registry, 2)).revoke(by_ada(), "laptop").records
    (document,) = registry.find(keys.COLLECTION)
    assert document.fields["seen"] == 0
    assert document.fields["revoked_at"]
    desk(registry).issue(by_ada(), "laptop", None)
    with pytest.raises(Refused, match="try again"):
        desk(Racing(registry, 99)).revoke(by_ada(), "laptop")
    assert len(live(registry)) == 1


def test_a_rotation_that_loses_a_race_leaves_no_key_behind(registry: Registry) -> None:
    desk(registry).issue(by_ada(), "laptop", None)
    desk(Racing(registry, 1)).rotate(by_ada(), "laptop")
    assert len(live(registry)) == 2  # the old one, for its overlap, and the one that was shown
    assert len(registry.find(keys.COLLECTION)) == 3


def test_many_requests_at_once_leave_no_more_keys_than_allowed(registry: Registry) -> None:
    def issue(n: int) -> str | None:
        try:
            return desk(registry).issue(by_ada(), f"n{n}", None).key.get_secret_value()
        except Refused:
            return None

    with ThreadPoolExecutor(8) as pool:
        shown = {key for key in pool.map(issue, range(24)) if key}
    assert len(live(registry)) <= 3
    hashes = {keys.key_id(keys.key_hash(key, PEPPER)) for key in shown}
    assert hashes == {key.key_id for key in live(registry)}  # what was shown works, and nothing else does


def test_many_rotations_at_once_leave_one_successor(registry: Registry) -> None:
    first = desk(registry).issue(by_ada(), "laptop", None)

    def rotate(_: int) -> Issued | None:
        try:
            return desk(registry).rotate(by_ada(), first.record.key_id)
        except Refused:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [answer for answer in pool.map(rotate, range(16)) if answer]
    assert len(made) == 1
    assert {key.key_id for key in live(registry)} == {first.record.key_id, made[0].record.key_id}


def test_a_registry_error_is_not_swallowed_by_the_desk(tmp_path: Path) -> None:
    broken = open_registry(f"sqlite://{tmp_path}/gone.db")
    broken._db.execute("DROP TABLE documents")  # type: ignore[attr-defined]
    with pytest.raises(RegistryError):
        desk(broken).listed(by_ada())


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
        body = form("issue tablet", BOB)
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
    assert "Slack needs TALLY_SLACK_SIGNING_SECRET" in done.stderr
    assert TOKEN not in done.stderr


def test_it_does_not_start_where_it_would_serve_nobody(tmp_path: Path, slack: FakeSlack) -> None:
    env = {k: v for k, v in environment(tmp_path, slack).items() if "SLACK" not in k}
    for extra, status in (({}, 1), ({"TALLY_API_AUDIENCE": "tally"}, 0), ({"TALLY_IAP_AUDIENCES": "/projects/1"}, 0)):
        done = subprocess.run(
            [sys.executable, "-c", "import functions.keys.main"],
            cwd=ROOT, env={"PATH": os.environ["PATH"]} | env | extra, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert bool(done.returncode) == ("or TALLY_API_AUDIENCE" in done.stderr)


def test_log_records_hold_no_key(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = desk(registry).issue(by_ada(), "laptop", None).key.get_secret_value()
    assert [record.getMessage() for record in caplog.records] == ["key issued"]
    assert key not in "".join(str(vars(record)) for record in caplog.records)
