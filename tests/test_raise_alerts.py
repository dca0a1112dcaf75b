"""Who may decide a raise is asked with buttons, who asked hears what became of it; each once by each way to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from functions.alerts import operator_alerts, raise_alerts
from functions.alerts.budget_alerts import Readers
from functions.alerts.freshness import Freshness, Past
from functions.alerts.outbox import Delivery, Outbox
from governance import raises
from governance.company import Company
from governance.gate import Limit
from governance.messages import Button
from governance.policy import Policy, read_people
from governance.raises import Raise
from governance.registry import Registry, open_registry
from tests.alerts_room import NOON, PEOPLE, Board, Clock

ENDS = datetime(2026, 11, 30, 23, tzinfo=UTC)  # midnight in Berlin
SLACK, MAIL, SHARED = Board("slack"), Board("mail"), Board("webhook", private_too=False)


@pytest.fixture
def readers(tmp_path: Path) -> Readers:
    (tmp_path / "people.csv").write_text(PEOPLE)
    policy = Policy(read_people(tmp_path / "people.csv"), (), company=Company(time_zone="Europe/Berlin"))
    return Readers(policy, {}, [SLACK, MAIL, SHARED], "", NOON.date())


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(f"sqlite://{tmp_path}/registry.db")


def wish(**given: Any) -> Raise:
    fields = {
        "id": "r1", "budget": "person-month", "scope": "person", "name": "ada@example.com", "period": "2026-11",
        "ends_at": ENDS, "extra_usd": Decimal(20), "asked_by": "ada@example.com", "reason": "release week",
        "asked_at": NOON,
    }  # fmt: skip
    return Raise.model_validate(fields | given)


def decided(state: str, **given: Any) -> Raise:
    return wish(state=state, decided_by="bob@example.com", decided_at=NOON, **given)


def told(found: Raise, readers: Readers) -> list[Delivery]:
    return list(raise_alerts.deliveries([found], readers))


def test_the_lead_is_asked_with_buttons_and_never_where_others_read(readers: Readers) -> None:
    slack, mail = told(wish(), readers)
    assert (slack.channel, mail.channel, slack.message) == (SLACK, MAIL, mail.message)
    said = mail.message
    assert (said.to, said.private, said.audience, said.severity) == (("bob@example.com",), True, "lead", "info")
    assert said.subject == "Tally: a raise of $20.00 is asked for"
    assert said.text.splitlines() == [
        "Ada asks for $20.00 more of their monthly budget until it starts anew on 1 December 2026, 00:00 "
        "Europe/Berlin.",
        "Reason: release week",
        "What to do: approve or refuse it; it ends by itself.",
    ]
    assert said.buttons == (
        Button("Approve", "raise.approve", "r1"),
        Button("Refuse", "raise.refuse", "r1", danger=True),
    )


@pytest.mark.parametrize(
    ("given", "to", "of"),
    [
        ({"asked_by": "bob@example.com", "name": "bob@example.com"}, "joe@example.com", "their monthly budget"),
        (
            {"scope": "team", "name": "Search", "budget": "team-Search-week"},
            "eve@example.com",
            "the weekly budget of team Search",
        ),
        (
            {"scope": "company", "name": "", "budget": "company-day"},
            "eve@example.com",
            "the daily budget of the company",
        ),
        ({"scope": "key", "name": "k1", "budget": "key-k1-month"}, "eve@example.com", "the monthly budget of key k1"),
        (
            {"scope": "company", "name": "", "budget": "company-day", "asked_by": "eve@example.com"},
            "joe@example.com",
            "the daily budget of the company",
        ),
    ],
)
def test_who_may_decide_depends_on_whose_budget_it_is_and_is_never_who_asked(
    given: dict[str, Any], to: str, of: str, readers: Readers
) -> None:
    asked = wish(**given, reason="")
    _, mail = told(asked, readers)
    assert mail.message.to == raises.deciders(asked, readers.policy.people, readers.today) == (to,)
    assert f"asks for $20.00 more of {of} until" in mail.message.text
    assert "Reason" not in mail.message.text


def test_who_asked_hears_of_a_grant_and_of_a_refusal(readers: Readers) -> None:
    until = "1 December 2026, 00:00 Europe/Berlin"
    for state, subject, text in (
        ("granted", "your raise was granted",
         f"You may spend $20.00 more of your monthly budget until {until}: bob@example.com granted it."),
        ("refused", "your raise was refused",
         "bob@example.com refused the raise of $20.00 that you asked for. The budget starts anew on "
         f"{until}."),
    ):  # fmt: skip
        for each in told(decided(state), readers):
            said = each.message
            assert (said.to, said.private, said.audience) == (("ada@example.com",), True, "person")
            assert (said.subject, said.text, said.buttons) == (f"Tally: {subject}", text, ())


def test_whom_slack_told_already_it_does_not_tell_again_but_others_do(readers: Readers) -> None:
    assert [each.channel for each in told(wish(slack_told=True), readers)] == [MAIL]
    assert [each.channel for each in told(decided("granted", slack_told=True), readers)] == [MAIL]
    assert [each.channel for each in told(decided("granted"), readers)] == [SLACK, MAIL]


def test_where_nobody_may_decide_nobody_is_asked(readers: Readers) -> None:
    alone = Readers(Policy(readers.policy.people[:1], ()), {}, [MAIL], "", NOON.date())
    assert told(wish(), alone) == []


def test_each_is_told_once_from_the_asking_to_the_decision(readers: Readers, registry: Registry) -> None:
    mail, clock = Board("mail"), Clock()
    readers = Readers(readers.policy, {}, [mail], "", NOON.date())
    limit = Limit("person-month", "person", "ada@example.com", "2026-11", ENDS, Decimal(50), Decimal(50), None, False)
    asked = raises.ask(registry, limit, Decimal(20), "ada@example.com", "", NOON, 100)

    def ticks() -> list[str]:
        for _ in range(2):
            outbox = Outbox(registry, clock)
            outbox.send(outbox.due(raise_alerts.deliveries(raises.of_periods(registry, {"2026-11"}), readers)))
            clock.pass_(minutes=5)
        return mail.subjects

    assert ticks() == ["a raise of $20.00 is asked for"]
    raises.decide(registry, asked.id, False, "bob@example.com", clock.now)
    assert ticks() == ["a raise of $20.00 is asked for", "your raise was refused"]


# Operators


def test_operators_are_told_of_an_outage_and_of_its_end_under_names_that_last(readers: Readers) -> None:
    since, until = NOON, NOON + timedelta(hours=1)
    seen = Freshness(True, since, (Past("late", since, until), Past("away", since, until)))
    page = "https://tally.example.com/"
    found = list(operator_alerts.deliveries(seen, ("joe@example.com",), [MAIL, SHARED], page))
    assert [each.about for each in found if each.channel is MAIL] == [
        "late data 2026-11-18T12:00:00+00:00", "late data ended 2026-11-18T12:00:00+00:00",
        "no tick 2026-11-18T12:00:00+00:00",
    ]  # fmt: skip
    assert len(found) == 6  # what runs is no secret: the shared place hears of it too
    for each in found:
        said = each.message
        assert (said.to, said.audience, said.severity) == (("joe@example.com",), "operator", "critical")
        assert "@" not in said.text
        assert "18 November 2026, 12:00 UTC" in said.text
    assert [each.message.text.count("https://tally.example.com/data_health") for each in found[::2]] == [1, 1, 0]


def test_while_all_is_well_operators_hear_nothing() -> None:
    assert list(operator_alerts.deliveries(Freshness(False), ("joe@example.com",), [MAIL], "")) == []
