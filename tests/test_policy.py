"""A policy is read whole or refused with file, line and reason."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.chargeback import CostCentre, Seat, TrueUp, seat_rows, team_rows
from governance.policy import (
    Budget,
    Company,
    Person,
    Policy,
    PolicyError,
    admins,
    people_rows,
    read_budgets,
    read_people,
    read_policy,
    read_policy_once,
)
from tests.conftest import ROOT

HEADER = "email,name,team,role,joined_on,left_on\n"
ADA = "ada@example.com,Ada Byron,Search,lead,2020-01-06,\n"
BUDGET = "budgets:\n  - scope: team\n    name: Search\n    amount_usd: 100\n"


def policy_at(folder: Path, people: str = HEADER + ADA, budgets: str = BUDGET) -> Path:
    (folder / "people.csv").write_bytes(people.encode())
    (folder / "budgets.yaml").write_bytes(budgets.encode())
    return folder


def test_the_example_company_is_a_hundred_and_twenty_people_in_nine_teams() -> None:
    policy = read_policy(ROOT / "policy")
    sizes = Counter(person.team for person in policy.people)
    assert (len(policy.people), len(sizes)) == (120, 9)
    assert [(sizes[team], team) for team in policy.teams()] == sorted(((n, t) for t, n in sizes.items()), reverse=True)
    assert all(person.email.endswith("@example.com") for person in policy.people)
    assert sum(person.left_on is not None for person in policy.people) >= 3
    monthly = {b.name for b in policy.budgets if b.scope in ("company", "team") and b.period == "month"}
    assert monthly == {None, *sizes}
    assert admins(policy.people, date(2026, 11, 23))


def test_the_example_company_shows_what_a_budget_can_be() -> None:
    budgets = {budget.key: budget for budget in read_policy(ROOT / "policy").budgets}
    own = budgets["person-month"]
    assert own.is_default
    assert (own.action, own.grace_percent, own.amount_usd) == ("block", 10, Decimal(600))
    others = [budget for budget in budgets.values() if budget is not own]
    assert {budget.action for budget in others} == {"warn"}  # a demo stops nobody else
    assert {(budget.scope, budget.period) for budget in others} >= {("company", "day"), ("model", "week")}


def test_somebody_can_be_told_of_every_budget_of_the_example_company() -> None:
    policy, today = read_policy(ROOT / "policy"), date(2026, 11, 23)
    roles = {person.email: (person.role, person.team) for person in policy.people}
    for budget in policy.budgets:
        told = policy.whom_to_tell(budget, today)
        assert told
        wanted = {"person": {"admin"}}.get(budget.scope, {"finance"})  # nobody leads everybody
        assert all(roles[p][0] in wanted or roles[p] == ("lead", budget.name) for p in told)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    people = (
        "\ufeffemail,name,team,role,joined_on,left_on\r\n Ada@Example.com ,Ada Byron,Search,lead,2020-01-06, \r\n\r\n"
    )
    budgets = "budgets:\n  - {scope: company, amount_usd: 0.10, thresholds: [50, 100]}\n" + BUDGET[9:]
    policy = read_policy(policy_at(tmp_path, people, budgets))
    assert policy.people == (
        Person(email="ada@example.com", name="Ada Byron", team="Search", role="lead", joined_on=date(2020, 1, 6)),
    )
    assert policy.budgets == (
        Budget(scope="company", amount_usd=Decimal("0.10"), thresholds=(50, 100)),
        Budget(scope="team", name="Search", amount_usd=Decimal(100), thresholds=(80, 100)),
    )
    assert [budget.key for budget in policy.budgets] == ["company-month", "team-Search-month"]


def test_a_team_may_be_called_what_yaml_takes_for_something_else(tmp_path: Path) -> None:
    policy = read_policy(policy_at(tmp_path, HEADER + ADA.replace("Search", "No"), BUDGET.replace("Search", "No")))
    assert policy.budgets[0].name == "No"


@pytest.mark.parametrize(
    ("people", "line", "why"),
    [
        ("", 1, "first line must be email"),
        ("e-mail,name\n", 1, "first line must be email"),
        (HEADER + ADA + "bob@example.com,Bob\n", 3, "2 cells"),
        (HEADER + ADA + "bob@example.com,Bob,Search,lead,2020-01-06,,\n", 3, "7 cells"),
        (HEADER + "\n" + ADA + "\n\nADA@example.com,Ada,Search,lead,2020-01-06,\n", 6, "stands on line 3 already"),
        (HEADER + "ada,Ada,Search,lead,2020-01-06,\n", 2, "email"),
        (HEADER + "ada@example.com,,Search,lead,2020-01-06,\n", 2, "name"),
        (HEADER + ADA.replace("2020-01-06", "6.1.2020"), 2, "joined_on"),
        (HEADER + ADA.replace("2020-01-06", ""), 2, "joined_on"),
        (HEADER + ADA.replace("2020-01-06,", "2020-01-06,2019-12-31"), 2, "before joined_on"),
        (HEADER + ADA.replace("Search", '"Sea\nrch"'), 2, "team"),
        (HEADER + ADA + 'bob@example.com,"Bob\n', 3, "unexpected end"),
    ],
)
def test_a_fault_in_people_is_told_with_its_line(tmp_path: Path, people: str, line: int, why: str) -> None:
    with pytest.raises(PolicyError, match=why) as caught:
        read_policy(policy_at(tmp_path, people=people))
    assert (caught.value.file, caught.value.line) == ("people.csv", line)
    assert str(caught.value).startswith(f"people.csv, line {line}: ")


@pytest.mark.parametrize(
    ("budgets", "line", "why"),
    [
        ("", 1, "list called budgets"),
        ("budgets: 7\n", 1, "list called budgets"),
        ("- scope: company\n", 1, "list called budgets"),
        ("budgets:\n  - company\n", 2, "scope"),
        ("budgets:\n  - scope: company\n    amount_usd: 1\n   period: month\n", 4, "expected"),
        ("budgets:\n  - scope: company\n", 2, "amount_usd: is missing"),
        ("budgets:\n  - scope: company\n    amount_usd: a lot\n", 3, "amount_usd"),
        ("budgets:\n  - scope: company\n    amount_usd: -1\n", 3, "greater than 0"),
        ("budgets:\n  - scope: company\n    amount_usd: .nan\n", 3, "amount_usd"),
        ("budgets:\n  - scope: company\n    amount_usd: 1\n    amount_usd: 2\n", 4, "given twice"),
        ("budgets:\n  - scope: company\n    amount_usd: {a: 1}\n", 3, "one value"),
        ("budgets:\n  - scope: company\n    amount_usd: 1\n    amuont: 2\n", 4, "not a field of a budget"),
        ("budgets:\n  - scope: company\n    amount_usd: 1\n    thresholds: [100, 80]\n", 2, "ascend"),
        ("budgets:\n  - scope: company\n    amount_usd: 1\n    thresholds: []\n", 4, "thresholds"),
        ("budgets:\n  - scope: company\n    name: Search\n    amount_usd: 1\n", 2, "has no name"),
        ("budgets:\n  - scope: team\n    amount_usd: 1\n", 2, "needs the name of the team"),
        ("budgets:\n  - scope: model\n    amount_usd: 1\n", 2, "needs the name of the model"),
        ("budgets:\n  - scope: tag\n    name: apollo\n    amount_usd: 1\n", 2, "project=apollo"),
        ("budgets:\n  - scope: person\n    name: eve@example.com\n    amount_usd: 1\n", 3, "nobody in people.csv"),
        ("budgets:\n  - scope: tool\n    name: cobol\n    amount_usd: 1\n", 3, "'cobol' is no tool"),
        ("budgets:\n  - scope: company\n    period: year\n    amount_usd: 1\n", 3, "period"),
        ("budgets:\n  - scope: company\n    grace_percent: 5\n    amount_usd: 1\n", 2, "budgets that block"),
        ("budgets:\n  - scope: team\n    amount_usd: 1\n    name: Sales\n", 4, "in a team 'Sales'"),
        ("budgets:\n  - scope: team\n    amount_usd: 1\n    action: stop\n    name: Search\n", 4, "action"),
        (BUDGET + "\n" + BUDGET[9:], 6, "team-Search-month already"),
        ("budgets:\n  - ? [a]\n    : 1\n", 2, "one word"),
        ("budgets:\n  - !!python/name:os.system {}\n", 2, "scope: is missing"),
        ("budgets:\n  - scope: \x07\n", 1, "character"),
    ],
)
def test_a_fault_in_budgets_is_told_with_its_line(tmp_path: Path, budgets: str, line: int, why: str) -> None:
    with pytest.raises(PolicyError, match=why) as caught:
        read_policy(policy_at(tmp_path, budgets=budgets))
    assert (caught.value.file, caught.value.line) == ("budgets.yaml", line)


def test_a_file_that_is_not_there_or_not_utf_8_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"people\.csv, line 1: cannot be read: No such file"):
        read_policy(tmp_path)
    (tmp_path / "people.csv").write_bytes((HEADER + ADA).encode() + "Zoë".encode("latin-1"))
    with pytest.raises(PolicyError, match=r"people\.csv, line 3: is not UTF-8"):
        read_policy(tmp_path)


odd = st.text(max_size=200) | st.text(alphabet="{}[]:,-?!&*|><%@`'\"\n\t #~ab1", max_size=60)


@given(odd, odd)
def test_whatever_is_written_there_is_a_policy_or_a_policy_error(
    tmp_path_factory: pytest.TempPathFactory, people: str, budgets: str
) -> None:
    folder, lines = tmp_path_factory.getbasetemp(), [1]
    (folder / "people.csv").write_bytes((HEADER + ADA + people).encode(errors="surrogatepass"))
    (folder / "budgets.yaml").write_bytes(("budgets: " + budgets).encode(errors="surrogatepass"))
    for read in (lambda: read_people(folder / "people.csv"), lambda: read_budgets(folder / "budgets.yaml", {"Search"})):
        try:
            read()
        except PolicyError as error:
            lines.append(error.line)
    assert 1 <= min(lines) <= max(lines) <= 4 + len(people) + len(budgets)


def test_a_person_is_here_from_the_first_day_and_not_on_the_day_of_leaving() -> None:
    ada = Person.model_validate(
        {"email": "a@b", "name": "A", "team": "T", "role": "r", "joined_on": "2026-03-02", "left_on": "2026-05-01"}
    )
    days = [date(2026, 3, 1), date(2026, 3, 2), date(2026, 4, 30), date(2026, 5, 1)]
    assert [ada.is_here(day) for day in days] == [False, True, True, False]


def test_people_are_rows_of_the_warehouse_under_its_own_names(tmp_path: Path) -> None:
    (row,) = people_rows(read_policy(policy_at(tmp_path)))
    assert row == {
        "person": "ada@example.com",
        "name": "Ada Byron",
        "team": "Search",
        "role": "lead",
        "joined_on": date(2020, 1, 6),
        "left_on": None,
    }


def test_people_are_read_without_yaml() -> None:
    code = "import sys; from pathlib import Path; from governance import policy; "
    code += "policy.read_people(Path('policy/people.csv')); print('yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Seats, cost centres and adjustments

SEATS = "email,provider,plan,usd_per_month,from,to\n"
SEAT = "ada@example.com,anthropic,Claude Max 5x,100.50,2026-03-01,\n"
TEAMS = "team,cost_centre\n"
ADJUSTMENTS = "month,provider,team,amount_usd,note\n"
NOTE = "2026-10,anthropic,Search,-12.40,Credit note\n"


def with_file(tmp_path: Path, name: str, text: str) -> Path:
    (policy_at(tmp_path) / name).write_bytes(text.encode())
    return tmp_path


def read_policy_with(tmp_path: Path, name: str, text: str) -> Policy:
    return read_policy(with_file(tmp_path, name, text))


def test_the_example_company_pays_for_seats_and_every_team_has_a_cost_centre() -> None:
    policy = read_policy(ROOT / "policy")
    assert len(policy.seats) == 25
    assert {seat.provider for seat in policy.seats} == {"anthropic", "openai"}
    gone = {person.email for person in policy.people if person.left_on is not None}
    assert len([seat for seat in policy.seats if seat.email in gone and seat.valid_to is None]) >= 3  # paid for nobody
    assert [row.team for row in policy.cost_centres] == list(policy.teams())
    assert policy.adjustments
    assert policy.finance(date(2026, 11, 23))


def test_a_company_without_these_files_has_none_of_it(tmp_path: Path) -> None:
    policy = read_policy(policy_at(tmp_path))
    assert (policy.seats, policy.cost_centres, policy.adjustments) == ((), (), ())


def test_seats_are_read_as_they_are_written_and_are_rows_of_the_warehouse(tmp_path: Path) -> None:
    text = (
        SEATS
        + SEAT.upper().replace("ANTHROPIC", "anthropic").replace(",\n", ",2026-06-01\n")
        + SEAT.replace("03-01", "06-01")
    )
    first, second = read_policy(with_file(tmp_path, "seats.csv", text)).seats
    assert first == Seat(
        email="ada@example.com", provider="anthropic", plan="CLAUDE MAX 5X", usd_per_month=Decimal("100.50"),
        valid_from=date(2026, 3, 1), valid_to=date(2026, 6, 1),
    )  # fmt: skip
    assert seat_rows([second]) == [
        {"person": "ada@example.com", "provider": "anthropic", "plan": "Claude Max 5x",
         "usd_per_month": Decimal("100.50"), "valid_from": date(2026, 6, 1), "valid_to": None}
    ]  # fmt: skip


def test_cost_centres_and_adjustments_are_read_as_they_are_written(tmp_path: Path) -> None:
    with_file(tmp_path, "teams.csv", TEAMS + "Search, CC-1 \n")
    policy = read_policy_with(tmp_path, "adjustments.csv", ADJUSTMENTS + NOTE + "2026-09,openai,,3,Rounding\n")
    assert policy.cost_centres == (CostCentre(team="Search", cost_centre="CC-1"),)
    assert team_rows(policy.cost_centres) == [{"team": "Search", "cost_centre": "CC-1"}]
    october, september = policy.adjustments
    assert (october.month, october.team, october.amount_usd) == (date(2026, 10, 1), "Search", Decimal("-12.40"))
    assert september == TrueUp(month="2026-09", provider="openai", amount_usd=Decimal(3), note="Rounding")


@pytest.mark.parametrize(
    ("name", "text", "line", "why"),
    [
        ("seats.csv", "", 1, "first line must be email,provider,plan,usd_per_month,from,to"),
        ("seats.csv", SEATS + SEAT.replace("ada", "bob"), 2, "bob@example.com is not in people.csv"),
        ("seats.csv", SEATS + SEAT.replace("100.50", "-1"), 2, "usd_per_month: .* greater than or equal to 0"),
        ("seats.csv", SEATS + SEAT.replace("100.50", "a lot"), 2, "usd_per_month"),
        ("seats.csv", SEATS + SEAT.replace("2026-03-01", ""), 2, "from: "),
        ("seats.csv", SEATS + SEAT.replace(",\n", ",2026-03-01\n"), 2, "to 2026-03-01 is not after from 2026-03-01"),
        ("seats.csv", SEATS + SEAT.replace("anthropic", "Anthropic!"), 2, "provider"),
        (
            "seats.csv",
            SEATS + SEAT + "\n" + SEAT.replace("03-01", "07-01"),
            4,
            "seat of line 2 holds on some of the same",
        ),
        ("teams.csv", TEAMS + "Sales,CC-1\n", 2, "nobody in people.csv is in a team 'Sales'"),
        ("teams.csv", TEAMS + "Search,CC-1\nSearch,CC-2\n", 3, "Search has a cost centre already"),
        ("teams.csv", TEAMS + "Search,\n", 2, "cost_centre"),
        ("teams.csv", TEAMS + "Search\n", 2, "1 cells"),
        ("adjustments.csv", ADJUSTMENTS + NOTE.replace("2026-10", "10/2026"), 2, "month"),
        ("adjustments.csv", ADJUSTMENTS + NOTE.replace("2026-10", "2026-10-01"), 2, "a month is written as 2026-10"),
        ("adjustments.csv", ADJUSTMENTS + NOTE.replace("2026-10", "2026-13"), 2, "month"),
        ("adjustments.csv", ADJUSTMENTS + NOTE.replace("Search", "Sales"), 2, "in a team 'Sales'"),
        ("adjustments.csv", ADJUSTMENTS + NOTE.replace("-12.40", "0.00"), 2, "nothing is adjusted by 0"),
        ("adjustments.csv", ADJUSTMENTS + NOTE.replace("-12.40", "nan"), 2, "amount_usd"),
        ("adjustments.csv", ADJUSTMENTS + NOTE.replace("Credit note", ""), 2, "note"),
        ("adjustments.csv", ADJUSTMENTS + NOTE + NOTE, 3, "the same as line 2"),
    ],
)
def test_a_fault_in_what_finance_knows_is_told_with_its_line(
    tmp_path: Path, name: str, text: str, line: int, why: str
) -> None:
    with pytest.raises(PolicyError, match=why) as caught:
        read_policy_with(tmp_path, name, text)
    assert (caught.value.file, caught.value.line) == (name, line)


def test_a_budget_of_one_person_is_told_to_the_leads_of_the_team_and_to_nobody_of_finance(tmp_path: Path) -> None:
    people = HEADER + ADA + "bob@example.com,Bob,Search,lead,2020-01-06,\n"
    people += "eve@example.com,Eve,Search,finance,2020-01-06,\n"
    budgets = "budgets:\n  - {scope: person, name: ADA@example.com, amount_usd: 5, action: block}\n"
    policy = read_policy(policy_at(tmp_path, people, budgets))
    assert policy.budgets[0].key == "person-ada@example.com-month"
    assert policy.whom_to_tell(policy.budgets[0], date(2026, 11, 23)) == ("bob@example.com",)


def test_the_rules_of_the_example_company_are_the_defaults_in_words(tmp_path: Path) -> None:
    assert read_policy(ROOT / "policy").company == read_policy(policy_at(tmp_path)).company == Company()


def test_rules_are_read_as_written(tmp_path: Path) -> None:
    text = "time_zone: Europe/Berlin\nkeys: {longest_days: 400, models: [claude-*], disable_after_days: null}\n"
    company = read_policy_with(tmp_path, "company.yaml", text + "alerts:\n  digests: []\n").company
    assert (company.zone.key, company.keys.longest_days, company.keys.models) == ("Europe/Berlin", 400, ("claude-*",))
    assert company.keys.disable_after_days is None
    assert company.alerts.digests == ()


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("- a\n", 1, "belongs here"),
        ("time_zone: Mars/Olympus\n", 1, "no time zone 'Mars/Olympus'"),
        ("time_zone: ../../etc/passwd\n", 1, "no time zone"),
        ("keys:\n  days: 400\n", 2, "keys: days 400 is more than longest_days 180"),
        ("keys:\n  per_person: 0\n", 2, "per_person"),
        ("time_zone: UTC\nkeys:\n  dais: 4\n", 3, "dais: is not a field of keys"),
        ("alarms: {}\n", 1, "alarms: is not a field of a company"),
        ("alerts:\n  digests: [hourly]\n", 2, "digests"),
        ("operators: [ops]\n", 1, "operators"),
        ("keys: {days: 1, days: 2}\n", 1, "given twice"),
    ],
)
def test_a_fault_in_the_rules_is_told_with_its_line(tmp_path: Path, text: str, line: int, why: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(why)) as caught:
        read_policy_with(tmp_path, "company.yaml", text)
    assert (caught.value.file, caught.value.line) == ("company.yaml", line)


def test_a_policy_is_read_again_when_any_of_its_files_changes_and_only_then(tmp_path: Path) -> None:
    folder = policy_at(tmp_path)
    first = read_policy_once(folder)
    assert read_policy_once(folder) is first
    (folder / "company.yaml").write_text("time_zone: Europe/Berlin\n")
    second = read_policy_once(folder)
    assert (second.company.time_zone, read_policy_once(folder) is second) == ("Europe/Berlin", True)
    (folder / "company.yaml").write_text("time_zone: Mars\n")
    for _ in range(2):  # a fault is told each time
        with pytest.raises(PolicyError):
            read_policy_once(folder)
    (folder / "company.yaml").unlink()
    assert read_policy_once(folder).company == Company()
