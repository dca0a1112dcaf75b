"""Who is told of a budget: the person first and alone, then who answers for it. Pure but for the list of channels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from governance.keys import KeyRecord
from governance.messages import Channel, Message
from governance.policy import Policy
from governance.standings import Standing

from . import budget_texts
from .blocks import Lifted
from .outbox import Delivery, by_channel


@dataclass(frozen=True)
class Readers:
    """Whom to tell, and how everybody is called. `keys` by key id; `today` in the company's calendar."""

    policy: Policy
    keys: Mapping[str, KeyRecord]
    channels: Sequence[Channel]
    dashboard_url: str
    today: date

    def self_of(self, stood: Standing) -> tuple[str, ...]:
        """The person whose own budget it is, or who answers for the key."""
        if stood.budget.scope == "person":
            person = self.policy.person(stood.name)
            return (stood.name,) if person is None or person.is_here(self.today) else ()
        key = self.keys.get(stood.name) if stood.budget.scope == "key" else None
        return (key.answers_for_it,) if key is not None and key.answers_for_it else ()

    def others_of(self, stood: Standing) -> tuple[str, ...]:
        """Who answers for it beside."""
        if stood.budget.scope == "key":
            return () if self.self_of(stood) else self.policy.admins(self.today)
        named = stood.budget if stood.budget.name else stood.budget.model_copy(update={"name": stood.name or None})
        told = self.policy.whom_to_tell(named, self.today)
        return tuple(email for email in told if email not in self.self_of(stood))

    def name_of(self, stood: Standing) -> str:
        """How whose budget it is is called."""
        if stood.budget.scope == "person":
            person = self.policy.person(stood.name)
            return person.name if person else stood.name
        key = self.keys.get(stood.name) if stood.budget.scope == "key" else None
        return f"{key.name} ({stood.name})" if key else stood.name

    def ask(self, stood: Standing) -> str:
        """Whom to ask for more, in words: who may grant it, whoever else is told."""
        scope, admins = stood.budget.scope, self.policy.admins(self.today)
        if scope == "key":
            return " or ".join(admins[:3])
        who = self.policy.leads_of(stood.name, self.today) if scope == "person" else self.policy.finance(self.today)
        return " or ".join((who or admins)[:3])


def crossings(stood: Iterable[Standing], readers: Readers) -> Iterator[Delivery]:
    """Every crossed threshold of every budget, by every channel."""
    for each in stood:
        for threshold in each.crossed:
            for message in _messages(each, threshold, readers):
                about = _about(each, threshold)
                yield from by_channel(about, each.period.key, threshold, message, readers.channels)


def lifted(found: Iterable[Lifted], readers: Readers) -> Iterator[Delivery]:
    """Whoever was told that requests are refused is told when they pass again before the period is over."""
    for each in found:
        stood, name = each.standing, readers.name_of(each.standing)
        for to, audience, to_self in _audiences(stood, readers):
            message = Message(
                "Tally: requests pass again",
                budget_texts.lifted_text(stood, name, to_self=to_self),
                to,
                private=_is_private(stood),
                audience=audience,
                severity="info",
            )
            about = f"lifted {_about(stood, 0)} {each.count}"
            yield from by_channel(about, stood.period.key, 0, message, readers.channels)


def _messages(stood: Standing, threshold: int, readers: Readers) -> Iterator[Message]:
    name, ask = readers.name_of(stood), readers.ask(stood)
    for to, audience, to_self in _audiences(stood, readers):
        yield Message(
            budget_texts.threshold_subject(stood, name, threshold, to_self=to_self),
            budget_texts.threshold_text(stood, name, ask, readers.dashboard_url, to_self=to_self),
            to,
            private=_is_private(stood),
            audience=audience,
            severity="critical" if stood.blocked else "warning",
        )


def _audiences(stood: Standing, readers: Readers) -> Iterator[tuple[tuple[str, ...], str, bool]]:
    """(to, audience, whether it is their own) of each message about one standing, in the order of telling."""
    own, others = readers.self_of(stood), readers.others_of(stood)
    if own:
        yield own, "person", True
    if others or not own:
        yield others, "lead" if _is_private(stood) else "", False


def _is_private(stood: Standing) -> bool:
    """What one person spends is nobody's business beside those who answer for it."""
    return stood.budget.scope in ("person", "key")


def _about(stood: Standing, threshold: int) -> str:
    """The budget's name for ever. Reaching a limit that was raised is another thing than reaching the one before."""
    about = f"{stood.budget.key}:{stood.name}" if stood.budget.is_default else stood.budget.key
    return f"{about}+{stood.extra_usd}" if stood.extra_usd and threshold >= 100 else about
