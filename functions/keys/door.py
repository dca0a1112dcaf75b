"""Behind the door: who asks, whether it was asked before, and what the desk answers."""

from __future__ import annotations

import hashlib
import logging
from datetime import date, datetime
from functools import cached_property
from pathlib import Path

from governance.policy import PEOPLE, Person, PolicyError, admins, read_people
from governance.registry import Conflict, Registry, open_registry
from governance.settings import KeysSettings

from .desk import HELP, Desk
from .slack import Slack

REQUESTS = "slack_requests"  # of the registry: what was answered, so that nothing is answered twice
log = logging.getLogger(__name__)


class Roster:
    """people.csv, read again when it changes. While a new version has a fault, the version before it holds."""

    def __init__(self, path: Path) -> None:
        self._path, self._read_at, self._people = path, (0, 0), tuple[Person, ...]()

    def people(self) -> tuple[Person, ...]:
        """Everybody, leavers included. Raises PolicyError when no version could be read yet."""
        try:
            stat = self._path.stat()
            if (stat.st_mtime_ns, stat.st_size) != self._read_at:
                self._people, self._read_at = read_people(self._path), (stat.st_mtime_ns, stat.st_size)
        except (OSError, PolicyError) as error:
            if not self._people:
                raise PolicyError(self._path.name, getattr(error, "line", 1), "cannot be read") from None
            log.error("the people are those of an earlier version", extra={"reason": str(error)})
        return self._people

    def find(self, email: str | None, today: date) -> Person | None:
        """The person with this e-mail, when here today."""
        return next((p for p in self.people() if p.email == email and p.is_here(today)), None)

    def whom_to_ask(self, today: date) -> str:
        """Whom somebody without access is sent to."""
        return " or ".join(admins(self.people(), today)) or "the people who run Tally"


class Door:
    """What one process keeps between requests. The registry is opened with the first request that is believed."""

    def __init__(self, settings: KeysSettings) -> None:
        self.settings = settings
        self.slack = Slack(settings.slack_api_url, settings.slack_bot_token, settings.slack_team_id)
        self.roster = Roster(settings.policy_dir / PEOPLE)

    @cached_property
    def registry(self) -> Registry:
        """The registry of the settings, opened once."""
        return open_registry(self.settings.registry)

    def is_first(self, name: str, now: datetime) -> bool:
        """Whether nobody has asked under this name before, at any instance. Raises RegistryError."""
        try:
            self.registry.put(REQUESTS, hashlib.sha256(name.encode()).hexdigest(), {"at": now.isoformat()})
        except Conflict:
            return False
        return True

    def answer(self, form: dict[str, str], now: datetime) -> str:
        """The text for the person who sent the form. Raises RegistryError, Conflict, SlackError, PolicyError."""
        words = form.get("text", "").strip()
        if words in ("", "help"):
            return HELP
        person = self.roster.find(self.slack.email_of(form.get("user_id", "")), now.date())
        if person is None:
            return f"Tally does not know you under your Slack e-mail. Please ask {self.roster.whom_to_ask(now.date())}."
        s = self.settings
        return Desk(self.registry, s.key_pepper, s.proxy_url, s.key_days, s.keys_per_person).answer(person, words, now)
