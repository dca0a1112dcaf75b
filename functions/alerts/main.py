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
from governance.mail_channel import Mail
from governance.messages import Channel
from governance.policy import PolicyError
from governance.registry import Conflict, RegistryError, open_registry
from governance.settings import AlertsSettings, SettingsError, load
from governance.slack_channel import SlackBot, SlackWebhook
from governance.warehouse import WarehouseError, open_warehouse
from governance.webhook_channel import SignedWebhook

from .tick import Room, tick

log = logging.getLogger(__name__)


def _channels(settings: AlertsSettings) -> list[Channel]:
    """The ways to people that are set up. Raises SettingsError without a word of a secret."""
    channels: list[Channel] = []
    at_fault = "TALLY_SLACK_WEBHOOK_URL"
    try:
        webhook = SlackWebhook(settings.slack_webhook_url) if settings.slack_webhook_url else None
        at_fault = "TALLY_SLACK_BOT_TOKEN or TALLY_SLACK_API_URL"
        if settings.slack_bot_token:
            bot = SlackBot(
                settings.slack_bot_token, settings.slack_channel, shared=webhook, api_url=settings.slack_api_url
            )
            channels.append(bot)
        elif webhook:
            channels.append(webhook)
        at_fault = "TALLY_SMTP_URL"
        if settings.smtp_url:
            channels.append(Mail(settings.smtp_url, settings.mail_from))
        at_fault = "TALLY_WEBHOOK_URL or TALLY_WEBHOOK_SECRET"
        if settings.webhook_url and settings.webhook_secret:
            channels.append(SignedWebhook(settings.webhook_url, settings.webhook_secret))
    except ValueError as error:
        raise SettingsError(f"{at_fault}: {error}") from None
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
    except (WarehouseError, RegistryError, Conflict) as error:
        log.error("a tick was put off", extra={"reason": f"{type(error).__name__}: {error}"})
        return {"error": f"{type(error).__name__}: {error}"}, 503
    log.info("tick", extra={"done": done})
    return done, 200
