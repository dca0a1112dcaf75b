"""Slack's bot and the signed webhook: a private word reaches one person alone, and no secret comes along."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from pydantic import SecretStr

from governance.channels import Post
from governance.messages import Button, DeliveryError, Message, Unreachable
from governance.settings import AlertsSettings, SettingsError, load
from governance.slack_channel import MOST_TEXT, SlackBot, SlackWebhook
from governance.webhook_channel import SignedWebhook, signature
from tests.conftest import ROOT, free_port
from tests.slack_web_api import TOKEN, Server, SlackAPI

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"
REVOKE = Button("Revoke the key", "revoke", "k-17", danger=True)
ALONE = Message("Tally: yours", "You <have> used 80% & more.", (ADA,), private=True, audience="person")
SHARED = Message("Tally: ours", "We have used 80%.", (ADA, BOB))
SECRET = "cAnArY-webhook-secret"


@pytest.fixture
def slack() -> Iterator[SlackAPI]:
    server = SlackAPI({ADA: "U0ADA", BOB: "U0BOB"})
    yield server
    server.stop()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def bot(slack: SlackAPI, pauses: list[float]) -> Callable[..., SlackBot]:
    def made(channel: str = "", **more: Any) -> SlackBot:
        post = Post("Slack", sleep=pauses.append)
        return SlackBot(slack.token, channel, api_url=slack.url + "/api/", post=post, **more)

    return made


# A bot


def test_a_private_message_goes_to_the_person_alone_and_a_shared_one_to_the_channel(
    slack: SlackAPI, bot: Callable[..., SlackBot]
) -> None:
    tally = bot("C0ALERTS")
    tally.send(ALONE)
    tally.send(SHARED)
    assert [where for where, _ in slack.said] == ["U0ADA", "C0ALERTS"]
    (_, alone), _ = slack.said
    assert alone["text"] == "*Tally: yours*\nYou &lt;have&gt; used 80% &amp; more."
    assert alone["blocks"] == [{"type": "section", "text": {"type": "mrkdwn", "text": alone["text"]}}]
    tally.send(ALONE)
    assert slack.calls.count("users.lookupByEmail") == 1  # an address is looked up once


def test_without_a_channel_a_shared_message_goes_to_the_webhook_and_without_that_to_each(
    slack: SlackAPI, bot: Callable[..., SlackBot]
) -> None:
    hook = Server()
    bot(shared=SlackWebhook(SecretStr(hook.url))).send(SHARED)
    hook.stop()
    assert (len(hook.got), slack.said) == (1, [])
    bot().send(SHARED)
    assert [where for where, _ in slack.said] == ["U0ADA", "U0BOB"]


def test_a_button_bears_its_action_as_it_was_given_and_asks_again_where_it_is_dangerous(
    slack: SlackAPI, bot: Callable[..., SlackBot]
) -> None:
    approve = Button("Approve", "approve", "r-1")
    bot().send(Message("s", "t", (ADA,), private=True, buttons=(approve, REVOKE)))
    ((_, said),) = slack.said
    first, second = said["blocks"][-1]["elements"]
    assert said["blocks"][-1]["type"] == "actions"
    assert first == {
        "type": "button", "text": {"type": "plain_text", "text": "Approve"}, "action_id": "approve", "value": "r-1",
    }  # fmt: skip
    assert (second["action_id"], second["value"], second["style"]) == ("revoke", "k-17", "danger")
    assert second["confirm"]["confirm"]["text"] == "Revoke the key"


def test_a_long_message_is_cut_into_sections_at_its_lines(slack: SlackAPI, bot: Callable[..., SlackBot]) -> None:
    lines = [f"{n:04} " + "x" * 90 for n in range(60)]
    bot("C0ALERTS").send(Message("s", "\n".join(lines), (ADA,)))
    texts = [block["text"]["text"] for block in slack.said[0][1]["blocks"]]
    assert len(texts) == 2
    assert all(len(text) <= MOST_TEXT for text in texts)
    assert "\n".join(texts) == "*s*\n" + "\n".join(lines)


def test_who_is_not_in_slack_is_left_out_and_logged_without_the_address(
    slack: SlackAPI, bot: Callable[..., SlackBot], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bot().send(Message("s", "t", (EVE, BOB), private=True))
    assert [where for where, _ in slack.said] == ["U0BOB"]
    with pytest.raises(Unreachable):
        bot().send(Message("s", "t", (EVE,), private=True))
    logged = "".join(record.getMessage() + str(vars(record)) for record in caplog.records)
    assert "some of the addressees" in logged
    assert "example.com" not in logged


def test_who_was_told_before_the_trouble_is_named_so_that_nobody_is_told_twice(
    slack: SlackAPI, bot: Callable[..., SlackBot]
) -> None:
    tally = bot()
    tally.send(Message("s", "t", (ADA, BOB), private=True))
    slack.users = {ADA: "U0ADA"}  # Bob has left since
    tally.send(Message("s", "t", (ADA, BOB), private=True))
    assert len(slack.said) == 3
    fine: tuple[int, dict[str, str], Any] = (200, {}, {"ok": True})
    slack.troubles = [fine, (200, {}, {"ok": False, "error": "fatal_error"})]
    with pytest.raises(DeliveryError, match="fatal_error") as caught:
        bot().send(Message("s", "t", (ADA, EVE), private=True))
    assert caught.value.reached == ()
    slack.troubles = [(200, {}, {"ok": True, "user": {"id": "U1"}}), fine, (200, {}, {"ok": False, "error": "oh_no"})]
    with pytest.raises(DeliveryError, match="oh_no") as caught:
        bot().send(Message("s", "t", (ADA, EVE), private=True))
    assert caught.value.reached == (ADA,)


@pytest.mark.parametrize(
    ("error", "mend"),
    [
        ("invalid_auth", "TALLY_SLACK_BOT_TOKEN"),
        ("token_revoked", "TALLY_SLACK_BOT_TOKEN"),
        ("channel_not_found", "TALLY_SLACK_CHANNEL"),
        ("not_in_channel", "invite the app"),
        ("missing_scope", "users:read.email"),
        ("messages_tab_disabled", "App Home"),
    ],
)
def test_a_refusal_says_what_to_mend_and_is_not_repeated(
    slack: SlackAPI, bot: Callable[..., SlackBot], pauses: list[float], error: str, mend: str
) -> None:
    slack.troubles = [(200, {}, {"ok": False, "error": error})]
    with pytest.raises(DeliveryError, match=f"{error}.*{mend}"):
        bot("C0NOWHERE").send(SHARED)
    assert (len(slack.got), pauses) == (1, [])


def test_a_busy_slack_is_given_the_time_it_asks_for(
    slack: SlackAPI, bot: Callable[..., SlackBot], pauses: list[float]
) -> None:
    limited = {"ok": False, "error": "ratelimited"}
    slack.troubles = [(429, {"retry-after": "7"}, limited), (200, {}, limited)]
    bot("C0ALERTS").send(SHARED)
    assert (len(slack.said), pauses) == (1, [7.0, 2.0])
    slack.troubles = [(429, {"retry-after": "60"}, limited)]
    with pytest.raises(DeliveryError, match="less often, for 60 s"):  # longer than a tick should wait
        bot("C0ALERTS").send(SHARED)
    assert len(pauses) == 2


@pytest.mark.parametrize("said", [{"ok": False, "error": f"{TOKEN} {ADA}"}, {"ok": False}, ["odd"], "odd"])
def test_what_slack_does_not_document_is_not_repeated_in_the_error(
    slack: SlackAPI, bot: Callable[..., SlackBot], said: Any
) -> None:
    slack.troubles = [(200, {}, said)]
    with pytest.raises(DeliveryError, match="does not document") as caught:
        bot("C0ALERTS").send(SHARED)
    assert TOKEN not in repr(caught.value)


def test_neither_the_token_nor_an_address_is_in_a_log_or_an_error(
    slack: SlackAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tally = SlackBot(slack.token, api_url=f"http://127.0.0.1:{free_port()}", post=Post("Slack", attempts=1))
    with pytest.raises(DeliveryError, match="could not be reached") as caught:
        tally.send(ALONE)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__) + repr(vars(tally))
    SlackBot(slack.token, "C0ALERTS", api_url=slack.url + "/api").send(SHARED)
    assert TOKEN not in told + caplog.text
    assert ADA not in told + caplog.text


# A signed webhook


def is_signed(secret: str, header: str, body: bytes, now: float, within_s: float = 300) -> bool:
    """What docs/channels.md tells receivers to do, by another library than the sender's."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    if abs(now - int(parts["t"])) > within_s:
        return False
    made = HMAC(secret.encode(), SHA256())
    made.update(parts["t"].encode() + b"." + body)
    try:
        made.verify(bytes.fromhex(parts["v1"]))
    except InvalidSignature:
        return False
    return True


class Receiver(Server):
    """Answers what it is told to, in turn, and then 200."""

    def __init__(self) -> None:
        self.answers = list[int]()
        super().__init__()

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], Any]:
        return self.answers.pop(0) if self.answers else 200, {}, {}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.stop()


def webhook(url: str, pauses: list[float] | None = None, **more: Any) -> SignedWebhook:
    post = Post("the webhook", sleep=([] if pauses is None else pauses).append)
    return SignedWebhook(SecretStr(url), SecretStr(SECRET), post=post, **more)


def test_a_receiver_can_check_who_said_it_and_what_exactly(receiver: Receiver) -> None:
    said = Message("Tally: spënt", "Half of it <is> gone.", (ADA,), id="d1", about="company-month", severity="critical")
    webhook(receiver.url, clock=lambda: 1_795_521_600.9).send(said)
    ((_, headers, body),) = receiver.got
    header = headers["x-tally-signature"]
    assert is_signed(SECRET, header, body, 1_795_521_605)
    assert not is_signed(SECRET, header, body.replace(b"Half", b"None"), 1_795_521_605)
    assert not is_signed("another-secret-000", header, body, 1_795_521_605)
    assert not is_signed(SECRET, header, body, 1_795_521_600 + 301)  # somebody has kept it, to say it again
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {
        "id": "d1", "at": "2026-11-24T12:00:00+00:00", "about": "company-month", "severity": "critical",
        "subject": "Tally: spënt", "text": "Half of it <is> gone.",
    }  # fmt: skip


def test_what_the_documentation_tells_receivers_to_do_is_right(receiver: Receiver) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/channels.md").read_text(), flags=re.DOTALL)
    room: dict[str, Any] = {}
    exec(code, room)
    webhook(receiver.url).send(SHARED)
    ((_, headers, body),) = receiver.got
    check, header = room["is_from_tally"], headers["x-tally-signature"]
    assert check(SECRET, header, body)
    assert not check(SECRET, header, body + b" ")
    assert not check("another-secret-000", header, body)
    old = int(time.time()) - 301
    assert not check(SECRET, signature(SecretStr(SECRET), old, body), body)
    for garbage in ("", "t=", "t=x,v1=y", f"t={old}", "v1=é", ",,=,"):
        assert not check(SECRET, garbage, body)


def test_an_attempt_made_again_bears_the_same_body_and_a_signature_of_its_own_time(receiver: Receiver) -> None:
    receiver.answers, pauses, moments = [503, 429], list[float](), iter([100.0, 100.0, 101.0, 103.0])
    webhook(receiver.url, pauses, clock=lambda: next(moments)).send(SHARED)
    assert pauses == [1.0, 2.0]
    assert len({body for _, _, body in receiver.got}) == 1
    times = [headers["x-tally-signature"].partition(",")[0] for _, headers, _ in receiver.got]
    assert times == ["t=100", "t=101", "t=103"]
    assert all(is_signed(SECRET, headers["x-tally-signature"], body, 101) for _, headers, body in receiver.got)


def test_no_error_and_no_log_holds_the_webhooks_address_or_its_secret(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.answers = [404]
    told = ""
    for url in (f"{receiver.url}/{SECRET}", f"http://127.0.0.1:{free_port()}/{SECRET}"):
        channel = webhook(url)
        with pytest.raises(DeliveryError) as caught:
            channel.send(SHARED)
        told += "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__) + repr(vars(channel))
    assert SECRET not in told + caplog.text


def test_a_server_that_has_it_and_does_not_say_so_in_time_is_not_given_it_again_at_once() -> None:
    class Silent(Server):
        asked = threading.Event()

        def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], Any]:
            self.asked.wait(10)
            return 200, {}, {}

    silent, pauses = Silent(), list[float]()
    channel = SlackWebhook(SecretStr(silent.url), post=Post("it", timeout_s=0.3, sleep=pauses.append))
    with pytest.raises(DeliveryError, match="ReadTimeout"):
        channel.send(SHARED)
    silent.asked.set()
    silent.stop()
    assert (len(silent.got), pauses) == (1, [])


@pytest.mark.parametrize(("url", "secret"), [("ftp://x", SECRET), ("https://x.example.com", "short")])
def test_a_webhook_that_cannot_be_is_refused_at_the_start(url: str, secret: str) -> None:
    with pytest.raises(ValueError, match=r"https|16 characters") as caught:
        SignedWebhook(SecretStr(url), SecretStr(secret))
    assert SECRET not in str(caught.value)


def test_a_token_with_a_line_end_in_it_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="without spaces") as caught:
        SlackBot(SecretStr(f"{TOKEN}\r\nx: y"))
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SLACK_CHANNEL": "C1"}, "TALLY_SLACK_BOT_TOKEN too"),
        ({"SLACK_CHANNEL": "C1", "SLACK_BOT_TOKEN": TOKEN, "SLACK_WEBHOOK_URL": "https://x/y"}, "set one of"),
        ({"WEBHOOK_URL": f"https://x/{SECRET}"}, "set both of"),
        ({"WEBHOOK_SECRET": SECRET}, "set both of"),
    ],
)
def test_settings_that_do_not_fit_each_other_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str
) -> None:
    for name, value in {"WAREHOUSE": "bigquery://p", "REGISTRY": "sqlite:///x", **given}.items():
        monkeypatch.setenv(f"TALLY_{name}", value)
    with pytest.raises(SettingsError, match=said) as caught:
        load(AlertsSettings)
    assert SECRET not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_clock_that_is_real_signs_the_present(receiver: Receiver) -> None:
    SignedWebhook(SecretStr(receiver.url), SecretStr(SECRET)).send(SHARED)
    ((_, headers, body),) = receiver.got
    assert is_signed(SECRET, headers["x-tally-signature"], body, time.time())
