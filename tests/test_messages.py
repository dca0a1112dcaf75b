"""What Tally says arrives once, in plain words, and no secret comes along: not in an error, not in a log."""

from __future__ import annotations

import datetime as dt
import json
import logging
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from decimal import Decimal
from email.message import EmailMessage
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from governance.budgets import standing
from governance.messages import DeliveryError, Mail, Message, SlackWebhook, budget_message
from governance.policy import Budget
from tests.conftest import eventually, free_port

CANARY = "cAnArY-4711"
SPENT = Message("Tally: spent", "Half of it <is> gone & more.", ("ada@example.com", "bob@example.com"))


class Hook(ThreadingHTTPServer):
    """A webhook that answers what it is told to, in turn, and then 200."""

    daemon_threads = True

    def __init__(self, *answers: int) -> None:
        self.answers, self.bodies = list(answers), list[dict[str, Any]]()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status = hook.answers.pop(0) if hook.answers else 200
                if status == 200:
                    hook.bodies.append(body)
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "http://127.0.0.1:9/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the path is the secret here too."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> SecretStr:
        return SecretStr(f"http://127.0.0.1:{self.server_address[1]}/services/{CANARY}")


@pytest.fixture
def hook() -> Iterator[Callable[..., Hook]]:
    started: list[Hook] = []

    def start(*answers: int) -> Hook:
        started.append(Hook(*answers))
        return started[-1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def test_a_webhook_gets_the_text_with_slacks_own_signs_escaped(hook: Callable[..., Hook]) -> None:
    server = hook()
    SlackWebhook(server.url).send(SPENT)
    assert server.bodies == [{"text": "*Tally: spent*\nHalf of it &lt;is&gt; gone &amp; more."}]


def test_a_webhook_in_passing_trouble_is_asked_again_with_growing_pauses(hook: Callable[..., Hook]) -> None:
    server, pauses = hook(503, 429), list[float]()
    SlackWebhook(server.url, sleep=pauses.append).send(SPENT)
    assert (len(server.bodies), pauses) == (1, [1.0, 2.0])


@pytest.mark.parametrize("status", [302, 400, 403, 404, 410])
def test_a_webhook_that_says_no_is_not_asked_again(hook: Callable[..., Hook], status: int) -> None:
    server, pauses = hook(status), list[float]()
    with pytest.raises(DeliveryError, match=str(status)):
        SlackWebhook(server.url, sleep=pauses.append).send(SPENT)
    assert (server.bodies, pauses) == ([], [])


@pytest.mark.parametrize(
    "address",
    [
        f"http://127.0.0.1:{{port}}/services/{CANARY}",
        f"http://127.0.0.1:99999/{CANARY}",
        f"https://{CANARY}.invalid./x",
        f"http://[{CANARY}/x",
        f"http://\udc80{CANARY}/x",
    ],
)
def test_no_error_and_no_log_holds_the_webhooks_address(address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    channel = SlackWebhook(SecretStr(address.format(port=free_port())), attempts=2, sleep=lambda _: None)
    with pytest.raises(DeliveryError) as caught:
        channel.send(SPENT)
    assert CANARY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)
    assert CANARY not in caplog.text + repr(vars(channel))


def test_a_webhook_that_answers_oddly_leaves_no_address_in_the_log(
    hook: Callable[..., Hook], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    SlackWebhook(hook().url).send(SPENT)
    with pytest.raises(DeliveryError):
        SlackWebhook(hook(404).url).send(SPENT)
    assert CANARY not in caplog.text


@pytest.mark.parametrize("address", ["", f"{CANARY}", f"ftp://{CANARY}/"])
def test_an_address_that_is_none_is_refused_at_the_start_without_its_words(address: str) -> None:
    with pytest.raises(ValueError, match="https") as caught:
        SlackWebhook(SecretStr(address))
    assert CANARY not in str(caught.value)


# Mail


class Box:
    """What arrived at an SMTP server, and with which login."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.logins: list[tuple[bytes, bytes, bool]] = []
        self.refused: set[str] = set()
        self.answer = "250 OK"

    async def handle_RCPT(self, server: SMTP, _s: object, envelope: Envelope, address: str, _o: object) -> str:
        if address in self.refused:
            return "550 no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _s: object, envelope: Envelope) -> str:
        from email import message_from_bytes, policy

        content = envelope.content
        assert isinstance(content, bytes)
        if self.answer.startswith("250"):
            self.mails.append((list(envelope.rcpt_tos), message_from_bytes(content, policy=policy.default)))
        return self.answer

    def login(self, server: SMTP, session: Any, _e: object, _m: object, data: object) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password, session.ssl is not None))
        return AuthResult(success=data.password == CANARY.encode(), handled=False)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(the server's, the client's): a certificate of our own for 127.0.0.1."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=str(path))


@pytest.fixture
def smtp() -> Iterator[Callable[..., tuple[Box, int]]]:
    running: list[Controller] = []

    def start(**options: Any) -> tuple[Box, int]:
        box, port = Box(), free_port()
        if options.pop("auth", False):
            options.update(authenticator=box.login, auth_required=True, auth_require_tls=options.pop("need_tls", True))
        running.append(Controller(box, hostname="127.0.0.1", port=port, **options))
        running[-1].start()
        return box, port

    yield start
    for controller in running:
        # aiosmtpd closes its loop over connections that are still saying goodbye; so they are waited for.
        eventually(partial(_is_quiet, controller.server))
        controller.stop()


def _is_quiet(server: object) -> bool:
    return not (getattr(server, "_clients", ()) or getattr(server, "_active_count", 0))


def mail(url: str, context: ssl.SSLContext | None = None) -> Mail:
    return Mail(SecretStr(url), "tally@example.com", context=context, timeout_s=5)


def test_mail_arrives_whole_at_everybody_told(smtp: Callable[..., tuple[Box, int]]) -> None:
    box, port = smtp()
    mail(f"smtp://127.0.0.1:{port}").send(SPENT)
    ((to, arrived),) = box.mails
    assert to == ["ada@example.com", "bob@example.com"]
    assert arrived["subject"] == "Tally: spent"
    assert arrived["from"] == "tally@example.com"
    assert arrived["message-id"].endswith("@example.com>")
    assert arrived.get_content().strip() == SPENT.text


def test_a_password_is_sent_under_starttls(
    smtp: Callable[..., tuple[Box, int]], tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    box, port = smtp(auth=True, tls_context=tls[0])
    mail(f"smtp://t%40lly:{CANARY}@127.0.0.1:{port}", tls[1]).send(SPENT)
    assert (len(box.mails), box.logins) == (1, [(b"t@lly", CANARY.encode(), True)])


def test_smtps_speaks_tls_from_its_first_byte(
    smtp: Callable[..., tuple[Box, int]], tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    box, port = smtp(ssl_context=tls[0])
    mail(f"smtps://127.0.0.1:{port}", tls[1]).send(SPENT)
    with pytest.raises(DeliveryError, match="SSLCertVerificationError"):
        mail(f"smtps://127.0.0.1:{port}").send(SPENT)
    assert len(box.mails) == 1


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
def test_a_server_without_starttls_never_sees_the_password(
    smtp: Callable[..., tuple[Box, int]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="governance")
    box, port = smtp(auth=True, need_tls=False)
    with pytest.raises(DeliveryError, match="STARTTLS"):
        mail(f"smtp://tally:{CANARY}@127.0.0.1:{port}").send(SPENT)
    assert (box.mails, box.logins) == ([], [])
    assert CANARY not in caplog.text


@pytest.mark.parametrize(("password", "why"), [(f"{CANARY}-wrong", "535"), (f"{CANARY}-\u00fc", "UnicodeEncodeError")])
def test_a_refused_login_is_told_without_the_password(
    smtp: Callable[..., tuple[Box, int]], tls: tuple[ssl.SSLContext, ssl.SSLContext], password: str, why: str
) -> None:
    _, port = smtp(auth=True, tls_context=tls[0])
    channel = mail(f"smtp://tally:{password}@127.0.0.1:{port}", tls[1])
    with pytest.raises(DeliveryError, match=why) as caught:
        channel.send(SPENT)
    assert CANARY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)
    assert CANARY not in repr(vars(channel))


def test_one_refused_address_does_not_keep_the_others_from_being_told(
    smtp: Callable[..., tuple[Box, int]], caplog: pytest.LogCaptureFixture
) -> None:
    box, port = smtp()
    box.refused = {"bob@example.com"}
    mail(f"smtp://127.0.0.1:{port}").send(SPENT)
    assert [to for to, _ in box.mails] == [["ada@example.com"]]
    assert "refused some" in caplog.text
    ours = [record for record in caplog.records if record.name != "mail.log"]  # the test's own server logs as it likes
    assert not [record for record in ours if "bob@" in record.getMessage() + str(vars(record))]
    box.refused = {"ada@example.com", "bob@example.com"}
    with pytest.raises(DeliveryError, match="every address"):
        mail(f"smtp://127.0.0.1:{port}").send(SPENT)


def test_a_server_that_is_full_or_away_is_an_error_of_delivery(smtp: Callable[..., tuple[Box, int]]) -> None:
    box, port = smtp()
    box.answer = "452 try later"
    with pytest.raises(DeliveryError, match="452"):
        mail(f"smtp://127.0.0.1:{port}").send(SPENT)
    with pytest.raises(DeliveryError, match="ConnectionRefusedError"):
        mail(f"smtp://127.0.0.1:{free_port()}").send(SPENT)
    with pytest.raises(DeliveryError, match="nobody"):
        mail(f"smtp://127.0.0.1:{port}").send(Message("a", "b", ()))


@pytest.mark.parametrize(
    "url",
    ["", "mail.example.com", f"http://x:{CANARY}@y", f"smtp://a:b#{CANARY}@h:25", f"smtp://h:{CANARY}", "smtp://"],
)
def test_an_smtp_address_that_is_none_is_refused_without_its_words(url: str) -> None:
    with pytest.raises(ValueError, match="percent-encoded") as caught:
        mail(url)
    assert CANARY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)


# Words


def test_a_budget_message_says_what_how_much_until_when_and_what_to_do() -> None:
    budget = Budget(scope="team", name="R&D", amount_usd=Decimal(2100))
    stood = standing(budget, Decimal("1764.004"), dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC))
    said = budget_message(stood, 80, ("lead@example.com",), "https://tally.example.com")
    assert said == Message(
        subject="Tally: team R&D has passed 80% of the November 2026 budget",
        text="Team R&D has used 84% of its model budget for November 2026: $1,764.00 of $2,100.00.\n"
        "At this pace it will be about $2,315.26 by the end of the month.\n"
        "The budget starts anew on 1 December 2026, 00:00 UTC.\n"
        "What to do: see which models and tools it went to: https://tally.example.com - or raise the amount in "
        "policy/budgets.yaml.",
        to=("lead@example.com",),
    )


def test_a_budget_that_is_over_says_by_how_much_and_that_nothing_is_blocked() -> None:
    stood = standing(
        Budget(scope="company", amount_usd=Decimal(100)), Decimal("100.50"), dt.datetime(2026, 11, 30, tzinfo=dt.UTC)
    )
    said = budget_message(stood, 100, ())
    assert said.text.startswith("The company has used 100% of its model budget for November 2026: $100.50 of $100.00.")
    assert "That is $0.50 over. Nothing is blocked." in said.text
    assert "\nWhat to do: see the dashboard" in said.text


def test_a_share_is_never_rounded_up_to_a_hundred() -> None:
    stood = standing(
        Budget(scope="company", amount_usd=Decimal(100)), Decimal("99.999"), dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
    )
    assert "has used 99% " in budget_message(stood, 80, ()).text
