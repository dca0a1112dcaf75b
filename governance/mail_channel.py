"""E-mail over SMTP.

The server's own words may quote what it was sent, a password or an address; so an error names the kind of trouble
alone, and is made outside the `except`.
"""

from __future__ import annotations

import logging
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import SecretStr

from governance.messages import DeliveryError, Message, Unreachable

_HERE = {"localhost", "127.0.0.1", "::1"}  # a relay on the same machine has a certificate of its own making
log = logging.getLogger(__name__)


class Mail:
    """E-mail by `smtp://[user:password@]host[:port]` or `smtps://…`.

    TLS with a certificate that is checked: with `smtps` always; with `smtp` by STARTTLS, before any password, and also
    without one where a server elsewhere offers it.
    """

    name = "mail"
    private_too = True

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
        """Hand the message to the server: one mail for all, or one for each addressee of a private one.

        An address that is refused for good is logged, without it; one that is refused for now is an error, so that it
        is tried again.
        """
        if not message.to:
            raise Unreachable("e-mail: there is nobody to tell; give somebody the role lead, finance or admin")
        refused: dict[str, int] = {}
        reached: list[str] = []
        trouble = self._hand_over(message, refused, reached)
        if trouble:
            raise DeliveryError(f"e-mail: {trouble}", tuple(reached))
        if any(400 <= code < 500 for code in refused.values()):
            said = "e-mail: the server refused some of the addresses for now"
            raise DeliveryError(said, tuple(reached), only_this=True)
        if not reached:
            raise Unreachable("e-mail: the server refused every address")
        if refused:
            log.warning("the mail server refused some of the addresses", extra={"refused": len(refused)})

    def _hand_over(self, message: Message, refused: dict[str, int], reached: list[str]) -> str:
        """The kind of trouble, or "". Notes who was refused, with the server's code, and who has the mail."""
        try:
            server = self._connected()
            try:
                for to in _groups(message):
                    try:
                        no = server.send_message(self._composed(message, to), to_addrs=to)
                    except smtplib.SMTPRecipientsRefused as error:
                        no = error.recipients
                    refused.update((address, code) for address, (code, _) in no.items())
                    reached.extend(address for address in to if address not in no)
            finally:
                with suppress(smtplib.SMTPException):  # what is taken is taken, however the goodbye goes
                    server.quit()
                server.close()
        except smtplib.SMTPNotSupportedError:
            return "the server offers no STARTTLS, no login or no UTF-8 addresses; a password is not sent in clear"
        except smtplib.SMTPResponseException as error:
            return f"the server answered {error.smtp_code}"
        except (smtplib.SMTPException, OSError, ValueError) as error:
            return f"could not be handed over ({type(error).__name__})"
        return ""

    def _connected(self) -> smtplib.SMTP:
        if self._tls:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, timeout=self._timeout_s, context=self._context
            )
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=self._timeout_s)
        try:
            server.ehlo_or_helo_if_needed()
            if not self._tls and (self._user or (server.has_extn("starttls") and self._host not in _HERE)):
                server.starttls(context=self._context)
            if self._user:
                server.login(self._user, self._password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server

    def _composed(self, message: Message, to: tuple[str, ...]) -> EmailMessage:
        composed = EmailMessage()
        composed["Subject"] = " ".join(message.subject.split())  # a line end would be another header
        composed["From"] = self._sender
        composed["To"] = ", ".join(to)
        composed["Date"] = formatdate()
        composed["Message-ID"] = make_msgid("tally", domain=self._sender.rpartition("@")[2].strip("> ") or "tally")
        composed["Auto-Submitted"] = "auto-generated"
        commands = [f"{button.label}: {button.command}" for button in message.buttons]
        composed.set_content("\n".join([message.text, *([""] if commands else []), *commands]))
        return composed


def _groups(message: Message) -> Iterator[tuple[str, ...]]:
    """Who gets one mail together: all, or of a private message each alone."""
    if message.private:
        yield from ((address,) for address in message.to)
    else:
        yield message.to


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
