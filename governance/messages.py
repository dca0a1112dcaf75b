"""What Tally says to people, and the two channels it says it through: a Slack-compatible webhook and SMTP.

The webhook's address and the SMTP password are secrets. The libraries underneath put them into their exceptions and
debug lines; so an error is made anew here, outside the `except`, and names the channel and the kind of trouble alone.
"""

from __future__ import annotations

import logging
import smtplib
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import requests
from pydantic import SecretStr

from governance.budgets import Standing

# urllib3 writes the request's path at DEBUG and, for odd headers, at WARNING. The path of a webhook is the secret.
logging.getLogger("urllib3").setLevel(logging.ERROR)
log = logging.getLogger(__name__)


class DeliveryError(Exception):
    """A channel did not take a message. Says which and why, never where to."""


@dataclass(frozen=True)
class Message:
    """A short text. `to` are the e-mail addresses; a webhook has its own readers."""

    subject: str
    text: str
    to: tuple[str, ...]


class Channel(Protocol):
    """A way to people. `name` is stable: what was sent is remembered by it."""

    name: str

    def send(self, message: Message) -> None:
        """Hand the message over, once. Raises DeliveryError when it was not taken."""


def usd(amount: Decimal) -> str:
    """Dollars and cents, as people write them: $1,234.50."""
    return f"${amount:,.2f}"


def day(on: date) -> str:
    """A day, as people write it: 1 December 2026."""
    return f"{on.day} {on:%B %Y}"


def budget_message(stood: Standing, threshold: int, to: tuple[str, ...], dashboard_url: str = "") -> Message:
    """What people read when spending crosses `threshold` percent: what happened, how much, until when, what to do."""
    budget, period = stood.budget, stood.period
    owner = f"team {budget.name}" if budget.name else "the company"
    month = f"{period.starts_on:%B %Y}"
    used = int(stood.used_share * 100)  # rounded down: 100 is said when it is so
    lines = [
        f"{owner[0].upper()}{owner[1:]} has used {used}% of its model budget for {month}: "
        f"{usd(stood.spent_usd)} of {usd(budget.amount_usd)}."
    ]
    if stood.status == "over":
        lines.append(f"That is {usd(stood.spent_usd - budget.amount_usd)} over. Nothing is blocked.")
    elif stood.forecast_usd is not None:
        lines.append(f"At this pace it will be about {usd(stood.forecast_usd)} by the end of the month.")
    lines.append(f"The budget starts anew on {day(period.ends_on)}, 00:00 UTC.")
    see = f"see which models and tools it went to: {dashboard_url}" if dashboard_url else "see the dashboard"
    lines.append(f"What to do: {see} - or raise the amount in policy/budgets.yaml.")
    subject = f"Tally: {owner} has passed {threshold}% of the {month} budget"
    return Message(subject, "\n".join(lines), to)


def unpriced_message(
    model: str, calls: int, cost_usd: Decimal, to: tuple[str, ...], dashboard_url: str = ""
) -> Message:
    """What people read when a model is used that the price book does not know: what it is costed at, and what to do."""
    lines = [
        f"{model} is not in the price book. Its {calls:,} calls so far are costed at the fallback price: "
        f"{usd(cost_usd)}.",
        "That is a guess, and every page says so. What to do: write its price into policy/prices.yaml, or run "
        "`make prices`; all of it is costed anew by itself.",
    ]
    if dashboard_url:
        lines.append(f"All such models: {dashboard_url.rstrip('/')}/data_health")
    return Message(f"Tally: no price for {model}", "\n".join(lines), to)


class SlackWebhook:
    """An incoming webhook of Slack, or of anything that takes `{"text": …}` and answers 2xx."""

    name = "slack"

    def __init__(
        self, url: SecretStr, *, attempts: int = 3, timeout_s: float = 5.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        if not url.get_secret_value().startswith(("https://", "http://")):
            raise ValueError("a Slack webhook is https://…")
        self._url, self._attempts, self._timeout_s, self._sleep = url, attempts, timeout_s, sleep

    def send(self, message: Message) -> None:
        """Post the text; again after 1 s, 2 s, … on 429, 5xx and a broken connection, and never on another refusal."""
        trouble = ""
        for attempt in range(self._attempts):
            answer = self._post(message)
            if isinstance(answer, int):
                if answer < 300:
                    return
                trouble = f"answered {answer}"
                if answer != 429 and answer < 500:
                    break
            else:
                trouble = answer
            if attempt + 1 < self._attempts:
                self._sleep(2.0**attempt)
        raise DeliveryError(f"the Slack webhook {trouble}")

    def _post(self, message: Message) -> int | str:
        """The status of the answer, or the kind of trouble that came instead."""
        text = f"*{message.subject}*\n{message.text}"
        for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(plain, escaped)
        try:
            answer = requests.post(
                self._url.get_secret_value(), json={"text": text}, timeout=self._timeout_s, allow_redirects=False
            )
        except (requests.RequestException, ValueError) as error:  # its text holds the address
            return f"could not be reached ({type(error).__name__})"
        return answer.status_code


class Mail:
    """E-mail over SMTP: `smtp://[user:password@]host[:port]` or `smtps://…`. A password is only ever sent under TLS."""

    name = "mail"

    def __init__(
        self, url: SecretStr, sender: str, *, timeout_s: float = 10.0, context: ssl.SSLContext | None = None
    ) -> None:
        parts, port = _smtp_parts(url)
        self._tls = parts.scheme == "smtps"
        self._host, self._user = parts.hostname or "", unquote(parts.username or "")
        self._password = SecretStr(unquote(parts.password or ""))
        self._port = port or (465 if self._tls else 587 if self._user else 25)
        self._sender, self._timeout_s = sender, timeout_s
        self._context = context or ssl.create_default_context()

    def send(self, message: Message) -> None:
        """Hand one message for all addresses to the server. That some are refused is logged, without the addresses."""
        if not message.to:
            raise DeliveryError("e-mail: there is nobody to tell; give somebody the role lead, finance or admin")
        refused, trouble = self._hand_over(message)
        if trouble:
            raise DeliveryError(f"e-mail: {trouble}")
        if refused:
            log.warning("the mail server refused some of the addresses", extra={"refused": refused})

    def _hand_over(self, message: Message) -> tuple[int, str]:
        """(addresses refused, kind of trouble): the server's own words may quote what it was sent."""
        try:
            server = self._connected()
            try:
                return len(server.send_message(self._composed(message))), ""
            finally:
                with suppress(smtplib.SMTPException):  # what is taken is taken, however the goodbye goes
                    server.quit()
                server.close()
        except smtplib.SMTPNotSupportedError:
            return 0, "the server offers no STARTTLS, no login or no UTF-8 addresses; a password is not sent in clear"
        except smtplib.SMTPResponseException as error:
            return 0, f"the server answered {error.smtp_code}"
        except smtplib.SMTPRecipientsRefused:
            return 0, "the server refused every address"
        except (smtplib.SMTPException, OSError, ValueError) as error:
            return 0, f"could not be handed over ({type(error).__name__})"

    def _connected(self) -> smtplib.SMTP:
        if self._tls:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, timeout=self._timeout_s, context=self._context
            )
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=self._timeout_s)
        try:
            if self._user and not self._tls:
                server.starttls(context=self._context)
            if self._user:
                server.login(self._user, self._password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server

    def _composed(self, message: Message) -> EmailMessage:
        composed = EmailMessage()
        composed["Subject"] = message.subject
        composed["From"] = self._sender
        composed["To"] = ", ".join(message.to)
        composed["Date"] = formatdate()
        composed["Message-ID"] = make_msgid("tally", domain=self._sender.rpartition("@")[2].strip("> ") or "tally")
        composed["Auto-Submitted"] = "auto-generated"
        composed.set_content(message.text)
        return composed


def _smtp_parts(url: SecretStr) -> tuple[SplitResult, int | None]:
    """The parts of the URL and its port. Raises ValueError without a word of the URL: a stray `#` moves its secret."""
    try:
        parts = urlsplit(url.get_secret_value())
        port = parts.port
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError("an SMTP server is smtp://[user:password@]host[:port] or smtps://…, percent-encoded")
    return parts, port
