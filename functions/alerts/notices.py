"""Something to tell: a message, and the name under which it is told once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from governance.messages import Channel, Message
from governance.policy import Policy

from .outbox import Delivery, by_channel

EVER: Final = "ever"  # the period of what is told once and never again


@dataclass(frozen=True)
class Notice:
    """`about`, `period` and the message's audience name it: the same in every tick, whatever the figures are."""

    about: str
    period: str
    message: Message


def deliveries(notices: Iterable[Notice], channels: Sequence[Channel]) -> list[Delivery]:
    """Each notice by every channel that may have it."""
    return [
        delivery
        for notice in notices
        for delivery in by_channel(notice.about, notice.period, 0, notice.message, channels)
    ]


def reader(email: str | None, policy: Policy, today: date) -> tuple[str, ...]:
    """The person alone; the operators where it is nobody's, or of somebody who is not here any more."""
    person = policy.person(email)
    return (person.email,) if person is not None and person.is_here(today) else policy.operators(today)
