"""Which coding agent is this? The headers of a request to the agent's family, version and session.

A caller may write what it likes into its headers, so this serves adoption, never money. What each agent really sends is
recorded in `tests/payloads/callers.json`; a new agent is a line here and a recorded call there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

USER_AGENT_LENGTH = 200
_VERSION = r"/v?(?P<version>[0-9][\w.+-]*)"

# Family, pattern of its user agent. First match wins: an agent built on a vendor's SDK comes before the SDK.
_USER_AGENTS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (family, re.compile(pattern, re.IGNORECASE))
    for family, pattern in (
        ("claude-code", rf"^claude-(?:cli|code)(?:{_VERSION})?"),
        ("codex", rf"^codex(?:[-_ ][\w -]*)?(?:{_VERSION})?(?=$|[\s/(])"),
        ("kimi-code", rf"^kimi-code-cli(?:{_VERSION})?"),
        ("kimi-cli", rf"^KimiCLI(?:{_VERSION})?"),
        ("opencode", rf"^opencode(?:{_VERSION})?"),
        ("gemini-cli", rf"^GeminiCLI(?:{_VERSION})?"),
        ("cline", rf"^Cline(?:{_VERSION})?"),
        ("copilot-cli", rf"^(?:GitHub)?Copilot(?:-?CLI)?(?:{_VERSION})?"),
        ("aider", rf"^aider(?:{_VERSION})?"),
        (
            "anthropic-sdk",
            rf"^(?:Async)?Anthropic(?:/(?:Python|JS|Go|Java))?\s*(?:{_VERSION}|\s*(?P<v2>[0-9][\w.+-]*))?",
        ),
        ("openai-sdk", rf"^(?:Async)?OpenAI(?:/(?:Python|JS|Go|Java))?\s*(?:{_VERSION}|\s*(?P<v2>[0-9][\w.+-]*))?"),
    )
)
FAMILIES: tuple[str, ...] = (*(family for family, _ in _USER_AGENTS), "other")
# Family, header that only it sends: for a caller whose user agent says nothing (an editor, a proxy in between).
_HEADERS: tuple[tuple[str, str], ...] = (
    ("claude-code", "x-claude-code-session-id"),
    ("codex", "x-codex-turn-metadata"),
)
# Most telling first. A family's own header is believed only from that family: others forward or imitate it.
_SESSIONS: tuple[tuple[str, str | None], ...] = (
    ("x-claude-code-session-id", None),
    ("session-id", "codex"),
    ("session_id", "codex"),
    ("thread-id", "codex"),
    ("conversation_id", "codex"),
    ("x-session-id", None),
    ("x-session-affinity", "opencode"),
    ("x-task-id", "cline"),
)
_SESSION = re.compile(r"^[\w.:-]{8,128}$")


@dataclass(frozen=True)
class Caller:
    """What a request says of the agent that sent it. `family` is `other` where nothing is recognised."""

    family: str
    version: str | None = None
    session_id: str | None = None
    user_agent: str | None = None


@lru_cache(maxsize=4096)
def _named_by(user_agent: str) -> tuple[str | None, str | None]:
    """Family and version, where the user agent tells them."""
    for name, pattern in _USER_AGENTS:
        if match := pattern.match(user_agent):
            found = match.groupdict()
            return name, found.get("version") or found.get("v2")
    return None, None


def identify(headers: Mapping[str, str]) -> Caller:
    """The caller behind a request. `headers` has lower-case names. Never raises: an odd header is an unknown one."""
    user_agent = (headers.get("user-agent") or "").strip()[:USER_AGENT_LENGTH]
    family, version = _named_by(user_agent)
    if family is None:
        family = next((name for name, header in _HEADERS if header in headers), "other")
    session = next(
        (
            value
            for header, only in _SESSIONS
            if only in (None, family) and _SESSION.match(value := headers.get(header, ""))
        ),
        None,
    )
    return Caller(family, version, session, user_agent or None)
