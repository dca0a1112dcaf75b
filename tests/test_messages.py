"""What Tally says arrives once, in plain words, and no secret comes along: not in an error, not in a log."""

from __future__ import annotations

import json
import logging
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.message import EmailMessage
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from pydantic import SecretStr

from governance.channels import Post
from governance.mail_channel import Mail
from governance.messages import Button, DeliveryError, Message
from governance.slack_channel import SlackWebhook
from tests import certificate
from tests.conftest import eventually, free_port

CANARY = "cAnArY-4711"
HOSTS = ("127.0.0.1", "127.0.0.2")  # the second stands for a machine elsewhere
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
    SlackWebhook(server.url, post=Post("the Slack webhook", sleep=pauses.append)).send(SPENT)
    assert (len(server.bodies), pauses) == (1, [1.0, 2.0])


@pytest.mark.parametrize("status", [302, 400, 403, 404, 410])
def test_a_webhook_that_says_no_is_not_asked_again(hook: Callable[..., Hook], status: int) -> None:
    server, pauses = hook(status), list[float]()
    with pytest.raises(DeliveryError, match=str(status)):
        SlackWebhook(server.url, post=Post("the Slack webhook", sleep=pauses.append)).send(SPENT)
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
    channel = SlackWebhook(
        SecretStr(address.format(port=free_port())), post=Post("the webhook", attempts=2, sleep=lambda _: None)
    )
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
        self.later: set[str] = set()
        self.under_tls: list[bool] = []
        self.answer = "250 OK"

    async def handle_RCPT(self, server: SMTP, _s: object, envelope: Envelope, address: str, _o: object) -> str:
        if address in self.refused:
            return "550 no such person"
        if address in self.later:
            return "451 later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:
        from email import message_from_bytes, policy

        content = envelope.content
        assert isinstance(content, bytes)
        self.under_tls.append(session.ssl is not None)
        if self.answer.startswith("250"):
            self.mails.append((list(envelope.rcpt_tos), message_from_bytes(content, policy=policy.default)))
        return self.answer

    def login(self, server: SMTP, session: Any, _e: object, _m: object, data: object) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password, session.ssl is not None))
        return AuthResult(success=data.password == CANARY.encode(), handled=False)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(the server's, the client's): a certificate of our own for two addresses of this machine."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    return certificate.written(path, HOSTS), ssl.create_default_context(cafile=str(path))


@pytest.fixture
def smtp() -> Iterator[Callable[..., tuple[Box, int]]]:
    running: list[Controller] = []

    def start(**options: Any) -> tuple[Box, int]:
        box, port = Box(), free_port()
        if options.pop("auth", False):
            options.update(authenticator=box.login, auth_required=True, auth_require_tls=options.pop("need_tls", True))
        host = options.pop("host", "127.0.0.1")
        running.append(Controller(box, hostname=host, port=port, **options))
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


def test_a_server_elsewhere_that_offers_tls_is_spoken_to_under_it_also_without_a_password(
    smtp: Callable[..., tuple[Box, int]], tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    box, port = smtp(host=HOSTS[1], tls_context=tls[0])
    mail(f"smtp://{HOSTS[1]}:{port}", tls[1]).send(SPENT)
    with pytest.raises(DeliveryError, match="SSLCertVerificationError"):
        mail(f"smtp://{HOSTS[1]}:{port}").send(SPENT)
    assert box.under_tls == [True]


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
def test_a_password_is_sent_under_smtps(
    smtp: Callable[..., tuple[Box, int]], tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    box, port = smtp(auth=True, need_tls=False, ssl_context=tls[0])
    mail(f"smtps://tally:{CANARY}@127.0.0.1:{port}", tls[1]).send(SPENT)
    assert (len(box.mails), box.logins) == (1, [(b"tally", CANARY.encode(), False)])  # it means STARTTLS alone by TLS


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


def test_an_address_refused_for_now_is_tried_again_and_who_has_the_mail_is_named(
    smtp: Callable[..., tuple[Box, int]],
) -> None:
    box, port = smtp()
    box.later = {"bob@example.com"}
    for private in (False, True):
        with pytest.raises(DeliveryError, match="for now") as caught:
            mail(f"smtp://127.0.0.1:{port}").send(replace(SPENT, private=private))
        assert (caught.value.reached, caught.value.only_this) == (("ada@example.com",), True)


def test_a_private_message_is_a_mail_of_its_own_for_each_and_says_what_to_type_where_slack_has_a_button(
    smtp: Callable[..., tuple[Box, int]],
) -> None:
    box, port = smtp()
    buttons = (Button("Revoke the key", "key.revoke", "k-17", danger=True),)
    mail(f"smtp://127.0.0.1:{port}").send(replace(SPENT, private=True, buttons=buttons, subject="two\nlines"))
    assert [to for to, _ in box.mails] == [["ada@example.com"], ["bob@example.com"]]
    for to, arrived in box.mails:
        assert arrived["to"] == to[0]
        assert arrived["subject"] == "two lines"
        assert arrived.get_content().splitlines()[-2:] == ["", "Revoke the key: tally revoke k-17"]


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
