"""Behind the door: what one process keeps between requests, who asks, and whether it was asked before."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Final, Generic, TypeVar

from governance.audit import Entry, record
from governance.company import Company, read_company
from governance.people import PEOPLE, Person, admins, read_people
from governance.policy_csv import PolicyError
from governance.registry import ANY, Conflict, Registry, RegistryError, open_registry
from governance.settings import KeysSettings

from . import approvals
from .answers import Asked, Decided
from .desk import Desk
from .office import Office
from .slack import Slack

REQUESTS: Final = "slack_requests"  # of the registry: what was answered; the alerts function drops what is a day old
T = TypeVar("T")
log = logging.getLogger(__name__)


class File(Generic[T]):
    """A file of the policy, read again when it changes. While a new version has a fault, the one before it holds."""

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self._path, self._read = path, read
        self._held: tuple[tuple[int, int], T] | None = None

    def content(self) -> T:
        """What the file says. Raises PolicyError when no version could be read yet."""
        held = self._held
        try:
            version = self._version()
            if held is None or held[0] != version:
                held = self._held = (version, self._read(self._path))
        except (OSError, PolicyError) as error:
            if held is None:
                raise PolicyError(self._path.name, getattr(error, "line", 1), "cannot be read") from None
            log.error("an earlier version of the policy holds", extra={"reason": str(error)})
        return held[1]

    def _version(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_size


class Door:
    """The registry is opened with the first request that is believed."""

    def __init__(self, settings: KeysSettings) -> None:
        self.settings = settings
        self.slack = (
            Slack(settings.slack_api_url, settings.slack_bot_token, settings.slack_team_id)
            if settings.slack_bot_token and settings.slack_team_id
            else None
        )
        self._people: File[tuple[Person, ...]] = File(settings.policy_dir / PEOPLE, read_people)
        self._company: File[Company] = File(settings.policy_dir / "company.yaml", read_company)

    @cached_property
    def registry(self) -> Registry:
        """The registry of the settings, opened once."""
        return open_registry(self.settings.registry)

    def find(self, email: str | None, today: date) -> Person | None:
        """The person with this e-mail, when here today. Raises PolicyError."""
        return next((p for p in self._people.content() if p.email == email and p.is_here(today)), None)

    def whom_to_ask(self, today: date) -> str:
        """Whom somebody without access is sent to."""
        return " or ".join(admins(self._people.content(), today)) or "the people who run Tally"

    def office(self, now: datetime, ends: float) -> Office:
        """Who answers a request that has to be over at `ends`, by the monotonic clock. Raises PolicyError."""
        company, people = self._company.content(), self._people.content()
        s = self.settings
        desk = Desk(self.registry, s.key_pepper, s.proxy_url.rstrip("/"), company, self._note)
        slack, registry = self.slack, self.registry

        def tell_deciders(asked: Asked) -> bool:
            return slack is not None and approvals.tell_deciders(slack, registry, asked, ends - time.monotonic())

        def tell_asker(decided: Decided) -> None:
            if slack is not None:
                approvals.tell_asker(slack, registry, decided)

        return Office(desk, people, self.whom_to_ask(now.date()), tell_deciders, tell_asker)

    def _note(self, entry: Entry) -> None:
        """Write an entry of the audit log: what is done is done, so what the registry does not take goes to the log."""
        try:
            record(self.registry, entry)
        except (RegistryError, Conflict) as error:
            log.error("an audit entry was not taken", extra={"entry": asdict(entry), "reason": str(error)})

    def is_first(self, name: str, now: datetime) -> bool:
        """Whether nobody has asked under this name before, at any instance. Raises RegistryError."""
        try:
            self.registry.put(REQUESTS, _digest(name), {"at": now.isoformat()})
        except Conflict:
            return False
        return True

    def forget(self, name: str) -> None:
        """Let it be asked again: it came to nothing. Raises RegistryError."""
        self.registry.delete(REQUESTS, _digest(name), ANY)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
