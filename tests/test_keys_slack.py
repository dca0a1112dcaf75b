"""A conversation with the keys function in Slack: every verb, every button, and everything that must not work."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from functions.keys import blocks, words
from functions.keys.buttons import click_in, submission_in
from functions.keys.desk import USAGE
from governance import audit, gate, keys, raises
from governance.connecting import AGENTS
from governance.registry import ANY, Registry, open_registry
from tests.conftest import eventually, needs
from tests.fake_slack import (
    ADA,
    BOB,
    EVE,
    FAY,
    PEPPER,
    ROOT,
    SIGNING,
    TOKEN,
    WORKSPACE,
    FakeSlack,
    buttons_of,
    clicked,
    environment,
    form,
    key_in,
    payload,
    posted,
    say,
    signed,
    words_of,
)
from tests.firestore import firestore_emulator
from tests.keys_function import counted, limit, serving


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


def records(registry: Registry) -> list[keys.KeyRecord]:
    found = [keys.KeyRecord.model_validate(d.fields) for d in registry.find(keys.COLLECTION)]
    return sorted(found, key=lambda key: key.created_at)


def record_of(registry: Registry, key: str) -> keys.KeyRecord:
    document = registry.get(keys.COLLECTION, keys.key_hash(key, PEPPER))
    assert document
    return keys.KeyRecord.model_validate(document.fields)


def button(message: dict[str, Any], action: str, value: str | None = None) -> dict[str, Any]:
    return next(b for b in buttons_of(message) if b["action_id"] == action and value in (None, b["value"]))


def acts(registry: Registry) -> list[tuple[str, str, str]]:
    entries = sorted((d.fields for d in registry.find(audit.AUDIT)), key=lambda f: f["at"])
    return [(f["actor"], f["action"], f["origin"]) for f in entries]


# Keys


def test_an_expiry_is_days_or_a_last_day_under_the_companys_ceiling(client: FlaskClient, registry: Registry) -> None:
    now = datetime.now(UTC)
    ends = record_of(registry, key_in(say(client, "issue laptop 7d"))).expires_at
    assert ends
    assert abs(ends - now - timedelta(days=7)) < timedelta(minutes=1)
    last = (now + timedelta(days=12)).date()
    by_day = record_of(registry, key_in(say(client, f"issue {last}"))).expires_at
    assert by_day == datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    assert "180 days at most" in say(client, "issue tablet 181d")
    assert "180 days at most" in say(client, f"issue tablet {now.date() + timedelta(days=181)}")
    assert "over already" in say(client, "issue tablet 2020-01-01")
    assert "over already" in say(client, "issue tablet 0d")
    assert "like `30d`" in say(client, "issue tablet 2026-13-77")
    assert len(records(registry)) == 2


def test_a_rotated_key_has_a_successor_at_once_and_lives_on_for_the_overlap(
    client: FlaskClient, registry: Registry
) -> None:
    old = key_in(say(client, "issue laptop 10d"))
    answer = posted(client, "rotate")
    new = key_in(words_of(answer))
    before, after = record_of(registry, old), record_of(registry, new)
    now = datetime.now(UTC)
    assert before.refusal(now) is None
    assert before.refusal(now + timedelta(hours=25)) is not None
    assert (before.replaced_by, after.name, after.person) == (after.key_id, "laptop", "ada@example.com")
    assert after.expires_at
    assert abs(after.expires_at - now - timedelta(days=10)) < timedelta(minutes=1)
    assert "works until" in words_of(answer)
    listed = say(client, "list")
    assert f"replaced by `{after.key_id}`" in listed
    assert "replaced already" in say(client, f"rotate {before.key_id}")
    assert (
        record_of(registry, key_in(say(client, "rotate laptop"))).name == "laptop"
    )  # by name the current one is meant


def test_rotation_does_not_count_against_ones_keys_and_a_lost_name_takes_its_old_key_along(
    client: FlaskClient, registry: Registry
) -> None:
    for name in ("a", "b", "c"):
        say(client, f"issue {name}")
    key_in(say(client, "rotate a"))
    assert "3 keys at a time" in say(client, "issue d")
    assert say(client, "revoke a").count("is revoked") == 2
    assert [key.name for key in records(registry) if key.revoked_at] == ["a", "a"]
    assert key_in(say(client, "issue d"))
    assert "Which one?" in say(client, "rotate")


def test_an_expired_key_is_not_rotated(client: FlaskClient, registry: Registry) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    hashed, record = keys.new_record(keys.make(), PEPPER, person="ada@example.com", team="Search", expires_at=past)
    registry.put(keys.COLLECTION, hashed, record.document())
    assert "has expired" in say(client, f"rotate {record.key_id}")
    assert "no such key" in say(client, "rotate")
    assert len(records(registry)) == 1


def test_the_companys_rules_are_a_new_keys_powers(
    tmp_path: Path, slack: FakeSlack, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = "keys: {days: 5, models: [claude-*], requests_per_minute: 30, tokens_per_minute: 90000}\n"
    with serving(monkeypatch, environment(tmp_path, slack, rules)) as client:
        key = record_of(registry, key_in(say(client, "issue")))
        assert (key.models, key.requests_per_minute, key.tokens_per_minute) == (("claude-*",), 30, 90_000)
        assert "30 requests a minute" in say(client, "list")
        (tmp_path / "company.yaml").write_text("keys: {days: 1000}\n")  # a fault: the rules before it hold
        assert record_of(registry, key_in(say(client, "issue"))).models == ("claude-*",)


@pytest.mark.parametrize("agent", AGENTS)
def test_each_agent_has_its_lines(client: FlaskClient, agent: str) -> None:
    said = say(client, f"connect {agent}")
    assert "https://gateway.example.com" in said
    assert "&lt;your key&gt;" in said or "TALLY_KEY" in said
    assert "sk-tally" not in said


def test_an_agent_nobody_knows_is_answered_with_those_we_know(client: FlaskClient) -> None:
    assert "claude-code, codex" in say(client, "connect emacs")
    assert "Claude Code" in say(client, "connect Claude Code")


# What services need, by admins alone


def test_a_service_key_has_the_powers_asked_for_and_an_owner(client: FlaskClient, registry: Registry) -> None:
    said = say(
        client,
        "service issue nightly owner=<mailto:bob@example.com|bob@example.com> models=claude-*,gpt-5-mini rpm=60 "
        "tpm=90000 budget=50/week project=apollo cost_centre=4711 60d",
        ROOT,
    )
    key = record_of(registry, key_in(said))
    assert (key.kind, key.person, key.owner, key.team, key.name) == (
        "service",
        None,
        "bob@example.com",
        "Search",
        "nightly",
    )
    assert (key.models, key.requests_per_minute, key.tokens_per_minute) == (("claude-*", "gpt-5-mini"), 60, 90_000)
    assert key.budget
    assert (key.budget.amount_usd, key.budget.period) == (Decimal(50), "week")
    assert key.tags == ("project=apollo", "cost_centre=4711")
    listed = say(client, "service list", ROOT)
    assert "`nightly`" in listed
    assert "bob@example.com" in listed
    assert "$50.00 a week" in listed
    assert "a service key called `nightly`" in say(client, "service issue nightly owner=bob@example.com", ROOT)
    other = say(client, "service issue other owner=bob@example.com team=“Finance”", ROOT)
    assert record_of(registry, key_in(other)).team == "Finance"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("service issue x", "`owner` is missing"),
        ("service issue x owner=eve@example.com", "Nobody here has that e-mail"),
        ("service issue x owner=bob@example.com team=Nowhere", "Nobody here is in that team"),
        ("service issue x owner=bob@example.com rpm=0", "whole number above zero"),
        ("service issue x owner=bob@example.com budget=50", "dollars and a period"),
        ("service issue x owner=bob@example.com budget=-5/month", "How many dollars"),
        ("service issue x owner=bob@example.com colour=red", "no such argument"),
        ("service issue x owner=bob@example.com project=<!channel>", "one word"),
        ("service issue x owner=bob@example.com models=$(id)", "names or patterns"),
        ("service issue x owner=bob@example.com 999d", "180 days at most"),
    ],
)
def test_a_service_key_is_refused_with_the_reason(
    client: FlaskClient, registry: Registry, asked: str, why: str
) -> None:
    assert why in say(client, asked, ROOT)
    assert records(registry) == []


def test_its_owner_may_rotate_and_revoke_a_service_key(client: FlaskClient, registry: Registry) -> None:
    key = record_of(registry, key_in(say(client, "service issue ci owner=bob@example.com rpm=60 project=apollo", ROOT)))
    assert key.key_id in say(client, "list", BOB)
    assert "no keys" in say(client, "list", ADA)
    assert "no such key" in say(client, f"rotate {key.key_id}", ADA)
    new = record_of(registry, key_in(say(client, f"rotate {key.key_id}", BOB)))
    assert (new.kind, new.owner, new.requests_per_minute, new.tags) == (
        "service",
        "bob@example.com",
        60,
        ("project=apollo",),
    )
    assert "is revoked" in say(client, f"revoke {new.key_id}", BOB)


@pytest.mark.parametrize("asked", ["service list", "service issue x owner=bob@example.com", "idle"])
@pytest.mark.parametrize("who", [ADA, BOB, FAY])
def test_what_is_for_admins_is_refused_to_others(client: FlaskClient, registry: Registry, asked: str, who: str) -> None:
    assert say(client, asked, who) == "That is for those who run Tally. Please ask root@example.com."
    assert records(registry) == []


def test_an_admin_revokes_anybodys_key_by_its_id_and_nobody_else_does(client: FlaskClient, registry: Registry) -> None:
    key = record_of(registry, key_in(say(client, "issue laptop")))
    for who in (BOB, FAY, EVE):
        say(client, f"revoke {key.key_id}", who)
    assert "no such key" in say(client, "revoke laptop", ROOT)
    assert record_of_id(registry, key.key_id).revoked_at is None
    assert "is revoked" in say(client, f"revoke {key.key_id}", ROOT)
    assert record_of_id(registry, key.key_id).revoked_at
    assert "no such key" in say(client, f"revoke {key.key_id}", ROOT)


def record_of_id(registry: Registry, key_id: str) -> keys.KeyRecord:
    return next(key for key in records(registry) if key.key_id == key_id)


def test_idle_keys_are_those_that_work_and_were_not_used_for_long(client: FlaskClient, registry: Registry) -> None:
    now = datetime.now(UTC)
    assert "Nobody has counted yet" in say(client, "idle", ROOT)
    made: dict[str, str] = {}
    for name, age, ends in (("old", 60, 9), ("fresh", 2, 9), ("used", 60, 9), ("forgotten", 60, 9), ("over", 60, -1)):
        hashed, record = keys.new_record(
            keys.make(), PEPPER, now=now - timedelta(days=age), person="ada@example.com", name=name,
            expires_at=now + timedelta(days=ends),
        )  # fmt: skip
        registry.put(keys.COLLECTION, hashed, record.document())
        made[name] = record.key_id
    used = {made["used"]: f"{now.date() - timedelta(days=3)}", made["forgotten"]: f"{now.date() - timedelta(days=40)}"}
    registry.put(USAGE, "recent", {"last_used": used}, ANY)
    said = say(client, "idle", ROOT)
    assert re.findall(r"• `(\w+)`", said) == ["old", "forgotten"]
    assert "not used lately" in said
    assert "last used" in say(client, "list", ADA)


# Money


def test_usage_tells_ones_budgets_the_tightest_first(client: FlaskClient, registry: Registry) -> None:
    assert "Nothing has been counted yet" in say(client, "usage")
    counted(
        registry,
        limit("person", "ada@example.com", 50, 12),
        limit("team", "Search", 900, 895),
        limit("company", "", 9000, 20, blocks=False),
    )
    said = say(client, "usage")
    assert said.index("Team Search") < said.index("You,") < said.index("The company")
    assert "$12.00 of $50.00 used, *$38.00 left*" in said
    assert "Requests are refused from $50.00 on" in said
    assert "$0.00 of $50.00" in say(client, "usage", BOB)  # each person's budget, of which nothing is used
    assert "Team Search" not in say(client, "usage", FAY)
    counted(registry, limit("person", "ada@example.com", 50, 60), stale=True)
    said = say(client, "usage")
    assert "*$10.00 over*. Requests are refused until" in said
    assert "That is late" in said


def test_the_budget_of_a_team_of_few_is_shown_to_its_lead_alone(client: FlaskClient, registry: Registry) -> None:
    few = limit("team", "Search", 900, 895, hidden=True)
    counted(registry, limit("person", "ada@example.com", 50, 12), few)
    assert "895" not in say(client, "usage", ADA)
    assert "Team Search" in say(client, "usage", BOB)


def asked_for_more(
    client: FlaskClient, registry: Registry, text: str = "raise 20 the <!channel> release"
) -> raises.Raise:
    counted(registry, limit("person", "ada@example.com", 50, 50))
    say(client, text)
    (document,) = registry.find(raises.COLLECTION)
    return raises.Raise.model_validate(document.fields)


def test_a_raise_is_put_before_the_persons_lead_who_grants_it_by_a_button(
    client: FlaskClient, registry: Registry, slack: FakeSlack
) -> None:
    wish = asked_for_more(client, registry)
    (told,) = slack.told
    assert told["channel"] == BOB  # alone, and nobody else
    assert "ada@example.com" in words_of(told)
    assert "&lt;!channel&gt; release" in words_of(told)
    assert wish.slack_told
    assert (wish.budget, wish.extra_usd, wish.state) == ("person-month", Decimal(20), "asked")
    (before,) = gate.read_for(registry, [("person", "ada@example.com")]).limits_for([("person", "ada@example.com")])  # type: ignore[union-attr]
    assert before.blocked
    answer = clicked(client, payload(slack, button(told, blocks.APPROVE), BOB, message={"blocks": told["blocks"]}))
    assert (answer.status_code, answer.data) == (200, b"")
    (after,) = gate.read_for(registry, [("person", "ada@example.com")]).limits_for([("person", "ada@example.com")])  # type: ignore[union-attr]
    assert (after.blocked, after.limit_usd) == (False, Decimal(70))
    ((_, message),) = slack.responses
    assert message["replace_original"] is True
    assert "Granted by bob@example.com" in words_of(message)
    assert "&lt;!channel&gt; release" in words_of(message)  # what was asked stays to be read
    assert buttons_of(message) == []
    eventually(lambda: any(told["channel"] == ADA for told in slack.told))  # and who asked is told
    # It says so, and the next tick does not tell them in Slack again.
    eventually(lambda: registry.find(raises.COLLECTION, id=wish.id, state="granted", slack_told=True))
    assert acts(registry) == [
        ("ada@example.com", "raise.asked", "slack"),
        ("bob@example.com", "raise.granted", "slack"),
    ]


def test_a_raise_may_be_refused_and_is_decided_once(client: FlaskClient, registry: Registry, slack: FakeSlack) -> None:
    asked_for_more(client, registry)
    (told,) = slack.told
    clicked(client, payload(slack, button(told, blocks.REFUSE), BOB))
    clicked(
        client, payload(slack, button(told, blocks.APPROVE), ROOT, container={"message_ts": "18", "channel_id": "D2"})
    )
    assert [words_of(message) for _, message in slack.responses] == [
        "Refused by bob@example.com: $20.00 more of the budget of ada@example.com in "
        f"{datetime.now(UTC):%Y-%m}, asked for by ada@example.com.",
        "It was refused by bob@example.com already.",
    ]
    assert gate.granted(registry) == ()
    assert [act for _, act, _ in acts(registry)] == ["raise.asked", "raise.refused"]


@pytest.mark.parametrize("who", [ADA, FAY])
def test_a_raise_is_not_granted_by_who_asked_nor_by_who_may_not(
    client: FlaskClient, registry: Registry, slack: FakeSlack, who: str
) -> None:
    wish = asked_for_more(client, registry)
    (told,) = slack.told
    clicked(client, payload(slack, button(told, blocks.APPROVE), who))
    assert "not yours to decide. bob@example.com may" in say(client, f"approve {wish.id}", who)
    ((_, message),) = slack.responses
    assert "not yours to decide" in words_of(message)
    assert message["replace_original"] is False
    assert gate.granted(registry) == ()


def test_a_teams_budget_is_raised_by_finance(client: FlaskClient, registry: Registry, slack: FakeSlack) -> None:
    counted(registry, limit("team", "Search", 900, 899), default_usd=None)
    assert "fay@example.com may grant it" in say(client, "raise $100 for the release")
    assert [told["channel"] for told in slack.told] == [FAY]
    waiting = posted(client, "raises", FAY)
    assert "team Search" in words_of(waiting)
    clicked(client, payload(slack, button(waiting, blocks.APPROVE), FAY))
    assert [granted.extra_usd for granted in gate.granted(registry)] == [Decimal(100)]
    assert "Nothing waits for you" in say(client, "raises", FAY)


def test_raises_stay_under_the_companys_ceiling_all_together(client: FlaskClient, registry: Registry) -> None:
    counted(registry, limit("person", "ada@example.com", 50, 50))
    assert "At most $50.00 more" in say(client, "raise 51")
    for word in ("0", "-5", "NaN", "1e3", "lots", "5.005"):
        assert "How many dollars" in say(client, f"raise {word}")
    say(client, "raise 30")
    assert "asked for that already" in say(client, "raise 30")
    (first,) = registry.find(raises.COLLECTION)
    other = {**first.fields, "id": "f" * 12, "asked_by": "eve@example.com"}
    registry.put(raises.COLLECTION, "f" * 12, other)
    assert "Granted" in say(client, f"approve {first.id}", BOB)
    assert "At most $20.00 more" in say(client, f"approve {'f' * 12}", BOB)
    assert "no such raise" in say(client, "approve nothing", BOB)
    assert "No budget limits you" not in say(client, "raise 5")


def test_nobody_may_ask_where_nothing_limits(client: FlaskClient, registry: Registry) -> None:
    counted(registry, default_usd=None)
    assert "No budget limits you" in say(client, "raise 5")
    assert "No budget limits you" in say(client, "usage")


# Buttons


def test_a_key_is_revoked_by_its_button_and_the_list_is_drawn_anew(
    client: FlaskClient, registry: Registry, slack: FakeSlack
) -> None:
    say(client, "issue laptop")
    say(client, "issue tablet")
    listed = posted(client, "list")
    laptop = record_of_name(registry, "laptop").key_id
    revoke = button(listed, blocks.REVOKE, laptop)
    assert revoke["confirm"]["title"]["text"] == "Are you sure?"
    assert {b["value"] for b in buttons_of(listed)} == {key.key_id for key in records(registry)}  # ids, nothing else
    assert clicked(client, payload(slack, revoke)).data == b""
    ((_, message),) = slack.responses
    assert message["replace_original"] is True
    assert "is revoked" in words_of(message)
    assert "`tablet`" in words_of(message)
    assert record_of_name(registry, "laptop").revoked_at
    assert record_of_name(registry, "tablet").revoked_at is None


def record_of_name(registry: Registry, name: str) -> keys.KeyRecord:
    return next(key for key in records(registry) if key.name == name)


def test_a_rotation_by_button_shows_the_key_in_the_dialogs_own_answer_and_nowhere_else(
    client: FlaskClient, registry: Registry, slack: FakeSlack
) -> None:
    old = record_of(registry, key_in(say(client, "issue laptop")))
    clicked(client, payload(slack, button(posted(client, "list"), blocks.ROTATE)))
    (opened,) = slack.views
    assert len(records(registry)) == 1  # nothing has happened yet
    submission = {
        "type": "view_submission",
        "team": {"id": WORKSPACE},
        "user": {"id": ADA},
        "view": {"id": "V1", **opened["view"]},
    }
    shown = clicked(client, submission)
    assert shown.json["response_action"] == "update"
    key = key_in(shown.text)
    assert record_of(registry, key).name == "laptop"
    assert record_of_id(registry, old.key_id).replaced_by == record_of(registry, key).key_id
    again = clicked(client, submission | {"trigger_id": "another"})
    assert "sk-tally-" not in again.text
    assert len(records(registry)) == 2
    assert "sk-tally-" not in json.dumps([slack.told, slack.views, slack.responses])


def test_somebody_elses_button_does_nothing(client: FlaskClient, registry: Registry, slack: FakeSlack) -> None:
    say(client, "issue laptop")
    listed = posted(client, "list")
    for who in (BOB, FAY, EVE, "U4STRANGER", "UNOBODY"):
        clicked(client, payload(slack, button(listed, blocks.REVOKE), who))
        clicked(client, payload(slack, button(listed, blocks.ROTATE), who))
    said = {words_of(message) for _, message in slack.responses}
    assert said == {
        "You have no such key. `list` shows those you have.",
        "Tally does not know you under your Slack e-mail. Please ask root@example.com.",
    }
    assert slack.views == []
    assert all(key.revoked_at is None and key.replaced_by is None for key in records(registry))
    forged = {"type": "view_submission", "team": {"id": WORKSPACE}, "user": {"id": BOB}}
    view = {"id": "V9", "callback_id": blocks.ROTATE, "private_metadata": records(registry)[0].key_id}
    assert "no such key" in clicked(client, forged | {"view": view}).text
    assert len(records(registry)) == 1


def test_an_alerts_button_revokes_for_the_owner_and_for_an_admin(
    client: FlaskClient, registry: Registry, slack: FakeSlack
) -> None:
    first = record_of(registry, key_in(say(client, "issue one"))).key_id
    second = record_of(registry, key_in(say(client, "issue two"))).key_id
    said = [{"type": "section", "text": {"type": "mrkdwn", "text": "A key was used from a new network."}}]
    for who, key_id in ((ADA, first), (ROOT, second)):
        clicked(
            client,
            payload(
                slack,
                {"action_id": "key.revoke", "value": key_id},
                who,
                message={"blocks": [*said, {"type": "actions", "elements": []}]},
            ),
        )
    assert all(key.revoked_at for key in records(registry))
    for _, message in slack.responses:
        assert words_of(message).startswith("A key was used from a new network.\nYour key")
        assert buttons_of(message) == []


def test_a_double_click_is_answered_once_and_does_no_harm(
    client: FlaskClient, registry: Registry, slack: FakeSlack
) -> None:
    say(client, "issue laptop")
    revoke = button(posted(client, "list"), blocks.REVOKE)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: clicked(client, payload(slack, revoke)).status_code, range(4)))
    assert answers == [200] * 4
    assert len(slack.responses) == 1
    assert [act for _, act, _ in acts(registry)] == ["key.issued", "key.revoked"]


def test_a_click_that_came_to_nothing_may_be_tried_again(
    client: FlaskClient, registry: Registry, slack: FakeSlack, tmp_path: Path
) -> None:
    say(client, "issue laptop")
    revoke = button(posted(client, "list"), blocks.REVOKE)
    broken = open_registry(f"sqlite://{tmp_path}/registry.db")
    # Keys can be read and not written, as when a disk is full; what was answered before can be.
    broken._db.execute(  # type: ignore[attr-defined]
        "CREATE TRIGGER full BEFORE UPDATE ON documents WHEN NEW.collection = 'keys' "
        "BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    clicked(client, payload(slack, revoke))
    assert "try again in a minute" in words_of(slack.responses[-1][1])
    broken._db.execute("DROP TRIGGER full")  # type: ignore[attr-defined]
    clicked(client, payload(slack, revoke))
    assert "is revoked" in words_of(slack.responses[-1][1])


def test_a_key_that_was_shown_may_be_hidden(client: FlaskClient, slack: FakeSlack) -> None:
    hide = button(posted(client, "issue laptop"), blocks.HIDE)
    clicked(client, payload(slack, hide))
    assert [message for _, message in slack.responses] == [{"delete_original": True}]


# Who is believed


def test_a_click_is_believed_under_the_same_conditions_as_a_command(
    client: FlaskClient, registry: Registry, slack: FakeSlack
) -> None:
    say(client, "issue laptop")
    revoke = button(posted(client, "list"), blocks.REVOKE)
    from urllib.parse import urlencode

    body = urlencode({"payload": json.dumps(payload(slack, revoke))}).encode()
    asked = slack.asked
    for headers in ({}, signed(body, secret="another"), signed(body, time.time() - 310), signed(body + b"x")):
        assert client.post("/", data=body, headers=headers).status_code == 401
    assert clicked(client, payload(slack, revoke, team={"id": "T0OTHER"})).status_code == 403
    assert clicked(client, payload(slack, revoke, team=None)).status_code == 403
    assert slack.asked == asked
    assert record_of_name(registry, "laptop").revoked_at is None
    headers = signed(body)
    assert [client.post("/", data=body, headers=headers).status_code for _ in range(2)] == [200, 401]
    assert len(slack.responses) == 1


@pytest.mark.parametrize("garbage", ["", "{", "[]", "null", "7", '"x"', "{}", '{"team": "T0TALLY"}', "[" * 20_000])
def test_garbage_that_slack_signed_is_refused_without_a_word(
    client: FlaskClient, slack: FakeSlack, garbage: str
) -> None:
    assert clicked(client, garbage).status_code == 403
    assert slack.asked == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "shortcut"},
        {"actions": []},
        {"actions": [7]},
        {"actions": None},
        {"actions": [{"action_id": "no.such", "value": "x"}]},
        {"type": "view_submission", "view": {"callback_id": "other"}},
        {"type": "view_submission", "view": 7},
        {"type": None},
    ],
)
def test_a_click_that_is_none_of_ours_is_acknowledged_and_ignored(
    client: FlaskClient, slack: FakeSlack, registry: Registry, changed: dict[str, Any]
) -> None:
    answer = clicked(client, payload(slack, {"action_id": blocks.REVOKE, "value": "x"}) | changed)
    assert (answer.status_code, answer.data) == (200, b"")
    assert slack.responses == []


def test_an_answer_goes_to_slack_alone(client: FlaskClient, slack: FakeSlack, registry: Registry) -> None:
    say(client, "issue laptop")
    revoke = button(posted(client, "list"), blocks.REVOKE)
    for number, url in enumerate(
        (
            "http://169.254.169.254/latest",
            "https://evil.example/slack.com",
            "",
            "file:///etc/passwd",
            "https://slack.com.evil.example/x",
            "http://[",
        )
    ):
        clicked(
            client, payload(slack, revoke, response_url=url, container={"message_ts": f"{number}", "channel_id": "D1"})
        )
    assert slack.responses == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
ours = st.fixed_dictionaries(
    {},
    optional={name: json_values for name in ("type", "team", "user", "view", "actions", "container", "message")},
)


@given(ours)
def test_reading_a_payload_never_raises(content: dict[str, Any]) -> None:
    for kind in ("block_actions", "view_submission", content.get("type")):
        click_in(content | {"type": kind})
        submission_in(content | {"type": kind})


@given(st.text(max_size=120))
def test_reading_a_command_never_raises(text: str) -> None:
    read = words.read(text)
    assert read is None or (isinstance(read[0], str) and all(isinstance(v, str) for v in read[1].values()))


# Slack's three seconds


@pytest.mark.parametrize("method", ["users.info", "users.lookupByEmail", "chat.postMessage", "views.open", "respond"])
def test_slack_is_answered_within_three_seconds_however_slow_it_is_itself(
    client: FlaskClient, registry: Registry, slack: FakeSlack, method: str
) -> None:
    counted(registry, limit("person", "ada@example.com", 50, 50))
    say(client, "issue laptop")
    listed = posted(client, "list")
    slack.slow_s[method] = 60.0
    slack.slow_s["users.info" if method == "respond" else "respond"] = 1.0
    begun = time.monotonic()
    if method in ("users.lookupByEmail", "chat.postMessage"):
        assert "will be told within minutes" in say(client, "raise 20")
        (document,) = registry.find(raises.COLLECTION)
        assert document.fields["slack_told"] is False  # so that the next tick tells them
    elif method == "users.info":
        assert "try again" in say(client, "list", BOB)
    else:
        clicked(client, payload(slack, button(listed, blocks.ROTATE if method == "views.open" else blocks.REVOKE)))
    assert time.monotonic() - begun < 3.0


def test_a_lead_whom_slack_does_not_know_is_told_by_the_tick(
    client: FlaskClient, registry: Registry, slack: FakeSlack
) -> None:
    del slack.users[BOB]
    wish = asked_for_more(client, registry)
    assert slack.told == []
    assert not wish.slack_told


# Secrets


def test_no_secret_is_in_logs_the_audit_log_errors_or_what_slack_is_told(
    client: FlaskClient, registry: Registry, slack: FakeSlack, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    counted(registry, limit("person", "ada@example.com", 50, 50))
    canary = keys.make()  # somebody pastes a key where it does not belong
    first = key_in(say(client, "issue laptop"))
    second = key_in(say(client, "rotate laptop"))
    service = key_in(say(client, "service issue ci owner=bob@example.com project=apollo", ROOT))
    for text in (f"revoke {canary}", f"issue {canary}", f"connect {canary}", f"approve {canary}", f"rotate {canary}"):
        assert canary not in say(client, text)
    say(client, "raise 20 for the release")
    (told,) = slack.told
    clicked(client, payload(slack, button(told, blocks.APPROVE), BOB))
    clicked(client, payload(slack, button(posted(client, "list"), blocks.REVOKE)))
    slack.broken = "invalid_auth"
    assert "try again" in say(client, "list", FAY)
    body = form("issue x")
    refused = client.post("/", data=body, headers=signed(body, secret="x")).text
    out = "".join(capfd.readouterr()) + caplog.text + "".join(str(vars(record)) for record in caplog.records)
    kept = json.dumps(
        [document.fields for name in (audit.AUDIT, raises.COLLECTION, gate.GATE) for document in registry.find(name)]
    )
    everything = out + refused + kept + json.dumps([slack.told, slack.responses, slack.views])
    assert "key issued" in out
    for secret in (first, second, service, canary, SIGNING, TOKEN, PEPPER, first[9:41], second[9:41]):
        assert secret not in everything
    assert {act for _, act, _ in acts(registry)} >= {
        "key.issued",
        "key.rotated",
        "key.revoked",
        "raise.asked",
        "raise.granted",
    }


def test_an_act_whose_audit_entry_is_not_taken_is_told_in_the_log(
    client: FlaskClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_registry(f"sqlite://{tmp_path}/registry.db")._db.execute(  # type: ignore[attr-defined]
        "CREATE TRIGGER full BEFORE INSERT ON documents WHEN NEW.collection = 'audit' "
        "BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    key = key_in(say(client, "issue laptop"))
    (entry,) = [vars(record)["entry"] for record in caplog.records if "audit entry" in record.getMessage()]
    assert (entry["action"], entry["actor"]) == ("key.issued", "ada@example.com")
    assert key not in str(entry)


def test_json_is_served_where_an_audience_is_set_and_nowhere_else(client: FlaskClient) -> None:
    assert client.get("/v1/list").status_code == 404
    assert client.post("/v1/issue", json={}).status_code == 404


@pytest.mark.emulator
def test_the_conversation_is_the_same_over_firestore(
    tmp_path: Path, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("java")
    with firestore_emulator() as host:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", host)
        where = "firestore://demo-keys"
        with serving(monkeypatch, environment(tmp_path, slack) | {"TALLY_REGISTRY": where}) as client:
            registry = open_registry(where)
            counted(registry, limit("person", "ada@example.com", 50, 50))
            old = record_of(registry, key_in(say(client, "issue laptop")))
            new = record_of(registry, key_in(say(client, "rotate laptop")))
            assert record_of_id(registry, old.key_id).replaced_by == new.key_id
            key_in(say(client, "service issue ci owner=bob@example.com budget=50/month", ROOT))
            assert "`ci`" in say(client, "list", BOB)
            registry.put(USAGE, "recent", {"last_used": {}}, ANY)
            assert "Every key was used" in say(client, "idle", ROOT)
            assert "$0.00 left" in say(client, "usage")
            say(client, "raise 20")
            (told,) = slack.told
            clicked(client, payload(slack, button(told, blocks.APPROVE), BOB))
            assert "$20.00 left" in say(client, "usage")
            clicked(client, payload(slack, button(posted(client, "list"), blocks.REVOKE, new.key_id)))
            assert "is revoked" in say(client, f"revoke {old.key_id}", ROOT)
            assert say(client, "list").startswith("You have no keys")
            assert len(acts(registry)) == 7
