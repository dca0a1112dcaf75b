"""The rules of a company, from policy/company.yaml: its time zone, what keys may be, when people are told of what."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from governance.policy_csv import Email, Text
from governance.policy_yaml import read_mapping

Rate = Annotated[int, Field(ge=1, le=10**9)]


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class KeyRules(_Rules):
    """What a new key is, unless asked otherwise, and how long it lives. `models` are patterns; none: every model."""

    days: Annotated[int, Field(ge=1, le=1000)] = 90
    longest_days: Annotated[int, Field(ge=1, le=1000)] = 180
    per_person: Annotated[int, Field(ge=1, le=50)] = 5
    overlap_hours: Annotated[int, Field(ge=0, le=720)] = 24
    idle_days: Annotated[int, Field(ge=1, le=1000)] = 30
    disable_after_days: Annotated[int, Field(ge=1, le=1000)] | None = 14
    models: tuple[Text, ...] = ()
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None

    @model_validator(mode="after")
    def _under_the_ceiling(self) -> Self:
        if self.days > self.longest_days:
            raise ValueError(f"days {self.days} is more than longest_days {self.longest_days}")
        return self

    @property
    def overlap(self) -> timedelta:
        """How long a rotated key lives on beside its successor."""
        return timedelta(hours=self.overlap_hours)


class AlertRules(_Rules):
    """When data counts as late, and which digests are sent at which hour of the company's day."""

    stale_after_minutes: Annotated[int, Field(ge=1, le=1440)] = 15
    digest_hour: Annotated[int, Field(ge=0, le=23)] = 8
    digests: tuple[Literal["daily", "weekly"], ...] = ("daily", "weekly")


class RaiseRules(_Rules):
    """How far a budget may be raised within one period, all raises together, in percent of its amount."""

    at_most_percent: Annotated[int, Field(ge=0, le=10_000)] = 100


class AnomalyRules(_Rules):
    """What is odd: a day `deviations` robust deviations above the usual and `minimum_usd` at least; a loop's rate."""

    minimum_usd: Annotated[Decimal, Field(ge=0, le=10**9)] = Decimal(20)
    deviations: Annotated[Decimal, Field(gt=0, le=1000)] = Decimal(6)
    loop_requests_per_minute: Annotated[int, Field(ge=1, le=100_000)] = 60
    history_days: Annotated[int, Field(ge=7, le=366)] = 28


class Company(_Rules):
    """The whole of company.yaml; every part has its default. Periods of budgets are in `time_zone`."""

    time_zone: Text = "UTC"
    operators: tuple[Email, ...] = ()
    keys: KeyRules = KeyRules()
    alerts: AlertRules = AlertRules()
    raises: RaiseRules = RaiseRules()
    anomalies: AnomalyRules = AnomalyRules()

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"there is no time zone {name!r}; write one like Europe/Berlin") from None
        return name

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of periods and of digests."""
        return ZoneInfo(self.time_zone)


DEFAULTS = Company()


def read_company(path: Path) -> Company:
    """The rules in company.yaml; all defaults where there is no such file. Raises PolicyError."""
    return read_mapping(path, Company) if path.exists() else DEFAULTS
