"""A webhook of the company's own: each message as JSON, signed, so that a receiver knows who said it and says it once.

docs/channels.md tells receivers what is signed and how to check it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import SecretStr

from governance.channels import Post, http_url
from governance.messages import Message

SIGNATURE: Final = "X-Tally-Signature"
LEAST_SECRET: Final = 16  # characters


def signature(secret: SecretStr, at: int, body: bytes) -> str:
    """`t=<unix seconds>,v1=<hex>`: HMAC-SHA256 of `<t>.<body>`."""
    signed = hmac.new(secret.get_secret_value().encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={signed.hexdigest()}"


class SignedWebhook:
    """Any server that takes a POST and answers 2xx. Who reads there is not known, so nothing private goes to it."""

    name = "webhook"
    private_too = False

    def __init__(
        self,
        url: SecretStr,
        secret: SecretStr,
        *,
        post: Post | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if len(secret.get_secret_value()) < LEAST_SECRET:
            raise ValueError(f"the secret of a signed webhook has {LEAST_SECRET} characters at least")
        self._url, self._secret, self._clock = http_url(url, "a webhook"), secret, clock
        self._post = post or Post("the webhook")

    def send(self, message: Message) -> None:
        """Post the message. Each attempt is signed anew, for a signature is good for minutes; the body stays."""
        body = {
            "id": message.id,
            "at": datetime.fromtimestamp(int(self._clock()), UTC).isoformat(),
            "about": message.about,
            "severity": message.severity,
            "subject": message.subject,
            "text": message.text,
        }
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", errors="replace")

        def made() -> Mapping[str, Any]:
            signed = signature(self._secret, int(self._clock()), content)
            return {"data": content, "headers": {"content-type": "application/json", SIGNATURE: signed}}

        self._post(self._url, made)
