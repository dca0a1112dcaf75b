"""`tally` on the command line, against a keys function and the sign-in of a laptop."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from governance import audit, keys
from governance.connecting import AGENTS, UnknownAgent, connection
from governance.registry import Registry, open_registry
from local.login import AUDIENCE
from tally_cli.configuration import Configuration, NotConfigured, checked, read, write
from tally_cli.main import main
from tests.conftest import ROOT, eventually, free_port
from tests.fake_google import FakeGoogle
from tests.fake_slack import PEOPLE, PEPPER, FakeSlack, environment, key_in
from tests.keys_function import counted, limit, listening, serving


@pytest.fixture(scope="module")
def google() -> Iterator[FakeGoogle]:
    server = FakeGoogle()
    yield server
    server.close()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(f"sqlite://{tmp_path}/registry.db")


@pytest.fixture
def url(tmp_path: Path, google: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A keys function without Slack, and a command line that knows where it is and that Ada sits here."""
    slack = FakeSlack()
    ours = {name: value for name, value in environment(tmp_path, slack).items() if "_SLACK_" not in name}
    slack.close()
    with serving(monkeypatch, ours | google.settings()) as client, listening(client) as address:
        monkeypatch.setenv("TALLY_CONFIG", str(tmp_path / "config" / "tally.toml"))
        monkeypatch.setenv("TALLY_URL", address)
        monkeypatch.setenv("TALLY_TOKEN", google.token())
        yield address


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command prints that goes well."""
    capsys.readouterr()
    status = main(list(words))
    out = capsys.readouterr()
    assert status == 0, out.err
    return out.out


def refused(capsys: pytest.CaptureFixture[str], *words: str, status: int = 1) -> str:
    """What a command says that does not."""
    capsys.readouterr()
    assert main(list(words)) == status
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    assert not out.out
    return out.err


def test_a_key_is_shown_once_with_the_lines_to_paste(
    url: str, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run(capsys, "issue", "laptop", "--expiry", "7d")
    key = key_in(said)
    assert registry.get(keys.COLLECTION, keys.key_hash(key, PEPPER))
    assert f"export ANTHROPIC_AUTH_TOKEN={key}" in said
    assert 'base_url = "https://gateway.example.com/v1"' in said
    listed = run(capsys, "list")
    assert re.search(r"^laptop +[0-9a-f]{12} +\w{4} +live ", listed, re.MULTILINE)
    assert key not in listed
    assert "aider" in run(capsys, "issue", "tablet", "--agent", "aider")
    assert "shown this once" in run(capsys, "rotate", "laptop")
    assert run(capsys, "revoke", "laptop").count("stops within five seconds") == 2
    assert "no such key" in refused(capsys, "revoke", "laptop")


def test_programs_read_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--json", "issue", "laptop"], ["issue", "tablet", "--json"]):
        assert keys.well_formed(json.loads(run(capsys, *words))["key"])
    assert len(json.loads(run(capsys, "list", "--json"))["keys"]) == 2


def test_the_audit_log_says_that_it_was_the_command_line(
    url: str, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "issue", "laptop")
    assert [document.fields["origin"] for document in registry.find(audit.AUDIT)] == ["tally"]


def test_money_from_usage_to_a_raise_that_is_granted(
    url: str,
    google: FakeGoogle,
    registry: Registry,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "Nothing has been counted yet" in refused(capsys, "usage")
    counted(registry, limit("person", "ada@example.com", 50, 50))
    assert re.search(r"person-month .* \$50\.00 +\$50\.00 +\$0\.00 .* refused until then", run(capsys, "usage"))
    said = run(capsys, "raise", "20", "because", "of", "--budget", "person-month", "the", "release")
    assert "bob@example.com may grant it" in said
    (id,) = re.findall(r"as ([0-9a-f]{12})", said)
    assert "not yours" in refused(capsys, "approve", id)
    monkeypatch.setenv("TALLY_TOKEN", google.token("bob@example.com"))
    assert "because of the release" in run(capsys, "raises")
    assert "granted by bob@example.com" in run(capsys, "approve", id)
    assert "already" in refused(capsys, "refuse", id)
    assert "Nothing waits" in run(capsys, "raises")


def test_an_admin_issues_a_service_key(
    url: str, google: FakeGoogle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        "service",
        "issue",
        "nightly",
        "--owner",
        "bob@example.com",
        "--cost-centre",
        "4711",
        "--budget",
        "50/month",
    ]
    assert "root@example.com" in refused(capsys, *asked)
    monkeypatch.setenv("TALLY_TOKEN", google.token("root@example.com"))
    key_in(run(capsys, *asked))
    assert "service, bob@example.com" in run(capsys, "service", "list")
    assert json.loads(run(capsys, "service", "list", "--json"))["keys"][0]["tags"] == ["cost_centre=4711"]
    assert "Nobody has counted yet" in run(capsys, "idle")


@pytest.mark.parametrize("agent", AGENTS)
def test_the_lines_are_the_same_as_everywhere(url: str, capsys: pytest.CaptureFixture[str], agent: str) -> None:
    said = run(capsys, "connect", agent)
    for paste in connection(agent, "https://gateway.example.com/").pastes:
        assert all(line.strip() in said for line in paste.text.splitlines())


def test_an_agent_may_be_called_by_its_other_names() -> None:
    assert connection("Claude", "https://g").agent == "claude-code"
    assert connection("gemini", "https://g").agent == "gemini-cli"
    with pytest.raises(UnknownAgent, match="claude-code, codex"):
        connection("emacs", "https://g")


# Where it is, and who asks


def test_login_is_kept_for_its_owner_alone_and_holds_no_token(
    url: str, tmp_path: Path, google: FakeGoogle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "You are ada@example.com" in run(capsys, "login", "--url", url)
    file = tmp_path / "config" / "tally.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == f'url = "{url}"\n'
    monkeypatch.delenv("TALLY_URL")
    assert "You have no keys" in run(capsys, "list")
    monkeypatch.setenv("TALLY_TOKEN", google.token(aud="another"))
    assert "Say who you are" in refused(capsys, "list")
    file.write_text("url = [")
    assert "cannot be read" in refused(capsys, "list", status=2)


def test_without_an_address_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.delenv("TALLY_URL", raising=False)
    assert "tally login --url" in refused(capsys, "list", status=2)


@pytest.mark.parametrize(
    "address", ["http://tally.example.com", "ftp://x", "tally.example.com", "http://127.0.0.1.evil.example"]
)
def test_a_key_does_not_travel_in_clear(address: str) -> None:
    with pytest.raises(NotConfigured, match="must be https"):
        checked(Configuration(address))
    with pytest.raises(NotConfigured):
        checked(Configuration("https://tally.example.com", token_url=address))


def test_a_token_for_one_tally_is_not_shown_to_another(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    write(Configuration("http://127.0.0.1:1", token_url="http://127.0.0.1:2/token", audience="a"), file)
    here = {"TALLY_CONFIG": str(file)}
    assert read(here).token_url == "http://127.0.0.1:2/token"
    other = read(here | {"TALLY_URL": "https://other.example.com"})
    assert (other.token_url, other.audience) == ("", "")


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("echo $TALLY_TEST_TOKEN", 0, "You have no keys"),
        ('case "$*" in *--audiences=aud*) echo $TALLY_TEST_TOKEN;; esac', 1, "gave no token"),
        ("echo 'ERROR: (gcloud) no account' >&2; exit 1", 1, "no account"),
    ],
)
def test_gcloud_says_who_sits_here(
    url: str, tmp_path: Path, google: FakeGoogle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    script: str, status: int, said: str,
) -> None:  # fmt: skip
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir()
    gcloud.write_text(f"#!/bin/sh\n{script}\n")
    gcloud.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gcloud.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TALLY_TEST_TOKEN", google.token())
    monkeypatch.delenv("TALLY_TOKEN")
    out = run(capsys, "list") if status == 0 else refused(capsys, "list")
    assert said in out
    if "audiences" in script:
        monkeypatch.setenv("TALLY_AUDIENCE", "aud")
        assert "You have no keys" in run(capsys, "list")


def test_a_service_away_or_another_one_is_said_in_words(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, google: FakeGoogle
) -> None:
    monkeypatch.setenv("TALLY_URL", f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in refused(capsys, "list")
    monkeypatch.setenv("TALLY_URL", f"{url}/elsewhere")
    assert "no address of Tally's" in refused(capsys, "list")


def test_it_needs_python_and_nothing_else() -> None:
    code = "import sys, tally_cli.main; print(*{m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names))"
    bare = [sys.executable, "-S", "-c", code]  # -S: without what is installed
    done = subprocess.run(bare, cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert set(done.stdout.split()) == {"__main__", "governance", "tally_cli"}, done.stderr
    helped = subprocess.run([sys.executable, "-m", "tally_cli", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert all(f"    {word} " in helped.stdout for word in ("issue", "rotate", "raise", "connect", "service", "idle"))


# The sign-in of a laptop


@pytest.fixture
def login(tmp_path: Path) -> Iterator[str]:
    """`python -m local.login`; its address."""
    (tmp_path / "people.csv").write_text(PEOPLE)
    port = free_port()
    command = ["--port", str(port), "--people", str(tmp_path / "people.csv"), "--person", "ada@example.com"]
    process = subprocess.Popen(
        [sys.executable, "-m", "local.login", *command], cwd=ROOT, env=os.environ | {"TALLY_LOGIN_SECRET": "only-here"}
    )
    try:
        eventually(lambda: _answers(f"http://127.0.0.1:{port}/certs"), within_s=30)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.ConnectionError:
        return False


def test_on_a_laptop_the_command_line_works_without_google(
    tmp_path: Path, login: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slack = FakeSlack()
    ours = environment(tmp_path, slack) | {"TALLY_API_AUDIENCE": AUDIENCE, "TALLY_API_CERTS_URL": f"{login}/certs"}
    monkeypatch.setenv("TALLY_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("TALLY_TOKEN", raising=False)
    with serving(monkeypatch, ours) as client, listening(client) as url:
        said = run(capsys, "login", "--url", url, "--token-url", f"{login}/token/only-here")
        assert "You are ada@example.com" in said
        key_in(run(capsys, "issue", "laptop"))
        monkeypatch.setenv("TALLY_TOKEN_URL", f"{login}/token/only-here?person=root@example.com")
        assert "Nobody has counted yet" in run(capsys, "idle")
        monkeypatch.setenv("TALLY_TOKEN_URL", f"{login}/token/guessed")
        assert "no token at" in refused(capsys, "list")
    slack.close()


def test_the_sign_in_of_a_laptop_serves_programs_here_that_know_its_secret(login: str) -> None:
    good = f"{login}/token/only-here"
    assert requests.get(good, timeout=5).json()["token"].count(".") == 2
    assert requests.get(f"{good}?person=nobody@example.com", timeout=5).status_code == 404
    assert requests.get(f"{login}/token/guessed", timeout=5).status_code == 403
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        assert requests.get(good, headers=headers, timeout=5).status_code == 403
