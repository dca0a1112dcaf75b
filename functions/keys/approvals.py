"""Telling by Slack, each person alone: those who may grant a raise, and whoever asked for it."""

from __future__ import annotations

import logging
from typing import Final

from governance import raises
from governance.raises import Raise
from governance.registry import Conflict, Registry, RegistryError
from governance.wording import usd

from . import blocks
from .answers import Asked, Decided
from .slack import Slack

MOST: Final = 8  # people told at once; the others hear of it by the other channels
log = logging.getLogger(__name__)


def tell_deciders(slack: Slack, registry: Registry, asked: Asked, within_s: float) -> bool:
    """Whether Slack has told one of them at least; then the raise says so, and nobody tells them again."""
    wish = asked.wish
    text = f"{wish.asked_by} asks for {usd(wish.extra_usd)} more"
    message = {"text": blocks.escaped(text), "blocks": blocks.wish_blocks(wish)}
    if not slack.tell(asked.deciders[:MOST], message, within_s):
        return False
    _mark(registry, wish)
    return True


def tell_asker(slack: Slack, registry: Registry, decided: Decided) -> None:
    """Tell who asked what became of it, beside the answer; whom Slack does not tell, the next tick does."""
    text = blocks.decided(decided.wish)
    message = {"text": text, "blocks": blocks.section(text)}
    slack.tell_beside(decided.wish.asked_by, message, lambda: _mark(registry, decided.wish))


def _mark(registry: Registry, wish: Raise) -> None:
    try:
        raises.mark_told(registry, wish)
    except Conflict:
        return  # somebody has decided meanwhile
    except RegistryError as error:
        log.error("a raise does not say that Slack was told", extra={"reason": str(error)})
