"""The audit log: who may read it, what is read, and that somebody has looked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime
from typing import Final

import streamlit as st
from streamlit.column_config import DatetimeColumn, TextColumn

from governance import audit
from governance.policy import PEOPLE, PolicyError, admins, read_people
from governance.registry import Registry, RegistryError, open_registry
from streamlit_app import identity, queries, tables, wording
from streamlit_app.queries import TTL, Row

MOST: Final = 1_000  # entries of a page
ACTIONS: Final[dict[str, str]] = {
    "key.issued": "Key issued",
    "key.rotated": "Key rotated",
    "key.revoked": "Key revoked",
    "key.disabled": "Key switched off",
    "raise.asked": "Raise asked for",
    "raise.granted": "Raise granted",
    "raise.refused": "Raise refused",
    "policy.loaded": "Policy loaded",
    "budget.added": "Budget added",
    "budget.changed": "Budget changed",
    "budget.removed": "Budget removed",
    "price.changed": "Price changed",
    "block.set": "Block set",
    "block.lifted": "Block lifted",
    "looked": "Audit log opened",
}
ORIGINS: Final = {
    "slack": "Slack", "api": "API", "tally": "Command line", "tick": "By itself", "dashboard": "Dashboard",
}  # fmt: skip

LOG = """
SELECT done_at, actor, action, subject, origin, before, after
FROM tally.audit_log
WHERE done_at >= @since AND (@action = '' OR action = @action)
  AND (
    @about = ''
    OR STRPOS(LOWER(CONCAT(actor, ' ', subject, ' ', COALESCE(before, ''), ' ', COALESCE(after, ''))), @about) > 0
  )
ORDER BY done_at DESC, subject
LIMIT @most"""
_LOOKED = "_looked_at_audit_log"
log = logging.getLogger("tally.dashboard")


@st.cache_data(ttl=TTL, show_spinner=False)
def _admins(today: date) -> tuple[str, ...]:
    try:
        return admins(read_people(identity.settings().policy_dir / PEOPLE), today)
    except PolicyError as error:
        log.error("nobody is an admin while the people cannot be read", extra={"reason": str(error)})
        return ()


def may_read(email: str, today: date) -> bool:
    """Whether this person is an admin by people.csv; nobody is while it has a fault."""
    return email in _admins(today)


@st.cache_resource(show_spinner=False)
def registry(url: str) -> Registry:
    """The one connection of this process, opened when the first admin looks."""
    return open_registry(url)


def note_look(email: str, now: datetime) -> bool:
    """Write down, once for each session, that somebody looks; False when it cannot be written down now.

    Without the setting `registry` nothing is written down, and that is no fault.
    """
    url = identity.settings().registry
    if url is None or st.session_state.get(_LOOKED):
        return True
    entry = audit.Entry(at=now, actor=email, action="looked", subject="audit log", origin="dashboard")
    try:
        audit.record(registry(url), entry)
    except RegistryError as error:
        log.error("a look at the audit log was not written down", extra={"reason": str(error)})
        return False
    st.session_state[_LOOKED] = True
    return True


def entries(since: datetime, action: str, about: str) -> list[Row]:
    """The newest first, MOST at most; '' is every action. `about` is part of who did it, of what it was done to,
    or of what changed: of each person's budget only that says whose it was."""
    asked = {"since": since, "action": action, "about": about.strip().lower(), "most": MOST}
    return queries._shared(LOG, asked)


def draw(rows: Sequence[Row]) -> None:
    """The entries as a table."""
    last = rows[0]
    tables.draw(
        [
            {
                "at": row["done_at"],
                "who": "Tally" if row["actor"] == "tally" else row["actor"],
                "what": ACTIONS.get(row["action"], row["action"]),
                "subject": row["subject"],
                "before": row["before"] or wording.NOTHING,
                "after": row["after"] or wording.NOTHING,
                "origin": ORIGINS.get(row["origin"], row["origin"]),
            }
            for row in rows
        ],
        alt=f"{len(rows)} entries; the newest is {ACTIONS.get(last['action'], last['action'])}, by {last['actor']}",
        at=DatetimeColumn("Time, UTC", format="D MMM YYYY HH:mm:ss", timezone="UTC", width=165),
        who=TextColumn("Who", width=205),
        what=TextColumn("What", width=110),
        subject=TextColumn("To what", width=185),
        before=TextColumn("Before", width=110),
        after=TextColumn("After", width=130),
        origin=TextColumn("From", width="small"),
    )
