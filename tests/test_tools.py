"""governance/tools.py: each recorded call is recognised, and no header can break it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.tools import USER_AGENT_LENGTH, identify

CALLERS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "payloads" / "callers.json").read_text())


@pytest.mark.parametrize("call", CALLERS, ids=[c["about"] for c in CALLERS])
def test_a_recorded_call_is_recognised(call: dict[str, Any]) -> None:
    caller = identify(call["headers"])
    assert (caller.family, caller.version, caller.session_id) == (call["family"], call["version"], call["session_id"])


@given(
    st.dictionaries(st.sampled_from(["user-agent", "session-id", "x-session-id", "originator"]), st.text(max_size=400))
)
def test_no_header_breaks_it_and_what_is_kept_is_bounded(headers: dict[str, str]) -> None:
    caller = identify(headers)
    assert len(caller.user_agent or "") <= USER_AGENT_LENGTH
    assert len(caller.version or "") <= USER_AGENT_LENGTH
    assert len(caller.session_id or "") <= 128
