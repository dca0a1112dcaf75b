"""What of LiteLLM is left out or moved, for speed: nothing that a caller could see.

Measured with bench/proxy.py. FastAPI tries LiteLLM's seven hundred routes in turn, which for those far down the list
is a good part of the whole request; and each of LiteLLM's built-in hooks runs at every request.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute


def leave_out_hooks(hooks: dict[str, Any]) -> None:
    """Of LiteLLM's hooks keep the one that stops a caller from continuing another's response.

    The others limit (pace.py does), rewrite and predict for features that nobody here can switch on. Call before
    LiteLLM starts.
    """
    for name in hooks.keys() - {"responses_id_security"}:
        del hooks[name]


def _routes(routes: Iterable[Any]) -> Iterator[Any]:
    """Every route, those of included routers among them, each with its path, methods, endpoint and dependencies."""
    for route in routes:
        if hasattr(route, "effective_route_contexts"):
            yield from _routes(route.effective_route_contexts())
        else:
            yield route


def put_first(app: FastAPI, paths: Iterable[str]) -> None:
    """Put these POST routes, just as they are, before all others. Raises LookupError for one that there is not.

    LiteLLM means to do so itself (its `hot_routes_first`), but FastAPI by now keeps each included router as one route,
    and it finds none; Anthropic's routes it adds only when they are first asked for.
    """
    from litellm.proxy.anthropic_endpoints.endpoints import router as anthropic

    wanted: dict[str, Any] = dict.fromkeys(paths)
    for route in _routes([*app.router.routes, *anthropic.routes]):
        path = getattr(route, "path", None)
        if path in wanted and wanted[path] is None and "POST" in (getattr(route, "methods", None) or ()):
            wanted[path] = route
    for path, route in wanted.items():
        if route is None:
            raise LookupError(f"LiteLLM has no route {path}")
        same = APIRoute(
            path,
            route.endpoint,
            methods=["POST"],
            dependencies=list(route.dependencies),
            response_class=route.response_class,
            dependency_overrides_provider=app,
        )
        app.router.routes.insert(0, same)


def settle_garbage() -> None:
    """Collect what the imports left, and never look at the rest again; then collect more rarely than by default."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()
