"""What is left out of LiteLLM and what is moved: the routes are the same ones, only found sooner."""

from __future__ import annotations

import warnings

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.routing import APIRoute

from proxy_service import tuning

with warnings.catch_warnings():  # LiteLLM's own, while it is imported
    warnings.simplefilter("ignore")
    import litellm.proxy.anthropic_endpoints.endpoints  # noqa: F401


def shut() -> None:
    raise HTTPException(403)


def application() -> FastAPI:
    app, router = FastAPI(), APIRouter()
    for number in range(50):
        router.add_api_route(f"/other/{number}", shut, methods=["POST"])
    router.add_api_route("/v1/open", lambda: "open", methods=["POST"])
    router.add_api_route("/v1/open", lambda: "another method", methods=["GET"])
    router.add_api_route("/v1/shut", lambda: "open", methods=["POST"], dependencies=[Depends(shut)])
    app.include_router(router)
    return app


async def test_the_routes_put_first_are_found_first_and_behave_as_before() -> None:
    app = application()
    tuning.put_first(app, ["/v1/open", "/v1/shut", "/v1/messages"])
    first = app.router.routes[:3]
    assert {route.path for route in first if isinstance(route, APIRoute)} == {"/v1/open", "/v1/shut", "/v1/messages"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        assert (await client.post("/v1/open")).json() == "open"
        assert (await client.get("/v1/open")).json() == "another method"
        assert (await client.post("/v1/shut")).status_code == 403
        assert (await client.post("/other/7")).status_code == 403


def test_a_route_that_litellm_no_longer_has_is_noticed_at_the_start() -> None:
    with pytest.raises(LookupError, match="/v1/gone"):
        tuning.put_first(application(), ["/v1/gone"])


def test_of_the_hooks_only_the_one_that_guards_responses_is_kept() -> None:
    from litellm.proxy.hooks import PROXY_HOOKS

    kept = dict(PROXY_HOOKS)
    tuning.leave_out_hooks(kept)
    assert list(kept) == ["responses_id_security"]
