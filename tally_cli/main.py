"""The commands of `tally`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from governance.connecting import AGENTS
from tally_cli import configuration, printed
from tally_cli.configuration import NotConfigured
from tally_cli.endpoint import Failed, call

_POWERS = {
    "owner": "e-mail of the person who answers for it",
    "team": "the team that pays; the owner's unless given",
    "models": "what it may call: claude-*,gpt-5-mini",
    "rpm": "requests per minute",
    "tpm": "tokens per minute",
    "budget": "its own: 50/month, 20/week or 5/day",
    "project": "a tag",
    "cost_centre": "a tag",
    "expiry": "30d, or its last day as 2027-01-31",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tally",
        description="Your keys to the models, and what you may spend. Start with: tally login --url https://…",
        epilog="Who you are says gcloud (gcloud auth login), or TALLY_TOKEN.",
    )
    parser.add_argument("--json", action="store_true", help="the answer as JSON, for programs")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, help: str, **about: Any) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help, **about)
        made.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        return made

    login = command("login", "say where Tally is; kept for the next time")
    login.add_argument("--url", required=True, help="address of the keys function")
    login.add_argument("--audience", default="", help="what gcloud makes the token for (service accounts alone)")
    login.add_argument("--token-url", default="", help="where a Tally on this machine gives tokens away")
    issue = command("issue", "a new key, shown once")
    issue.add_argument("name", nargs="?", help="one word, such as laptop")
    issue.add_argument("--expiry", help=_POWERS["expiry"])
    rotate = command("rotate", "a new key at once; the old one lives on for a while")
    rotate.add_argument("which", nargs="?", help="name or id; may be left out with one key")
    for each in (issue, rotate):
        each.add_argument("--agent", action="append", choices=AGENTS, help="lines for this one; may be repeated")
    command("list", "your keys")
    command("revoke", "stop a key within seconds").add_argument("which", help="name or id; admins: any id")
    command("usage", "what you have spent and have left")
    more = command("raise", "ask for more of a budget until its period ends")
    more.add_argument("dollars", help="how much more")
    more.add_argument("reason", nargs="*", help="why")
    more.add_argument("--budget", help="which one, as in `usage`; the tightest unless given")
    command("connect", "the lines to paste for an agent").add_argument("agent", choices=AGENTS, metavar="agent")
    command("raises", "the raises that wait for you")
    command("approve", "grant a raise").add_argument("id", help="of the raise")
    command("refuse", "refuse a raise").add_argument("id", help="of the raise")
    service = command("service", "keys of services, for admins").add_subparsers(dest="act", required=True)
    made = service.add_parser("issue", help="a key for a service")
    made.add_argument("name", help="one word, such as nightly-review")
    for power, help in _POWERS.items():
        made.add_argument(f"--{power.replace('_', '-')}", help=help, required=power == "owner")
    listed = service.add_parser("list", help="all of them")
    for each in (made, listed):
        each.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    command("idle", "keys that nobody uses, for admins")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command. The exit status: 0 well, 1 Tally refused or cannot be reached, 2 it could not be asked."""
    given = _given(argv)
    try:
        if given.command == "login":
            return _login(given)
        verb = f"service/{given.act}" if given.command == "service" else str(given.command)
        answer = call(configuration.read(), verb, _arguments(given))
    except NotConfigured as error:
        print(f"tally: {error}", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"tally: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer, indent=2) if given.json else _PRINTED[verb](answer, given))
    return 0


def _given(argv: list[str] | None) -> argparse.Namespace:
    """The words of a reason may stand on both sides of an option: argparse itself takes those of one side."""
    parser = _parser()
    given, left = parser.parse_known_args(argv)
    if left and (given.command != "raise" or any(word.startswith("-") for word in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        given.reason += left
    return given


def _login(given: argparse.Namespace) -> int:
    made = configuration.named(given.url, given.audience, given.token_url)
    answer = call(made, "help", {})
    file = configuration.path()
    configuration.write(made, file)
    print(f"You are {answer['person']}. Kept in {file}.")
    return 0


def _arguments(given: argparse.Namespace) -> dict[str, str]:
    """What goes to the endpoint, by its names."""
    named = ("name", "expiry", "which", "dollars", "budget", "agent", "id", *_POWERS)
    found = {name: getattr(given, name, None) for name in named}
    if given.command in ("issue", "rotate"):
        found["agent"] = None  # the lines are made here: the key does not travel again
    if given.command == "raise":
        found["reason"] = " ".join(given.reason)
    return {name: str(value) for name, value in found.items() if value}


def _agents(given: argparse.Namespace) -> list[str]:
    return given.agent or ["claude-code", "codex"]


_PRINTED: dict[str, Callable[[dict[str, Any], argparse.Namespace], str]] = {
    "issue": lambda answer, given: printed.issued(answer, _agents(given)),
    "rotate": lambda answer, given: printed.issued(answer, _agents(given)),
    "list": lambda answer, _: printed.keys(answer, "You have no keys. `tally issue` gives you one."),
    "revoke": lambda answer, _: printed.revoked(answer),
    "usage": lambda answer, _: printed.usage(answer),
    "raise": lambda answer, _: printed.asked(answer),
    "raises": lambda answer, _: printed.waiting(answer),
    "approve": lambda answer, _: printed.decided(answer),
    "refuse": lambda answer, _: printed.decided(answer),
    "connect": lambda answer, _: printed.connected(printed.connection_of(answer)),
    "service/issue": lambda answer, _: printed.issued(answer, []),
    "service/list": lambda answer, _: printed.keys(answer, "No service has a key."),
    "idle": lambda answer, _: printed.idle(answer),
}
