"""What Tally says to people, and what every way to them promises. The ways themselves are `governance.*_channel`."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, Protocol

from governance.wording import usd


class DeliveryError(Exception):
    """A channel did not take a message. Says which and why, never where to.

    `reached` are the addresses that have it all the same; whoever tries again leaves them out. `only_this`: the channel
    works, and other messages may go through.
    """

    def __init__(self, said: str, reached: tuple[str, ...] = (), *, only_this: bool = False) -> None:
        super().__init__(said)
        self.reached, self.only_this = reached, only_this


class Unreachable(DeliveryError):
    """The channel knows none of the people whom this message is for."""

    def __init__(self, said: str) -> None:
        super().__init__(said, only_this=True)


@dataclass(frozen=True)
class Button:
    """Something to do about a message. `action` and `value` go to the keys function as they are."""

    label: str
    action: str
    value: str
    danger: bool = False

    @property
    def command(self) -> str:
        """The same for those who read where nothing can be clicked."""
        return f"tally {self.action.rpartition('.')[2]} {self.value}"


@dataclass(frozen=True)
class Message:
    """A short text. `to` are the e-mail addresses; a shared place has its own readers, and no `private` message.

    `audience` tells apart what is said to several about the same thing: `person`, `lead`, `operator`. The outbox fills
    `id`, the same in every attempt, and `about`.
    """

    subject: str
    text: str
    to: tuple[str, ...]
    private: bool = False
    audience: str = ""
    buttons: tuple[Button, ...] = ()
    severity: Literal["info", "warning", "critical"] = "warning"
    id: str = field(default="", compare=False)
    about: str = field(default="", compare=False)


class Channel(Protocol):
    """A way to people. `name` is stable: what was sent is remembered by it."""

    name: str
    private_too: bool  # it can tell a person alone

    def send(self, message: Message) -> None:
        """Hand the message over, once, within a minute or two. Raises DeliveryError when it was not taken."""


def unpriced_message(
    model: str, calls: int, cost_usd: Decimal, to: tuple[str, ...], dashboard_url: str = ""
) -> Message:
    """What people read when a model is used that the price book does not know: what it is costed at, and what to do."""
    lines = [
        f"{model} is not in the price book. Its {calls:,} calls so far are costed at the fallback price: "
        f"{usd(cost_usd)}.",
        "That is a guess, and every page says so. What to do: write its price into policy/prices.yaml, or run "
        "`make prices`; all of it is costed anew by itself.",
    ]
    if dashboard_url:
        lines.append(f"All such models: {dashboard_url.rstrip('/')}/data_health")
    return Message(f"Tally: no price for {model}", "\n".join(lines), to)
