"""The only file that reads the environment. A process that lacks a setting stops at its start and says which one.

Every variable is `TALLY_` + the field's name in capitals. A secret may be given three ways: as the value itself, as
`file:/path` (a mounted file), or as `sm://name[/version]` (Secret Manager, version `latest` unless given).
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(SystemExit):
    """Stops the process with one line for each setting that is missing or wrong. Holds no values."""


@lru_cache(maxsize=64)
def _from_secret_manager(project: str, name: str, version: str) -> str:
    from google.cloud import secretmanager

    client = secretmanager.SecretManagerServiceClient()
    answer = client.access_secret_version(name=f"projects/{project}/secrets/{name}/versions/{version}")
    return answer.payload.data.decode()


def read_secret(given: object) -> object:
    """The secret behind `file:/path` or `sm://name[/version]`; anything else is the secret itself.

    Raises ValueError, in words that name the place and not the content.
    """
    text = given.get_secret_value() if isinstance(given, SecretStr) else given
    if not isinstance(text, str):
        return given
    if text.startswith("file:"):
        path = Path(text.removeprefix("file:").removeprefix("//"))
        try:
            text = path.read_text()
        except OSError as error:
            raise ValueError(f"the file {path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"the file {path} is not UTF-8") from None
    elif text.startswith("sm://"):
        name, _, version = text.removeprefix("sm://").partition("/")
        project = os.environ.get("TALLY_PROJECT") or os.environ.get("GOOGLE_CLOUD_PROJECT")
        if not project:
            raise ValueError("sm:// needs TALLY_PROJECT, the project that holds the secret")
        try:
            text = _from_secret_manager(project, name, version or "latest")
        except Exception as error:
            raise ValueError(f"Secret Manager did not give {name}: {type(error).__name__}") from None
    text = text.rstrip("\r\n")  # what an editor or `echo` leaves at the end of a file
    if not text:
        raise ValueError("the secret is empty")
    return SecretStr(text)


Secret = Annotated[SecretStr, BeforeValidator(read_secret)]


def audiences(given: str) -> list[str]:
    """The names in a list with commas between."""
    return [name.strip() for name in given.split(",") if name.strip()]


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="TALLY_", frozen=True, extra="ignore", hide_input_in_errors=True, env_ignore_empty=True
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The least that is logged.")


class ProxySettings(_Settings):
    """What the gateway needs."""

    registry: str = Field(description="Where keys are: firestore://project[/database] or sqlite:///path.")
    key_pepper: Secret = Field(description="The secret under which keys are hashed; the same as in the keys function.")
    topic: str = Field(description="Where events go: projects/<project>/topics/<topic>.")
    spill: str = Field("stdout", description="Where events go that the topic does not take: stdout, or a file's path.")
    key_cache_ttl_s: float = Field(3.0, gt=0, le=5, description="How long a key is trusted unasked: bounds revocation.")
    key_stale_s: float = Field(300.0, ge=0, description="How long a known key is trusted while the registry is down.")
    forwarded_hops: int = Field(
        0,
        ge=0,
        le=5,
        description="Where a caller's address stands: 0 the socket's peer, n the n-th last entry of x-forwarded-for"
        " (1 on Cloud Run, 2 there behind a load balancer).",
    )
    close_grace_s: float = Field(3.0, gt=0, description="How long an ended request waits for LiteLLM's account of it.")
    gate_poll_s: float = Field(2.0, gt=0, le=60, description="How often the gateway looks which budgets are used up.")
    policy_dir: Path | None = Field(
        None, description="The folder with prices.yaml, for what requests cost; unset: list prices."
    )


class IngestSettings(_Settings):
    """What the ingest function needs."""

    warehouse: str = Field(description="bigquery://project, or the URL of a local warehouse owner.")
    insert_parallel: int = Field(4, ge=1, le=32, description="Inserts under way at once.")
    insert_rows: int = Field(500, ge=1, le=5000, description="Rows in one insert at most.")


class KeysSettings(_Settings):
    """What the keys function needs."""

    registry: str = Field(description="Where keys are: firestore://project[/database] or sqlite:///path.")
    key_pepper: Secret = Field(description="The secret under which keys are hashed; the same as in the proxy.")
    slack_signing_secret: Secret | None = Field(
        None, description="Slack app: Basic Information, Signing Secret; unset: no Slack."
    )
    slack_bot_token: Secret | None = Field(
        None,
        description="Slack app: OAuth, Bot User Token (users:read, users:read.email, chat:write, commands).",
    )
    slack_team_id: str | None = Field(None, description="The Slack workspace that may ask, T….")
    slack_api_url: str = Field("https://slack.com/api/", description="Slack's Web API; a stand-in in tests.")
    policy_dir: Path = Field(Path("policy"), description="The folder with people.csv and company.yaml.")
    proxy_url: str = Field(description="The gateway's address as agents must write it.")
    iap_audiences: str = Field(
        "", description="Audiences of IAP assertions that the JSON endpoint believes, comma between; unset: none."
    )
    iap_certs_url: str = Field(
        "https://www.gstatic.com/iap/verify/public_key", description="Where IAP's public keys are; a stand-in in tests."
    )
    api_audience: str = Field(
        "",
        description="Audiences of Google ID tokens that the JSON endpoint believes, comma between; unset: none. "
        "A person's own `gcloud auth print-identity-token` has 32555940559.apps.googleusercontent.com.",
    )
    api_certs_url: str = Field(
        "https://www.googleapis.com/oauth2/v1/certs",
        description="Where Google's certificates are; a stand-in in tests.",
    )

    @property
    def has_api(self) -> bool:
        """Whether JSON is served."""
        return bool(audiences(self.iap_audiences) or audiences(self.api_audience))

    @model_validator(mode="after")
    def _somebody_is_served(self) -> Self:
        slack = (self.slack_signing_secret, self.slack_bot_token, self.slack_team_id)
        if any(slack) and not all(slack):
            raise ValueError("Slack needs TALLY_SLACK_SIGNING_SECRET, TALLY_SLACK_BOT_TOKEN and TALLY_SLACK_TEAM_ID")
        if not any(slack) and not self.has_api:
            raise ValueError(
                "set TALLY_SLACK_SIGNING_SECRET, TALLY_SLACK_BOT_TOKEN and TALLY_SLACK_TEAM_ID, or TALLY_API_AUDIENCE "
                "or TALLY_IAP_AUDIENCES, or all of them"
            )
        return self


class AlertsSettings(_Settings):
    """What the alerts function needs."""

    warehouse: str = Field(description="bigquery://project, or the URL of a local warehouse owner.")
    registry: str = Field(description="Where keys, limits and what was said are: firestore://… or sqlite:///….")
    policy_dir: Path = Field(Path("policy"), description="The folder with all that a company edits.")
    slack_webhook_url: Secret | None = Field(None, description="Slack-compatible incoming webhook: one shared channel.")
    slack_bot_token: Secret | None = Field(
        None, description="Slack app: Bot User OAuth Token (chat:write, users:read.email): people, one by one."
    )
    slack_channel: str = Field("", description="Where the bot says what is for all: C… or a name; unset: the webhook.")
    slack_api_url: str = Field("https://slack.com/api/", description="Slack's Web API; a stand-in in tests.")
    webhook_url: Secret | None = Field(None, description="A server of yours that takes alerts as signed JSON.")
    webhook_secret: Secret | None = Field(None, description="What they are signed with: 16 characters or more.")
    smtp_url: Secret | None = Field(
        None, description="smtp://[user:password@]host[:port] or smtps://…; unset: no mail."
    )
    mail_from: str = Field("tally@localhost", description="Sender of e-mail.")
    dashboard_url: str = Field("", description="The dashboard's address, for links in messages.")
    stale_after_s: int = Field(
        86400,
        ge=60,
        description="Where no gateway tells what it sent: age of the newest row from which nothing is judged.",
    )
    close_day: int = Field(5, ge=1, le=28, description="Day of the month (UTC) on which the month before is closed.")

    @model_validator(mode="after")
    def _channels_are_whole(self) -> Self:
        if self.slack_channel and self.slack_bot_token is None:
            raise ValueError("TALLY_SLACK_CHANNEL is where the bot speaks: set TALLY_SLACK_BOT_TOKEN too")
        if self.slack_channel and self.slack_webhook_url is not None:
            raise ValueError("set one of TALLY_SLACK_CHANNEL and TALLY_SLACK_WEBHOOK_URL: both are the shared place")
        if (self.webhook_url is None) != (self.webhook_secret is None):
            raise ValueError("set both of TALLY_WEBHOOK_URL and TALLY_WEBHOOK_SECRET, or neither")
        return self


class BillsSettings(_Settings):
    """What the bills function needs. One admin key at least."""

    warehouse: str = Field(description="bigquery://project, or the URL of a local warehouse owner.")
    openai_admin_key: Secret | None = Field(None, description="OpenAI admin key, read-only; unset: not read.")
    anthropic_admin_key: Secret | None = Field(None, description="Anthropic admin key; unset: not read.")
    openai_admin_url: str = Field("https://api.openai.com", description="OpenAI's admin API; a stand-in in tests.")
    anthropic_admin_url: str = Field(
        "https://api.anthropic.com", description="Anthropic's admin API; a stand-in in tests."
    )
    openai_gateway: str = Field(
        "", description="Ids of OpenAI projects and API keys that only the gateway uses, comma between; unset: unknown."
    )
    anthropic_gateway: str = Field(
        "", description="Ids of Anthropic workspaces that only the gateway uses, or default; unset: unknown."
    )
    bill_days: int = Field(35, ge=2, le=180, description="Days before today that are read again each time.")

    def gateway_of(self, provider: Literal["openai", "anthropic"]) -> tuple[str, ...]:
        """Ids of what is the gateway's own at a provider."""
        told = self.openai_gateway if provider == "openai" else self.anthropic_gateway
        return tuple(id.strip() for id in told.split(",") if id.strip())

    @model_validator(mode="after")
    def _something_to_read(self) -> Self:
        if self.openai_admin_key is None and self.anthropic_admin_key is None:
            raise ValueError("set TALLY_OPENAI_ADMIN_KEY or TALLY_ANTHROPIC_ADMIN_KEY, or both")
        if any(id.startswith("apikey_") for id in self.gateway_of("anthropic")):
            raise ValueError("TALLY_ANTHROPIC_GATEWAY takes workspaces: Anthropic's cost report names no keys")
        return self


class DashboardSettings(_Settings):
    """What the dashboard needs. Exactly one of `iap_audience` and `viewer`."""

    warehouse: str = Field(description="bigquery://project, or the URL of a local warehouse owner.")
    policy_dir: Path = Field(Path("policy"), description="The folder with people.csv and budgets.yaml.")
    proxy_url: str = Field("", description="The gateway's address, shown where agents are connected.")
    registry: str | None = Field(
        None, description="Where it is written down that an admin opened the audit log; unset: nowhere."
    )
    iap_audience: str | None = Field(None, description="Audience of the IAP assertion; set in the cloud.")
    iap_certs_url: str = Field(
        "https://www.gstatic.com/iap/verify/public_key", description="Where IAP's public keys are; a stand-in in tests."
    )
    viewer: str | None = Field(
        None, description="On a laptop: the person the dashboard is drawn for. Never in the cloud."
    )
    stale_after_s: int = Field(
        900, ge=10, description="Age of the newest event from which pages say that data is late."
    )

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if (self.iap_audience is None) == (self.viewer is None):
            raise ValueError("set exactly one of TALLY_IAP_AUDIENCE (cloud) and TALLY_VIEWER (laptop)")
        return self


def bigquery_emulator() -> str | None:
    """Address of a BigQuery emulator, http://host:port. The client reads it too, but would still log in."""
    return os.environ.get("BIGQUERY_EMULATOR_HOST")


S = TypeVar("S", bound=_Settings)


def load(kind: type[S]) -> S:
    """The settings of one process, from the environment. Raises SettingsError naming each variable at fault."""
    try:
        return kind()
    except ValidationError as error:
        lines = []
        for fault in error.errors(include_input=False, include_url=False):
            if not fault["loc"]:
                lines.append(f"  {fault['msg'].removeprefix('Value error, ')}")
                continue
            field = str(fault["loc"][0])
            about = kind.model_fields[field].description or ""
            what = "is not set" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
            lines.append(f"  TALLY_{field.upper()}: {what}. {about}")
        raise SettingsError(f"{kind.__name__}: settings are missing or wrong\n" + "\n".join(lines)) from None
