"""How a refusal is worded: in the dialect of the route, saying what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import orjson

Words = Literal["openai", "anthropic"]

_TYPES: dict[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    503: "api_error",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request goes no further. `kind` is for programs and for the event, `message` for the caller.

    `resets_at`, in seconds since 1970, is where a budget is used up: the vendors have words of their own for that.
    """

    status: int
    kind: str
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    resets_at: int | None = None

    def body(self, words: Words) -> bytes:
        """The answer's body, as the provider of that route would shape it."""
        kind, more = _TYPES.get(self.status, "api_error"), {}
        if self.resets_at is not None:
            kind = "billing_error" if words == "anthropic" else "usage_limit_reached"  # Codex stops at this word alone
            more = {"resets_at": self.resets_at}
        if words == "anthropic":
            return orjson.dumps({"type": "error", "error": {"type": kind, "message": self.message}})
        error = {"message": self.message, "type": kind, "param": None, "code": self.kind, **more}
        return orjson.dumps({"error": error})


class Refused(Exception):
    """Carries a refusal to where it is answered."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.kind)
        self.refusal = refusal


NO_KEY = Refusal(
    401,
    "invalid_api_key",
    "This gateway needs a Tally key (sk-tally-…) as `Authorization: Bearer` or `x-api-key`. Get one with /tally issue.",
)
UNKNOWN_KEY = Refusal(401, "invalid_api_key", "This Tally key is not known. Get a new one with /tally issue.")
SILENT = Refusal(503, "registry_silent", "Keys cannot be checked at the moment. Try again in a minute.")
NOT_HERE = Refusal(
    403,
    "not_inference",
    "The gateway serves models only: chat/completions, messages, responses, embeddings and models, below /v1.",
)
TOO_LARGE = Refusal(413, "request_too_large", "The request is larger than the gateway takes (64 MiB).")
ENCODED = Refusal(415, "content_encoding", "The gateway takes uncompressed JSON. Switch request compression off.")
NOT_JSON = Refusal(400, "invalid_json", "The body is not JSON.")
BROKEN = Refusal(
    500, "gateway_error", "The gateway failed on this request. Try again; tell whoever runs it if it stays."
)
