"""The lock file without addresses: `uv.lock` names what is installed and its hashes, never from which index it came.

uv writes the address of the index into every line of its lock. Ours is kept free of them, so that the same commit
installs from a public index or a company's mirror of it, and moving between them changes no line. The addresses of this
machine's index are put back into a copy, which uv reads; uv itself tells what they are.

    python local/lock.py sync [uv sync options]   install exactly what the lock says
    python local/lock.py lock                     resolve anew, export requirements.txt for each deployable
    python local/lock.py check                    fail if the lock or an exported file is out of step
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "uv.lock"
INDEX, FILES = "https://index.invalid/simple", "https://files.invalid/"
EXPORTS = {
    "proxy": "proxy_service/requirements.txt",
    "ingest": "functions/ingest/requirements.txt",
    "alerts": "functions/alerts/requirements.txt",
    "bills": "functions/bills/requirements.txt",
    "keys": "functions/keys/requirements.txt",
    "dashboard": "streamlit_app/requirements.txt",
}
# A package so small and old that resolving it alone costs nothing: uv's answer shows where the index is.
PROBE = '[project]\nname = "probe"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = ["iniconfig"]\n'


def _uv(*args: str, cwd: Path) -> str:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        sys.exit("uv is not on the path; use `make`, which brings its own")
    done = subprocess.run([uv, *args], cwd=cwd, text=True, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"uv {args[0]} failed:\n{done.stderr}")
    return done.stdout


def _addresses() -> tuple[str, str]:
    """(index, root of its files) on this machine, as uv itself writes them."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").write_text(PROBE)
        _uv("lock", cwd=Path(folder))
        text = (Path(folder) / "uv.lock").read_text()
    index = re.search(r'registry = "([^"]+)"', text)
    file = re.search(r'url = "(https?://[^/"]+/)', text)
    if index is None or file is None:
        sys.exit("this index gives no addresses; install from the exported requirements.txt files instead")
    return index[1], file[1]


def _copy(folder: Path, addresses: tuple[str, str]) -> None:
    """The project as uv wants it, in `folder`: pyproject.toml and the lock with addresses."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    if LOCK.exists():
        text = LOCK.read_text().replace(INDEX, addresses[0]).replace(FILES, addresses[1])
        (folder / "uv.lock").write_text(text)


def _neutral(text: str, addresses: tuple[str, str]) -> str:
    return text.replace(addresses[0], INDEX).replace(addresses[1], FILES)


def _resolve(folder: Path, addresses: tuple[str, str]) -> dict[Path, str]:
    """Path -> content of the lock and of every file exported from it."""
    _uv("lock", cwd=folder)
    made = {LOCK: _neutral((folder / "uv.lock").read_text(), addresses)}
    for group, name in EXPORTS.items():
        text = _uv("export", "--frozen", "--only-group", group, "--no-emit-project", "--no-header", cwd=folder)
        made[ROOT / name] = "# Made by `make lock` from uv.lock; not edited by hand.\n" + text
    return made


def main(what: str, *options: str) -> None:
    addresses = _addresses()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _copy(folder, addresses)
        if what == "sync":
            os.environ["UV_PROJECT_ENVIRONMENT"] = str(ROOT / ".venv")
            _uv("sync", "--frozen", *options, cwd=folder)
            return
        made = _resolve(folder, addresses)
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if what == "check":
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of step: run `make lock` and commit")
        sys.exit(bool(stale))
    for path in stale:
        path.write_text(made[path])
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("sync", "lock", "check"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
