"""What a push request says: an event, or something to be shelved with the reason. Pure; it never raises on any bytes.

A reason names fields and faults, never what stood in them.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from governance.events import SCHEMA_VERSION, UsageEvent

RAW_LIMIT: Final = 4_000_000  # bytes of a message that are shelved; a row in BigQuery has 10 MB in all, base64 included
ATTRIBUTES_LIMIT: Final = 200_000  # characters as JSON; Pub/Sub itself takes 100 attributes of at most 1,280 bytes

Row = dict[str, Any]


class _Message(BaseModel):
    data: str = ""
    message_id: str | None = Field(None, alias="messageId", max_length=200)
    attributes: dict[str, str] | None = None


class _Envelope(BaseModel):
    message: _Message
    subscription: str | None = Field(None, max_length=1000)


class Unreadable(Exception):
    """Why these bytes are no event, in words that hold nothing of their content."""


@dataclass(frozen=True)
class Delivery:
    """One message as delivered: its bytes, what the topic says about it, and what is wrong with its wrapping."""

    data: bytes
    message_id: str | None = None
    attributes: str | None = None
    subscription: str | None = None
    fault: str | None = None

    def shelved(self, reason: str, at: datetime) -> Row:
        """The delivery as a row of `shelved`."""
        if len(self.data) > RAW_LIMIT:
            reason += f"; kept the first {RAW_LIMIT} of {len(self.data)} bytes"
        return {
            "shelved_at": at,
            "message_id": self.message_id,
            "reason": reason,
            "raw": self.data[:RAW_LIMIT],
            "attributes": self.attributes,
            "subscription": self.subscription,
        }


def unwrap(body: bytes) -> Delivery:
    """The delivery in a push request's body; a body of another kind is one whole, faulty delivery."""
    try:
        envelope = _Envelope.model_validate_json(body)
    except ValidationError:
        return Delivery(body, fault="the request is no Pub/Sub push")
    message, subscription = envelope.message, envelope.subscription
    attributes = json.dumps(message.attributes or {})
    if len(attributes) > ATTRIBUTES_LIMIT:
        return Delivery(body, fault="the request is no Pub/Sub push")
    try:
        data = base64.b64decode(message.data, validate=True)
    except (binascii.Error, ValueError):
        text = message.data.encode()
        return Delivery(text, message.message_id, attributes, subscription, "the data is not base64")
    return Delivery(data, message.message_id, attributes, subscription)


def read_event(data: bytes) -> UsageEvent:
    """The event in a message: as published, as a spilled line, or as the log entry of such a line.

    Raises Unreadable for everything else.
    """
    if not data:
        raise Unreadable("the message has no data")
    try:
        found = from_json(data)
    except ValueError:
        raise Unreadable("the data is not JSON") from None
    if isinstance(found, dict):
        line = found.get("jsonPayload", found)
        if isinstance(line, dict) and line.get("message") == "usage_event":
            found = line.get("event")
    if not isinstance(found, dict):
        raise Unreadable("the data holds no JSON object")
    if found.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise Unreadable("schema_version: not one that this ingest knows")
    try:
        return UsageEvent.model_validate(found)
    except ValidationError as error:
        raise Unreadable(_faults(error)) from None


def _faults(error: ValidationError) -> str:
    faults = {_fault(fault["loc"], fault["type"]) for fault in error.errors(include_input=False, include_url=False)}
    return "; ".join(sorted(faults))


def _fault(location: tuple[int | str, ...], kind: str) -> str:
    name = str(location[0]) if location else "event"
    return f"{name}: {kind}" if not location or name in UsageEvent.model_fields else "a field that events do not have"
