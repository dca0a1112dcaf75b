"""The keys function as JSON: who is believed, what each verb answers, and with which status."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask.testing import FlaskClient

from functions.keys.office import READING, VERBS
from governance import audit, gate, keys
from governance.registry import Registry, open_registry
from tally_cli import endpoint
from tests.conftest import ROOT, eventually
from tests.fake_google import API, FakeGoogle
from tests.fake_slack import BOB, PEPPER, SIGNING, TOKEN, FakeSlack, environment, form, say, signed
from tests.keys_function import counted, limit, serving


@pytest.fixture(scope="module")
def google() -> Iterator[FakeGoogle]:
    server = FakeGoogle()
    yield server
    server.close()


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    server = FakeSlack()
    yield server
    server.close()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(f"sqlite://{tmp_path}/registry.db")


@pytest.fixture
def client(
    tmp_path: Path, slack: FakeSlack, google: FakeGoogle, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FlaskClient]:
    """Without Slack."""
    ours = {name: value for name, value in environment(tmp_path, slack).items() if "_SLACK_" not in name}
    with serving(monkeypatch, ours | google.settings()) as served:
        yield served


def ask(client: FlaskClient, verb: str, token: str, **given: Any) -> tuple[int, dict[str, Any]]:
    """(status, answer) of a POST."""
    answer = client.post(f"/v1/{verb}", json=given, headers={"Authorization": f"Bearer {token}"})
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status_code, answer.get_json()


def words(answer: tuple[int, dict[str, Any]]) -> str:
    return str(answer[1]["error"]["message"])


# Who is believed


def refusals(google: FakeGoogle) -> dict[str, dict[str, str]]:
    """Every way of not being let in, as headers."""
    past = int(time.time()) - 4000
    whole = google.token()
    header, claims, signature = whole.split(".")
    other = google.token("root@example.com").split(".")[1]
    tokens = {
        "empty": "",
        "not a token": "ada@example.com",
        "another's key": google.token(key=rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        "claims exchanged": f"{header}.{other}.{signature}",
        "signature cut": f"{header}.{claims}.",
        "unsigned": jwt.encode(
            {"iss": "https://accounts.google.com", "aud": API, "email": "ada@example.com"}, "", "none"
        ),
        "signed with the public key": _hmac_with_public_key(google),
        "expired": google.token(iat=past, exp=past + 3600),
        "not yet issued": google.token(iat=int(time.time()) + 900, exp=int(time.time()) + 1500),
        "another audience": google.token(aud="https://other.example.com"),
        "no audience": google.token(aud=""),
        "another issuer": google.token(iss="https://accounts.google.com.evil.example"),
        "IAP's issuer": google.token(iss="https://cloud.google.com/iap"),
        "an e-mail not confirmed": google.token(email_verified=False),
        "an e-mail confirmed in words": google.token(email_verified="true"),
        "no e-mail": google.token(""),
        "an assertion in the place of a token": google.assertion(),
    }
    headers = {name: {"Authorization": f"Bearer {token}"} for name, token in tokens.items()}
    assertions = {
        "forged": google.assertion(key=ec.generate_private_key(ec.SECP256R1())),
        "expired": google.assertion(iat=past, exp=past + 600),
        "another service's": google.assertion(aud="/projects/1/global/backendServices/8"),
        "a token in the place of an assertion": google.token(),
        "empty": "",
    }
    headers |= {f"IAP, {name}": {"x-goog-iap-jwt-assertion": said} for name, said in assertions.items()}
    return headers | {
        "nothing": {},
        "another scheme": {"Authorization": f"Basic {whole}"},
        "a bare token": {"Authorization": whole},
        "the header that IAP adds unsigned": {"x-goog-authenticated-user-email": "accounts.google.com:ada@example.com"},
        "a forged assertion beside a token": {
            "x-goog-iap-jwt-assertion": assertions["forged"], "Authorization": f"Bearer {whole}",
        },
    }  # fmt: skip


def _hmac_with_public_key(google: FakeGoogle) -> str:
    import hmac

    from tests.fake_google import _pem

    claims = google.token().split(".")[1]
    head = (
        base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "g1"}).encode()).rstrip(b"=").decode()
    )
    signature = hmac.digest(_pem(google.person_key).encode(), f"{head}.{claims}".encode(), "sha256")
    return f"{head}.{claims}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_nobody_is_let_in_without_proof(client: FlaskClient, google: FakeGoogle, registry: Registry) -> None:
    for name, headers in refusals(google).items():
        answer = client.post("/v1/issue", json={"name": "laptop"}, headers=headers)
        assert answer.status_code == 401, name
        assert "Say who you are" in answer.get_json()["error"]["message"]
        given = [value.removeprefix("Bearer ") for value in headers.values()]
        assert not any(value in answer.text for value in given if len(value) > 30), name
    assert registry.find(keys.COLLECTION) == []


def test_two_tokens_are_none(client: FlaskClient, google: FakeGoogle) -> None:
    for name, value in (
        ("Authorization", f"Bearer {google.token()}"),
        ("x-goog-iap-jwt-assertion", google.assertion()),
    ):
        answer = client.post("/v1/list", json={}, headers=[(name, value), (name, value)])
        assert answer.status_code == 401
        assert client.post("/v1/list", json={}, headers=[(name, value)]).status_code == 200


@pytest.mark.parametrize("how", ["token", "assertion", "upper case", "short issuer", "gcloud's own audience"])
def test_a_proven_person_is_served(client: FlaskClient, google: FakeGoogle, registry: Registry, how: str) -> None:
    headers = {
        "token": {"Authorization": f"Bearer {google.token()}"},
        "assertion": {"x-goog-iap-jwt-assertion": google.assertion()},
        "upper case": {"Authorization": f"bearer {google.token('Ada@Example.com')}"},
        "short issuer": {"Authorization": f"Bearer {google.token(iss='accounts.google.com')}"},
        "gcloud's own audience": {
            "Authorization": f"Bearer {google.token(aud='32555940559.apps.googleusercontent.com')}"
        },
    }[how]
    answer = client.post("/v1/issue", json={"name": "laptop"}, headers=headers)
    assert answer.status_code == 201
    document = registry.get(keys.COLLECTION, keys.key_hash(answer.get_json()["key"], PEPPER))
    assert document
    assert document.fields["person"] == "ada@example.com"


@pytest.mark.parametrize("email", ["eve@example.com", "new@elsewhere.example"])
def test_a_leaver_and_a_stranger_are_told_whom_to_ask(client: FlaskClient, google: FakeGoogle, email: str) -> None:
    answer = ask(client, "issue", google.token(email))
    assert answer[0] == 403
    assert words(answer) == f"Tally does not know {email}. Please ask root@example.com."


def test_certificates_are_fetched_once(client: FlaskClient, google: FakeGoogle) -> None:
    ask(client, "list", google.token())
    before = google.asked
    for _ in range(5):
        ask(client, "list", google.token(nonce=f"{time.monotonic()}"))
    assert google.asked == before


@pytest.mark.parametrize("only", ["TALLY_API_AUDIENCE", "TALLY_IAP_AUDIENCES"])
def test_what_is_not_configured_is_not_believed(
    tmp_path: Path, slack: FakeSlack, google: FakeGoogle, monkeypatch: pytest.MonkeyPatch, only: str
) -> None:
    ours = environment(tmp_path, slack) | google.settings()
    ours |= {name: "" for name in ("TALLY_API_AUDIENCE", "TALLY_IAP_AUDIENCES") if name != only}
    with serving(monkeypatch, ours) as client:
        token = client.post("/v1/list", json={}, headers={"Authorization": f"Bearer {google.token()}"})
        assertion = client.post("/v1/list", json={}, headers={"x-goog-iap-jwt-assertion": google.assertion()})
    expected = (200, 401) if only == "TALLY_API_AUDIENCE" else (401, 200)
    assert (token.status_code, assertion.status_code) == expected


def test_slack_is_not_served_where_it_is_not_configured(client: FlaskClient) -> None:
    body = form("issue")
    assert client.post("/", data=body, headers=signed(body)).status_code == 404
    assert client.post("/", data=body, headers=signed(body, secret="")).status_code == 404


# How it is asked


def test_a_page_elsewhere_cannot_make_a_browser_change_something(
    client: FlaskClient, google: FakeGoogle, registry: Registry
) -> None:
    """A form can be sent with the sign-in of IAP in it; JSON cannot, without asking first."""
    headers = {"x-goog-iap-jwt-assertion": google.assertion()}
    assert client.get("/v1/issue", headers=headers).status_code == 405
    assert client.get("/v1/revoke?which=laptop", headers=headers).status_code == 405
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert client.post("/v1/issue", data=b"{}", content_type=kind, headers=headers).status_code == 415
    assert client.options("/v1/issue", headers=headers).headers.get("Access-Control-Allow-Origin") is None
    assert registry.find(keys.COLLECTION) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"null", b'{"name": ["x"]}', b'{"name": {"x": 1}}', b"\xff"])
def test_a_body_that_is_no_object_of_texts_is_refused(client: FlaskClient, google: FakeGoogle, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {google.token()}"}
    answer = client.post("/v1/issue", data=body, content_type="application/json", headers=headers)
    assert answer.status_code == 400


def test_verbs_and_arguments_that_do_not_exist_are_named_as_such(client: FlaskClient, google: FakeGoogle) -> None:
    for verb in ("", "drop", "issue/x", "../list", "service", "ISSUE"):
        assert ask(client, verb, google.token())[0] == 404, verb
    assert ask(client, "list", google.token(), person="bob@example.com")[0] == 400
    assert "`which` is missing" in words(ask(client, "revoke", google.token()))
    assert client.delete("/v1/list", headers={"Authorization": f"Bearer {google.token()}"}).status_code == 405


def test_the_command_line_reads_what_only_reads() -> None:
    assert endpoint.READING == READING < VERBS


# What is answered


def test_a_key_from_its_issue_to_its_end(client: FlaskClient, google: FakeGoogle, registry: Registry) -> None:
    token = google.token()
    status, issued = ask(client, "issue", token, name="laptop", expiry="7d")
    assert status == 201
    assert keys.well_formed(issued["key"])
    assert issued["address"] == "https://gateway.example.com"
    assert issued["person"] == "ada@example.com"
    assert ask(client, "issue", token, name="laptop")[0] == 409
    assert ask(client, "issue", token, name="<x>")[0] == 400
    status, rotated = ask(client, "rotate", token, which="laptop")
    assert (status, rotated["replaces"]["key_id"], rotated["name"]) == (201, issued["key_id"], "laptop")
    listed = client.get("/v1/list", headers={"Authorization": f"Bearer {token}"}).get_json()
    assert [(key["name"], key["state"]) for key in listed["keys"]] == [("laptop", "replaced"), ("laptop", "live")]
    assert listed["last_use_known"] is False
    assert issued["key"] not in json.dumps(listed)
    assert ask(client, "revoke", google.token("bob@example.com"), which=issued["key_id"])[0] == 404
    status, revoked = ask(client, "revoke", token, which="laptop")
    assert (status, len(revoked["revoked"])) == (200, 2)
    assert ask(client, "revoke", token, which="laptop")[0] == 404
    for n in range(3):
        assert ask(client, "issue", token, name=f"n{n}")[0] == 201
    assert ask(client, "issue", token)[0] == 409


def test_usage_and_a_raise_from_asking_to_granting(client: FlaskClient, google: FakeGoogle, registry: Registry) -> None:
    token, lead = google.token(), google.token("bob@example.com")
    assert ask(client, "usage", token)[0] == 503
    counted(registry, limit("person", "ada@example.com", 50, 50), limit("company", "", 9000, 10))
    status, usage = ask(client, "usage", token)
    assert status == 200
    assert [(b["budget"], b["left_usd"], b["blocked"]) for b in usage["budgets"]] == [
        ("person-month", "0", True),
        ("company-month", "8990", False),
    ]
    status, asked = ask(client, "raise", token, dollars=20, reason="the release")
    assert (status, asked["deciders"], asked["told"]) == (200, ["bob@example.com"], False)
    id = asked["raise"]["id"]
    assert ask(client, "approve", token, id=id)[0] == 403
    assert [wish["id"] for wish in ask(client, "raises", lead)[1]["raises"]] == [id]
    status, granted = ask(client, "approve", lead, id=id)
    assert (status, granted["raise"]["state"]) == (200, "granted")
    assert [raised.extra_usd for raised in gate.granted(registry)] == [Decimal(20)]
    assert ask(client, "refuse", google.token("root@example.com"), id=id)[0] == 409
    assert ask(client, "approve", lead, id="none")[0] == 404
    assert ask(client, "raise", token, dollars=5, budget="company-month")[1]["deciders"] == ["fay@example.com"]
    assert ask(client, "raise", token, dollars=5, budget="team-Other-month")[0] == 404
    assert {d.fields["origin"] for d in registry.find(audit.AUDIT)} == {"api"}


def test_what_is_for_admins_is_theirs_alone(client: FlaskClient, google: FakeGoogle) -> None:
    admin, key = google.token("root@example.com"), ask(client, "issue", google.token())[1]
    service = {"name": "ci", "owner": "bob@example.com", "rpm": 60, "budget": "50/month", "team": "Search"}
    for verb, given in (("service/issue", service), ("service/list", {}), ("idle", {})):
        assert ask(client, verb, google.token("fay@example.com"), **given)[0] == 403
    status, made = ask(client, "service/issue", admin, **service)
    assert (status, made["kind"], made["requests_per_minute"]) == (201, "service", 60)
    assert made["budget"] == {"amount_usd": "50", "period": "month", "action": "block"}
    assert [key["name"] for key in ask(client, "service/list", admin)[1]["keys"]] == ["ci"]
    assert ask(client, "idle", admin)[1] == {"keys": [], "last_use_known": False}
    assert ask(client, "revoke", admin, which=key["key_id"])[0] == 200


def test_connect_and_help_say_what_there_is(client: FlaskClient, google: FakeGoogle) -> None:
    headers = {"Authorization": f"Bearer {google.token()}"}
    made = client.get("/v1/connect?agent=codex", headers=headers).get_json()
    assert made["title"] == "Codex"
    assert any('base_url = "https://gateway.example.com/v1"' in paste["text"] for paste in made["pastes"])
    assert client.get("/v1/connect?agent=emacs", headers=headers).status_code == 404
    assert client.get("/v1/help", headers=headers).get_json() == {"person": "ada@example.com", "admin": False}


def test_a_raise_asked_here_is_told_in_slack_too(
    tmp_path: Path, slack: FakeSlack, google: FakeGoogle, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(monkeypatch, environment(tmp_path, slack) | google.settings()) as client:
        counted(registry, limit("person", "ada@example.com", 50, 50))
        asked = ask(client, "raise", google.token(), dollars=20)[1]
        assert asked["told"] is True
        assert [told["channel"] for told in slack.told] == [BOB]
        ask(client, "approve", google.token("bob@example.com"), id=asked["raise"]["id"])
        eventually(lambda: len(slack.told) == 2)
        assert "no keys" in say(client, "list")  # the same function serves both


def test_a_registry_in_trouble_is_to_be_tried_again(client: FlaskClient, google: FakeGoogle, tmp_path: Path) -> None:
    ask(client, "list", google.token())
    open_registry(f"sqlite://{tmp_path}/registry.db")._db.execute("DROP TABLE documents")  # type: ignore[attr-defined]
    answer = client.post("/v1/issue", json={}, headers={"Authorization": f"Bearer {google.token()}"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


# Secrets


def test_no_token_and_no_key_is_in_a_log_an_error_or_the_audit_log(
    client: FlaskClient, google: FakeGoogle, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token, assertion, planted = google.token(), google.assertion(), keys.make()
    issued = ask(client, "issue", token, name="laptop")[1]
    errors = [ask(client, "issue", token, name=planted), ask(client, "revoke", token, which=planted)]
    errors += [
        ask(client, "connect", token, agent=planted),
        ask(client, planted, token),
        ask(client, "list", token[:-9]),
    ]
    client.post("/v1/list", json={}, headers={"x-goog-iap-jwt-assertion": assertion})
    said = json.dumps(errors) + caplog.text + "".join(str(vars(record)) for record in caplog.records)
    said += json.dumps([document.fields for document in registry.find(audit.AUDIT)])
    assert "key issued" in said
    for secret in (issued["key"], planted, token, assertion, PEPPER, SIGNING, TOKEN, token.split(".")[2]):
        assert secret not in said


def test_google_auth_is_imported_where_json_is_asked_for_and_not_before(
    tmp_path: Path, slack: FakeSlack, google: FakeGoogle
) -> None:
    heavy = ("google.auth", "cryptography", "jwt")
    code = f"import sys, functions.keys.main; print(*[m for m in sys.modules if m.startswith({heavy!r})])"
    env = os.environ | environment(tmp_path, slack) | google.settings()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
