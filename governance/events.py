"""UsageEvent: one call to a provider on behalf of a request, as the proxy publishes it and the warehouse stores it.

The same fields stand in three places, and a test keeps them equal: this class, the published message (JSON of this
class) and the table `sql/tables/events.json`. An event is a fact: it is appended once and never rewritten. What it
costs is an opinion, formed by the views from the token kinds and the price book of that day. There is no prompt and no
answer in it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1

Route = Literal["chat_completions", "messages", "responses", "embeddings"]
UsageSource = Literal["provider", "counted", "none"]
Status = Literal["ok", "error", "aborted", "refused"]
BillingMode = Literal["metered", "subscription"]
KeyKind = Literal["human", "service"]

Tokens = Annotated[int, Field(ge=0, le=10**12)]
Name = Annotated[str, Field(max_length=200)]


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs its time zone")
    return value.astimezone(UTC)


class UsageEvent(BaseModel):
    """One request, or one of its calls where more than one is billed.

    Unknown fields are refused: a newer proxy in front of an older ingest is noticed, not cut.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = Field(1, description="Version of this schema.")
    event_id: Annotated[str, Field(min_length=8, max_length=64)] = Field(
        description="Minted once, in the proxy. Every copy of an event bears it; views count it once."
    )
    request_id: Annotated[str, Field(min_length=8, max_length=64)] = Field(
        description="The request as the caller made it. Provider calls that belong to one request share it."
    )
    occurred_at: Annotated[datetime, AfterValidator(_utc)] = Field(
        description="When the request reached the gateway, UTC. The table is partitioned by it."
    )
    person: Name | None = Field(None, description="E-mail of the key's owner; null for a service key.")
    team: Name | None = Field(None, description="The owner's team at the time of the request.")
    key_id: Name | None = Field(None, description="Public id of the key: never the key, never its full hash.")
    key_kind: KeyKind = Field("human", description="Whether a person or a service owns the key.")
    tool: Name = Field("other", description="Family of the coding agent, as told by its headers.")
    tool_version: Name | None = Field(None, description="Version of the coding agent, as it says itself.")
    user_agent: Name | None = Field(None, description="User-Agent as received, cut at 200 characters.")
    session_id: Name | None = Field(None, description="The agent's own session id, where it sends one.")
    route: Route = Field(description="Which of the gateway's inference routes was called.")
    provider: Name | None = Field(None, description="Who served it: anthropic, openai, openrouter, moonshot.")
    model_requested: Name | None = Field(None, description="Model as the caller named it.")
    model: Name | None = Field(
        None, description="Model as the provider served it; the price book is read by this name."
    )
    provider_request_id: Name | None = Field(
        None, description="The provider's own id of the answer, to match its bill."
    )
    stream: bool = Field(False, description="Whether the caller asked for a stream.")
    status: Status = Field(description="ok, error (provider or gateway), aborted (caller left), refused (ours).")
    http_status: int | None = Field(None, ge=100, le=599, description="Status the caller received.")
    error_class: Name | None = Field(None, description="Class of the error, without its text.")
    latency_ms: int | None = Field(None, ge=0, description="From the request's arrival to the last byte of the answer.")
    time_to_first_token_ms: int | None = Field(
        None, ge=0, description="From the arrival to the first byte of the answer."
    )
    usage_source: UsageSource = Field(
        description="Where the counts come from: the provider's usage, counted by us, or none (nothing was consumed)."
    )
    input_tokens: Tokens = Field(0, description="Input tokens neither read from nor written to a cache.")
    cache_read_tokens: Tokens = Field(0, description="Input tokens read from the provider's prompt cache.")
    cache_write_5m_tokens: Tokens = Field(0, description="Input tokens written to the five-minute cache.")
    cache_write_1h_tokens: Tokens = Field(0, description="Input tokens written to the one-hour cache.")
    output_tokens: Tokens = Field(0, description="Output tokens, reasoning included.")
    reasoning_tokens: Tokens = Field(0, description="Of the output tokens, those spent on reasoning.")
    gateway_cost_usd: Annotated[Decimal, Field(ge=0, max_digits=29, decimal_places=9)] | None = Field(
        None, description="LiteLLM's own figure, kept to compare with ours; never used as ours."
    )
    billing_mode: BillingMode = Field("metered", description="metered, or covered by the caller's own subscription.")
    service_tier: Name | None = Field(
        None, description="Tier as the provider reported it: standard, flex, priority, batch, ultrafast, fast."
    )
    residency: Name | None = Field(
        None, description="Data residency as the provider reported it, where it changes the price."
    )
    superseded: bool = Field(
        False,
        description="A billed call whose answer another call of the same request replaced: no request of its own.",
    )
    input_audio_tokens: Tokens = Field(0, description="Of the input tokens, those of sound.")
    input_image_tokens: Tokens = Field(
        0, description="Of the input tokens, those of pictures, where the provider tells."
    )
    output_audio_tokens: Tokens = Field(0, description="Of the output tokens, those of sound.")
    output_image_tokens: Tokens = Field(0, description="Of the output tokens, those of pictures.")
    web_searches: Tokens = Field(
        0, description="Searches that the provider made for this answer, charged by the piece."
    )
    provider_cost_usd: Annotated[Decimal, Field(ge=0, max_digits=38, decimal_places=18)] | None = Field(
        None, description="What the provider itself said the call cost, where it does (OpenRouter); exact."
    )
    raw_usage: Annotated[str, Field(max_length=4000)] | None = Field(
        None, description="The provider's usage object as it came, as JSON: numbers and names, never text."
    )

    network: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")] | None = Field(
        None, description="The caller's network (/24, or /48 of IPv6) under a name that tells no address."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.reasoning_tokens > self.output_tokens:
            raise ValueError("reasoning_tokens are part of output_tokens and cannot exceed them")
        if self.input_audio_tokens + self.input_image_tokens > self.input_tokens:
            raise ValueError("input_audio_tokens and input_image_tokens are part of input_tokens")
        if self.output_audio_tokens + self.output_image_tokens > self.output_tokens:
            raise ValueError("output_audio_tokens and output_image_tokens are part of output_tokens")
        return self

    def message(self) -> bytes:
        """The event as published: UTF-8 JSON, one object."""
        return self.model_dump_json().encode()

    @classmethod
    def read(cls, data: bytes) -> UsageEvent:
        """An event from a published message. Raises pydantic.ValidationError on anything else."""
        return cls.model_validate_json(data)

    def row(self) -> dict[str, object]:
        """The event as a row of `events`: column name to Python value (datetime in UTC, Decimal for money)."""
        return self.model_dump()
