"""One call of the JSON endpoint, and the token that goes with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from tally_cli.configuration import Configuration, NotConfigured

TIMEOUT_S: Final = 30.0
READING: Final = frozenset({"help", "list", "usage", "connect", "raises", "service/list", "idle"})


class Failed(Exception):
    """The call came to nothing; says why, in Tally's own words where it has any."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token goes where it was meant to go, or nowhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


_http = urllib.request.build_opener(_NoRedirects)


def call(given: Configuration, verb: str, arguments: Mapping[str, str]) -> dict[str, Any]:
    """What Tally answers. Raises Failed, NotConfigured."""
    url = f"{given.url.rstrip('/')}/v1/{verb}"
    token = token_for(given)
    # Where Cloud Run checks callers itself, it takes the second header and leaves the first for us.
    bearer = f"Bearer {token}"
    headers = {"Authorization": bearer, "X-Serverless-Authorization": bearer, "User-Agent": "tally"}
    if verb in READING:
        request = urllib.request.Request(f"{url}?{urlencode(arguments)}" if arguments else url, headers=headers)
    else:
        body = json.dumps(dict(arguments)).encode()
        request = urllib.request.Request(url, body, headers | {"Content-Type": "application/json"}, method="POST")
    try:
        with _http.open(request, timeout=TIMEOUT_S) as answer:
            return _json(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            raise Failed(_words(error)) from None
    except (OSError, ValueError) as error:
        raise Failed(f"{given.url} cannot be reached: {getattr(error, 'reason', error)}") from None


def token_for(given: Configuration) -> str:
    """An ID token of whoever sits here. Raises NotConfigured, Failed."""
    if given.token:
        return given.token
    if given.token_url:
        try:
            with _http.open(given.token_url, timeout=TIMEOUT_S) as answer:
                return str(_json(answer.read())["token"])
        except (OSError, ValueError, KeyError) as error:
            raise Failed(f"no token at {given.token_url}: {error}") from None
    return _from_gcloud(given.audience)


def _from_gcloud(audience: str) -> str:
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise NotConfigured(
            "gcloud is not installed here; it says who you are. Or set TALLY_TOKEN to a Google ID token"
        )
    command = [gcloud, "auth", "print-identity-token", *([f"--audiences={audience}"] if audience else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    token = done.stdout.strip()
    if done.returncode or not token:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        why = next((line for line in said if line.startswith("ERROR")), said[0])
        raise Failed(f"gcloud gave no token ({why}). Try `gcloud auth login`")
    return token


def _json(body: bytes) -> dict[str, Any]:
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("an answer that is none of Tally's")
    return found


def _words(error: urllib.error.HTTPError) -> str:
    try:
        return str(_json(error.read(65_536))["error"]["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{error.code}: this is no address of Tally's keys function, or something stands before it"
