"""The topic stops under load: no request fails, nothing piles up in the gateway, and every event arrives afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.outage import outage
from tests.conftest import eventually
from tests.stack import running

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

OUTAGE_S = 15.0  # bench/outage.py stops it for a minute and measures


def test_a_stopped_topic_fails_no_request_and_loses_no_event(tmp_path: Path) -> None:
    with running(tmp_path / "tally", "--no-history", "--no-traffic") as stack:
        before, during, sent = outage(stack, 5.0, OUTAGE_S)
        assert (before.failures, during.failures) == (0, 0)
        # A stock publisher would hold a hundred threads more for each second of the outage.
        assert during.threads < before.threads + 100
        assert during.rss_mib < before.rss_mib + 150
        eventually(lambda: stack.request_count() >= sent, within_s=120)
        assert stack.request_count() == sent
