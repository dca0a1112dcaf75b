"""The house as built: rooms import themselves and governance, names say something, schemas agree, secrets stay out."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.alerts.blocks import BLOCKS
from functions.alerts.delivered import WAITING
from functions.alerts.key_tables import USAGE
from functions.alerts.outbox import SENT
from functions.alerts.reference import LOADED
from functions.alerts.usual_days import USUAL
from functions.keys.door import REQUESTS
from governance import audit, gate, keys, raises
from governance.events import UsageEvent
from local.lock import FILES, INDEX
from tests.conftest import ROOT, documents

ROOMS = (
    "governance",
    "proxy_service",
    "functions/ingest",
    "functions/alerts",
    "functions/bills",
    "functions/keys",
    "streamlit_app",
    "tally_cli",
)
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
VIEWS = sorted((ROOT / "sql/views").glob("*.sql"))
TABLES = sorted((ROOT / "sql/tables").glob("*.json"))
BIGQUERY_TYPES = {"str": "STRING", "int": "INT64", "bool": "BOOL", "datetime": "TIMESTAMP", "Decimal": "NUMERIC"}


def modules(room: str) -> Iterator[Path]:
    return (p for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts)


def imported(path: Path) -> set[str]:
    """Modules that this file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_itself_and_governance_only(room: str) -> None:
    own = room.replace("/", ".")
    ours = {"governance", "proxy_service", "functions", "streamlit_app", "tally_cli", "local", "tests", "bench"}
    for path in modules(room):
        for name in imported(path):
            if name.split(".")[0] in ours and room != "governance":
                allowed = name.startswith((own, "governance")) or name in {p.stem for p in path.parent.glob("*.py")}
                assert allowed, f"{path.relative_to(ROOT)} imports {name}"
            if name.split(".")[0] in ours and room == "governance":
                assert name.startswith("governance"), f"{path.relative_to(ROOT)} imports {name}"


def test_governance_knows_no_server_and_no_page() -> None:
    for path in modules("governance"):
        assert not {n.split(".")[0] for n in imported(path)} & {"streamlit", "litellm", "functions_framework"}, path


@pytest.mark.parametrize(
    "lean", ["governance.events", "governance.registry", "governance.warehouse", "governance.keys"]
)
def test_a_word_of_governance_is_imported_without_what_its_other_adapters_need(lean: str) -> None:
    heavy = [
        "duckdb",
        "sqlglot",
        "pyarrow",
        "pandas",
        "google.cloud.bigquery",
        "google.cloud.firestore",
        "google.cloud.secretmanager",
    ]
    code = f"import sys, {lean}; print(*[m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_module_is_long_and_each_says_what_it_is_for() -> None:
    for room in (*ROOMS, "local", "bench"):
        for path in modules(room):
            text = path.read_text()
            assert text.count("\n") <= 400, f"{path.relative_to(ROOT)} has {text.count(chr(10))} lines"
            assert ast.get_docstring(ast.parse(text)), f"{path.relative_to(ROOT)} says not what it is for"
            assert path.stem not in FORBIDDEN_NAMES, f"{path.relative_to(ROOT)}: a name that refuses nothing"


def test_only_settings_reads_the_environment() -> None:
    for room in ROOMS:
        for path in modules(room):
            # proxy_service/main.py sets LiteLLM's own switches before LiteLLM is imported: it has no other door. The
            # command line runs without pydantic, so it reads its few variables itself, in one place too.
            own = ("governance/settings.py", "proxy_service/main.py", "tally_cli/configuration.py")
            if path.relative_to(ROOT).as_posix() in own:
                continue
            assert not re.search(r"os\.(environ\b(?!/)|getenv)", path.read_text()), path.relative_to(ROOT)


def test_every_field_of_the_event_is_a_column_and_every_column_a_field() -> None:
    table = json.loads((ROOT / "sql/tables/events.json").read_text())
    columns = {f["name"]: f for f in table["fields"]}
    fields = UsageEvent.model_fields
    assert set(columns) - {"received_at"} == set(fields)
    for name, field in fields.items():
        python = re.findall(r"\b(str|int|bool|datetime|Decimal)\b", str(field.annotation))
        wanted = BIGQUERY_TYPES[python[0]] if python else "INT64" if name == "schema_version" else "STRING"
        if wanted == "NUMERIC" and "decimal_places=9)" not in str(field.annotation):
            wanted = "BIGNUMERIC"  # more decimals than NUMERIC holds
        assert columns[name]["type"] == wanted, name
        assert columns[name]["description"] == field.description, name
        assert (columns[name]["mode"] == "REQUIRED") == ("None" not in str(field.annotation)), name


@pytest.mark.parametrize("path", TABLES, ids=[p.stem for p in TABLES])
def test_every_table_and_column_is_described(path: Path) -> None:
    table = json.loads(path.read_text())
    assert table["description"]
    names = [f["name"] for f in table["fields"]]
    assert len(names) == len(set(names))
    assert all(f["description"] for f in table["fields"])
    assert table["partition"] is None or table["partition"] in names
    assert set(table["cluster"]) <= set(names)


@pytest.mark.parametrize("path", VIEWS, ids=[p.stem for p in VIEWS])
def test_every_view_says_its_grain_and_what_it_is(path: Path) -> None:
    first, second, *_ = path.read_text().splitlines()
    assert re.match(r"-- Grain: one row\b.*\.$", first), path.name
    assert re.match(r"-- .{18}", second), path.name
    assert "SELECT *\nFROM tally" not in path.read_text(), f"{path.name} names its columns"


def test_every_room_stands_in_the_readme() -> None:
    listed = re.findall(r"^\| `([\w/]+)/` \|", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert set(ROOMS) <= set(listed)
    assert [room for room in listed if not (ROOT / room).is_dir()] == []


@pytest.mark.parametrize("room", ["governance", "proxy_service", "streamlit_app"])
def test_the_map_of_a_room_names_each_of_its_modules(room: str) -> None:
    named = set(re.findall(r"\w+", ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text())) or ""))
    assert {path.stem for path in (ROOT / room).glob("[!_]*.py")} <= named


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_no_link_and_no_path_of_a_page_leads_nowhere() -> None:
    top = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    for page in documents():
        text = page.read_text()
        for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", text):
            found = page.parent / target if target else page
            assert found.exists(), f"{page.relative_to(ROOT)} links to {target}"
            headings = re.findall(r"^#+ (.+)$", found.read_text(), flags=re.MULTILINE) if anchor else []
            assert not anchor or anchor in map(slug, headings), f"{page.relative_to(ROOT)} links to #{anchor}"
        for path in re.findall(r"`([\w.-]+/[\w./-]*)`", text):
            assert path.split("/")[0] not in top or (ROOT / path).exists(), f"{page.relative_to(ROOT)} names {path}"


def test_every_collection_of_the_registry_stands_on_the_page_about_budgets() -> None:
    used = {
        keys.COLLECTION, gate.GATE, gate.GATEWAYS, raises.COLLECTION, audit.AUDIT, SENT, WAITING, BLOCKS, LOADED, USUAL,
        USAGE, REQUESTS,
    }  # fmt: skip
    rows = (ROOT / "docs/budgets.md").read_text().partition("## Where it stands")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", rows, flags=re.MULTILINE)) == used


def test_no_tracked_file_names_a_package_index_or_holds_a_secret() -> None:
    for path in tracked():
        data = path.read_bytes()
        if b"\0" in data:
            continue
        text = data.decode()
        for host in (
            "py" + "pi.org",
            "pythonhosted" + ".org",
            "npm" + "js.org",
        ):  # in two, or this file would name them
            assert host not in text, f"{path.relative_to(ROOT)} names {host}"
        assert not re.search(r"sk-ant-[a-z]+\d\d-\w{20}|xox[bp]-\d{8}|-----BEGIN (RSA |EC )?PRIVATE KEY", text), path


def test_the_lock_is_free_of_addresses() -> None:
    addresses = set(re.findall(r"https?://[^/\"]+", (ROOT / "uv.lock").read_text()))
    assert addresses == {INDEX.removesuffix("/simple"), FILES.rstrip("/")}


def test_every_deployable_installs_from_hashes() -> None:
    for path in (*ROOT.glob("*/requirements.txt"), *ROOT.glob("functions/*/requirements.txt")):
        pins = [line for line in path.read_text().splitlines() if line and not line.startswith((" ", "#"))]
        assert pins
        assert all("==" in pin and pin.rstrip().endswith("\\") for pin in pins), path
