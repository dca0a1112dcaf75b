"""What is said of keys that end by themselves. Pure."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from governance.keys import KeyRecord
from governance.messages import Button, Message
from governance.policy import Policy
from governance.wording import counted, dated, day

from .notices import reader


def idle(
    record: KeyRecord, used_on: date | None, looked_back: int, policy: Policy, now: datetime, dashboard_url: str
) -> Message:
    """To whoever answers for a key that nobody uses; where no use is known, so many days were looked at."""
    rules, told = policy.company.keys, record.idle_told_at or now
    since = "was not used since it was made"
    if used_on is not None:
        since = f"was last used on {dated(used_on)}"
    elif now - record.created_at > timedelta(days=looked_back):
        since = f"was not used in the last {counted(looked_back, 'day')}"
    lines = [f"{_whose(record)} {record.name} ({record.key_id}), made on {dated(record.created_at.date())}, {since}."]
    if rules.disable_after_days is not None:
        ends = (told + timedelta(days=rules.disable_after_days)).date()
        lines.append(f"On {day(ends)} it is switched off, unless it is used before: one request is enough.")
    page = f" Your keys: {dashboard_url.rstrip('/')}/my_usage" if dashboard_url and record.person else ""
    lines.append(f"What to do: if you need it no more, revoke it now; if you do, use it once.{page}")
    subject = f"Tally: your key {record.name} has been idle for {counted(rules.idle_days, 'day')}"
    return _message(subject if record.person else subject.replace("your", "the service"), lines, record, policy, now)


def disabled(record: KeyRecord, policy: Policy, now: datetime) -> Message:
    """To the same, when it was switched off."""
    told = f", as was said on {day(record.idle_told_at.date())}" if record.idle_told_at else ""
    lines = [
        f"{_whose(record)} {record.name} ({record.key_id}) was switched off because nobody used it{told}.",
        "What to do: nothing, or ask for a new one with `/tally issue`.",
    ]
    return _message(f"Tally: key {record.name} is switched off", lines, record, policy, now, button=False)


def held_back(leaving: int, live: int, operators: tuple[str, ...]) -> Message:
    """To the operators, when people.csv says that very many have left at once."""
    lines = [
        f"By people.csv {leaving:,} of {live:,} live keys are of people who have left, or are not in it. That "
        "looks like an incomplete file, so none was revoked, and none will be while it is so.",
        "What to do: look at policy/people.csv. If they have all left, revoke their keys as an admin (`tally revoke` "
        "and the key's id); the rest is done by itself.",
    ]
    return Message("Tally: no leaver's key was revoked", "\n".join(lines), operators, audience="operator", private=True)


def _message(
    subject: str, lines: list[str], record: KeyRecord, policy: Policy, now: datetime, *, button: bool = True
) -> Message:
    to = reader(record.answers_for_it, policy, now.astimezone(policy.company.zone).date())
    buttons = (Button(f"Revoke {record.name}"[:75], "key.revoke", record.key_id, danger=True),) if button else ()
    return Message(
        subject, "\n".join(lines), to, private=True, audience="person", buttons=buttons, severity="info"
    )  # fmt: skip


def _whose(record: KeyRecord) -> str:
    return "Your key" if record.person else f"The service key of team {record.team or 'nobody'}"
