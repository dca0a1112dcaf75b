"""The outbox: each message leaves once by each channel, however often and however parallel it is put here.

A message is claimed in the registry before it is sent and marked after. Whoever dies in between leaves the claim, and
when it is old enough somebody else sends: at least once, and each further time later than the last.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from governance.messages import Channel, DeliveryError, Message, Unreachable
from governance.registry import Conflict, Document, Registry

from . import delivered

SENT = "alerts"  # of the registry
LEASE = timedelta(minutes=4)  # longer than the slowest channel takes for one message
FIRST_RETRY, LAST_RETRY = timedelta(minutes=1), timedelta(hours=1)
UNREACHABLE_RETRY = timedelta(hours=3)  # somebody may have joined by then; sooner would only use up the channel's rate
PATIENCE = timedelta(minutes=2)  # what is left after so long is the next tick's: a function has its time limit
FEW = 20  # deliveries that are asked for one by one
PERIODS = 16  # that a process remembers; a day, a week, a month and `ever` are asked for in one tick
_SENT: WeakKeyDictionary[Registry, OrderedDict[str, set[str]]] = WeakKeyDictionary()
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """One message by one channel. What it is about, period, threshold, audience and channel name it for ever."""

    about: str
    period: str
    threshold: int
    channel: Channel
    message: Message

    @property
    def id(self) -> str:
        """The name of this delivery in the registry."""
        audience = f"{self.message.audience}|" if self.message.audience else ""
        return f"{self.about}|{self.period}|{self.threshold}|{audience}{self.channel.name}"

    @property
    def digest(self) -> str:
        """The same for receivers and for the warehouse: as stable, and without a person's address."""
        return hashlib.sha256(self.id.encode()).hexdigest()[:32]

    @property
    def log_name(self) -> str:
        """The same for the log, where people have no addresses."""
        return re.sub(r"(?:(?<=[|\s])|^)([a-z_]+-)?[^\s|]*@[^\s|]*", r"\1…", self.id)

    @property
    def audience_kind(self) -> str:
        """person, lead, operator, …; all where the message is for everybody told of it."""
        return self.message.audience.partition(":")[0].partition("@")[0] or "all"


@dataclass(frozen=True)
class Due:
    """A delivery that wants sending, with what the registry says of earlier attempts."""

    delivery: Delivery
    attempts: int
    version: str | None
    reached: tuple[str, ...] = ()  # digests of the addresses that have it already

    @property
    def message(self) -> Message:
        """What is left to say, and to whom."""
        said, to = self.delivery.message, self.delivery.message.to
        left = tuple(address for address in to if _digest(address) not in self.reached)
        return replace(said, to=left, id=self.delivery.digest, about=self.delivery.about)


def by_channel(
    about: str, period: str, threshold: int, message: Message, channels: Sequence[Channel]
) -> list[Delivery]:
    """A delivery for each channel that may have the message: a private one only those that can tell a person alone."""
    able = [channel for channel in channels if channel.private_too or not message.private]
    if not able and message.private:
        _say_nobody_can(tuple(channel.name for channel in channels))
    return [Delivery(about, period, threshold, channel, message) for channel in able]


@cache  # once for each process, not with every tick
def _say_nobody_can(channels: tuple[str, ...]) -> None:
    log.error(
        "no channel can tell a person alone, so people are not told; set TALLY_SLACK_BOT_TOKEN or TALLY_SMTP_URL",
        extra={"channels": list(channels)},
    )


class Outbox:
    """Sends what is due. `clock` gives the time in UTC; it is read anew for each message, since sending takes time."""

    def __init__(self, registry: Registry, clock: Callable[[], datetime]) -> None:
        self._registry, self._clock = registry, clock

    def due(self, deliveries: Iterable[Delivery]) -> list[Due]:
        """Those of `deliveries` that were not sent and are not under way, in the order of sending.

        Raises RegistryError. New ones come first: what failed before must not keep them waiting behind a broken
        channel. Among them a person hears of it before the lead does, and both before everybody.
        """
        by_period: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            if delivery.id not in self._sent_in(delivery.period):
                by_period.setdefault(delivery.period, []).append(delivery)
        due, now = [], self._clock()
        for period, wanted in by_period.items():
            known = self._known(period, wanted)
            for delivery in wanted:
                document = known.get(delivery.id)
                if document is None:
                    due.append(Due(delivery, 0, None))
                elif document.fields["state"] != "sent" and now >= _next_at(document):
                    fields = document.fields
                    due.append(Due(delivery, fields["attempts"], document.version, tuple(fields.get("reached", ()))))
        return sorted(due, key=_turn)

    def _known(self, period: str, wanted: Sequence[Delivery]) -> dict[str, Document]:
        """What the registry has of them: a few are asked for one by one, many with one query for the period."""
        if len(wanted) <= FEW:
            found = [document for d in wanted if (document := self._registry.get(SENT, d.id)) is not None]
        else:
            found = self._registry.find(SENT, period=period)
        self._sent_in(period).update(document.id for document in found if document.fields["state"] == "sent")
        return {document.id: document for document in found}

    def _sent_in(self, period: str) -> set[str]:
        """Ids of deliveries of the period that this process knows to be sent: they stay so, and are not asked for."""
        known = _SENT.setdefault(self._registry, OrderedDict())
        sent = known.setdefault(period, set())
        known.move_to_end(period)
        while len(known) > PERIODS:
            known.popitem(last=False)
        return sent

    def send(self, due: Iterable[Due]) -> Counter[str]:
        """Send what can be claimed; how many were sent, failed, unreachable, waiting or elsewhere.

        What waits does so because its channel has just failed, or because the time is up. Raises RegistryError; a
        message that was sent by then may be sent again, once its claim is old.
        """
        outcome: Counter[str] = Counter()
        broken: set[str] = set()
        until = self._clock() + PATIENCE
        for item in due:
            if item.delivery.channel.name in broken or self._clock() > until:
                outcome["waiting"] += 1
                continue
            try:
                claimed = replace(item, version=self._note(item, "sending"))
            except Conflict:
                outcome["elsewhere"] += 1
                continue
            state, works = self._sent(claimed)
            outcome[state] += 1
            if not works:
                broken.add(item.delivery.channel.name)
        return outcome

    def _sent(self, item: Due) -> tuple[str, bool]:
        """Send one message and mark what came of it: sent, failed or unreachable; and whether the channel works."""
        delivery, message = item.delivery, item.message
        state, reason, works = "sent", None, True
        try:
            if message.to or not delivery.message.to:  # else all that are left have it by an earlier attempt
                delivery.channel.send(message)
        except Unreachable as error:  # whom the channel knew has it, when it was the others' turn
            state, reason = "sent" if item.reached else "unreachable", str(error)
        except DeliveryError as error:
            state, reason, works = "failed", str(error), error.only_this
            item = replace(item, reached=(*item.reached, *map(_digest, error.reached)))
        self._mark(item, state, reason)
        if state == "sent":
            log.info("an alert was delivered", extra={"alert": delivery.log_name, "delivery": delivery.digest})
        else:
            said = {"alert": delivery.log_name, "delivery": delivery.digest, "reason": reason}
            log.error("an alert was not delivered", extra=said)
        return state, works

    def _mark(self, item: Due, state: str, reason: str | None) -> None:
        delivery = item.delivery
        try:
            self._note(item, state)
        except Conflict:  # so slow that the claim grew old: another tick has it now, and will mark it
            log.warning("an alert was claimed twice", extra={"delivery": delivery.digest})
        if state == "sent":
            self._sent_in(delivery.period).add(delivery.id)
        attempt = {
            "delivery_id": delivery.digest,
            "about": delivery.about,
            "period": delivery.period,
            "threshold": delivery.threshold,
            "audience_kind": delivery.audience_kind,
            "channel": delivery.channel.name,
            "state": state,
            "attempt": item.attempts + 1,
            "reason": reason,
            "tried_at": self._clock().isoformat(),
        }
        delivered.keep(self._registry, attempt)

    def _note(self, item: Due, state: str) -> str:
        delivery = item.delivery
        fields: dict[str, Any] = {
            "about": delivery.about,
            "period": delivery.period,
            "threshold": delivery.threshold,
            "channel": delivery.channel.name,
            "state": state,
            "attempts": item.attempts + 1,
            "reached": list(item.reached),
            "at": self._clock().isoformat(),
        }
        return self._registry.put(SENT, delivery.id, fields, item.version)


def _turn(item: Due) -> tuple[int, bool, bool]:
    message = item.delivery.message
    return item.attempts, not message.private, message.audience != "person"


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def _next_at(document: Document) -> datetime:
    """When a delivery that failed, or whose sender never came back, may be tried again."""
    at, earlier = datetime.fromisoformat(document.fields["at"]), document.fields["attempts"] - 1
    if document.fields["state"] == "unreachable":
        return at + UNREACHABLE_RETRY
    pause: timedelta = min(FIRST_RETRY * 2 ** min(earlier, 10), LAST_RETRY)
    return at + (max(pause, LEASE) if document.fields["state"] == "sending" else pause)
