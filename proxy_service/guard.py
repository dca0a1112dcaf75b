"""What a caller may not write into a request. Pure: a body and headers in, the same without the forbidden out.

LiteLLM takes its own settings from the same JSON and headers as the provider's: whether to log, which price to use,
where to send, how often to repeat, on whose behalf. A caller's provider settings pass; LiteLLM's do not. Where leaving
one out would send a prompt elsewhere than its writer meant, the request is refused; everything else is left out, and
the answer says so in the header `x-tally-ignored`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

from proxy_service.refusals import Refusal

# Headers that reach LiteLLM: what a provider's API knows. Keys, spoofed ids, tags, retries, log switches do not.
_HEADERS: Final = frozenset(
    {b"accept", b"anthropic-beta", b"anthropic-version", b"content-length", b"content-type", b"host", b"user-agent"}
)
_OWN_LOGIN: Final = b"Bearer sk-ant-oat"  # a person's Anthropic subscription: passed on, in memory only

# Somebody who writes these wants the request to go elsewhere, or to another account.
_ELSEWHERE: Final = (
    "api_base",
    "base_url",
    "api_key",
    "custom_llm_provider",
    "litellm_credential_name",
    "organization",
)
_NOT_METERED: Final = {"background": "it is answered later, out of the gateway's sight"}
# LiteLLM's, although they are missing in its own list.
_ALSO_LITELLMS: Final = frozenset(
    {
        "additional_drop_params",
        "api_version",
        "callbacks",
        "content_policy_fallbacks",
        "context_window_fallbacks",
        "default_fallbacks",
        "deployment_id",
        "drop_params",
        "dynamic_params",
        "extra_body",
        "extra_headers",
        "extra_query",
        "failure_callback",
        "hf_hub_token",
        "input_callback",
        "litellm_params",
        "model_group",
        "model_id",
        "pass_through",
        "policies",
        "project",
        "region_name",
        "service_callback",
        "specific_deployment",
        "standard_logging_object",
        "success_callback",
        "timeout",
        "user_api_key",
    }
)
_PREFIXES: Final = ("_", "aws_", "azure_", "litellm", "mock_", "user_api_key", "vertex_", "watsonx_")
_KEPT: Final = frozenset({"metadata"})


@dataclass(frozen=True, slots=True)
class Passed:
    """A body that may go on, and the names of what was left out of it."""

    body: dict[str, Any]
    ignored: tuple[str, ...] = ()


@cache
def forbidden() -> frozenset[str]:
    """Names in a body that are LiteLLM's own, by its own list."""
    from litellm.proxy.litellm_pre_call_utils import _UNTRUSTED_ROOT_CONTROL_FIELDS
    from litellm.types.utils import all_litellm_params

    return (frozenset(all_litellm_params) | frozenset(_UNTRUSTED_ROOT_CONTROL_FIELDS) | _ALSO_LITELLMS) - _KEPT


@lru_cache(maxsize=4096)
def _is_litellms(name: str) -> bool:
    return name in forbidden() or name.startswith(_PREFIXES)


def check_body(body: object) -> Passed | Refusal:
    """The body as it may go on, or why it may not."""
    if not isinstance(body, dict):
        return Refusal(400, "invalid_body", "The body has to be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model.strip():
        return Refusal(400, "no_model", "The request names no model. Put its name into the field `model`.")
    if "," in model:
        return Refusal(400, "several_models", "One model for each request: a list of models is not taken apart here.")
    for name in _ELSEWHERE:
        if name in body:
            return Refusal(
                400,
                "not_yours_to_set",
                f"`{name}` is the gateway's to set. Leave it out; to use another provider, write its model's name.",
            )
    for name, why in _NOT_METERED.items():
        if body.get(name):
            return Refusal(400, "not_metered", f"`{name}` cannot be used through the gateway: {why}. Leave it out.")
    ignored = [name for name in body if _is_litellms(name)]
    metadata = body.get("metadata")
    clean = _metadata(metadata) if metadata is not None else None
    if not ignored and clean == metadata:
        return Passed(body)
    passed = {name: value for name, value in body.items() if name not in ignored}
    if clean != metadata:
        ignored.append("metadata")
        passed["metadata"] = clean
    return Passed(passed, tuple(ignored))


def _metadata(given: object) -> dict[str, str]:
    """What the providers know: a few short strings, none of which is one of LiteLLM's own."""
    if not isinstance(given, dict):
        return {}
    return {name: value for name, value in given.items() if isinstance(value, str) and not _is_litellms(name)}


def check_headers(
    headers: Iterable[tuple[bytes, bytes]], request_id: str | None, length: int
) -> list[tuple[bytes, bytes]]:
    """The headers LiteLLM sees: the provider's, the caller's own Anthropic login, and an id that we choose."""
    passed = [
        (name, value)
        for name, value in headers
        if (name in _HEADERS and name != b"content-length")
        or (name == b"authorization" and value.startswith(_OWN_LOGIN))
    ]
    passed.append((b"content-length", str(length).encode()))
    if request_id is not None:
        passed.append((b"x-litellm-call-id", request_id.encode()))  # its account of the request bears it
    passed.append((b"x-litellm-api-key", b"gateway"))  # LiteLLM passes an own login on when the key stands elsewhere
    return passed


def session_in(body: Mapping[str, Any]) -> str | None:
    """The agent's session where it stands in Anthropic's `metadata.user_id`: at its end, or inside as JSON."""
    metadata = body.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user, str) or len(user) > 2000:
        return None
    if user.startswith("{"):
        import orjson

        try:
            told = orjson.loads(user)
        except orjson.JSONDecodeError:
            return None
        session = told.get("session_id") if isinstance(told, dict) else None
    else:
        _, marker, session = user.rpartition("_session_")
        session = session if marker else None
    return session[:200] if isinstance(session, str) and len(session) >= 8 else None
