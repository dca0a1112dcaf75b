"""A process that lacks a setting stops at its start, says which one, and shows no secret."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from governance import settings as under_test
from governance.settings import (
    AlertsSettings,
    BillsSettings,
    DashboardSettings,
    IngestSettings,
    KeysSettings,
    ProxySettings,
    SettingsError,
    load,
    read_secret,
)
from tests.conftest import ROOT, documents

CANARY = "cAnArY-0815"
TITLES: dict[type[BaseSettings], str] = {
    ProxySettings: "The gateway",
    IngestSettings: "functions/ingest",
    KeysSettings: "functions/keys",
    AlertsSettings: "functions/alerts",
    BillsSettings: "functions/bills",
    DashboardSettings: "The dashboard",
}
KINDS = list(TITLES)
# Read by the command line, by a Tally on this machine, by agents, or to find secrets: no process's settings.
ELSEWHERE = {
    "TALLY_PROJECT", "TALLY_URL", "TALLY_AUDIENCE", "TALLY_TOKEN", "TALLY_TOKEN_URL", "TALLY_CONFIG", "TALLY_PERSON",
    "TALLY_HOME", "TALLY_KEY",
}  # fmt: skip
PROXY = {"REGISTRY": "sqlite:///tmp/r.db", "KEY_PEPPER": CANARY, "TOPIC": "projects/p/topics/t"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("TALLY_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)


def given(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"TALLY_{name}", value)


def test_what_is_set_is_loaded_and_the_rest_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, {**PROXY, "KEY_CACHE_TTL_S": "1.5"})
    loaded = load(ProxySettings)
    assert loaded.key_pepper.get_secret_value() == CANARY
    assert (loaded.key_cache_ttl_s, loaded.spill, loaded.log_level) == (1.5, "stdout", "INFO")
    with pytest.raises(ValidationError):
        loaded.spill = "elsewhere"  # type: ignore[misc]


@pytest.mark.parametrize("kind", KINDS)
def test_every_required_variable_that_is_missing_is_named_with_what_it_is_for(kind: type[ProxySettings]) -> None:
    required = {name: field for name, field in kind.model_fields.items() if field.is_required()}
    with pytest.raises(SettingsError) as caught:
        load(kind)
    said = str(caught.value)
    assert re.findall(r"TALLY_\w+(?=: is not set)", said) == [f"TALLY_{name.upper()}" for name in required]
    assert all(field.description and field.description in said for field in required.values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_says_what_it_is_for(kind: type[ProxySettings]) -> None:
    assert [name for name, field in kind.model_fields.items() if not field.description] == []


def wanted(kind: type[BaseSettings]) -> list[str]:
    """The rows of docs/settings.md about one process."""
    rows = []
    for name, field in kind.model_fields.items():
        given = "unset" if field.default in (None, "") else f"`{field.default}`"
        default = "needed" if field.is_required() else given
        secret = "Secret. " if "Secret" in str(field.annotation) else ""
        rows.append(f"| `TALLY_{name.upper()}` | {default} | {secret}{field.description} |")
    return rows


@pytest.mark.parametrize(("kind", "title"), TITLES.items())
def test_the_documentation_has_every_setting_of_a_process_and_no_other(kind: type[BaseSettings], title: str) -> None:
    section = (ROOT / "docs/settings.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("| `TALLY_")] == wanted(kind)


def test_no_page_names_a_setting_that_nobody_reads() -> None:
    known = {f"TALLY_{name.upper()}" for kind in KINDS for name in kind.model_fields} | ELSEWHERE
    pages = [ROOT / ".env.example", *documents()]
    gone = ("TALLY_KEY_DAYS", "TALLY_KEYS_PER_PERSON")  # the changelog says so
    for path in pages:
        named = set(re.findall(r"\bTALLY_[A-Z_]+\b", path.read_text())) - known
        assert named <= set(gone if path.name == "CHANGELOG.md" else ()), f"{path.relative_to(ROOT)}: {named}"


def test_a_process_stops_with_one_line_for_each_fault() -> None:
    code = "from governance.settings import *; load(KeysSettings)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("KeysSettings: settings are missing or wrong\n  TALLY_REGISTRY: is not set.")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("KEY_CACHE_TTL_S", "6"), ("KEY_CACHE_TTL_S", CANARY), ("LOG_LEVEL", CANARY)]
)
def test_a_value_that_is_wrong_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    given(monkeypatch, {**PROXY, name: value})
    with pytest.raises(SettingsError, match=f"TALLY_{name}: Input should") as caught:
        load(ProxySettings)
    assert CANARY not in str(caught.value)


def test_a_variable_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, {"WAREHOUSE": "duckdb://:memory:", "REGISTRY": "sqlite:///r", "SMTP_URL": ""})
    assert load(AlertsSettings).smtp_url is None
    given(monkeypatch, {"WAREHOUSE": ""})
    with pytest.raises(SettingsError, match="TALLY_WAREHOUSE: is not set"):
        load(AlertsSettings)


def test_a_dashboard_has_exactly_one_way_to_know_its_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, {"WAREHOUSE": "http://127.0.0.1:1"})
    with pytest.raises(SettingsError, match="exactly one of TALLY_IAP_AUDIENCE"):
        load(DashboardSettings)
    given(monkeypatch, {"VIEWER": "ada@example.com"})
    assert load(DashboardSettings).viewer == "ada@example.com"
    given(monkeypatch, {"IAP_AUDIENCE": "/projects/1"})
    with pytest.raises(SettingsError, match="exactly one of TALLY_IAP_AUDIENCE"):
        load(DashboardSettings)


# Secrets


@pytest.mark.parametrize("content", [CANARY, CANARY + "\n", CANARY + "\r\n"])
@pytest.mark.parametrize("form", ["file:{}", "file://{}"])
def test_a_secret_may_be_a_mounted_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, form: str
) -> None:
    (tmp_path / "pepper").write_bytes(content.encode())
    given(monkeypatch, {**PROXY, "KEY_PEPPER": form.format(tmp_path / "pepper")})
    assert load(ProxySettings).key_pepper.get_secret_value() == CANARY


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file"),
        (b"", "the secret is empty"),
        (b"\n", "the secret is empty"),
        (b"\xff" + CANARY.encode(), "not UTF-8"),
    ],
)
def test_a_file_that_holds_no_secret_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, why: str
) -> None:
    if content is not None:
        (tmp_path / "pepper").write_bytes(content)
    given(monkeypatch, {**PROXY, "KEY_PEPPER": f"file:{tmp_path}/pepper"})
    with pytest.raises(SettingsError, match=f"TALLY_KEY_PEPPER: .*{why}") as caught:
        load(ProxySettings)
    assert CANARY not in str(caught.value)


def test_a_secret_may_be_in_secret_manager_at_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str]] = []

    def read(project: str, name: str, version: str) -> str:
        asked.append((project, name, version))
        return CANARY + "\n"

    monkeypatch.setattr(under_test, "_from_secret_manager", read)
    given(monkeypatch, {**PROXY, "KEY_PEPPER": "sm://pepper"})
    with pytest.raises(SettingsError, match="TALLY_PROJECT, the project"):
        load(ProxySettings)
    given(monkeypatch, {"PROJECT": "acme"})
    assert load(ProxySettings).key_pepper.get_secret_value() == CANARY
    given(monkeypatch, {"KEY_PEPPER": "sm://pepper/7"})
    load(ProxySettings)
    assert asked == [("acme", "pepper", "latest"), ("acme", "pepper", "7")]


def test_secret_manager_is_really_asked_by_its_own_client(monkeypatch: pytest.MonkeyPatch) -> None:
    from google.cloud import secretmanager

    class Client:
        def access_secret_version(self, name: str) -> secretmanager.AccessSecretVersionResponse:
            if "denied" in name:
                raise PermissionError(CANARY)
            return secretmanager.AccessSecretVersionResponse(payload={"data": name.encode()})

    monkeypatch.setattr(secretmanager, "SecretManagerServiceClient", Client)
    given(monkeypatch, {**PROXY, "PROJECT": "acme", "KEY_PEPPER": "sm://only-here/3"})
    assert load(ProxySettings).key_pepper.get_secret_value() == "projects/acme/secrets/only-here/versions/3"
    given(monkeypatch, {"KEY_PEPPER": "sm://denied"})
    with pytest.raises(SettingsError, match="Secret Manager did not give denied: PermissionError") as caught:
        load(ProxySettings)
    assert CANARY not in str(caught.value)


def test_an_optional_secret_that_cannot_be_read_stops_the_process_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, {"WAREHOUSE": "duckdb://:memory:", "REGISTRY": "sqlite:///r", "SMTP_URL": "file:/not/there"})
    with pytest.raises(SettingsError) as caught:
        load(AlertsSettings)
    (_, line) = str(caught.value).splitlines()
    assert line.startswith("  TALLY_SMTP_URL: the file /not/there cannot be read")


def test_no_secret_shows_in_the_settings_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, PROXY)
    loaded = load(ProxySettings)
    assert CANARY not in repr(loaded) + str(loaded) + loaded.model_dump_json()


def test_a_secret_that_was_read_is_left_as_it_is() -> None:
    assert read_secret(SecretStr(CANARY)) == SecretStr(CANARY)
    assert read_secret(None) is None
