"""Where a Tally on this machine keeps its state: `.tally/`, or the folder named by TALLY_HOME. Nobody else may read it.

run.json          addresses of the running Tally, a person and that person's key; gone when it stops
logs/<name>.log   what each service said
demo/, up/        registry, warehouse, messages under way, secrets and keys, each kind of run apart
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, Literal

from governance import keys
from governance.policy import Person
from governance.registry import Conflict, open_registry

ROOT: Final = Path(__file__).resolve().parent.parent
Kind = Literal["demo", "up"]


class NotRunning(Exception):
    """No Tally runs from this folder."""


class AlreadyRunning(Exception):
    """A Tally runs from this folder."""


@dataclass(frozen=True)
class Secrets:
    """What the rooms would get from Secret Manager; drawn once, and kept."""

    key_pepper: str
    litellm_master_key: str
    slack_signing_secret: str
    slack_bot_token: str


def folder() -> Path:
    """The state's folder."""
    return Path(os.environ.get("TALLY_HOME") or ROOT / ".tally").resolve()


def read_run() -> dict[str, Any]:
    """The content of run.json. Raises NotRunning."""
    try:
        found: dict[str, Any] = json.loads((folder() / "run.json").read_text())
    except FileNotFoundError:
        raise NotRunning(f"no Tally runs from {folder()}; start one with `make demo` or `make up`") from None
    return found


class Home:
    """The state of one kind of run."""

    def __init__(self, kind: Kind) -> None:
        self.root = folder()
        self.data, self.logs = self.root / kind, self.root / "logs"
        for path in (self.root, self.data, self.logs):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._run_file = self.root / "run.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process; whatever run.json says is gone at the end. Raises AlreadyRunning."""
        lock: IO[str]
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning(f"a Tally already runs from {self.root}") from None
            try:
                self.forget_run()  # of a run that was killed
                yield
            finally:
                self.forget_run()

    def write_run(self, run: Mapping[str, Any]) -> None:
        """Tell other programs where everything is. All at once: nobody reads half of it."""
        _write_private(self._run_file, dict(run))

    def forget_run(self) -> None:
        """Remove run.json: Tally is stopping."""
        self._run_file.unlink(missing_ok=True)

    def secrets(self) -> Secrets:
        """The run's secrets, drawn at the first start."""
        path = self.data / "secrets.json"
        if not path.exists():
            drawn = (secrets.token_urlsafe(32) for _ in range(4))
            _write_private(path, asdict(Secrets(*drawn)))
        return Secrets(**json.loads(path.read_text()))

    @property
    def registry_url(self) -> str:
        """The registry of this kind of run."""
        return f"sqlite:///{self.data / 'registry.sqlite'}"

    def keys_of(
        self,
        people: Sequence[Person],
        services: Mapping[str, str],
        pepper: str,
        terms: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, str]:
        """A key for each person by e-mail, and for each service by name (with its team); made and entered where there
        is none. `terms` are further fields of KeyRecord, by the same names.

        The keys themselves lie in a file here, which no other kind of Tally has: a demo's requests need them.
        """
        path, registry = self.data / "keys.json", open_registry(self.registry_url)
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        owners: list[tuple[str, Person | None, str]] = [(p.email, p, p.team) for p in people]
        owners += [(name, None, team) for name, team in services.items()]
        missing = [name for name, _, _ in owners if name not in known]
        known |= {name: keys.make() for name in missing}
        if missing:
            _write_private(path, known)
        for name, person, team in owners:
            told: dict[str, Any] = {
                "person": person.email if person else None,
                "team": team,
                "kind": "human" if person else "service",
                "name": "laptop" if person else name,
            }
            made = keys.new_record(known[name], pepper, **told)
            record = made[1].model_copy(update=dict((terms or {}).get(name, {})))
            _enter(registry, made[0], record, left_on=person.left_on if person else None)
        return {name: known[name] for name, _, _ in owners}


def _enter(registry: Any, hashed: str, record: keys.KeyRecord, left_on: Any) -> None:
    if registry.get(keys.COLLECTION, hashed) is not None:
        return
    if left_on is not None:
        ended = datetime(left_on.year, left_on.month, left_on.day, tzinfo=UTC)
        began = min(ended, record.created_at)
        record = record.model_copy(update={"revoked_at": ended, "revoked_why": "left", "created_at": began})
    try:
        registry.put(keys.COLLECTION, hashed, record.document())
    except Conflict:
        return  # entered meanwhile, by an earlier start that was cut off


def _write_private(path: Path, content: Mapping[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    fresh.replace(path)
