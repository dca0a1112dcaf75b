"""The dashboard as it is served: drawn by a browser from this machine alone; shut to everybody unproven."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from governance.duckdb_warehouse import DuckDBWarehouse
from local.warehouse import Owner
from streamlit_app import queries
from streamlit_app.identity import HEADER, ISSUER
from tests import dashboard_company as company
from tests.browser import DESKTOP, PHONE, drawn, opened, picture
from tests.conftest import ROOT, eventually, free_port, needs

AUDIENCE = "/projects/1/locations/europe-west1/services/tally-dashboard"


@contextmanager
def dashboard(folder: Path, **environment: str) -> Iterator[str]:
    """A dashboard of its own process; its address."""
    company.write_policy(folder / "policy")
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TALLY_", "STREAMLIT_"))}
    ours = {
        "PYTHONPATH": str(ROOT),
        "TALLY_POLICY_DIR": str(folder / "policy"),
        "TALLY_PROXY_URL": "http://127.0.0.1:4000",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "streamlit_app" / "app.py")]
    with (folder / "dashboard.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--server.port", str(port), "--server.address", "127.0.0.1", "--server.headless", "true"],
            env=clean | ours | environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: process.poll() is not None or _healthy(port), within_s=60, every_s=0.1)
        assert process.poll() is None, (folder / "dashboard.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _healthy(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Gated(DuckDBWarehouse):
    """A warehouse that answers questions about models only while its gate is open."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.gate.set()

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        if sql == queries.DAILY_BY_MODEL:
            assert self.gate.wait(60)
        return super().query(sql, params)


class Served(NamedTuple):
    """A dashboard, and the warehouse behind it."""

    url: str
    warehouse: Gated


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    needs("chromium")
    folder = tmp_path_factory.mktemp("served")
    warehouse = Gated(":memory:")
    now = datetime.now(UTC)
    company.fill(warehouse, now)
    company.trouble(warehouse, now)
    owner = Owner(0, warehouse)
    thread = threading.Thread(target=owner.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    address = f"http://127.0.0.1:{owner.server_port}"
    with dashboard(folder, TALLY_WAREHOUSE=address, TALLY_VIEWER=company.ADA) as url:
        yield Served(url, warehouse)
    owner.shutdown()
    thread.join()
    owner.server_close()
    warehouse.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_overview_is_drawn(served: Served, chromium: Any, scheme: str) -> None:
    began = time.monotonic()
    with opened(chromium, served.url, scheme=scheme) as page:
        drawn(page, charts=3, tables=2)
        print(f"overview drawn in {time.monotonic() - began:.1f} s")  # noqa: T201 - seen with -s
        assert page.locator("[data-testid=stMetric]").count() == 5
        assert page.get_by_text("Mobile").first.is_visible()
        assert page.get_by_text("Local demo").is_visible()
        picture(page, f"overview-{scheme}")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_my_usage_is_drawn(served: Served, chromium: Any, scheme: str) -> None:
    with opened(chromium, f"{served.url}/my_usage", scheme=scheme) as page:
        drawn(page, charts=1, tables=3)
        assert page.get_by_text("Only you see this").is_visible()
        assert page.locator("[data-testid=stMetric]").count() == 4
        picture(page, f"my-usage-{scheme}")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_data_health_is_drawn(served: Served, chromium: Any, scheme: str) -> None:
    with opened(chromium, f"{served.url}/data_health", scheme=scheme, size=DESKTOP | {"height": 3100}) as page:
        drawn(page, charts=2, tables=8)
        assert page.locator("[data-testid=stMetric]").count() == 5
        assert page.get_by_text("10 of 14 checks pass").is_visible()
        picture(page, f"data-health-{scheme}")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_statements_are_drawn(served: Served, chromium: Any, scheme: str) -> None:
    before = datetime.now(UTC).date().replace(day=1) - timedelta(days=1)
    with opened(chromium, f"{served.url}/statements?month={before:%B}+{before:%Y}", scheme=scheme) as page:
        drawn(page, charts=0, tables=2)
        assert page.locator("[data-testid=stMetric]").count() == 4
        assert page.get_by_text(f"{before:%B %Y}:").is_visible()
        for label, first in (("Chargeback", "month,cost_centre"), ("FOCUS 1.2", "BilledCost,")):
            with page.expect_download() as begun:
                page.get_by_role("button", name=label).click()
            assert Path(begun.value.path()).read_text().startswith(first)
        picture(page, f"statements-{scheme}")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("name", "charts", "tables"), [("", 3, 2), ("data_health", 2, 7), ("statements", 0, 2), ("my_usage", 1, 3)]
)
def test_a_page_fits_a_phone(served: Served, chromium: Any, name: str, charts: int, tables: int) -> None:
    with opened(chromium, f"{served.url}/{name}", size=PHONE | {"height": 4400}) as page:
        drawn(page, charts=charts, tables=tables)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
        picture(page, f"{(name or 'overview').replace('_', '-')}-phone")


@pytest.mark.browser
def test_a_filter_goes_into_the_address_and_comes_back_from_it(served: Served, chromium: Any) -> None:
    with opened(chromium, served.url) as page:
        drawn(page, charts=3, tables=2)
        page.get_by_role("radio", name="7 days").or_(page.get_by_text("7 days", exact=True)).first.click()
        page.wait_for_url("**/?period=7+days*", timeout=10_000)
        shared = page.url
    with opened(chromium, shared) as page:
        drawn(page, charts=3, tables=2)
        assert page.url == shared


@pytest.mark.browser
def test_a_new_request_is_on_the_open_page_within_five_seconds(served: Served, chromium: Any) -> None:
    with opened(chromium, f"{served.url}/my_usage") as page:
        drawn(page, charts=1, tables=2)
        now = datetime.now(UTC)
        new = company.one("brand-new", email=company.ADA, at=now, model="claude-just-now", tool_version="9.9.9")
        assert served.warehouse.append("events", [new.row() | {"received_at": now}]) == {}
        seen = "() => [...document.querySelectorAll('canvas')].some(it => it.textContent.includes('claude-just-now'))"
        page.wait_for_function(seen, timeout=5_000)


@pytest.mark.browser
def test_a_slow_card_holds_up_no_other(served: Served, chromium: Any) -> None:
    served.warehouse.gate.clear()
    try:
        with opened(chromium, f"{served.url}/?team=Search&period=7+days") as page:
            page.wait_for_selector("[data-testid=stMetricValue]", timeout=30_000)
            charts = page.locator("[data-testid=stVegaLiteChart] svg")
            charts.nth(1).wait_for(timeout=30_000)
            page.wait_for_selector("[data-testid=stSkeletonElement]", timeout=30_000)
            assert page.get_by_text("Spend by model").is_visible()
            assert charts.count() == 2
            picture(page, "loading-light")
            served.warehouse.gate.set()
            drawn(page, charts=3, tables=2)
    finally:
        served.warehouse.gate.set()


@pytest.mark.browser
def test_a_dead_warehouse_is_told_in_a_card(tmp_path: Path, chromium: Any) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    with dashboard(tmp_path, TALLY_WAREHOUSE=dead, TALLY_VIEWER=company.ADA) as url, opened(chromium, url) as page:
        for name in ("", "data_health", "statements"):
            page.goto(f"{url}/{name}")
            page.get_by_text("The warehouse does not answer since").wait_for(timeout=30_000)
            page.get_by_role("button", name="Retry").wait_for()
        picture(page, "warehouse-down-light")


@pytest.mark.browser
def test_an_empty_company_is_told_what_to_do(tmp_path: Path, chromium: Any) -> None:
    warehouse = DuckDBWarehouse(str(tmp_path / "empty.duckdb"))
    warehouse.apply_schema()
    warehouse.close()
    address = f"duckdb://{tmp_path}/empty.duckdb"
    with dashboard(tmp_path, TALLY_WAREHOUSE=address, TALLY_VIEWER=company.ADA) as url, opened(chromium, url) as page:
        for name in ("", "data_health", "statements"):
            page.goto(f"{url}/{name}")
            page.get_by_text("No requests yet").wait_for(timeout=30_000)
        picture(page, "empty-light")


# --- The door, as it is served ----------------------------------------------------------------------------------------


class Certificates(http.server.BaseHTTPRequestHandler):
    """Where the dashboard under test finds the public key."""

    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        return


def status(url: str, path: str, assertion: str | None, upgrade: bool = False) -> int:
    """The HTTP status of a page, an asset or a websocket's handshake."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {urlsplit(url).netloc}"]
    if upgrade:
        lines += [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            f"Origin: {url}",
        ]
    else:
        lines += ["Connection: close"]
    if assertion is not None:
        lines += [f"{HEADER}: {assertion}"]
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=10) as wire:
        wire.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return int(wire.recv(64).split()[1])


def test_the_served_door_opens_pages_and_websocket_for_a_signed_assertion_alone(tmp_path: Path) -> None:
    key, stranger = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    Certificates.body = json.dumps({"k1": public}).encode()
    certificates = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Certificates)
    threading.Thread(target=certificates.serve_forever, daemon=True).start()

    def sign(by: ec.EllipticCurvePrivateKey = key, age: timedelta = timedelta(0), audience: str = AUDIENCE) -> str:
        at = datetime.now(UTC) - age
        claims = {"iss": ISSUER, "aud": audience, "email": company.ADA, "iat": at, "exp": at + timedelta(minutes=10)}
        return jwt.encode(claims, by, "ES256", headers={"kid": "k1"})

    doors = [("/", False), ("/my_usage", False), ("/_stcore/host-config", False), ("/_stcore/stream", True)]
    refused = [None, "", "ada@example.com", sign(stranger), sign(age=timedelta(hours=1)), sign(audience="/projects/2")]
    cloud = {
        "TALLY_WAREHOUSE": f"http://127.0.0.1:{free_port()}",
        "TALLY_IAP_AUDIENCE": AUDIENCE,
        "TALLY_IAP_CERTS_URL": f"http://127.0.0.1:{certificates.server_port}/",
    }
    with dashboard(tmp_path, **cloud) as url:
        for path, upgrade in doors:
            assert [status(url, path, one, upgrade) for one in refused] == [403] * len(refused), path
            assert status(url, path, sign(), upgrade) == (101 if upgrade else 200), path
    certificates.shutdown()
    certificates.server_close()
