"""A block is set and lifted once each, with an audit entry, whatever dies; who hears of one hears of both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.alerts import blocks, budget_alerts
from functions.alerts.blocks import BLOCKS
from functions.alerts.budget_alerts import Readers
from governance import audit
from governance.budgets import Budget
from governance.company import DEFAULTS
from governance.keys import KeyRecord
from governance.policy import Policy, read_people
from governance.registry import Registry, RegistryError, open_registry
from governance.standings import Spent, Standing, standing
from tests.alerts_room import NOON, PEOPLE, Board, Fails

TEAM = Budget(scope="team", name="Search | Ads", amount_usd=Decimal(100), action="block", grace_percent=10)
PERSON = Budget(scope="person", amount_usd=Decimal(10), action="block")
WARNS = Budget(scope="company", amount_usd=Decimal(10))


def stood(budget: Budget, usd: float, name: str | None = None, extra: int = 0, days: int = 0) -> Standing:
    at = NOON + timedelta(days=days)
    return standing(budget, Spent(Decimal(str(usd))), at, name=name, extra_usd=Decimal(extra))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(f"sqlite://{tmp_path}/registry.db")


def told(registry: Registry) -> list[tuple[str, str, dict[str, Any]]]:
    """action, subject and after of the audit entries, in the order of time."""
    found = sorted(registry.find(audit.AUDIT), key=lambda entry: (entry.fields["at"], entry.fields["action"]))
    return [(d.fields["action"], d.fields["subject"], json.loads(d.fields["after"])) for d in found]


def test_what_is_used_up_is_set_and_what_a_raise_frees_is_lifted_once_each(registry: Registry) -> None:
    over, freed = stood(TEAM, 110), stood(TEAM, 110, extra=50)
    assert blocks.follow(registry, [stood(TEAM, 109.99), stood(WARNS, 99)], NOON) == ([], 0, 0)
    assert registry.find(BLOCKS) == []
    later = [NOON + timedelta(minutes=5 * n) for n in range(4)]
    assert [blocks.follow(registry, [over], at)[1:] for at in later[:2]] == [(1, 0), (0, 0)]
    first = blocks.follow(registry, [freed], later[2])
    again = blocks.follow(registry, [freed], later[3])
    assert (first[1:], again[1:]) == ((0, 1), (0, 0))
    (lifted,) = again[0]  # told until the period is over, should the message not have left
    assert (lifted, first[0]) == (blocks.Lifted(freed, 1), [lifted])
    assert told(registry) == [
        (
            "block.set",
            "team-Search | Ads-month",
            {"state": "set", "spent_usd": "110", "limit_usd": "100", "name": "Search | Ads", "period": "2026-11"},
        ),
        (
            "block.lifted",
            "team-Search | Ads-month",
            {"state": "lifted", "spent_usd": "110", "limit_usd": "150", "name": "Search | Ads", "period": "2026-11"},
        ),
    ]
    before = [entry.fields["before"] for entry in registry.find(audit.AUDIT, action="block.lifted")]
    assert before == ['{"state": "set"}']


def test_a_block_that_is_set_again_is_another_one(registry: Registry) -> None:
    for n, usd in enumerate((120, 90, 120, 90, 120)):  # a price was corrected to and fro
        lifted, *_ = blocks.follow(registry, [stood(TEAM, usd)], NOON + timedelta(minutes=n))
        assert [each.count for each in lifted] == [n // 2 + 1] * (n % 2)
    assert [action for action, *_ in told(registry)] == ["block.set", "block.lifted"] * 2 + ["block.set"]


def test_everybodys_own_block_of_one_budget_is_their_own(registry: Registry) -> None:
    blocks.follow(registry, [stood(PERSON, 11, "ada@example.com"), stood(PERSON, 12, "bob@example.com")], NOON)
    lifted, *_ = blocks.follow(
        registry, [stood(PERSON, 11, "ada@example.com"), stood(PERSON, 12, "bob@example.com", 5)], NOON
    )
    assert [each.standing.name for each in lifted] == ["bob@example.com"]
    assert [(action, after["name"]) for action, _, after in told(registry)] == [
        ("block.lifted", "bob@example.com"), ("block.set", "ada@example.com"), ("block.set", "bob@example.com"),
    ]  # fmt: skip


def test_a_new_period_begins_without_blocks_and_the_old_ones_are_forgotten(registry: Registry) -> None:
    blocks.follow(registry, [stood(TEAM, 120)], NOON)
    blocks.prune(registry, {"2026-11", "2026-11-18"})
    assert len(registry.find(BLOCKS)) == 1
    after = stood(TEAM, 0, days=30)
    assert blocks.follow(registry, [after], NOON + timedelta(days=30)) == ([], 0, 0)
    blocks.prune(registry, {"2026-12", "2026-12-18"})
    assert registry.find(BLOCKS) == []
    assert [action for action, *_ in told(registry)] == ["block.set"]  # it ended with its period


def test_a_budget_that_is_taken_away_blocks_no_more(registry: Registry) -> None:
    blocks.follow(registry, [stood(TEAM, 120), stood(PERSON, 11, "ada@example.com")], NOON)
    still = [stood(PERSON, 11, "ada@example.com")]
    for n in range(1, 3):
        found = blocks.follow(registry, still, NOON + timedelta(minutes=n))
        assert found == ([], 0, n == 1)
    (*_, (action, subject, after)) = told(registry)
    assert (action, subject, after["why"]) == ("block.lifted", TEAM.key, "the budget is gone")
    assert blocks.follow(registry, [*still, stood(TEAM, 120)], NOON + timedelta(minutes=3))[1] == 1
    assert told(registry)[-1][:2] == ("block.set", TEAM.key)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=5),
    st.dictionaries(st.integers(1, 16), st.sampled_from(["before", "after"]), max_size=8),
)
def test_whatever_write_fails_each_change_is_made_and_noted_once(
    tmp_path_factory: pytest.TempPathFactory, over: list[bool], fails: dict[int, str]
) -> None:
    registry = Fails(open_registry(f"sqlite://{tmp_path_factory.mktemp('r')}/registry.db"), fails)
    minutes = iter(range(1000))
    for each in over:
        for _ in range(20):  # the scheduler makes a tick again until it comes through
            with suppress(RegistryError):
                lifted, *_ = blocks.follow(
                    registry, [stood(TEAM, 120 if each else 90)], NOON + timedelta(minutes=next(minutes))
                )
                break
    states = [each for n, each in enumerate(over) if each != (over[n - 1] if n else False)]
    assert [action for action, *_ in told(registry)] == [f"block.{'set' if each else 'lifted'}" for each in states]
    assert bool(lifted) == (not over[-1] and True in over)
    if True in over:
        (document,) = registry.find(BLOCKS)
        assert document.fields["state"] == ("set" if over[-1] else "lifted")
        assert document.fields["count"] == states.count(True)


def test_of_ticks_at_once_one_makes_the_change(registry: Registry) -> None:
    def follow(at: Sequence[Standing]) -> tuple[int, int]:
        _, newly_set, newly_lifted = blocks.follow(registry, at, NOON)
        return newly_set, newly_lifted

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(follow, [[stood(TEAM, 120), stood(PERSON, 11, "ada@example.com")]] * 8))
        freed = list(pool.map(follow, [[stood(TEAM, 90), stood(PERSON, 11, "ada@example.com")]] * 8))
    assert (sum(n for n, _ in made), sum(n for _, n in freed)) == (2, 1)
    assert len(told(registry)) == 3


# Who is told


def test_who_was_told_of_the_block_is_told_when_it_is_lifted(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    people = read_people(tmp_path / "people.csv")
    owned = KeyRecord(
        key_id="k1", kind="service", person=None, team="Search", owner="ada@example.com", name="ci", last4="0000",
        created_at=NOON,
    )  # fmt: skip
    nobodys = owned.model_copy(update={"key_id": "k2", "owner": None})
    key = Budget(scope="key", name="k1", amount_usd=Decimal(10), action="block")
    told_of = TEAM.model_copy(update={"name": "Search", "tell": ("boss@example.com",)})
    all_of = [
        (PERSON, "ada@example.com"), (PERSON, "bob@example.com"), (TEAM.model_copy(update={"name": "Search"}), None),
        (key, None), (key.model_copy(update={"name": "k2"}), None), (told_of, None),
        (Budget(scope="tag", name="project=apollo", amount_usd=Decimal(10), action="block"), None),
        (Budget(scope="company", amount_usd=Decimal(10), action="block"), None),
    ]  # fmt: skip
    board = Board()
    readers = Readers(Policy(people, (), company=DEFAULTS), {"k1": owned, "k2": nobodys}, [board], "", NOON.date())
    whom = []
    for budget, name in all_of:
        over, freed = stood(budget, 200, name), stood(budget, 200, name, extra=500)
        blocked = [d for d in budget_alerts.crossings([over], readers) if d.threshold >= 100]
        lifted = list(budget_alerts.lifted([blocks.Lifted(freed, 1)], readers))
        assert {d.message.severity for d in blocked} == {"critical"}
        assert {d.message.severity for d in lifted} == {"info"}
        assert len({d.id for d in (*blocked, *lifted)}) == len(blocked) + len(lifted)
        of_block = {(d.message.to, d.message.audience, d.message.private) for d in blocked}
        assert {(d.message.to, d.message.audience, d.message.private) for d in lifted} == of_block
        whom.append([(d.message.to, d.message.audience) for d in lifted])
    assert whom == [
        [(("ada@example.com",), "person"), (("bob@example.com",), "lead")],
        [(("bob@example.com",), "person"), (("joe@example.com",), "lead")],  # no lead beside himself
        [(("bob@example.com", "eve@example.com"), "")],
        [(("ada@example.com",), "person")],
        [(("joe@example.com",), "lead")],
        [(("boss@example.com",), "")],
        [(("eve@example.com",), "")],
        [(("eve@example.com",), "")],
    ]
