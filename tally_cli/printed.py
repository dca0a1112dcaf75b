"""Answers as a person reads them on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from governance.connecting import Connection, Paste, connection


def issued(answer: dict[str, Any], agents: Sequence[str]) -> str:
    """A key, this once, and the lines for the agents."""
    lines = [
        f"{answer['key']}",
        "",
        f"{answer['name']}, id {answer['key_id']}, good until {day(answer['expires_at'])}.",
    ]
    lines.append("It is shown this once, and Tally keeps no copy.")
    if replaced := answer.get("replaces"):
        lines.append(f"The old key {replaced['key_id']} works until {moment(replaced['expires_at'])}.")
    for agent in agents:
        lines += ["", connected(connection(agent, answer["address"], answer["key"]))]
    return "\n".join(lines)


def connected(made: Connection) -> str:
    """The lines for one agent."""
    lines = [f"{made.title}:"]
    for paste in made.pastes:
        lines += [f"  # {'in a shell' if paste.where == 'shell' else f'in {paste.where}'}"]
        lines += [f"  {line}".rstrip() for line in paste.text.splitlines()]
    return "\n".join([*lines, *([made.note] if made.note else [])])


def connection_of(answer: dict[str, Any]) -> Connection:
    """A connection as the endpoint tells it."""
    pastes = tuple(Paste(paste["where"], paste["text"]) for paste in answer["pastes"])
    return Connection(answer["agent"], answer["title"], pastes, answer["note"])


def keys(answer: dict[str, Any], nothing: str) -> str:
    """Keys, one a line."""
    if not answer["keys"]:
        return nothing
    rows = [("NAME", "ID", "ENDS IN", "STATE", "GOOD UNTIL", "LAST USED", "WHOSE")]
    for key in answer["keys"]:
        used = key["last_used_on"] or ("-" if answer["last_use_known"] else "?")
        whose = key["person"] or f"service, {key['owner'] or 'nobody answers for it'}"
        ends = key["expires_at"] and str(key["expires_at"])[:10]
        rows.append((key["name"], key["key_id"], key["last4"], key["state"], ends or "-", used, whose))
    return _table(rows)


def idle(answer: dict[str, Any]) -> str:
    """Keys that nobody uses, when that is known."""
    if not answer["last_use_known"]:
        return "Nobody has counted yet which keys are used. Please try again in a few minutes."
    return keys(answer, "Every key is in use.")


def revoked(answer: dict[str, Any]) -> str:
    """Which keys stop."""
    return "\n".join(f"{key['name']}, id {key['key_id']}: stops within five seconds." for key in answer["revoked"])


def usage(answer: dict[str, Any]) -> str:
    """The budgets that hold."""
    if not answer["budgets"]:
        return "No budget limits you."
    rows = [("BUDGET", "PERIOD", "USED", "OF", "LEFT", "BEGINS ANEW", "")]
    for limit in answer["budgets"]:
        amounts = [usd(limit[name]) for name in ("spent_usd", "limit_usd", "left_usd")]
        state = "refused until then" if limit["blocked"] else ""
        rows.append((limit["budget"], limit["period"], *amounts, moment(limit["ends_at"]), state))
    through = answer["counted_through"]
    counted = f"Counted up to {moment(through)}." if through else "No request has come yet."
    return f"{_table(rows)}\n{counted}" + (" That is late." if answer["stale"] else "")


def asked(answer: dict[str, Any]) -> str:
    """A wish for more, and who decides."""
    wish, whom = answer["raise"], " or ".join(answer["deciders"]) or "nobody here"
    what = f"{usd(wish['extra_usd'])} more of {wish['budget']} in {wish['period']}"
    return f"Asked for {what}, as {wish['id']}. {whom} may grant it."


def decided(answer: dict[str, Any]) -> str:
    """What became of a wish."""
    return _wish(answer["raise"])


def waiting(answer: dict[str, Any]) -> str:
    """The wishes that wait."""
    return "\n".join(_wish(wish) for wish in answer["raises"]) or "Nothing waits for you."


def _wish(wish: dict[str, Any]) -> str:
    by = f" by {wish['decided_by']}" if wish["decided_by"] else ""
    reason = f" ({wish['reason']})" if wish["reason"] else ""
    return (
        f"{wish['id']}: {wish['asked_by']} asks for {usd(wish['extra_usd'])} more of {wish['budget']} "
        f"in {wish['period']}{reason}: {wish['state']}{by}"
    )


def usd(amount: str) -> str:
    """Dollars and cents."""
    return f"${Decimal(amount):,.2f}"


def day(at: str | None) -> str:
    """A day, UTC."""
    return f"{datetime.fromisoformat(at).astimezone(UTC):%-d %B %Y}" if at else "further notice"


def moment(at: str | None) -> str:
    """A minute, UTC."""
    return f"{datetime.fromisoformat(at).astimezone(UTC):%-d %B, %H:%M} UTC" if at else "further notice"


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    listed = list(rows)
    widths = [max(len(row[column]) for row in listed) for column in range(len(listed[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in listed
    )
