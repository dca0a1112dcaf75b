"""What to paste so that a coding agent goes through the gateway: the same in Slack, on the command line, on pages.

Pure, and the standard library alone: the command line runs where nothing of ours is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

KEY_HERE: Final = "<your key>"  # stands in the lines where nobody knows the key any more


class UnknownAgent(Exception):
    """No lines are known for an agent of this name."""


@dataclass(frozen=True)
class Paste:
    """Lines and where they belong: `shell`, the path of a file, or a place in an agent's own settings."""

    where: str
    text: str


@dataclass(frozen=True)
class Connection:
    """How one agent is connected. `note` is a sentence on what to expect, or empty."""

    agent: str
    title: str
    pastes: tuple[Paste, ...]
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """JSON types only."""
        return asdict(self)


def connection(agent: str, address: str, key: str = KEY_HERE) -> Connection:
    """How `agent` (a name of AGENTS, in any case) is connected to the gateway at `address`. Raises UnknownAgent."""
    name = agent.strip().lower()
    name = _ALSO.get(name, name)
    if name not in _MADE:
        raise UnknownAgent(f"lines are known for: {', '.join(AGENTS)}")
    title, made = _MADE[name]
    pastes, note = made(address.rstrip("/"), key)
    return Connection(name, title, tuple(pastes), note)


Made = tuple[list[Paste], str]


def _claude_code(address: str, key: str) -> Made:
    return [Paste("shell", f"export ANTHROPIC_BASE_URL={address}\nexport ANTHROPIC_AUTH_TOKEN={key}")], ""


def _codex(address: str, key: str) -> Made:
    config = (
        'model_provider = "tally"\n\n[model_providers.tally]\nname = "Tally"\n'
        f'base_url = "{address}/v1"\nenv_key = "TALLY_KEY"\nwire_api = "responses"'
    )
    note = "The file in your home is meant: Codex ignores a provider that a project's own file names."
    return [_exported(key), Paste("~/.codex/config.toml", config)], note


def _kimi(address: str, key: str) -> Made:
    lines = (
        f'default_model = "kimi-k3"\n\n[providers.tally]\ntype = "openai"\nbase_url = "{address}/v1"\n'
        f'api_key = "{key}"\n\n'
        '[models."kimi-k3"]\nprovider = "tally"\nmodel = "kimi-k3"\nmax_context_size = 1048576'
    )
    note = 'It reads no key from the shell. The older kimi-cli: the same in ~/.kimi/config.toml, type "openai_legacy".'
    return [Paste("~/.kimi-code/config.toml", lines)], note


def _opencode(address: str, key: str) -> Made:
    lines = (
        '{\n  "$schema": "https://opencode.ai/config.json",\n  "provider": {\n    "tally": {\n'
        '      "npm": "@ai-sdk/openai-compatible",\n      "name": "Tally",\n'
        f'      "options": {{ "baseURL": "{address}/v1", "apiKey": "{{env:TALLY_KEY}}" }},\n'
        '      "models": { "gpt-5-mini": {}, "claude-opus-5-5": {} }\n    }\n  }\n}'
    )
    return [_exported(key), Paste("~/.config/opencode/opencode.json", lines)], "Name the models that you use."


def _gemini(address: str, key: str) -> Made:
    lines = f"export GOOGLE_GEMINI_BASE_URL={address}\nexport GEMINI_API_KEY={key}"
    note = "The gateway does not serve Google's own API yet: until it does, Gemini CLI gets a 404 from it."
    return [Paste("shell", lines)], note


def _copilot(address: str, key: str) -> Made:
    lines = (
        f"export COPILOT_PROVIDER_BASE_URL={address}/v1\nexport COPILOT_PROVIDER_TYPE=openai\n"
        f"export COPILOT_PROVIDER_WIRE_API=responses\nexport COPILOT_PROVIDER_API_KEY={key}\n"
        "export COPILOT_MODEL=gpt-5-mini"
    )
    return [Paste("shell", lines)], ""


def _aider(address: str, key: str) -> Made:
    lines = f"export OPENAI_API_BASE={address}/v1\nexport OPENAI_API_KEY={key}\naider --model openai/gpt-5-mini"
    return [Paste("shell", lines)], "Any model of the gateway: write openai/ before its name."


def _cline(address: str, key: str) -> Made:
    lines = f"API Provider: OpenAI Compatible\nBase URL: {address}/v1\nAPI Key: {key}\nModel ID: gpt-5-mini"
    return [Paste("Cline's settings", lines)], ""


def _cursor(address: str, key: str) -> Made:
    lines = f"OpenAI API Key: {key}\nOverride OpenAI Base URL: {address}/v1"
    note = "Cursor's own servers call the gateway, so its address must be public; not every build shows the option."
    return [Paste("Cursor Settings > Models", lines)], note


def _openai(address: str, key: str) -> Made:
    return [Paste("shell", f"export OPENAI_BASE_URL={address}/v1\nexport OPENAI_API_KEY={key}")], ""


def _anthropic(address: str, key: str) -> Made:
    return [Paste("shell", f"export ANTHROPIC_BASE_URL={address}\nexport ANTHROPIC_API_KEY={key}")], ""


def _exported(key: str) -> Paste:
    return Paste("shell", f"export TALLY_KEY={key}")


_MADE: Final[dict[str, tuple[str, Callable[[str, str], Made]]]] = {
    "claude-code": ("Claude Code", _claude_code),
    "codex": ("Codex", _codex),
    "kimi": ("Kimi Code", _kimi),
    "opencode": ("OpenCode", _opencode),
    "copilot": ("Copilot CLI", _copilot),
    "aider": ("Aider", _aider),
    "cline": ("Cline", _cline),
    "cursor": ("Cursor", _cursor),
    "gemini-cli": ("Gemini CLI", _gemini),
    "openai": ("Anything that speaks OpenAI's API", _openai),
    "anthropic": ("Anything that speaks Anthropic's API", _anthropic),
}
AGENTS: Final = tuple(_MADE)
_ALSO: Final = {
    "claude": "claude-code", "kimi-cli": "kimi", "kimi-code": "kimi", "gemini": "gemini-cli", "copilot-cli": "copilot",
    "open-code": "opencode",
}  # fmt: skip
