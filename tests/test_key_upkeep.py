"""Keys of leavers and keys that nobody uses: ended, told and written down once, and never too many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from functions.alerts.key_tables import RECENT, USAGE
from functions.alerts.key_upkeep import Upkeep, too_many, upkeep
from governance import keys
from governance.audit import AUDIT
from governance.company import Company, KeyRules
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.keys import KeyRecord
from governance.policy import Person, Policy
from governance.registry import Document, Registry, SqliteRegistry, open_registry
from tests.warehouse_rows import event_row, store

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=200)
_ids = iter(range(10**9))


def person(name: str, left_on: date | None = None, role: str = "engineer") -> Person:
    return Person(
        email=f"{name}@example.com", name=name, team="Search", role=role, joined_on=date(2020, 1, 6), left_on=left_on
    )


PEOPLE = (*(person(f"p{n}") for n in range(30)), person("amy", role="admin"))
POLICY = Policy(PEOPLE, (), company=Company(operators=("ops@example.com",)))


class House:
    """A warehouse and a registry with keys in it, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.warehouse = DuckDBWarehouse(":memory:")
        self.warehouse.apply_schema()
        self.registry: Registry = open_registry(f"sqlite://{folder}/registry.db")
        self.now, self.policy = NOW, POLICY

    def issue(self, key_id: str, who: str | None = "p0", created_at: datetime = LONG_AGO, **more: Any) -> None:
        email = None if who is None else f"{who}@example.com"
        record = KeyRecord(
            key_id=key_id, person=email, team="Search", name=key_id, last4="abcd", created_at=created_at, **more
        )
        self.registry.put(keys.COLLECTION, f"hash-{key_id}", record.document())

    def key(self, key_id: str) -> KeyRecord:
        document = self.registry.get(keys.COLLECTION, f"hash-{key_id}")
        assert document is not None
        return KeyRecord.model_validate(document.fields)

    def use(self, key_id: str, at: datetime) -> None:
        store(self.warehouse, [event_row(f"{next(_ids):08}", occurred_at=at, key_id=key_id)])

    def keep(self, stale: bool = False, registry: Registry | None = None) -> Upkeep:
        documents = self.registry.find(keys.COLLECTION)
        return upkeep(
            self.warehouse, registry or self.registry, self.policy, documents, self.now, stale=stale,
            dashboard_url="https://tally.example.com",
        )  # fmt: skip

    def leave(self, *names: str, on: date | None = None) -> None:
        people = [p.model_copy(update={"left_on": on or self.now.date()}) if p.name in names else p for p in PEOPLE]
        self.policy = replace(POLICY, people=tuple(people))

    def audit(self) -> list[Mapping[str, Any]]:
        return [document.fields for document in self.registry.find(AUDIT)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.warehouse.close()


# Leavers


def test_a_leavers_keys_end_with_the_first_tick_that_knows_and_are_in_the_audit_log_once(house: House) -> None:
    house.issue("k0", "p0", created_at=NOW)
    house.issue("k0b", "p0", created_at=NOW)
    house.issue("k1", "p1", created_at=NOW)
    house.leave("p0", on=NOW.date() + timedelta(days=1))
    assert house.keep().left == 0  # tomorrow
    house.now += timedelta(days=1)
    done = house.keep()
    assert (done.left, done.notices) == (2, [])
    assert house.key("k0").revoked_at == house.now
    assert house.key("k0b").revoked_why == "left"
    assert house.key("k1").revoked_at is None
    assert house.keep().left == 0
    assert [(e["actor"], e["action"], e["subject"], e["origin"]) for e in house.audit()] == [
        ("tally", "key.revoked", "k0b", "tick"), ("tally", "key.revoked", "k0", "tick"),
    ]  # fmt: skip


def test_who_is_not_in_the_file_any_more_has_left_and_who_is_still_to_come_has_not(house: House) -> None:
    house.issue("gone", "nobody", created_at=NOW)
    house.issue("new", "p0", created_at=NOW)
    people = (PEOPLE[0].model_copy(update={"joined_on": date(2026, 12, 1)}), *PEOPLE[1:])
    house.policy = replace(POLICY, people=people)
    assert house.keep().left == 1
    assert house.key("gone").revoked_why == "left"
    assert house.key("new").revoked_at is None


def test_a_services_key_outlives_people(house: House) -> None:
    house.issue("ci", None, created_at=NOW, kind="service", owner="p0@example.com")
    house.leave("p0")
    house.keep()
    assert house.key("ci").revoked_at is None


def test_a_broken_export_ends_nobodys_key_and_the_operators_are_told(house: House) -> None:
    for n in range(30):
        house.issue(f"k{n:02}", f"p{n}", created_at=NOW)
    house.leave(*(f"p{n}" for n in range(7)))
    done = house.keep()
    assert (done.left, done.held_back) == (0, 7)
    (notice,) = done.notices
    assert (notice.message.to, notice.message.audience) == (("ops@example.com",), "operator")
    assert "7 of 30 live keys" in notice.message.text
    assert {house.keep().notices[0].period for _ in range(3)} == {"2026-11-18"}  # one name: told once
    house.leave(*(f"p{n}" for n in range(6)))
    assert house.keep().left == 6


def test_an_empty_file_ends_no_key_however_few_there_are(house: House) -> None:
    house.issue("k0", "p0", created_at=NOW)
    house.policy = replace(POLICY, people=())
    assert (house.keep().left, house.keep().held_back) == (0, 1)


@pytest.mark.parametrize(
    ("leaving", "live", "many"), [(5, 5, False), (6, 10, True), (6, 30, False), (20, 100, False), (21, 100, True)]
)
def test_five_keys_or_a_fifth_may_end_at_once(leaving: int, live: int, many: bool) -> None:
    assert too_many(leaving, live) is many


class Meddled(SqliteRegistry):
    """A registry in which somebody else writes each key just before us."""

    def __init__(self, path: Path, meddle: Mapping[str, Any]) -> None:
        super().__init__(path)
        self._meddle, self._busy = meddle, False

    def put(self, collection: str, id: str, fields: Mapping[str, Any], version: str | None = None) -> str:
        if collection == keys.COLLECTION and not self._busy:
            known = self.get(collection, id)
            assert known is not None
            self._busy = True
            super().put(collection, id, {**known.fields, **self._meddle}, known.version)
            self._busy = False
        return super().put(collection, id, fields, version)


@pytest.mark.parametrize("meddle", [{"name": "other"}, {"revoked_at": NOW.isoformat(), "revoked_why": None}])
def test_a_key_that_somebody_changes_at_that_moment_is_left_to_the_next_tick(
    house: House, tmp_path: Path, meddle: Mapping[str, Any]
) -> None:
    house.issue("k0", "p0", created_at=NOW)
    house.leave("p0")
    assert house.keep(registry=Meddled(tmp_path / "registry.db", meddle)).left == 0
    assert house.audit() == []  # what was not done stands nowhere
    assert house.keep().left == ("name" in meddle)
    assert len(house.audit()) == ("name" in meddle)
    assert house.key("k0").revoked_at is not None


# Idle keys


def test_an_idle_key_is_told_once_then_switched_off_then_told_again(house: House) -> None:
    house.issue("k0")
    house.use("k0", NOW - timedelta(days=29))
    assert house.keep().notices == []
    house.now += timedelta(days=1)
    done = house.keep()
    (told,) = done.notices
    assert (done.told_idle, told.message.to, told.message.private) == (1, ("p0@example.com",), True)
    assert told.message.subject == "Tally: your key k0 has been idle for 30 days"
    assert "was last used on 20 October 2026" in told.message.text
    assert "On 3 December it is switched off" in told.message.text
    assert [(b.action, b.value) for b in told.message.buttons] == [("key.revoke", "k0")]
    again = house.keep()
    assert (again.told_idle, [(n.about, n.period) for n in again.notices]) == (0, [(told.about, told.period)])
    house.now += timedelta(days=13, hours=23)
    assert (house.keep().disabled, house.keep().notices) == (0, [])
    house.now += timedelta(hours=1)
    done = house.keep()
    assert (done.disabled, house.key("k0").revoked_why) == (1, "idle")
    assert [notice.about for notice in done.notices] == ["idle_key_off-k0"]
    assert "because nobody used it, as was said on 19 November" in done.notices[0].message.text
    assert [(e["action"], e["subject"]) for e in house.audit()] == [("key.disabled", "k0")]
    house.now += timedelta(days=4)
    assert house.keep().notices == []


def test_what_was_before_the_days_that_are_looked_at_is_not_claimed(house: House) -> None:
    house.issue("old")
    house.use("old", NOW - timedelta(days=60))
    house.issue("never", "p1", created_at=NOW - timedelta(days=31))
    said = {notice.about: notice.message.text for notice in house.keep().notices}
    assert "was not used in the last 45 days." in said["idle_key-old"]
    assert "was not used since it was made." in said["idle_key-never"]


def test_one_request_in_between_and_nothing_happens(house: House) -> None:
    house.issue("k0")
    assert house.keep().told_idle == 1
    house.now += timedelta(days=10)
    house.use("k0", house.now)
    house.keep()
    assert house.key("k0").idle_told_at is None
    house.now += timedelta(days=29)
    assert (house.keep().disabled, house.keep().told_idle) == (0, 0)
    house.now += timedelta(days=1)
    assert house.keep().told_idle == 1


def test_a_request_on_the_very_day_of_the_message_counts(house: House) -> None:
    house.issue("k0")
    assert house.keep().told_idle == 1
    house.use("k0", NOW - timedelta(hours=2))
    house.keep()
    assert house.key("k0").idle_told_at is None


def test_by_late_data_no_key_is_idle_but_leavers_keys_end(house: House) -> None:
    house.issue("k0")
    house.issue("k1", "p1")
    house.leave("p1")
    done = house.keep(stale=True)
    assert (done.told_idle, done.left) == (0, 1)
    house.keep()
    house.now += timedelta(days=20)
    assert house.keep(stale=True).disabled == 0
    assert house.keep().disabled == 1


def test_a_new_key_is_not_idle_and_an_expired_one_is_not_told(house: House) -> None:
    house.issue("new", created_at=NOW - timedelta(days=29))
    house.issue("old", expires_at=NOW - timedelta(days=1))
    house.issue("off", revoked_at=NOW - timedelta(days=40))
    assert house.keep().told_idle == 0


def test_a_company_may_leave_idle_keys_alone_once_they_are_told(house: House) -> None:
    rules = Company(keys=KeyRules(idle_days=5, disable_after_days=None))
    house.policy = replace(POLICY, company=rules)
    house.issue("k0", created_at=NOW - timedelta(days=5))
    done = house.keep()
    assert "switched off" not in done.notices[0].message.text
    house.now += timedelta(days=100)
    assert house.keep().disabled == 0


def test_an_idle_service_is_told_to_who_answers_for_it_or_else_to_the_operators(house: House) -> None:
    house.issue("ci", None, kind="service", owner="p3@example.com")
    house.issue("cron", None, kind="service")
    notices = {notice.about: notice.message for notice in house.keep().notices}
    assert notices["idle_key-ci"].to == ("p3@example.com",)
    assert notices["idle_key-cron"].to == ("ops@example.com",)
    assert "The service key of team Search" in notices["idle_key-ci"].text


# What others are told of keys


def test_the_day_of_the_last_request_is_noted_and_outlives_what_the_warehouse_is_asked_for(house: House) -> None:
    house.issue("k0")
    house.issue("k1", "p1")
    house.use("k0", NOW - timedelta(days=40))
    house.use("k0", NOW - timedelta(days=41))
    house.use("elsewhere", NOW)
    house.keep()
    noted = house.registry.get(USAGE, RECENT)
    assert noted is not None
    assert noted.fields["last_used"] == {"k0": "2026-10-09"}
    version = noted.version
    house.keep()
    house.now += timedelta(days=30)
    house.keep()
    noted = house.registry.get(USAGE, RECENT)
    assert noted is not None
    assert (noted.fields["last_used"], noted.version) == ({"k0": "2026-10-09"}, version)


def test_the_warehouse_has_every_key_and_tag_and_is_written_when_they_change(house: House) -> None:
    house.issue("k0", created_at=NOW, tags=("project=apollo", "cost_centre=4711"))
    house.issue("ci", None, created_at=NOW, kind="service", owner="p3@example.com", tags=("project=apollo",))
    assert house.keep().loaded == ["keys", "key_tags"]
    assert house.keep().loaded == []
    rows = house.warehouse.query("SELECT key_id, person, kind, owner, revoked_why FROM tally.keys ORDER BY key_id")
    assert rows[0] == {
        "key_id": "ci", "person": None, "kind": "service", "owner": "p3@example.com", "revoked_why": None,
    }  # fmt: skip
    tagged = house.warehouse.query("SELECT key_id FROM tally.key_tags WHERE tag = 'project=apollo' ORDER BY key_id")
    assert [row["key_id"] for row in tagged] == ["ci", "k0"]
    house.leave("p0")
    assert house.keep().loaded == ["keys"]
    (row,) = house.warehouse.query("SELECT revoked_why FROM tally.keys WHERE key_id = 'k0'")
    assert row["revoked_why"] == "left"
    house.warehouse.replace("key_tags", [])
    assert house.keep().loaded == ["key_tags"]  # somebody emptied it


def test_a_record_of_before_is_still_read(house: House) -> None:
    old = {"key_id": "k0", "person": "p0@example.com", "team": "Search", "last4": "abcd", "created_at": NOW.isoformat()}
    house.registry.put(keys.COLLECTION, "hash-k0", old)
    documents = house.registry.find(keys.COLLECTION)
    assert [d.id for d in documents if isinstance(d, Document)] == ["hash-k0"]
    assert [key.key_id for key in house.keep().keys] == ["k0"]
