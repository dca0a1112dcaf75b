"""The outbox: a person hears first and alone, a channel in trouble loses nothing, and what happened is on record."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from functions.alerts import delivered, outbox
from functions.alerts.outbox import PATIENCE, SENT, UNREACHABLE_RETRY, Delivery, Outbox, by_channel
from governance.channels import Post
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.mail_channel import Mail
from governance.messages import Channel, DeliveryError, Message, Unreachable
from governance.registry import ANY, Document, Registry, open_registry
from governance.slack_channel import SlackBot, SlackWebhook
from governance.warehouse import WarehouseError
from governance.webhook_channel import SignedWebhook
from tests.conftest import free_port
from tests.slack_web_api import TOKEN, Server, SlackAPI

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"
CANARY = "cAnArY-0815"


class Clock:
    """The time, as a test says."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **how_long: float) -> None:
        self.now += timedelta(**how_long)


class Board:
    """A channel that keeps what it is given, unless it is down or knows nobody of those it is for."""

    def __init__(self, name: str = "slack", private_too: bool = True, strangers: tuple[str, ...] = ()) -> None:
        self.name, self.private_too, self.strangers = name, private_too, strangers
        self.taken, self.down = list[Message](), False

    def send(self, message: Message) -> None:
        if self.down:
            raise DeliveryError("the board is down")
        if message.to and set(message.to) <= set(self.strangers):
            raise Unreachable("the board knows nobody of them")
        self.taken.append(message)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(f"sqlite://{tmp_path}/registry.db")


@pytest.fixture
def warehouse() -> Iterator[DuckDBWarehouse]:
    opened = DuckDBWarehouse(":memory:")
    opened.apply_schema()
    yield opened
    opened.close()


def told(name: str, to: tuple[str, ...] = (ADA,), **fields: Any) -> Message:
    return Message(name, "t", to, **fields)


def person(address: str = ADA) -> Message:
    return told(f"to {address}", (address,), private=True, audience="person")


# Whom first, and by what


def test_a_person_hears_before_the_lead_and_both_before_everybody(registry: Registry, clock: Clock) -> None:
    slack, mail = Board("slack"), Board("mail")
    everybody = told("all", (ADA, BOB))
    lead = told("lead", (BOB,), private=True, audience="lead")
    deliveries = [d for m in (everybody, lead, person()) for d in by_channel("b", "2026-11", 80, m, [slack, mail])]
    assert len({d.id for d in deliveries}) == 6
    box = Outbox(registry, clock)
    assert box.send(box.due(deliveries)) == {"sent": 6}
    assert [m.subject for m in slack.taken] == [m.subject for m in mail.taken] == [f"to {ADA}", "lead", "all"]


def test_a_message_for_everybody_keeps_the_name_it_had_before_there_were_audiences(registry: Registry) -> None:
    (shared,) = by_channel("company-month", "2026-11", 80, told("a"), [Board("slack")])
    (alone,) = by_channel("company-month", "2026-11", 80, person(), [Board("slack")])
    assert (shared.id, alone.id) == ("company-month|2026-11|80|slack", "company-month|2026-11|80|person|slack")


def test_what_is_private_is_never_given_to_a_channel_with_readers_and_it_is_said_once_where_no_other_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outbox._say_nobody_can.cache_clear()
    hook, mail = Board("webhook", private_too=False), Board("mail")
    assert [d.channel for d in by_channel("b", "p", 80, person(), [hook, mail])] == [mail]
    assert caplog.records == []
    for _ in range(3):
        assert by_channel("b", "p", 80, person(), [hook]) == []
    (record,) = caplog.records
    assert (record.levelname, "TALLY_SMTP_URL" in record.getMessage()) == ("ERROR", True)
    assert [d.channel for d in by_channel("b", "p", 80, told("all"), [hook, mail])] == [hook, mail]


# A channel in trouble


def test_whom_the_channel_does_not_know_keeps_nobody_else_waiting(registry: Registry, clock: Clock) -> None:
    slack, box = Board(strangers=(ADA, BOB)), Outbox(registry, clock)
    deliveries = [d for a in (ADA, BOB, EVE) for d in by_channel(a, "2026-11", 80, person(a), [slack])]
    assert box.send(box.due(deliveries)) == {"unreachable": 2, "sent": 1}
    clock.pass_(hours=1)
    assert box.due(deliveries) == []
    slack.strangers = ()
    clock.now += UNREACHABLE_RETRY
    assert box.send(box.due(deliveries)) == {"sent": 2}


def test_who_has_it_is_left_out_when_the_others_are_tried_again(registry: Registry, clock: Clock) -> None:
    slack, box = SlackAPI({ADA: "U0ADA", BOB: "U0BOB"}), Outbox(registry, clock)
    bot = SlackBot(slack.token, api_url=slack.url + "/api", post=Post("Slack", attempts=1))
    deliveries = by_channel("b", "2026-11", 80, told("both", (ADA, BOB), private=True, audience="lead"), [bot])
    user: tuple[int, dict[str, str], Any] = (200, {}, {"ok": True, "user": {"id": "U0ADA"}})
    slack.troubles = [user, (200, {}, {"ok": True}), (503, {}, {})]
    assert box.send(box.due(deliveries)) == {"failed": 1}
    clock.pass_(minutes=5)
    assert box.send(box.due(deliveries)) == {"sent": 1}
    slack.stop()
    assert [where for where, _ in slack.said] == ["U0BOB"]
    assert ADA not in json.dumps([found.fields for found in registry.find(SENT)])


@pytest.mark.parametrize("answer", [503, 403, 0])
def test_a_webhook_down_for_an_hour_gets_every_alert_once_with_one_id(
    registry: Registry, clock: Clock, answer: int
) -> None:
    class Receiver(Server):
        status = 200

        def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], Any]:
            return self.status, {}, {}

    receiver, box = Receiver(), Outbox(registry, clock)
    receiver.status = answer
    url = receiver.url if answer else f"http://127.0.0.1:{free_port()}"
    hook = SignedWebhook(SecretStr(url), SecretStr(CANARY * 2), post=Post("the webhook", sleep=lambda _: None))
    tried = list[int]()

    def tick(first: int, last: int) -> None:
        due = box.due(d for n in range(first, last) for d in by_channel(f"b{n}", "2026-11", 80, told(f"b{n}"), [hook]))
        tried.append(box.send(due)["failed"])
        clock.pass_(minutes=5)

    for n in range(12):  # an hour, with something new in every other tick
        tick(0, 1 + n // 2)
    assert set(tried) == {1}
    while_down = Counter(json.loads(body)["id"] for _, _, body in receiver.got)
    received = len(receiver.got)
    receiver.status = 200
    if not answer:
        hook = SignedWebhook(SecretStr(receiver.url), SecretStr(CANARY * 2))
    for _ in range(24):
        tick(0, 6)
    receiver.stop()
    after = [json.loads(body) for _, _, body in receiver.got[received:]]
    assert sorted(said["subject"] for said in after) == [f"b{n}" for n in range(6)]
    assert set(while_down) <= {said["id"] for said in after}


def test_a_tick_ends_in_time_and_the_next_one_goes_on(registry: Registry, clock: Clock) -> None:
    class Slow(Board):
        def send(self, message: Message) -> None:
            clock.pass_(seconds=50)
            super().send(message)

    slack, box = Slow(), Outbox(registry, clock)
    deliveries = [d for n in range(5) for d in by_channel(f"b{n}", "2026-11", 80, told(f"b{n}"), [slack])]
    assert timedelta(seconds=100) < PATIENCE < timedelta(seconds=150)
    assert box.send(box.due(deliveries)) == {"sent": 3, "waiting": 2}
    assert box.send(box.due(deliveries)) == {"sent": 2}


# What is asked of the registry


class Counted:
    """A registry whose questions are counted."""

    def __init__(self, registry: Registry) -> None:
        self._registry, self.asked = registry, Counter[str]()

    def get(self, collection: str, id: str) -> Document | None:
        self.asked["get"] += 1
        return self._registry.get(collection, id)

    def put(self, collection: str, id: str, fields: Mapping[str, Any], version: str | None = None) -> str:
        return self._registry.put(collection, id, fields, version)

    def delete(self, collection: str, id: str, version: str = ANY) -> None:
        self._registry.delete(collection, id, version)

    def find(self, collection: str, **equal: Any) -> list[Document]:
        self.asked["find"] += 1
        return self._registry.find(collection, **equal)


def test_however_many_people_there_are_a_period_is_asked_for_once_and_what_is_known_to_be_sent_never(
    registry: Registry, clock: Clock
) -> None:
    slack = Board()

    def deliveries(people: int) -> list[Delivery]:
        periods = ("2026-11", "2026-W48", "2026-11-24")
        return [d for n in range(people) for p in periods for d in by_channel(f"p{n}", p, 80, person(), [slack])]

    def asked(people: int) -> tuple[Counter[str], int]:
        counted = Counted(registry)
        box = Outbox(counted, clock)
        found = box.due(deliveries(people))
        assert asked_again(counted, people) or found
        return counted.asked, len(found)

    def asked_again(counted: Counted, people: int) -> bool:
        before = counted.asked.total()
        return Outbox(counted, clock).due(deliveries(people)) == [] and counted.asked.total() == before

    assert asked(100) == ({"find": 6}, 300)  # nothing is sent yet, so it is asked again
    box = Outbox(registry, clock)
    box.send(box.due(deliveries(100)))
    assert asked(100) == ({"find": 3}, 0)
    counted = Counted(registry)
    box = Outbox(counted, clock)
    assert box.due(deliveries(100)) == []
    assert len(box.due(deliveries(102))) == 6
    assert counted.asked == {"find": 3, "get": 6}  # a few new ones are asked for one by one


# The account of it


class Away(DuckDBWarehouse):
    """A warehouse that is away for a while."""

    away = False

    def append(self, table: str, rows: Any) -> dict[int, str]:
        if self.away:
            raise WarehouseError("away")
        return super().append(table, rows)


def test_a_warehouse_that_is_away_gets_the_account_later_and_nothing_is_sent_again(
    registry: Registry, clock: Clock
) -> None:
    away = Away(":memory:")
    away.apply_schema()
    away.away = True
    slack, mail, box = Board("slack"), Board("mail"), Outbox(registry, clock)
    slack.down = True
    deliveries = by_channel("person-ada@example.com-month", "2026-11", 80, person(), [slack, mail])
    for minutes in (0, 5):
        clock.pass_(minutes=minutes)
        slack.down = not minutes
        box.send(box.due(deliveries))
        with pytest.raises(WarehouseError):
            delivered.ship(away, registry)
    away.away = False
    assert (len(slack.taken), len(mail.taken)) == (1, 1)
    assert (delivered.ship(away, registry), delivered.ship(away, registry)) == (3, 0)
    rows = away.query(
        "SELECT channel, state, attempt, reason, audience_kind FROM tally.deliveries ORDER BY channel, attempt"
    )
    away.close()
    assert [tuple(row.values()) for row in rows] == [
        ("mail", "sent", 1, None, "person"),
        ("slack", "failed", 1, "the board is down", "person"),
        ("slack", "sent", 2, None, "person"),
    ]


def test_no_address_and_no_secret_is_in_a_log_an_account_or_the_registry(
    registry: Registry, clock: Clock, warehouse: DuckDBWarehouse, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    closed, once = free_port(), Post("it", attempts=1)
    where = f"127.0.0.1:{closed}"
    channels: list[Channel] = [
        SlackBot(SecretStr(TOKEN), "C1", api_url=f"http://{where}", post=once),
        Mail(SecretStr(f"smtp://tally:{CANARY}@{where}"), "tally@example.com"),
        SignedWebhook(SecretStr(f"http://{where}/{CANARY}"), SecretStr(CANARY * 2), post=once),
    ]
    hooks: list[Channel] = [SlackWebhook(SecretStr(f"http://{where}/{CANARY}"), post=once)]
    messages = [("team-Search-month", told("all", (ADA, BOB))), (f"person-{ADA}-month", person())]
    box = Outbox(registry, clock)
    for found in (channels, hooks):
        due = box.due(d for about, m in messages for d in by_channel(about, "2026-11", 80, m, found))
        for item in due:  # each alone: one failure would keep the channel's others waiting
            assert box.send([item]) == {"failed": 1}
        clock.pass_(minutes=5)
    assert delivered.ship(warehouse, registry) == 6
    rows = warehouse.query("SELECT * FROM tally.deliveries")
    kept = "".join(path.read_bytes().decode(errors="replace") for path in tmp_path.glob("registry.db*"))
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert logged.count("an alert was not delivered") >= 6
    assert all(row["reason"] and "could not be" in row["reason"] for row in rows)
    for secret in (TOKEN, CANARY):
        assert secret not in kept + logged + repr(rows)
    assert "@example.com" not in logged
    assert "@example.com" not in repr([{**row, "about": ""} for row in rows])
    assert "person-…" in logged
