"""The outbox: each message leaves once by each channel, however often and however parallel it is put here.

A message is claimed in the registry before it is sent and marked after. Whoever dies in between leaves the claim, and
when it is old enough somebody else sends: at least once, and each further time later than the last.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from governance.messages import Channel, DeliveryError, Message
from governance.registry import Conflict, Document, Registry

SENT = "alerts"  # of the registry
LEASE = timedelta(minutes=4)  # longer than the slowest channel takes for one message
FIRST_RETRY, LAST_RETRY = timedelta(minutes=1), timedelta(hours=1)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """One message by one channel. What it is about, period, threshold and channel name it for ever."""

    about: str
    period: str
    threshold: int
    channel: Channel
    message: Message

    @property
    def id(self) -> str:
        """The name of this delivery in the registry."""
        return f"{self.about}|{self.period}|{self.threshold}|{self.channel.name}"


@dataclass(frozen=True)
class Due:
    """A delivery that wants sending, with what the registry says of earlier attempts."""

    delivery: Delivery
    attempts: int
    version: str | None


class Outbox:
    """Sends what is due. `clock` gives the time in UTC; it is read anew for each message, since sending takes time."""

    def __init__(self, registry: Registry, clock: Callable[[], datetime]) -> None:
        self._registry, self._clock = registry, clock

    def due(self, period: str, deliveries: Iterable[Delivery]) -> list[Due]:
        """Those of `deliveries`, all of one period, that were not sent and are not under way. Raises RegistryError.

        New ones come first: what failed before must not keep them waiting behind a broken channel.
        """
        known = {document.id: document for document in self._registry.find(SENT, period=period)}
        due = []
        for delivery in deliveries:
            document = known.get(delivery.id)
            if document is None:
                due.append(Due(delivery, 0, None))
            elif document.fields["state"] != "sent" and self._clock() >= _next_at(document):
                due.append(Due(delivery, document.fields["attempts"], document.version))
        return sorted(due, key=lambda item: item.attempts)

    def send(self, due: Iterable[Due]) -> Counter[str]:
        """Send what can be claimed; how many were sent, failed, waiting (their channel just failed) or elsewhere.

        Raises RegistryError; a message that was sent by then may be sent again, once its claim is old.
        """
        outcome: Counter[str] = Counter()
        broken: set[str] = set()
        for item in due:
            channel = item.delivery.channel
            if channel.name in broken:
                outcome["waiting"] += 1
                continue
            try:
                version = self._note(item, "sending", item.version)
            except Conflict:
                outcome["elsewhere"] += 1
                continue
            try:
                channel.send(item.delivery.message)
            except DeliveryError as error:
                broken.add(channel.name)
                self._mark(item, "failed", version, outcome)
                log.error("an alert was not delivered", extra={"alert": item.delivery.id, "reason": str(error)})
            else:
                self._mark(item, "sent", version, outcome)
                log.info("an alert was delivered", extra={"alert": item.delivery.id})
        return outcome

    def _mark(self, item: Due, state: str, version: str, outcome: Counter[str]) -> None:
        outcome[state] += 1
        try:
            self._note(item, state, version)
        except Conflict:  # so slow that the claim grew old: another tick has it now, and will mark it
            log.warning("an alert was claimed twice", extra={"alert": item.delivery.id})

    def _note(self, item: Due, state: str, version: str | None) -> str:
        delivery = item.delivery
        fields: dict[str, Any] = {
            "about": delivery.about,
            "period": delivery.period,
            "threshold": delivery.threshold,
            "channel": delivery.channel.name,
            "state": state,
            "attempts": item.attempts + 1,
            "at": self._clock().isoformat(),
        }
        return self._registry.put(SENT, delivery.id, fields, version)


def _next_at(document: Document) -> datetime:
    """When a delivery that failed, or whose sender never came back, may be tried again."""
    at, earlier = datetime.fromisoformat(document.fields["at"]), document.fields["attempts"] - 1
    pause: timedelta = min(FIRST_RETRY * 2 ** min(earlier, 10), LAST_RETRY)
    return at + (max(pause, LEASE) if document.fields["state"] == "sending" else pause)
