"""What somebody writes after the Slack command, as a verb and its arguments."""

from __future__ import annotations

import re
import shlex

from . import terms

Ask = tuple[str, dict[str, str]]
_MAIL = re.compile(r"<mailto:([^|>]+)(?:\|[^>]*)?>")  # what Slack makes of an e-mail where it escapes


def read(text: str) -> Ask | None:
    """(verb, arguments), or None where it cannot be read: then help is what helps."""
    text = _MAIL.sub(r"\1", text)
    words = _quoted(text) if text.split()[:1] == ["service"] else text.split()
    verb, rest = (words[0].lower(), words[1:]) if words else ("help", [])
    match verb, rest:
        case (("help" | "list" | "usage" | "idle" | "raises"), []):
            return verb, {}
        case "issue", _ if len(rest) <= 2:
            return _issue(rest)
        case "rotate", []:
            return verb, {}
        case (("rotate" | "revoke"), [which]):
            return verb, {"which": which}
        case (("approve" | "refuse"), [id]):
            return verb, {"id": id}
        case "connect", [*agent] if agent:
            return verb, {"agent": "-".join(agent)}
        case "raise", [amount, *reason]:
            return verb, {"dollars": amount, "reason": " ".join(reason)}
        case "service", ["list"]:
            return "service/list", {}
        case "service", ["issue", name, *powers]:
            return _service(name, powers)
    return None


def _quoted(text: str) -> list[str]:
    """Words, of which one may hold spaces between quotes: a team's name. Slack makes curly quotes of straight ones."""
    straight = text.translate({ord(curly): '"' for curly in "\u201c\u201d\u201e"})
    try:
        return shlex.split(straight)
    except ValueError:
        return text.split()


def _issue(rest: list[str]) -> Ask | None:
    named = [word for word in rest if not terms.is_expiry(word)]
    ends = [word for word in rest if terms.is_expiry(word)]
    if len(named) > 1 or len(ends) > 1:
        return None
    return "issue", {**({"name": named[0]} if named else {}), **({"expiry": ends[0]} if ends else {})}


def _service(name: str, powers: list[str]) -> Ask | None:
    given = {"name": name}
    for word in powers:
        power, equals, value = word.partition("=")
        if not equals and terms.is_expiry(word):
            power, value = "expiry", word
        elif not equals:
            return None
        if power in given:
            return None
        given[power] = value
    return "service/issue", given
