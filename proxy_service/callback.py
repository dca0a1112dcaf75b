"""LiteLLM's own account of a request: its figure for the cost, the provider's name, the class of an error.

LiteLLM calls this once for most requests, in the background, around or after the end of the answer; for some it never
does. The desk waits for it a little, and closes the request without it. Nothing of the messages is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from proxy_service import usage
from proxy_service.asked import Account
from proxy_service.inflight import Desk

log = logging.getLogger(__name__)


def account(told: Mapping[str, Any]) -> Account:
    """LiteLLM's `standard_logging_object` in our words."""
    metadata, error = told.get("metadata") or {}, told.get("error_information") or {}
    raw = metadata.get("usage_object")
    cost = told.get("response_cost")
    return Account(
        provider=told.get("custom_llm_provider") or None,
        model=told.get("model") or None,
        cost_usd=float(cost) if isinstance(cost, int | float) else None,
        error_class=error.get("error_class") or None,
        tokens=usage.read(raw, "chat") if isinstance(raw, Mapping) else usage.Tokens(),
        output_measured=not told.get("stream"),  # on a stream LiteLLM counts where the provider tells nothing
    )


class Callback(CustomLogger):
    """Hands LiteLLM's account to the desk. Never raises."""

    def __init__(self) -> None:
        super().__init__()
        self.desk: Desk | None = None
        self.failures = 0

    def _tell(self, kwargs: Mapping[str, Any]) -> None:
        try:
            told = kwargs.get("standard_logging_object")
            if told and self.desk is not None:
                self.desk.told(str(told.get("litellm_call_id")), account(told))
        except Exception as error:
            self.failures += 1
            log.error("LiteLLM's account cannot be read", extra={"error": type(error).__name__})

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """An answer was had, whole or in part."""
        self._tell(kwargs)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """An answer was not had."""
        self._tell(kwargs)


handler = Callback()
