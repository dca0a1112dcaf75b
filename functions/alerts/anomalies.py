"""What is told of odd days, runaway agents and keys that may have leaked: one message each, with its evidence.

A person's own day and session are told to that person alone; a team's day to its leads, without a word of who; a key
that may have leaked to its owner and the operators together. Nobody is ranked, nobody reads of a colleague.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime

from governance.keys import KeyRecord
from governance.messages import Button, Message
from governance.policy import Policy
from governance.registry import Registry
from governance.warehouse import Row, Warehouse
from governance.wording import counted, day, minute, usd

from .leaks import Leak, leaks
from .loops import Loop, loops
from .notices import EVER, Notice, reader
from .odd_days import OddDay, odd_days

_SHOWN = 3  # parts of a day


def anomalies(
    warehouse: Warehouse,
    registry: Registry,
    policy: Policy,
    keys: Iterable[KeyRecord],
    now: datetime,
    dashboard_url: str = "",
) -> list[Notice]:
    """Everything odd of late. The rollup is up to date; `keys` are all there are.

    Raises WarehouseError, RegistryError. The same finding has the same name in every tick.
    """
    known, rules = {key.key_id: key for key in keys}, policy.company.anomalies
    return [
        *_day_notices(odd_days(warehouse, registry, rules, now), policy, known, now, dashboard_url),
        *(_loop_notice(loop, policy, known, now) for loop in loops(warehouse, rules, now)),
        *_leak_notices(leaks(warehouse, rules, now), policy, known, now),
    ]


def _day_notices(
    found: Iterable[OddDay], policy: Policy, keys: Mapping[str, KeyRecord], now: datetime, dashboard_url: str
) -> Iterator[Notice]:
    for odd in found:
        if odd.scope == "team":
            yield Notice(f"odd_day-team-{odd.name}", f"{odd.day}", _team_day(odd, policy, now, dashboard_url))
        elif (person := policy.person(odd.name)) is not None and person.is_here(now.date()):
            yield Notice(f"odd_day-{odd.name}", f"{odd.day}", _own_day(odd, keys, now, dashboard_url))


def _own_day(odd: OddDay, keys: Mapping[str, KeyRecord], now: datetime, dashboard_url: str) -> Message:
    page = f"{dashboard_url.rstrip('/')}/my_usage" if dashboard_url else "My usage on the dashboard"
    first = odd.parts[0]["key_id"] if odd.parts else None
    lines = [
        f"Your keys have used {usd(odd.spent_usd)} {_when(odd, now)}.",
        *_evidence(odd, [_part(row, keys) for row in odd.parts]),
        f"What to do: if it was you, nothing; only you are told. See each request: {page}. If it was not, or an agent "
        "is still at it, revoke the key: it stops within seconds.",
    ]
    return Message(
        f"Tally: {usd(odd.spent_usd)} on {day(odd.day)} is far more than your usual {usd(odd.usual.usd)}",
        "\n".join(lines), (odd.name,), private=True, audience="person", buttons=_revoke(first, keys),
    )  # fmt: skip


def _team_day(odd: OddDay, policy: Policy, now: datetime, dashboard_url: str) -> Message:
    page = dashboard_url.rstrip("/") or "the dashboard"
    today = now.date()
    leads = policy.leads_in(odd.name, today)
    lines = [
        f"Team {odd.name} has used {usd(odd.spent_usd)} {_when(odd, now)}.",
        *_evidence(odd, [_part(row, {}) for row in odd.parts]),
        f"What to do: ask the team whether that is meant, and see the course of its spending: {page}.",
    ]
    subject = f"Tally: {usd(odd.spent_usd)} on {day(odd.day)} is far more than team {odd.name}'s usual"
    return Message(subject, "\n".join(lines), leads or policy.operators(today), audience="lead")


def _when(odd: OddDay, now: datetime) -> str:
    return f"so far today, {day(odd.day)} (UTC)" if odd.day == now.date() else f"on {day(odd.day)} (UTC)"


def _evidence(odd: OddDay, parts: Sequence[str]) -> list[str]:
    usual = (
        f"A usual day is {usd(odd.usual.usd)}: the median of {odd.usual.days} days with requests before it. "
        f"From {usd(odd.limit_usd)} on a day is odd."
    )
    shown = "; ".join(parts[:_SHOWN])
    return [usual, f"It went to {shown}{' and others' if len(parts) > _SHOWN else ''}."] if shown else [usual]


def _part(row: Row, keys: Mapping[str, KeyRecord]) -> str:
    key = f", key {_called(row['key_id'], keys)}" if row["key_id"] else ""
    what = f"{row['tool']} with {row['model'] or 'no model'}{key}"
    return f"{what}: {usd(row['cost_usd'])} in {counted(int(row['requests']), 'request')}"


def _loop_notice(loop: Loop, policy: Policy, keys: Mapping[str, KeyRecord], now: datetime) -> Notice:
    key = keys.get(loop.key_id)
    minutes = policy.company.anomalies.loop_requests_per_minute
    failed = f", {loop.failed:,} of them failed or refused" if loop.failed else ""
    lines = [
        f"A session of {loop.tool} with {loop.model or 'no model'} has made {counted(loop.requests, 'request')}"
        f"{failed}, in {counted(loop.minutes, 'minute')} of {minutes:,} or more each: from {minute(loop.began_at)} to "
        f"{loop.last_at:%H:%M}. Key {_called(loop.key_id, keys)}{_of(key, loop.person, loop.team)}.",
        "That is faster than agents at work. What to do: stop the agent; if you cannot reach it, revoke the key, and "
        "it stops within seconds.",
    ]
    to = reader(loop.person or (key.answers_for_it if key else None), policy, now.date())
    session = hashlib.sha256(loop.session_id.encode()).hexdigest()[
        :16
    ]  # whatever the agent calls it, and of any length
    message = Message(
        f"Tally: {loop.tool} seems to run in a loop ({counted(loop.requests, 'request')})",
        "\n".join(lines), to, private=True, audience="person", buttons=_revoke(loop.key_id, keys),
    )  # fmt: skip
    return Notice(f"loop-{loop.key_id}-{session}", EVER, message)


def _leak_notices(
    found: Iterable[Leak], policy: Policy, keys: Mapping[str, KeyRecord], now: datetime
) -> Iterator[Notice]:
    for leak in found:
        key = keys.get(leak.key_id)
        if key is None or key.refusal(now) is None:  # of a key that nobody can use there is nothing to do any more
            name = f"leak-{leak.key_id}-{leak.network}-{leak.tool}"
            yield Notice(name, EVER, _leak_message(leak, key, policy, keys, now.date()))


def _leak_message(
    leak: Leak, key: KeyRecord | None, policy: Policy, keys: Mapping[str, KeyRecord], today: date
) -> Message:
    called = _called(leak.key_id, keys)
    lines = [
        f"Key {called}{_of(key, leak.person, None)} was used with {leak.tool}, and from a network, that it was never "
        f"used with or from before: {counted(leak.calls, 'request')} since {minute(leak.first_at)}, the last at "
        f"{leak.last_at:%H:%M}.",
        f"Until then: {', '.join(leak.known_tools)}, from {counted(leak.known_networks, 'network')}.",
        "What to do: if its owner did that, nothing. If not, somebody else has the key: revoke it now, it stops within "
        "seconds, and look where it was written down.",
    ]
    owner = reader(leak.person or (key.answers_for_it if key else None), policy, today)
    return Message(
        f"Tally: key {called} may have leaked",
        "\n".join(lines), tuple(dict.fromkeys([*owner, *policy.operators(today)])), private=True,
        buttons=_revoke(leak.key_id, keys), severity="critical",
    )  # fmt: skip


def _called(key_id: str, keys: Mapping[str, KeyRecord]) -> str:
    """laptop (1a2b3c4d5e6f)"""
    return f"{keys[key_id].name} ({key_id})" if key_id in keys else key_id


def _of(key: KeyRecord | None, person: str | None, team: str | None) -> str:
    if person:
        return f" of {person}"
    return f", a service key of team {(key.team if key else None) or team or 'nobody'}"


def _revoke(key_id: str | None, keys: Mapping[str, KeyRecord]) -> tuple[Button, ...]:
    if key_id is None:
        return ()
    name = keys[key_id].name if key_id in keys else key_id
    return (Button(f"Revoke {name}"[:75], "key.revoke", key_id, danger=True),)
