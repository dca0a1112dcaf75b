"""What Tally said on this laptop: the newest messages, as they came in, and the page that shows them."""

from __future__ import annotations

import html
import re
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

KEPT: Final = 200
_BOLD: Final = re.compile(r"(?<!\S)\*(\S[^*\n]*)\*(?!\S)")  # as Slack has it
_PAGE: Final = """<!doctype html><meta charset=utf-8><title>Tally: messages</title><style>
body{{font:15px/1.5 system-ui;max-width:46rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}}
article{{border-left:3px solid #3b6fb6;padding:.1rem 1rem;margin:1rem 0}}small{{opacity:.7}}
pre{{white-space:pre-wrap;font:inherit;margin:.3rem 0}}form{{display:inline}}
button{{font:inherit;margin:0 .4rem .4rem 0}}
</style><h1>What Tally said</h1>{articles}"""


@dataclass(frozen=True)
class Button:
    """A button below a message."""

    label: str
    action: str
    value: str


@dataclass(frozen=True)
class Said:
    """One message. `where` is Slack's id of the channel or person it went to, `blocks` what it was drawn from."""

    number: int
    at: datetime
    channel: str
    text: str
    buttons: tuple[Button, ...] = ()
    blocks: list[dict[str, Any]] = field(default_factory=list)
    where: str = ""


class Board:
    """The messages that arrived, newest first. Nothing is kept beyond the process."""

    def __init__(self) -> None:
        self.messages: deque[Said] = deque(maxlen=KEPT)
        self._numbers = count(1)

    def take(
        self,
        channel: str,
        text: str,
        buttons: tuple[Button, ...] = (),
        blocks: list[dict[str, Any]] | None = None,
        where: str = "",
    ) -> Said:
        """Keep a message, and log its first line."""
        said = Said(next(self._numbers), datetime.now(UTC), channel, text, buttons, blocks or [], where)
        self.messages.appendleft(said)
        print(f"{channel}: {text.strip().splitlines()[0] if text.strip() else '(empty)'}", flush=True)
        return said

    def find(self, number: str) -> Said | None:
        """The message of this number, if it is still here."""
        return next((said for said in self.messages if str(said.number) == number), None)

    def replace(self, said: Said, text: str, buttons: tuple[Button, ...]) -> None:
        """Put another text in a message's place."""
        self.messages[self.messages.index(said)] = replace(said, text=text, buttons=buttons)

    def page(self) -> str:
        """The messages, as HTML."""
        return _PAGE.format(articles="".join(map(_article, self.messages)) or "<p>Nothing yet.</p>")


def _article(said: Said) -> str:
    buttons = "".join(
        f'<form method="post" action="/click/{said.number}/{n}"><button>{html.escape(button.label)}</button></form>'
        for n, button in enumerate(said.buttons)
    )
    head = f"{said.at:%-d %B, %H:%M} UTC · {html.escape(said.channel)}"
    text = _BOLD.sub(r"<b>\1</b>", html.escape(said.text))
    if not said.channel.startswith("slack"):  # the subject
        text = re.sub(r"\A.*", r"<b>\g<0></b>", text)
    return f"<article><small>{head}</small><pre>{text}</pre>{buttons}</article>"
