"""A page in a real browser, asked of this machine alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.conftest import ROOT

PICTURES = ROOT / "tests" / ".artifacts"
DESKTOP, PHONE = {"width": 1440, "height": 1640}, {"width": 390, "height": 2900}
# Chromium's own errands would leave the host: they are not the page's.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)


@contextmanager
def opened(chromium: Any, url: str, *, scheme: str = "light", size: dict[str, int] = DESKTOP) -> Iterator[Any]:
    """A page in a fresh browser. Afterwards: no exception was drawn, and nothing was asked of another host."""
    context = chromium.new_context(viewport=size, color_scheme=scheme, device_scale_factor=1.5)
    page = context.new_page()
    asked: set[str] = set()
    for event in ("request", "websocket"):
        page.on(event, lambda one: asked.add(one.url))
    page.goto(url)
    yield page
    assert page.locator("[data-testid=stException]").count() == 0
    hosts = {urlsplit(one).hostname for one in asked if urlsplit(one).scheme in ("http", "https", "ws", "wss")}
    assert hosts == {"127.0.0.1"}
    context.close()


def drawn(page: Any, charts: int, tables: int) -> None:
    """Wait until every card is there and no skeleton is left."""
    page.wait_for_selector("[data-testid=stMetricValue]", timeout=30_000)
    page.wait_for_function(
        "([charts, tables]) => document.querySelectorAll('[data-testid=stVegaLiteChart] svg').length >= charts"
        " && document.querySelectorAll('[data-testid=stDataFrame] canvas').length >= tables"
        " && !document.querySelector('[data-testid^=stSkeleton]')",
        arg=[charts, tables],
        timeout=30_000,
    )


def picture(page: Any, name: str) -> None:
    page.evaluate("() => document.fonts.ready")
    page.wait_for_timeout(600)  # bars and lines grow into their place
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")
