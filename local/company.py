"""The synthetic company: who of the people in policy/ uses which agent, since when, how much, and at what hours.

Everything about a person follows from the e-mail address, so that adding someone changes nobody else's past.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any, Final, Literal

from governance.events import Route
from governance.policy import Person

DAYS: Final = 90  # of history before the first start
LAUNCH_DAY: Final = 58  # of those 90: a new model appears, and spreads
SWITCH_DAYS: Final = 9.0  # until a person tries it, on average
PILOT_TEAM: Final = "Growth"  # takes the agents up together, and mostly drops them again
PILOT_DAY, PILOT_WEEKS, PILOT_REMAINS = 10, 3, 0.04
NEVER: Final = 10**6
PREVIEW: Final = "claude-next-preview"  # a model that no price book knows: somebody tries it now and then
_SHARE_PREVIEW, _SHARE_FAST, _SHARE_PRIORITY, _SHARE_FLEX = 0.004, 0.02, 0.06, 0.15  # of the sessions that could


@dataclass(frozen=True, slots=True)
class Agent:
    """A way to ask a model: what the gateway sees of it. `new_model` replaces `model` after the launch."""

    tool: str
    route: Route
    provider: str
    model: str
    versions: tuple[str, ...]
    user_agent: str
    new_model: str | None = None
    side_model: str | None = None  # small background requests: titles, summaries
    turns: Literal["agent", "completion"] = "agent"
    thinks: bool = True


CLAUDE_CODE: Final = Agent(
    "claude-code",
    "messages",
    "anthropic",
    "claude-opus-5",
    ("2.1.168", "2.1.181", "2.1.190", "2.1.197"),
    "claude-cli/{version} (external, cli)",
    new_model="claude-opus-5-5",
    side_model="claude-haiku-4-5",
)
CLAUDE_CODE_LIGHT: Final = Agent(
    "claude-code",
    "messages",
    "anthropic",
    "claude-sonnet-5",
    CLAUDE_CODE.versions,
    CLAUDE_CODE.user_agent,
    side_model="claude-haiku-4-5",
)
CODEX: Final = Agent(
    "codex",
    "responses",
    "openai",
    "gpt-5.6-sol",
    ("0.150.0", "0.158.0", "0.162.1", "0.169.0"),
    "codex_cli_rs/{version} (Mac OS 26.1.0; arm64) iTerm.app/3.6.5",
    new_model="gpt-6.1-sol",
)
KIMI: Final = Agent(
    "kimi-code", "chat_completions", "moonshot", "kimi-k3", ("1.9.2", "1.12.0"), "kimi-code-cli/{version}"
)
EDITOR: Final = Agent(
    "openai-sdk",
    "chat_completions",
    "openai",
    "gpt-5-mini",
    ("6.7.0", "6.9.1"),
    "OpenAI/JS {version}",
    turns="completion",
    thinks=False,
)
REVIEWER: Final = Agent(
    "anthropic-sdk",
    "messages",
    "anthropic",
    "claude-sonnet-5",
    ("2.11.0", "2.12.0"),
    "Anthropic/Python {version}",
    turns="completion",
    thinks=False,
)
EMBEDDER: Final = Agent(
    "openai-sdk",
    "embeddings",
    "openai",
    "text-embedding-3-small",
    ("2.52.0", "2.54.0"),
    "OpenAI/Python {version}",
    turns="completion",
    thinks=False,
)


@dataclass(frozen=True, slots=True)
class Member:
    """Someone or something that holds a key, and how it is used. Hours are UTC; sessions are those of a full day."""

    person: str | None
    team: str
    key_id: str
    agents: tuple[Agent, ...]  # the usual one first
    sessions: float
    turns: float  # in a session, on average
    first_hour: float
    from_day: date
    until_day: date | None  # the first day on which it is not used any more
    away: tuple[date, date] | None  # a holiday of its own: first and last day
    switches_after: float  # days after a launch
    subscription: bool = False
    pilot: bool = False

    @property
    def works_weekends(self) -> bool:
        """A service does not know what a weekend is."""
        return self.person is None


def _agents(team: str, dice: Random) -> tuple[Agent, ...]:
    deep = team in ("Platform", "Payments", "Security", "Research")
    main = CLAUDE_CODE if dice.random() < (0.9 if deep else 0.6) else CLAUDE_CODE_LIGHT
    first = dice.choices((main, CODEX, KIMI), (0.62, 0.28, 0.10))[0]
    second = dice.choices((CODEX if first is not CODEX else main, EDITOR, KIMI), (0.4, 0.5, 0.1))[0]
    return (first, second) if dice.random() < 0.45 else (first,)


def member(person: Person, first_day: date, key_id: str) -> Member:
    """How this person works. `first_day` is the first day of the history."""
    dice = Random(zlib.crc32(person.email.encode()))
    sessions, turns = dice.choices(((4.6, 18.0), (2.2, 11.0), (0.7, 6.0)), (0.26, 0.38, 0.36))[0]
    if person.role in ("designer", "marketer", "finance", "analyst"):
        sessions, turns = min(sessions, 1.0), 7.0
    kind = dice.random()
    adopted = first_day - timedelta(days=30) if kind < 0.46 else first_day + timedelta(days=dice.randrange(5, 80))
    pilot = person.team == PILOT_TEAM
    if pilot:
        adopted = first_day + timedelta(days=PILOT_DAY + dice.randrange(4))
    elif kind > 0.88:
        adopted = first_day + timedelta(days=NEVER)
    if person.joined_on > first_day:
        adopted = max(person.joined_on + timedelta(days=dice.randrange(1, 7)), first_day if kind < 0.88 else adopted)
    gone = first_day + timedelta(days=dice.randrange(0, 84))
    return Member(
        person=person.email,
        team=person.team,
        key_id=key_id,
        agents=_agents(person.team, dice),
        sessions=sessions * dice.uniform(0.8, 1.25),
        turns=turns,
        first_hour=dice.choices((8.0, 14.0), (0.75, 0.25))[0] + dice.uniform(-1, 1),
        from_day=adopted,
        until_day=person.left_on,
        away=(gone, gone + timedelta(days=dice.choice((2, 4, 6, 13)))) if dice.random() < 0.6 else None,
        switches_after=dice.expovariate(1 / SWITCH_DAYS),
        subscription=dice.random() < 0.05,
        pilot=pilot,
    )


def services(first_day: date, key_ids: Mapping[str, str]) -> list[Member]:
    """Keys that no person holds: a reviewer in CI and a nightly index. `key_ids` by their names."""
    since = first_day - timedelta(days=1)
    plan = (("ci-review", "Platform", REVIEWER, 9.0, 14.0, 9.0), ("docs-index", "Search", EMBEDDER, 2.0, 22.0, 1.0))
    return [
        Member(None, team, key_ids[name], (agent,), sessions, turns, hour, since, None, None, 0.0)
        for name, team, agent, sessions, turns, hour in plan
    ]


SERVICES: Final = {"ci-review": "Platform", "docs-index": "Search"}  # name of the key to its team
_SERVICE_TERMS: Final[Mapping[str, Mapping[str, Any]]] = {
    "ci-review": {"tags": ("project=code-review",)},
    "docs-index": {"tags": ("project=docs-search",), "models": ("text-embedding-*",)},
}


def members(people: Sequence[Person], first_day: date, key_ids: Mapping[str, str]) -> list[Member]:
    """All who use a model, in the order of the file. `key_ids` by e-mail, and by name for SERVICES."""
    return [member(p, first_day, key_ids[p.email]) for p in people] + services(first_day, key_ids)


def key_terms(people: Sequence[Person], first_day: date, now: datetime) -> dict[str, dict[str, Any]]:
    """What the keys of the past are beside whose they are: made when they were first used, not when the demo began; a
    lead answers for a team's service. By e-mail, and by name for SERVICES."""
    leads = {person.team: person.email for person in reversed(people) if person.role == "lead" and not person.left_on}
    terms: dict[str, dict[str, Any]] = {}
    joined = {person.email: person.joined_on for person in people}
    for who in members(people, first_day, dict.fromkeys(joined, "") | {name: name for name in SERVICES}):
        name = who.person or who.key_id
        began = datetime.combine(max(who.from_day, joined.get(name, date.min)), time(), UTC)
        terms[name] = {"created_at": min(began, now)}
        if who.person is None:
            terms[name] |= {"owner": leads.get(who.team), **_SERVICE_TERMS[name]}
    return terms


def _nth_weekday(year: int, month: int, weekday: int, nth: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))


def is_holiday(day: date) -> bool:
    """Whether the company is closed: New Year, Labour Days, Thanksgiving and the Friday after, the end of the year."""
    thanks = _nth_weekday(day.year, 11, 3, 4)
    fixed = {(1, 1), (5, 1), (7, 4), (12, 24), (12, 25), (12, 26), (12, 31)}
    return (
        (day.month, day.day) in fixed
        or day in (thanks, thanks + timedelta(days=1))
        or day == _nth_weekday(day.year, 9, 0, 1)
    )


def effort(who: Member, day: date, first_day: date) -> float:
    """Sessions to expect of this member on this day; 0 when there can be none."""
    if day < who.from_day or (who.until_day is not None and day >= who.until_day):
        return 0.0
    if who.away is not None and who.away[0] <= day <= who.away[1]:
        return 0.0
    share = 1.0
    if not who.works_weekends:
        if is_holiday(day):
            share = 0.02
        elif day.weekday() >= 5:
            share = 0.06
        elif day.weekday() == 4:
            share = 0.8
    elif day.weekday() >= 5 or is_holiday(day):
        share = 0.3
    if who.pilot and day >= first_day + timedelta(days=PILOT_DAY + 7 * PILOT_WEEKS):
        share *= PILOT_REMAINS
    grown = min(1.0, 0.35 + (day - who.from_day).days / 40)  # people begin carefully
    return who.sessions * share * (1.0 if who.person is None else grown)


def model_of(agent: Agent, who: Member, day: date, first_day: date) -> str:
    """The model this agent asks for on this day: the new one once it is out and this member has come to it."""
    out = first_day + timedelta(days=LAUNCH_DAY + round(who.switches_after))
    return agent.new_model if agent.new_model is not None and day >= out else agent.model


def terms_of(agent: Agent, model: str, fate: float) -> tuple[str, str]:
    """(model, service tier) of a session, by a number between 0 and 1: a few are served otherwise."""
    if agent.tool == "claude-code":
        if fate < _SHARE_PREVIEW:
            return PREVIEW, "standard"
        return model, "fast" if "opus" in model and fate < _SHARE_PREVIEW + _SHARE_FAST else "standard"
    if agent is CODEX:
        return model, "priority" if fate < _SHARE_PRIORITY else "standard"
    return model, "flex" if agent is EDITOR and fate < _SHARE_FLEX else "standard"
