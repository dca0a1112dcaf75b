"""What came of a request, before it is put into Slack's blocks or JSON. Only `Issued` holds a key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pydantic import SecretStr

from governance.connecting import Connection
from governance.gate import Limit
from governance.keys import KeyRecord
from governance.raises import Raise


@dataclass(frozen=True)
class Issued:
    """A key, shown this once. `replaces`: the key it was made for, which lives on until it says."""

    key: SecretStr
    record: KeyRecord
    address: str
    replaces: KeyRecord | None = None


@dataclass(frozen=True)
class Known:
    """A key as it is listed. `last_used_on` None: unused, or nobody has counted yet."""

    record: KeyRecord
    last_used_on: date | None


@dataclass(frozen=True)
class Listed:
    """Keys, oldest first. `of` is `own`, `service` or `idle`; `counted`: whether last uses are known at all."""

    of: str
    keys: tuple[Known, ...]
    counted: bool
    now: datetime
    idle_days: int = 0


@dataclass(frozen=True)
class Revoked:
    """Keys that stop within seconds."""

    records: tuple[KeyRecord, ...]


@dataclass(frozen=True)
class Usage:
    """The budgets that hold for a person, the tightest first; read at `counted_through`."""

    limits: tuple[Limit, ...]
    counted_through: datetime | None
    stale: bool


@dataclass(frozen=True)
class Asked:
    """A raise that was asked for, and who may grant it. `told`: Slack has told at least one of them."""

    wish: Raise
    deciders: tuple[str, ...]
    told: bool


@dataclass(frozen=True)
class Decided:
    """A raise that is granted or refused."""

    wish: Raise


@dataclass(frozen=True)
class Waiting:
    """The raises that wait for whoever asks."""

    wishes: tuple[Raise, ...]


@dataclass(frozen=True)
class Connected:
    """The lines that connect one agent."""

    connection: Connection


@dataclass(frozen=True)
class Helped:
    """Who asks, as known here, and whether for others too."""

    email: str
    is_admin: bool


Answer = Issued | Listed | Revoked | Usage | Asked | Decided | Waiting | Connected | Helped


def as_json(answer: Answer) -> dict[str, Any]:
    """An answer in JSON types: amounts are text, times ISO 8601 in UTC."""
    match answer:
        case Issued():
            shown: dict[str, Any] = {"key": answer.key.get_secret_value(), "address": answer.address}
            shown |= described(answer.record)
            return shown | ({"replaces": described(answer.replaces)} if answer.replaces else {})
        case Listed():
            return {
                "keys": [
                    described(known.record, answer.now)
                    | {"last_used_on": known.last_used_on.isoformat() if known.last_used_on else None}
                    for known in answer.keys
                ],
                "last_use_known": answer.counted,
            }
        case Revoked():
            return {"revoked": [described(record) for record in answer.records]}
        case Usage():
            through = answer.counted_through.isoformat() if answer.counted_through else None
            limits = [_limit(limit) for limit in answer.limits]
            return {"budgets": limits, "counted_through": through, "stale": answer.stale}
        case Asked():
            return {"raise": wish_as_json(answer.wish), "deciders": list(answer.deciders), "told": answer.told}
        case Decided():
            return {"raise": wish_as_json(answer.wish)}
        case Waiting():
            return {"raises": [wish_as_json(wish) for wish in answer.wishes]}
        case Connected():
            return answer.connection.as_json()
        case Helped():
            return {"person": answer.email, "admin": answer.is_admin}


def state(record: KeyRecord, now: datetime) -> str:
    """`live`, `replaced` (it lives on for an overlap), `expired` or `revoked`."""
    if record.revoked_at is not None:
        return "revoked"
    if record.refusal(now) is not None:
        return "expired"
    return "replaced" if record.replaced_by else "live"


def described(record: KeyRecord, now: datetime | None = None) -> dict[str, Any]:
    """A key without the key."""
    told = record.model_dump(mode="json", exclude={"revoked_why", "idle_told_at"})
    return told | ({"state": state(record, now)} if now else {})


def wish_as_json(wish: Raise) -> dict[str, Any]:
    """A raise in JSON types."""
    return wish.model_dump(mode="json", exclude={"slack_told"})


def _limit(limit: Limit) -> dict[str, Any]:
    left = limit.limit_usd - limit.spent_usd
    return {
        "budget": limit.budget,
        "scope": limit.scope,
        "name": limit.name or None,
        "period": limit.period,
        "ends_at": limit.ends_at.isoformat(),
        "spent_usd": str(limit.spent_usd),
        "limit_usd": str(limit.limit_usd),
        "left_usd": str(left),
        "blocks_at_usd": None if limit.blocks_at_usd is None else str(limit.blocks_at_usd),
        "blocked": limit.blocked,
        "ask": limit.ask,
    }
