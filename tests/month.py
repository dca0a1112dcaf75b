"""A company's October, made up but for its rules: people, budgets, requests, what goes wrong, and what must follow.

The second half works out by plain arithmetic, request by request, which messages and blocks the month must bring. It
shares no code with the alerts function but the policy that it is given: prices, periods and thresholds are done anew.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

BERLIN: Final = ZoneInfo("Europe/Berlin")
FIRST: Final = datetime(2026, 9, 30, 22, tzinfo=UTC)  # midnight in Berlin, in summer
END: Final = datetime(2026, 10, 31, 23, tzinfo=UTC)  # and in winter
TEAMS: Final = ("Ads", "Core", "Data", "Edge", "Maps", "Pay", "Play", "Shop", "Web")
REQUESTS: Final = 60_000
LEAVER: Final = "p017@example.com"
LEFT_ON: Final = date(2026, 10, 16)
OUTAGE: Final = (datetime(2026, 10, 14, 8, 30, tzinfo=UTC), datetime(2026, 10, 14, 12, 2, tzinfo=UTC))
RAISED_AT: Final = datetime(2026, 10, 22, 10, 20, tzinfo=UTC)
STALE: Final = timedelta(minutes=15)
APOLLO: Final = tuple(f"p{n:03}@example.com" for n in range(0, 120, 13))  # whose keys bear the tag

# provider, model: (valid from, input, output) in dollars for a million tokens. Two of them change within the month.
PRICES: Final[dict[tuple[str, str], list[tuple[date, str, str]]]] = {
    ("anthropic", "m-large"): [(date(2026, 1, 1), "5", "25"), (date(2026, 10, 10), "7.5", "37.5")],
    ("anthropic", "m-small"): [(date(2026, 1, 1), "1", "5")],
    ("openai", "g-large"): [(date(2026, 1, 1), "4", "16"), (date(2026, 10, 20), "2", "8")],
}
TOOLS: Final = {"anthropic": "claude-code", "openai": "codex"}


def people_csv() -> str:
    """120 people in nine teams; a lead in each, one of finance, two admins, one who leaves."""
    lines = ["email,name,team,role,joined_on,left_on"]
    for n in range(120):
        email, team = f"p{n:03}@example.com", TEAMS[n % 9]
        role = "lead" if n < 9 else "finance" if n == 9 else "admin" if n in (10, 11) else "engineer"
        left = LEFT_ON.isoformat() if email == LEAVER else ""
        lines.append(f"{email},Person {n},{team},{role},2020-01-06,{left}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Rule:
    """One budget, as the oracle knows it."""

    scope: str
    name: str | None
    period: str
    usd: str
    action: str = "warn"
    grace: int = 0
    thresholds: tuple[int, ...] = (80, 100)

    @property
    def key(self) -> str:
        return "-".join(part for part in (self.scope, self.name, self.period) if part)


def rules() -> list[Rule]:
    """Forty budgets."""
    found = [Rule("company", None, "month", "5200"), Rule("company", None, "week", "1350", thresholds=(90,))]
    for n, (team, usd) in enumerate(zip(TEAMS, (600, 640, 820, 600, 560, 640, 610, 465, 720), strict=True)):
        block = {"action": "block", "grace": 10 * (n % 2)} if n % 3 == 0 else {}
        found.append(Rule("team", team, "month", str(usd), **block))  # type: ignore[arg-type]
        found.append(Rule("team", team, "week", str(usd // 4), thresholds=(95,)))
        found.append(Rule("team", team, "day", str(usd // 22), thresholds=(100,)))
    found += [
        Rule("person", None, "month", "80", "block", 5),
        Rule("person", None, "day", "11", thresholds=(100,)),
        Rule("person", "p020@example.com", "month", "50"),
        Rule("person", "p021@example.com", "month", "30", "block"),
        Rule("person", "p022@example.com", "week", "2", "block"),
        Rule("person", "p023@example.com", "day", "3", "block", thresholds=(50, 100)),
        Rule("model", "m-large", "day", "180", thresholds=(100,)),
        Rule("model", "g-large", "week", "400"),
        Rule("provider", "openai", "month", "1500"),
        Rule("tool", "codex", "week", "390", thresholds=(100,)),
        Rule("tag", "project=apollo", "month", "380", "block"),
    ]
    return found


def budgets_yaml() -> str:
    """The same as policy/ has it."""
    lines = ["budgets:"]
    for rule in rules():
        name = f", name: '{rule.name}'" if rule.name else ""
        grace = f", grace_percent: {rule.grace}" if rule.grace else ""
        lines.append(
            f"  - {{scope: {rule.scope}{name}, period: {rule.period}, amount_usd: {rule.usd}, action: {rule.action}"
            f"{grace}, thresholds: [{', '.join(map(str, rule.thresholds))}]}}"
        )
    return "\n".join(lines) + "\n"


def prices_yaml() -> str:
    """The price list, its changes among it."""
    lines = ["overrides:"]
    for (provider, model), spans in PRICES.items():
        for day, given, taken in spans:
            lines.append(
                f"  - {{provider: {provider}, model: {model}, valid_from: {day}, why: agreed, "
                f"usd_per_million: {{input: {given}, output: {taken}}}}}"
            )
    return "\n".join(lines) + "\n"


def write_policy(folder: Path) -> None:
    """people, budgets, prices and rules into a folder."""
    (folder / "people.csv").write_text(people_csv())
    (folder / "budgets.yaml").write_text(budgets_yaml())
    (folder / "prices.yaml").write_text(prices_yaml())
    (folder / "company.yaml").write_text(
        "time_zone: Europe/Berlin\nalerts: {stale_after_minutes: 15, digests: []}\n"
        "anomalies: {minimum_usd: 1000000, loop_requests_per_minute: 100000}\nkeys: {idle_days: 1000}\n"
    )


@dataclass(frozen=True)
class Request:
    """One request that somebody wants to make."""

    number: int
    at: datetime
    person: str
    team: str
    provider: str
    model: str
    input_tokens: int
    output_tokens: int

    @property
    def tool(self) -> str:
        return TOOLS[self.provider]

    @property
    def key_id(self) -> str:
        return key_id(self.person)

    @property
    def received_at(self) -> datetime:
        """Two seconds later, or when the outage is over."""
        begin, end = OUTAGE
        return end if begin <= self.at < end else self.at + timedelta(seconds=2)

    @property
    def cost_usd(self) -> Decimal:
        spans = [span for span in PRICES[self.provider, self.model] if span[0] <= self.at.date()]
        _, given, taken = spans[-1]
        return (self.input_tokens * Decimal(given) + self.output_tokens * Decimal(taken)) / 1_000_000


def key_id(person: str) -> str:
    return hashlib.sha256(person.encode()).hexdigest()[:12]


def requests(seed: int) -> list[Request]:
    """The month's requests, in the order of time: working hours, and the last 25 minutes of each hour only, so that a
    tick and what is left of one that died fall between them."""
    dice = random.Random(seed)
    hours = [
        FIRST + timedelta(hours=n)
        for n in range(int((END - FIRST) / timedelta(hours=1)))
        for _ in range(20 if (FIRST + timedelta(hours=n)).weekday() < 5 and 6 <= (n - 2) % 24 <= 18 else 1)
    ]
    people = [f"p{n:03}@example.com" for n in range(120)]
    weights = [dice.choice([0.2, 0.5, 1, 1, 1.5, 3]) for _ in people]
    models = list(PRICES)
    found = []
    for _ in range(REQUESTS):
        at = dice.choice(hours) + timedelta(minutes=35, seconds=dice.randrange(24 * 60))
        person = dice.choices(people, weights)[0]
        provider, model = dice.choice(models)
        tokens = (dice.randrange(500, 12_000), dice.randrange(50, 9_000))
        found.append((at, person, provider, model, *tokens))
    found.sort()
    return [
        Request(n, at, person, TEAMS[int(person[1:4]) % 9], provider, model, given, taken)
        for n, (at, person, provider, model, given, taken) in enumerate(found)
    ]


def ticks() -> list[datetime]:
    """Every six hours, and every ten minutes of the first half of each hour around the outage."""
    found = {FIRST + timedelta(hours=n) for n in range(0, int((END - FIRST) / timedelta(hours=1)) + 1, 6)}
    day = datetime(2026, 10, 14, tzinfo=UTC)
    found |= {day + timedelta(hours=h, minutes=m) for h in range(8, 13) for m in (0, 10, 20, 30)}
    return sorted(found)


# What must follow


@dataclass
class Expected:
    """Messages by the name of their delivery without the channel, with whom they go to; and changes of blocks."""

    messages: dict[str, tuple[str, ...]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    blocks: list[tuple[str, str, str, str]] = field(default_factory=list)  # set or lifted, budget, name, period
    refused: set[int] = field(default_factory=set)  # numbers of requests


@dataclass
class Oracle:
    """Walks through the month as the company would by hand."""

    raised_usd: Decimal
    expected: Expected = field(default_factory=Expected)
    wish: dict[str, Any] = field(default_factory=dict)  # the raise, once it is granted

    def __post_init__(self) -> None:
        self._sums: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)  # budget, name, period
        self._blocked: dict[tuple[str, str, str], datetime] = {}  # with the period's end
        self._times: dict[tuple[str, str, str], int] = defaultdict(int)  # blocks so far
        self._extra: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
        self._waiting: list[Request] = []
        self._rules = rules()
        self._named = {(r.period, r.name) for r in self._rules if r.scope == "person" and r.name}
        self._newest = self._sent = FIRST
        self._missing_since: datetime | None = None
        self._told = self._stale = False

    def ask(self, request: Request, gone: bool) -> bool:
        """Whether the request passes; what passes is spent when it has arrived."""
        now = request.at
        for rule, name in self._applicable(request):
            end = self._blocked.get((rule.key, name, _period(rule.period, now)[0]))
            if gone or (end is not None and now < end):
                self.expected.refused.add(request.number)
                return False
        self._waiting.append(request)
        self._sent = now
        return True

    def tick(self, now: datetime) -> None:
        """What a tick at this moment finds, and whom it tells."""
        arrived = [r for r in self._waiting if r.received_at <= now]
        self._waiting = [r for r in self._waiting if r.received_at > now]
        for request in arrived:
            self._newest = max(self._newest, request.received_at)
            for rule, name in self._applicable(request):
                self._sums[rule.key, name, _period(rule.period, request.at)[0]] += request.cost_usd
        if self._late(now):
            return
        for (key, name, period), spent in sorted(self._sums.items()):
            rule = next(r for r in self._rules if r.key == key)
            if _period(rule.period, now)[0] == period:
                self._judge(rule, name, period, spent, now)

    def grant(self, budget: str, person: str, period: str, wish: str) -> None:
        """A lead grants the raise: the block is gone at once, the next tick knows of it."""
        self._extra[budget, person, period] += self.raised_usd
        self._blocked.pop((budget, person, period))
        self._say(f"raise {wish} granted", period, 0, "person", (person,))

    def _late(self, now: datetime) -> bool:
        """Whether what was sent is missing for too long; the operators hear of the beginning and of the end."""
        admins = ("p010@example.com", "p011@example.com")
        if self._newest >= self._sent:
            if self._told and self._missing_since is not None:
                about = f"late data ended {self._missing_since.isoformat()}"
                self._say(about, "operators", 0, "operator", admins, private=False)
            self._missing_since, self._told = None, False
            return False
        if self._missing_since is None or self._newest > self._missing_since:
            self._missing_since, self._told = self._sent, False
        if now - self._missing_since > STALE:
            self._told = True
            about = f"late data {self._missing_since.isoformat()}"
            self._say(about, "operators", 0, "operator", admins, private=False)
            return True
        return False

    def _applicable(self, request: Request) -> Iterator[tuple[Rule, str]]:
        whose = {
            "company": "", "team": request.team, "person": request.person, "model": request.model,
            "provider": request.provider, "tool": request.tool,
        }  # fmt: skip
        for rule in self._rules:
            if rule.scope == "tag":
                if request.person in APOLLO:
                    yield rule, rule.name or ""
            elif rule.scope == "person" and rule.name is None:
                if (rule.period, request.person) not in self._named:
                    yield rule, request.person
            elif whose[rule.scope] == (rule.name or ""):
                yield rule, rule.name or ""

    def _judge(self, rule: Rule, name: str, period: str, spent: Decimal, now: datetime) -> None:
        where = (rule.key, name, period)
        extra = self._extra[where]
        limit = Decimal(rule.usd) + extra
        block_at = 100 + rule.grace if rule.action == "block" else None
        for percent in sorted({*rule.thresholds, *([block_at] if block_at else [])}):
            if spent * 100 >= limit * percent:
                about = f"{rule.key}:{name}" if rule.scope == "person" and rule.name is None else rule.key
                about += f"+{extra}" if extra and percent >= 100 else ""
                self._tell(rule, name, period, percent, about)
        blocked = block_at is not None and spent * 100 >= limit * block_at
        was = self._times[where] > 0 and self.expected.blocks and self._state(where) == "set"
        if blocked and not was:
            self._times[where] += 1
            self.expected.blocks.append(("set", *where))
        if was and not blocked:
            self.expected.blocks.append(("lifted", *where))
            about = f"lifted {rule.key}:{name} {self._times[where]}"
            self._tell(rule, name, period, 0, about)
        if blocked:
            self._blocked[where] = _period(rule.period, now)[1]
        else:
            self._blocked.pop(where, None)

    def _state(self, where: tuple[str, str, str]) -> str:
        return next(state for state, *rest in reversed(self.expected.blocks) if tuple(rest) == where)

    def _tell(self, rule: Rule, name: str, period: str, percent: int, about: str) -> None:
        if rule.scope == "person":
            lead = f"p{int(name[1:4]) % 9:03}@example.com"
            admins = ("p010@example.com", "p011@example.com")
            self._say(about, period, percent, "person", (name,))
            self._say(about, period, percent, "lead", (lead,) if lead != name else admins)
        else:
            told = [f"p{n:03}@example.com" for n in range(10) if n == 9 or (rule.scope == "team" and TEAMS[n] == name)]
            self._say(about, period, percent, "", tuple(told), private=False)

    def _say(
        self, about: str, period: str, percent: int, audience: str, to: tuple[str, ...], *, private: bool = True
    ) -> None:
        name = "|".join([about, period, str(percent), *([audience] if audience else [])])
        self.expected.messages.setdefault(name, to)
        if private:
            self.expected.private.add(name)


def _period(kind: str, at: datetime) -> tuple[str, datetime]:
    """(name, end) of the period in Berlin."""
    day = at.astimezone(BERLIN).date()
    if kind == "day":
        return day.isoformat(), datetime(day.year, day.month, day.day, tzinfo=BERLIN) + timedelta(days=1)
    if kind == "week":
        year, week, weekday = day.isocalendar()
        end = day + timedelta(days=8 - weekday)
        return f"{year}-W{week:02}", datetime(end.year, end.month, end.day, tzinfo=BERLIN)
    end = date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return f"{day:%Y-%m}", datetime(end.year, end.month, end.day, tzinfo=BERLIN)
