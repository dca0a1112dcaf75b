"""Where Tally is and how to prove who asks: from the environment, else from what `tally login` has written.

TALLY_URL         address of the keys function
TALLY_TOKEN       an ID token, as it is; else
TALLY_TOKEN_URL   where one is given away, which only a Tally on this machine does; else gcloud is asked
TALLY_AUDIENCE    what gcloud is to make it for; a person's own token is always for gcloud itself
TALLY_CONFIG      the file, instead of ~/.config/tally/config.toml
"""

from __future__ import annotations

import ipaddress
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit


class NotConfigured(Exception):
    """Where Tally is, or how to prove who asks, is not known or not safe. Says what to do."""


@dataclass(frozen=True)
class Configuration:
    """What a call needs. A token is never written to the file."""

    url: str
    audience: str = ""
    token_url: str = ""
    token: str = ""


def path(environment: Mapping[str, str] = os.environ) -> Path:
    """The file that `tally login` writes."""
    home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(environment.get("TALLY_CONFIG") or home / "tally" / "config.toml")


def read(environment: Mapping[str, str] = os.environ) -> Configuration:
    """The configuration that holds. Raises NotConfigured."""
    kept = _kept(path(environment))
    url = environment.get("TALLY_URL") or kept.get("url", "")
    if not url:
        raise NotConfigured("where is Tally? Run `tally login --url https://…`, or set TALLY_URL")
    same = url == kept.get("url")  # a token made for one Tally is not shown to another
    return checked(
        Configuration(
            url=url,
            audience=environment.get("TALLY_AUDIENCE") or (kept.get("audience", "") if same else ""),
            token_url=environment.get("TALLY_TOKEN_URL") or (kept.get("token_url", "") if same else ""),
            token=environment.get("TALLY_TOKEN", ""),
        )
    )


def named(url: str, audience: str, token_url: str, environment: Mapping[str, str] = os.environ) -> Configuration:
    """The configuration that somebody names, with the environment's token. Raises NotConfigured."""
    return checked(Configuration(url, audience, token_url, environment.get("TALLY_TOKEN", "")))


def checked(given: Configuration) -> Configuration:
    """The same, when keys and tokens are safe on the way. Raises NotConfigured."""
    for name, url in (("Tally's address", given.url), ("the token's address", given.token_url)):
        if url and not _is_safe(url):
            raise NotConfigured(f"{name} must be https://…: a key or a token would be readable on the way")
    if given.token_url and not _is_here(given.token_url):
        raise NotConfigured("a token is only fetched from this machine; elsewhere gcloud says who you are")
    return given


def write(given: Configuration, file: Path) -> None:
    """Keep it for the next time, readable by its owner alone."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = {name: value for name, value in asdict(given).items() if value and name != "token"}
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in kept.items())  # JSON's strings are TOML's
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    fresh.replace(file)


def _kept(file: Path) -> dict[str, str]:
    try:
        found = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NotConfigured(f"{file} cannot be read ({error}); `tally login` writes it anew") from None
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _is_safe(url: str) -> bool:
    return urlsplit(url).scheme == "https" or _is_here(url)


def _is_here(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    try:
        return parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return False
