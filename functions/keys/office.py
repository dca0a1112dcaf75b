"""The verbs: one place where what is asked, in Slack or as JSON, is handed to whoever answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from governance import connecting
from governance.people import Person

from . import money, services, terms
from .answers import Answer, Asked, Connected, Decided, Helped
from .desk import Desk, Request
from .terms import KEY_ID, Refused

# Verbs that change nothing; every other one must be meant.
READING: Final = frozenset({"help", "list", "usage", "connect", "raises", "service/list", "idle"})
VERBS: Final = READING | {"issue", "rotate", "revoke", "raise", "approve", "refuse", "service/issue"}


@dataclass(frozen=True)
class Office:
    """Answers one verb for one person. `tell_deciders` says whether one at least was told; both are best effort."""

    desk: Desk
    people: tuple[Person, ...]
    whom_to_ask: str
    tell_deciders: Callable[[Asked], bool]
    tell_asker: Callable[[Decided], None]

    def answer(self, asked: Request, verb: str, given: Mapping[str, str]) -> Answer:
        """What came of it. Raises Refused, RegistryError."""
        desk = self.desk
        match verb:
            case "help":
                return Helped(asked.person.email, asked.is_admin)
            case "issue":
                terms.only(given, "name", "expiry")
                return desk.issue(asked, given.get("name") or None, given.get("expiry") or None)
            case "list":
                terms.only(given)
                return desk.listed(asked)
            case "rotate":
                terms.only(given, "which")
                return desk.rotate(asked, given.get("which") or None)
            case "revoke":
                terms.only(given, needs=("which",))
                return self._revoke(asked, given["which"])
            case "usage":
                terms.only(given)
                return money.usage(desk, asked)
            case "raise":
                terms.only(given, "reason", "budget", needs=("dollars",))
                return self._raise(asked, given)
            case "raises":
                terms.only(given)
                return money.waiting(desk, asked, self.people)
            case "approve" | "refuse":
                terms.only(given, needs=("id",))
                decided = money.decide(desk, asked, given["id"], verb == "approve", self.people)
                self.tell_asker(decided)
                return decided
            case "connect":
                terms.only(given, needs=("agent",))
                return self._connect(given["agent"])
        return self._for_admins(asked, verb, given)

    def _for_admins(self, asked: Request, verb: str, given: Mapping[str, str]) -> Answer:
        if verb not in VERBS:
            raise Refused("There is no such verb.", 404)
        services.require_admin(asked, self.whom_to_ask)
        match verb:
            case "service/issue":
                here = {person.email: person for person in self.people if person.is_here(asked.now.date())}
                return services.issue(self.desk, asked, given, here)
            case "service/list":
                terms.only(given)
                return services.listed(self.desk, asked)
        terms.only(given)
        return services.idle(self.desk, asked)

    def _revoke(self, asked: Request, which: str) -> Answer:
        try:
            return self.desk.revoke(asked, which)
        except Refused as refusal:
            if refusal.status != 404 or not asked.is_admin or not KEY_ID.fullmatch(which):
                raise
        return services.revoke(self.desk, asked, which)

    def _raise(self, asked: Request, given: Mapping[str, str]) -> Answer:
        reason, budget = given.get("reason", ""), given.get("budget", "")
        wish = money.ask(self.desk, asked, given["dollars"], reason, self.people, budget)
        return Asked(wish.wish, wish.deciders, self.tell_deciders(wish))

    def _connect(self, agent: str) -> Connected:
        try:
            return Connected(connecting.connection(agent, self.desk.proxy_url))
        except connecting.UnknownAgent as error:
            raise Refused(f"No lines for that one; {error}.", 404) from None
