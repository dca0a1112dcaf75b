"""What those who run Tally are told: data that does not arrive, a tick that was missed, and when it is over. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from governance.messages import Channel, Message
from governance.wording import moment

from .freshness import Freshness, Past
from .outbox import Delivery, by_channel

EVER = "operators"  # the period of what is told once for each outage


def deliveries(
    seen: Freshness, to: tuple[str, ...], channels: Sequence[Channel], dashboard_url: str
) -> Iterator[Delivery]:
    """What there is to say now; the same outage bears the same name in every tick."""
    page = f"\nSee {dashboard_url.rstrip('/')}/data_health" if dashboard_url else ""
    if seen.since is not None:
        text = (
            f"The gateways have sent events since {moment(seen.since)} that have not arrived in the warehouse. Until "
            "they do, nobody is newly blocked and no budget is judged; blocks that stand stay.\n"
            "What to do: look at the subscription's backlog and at the ingest function's errors; its log says what "
            f"the warehouse refuses.{page}"
        )
        yield from _told(_name("late data", seen.since), "Tally: usage data does not arrive", text, to, channels)
    for past in seen.past:
        yield from _over(past, page, to, channels)


def _over(past: Past, page: str, to: tuple[str, ...], channels: Sequence[Channel]) -> Iterator[Delivery]:
    if past.kind == "late":
        text = (
            f"What was sent since {moment(past.since)} has arrived. Budgets are judged again; blocks and releases that "
            f"were due meanwhile were made at {moment(past.until)}.{page}"
        )
        name, subject = _name("late data ended", past.since), "Tally: usage data arrives again"
    else:
        text = (
            f"Between {moment(past.since)} and {moment(past.until)} no tick came through. The gateways blocked nobody "
            "newly meanwhile.\nWhat to do: look at the scheduler's job and at the alerts function's errors."
        )
        name, subject = _name("no tick", past.since), "Tally: budgets were not judged"
    yield from _told(name, subject, text, to, channels)


def _told(about: str, subject: str, text: str, to: tuple[str, ...], channels: Sequence[Channel]) -> Iterator[Delivery]:
    message = Message(subject, text, to, audience="operator", severity="critical")
    yield from by_channel(about, EVER, 0, message, channels)


def _name(what: str, since: datetime) -> str:
    return f"{what} {since.isoformat()}"
