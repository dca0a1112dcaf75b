"""The alerts function: Cloud Scheduler POSTs, and people learn of budgets that are nearly or wholly spent.

IAM stands in front of it. A tick may come late, twice or in parallel; what it did is answered as JSON and logged.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import flask
import functions_framework

from governance import logs
from governance.messages import Channel, Mail, SlackWebhook
from governance.policy import PolicyError
from governance.registry import RegistryError, open_registry
from governance.settings import AlertsSettings, SettingsError, load
from governance.warehouse import WarehouseError, open_warehouse

from .tick import Room, StaleData, tick

log = logging.getLogger(__name__)


def _channels(settings: AlertsSettings) -> list[Channel]:
    channels: list[Channel] = []
    try:
        if settings.slack_webhook_url is not None:
            channels.append(SlackWebhook(settings.slack_webhook_url))
        if settings.smtp_url is not None:
            channels.append(Mail(settings.smtp_url, settings.mail_from))
    except ValueError as error:
        raise SettingsError(f"TALLY_SLACK_WEBHOOK_URL or TALLY_SMTP_URL: {error}") from None
    return channels


def _room(settings: AlertsSettings) -> Room:
    return Room(
        warehouse=open_warehouse(settings.warehouse),
        registry=open_registry(settings.registry),
        channels=_channels(settings),
        policy_dir=settings.policy_dir,
        dashboard_url=settings.dashboard_url,
        stale_after_s=settings.stale_after_s,
        close_day=settings.close_day,
        clock=lambda: datetime.now(UTC),
    )


_settings = load(AlertsSettings)
logs.start(logging.getLevelNamesMapping()[_settings.log_level])
room = _room(_settings)


@functions_framework.http
def alerts(request: flask.Request) -> tuple[dict[str, Any], int]:
    """200 with what was done; 503 when it must be done again later; 500 when the policy has a fault."""
    if request.method != "POST":
        return {"error": "a tick is a POST"}, 405
    try:
        done = tick(room)
    except PolicyError as error:
        log.error("the policy has a fault", extra={"reason": str(error)})
        return {"error": str(error)}, 500
    except (WarehouseError, RegistryError, StaleData) as error:
        log.error("a tick was put off", extra={"reason": f"{type(error).__name__}: {error}"})
        return {"error": f"{type(error).__name__}: {error}"}, 503
    log.info("tick", extra={"done": done})
    return done, 200
