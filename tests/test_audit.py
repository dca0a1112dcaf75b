"""The audit log: every entry comes into the warehouse, counts once, and is read by admins alone, who are noted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from functions.alerts.audit_shipping import ship
from governance import audit
from governance.audit import AUDIT, Entry
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.registry import Document, Registry, RegistryError, open_registry
from governance.warehouse import WarehouseError
from local.warehouse import Owner
from streamlit_app import acts, identity, queries, states
from tests import dashboard_company as company
from tests.browser import opened, picture
from tests.conftest import ROOT, needs
from tests.test_dashboard_browser import dashboard

SHELL = ROOT / "streamlit_app" / "pages" / "shell.py"
NOW = datetime(2026, 11, 23, 14, 5, tzinfo=UTC)
ADMIN = "design.0@example.com"
Open = Callable[..., AppTest]


def entry(subject: str = "k1", ago: timedelta = timedelta(0), **fields: Any) -> Entry:
    given = {"actor": "tally", "action": "key.revoked", "origin": "tick"} | fields
    return Entry(at=NOW - ago, subject=subject, **given)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(f"sqlite://{tmp_path}/registry.db")


@pytest.fixture
def warehouse() -> Iterator[DuckDBWarehouse]:
    opened = DuckDBWarehouse(":memory:")
    opened.apply_schema()
    yield opened
    opened.close()


def logged(warehouse: DuckDBWarehouse) -> list[str]:
    return [row["subject"] for row in warehouse.query("SELECT subject FROM tally.audit_log ORDER BY subject")]


# Into the warehouse


def test_entries_come_into_the_warehouse_whole_and_leave_the_registry(
    registry: Registry, warehouse: DuckDBWarehouse
) -> None:
    audit.record(registry, entry("k1", before='{"a": 1}', after=None))
    audit.record(registry, entry("k2"), "of its own")
    assert ship(warehouse, registry) == 2
    assert registry.find(AUDIT) == []
    assert ship(warehouse, registry) == 0
    (row,) = warehouse.query("SELECT * FROM tally.audit_log WHERE subject = 'k1'")
    assert row["done_at"] == NOW
    assert (row["actor"], row["action"], row["origin"]) == ("tally", "key.revoked", "tick")
    assert (row["before"], row["after"]) == ('{"a": 1}', None)


class Dies(Registry):
    """A registry that is away when something is to be removed, the first so many times."""

    def __init__(self, registry: Registry, times: int) -> None:
        self._registry, self._times = registry, times

    def get(self, collection: str, id: str) -> Document | None:
        return self._registry.get(collection, id)

    def put(self, collection: str, id: str, fields: Mapping[str, Any], version: str | None = None) -> str:
        return self._registry.put(collection, id, fields, version)

    def find(self, collection: str, **equal: Any) -> list[Document]:
        return self._registry.find(collection, **equal)

    def delete(self, collection: str, id: str, version: str = "*") -> None:
        self._times -= 1
        if self._times >= 0:
            raise RegistryError("away")
        self._registry.delete(collection, id, version)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_whoever_dies_between_appending_and_removing_loses_and_doubles_nothing(
    registry: Registry, warehouse: DuckDBWarehouse, times: int
) -> None:
    subjects = [f"k{n}" for n in range(4)]
    for subject in subjects:
        audit.record(registry, entry(subject))
    dying = Dies(registry, times)
    for _ in range(times):
        with pytest.raises(RegistryError):
            ship(warehouse, dying)
    ship(warehouse, dying)
    assert logged(warehouse) == subjects
    assert warehouse.query("SELECT COUNT(*) AS n FROM tally.audit")[0]["n"] == 4 * (times + 1)


class Away(DuckDBWarehouse):
    """A warehouse that takes nothing."""

    def append(self, table: str, rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        raise WarehouseError("away")


def test_while_the_warehouse_is_away_nothing_is_removed(registry: Registry) -> None:
    audit.record(registry, entry())
    with pytest.raises(WarehouseError):
        ship(Away(":memory:"), registry)
    assert len(registry.find(AUDIT)) == 1


def test_the_same_act_written_again_after_it_was_shipped_counts_once(
    registry: Registry, warehouse: DuckDBWarehouse
) -> None:
    for ago in (timedelta(minutes=5), timedelta(0)):
        audit.record(registry, entry(ago=ago), "block.set|company-month|2026-11|1")
        ship(warehouse, registry)
    (row,) = warehouse.query("SELECT done_at FROM tally.audit_log")
    assert row["done_at"] == NOW - timedelta(minutes=5)


# The page


def people(folder: Path) -> Path:
    """The company's policy, with one admin."""
    company.write_policy(folder)
    file = folder / "people.csv"
    file.write_text(file.read_text().replace("design.0,Design,developer", "design.0,Design,admin"))
    return folder


ENTRIES = [
    entry("k1", timedelta(minutes=5)),
    entry("team-Search-month", timedelta(days=2), action="block.set", after='{"name": "ann.lee@", "state": "set"}'),
    entry("k2", timedelta(days=1), actor=company.ADA, action="key.issued", origin="slack"),
    entry("k3", timedelta(days=40)),
]


@pytest.fixture
def open_audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, registry: Registry) -> Iterator[Open]:
    """The audit page as somebody opens it, by the list of pages."""
    file = tmp_path / "warehouse.duckdb"
    warehouse = DuckDBWarehouse(str(file))
    warehouse.apply_schema()
    for each in ENTRIES:
        audit.record(registry, each)
    ship(warehouse, registry)
    warehouse.close()
    policy = people(tmp_path / "policy")

    def open_(viewer: str = ADMIN, query: Mapping[str, str] | None = None, keep: str | None = f"{tmp_path}") -> AppTest:
        monkeypatch.setenv("TALLY_WAREHOUSE", f"duckdb://{file}")
        monkeypatch.setenv("TALLY_POLICY_DIR", str(policy))
        monkeypatch.setenv("TALLY_VIEWER", viewer)
        monkeypatch.delenv("TALLY_IAP_AUDIENCE", raising=False)
        if keep is None:
            monkeypatch.delenv("TALLY_REGISTRY", raising=False)
        else:
            monkeypatch.setenv("TALLY_REGISTRY", f"sqlite://{keep}/registry.db")
        monkeypatch.setattr(states, "now", lambda: NOW)
        identity.settings.clear()
        queries.warehouse.clear()
        at = AppTest.from_file(str(SHELL), default_timeout=60)
        at.run()
        at.switch_page("audit.py")
        at.query_params.update(query or {})
        return at.run()

    st.cache_data.clear()
    st.cache_resource.clear()
    yield open_
    st.cache_data.clear()
    st.cache_resource.clear()


def shown(at: AppTest) -> list[str]:
    return [subject for frame in at.dataframe if "subject" in frame.value for subject in frame.value["subject"]]


def test_an_admin_reads_the_newest_first_and_is_noted_once(open_audit: Open, registry: Registry) -> None:
    at = open_audit()
    assert [title.value for title in at.title] == ["Audit log"]
    assert shown(at) == ["k1", "k2", "team-Search-month"]
    frame = at.dataframe[0].value
    assert list(frame["who"]) == ["Tally", company.ADA, "Tally"]
    assert list(frame["what"]) == ["Key revoked", "Key issued", "Block set"]
    assert list(frame["origin"]) == ["By itself", "Slack", "By itself"]
    at.run()
    (look,) = registry.find(AUDIT)
    assert {name: look.fields[name] for name in ("actor", "action", "subject", "origin")} == {
        "actor": ADMIN, "action": "looked", "subject": "audit log", "origin": "dashboard",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"action": "Key issued"}, ["k2"]),
        ({"about": "SEARCH"}, ["team-Search-month"]),
        ({"about": "platform.0@"}, ["k2"]),
        ({"about": "Ann.Lee@"}, ["team-Search-month"]),  # whose it is stands in what changed
        ({"about": "nobody"}, []),
        ({"period": "90 days"}, ["k1", "k2", "team-Search-month", "k3"]),
        ({"about": "' OR 1=1 --"}, []),
    ],
)
def test_filters_choose_by_action_person_and_subject(open_audit: Open, query: dict[str, str], found: list[str]) -> None:
    assert shown(open_audit(query=query)) == found


def test_for_everybody_else_there_is_no_such_page(open_audit: Open, registry: Registry) -> None:
    with pytest.raises(ValueError, match="Could not find a navigation page"):
        open_audit(company.ADA)
    alone = AppTest.from_file(str(SHELL.with_name("audit.py")), default_timeout=60).run()  # and whoever finds a way
    assert (shown(alone), [title.value for title in alone.title]) == ([], [])
    assert registry.find(AUDIT) == []


def test_without_a_registry_the_page_is_drawn_and_nothing_written_down(open_audit: Open, registry: Registry) -> None:
    assert shown(open_audit(keep=None)) == ["k1", "k2", "team-Search-month"]
    assert registry.find(AUDIT) == []


def test_a_look_that_cannot_be_written_down_shows_nothing(
    open_audit: Open, monkeypatch: pytest.MonkeyPatch, registry: Registry
) -> None:
    def away(*_: object) -> str:
        raise RegistryError("away")

    monkeypatch.setattr(audit, "record", away)
    at = open_audit()
    assert shown(at) == []
    assert "cannot be shown now" in at.error[0].value


def test_nobody_is_an_admin_while_the_people_cannot_be_read(open_audit: Open, tmp_path: Path) -> None:
    (tmp_path / "policy" / "people.csv").write_text("nonsense")
    with pytest.raises(ValueError, match="Could not find a navigation page"):
        open_audit()


def test_every_action_and_origin_of_the_log_has_words() -> None:
    assert set(acts.ACTIONS) == set(audit.Action.__args__)  # type: ignore[attr-defined]
    assert set(acts.ORIGINS) == set(audit.Origin.__args__)  # type: ignore[attr-defined]


@pytest.mark.browser
def test_the_page_is_drawn_for_an_admin_and_unknown_to_others(
    tmp_path: Path, chromium: Any, registry: Registry, warehouse: DuckDBWarehouse
) -> None:
    needs("chromium")
    now = datetime.now(UTC)
    company.fill(warehouse, now)
    for each in ENTRIES:
        audit.record(registry, Entry(**(vars(each) | {"at": now - (NOW - each.at)})))
    ship(warehouse, registry)
    owner = Owner(0, warehouse)
    thread = threading.Thread(target=owner.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    where = {
        "TALLY_WAREHOUSE": f"http://127.0.0.1:{owner.server_port}",
        "TALLY_REGISTRY": f"sqlite://{tmp_path}/registry.db",
        "TALLY_POLICY_DIR": str(people(tmp_path / "with-an-admin")),
    }
    for folder in ("admin", "other"):
        (tmp_path / folder).mkdir()
    try:
        admins = dashboard(tmp_path / "admin", **where, TALLY_VIEWER=ADMIN)
        with admins as url, opened(chromium, f"{url}/audit") as page:
            page.get_by_text("3 entries of the last 28 days").wait_for(timeout=30_000)
            page.wait_for_selector("[data-testid=stDataFrame] canvas")
            picture(page, "audit-light")
        assert [look.fields["actor"] for look in registry.find(AUDIT)] == [ADMIN]
        with dashboard(tmp_path / "other", **where, TALLY_VIEWER=company.ADA) as url:
            said = []
            for name in ("audit", "no_such_page"):
                with opened(chromium, f"{url}/{name}") as page:
                    page.get_by_text("Page not found").first.wait_for(timeout=30_000)
                    said.append(page.get_by_role("dialog").inner_text().replace(name, "…"))
                    assert page.get_by_text("Audit log").count() == 0
            assert said[0] == said[1]
    finally:
        owner.shutdown()
        thread.join()
        owner.server_close()
