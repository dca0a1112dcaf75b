"""Answers as Slack draws them: Block Kit, seen by the asker alone. A button's value is an id, never more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from governance import wording
from governance.connecting import AGENTS, Connection, connection
from governance.gate import Limit
from governance.keys import KeyRecord
from governance.raises import Raise
from governance.wording import usd

from .answers import (
    Answer,
    Asked,
    Connected,
    Decided,
    Helped,
    Issued,
    Known,
    Listed,
    Revoked,
    Usage,
    Waiting,
    state,
)

Block = dict[str, Any]
REVOKE, ROTATE, HIDE = "key.revoke", "key.rotate", "key.hide"
APPROVE, REFUSE = "raise.approve", "raise.refuse"
MOST_TEXT: Final = 2_900  # characters of a section, of which Slack takes 3,000
MOST_ROWS: Final = 40  # of the 50 blocks that Slack takes
HELP = """\
*Your keys to the models*, one for each machine or tool:
• `issue [name] [expiry]` - a new key, shown once; for example `issue laptop 30d`
• `list` - your keys
• `rotate [name or id]` - a new key at once; the old one lives on for a while
• `revoke <name or id>` - a key that you lost or no longer need; it stops within seconds
• `connect <agent>` - the lines to paste for Claude Code, Codex and others
*What you may spend*:
• `usage` - what you have spent and have left
• `raise <dollars> [reason]` - ask for more of your tightest budget until its period ends"""
ADMIN_HELP = """\
*For those who run Tally*:
• `service issue <name> owner=<e-mail> [team=…] [models=claude-*,…] [rpm=60] [tpm=90000] [budget=50/month] \
[project=…] [cost_centre=…] [expiry]` - a key for a service
• `service list` - the keys of services
• `revoke <id>` - anybody's key
• `idle` - keys that nobody uses
*For leads and finance*: `raises`, `approve <id>`, `refuse <id>`"""


def escaped(text: str) -> str:
    """Text that Slack shows as it is: no links, no mentions of people and channels."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def section(text: str, *buttons: Block) -> list[Block]:
    """A paragraph (mrkdwn), and a row of buttons below it."""
    blocks: list[Block] = [{"type": "section", "text": {"type": "mrkdwn", "text": text[:MOST_TEXT]}}]
    return [*blocks, {"type": "actions", "elements": list(buttons)}] if buttons else blocks


def button(label: str, action: str, value: str, style: str | None = None, sure: str | None = None) -> Block:
    """A button; `sure` is what is asked before the click counts."""
    made: Block = {"type": "button", "text": _plain(label), "action_id": action, "value": value}
    if style:
        made["style"] = style
    if sure:
        made["confirm"] = {
            "title": _plain("Are you sure?"),
            "text": _plain(sure),
            "confirm": _plain(label),
            "deny": _plain("Cancel"),
        }
    return made


def _plain(text: str) -> Block:
    return {"type": "plain_text", "text": text[:300]}


def ephemeral(text: str, blocks: Sequence[Block] = ()) -> dict[str, Any]:
    """An answer that its asker alone sees. `text` is for notifications: no key stands in it."""
    return {"response_type": "ephemeral", "text": text, **({"blocks": list(blocks)} if blocks else {})}


def drawn(answer: Answer) -> dict[str, Any]:
    """An answer, as the direct response to a command."""
    match answer:
        case Issued():
            hide = button("Hide", HIDE, answer.record.key_id)
            blocks = [*issued(answer), {"type": "actions", "elements": [hide]}]
            return ephemeral(f"Your key {answer.record.name}. It is shown this once.", blocks)
        case Listed():
            return _listed(answer)
        case Revoked():
            return ephemeral(" ".join(_stopped(record) for record in answer.records))
        case Usage():
            return _usage(answer)
        case Asked():
            return ephemeral(_asked(answer))
        case Decided():
            return ephemeral(decided(answer.wish))
        case Waiting():
            return _waiting(answer)
        case Connected():
            return ephemeral(f"{answer.connection.title}", connected(answer.connection))
        case Helped():
            return helped()


def helped() -> dict[str, Any]:
    """The same for everybody, so that nobody has to be looked up for it."""
    return ephemeral("What can be asked here", [*section(escaped(HELP)), *section(escaped(ADMIN_HELP))])


def issued(answer: Issued) -> list[Block]:
    """A new key and where to paste it. The only blocks that hold a key."""
    record, key = answer.record, answer.key.get_secret_value()
    whose = "Your key" if record.kind == "human" else f"The service key for {escaped(record.owner or '')},"
    text = f"{whose} `{record.name}`, id `{record.key_id}`, good until {day(record.expires_at)}. "
    text += f"It is shown this once and Tally keeps no copy: paste it now.\n```{key}```"
    blocks = section(text)
    if answer.replaces is not None:
        old = answer.replaces
        blocks += section(f"The old key `{old.key_id}` works until {moment(old.expires_at)}. Then it stops by itself.")
    if record.kind == "human":
        for agent in ("claude-code", "codex"):
            blocks += connected(connection(agent, answer.address, key))
    others = ", ".join(f"`{agent}`" for agent in AGENTS if agent not in ("claude-code", "codex"))
    return [*blocks, *section(f"For others write `connect` and one of {others}.")]


def connected(made: Connection) -> list[Block]:
    """The lines for one agent."""
    parts = [f"*{made.title}*"]
    for paste in made.pastes:
        where = "In a shell" if paste.where == "shell" else f"In `{paste.where}`"
        parts.append(f"{where}:\n```{escaped(paste.text)}```")
    return section("\n".join([*parts, *([made.note] if made.note else [])]))


def _listed(answer: Listed) -> dict[str, Any]:
    if not answer.keys:
        return ephemeral(_none(answer))
    title = {"own": "*Your keys*", "service": "*Keys of services*"}.get(
        answer.of, f"*Keys that nobody used for {answer.idle_days} days*"
    )
    blocks = section(title)
    for known in answer.keys[: MOST_ROWS // 2]:
        record, buttons = known.record, []
        where = state(record, answer.now)
        if answer.of == "own" and where == "live":
            buttons.append(button("Rotate", ROTATE, record.key_id))
        sure = f"The key {record.name} ({record.key_id}) stops within seconds, for good."
        buttons.append(button("Revoke", REVOKE, record.key_id, "danger", sure))
        blocks += section(_row(known, answer), *buttons)
    more = len(answer.keys) - MOST_ROWS // 2
    if more > 0:
        blocks += section(f"And {more} more. `tally` on the command line shows all of them.")
    return ephemeral(f"{len(answer.keys)} keys", blocks)


def _none(answer: Listed) -> str:
    if answer.of == "own":
        return "You have no keys. `issue` gives you one."
    if answer.of == "service":
        return "No service has a key."
    if not answer.counted:
        return "Nobody has counted yet which keys are used. Please try again in a few minutes."
    return f"Every key was used within {answer.idle_days} days."


def _row(known: Known, answer: Listed) -> str:
    record = known.record
    parts = [f"• `{record.name}` id `{record.key_id}`, ends in `{record.last4}`, made {day(record.created_at)}"]
    if answer.of != "own" or record.kind == "service":
        owner = record.person or record.owner or "nobody"
        parts.append(f"{'of' if record.kind == 'human' else 'a service, answered for by'} {escaped(owner)}")
    match state(record, answer.now):
        case "expired":
            parts.append(f"expired {day(record.expires_at)}")
        case "replaced":
            parts.append(f"replaced by `{record.replaced_by}`, works until {moment(record.expires_at)}")
        case _:
            parts.append(f"good until {day(record.expires_at)}")
    if answer.counted:
        parts.append(f"last used {known.last_used_on:%-d %B %Y}" if known.last_used_on else "not used lately")
    return ", ".join([*parts, *_powers(record)])


def _powers(record: KeyRecord) -> Iterable[str]:
    if record.models:
        yield "models " + escaped(", ".join(record.models))
    if record.requests_per_minute:
        yield f"{record.requests_per_minute:,} requests a minute"
    if record.tokens_per_minute:
        yield f"{record.tokens_per_minute:,} tokens a minute"
    if record.budget:
        yield f"{usd(record.budget.amount_usd)} a {record.budget.period}"
    yield from (f"`{escaped(tag)}`" for tag in record.tags)


def _stopped(record: KeyRecord) -> str:
    whose = "Your key" if record.kind == "human" else "The service key"
    return f"{whose} `{record.name}`, id `{record.key_id}`, is revoked. It stops within five seconds."


def _usage(answer: Usage) -> dict[str, Any]:
    if not answer.limits:
        return ephemeral("No budget limits you. What you have used is on the dashboard, under *My usage*.")
    blocks = section("*What you have left*")
    for limit in answer.limits[:MOST_ROWS]:
        blocks += section(_limit(limit))
    through = (
        f"Counted up to {moment(answer.counted_through)}." if answer.counted_through else "No request has come yet."
    )
    late = " That is late: nobody is newly blocked until it is right again." if answer.stale else ""
    blocks += section(f"{through}{late} `raise 20` asks for 20 dollars more.")
    return ephemeral("What you have left", blocks)


def _limit(limit: Limit) -> str:
    of = {"company": "The company", "team": f"Team {limit.name}", "person": "You", "key": f"Key `{limit.name}`"}
    left = limit.limit_usd - limit.spent_usd
    text = f"{escaped(of.get(limit.scope, limit.budget))}, {limit.period}: {usd(limit.spent_usd)} of "
    text += f"{usd(limit.limit_usd)} used, " + (f"*{usd(left)} left*" if left >= 0 else f"*{usd(-left)} over*")
    if limit.extra_usd:
        text += f", {usd(limit.extra_usd)} of it by a raise"
    if limit.blocked:
        text += f". Requests are refused until {moment(limit.ends_at)}"
    elif limit.blocks_at_usd is not None:
        text += f". Requests are refused from {usd(limit.blocks_at_usd)} on"
    return f"{text}. It begins anew {moment(limit.ends_at)}."


def _asked(answer: Asked) -> str:
    wish, whom = answer.wish, " or ".join(escaped(email) for email in answer.deciders)
    if not whom:
        return f"Asked, as `{wish.id}`, but nobody here may decide it: the budget itself has to change."
    told = "They have been told in Slack" if answer.told else "They will be told within minutes"
    return (
        f"You have asked for {usd(wish.extra_usd)} more of {_of(wish)} in {wish.period}, as `{wish.id}`. "
        f"{whom} may grant it. {told}; `usage` shows when it holds."
    )


def decided(wish: Raise) -> str:
    """What became of a wish."""
    what = f"{usd(wish.extra_usd)} more of {_of(wish)} in {wish.period}, asked for by {escaped(wish.asked_by)}"
    how = "Granted" if wish.state == "granted" else "Refused"
    holds = f" It holds within seconds, until {moment(wish.ends_at)}." if wish.state == "granted" else ""
    return f"{how} by {escaped(wish.decided_by or 'nobody')}: {what}.{holds}"


def wish_blocks(wish: Raise) -> list[Block]:
    """A wish as whoever may decide reads it, with the two buttons."""
    text = f"*{escaped(wish.asked_by)}* asks for {usd(wish.extra_usd)} more of {_of(wish)} in {wish.period}"
    text += f", until {moment(wish.ends_at)}." + (f"\n> {escaped(_one_line(wish.reason))}" if wish.reason else "")
    grant = button("Approve", APPROVE, wish.id, "primary")
    return section(text, grant, button("Refuse", REFUSE, wish.id, "danger"))


def _waiting(answer: Waiting) -> dict[str, Any]:
    if not answer.wishes:
        return ephemeral("Nothing waits for you.")
    blocks = [block for wish in answer.wishes[: MOST_ROWS // 2] for block in wish_blocks(wish)]
    return ephemeral(f"{len(answer.wishes)} raises wait for you", blocks)


def rotation(key_id: str, name: str, overlap_hours: int) -> dict[str, Any]:
    """The dialog before a key is replaced: what its submission is answered with is seen nowhere else, and not kept."""
    text = f"A new key takes the place of `{name}` (`{key_id}`). It is shown here, once."
    text += f" The old one works for {overlap_hours} more hours, so that nothing breaks meanwhile."
    return _view(section(text), key_id) | {"submit": _plain("Rotate"), "close": _plain("Cancel")}


def shown(blocks: list[Block], key_id: str = "") -> dict[str, Any]:
    """The same dialog, with what came of it."""
    return {"response_action": "update", "view": _view(blocks, key_id) | {"close": _plain("Close")}}


def _view(blocks: list[Block], key_id: str) -> dict[str, Any]:
    return {
        "type": "modal",
        "callback_id": ROTATE,
        "private_metadata": key_id,
        "title": _plain("Tally"),
        "blocks": blocks,
    }


def _of(wish: Raise) -> str:
    of = {
        "company": "the company's budget",
        "person": f"the budget of {wish.name}",
        "team": f"team {wish.name}'s budget",
    }
    return escaped(of.get(wish.scope, f"the budget {wish.budget}"))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def day(at: datetime | None) -> str:
    """A day, UTC."""
    return wording.dated(at.astimezone(UTC)) if at else "further notice"


def moment(at: datetime | None) -> str:
    """A minute, UTC."""
    return wording.moment(at) if at else "further notice"
