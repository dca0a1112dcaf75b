"""Start one Tally, tell whoever started it how to use it, and keep it until a signal or until a part of it ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp
import requests
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from governance.keys import key_hash, key_id
from governance.policy import Person, Policy, read_policy
from governance.warehouse import Warehouse, open_warehouse
from local.company import DAYS, SERVICES, key_terms
from local.home import ROOT, Home, Kind
from local.ledger import list_prices, prices_of
from local.newcomer import with_person
from local.services import ServiceFailed, Services, first_failure
from local.stack import ADMIN_SETTINGS, DASHBOARD_PORT, PROVIDER_KEYS, PROXY_PORT, Ports, Stack, clean_environment

FIRST_TICK_S: Final = 60.0  # the first tick loads prices and people; a page drawn before it would show no dollars
BILLS_EVERY_S: Final = 600.0
HEAVY_TEAM: Final = "Platform"


class CannotStart(Exception):
    """Something is missing. The message says what, and what to do."""


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    kind: Kind
    proxy_port: int = PROXY_PORT
    dashboard_port: int = DASHBOARD_PORT
    policy: Path = ROOT / "policy"
    history: bool = True
    traffic_per_minute: float = 30.0
    tick_s: float = 60.0
    echo: bool = False
    person: str | None = None
    env_file: Path | None = None  # None: the simulated provider needs no keys


def read_env_file(path: Path) -> dict[str, str]:
    """NAME=value lines; quotes around a value and `export` before a name are taken off."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            found[name.strip()] = value.strip().strip("'\"")
    return found


def _someone(policy: Policy, wished: str | None) -> Person:
    today = datetime.now(UTC).date()
    here = [person for person in policy.people if person.is_here(today)]
    if wished is not None:
        for person in here:
            if person.email == wished.lower():
                return person
        raise CannotStart(f"{wished} is nobody in people.csv who is here today")
    usual = [person for person in here if person.team == HEAVY_TEAM and person.role == "engineer"]
    if not here:
        raise CannotStart("nobody in people.csv is here today")
    return (usual or here)[0]


def _myself(policy: Policy, wished: str | None) -> Person:
    """Whoever runs `up`: as told, or as git knows her; with the team from people.csv, where she stands in it."""
    git = ["git", "config", "user.email"]
    told = wished or subprocess.run(git, cwd=ROOT, text=True, capture_output=True, check=False).stdout
    email = told.strip().lower()
    if "@" not in email:
        raise CannotStart("who are you? Set TALLY_PERSON=you@company.com, or git config user.email")
    known = [person for person in policy.people if person.email == email]
    return known[0] if known else Person(email=email, name=email, team="Local", role="engineer", joined_on="2000-01-01")


def _provider_keys(file: Path) -> dict[str, str]:
    found = {name: value for name, value in read_env_file(file).items() if name in PROVIDER_KEYS and value}
    if not found:
        raise CannotStart(f"no provider key in {file}; write a line for one or more of {', '.join(PROVIDER_KEYS)}")
    return found


def _admin_settings(file: Path) -> dict[str, str]:
    """What the bills function is told, where there is an admin key for it to read with."""
    found = {name: value for name, value in read_env_file(file).items() if name in ADMIN_SETTINGS and value}
    return found if any(name.endswith("_ADMIN_KEY") for name in found) else {}


async def _tick(http: aiohttp.ClientSession, url: str) -> str | None:
    """One tick of the scheduler: a POST to a function. What went wrong, or None."""
    try:
        async with http.post(url, json={}) as answer:
            # 503: it will be done later, such as telling people of a budget when newer data is there.
            return None if answer.status in (200, 503) else f"answered {answer.status}"
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"not answered: {type(error).__name__}"


def _loaded(warehouse: Warehouse) -> bool:
    counts = "SELECT (SELECT COUNT(*) FROM tally.prices) AS prices, (SELECT COUNT(*) FROM tally.people) AS people"
    return all(warehouse.query(counts)[0].values())


async def _tick_on(
    http: aiohttp.ClientSession, name: str, url: str, every_s: float, screen: Console, first: bool = False
) -> None:
    """The scheduler of one function, from the first or second tick on. It says once when one goes wrong."""
    before = None
    while True:
        if not first:
            await asyncio.sleep(every_s)
        first = False
        wrong = await _tick(http, url)
        if wrong is not None and wrong != before:
            screen.print(f"[yellow]The scheduler's tick was {wrong}; see {name}.log")
        before = wrong


class Launch:
    """One start, from the first process to the last."""

    def __init__(self, options: Options, home: Home, screen: Console) -> None:
        self.options, self.home, self.screen = options, home, screen
        self.policy = read_policy(options.policy)
        keys = _provider_keys(options.env_file) if options.env_file else {}
        whose = options.person or (read_env_file(options.env_file).get("TALLY_PERSON") if options.env_file else None)
        self.person = (_someone if options.kind == "demo" else _myself)(self.policy, whose or None)
        folder = options.policy
        if self.policy.person(self.person.email) is None:
            folder = with_person(options.policy, self.person, home.data / "policy")
            self.policy = read_policy(folder)
        ports = Ports.choose(options.proxy_port, options.dashboard_port)
        for what, wished, got in (
            ("gateway", options.proxy_port, ports.proxy),
            ("dashboard", options.dashboard_port, ports.dashboard),
        ):
            if got != wished:
                screen.print(f"[yellow]Port {wished} is taken; the {what} is on {got} instead.")
        traffic = options.traffic_per_minute if options.kind == "demo" else 0.0
        admin = _admin_settings(options.env_file) if options.env_file else {}
        secrets = self.home.secrets()
        self.stack = Stack(self.home, ports, secrets, folder, self.person.email, keys, traffic, admin)

    async def run(self) -> None:
        """Start, tell, wait. Returns after a signal; raises ServiceFailed when a service ends by itself."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(sign, stopped.set)
        begun = time.monotonic()
        environment = clean_environment(offline=self.stack.simulated)
        services = Services(self.stack.services(), ROOT, self.home.logs, environment, self.options.echo)
        async with services:
            work = asyncio.create_task(self._serve(services, begun))
            signalled = asyncio.create_task(stopped.wait())
            await asyncio.wait({work, signalled}, return_when=asyncio.FIRST_COMPLETED)
            for task in (work, signalled):
                task.cancel()
            self.home.forget_run()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            self.screen.print("\nStopping …")
        self.screen.print("Stopped. What was recorded stays in " + str(self.home.data))

    async def _serve(self, services: Services, begun: float) -> None:
        people: Sequence[Person] = self.policy.people if self.options.kind == "demo" else [self.person]
        named: Mapping[str, str] = SERVICES if self.options.kind == "demo" else {}
        now = datetime.now(UTC)
        terms = key_terms(people, now.date() - timedelta(days=DAYS), now) if self.options.history else {}
        keys = self.home.keys_of(people, named, self.stack.secrets.key_pepper, terms)
        columns = (TextColumn("{task.description:<9}"), BarColumn(30), TextColumn("{task.fields[note]}"))
        alerts = self.stack.ports.url("alerts")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FIRST_TICK_S)) as http:
            with first_failure(), Progress(*columns, TimeElapsedColumn(), console=self.screen, transient=True) as bars:
                starting = bars.add_task("Services", total=len(self.stack.services()), note="")
                async with asyncio.TaskGroup() as group:
                    group.create_task(services.start(lambda name, _: bars.update(starting, advance=1, note=name)))
                    group.create_task(self._fill(services, keys, bars, http, alerts))
            self.home.write_run(self.stack.run(keys[self.person.email]))
            self._tell(keys[self.person.email], time.monotonic() - begun)
            ticking = [asyncio.create_task(_tick_on(http, "alerts", alerts, self.options.tick_s, self.screen))]
            if self.stack.reads_bills:
                bills = self.stack.ports.url("bills")
                reading = _tick_on(http, "bills", bills, BILLS_EVERY_S, self.screen, first=True)
                ticking.append(asyncio.create_task(reading))
            try:
                await services.until_one_ends()
            finally:
                for task in ticking:
                    task.cancel()

    async def _fill(
        self, services: Services, keys: Mapping[str, str], bars: Progress, http: aiohttp.ClientSession, alerts: str
    ) -> None:
        """The past into the warehouse, then prices and people, which the alerts function loads with its first tick."""
        await services.ready("warehouse")
        warehouse = open_warehouse(self.stack.ports.url("warehouse"))
        if self.options.history:
            await services.ready("provider")
            await self._seed(warehouse, keys, bars)
        await services.ready("alerts")
        deadline = time.monotonic() + FIRST_TICK_S
        while (wrong := await _tick(http, alerts)) or not await asyncio.to_thread(_loaded, warehouse):
            if time.monotonic() > deadline:
                raise services.failure("alerts", f"did not load prices and people: {wrong or 'a table is empty'}")
            await asyncio.sleep(0.5)

    async def _seed(self, warehouse: Warehouse, keys: Mapping[str, str], bars: Progress) -> None:
        from local.billed_history import bill_rows
        from local.history import Row, seed

        pepper, bar = self.stack.secrets.key_pepper, bars.add_task("History", total=None, note="")
        ids = {name: key_id(key_hash(key, pepper)) for name, key in keys.items()}

        def told(done: int, days: int) -> None:
            bars.update(bar, completed=done, total=days, note=f"{done} of {days} days")

        paid = prices_of("contract", self.policy.contract)

        def bill(events: list[Row]) -> None:
            url = self.stack.ports.url("provider") + "/bill"
            requests.post(url, json=bill_rows(events, paid), timeout=60).raise_for_status()

        now = datetime.now(UTC)
        rows = await asyncio.to_thread(seed, warehouse, self.policy.people, ids, now, list_prices, told, bill)
        if rows:
            self.screen.print(f"History: {rows:,} requests of the synthetic company were added.")

    def _tell(self, key: str, seconds: float) -> None:
        run = self.stack.run(key)
        proxy, dashboard = run["proxy_url"], run["dashboard_url"]
        provider = (
            f'model_providers.tally={{name="Tally",base_url="{proxy}/v1",env_key="TALLY_KEY",wire_api="responses"}}'
        )
        say = self.screen.print
        say(f"\n[bold]Tally is running[/] (after {seconds:.1f} s)\n")
        say(f"  Dashboard   [link={dashboard}]{dashboard}[/]")
        say(f"  My usage    {dashboard}/my_usage   as [bold]{escape(self.person.name)}[/], {self.person.team}")
        say(f"  Gateway     {proxy}")
        if self.stack.simulated:
            say(f"  Provider    {run['provider_url']}   simulated; its own bill: {run['provider_url']}/bill")
        say(f"  Messages    {run['inbox_url']}   what Tally says by Slack and e-mail")
        say(f"  Your key    [bold]{key}[/]")
        say("")
        say("[bold]Your own keys and budgets[/], in another terminal:\n")
        tally = f"TALLY_URL={run['keys_url']} TALLY_TOKEN_URL={run['token_url']} .venv/bin/python -m tally_cli usage"
        self.screen.out(f"{tally}\n", highlight=False)
        say("[bold]Claude Code[/], in another terminal:\n")
        self.screen.out(f"ANTHROPIC_BASE_URL={proxy} ANTHROPIC_AUTH_TOKEN={key} claude\n", highlight=False)
        say("[bold]Codex[/]:\n")
        self.screen.out(f"TALLY_KEY={key} codex -c model_provider=tally -c '{provider}'\n", highlight=False)
        say(
            "Ask something; seconds later it stands in My usage. "
            + ("Answers are simulated, and cost nothing." if self.stack.simulated else "Requests cost real money.")
        )
        say(f"Logs: {self.home.logs}. [bold]Ctrl-C[/] stops everything.")


def launch(options: Options) -> int:
    """Run until stopped. The exit status: 0 after a signal, 1 when something failed."""
    screen = Console(highlight=False, soft_wrap=True)
    try:
        home = Home(options.kind)
        with home.held():
            asyncio.run(Launch(options, home, screen).run())
    except ServiceFailed as failure:
        screen.print(f"[red bold]Tally stopped:[/] {escape(str(failure))}")
        return 1
    return 0
