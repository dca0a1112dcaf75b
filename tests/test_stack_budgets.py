"""The whole of Tally on this machine: a budget stops a person and a raise lets them go on; keys end within seconds."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import requests

from governance.policy import Policy, read_policy
from tally_cli.configuration import Configuration
from tally_cli.endpoint import call
from tests.conftest import ROOT, eventually
from tests.stack import Stack, running

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

TICK_S: Final = 5.0
AT_ONCE_S: Final = 5.0  # until every gateway knows of a raise or a revoked key
MODEL: Final = "claude-opus-5"
DEAR: Final = "[[sim input=60000 output=4000]]"  # 0.40 USD
CHEAP: Final = "[[sim input=10 output=1]]"


class Company(NamedTuple):
    """A running Tally, its policy folder, and what stood in it at the start."""

    stack: Stack
    folder: Path
    policy: Policy

    @property
    def person(self) -> str:
        return str(self.stack.run["person"])

    @property
    def leads(self) -> tuple[str, ...]:
        return self.policy.leads_of(self.person, datetime.now(UTC).date())

    def name(self, email: str) -> str:
        person = self.policy.person(email)
        assert person is not None
        return person.name

    def as_(self, email: str, verb: str, **arguments: str) -> dict[str, Any]:
        """What `tally` is answered when this person asks."""
        token_url = f"{self.stack.run['token_url']}?person={email}"
        return call(Configuration(self.stack.run["keys_url"], token_url=token_url), verb, arguments)

    def ask(self, key: str, prompt: str = CHEAP) -> requests.Response:
        """One request through the gateway, as Claude Code makes it."""
        body = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": prompt}]}
        headers = {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
        return requests.post(self.stack.run["proxy_url"] + "/v1/messages", json=body, headers=headers, timeout=30)

    def seconds_until(self, status: int, key: str, within_s: float) -> float:
        """How long it takes until a request is answered so; fails where that is too long."""
        began = time.monotonic()
        eventually(lambda: self.ask(key).status_code == status, within_s=within_s, every_s=0.2)
        return time.monotonic() - began

    def inbox(self) -> list[tuple[str, str]]:
        """(channel, text) of every message, the oldest first."""
        page = requests.get(self.stack.run["inbox_url"], timeout=10).text
        said = re.findall(r"<small>.*? · (.*?)</small><pre>(.*?)</pre>", page, re.DOTALL)
        return [(html.unescape(channel), html.unescape(text)) for channel, text in reversed(said)]

    def told(self, words: str) -> list[tuple[str, str]]:
        """The messages with these words."""
        return [(channel, text) for channel, text in self.inbox() if words in text]

    def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        return self.stack.warehouse.query(sql, params)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("budgets")
    shutil.copytree(ROOT / "policy", folder / "policy")
    whose = next(p for p in read_policy(folder / "policy").people if (p.team, p.role) == ("Search", "engineer")).email
    with (folder / "policy" / "budgets.yaml").open("a") as file:
        file.write(f"\n  - {{scope: person, name: {whose}, period: month, amount_usd: 1, action: block}}\n")
    options = ("--no-history", "--no-traffic", "--tick-s", str(TICK_S), "--policy", str(folder / "policy"))
    with running(folder / "tally", *options, "--person", whose) as stack:
        yield Company(stack, folder / "policy", read_policy(folder / "policy"))


def test_a_budget_stops_a_person_and_a_raise_lets_them_go_on(company: Company) -> None:
    person, key, budget = company.person, company.stack.run["key"], f"person-{company.person}-month"
    lead = company.leads[0]
    spent = [company.ask(key, DEAR) for _ in range(2)]
    assert [answer.status_code for answer in spent] == [200, 200]
    assert spent[1].headers["x-tally-budget"] == budget
    month = f"({datetime.now(UTC):%B %Y})"
    warned = eventually(
        lambda: company.told(f"you have passed 80% of your monthly budget {month}"), within_s=4 * TICK_S
    )
    assert {where for where, _ in warned} <= {f"slack, to {company.name(person)} alone", "e-mail"}
    assert company.ask(key, DEAR).status_code == 200
    assert company.seconds_until(429, key, within_s=10.0) <= 10.0

    refused = company.ask(key)
    said = refused.json()["error"]["message"]
    for told in (
        f"{person}'s monthly budget is used up: 1.2",
        f"of 1.00 USD spent in {month[1:-1]}. It resets on 1 ",
        "`tally raise <dollars> <reason>`",
        f"{' or '.join(company.leads)} decides",
    ):
        assert told in said
    assert refused.headers["x-should-retry"] == "false"

    own = f"requests are refused: you have used up your monthly budget {month}"
    of_lead = f"requests are refused: {company.name(person)} has used up their monthly budget {month}"
    everybody = [f"slack, to {company.name(email)} alone" for email in (person, *company.leads)]
    eventually(lambda: company.told(own), within_s=4 * TICK_S)
    eventually(lambda: len(company.told(own) + company.told(of_lead)) == 2 * len(everybody), within_s=2 * TICK_S)
    in_slack = [where for where, text in company.inbox() if where != "e-mail" and (own in text or of_lead in text)]
    assert in_slack[0] == everybody[0]  # the person, before anybody else
    assert sorted(in_slack) == sorted(everybody)  # each alone, and once

    asked = company.as_(person, "raise", dollars="1", reason="the release")
    assert [wish["id"] for wish in company.as_(lead, "raises")["raises"]] == [asked["raise"]["id"]]
    company.as_(lead, "approve", id=asked["raise"]["id"])
    assert company.seconds_until(200, key, within_s=AT_ONCE_S) <= AT_ONCE_S

    standing = "SELECT * FROM tally.budget_standings WHERE budget = @budget"
    (row,) = eventually(
        lambda: [row for row in company.rows(standing, budget=budget) if row["extra_usd"] == 1], within_s=4 * TICK_S
    )
    assert (row["name"], row["blocked"], row["status"], row["amount_usd"]) == (person, False, "on track", 1)
    done = "SELECT action, actor FROM tally.audit_log WHERE subject LIKE CONCAT('%', @person, '%')"
    wanted = {("raise.asked", person), ("raise.granted", lead), ("block.set", "tally"), ("block.lifted", "tally")}
    eventually(
        lambda: wanted <= {(row["action"], row["actor"]) for row in company.rows(done, person=person)},
        within_s=4 * TICK_S,
    )
    sent = "SELECT threshold, channel, audiences FROM tally.alerts_sent WHERE about = @budget"
    told_of = {(row["threshold"], row["channel"]): row["audiences"] for row in company.rows(sent, budget=budget)}
    assert set(told_of) == {(percent, channel) for percent in (80, 100) for channel in ("slack", "mail")}
    assert set(told_of.values()) == {2}  # the person, and those who lead the team


def test_a_revoked_key_is_refused_within_seconds(company: Company) -> None:
    someone = company.leads[0]
    issued = company.as_(someone, "issue", name="spare")
    assert company.ask(issued["key"]).status_code == 200
    company.as_(someone, "revoke", which="spare")
    assert company.seconds_until(401, issued["key"], within_s=AT_ONCE_S) <= AT_ONCE_S


def test_who_has_left_by_the_file_is_refused_after_the_next_tick(company: Company) -> None:
    keys = json.loads((company.stack.home / "demo" / "keys.json").read_text())
    leaver = next(
        p.email for p in company.policy.people if (p.team, p.role) == ("Mobile", "engineer") and not p.left_on
    )
    assert company.ask(keys[leaver]).status_code == 200
    file = company.folder / "people.csv"
    with file.open(newline="") as before:
        rows = list(csv.DictReader(before))
    for row in rows:
        if row["email"] == leaver:
            row["left_on"] = f"{datetime.now(UTC):%Y-%m-%d}"
    fresh = file.with_suffix(".new")
    with fresh.open("w", newline="") as after:
        writer = csv.DictWriter(after, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    fresh.replace(file)
    assert company.seconds_until(401, keys[leaver], within_s=TICK_S + AT_ONCE_S) <= TICK_S + AT_ONCE_S
    assert "its owner's time in the company" in company.ask(keys[leaver]).json()["error"]["message"]
