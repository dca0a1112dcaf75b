"""The registry keeps its promises over SQLite and over Firestore alike."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from governance.registry import ANY, Conflict, Document, Registry, RegistryError, open_registry
from tests.conftest import ROOT, free_port, needs
from tests.firestore import firestore_emulator


@pytest.fixture(scope="session")
def firestore_host() -> Iterator[str]:
    """host:port of a Firestore emulator of our own."""
    needs("java")
    with firestore_emulator() as host:
        yield host


@pytest.fixture(params=["sqlite", pytest.param("firestore", marks=pytest.mark.emulator)])
def registry(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    if request.param == "sqlite":
        return open_registry(f"sqlite://{tmp_path}/not/there/yet/registry.db")
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", request.getfixturevalue("firestore_host"))
    return open_registry(f"firestore://demo-{uuid.uuid4().hex[:8]}/registry")


def test_what_is_put_is_got_with_its_version(registry: Registry) -> None:
    fields = {
        "person": "ada@example.com",
        "n": 1,
        "share": 0.5,
        "live": True,
        "gone": None,
        "tags": ["a"],
        "m": {"x": 1},
    }
    version = registry.put("keys", "k1", fields)
    assert registry.get("keys", "k1") == Document("k1", fields, version)
    assert registry.get("keys", "k2") is None
    assert registry.get("elsewhere", "k1") is None


def test_creating_twice_is_a_conflict_and_changes_nothing(registry: Registry) -> None:
    version = registry.put("keys", "k", {"n": 1})
    with pytest.raises(Conflict):
        registry.put("keys", "k", {"n": 2})
    assert registry.get("keys", "k") == Document("k", {"n": 1}, version)


def test_a_swap_replaces_the_whole_document(registry: Registry) -> None:
    first = registry.put("keys", "k", {"n": 1, "left": True})
    second = registry.put("keys", "k", {"n": 2, "came": {"x": 1}}, first)
    assert second != first
    assert registry.get("keys", "k") == Document("k", {"n": 2, "came": {"x": 1}}, second)


def test_a_swap_may_leave_a_document_empty(registry: Registry) -> None:
    version = registry.put("keys", "k", {"n": 1})
    version = registry.put("keys", "k", {}, version)
    version = registry.put("keys", "k", {}, version)
    assert registry.get("keys", "k") == Document("k", {}, version)


@pytest.mark.parametrize("wrong", ["0", "99", "not a version", "2020-01-01T00:00:00Z"])
def test_a_swap_over_another_version_is_a_conflict(registry: Registry, wrong: str) -> None:
    version = registry.put("keys", "k", {"n": 1})
    with pytest.raises(Conflict):
        registry.put("keys", "k", {"n": 2}, wrong)
    with pytest.raises(Conflict):
        registry.put("keys", "never written", {"n": 2}, version)
    assert registry.get("keys", "k") == Document("k", {"n": 1}, version)


def test_any_version_may_be_overwritten_or_created(registry: Registry) -> None:
    registry.put("keys", "k", {"n": 1, "left": True}, ANY)
    version = registry.put("keys", "k", {"n": 2}, ANY)
    assert registry.get("keys", "k") == Document("k", {"n": 2}, version)


def test_what_is_deleted_is_gone_and_may_be_deleted_again(registry: Registry) -> None:
    version = registry.put("c", "a", {"n": 1})
    with pytest.raises(Conflict):
        registry.delete("c", "a", "2020-01-01T00:00:00Z")
    assert registry.get("c", "a") is not None
    registry.delete("c", "a", version)
    assert registry.get("c", "a") is None
    registry.delete("c", "a")
    registry.delete("c", "a", version)
    registry.put("c", "a", {"n": 2})
    registry.delete("c", "a")
    assert registry.find("c") == []


def test_find_takes_every_condition_and_the_type_of_its_value(registry: Registry) -> None:
    documents: dict[str, dict[str, Any]] = {
        "b": {"person": "ada", "live": True, "n": 1},
        "a": {"person": "ada", "live": False, "n": None},
        "c": {"person": "ada's", "live": True, "n": 2.5},
        "d": {"live": 1},
    }
    for id, fields in documents.items():
        registry.put("keys", id, fields)
    registry.put("other", "e", {"person": "ada"})

    def ids(**equal: object) -> list[str]:
        return [found.id for found in registry.find("keys", **equal)]

    assert ids() == ["a", "b", "c", "d"]
    assert ids(person="ada") == ["a", "b"]
    assert ids(person="ada's") == ["c"]
    assert ids(person="ada", live=True) == ["b"]
    assert ids(live=False) == ["a"]
    assert ids(live=1) == ["d"]
    assert ids(n=None) == ["a"]
    assert ids(n=1) == ["b"]
    assert ids(n=2.5) == ["c"]
    assert ids(person="nobody") == []
    assert registry.find("keys", person="ada's") == [registry.get("keys", "c")]


@pytest.mark.parametrize("id", ["team/Small teams/2026-11", "100%", "ada@example.com", "é", "a b", "%2F"])
def test_an_id_may_hold_any_character(registry: Registry, id: str) -> None:
    version = registry.put("alerts", id, {"n": 1})
    assert registry.get("alerts", id) == Document(id, {"n": 1}, version)
    assert [found.id for found in registry.find("alerts", n=1)] == [id]


def test_a_field_name_that_is_no_plain_word_is_refused(registry: Registry) -> None:
    with pytest.raises(ValueError, match="plain word"):
        registry.put("keys", "k", {"a.b": 1})
    with pytest.raises(ValueError, match="plain word"):
        registry.find("keys", **{"x') OR 1=1 --": 1})


def test_racing_increments_lose_none(registry: Registry) -> None:
    registry.put("budgets", "b", {"n": 0})
    start = threading.Barrier(4)

    def ten_more() -> None:
        start.wait()
        for _ in range(10):
            _increment(registry)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(ten_more) for _ in range(4)]:
            done.result()
    assert registry.get("budgets", "b") is not None
    assert registry.find("budgets")[0].fields == {"n": 40}


def _increment(registry: Registry) -> None:
    while True:
        read = registry.get("budgets", "b")
        assert read is not None
        try:
            registry.put("budgets", "b", {"n": read.fields["n"] + 1}, read.version)
        except Conflict:
            continue
        return


def test_of_racing_creators_one_wins(registry: Registry) -> None:
    start = threading.Barrier(8)

    def create(n: int) -> bool:
        start.wait()
        try:
            registry.put("slack", "signature", {"n": n})
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1


def test_processes_share_the_file_and_lose_no_increment(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/registry.db"
    registry = open_registry(url)
    registry.put("budgets", "b", {"n": 0})
    program = (
        "import sys; from governance.registry import open_registry; from tests.test_registry import _increment\n"
        "registry = open_registry(sys.argv[1])\n"
        "for _ in range(50): _increment(registry)"
    )
    others = [subprocess.Popen([sys.executable, "-c", program, url], cwd=ROOT) for _ in range(3)]
    assert [other.wait(timeout=60) for other in others] == [0, 0, 0]
    assert registry.find("budgets")[0].fields == {"n": 150}


def test_a_file_that_is_no_database_is_trouble_and_not_a_conflict(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_text("no database, but long enough to be taken for one" * 100)
    with pytest.raises(RegistryError):
        open_registry(f"sqlite://{tmp_path}/registry.db")


def test_a_firestore_that_does_not_answer_is_trouble_and_not_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    registry = open_registry("firestore://demo-down")
    with pytest.raises(RegistryError):
        registry.put("keys", "k", {"n": 1})


@pytest.mark.parametrize("url", ["", "sqlite:registry.db", "sqlite://registry.db", "firestore://", "postgres://x/y"])
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="a registry is"):
        open_registry(url)


def test_a_lean_process_does_not_load_firestore(tmp_path: Path) -> None:
    program = (
        f"import json, sys; from governance.registry import open_registry; open_registry('sqlite://{tmp_path}/r.db')\n"
        "print(json.dumps([m for m in sys.modules if m.startswith(('google.cloud.', 'grpc'))]))"
    )
    out = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(out.stdout) == []
