"""The launcher: starts in order, tells where everything is, and leaves neither a process nor a file behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from functions.alerts.key_upkeep import has_left
from governance import keys
from governance.policy import Person, read_policy
from governance.registry import open_registry
from local.home import AlreadyRunning, Home, NotRunning, read_run
from local.launch import read_env_file
from local.newcomer import with_person
from local.services import Service, ServiceFailed, Services, free_ports, port_near
from local.sql import json_line
from local.stack import Ports, clean_environment
from tests.conftest import ROOT, eventually, free_port
from tests.stack import running

SERVER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("TALLY_HOME", str(tmp_path / "tally"))
    return Home("demo")


def server(name: str, port: int, *after: str) -> Service:
    return Service(name, (sys.executable, "-c", SERVER, str(port)), ready=f"127.0.0.1:{port}", after=after)


def script(name: str, text: str) -> Service:
    return Service(name, (sys.executable, "-c", textwrap.dedent(text)))


def services(tmp_path: Path, *those: Service) -> Services:
    return Services(those, tmp_path, tmp_path / "logs", dict(os.environ), echo=False)


async def test_a_service_waits_for_those_it_comes_after(tmp_path: Path) -> None:
    told: list[str] = []
    first, second = free_ports(2)
    async with services(tmp_path, server("later", second, "sooner"), server("sooner", first)) as started:
        await started.start(lambda name, _: told.append(name))
    assert told == ["sooner", "later"]


async def test_leaving_leaves_no_process_not_even_a_stubborn_grandchild(tmp_path: Path) -> None:
    family = """
        import subprocess, sys, time, signal
        child = subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)"])
        print("child", child.pid, flush=True)
        time.sleep(600)
    """
    log = tmp_path / "logs" / "family.log"
    async with services(tmp_path, script("family", family)) as started:
        await started.start(lambda *_: None)
        while b"child" not in (log.read_bytes() if log.exists() else b""):
            await asyncio.sleep(0.02)
        child = next(int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith("child"))
        assert psutil.pid_exists(child)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


async def test_a_service_that_ends_is_named_with_its_last_words(tmp_path: Path) -> None:
    port = free_port()
    dying = script("dying", "print('the reason why'); raise SystemExit(3)")
    async with services(tmp_path, server("living", port), dying) as started:
        await started.start(lambda *_: None)
        with pytest.raises(ServiceFailed, match=r"(?s)dying ended with 3.*the reason why"):
            await started.until_one_ends()


async def test_a_service_that_never_serves_fails_the_start(tmp_path: Path) -> None:
    mute = Service("mute", (sys.executable, "-c", "print('no')"), ready=f"127.0.0.1:{free_port()}")
    async with services(tmp_path, mute) as started:
        with pytest.raises(ServiceFailed, match=r"(?s)mute ended with 0 while starting.*no"):
            await started.start(lambda *_: None)


def test_a_port_that_is_taken_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = int(taken.getsockname()[1])
        got = port_near(wanted)
        ports = Ports.choose(wanted, wanted)
    assert got != wanted
    assert wanted not in (ports.proxy, ports.dashboard)
    assert ports.proxy != ports.dashboard


def test_two_launchers_that_start_together_choose_different_ports() -> None:
    wanted = free_port()
    code = f"from local.services import port_near; print(port_near({wanted}), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        assert port_near(wanted) != theirs
        other.communicate("\n")


def test_a_developers_own_settings_do_not_reach_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "TALLY_VIEWER", "HTTPS_PROXY", "PUBSUB_EMULATOR_HOST"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("LANG", "C.UTF-8")
    offline, online = clean_environment(offline=True), clean_environment(offline=False)
    assert offline["LANG"] == "C.UTF-8"
    assert not offline.keys() & {"ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "TALLY_VIEWER", "HTTPS_PROXY"}
    assert online["HTTPS_PROXY"] == "x"
    assert "PUBSUB_EMULATOR_HOST" not in online


def test_only_its_owner_reads_what_is_secret(home: Home) -> None:
    first = home.secrets()
    assert home.secrets() == first
    with home.held():
        home.write_run({"key": "k"})
        assert read_run() == {"key": "k"}
        for name in ("run.json", "demo/secrets.json"):
            assert stat.S_IMODE((home.root / name).stat().st_mode) == 0o600
    with pytest.raises(NotRunning):
        read_run()


def test_one_tally_at_a_time_runs_from_a_folder(home: Home) -> None:
    with home.held(), pytest.raises(AlreadyRunning), Home("up").held():
        pytest.fail("it was held twice")


def test_keys_are_minted_once_and_those_of_who_left_are_revoked(home: Home) -> None:
    here = Person(email="here@example.com", name="H", team="T", role="engineer", joined_on=date(2020, 1, 1))
    gone = here.model_copy(update={"email": "gone@example.com", "left_on": date(2026, 1, 1)})
    since = datetime(2025, 6, 1, tzinfo=UTC)
    terms: dict[str, dict[str, Any]] = {
        "gone@example.com": {"created_at": since},
        "ci": {"owner": "here@example.com", "tags": ("project=x",)},
    }
    minted = home.keys_of([here, gone], {"ci": "T"}, "pepper", terms)
    assert home.keys_of([here, gone], {"ci": "T"}, "pepper", terms) == minted
    registry, now = open_registry(home.registry_url), datetime.now(UTC)
    records = {}
    for name, key in minted.items():
        document = registry.get(keys.COLLECTION, keys.key_hash(key, "pepper"))
        assert document is not None
        records[name] = keys.KeyRecord.model_validate(document.fields)
    assert records["here@example.com"].refusal(now) is None
    assert "ended with its owner's time in the company on 1 January 2026" in str(
        records["gone@example.com"].refusal(now)
    )
    assert records["gone@example.com"].created_at == since
    assert (records["ci"].kind, records["ci"].person, records["ci"].answers_for_it) == ("service", None, here.email)


def test_whoever_is_in_nobodys_file_yet_is_no_leaver_on_her_own_laptop(tmp_path: Path) -> None:
    me = Person(email="me@corp.example", name="Me, myself", team="Local", role="engineer", joined_on=date(2000, 1, 1))
    for _ in range(2):  # a second start finds the first one's files
        folder = with_person(ROOT / "policy", me, tmp_path / "policy")
    made, company = read_policy(folder), read_policy(ROOT / "policy")
    assert made.person(me.email) == me
    assert made.people[:-1] == company.people
    assert (made.budgets, made.company, made.contract) == (company.budgets, company.company, company.contract)
    assert not has_left(me.email, made, date(2026, 11, 24))
    assert has_left(me.email, company, date(2026, 11, 24))


def test_an_env_file_is_read_as_people_write_it(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# mine\nexport OPENAI_API_KEY='sk-1'\nANTHROPIC_API_KEY = sk-2\n\nnonsense\n")
    assert read_env_file(file) == {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2"}
    assert read_env_file(tmp_path / "absent") == {}


def test_a_row_is_printed_with_every_digit() -> None:
    row = {
        "n": 1,
        "usd": Decimal("0.100000000000000001"),
        "whole": Decimal("20.00"),
        "at": datetime(2026, 1, 2, tzinfo=UTC),
    }
    line = json_line(row)
    assert line == '{"n": 1, "usd": 0.100000000000000001, "whole": 20, "at": "2026-01-02T00:00:00+00:00"}'
    assert json.loads(line, parse_float=Decimal)["usd"] == row["usd"]


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    """Somebody else on the gateway's port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_ctrl_c_leaves_no_process_and_no_run_file(tmp_path: Path, stranger: socket.socket) -> None:
    home, taken = tmp_path / "tally", int(stranger.getsockname()[1])
    options = ("--no-history", "--no-traffic", "--proxy-port", str(taken))
    with running(home, *options) as stack:
        assert stat.S_IMODE((home / "run.json").stat().st_mode) == 0o600
        assert {"proxy_url", "dashboard_url", "provider_url", "key", "person"} <= stack.run.keys()
        assert not stack.run["proxy_url"].endswith(f":{taken}")
        for name in ("dashboard_url", "provider_url", "inbox_url"):
            assert requests.get(stack.run[name], timeout=10).status_code == 200
        said = asked(stack.run)
        assert said["choices"][0]["message"]["content"].startswith("This answer")
        sql = ["-m", "local", "sql", "SELECT person, cost_usd > 0 AS costs FROM tally.requests"]
        environment = os.environ | {"TALLY_HOME": str(home)}
        out = eventually(lambda: subprocess.check_output([sys.executable, *sql], cwd=ROOT, env=environment))
        assert json.loads(out) == {"person": stack.run["person"], "costs": True}
        processes = descendants(stack.process)
        assert len(processes) >= 9
        stack.process.send_signal(signal.SIGINT)
        assert stack.process.wait(60) == 0
    assert not (home / "run.json").exists()
    assert [process for process in processes if process.is_running()] == []
    told = (tmp_path / "tally.out").read_text()
    assert f"Port {taken} is taken" in told
    assert stack.run["key"] in told


def asked(run: dict[str, Any]) -> dict[str, Any]:
    """A small question to the gateway, answered."""
    body = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer {run['key']}"}
    answer = requests.post(run["proxy_url"] + "/v1/chat/completions", json=body, headers=headers, timeout=60)
    answer.raise_for_status()
    told: dict[str, Any] = answer.json()
    return told


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_when_a_service_dies_the_launcher_says_which_and_stops_all(tmp_path: Path) -> None:
    home = tmp_path / "tally"
    with running(home, "--no-history", "--no-traffic") as stack:
        processes = descendants(stack.process)
        victim = next(p for p in processes if "local.provider" in p.cmdline())
        victim.kill()
        assert stack.process.wait(60) == 1
    assert not (home / "run.json").exists()
    assert [process for process in processes if process.is_running()] == []
    assert "provider ended with -9" in (tmp_path / "tally.out").read_text()


def test_up_says_what_is_missing(tmp_path: Path) -> None:
    environment = os.environ | {"TALLY_HOME": str(tmp_path), "TALLY_PERSON": "me@example.com"}
    command = [sys.executable, "-m", "local", "up", "--env-file", str(tmp_path / ".env")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no provider key in" in done.stderr
    assert "ANTHROPIC_API_KEY" in done.stderr
