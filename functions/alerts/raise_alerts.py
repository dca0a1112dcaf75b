"""Raises: who may decide is asked, who asked is told what became of it, each by the channels that have not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from governance import raises
from governance.messages import Button, Message
from governance.raises import Raise
from governance.wording import moment, usd

from .budget_alerts import Readers
from .budget_texts import ADJECTIVE
from .outbox import Delivery, by_channel


def deliveries(wishes: Iterable[Raise], readers: Readers) -> Iterator[Delivery]:
    """What there is to say of all raises of the running periods. Whom Slack told already, it does not tell again."""
    for wish in wishes:
        message = _asked(wish, readers) if wish.state == "asked" else _decided(wish, readers)
        channels = [c for c in readers.channels if not (wish.slack_told and c.name == "slack")]
        if message.to:
            yield from by_channel(f"raise {wish.id} {wish.state}", wish.period, 0, message, channels)


def _asked(wish: Raise, readers: Readers) -> Message:
    person = readers.policy.person(wish.asked_by)
    reason = f"\nReason: {wish.reason}" if wish.reason else ""
    text = (
        f"{person.name if person else wish.asked_by} asks for {usd(wish.extra_usd)} more of {_budget(wish, 'their')} "
        f"until it starts anew on {_end(wish, readers)}.{reason}\n"
        "What to do: approve or refuse it; it ends by itself."
    )
    buttons = (Button("Approve", "raise.approve", wish.id), Button("Refuse", "raise.refuse", wish.id, danger=True))
    to = raises.deciders(wish, readers.policy.people, readers.today)
    subject = f"Tally: a raise of {usd(wish.extra_usd)} is asked for"
    return Message(subject, text, to, private=True, audience="lead", buttons=buttons, severity="info")


def _decided(wish: Raise, readers: Readers) -> Message:
    until, amount = _end(wish, readers), usd(wish.extra_usd)
    if wish.state == "granted":
        text = f"You may spend {amount} more of {_budget(wish, 'your')} until {until}: {wish.decided_by} granted it."
    else:
        text = f"{wish.decided_by} refused the raise of {amount} that you asked for. The budget starts anew on {until}."
    subject = f"Tally: your raise was {wish.state}"
    return Message(subject, text, (wish.asked_by,), private=True, audience="person", severity="info")


def _budget(wish: Raise, own: str) -> str:
    """Which budget it is, in words; `own` is the word where it is that of whoever asked."""
    kind = ADJECTIVE.get(wish.budget.rpartition("-")[2], "")
    if wish.scope == "person" and wish.name == wish.asked_by:
        return f"{own} {kind} budget"
    return f"the {kind} budget of " + ("the company" if wish.scope == "company" else f"{wish.scope} {wish.name}")


def _end(wish: Raise, readers: Readers) -> str:
    return moment(wish.ends_at, readers.policy.company.zone)
