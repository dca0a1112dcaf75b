"""Registry: small documents with a version. Firestore in the cloud, an SQLite file on a laptop, the same behaviour.

A document holds JSON types only. Its version changes whenever its content does, and whoever writes names the version
that was read: two writers never overwrite each other unseen.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, cast
from urllib.parse import quote, unquote

ANY: Final = "*"
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TIMEOUT_S = 5.0


class Conflict(Exception):
    """The document is not as the writer believed: it exists already, is gone, or bears another version."""


class RegistryError(Exception):
    """The registry could not be asked. It may pass; nothing is known about the document."""


@dataclass(frozen=True)
class Document:
    """One document of a collection, as read."""

    id: str
    fields: dict[str, Any]
    version: str


class Registry(Protocol):
    """Documents by collection and id. Safe from any thread; every call blocks, and raises RegistryError on trouble."""

    def get(self, collection: str, id: str) -> Document | None:
        """The document, or None where there is none."""

    def put(self, collection: str, id: str, fields: Mapping[str, Any], version: str | None = None) -> str:
        """Write the whole document and return its new version.

        `version` None: only where there is none yet. A version: only over exactly that one. ANY: in any case.
        Raises Conflict when that does not hold, ValueError for a field name that is not a plain word.
        """

    def delete(self, collection: str, id: str, version: str = ANY) -> None:
        """Remove the document; nothing happens where there is none. Raises Conflict when it bears another version."""

    def find(self, collection: str, **equal: Any) -> list[Document]:
        """The documents whose fields equal all the given scalars, by id."""


def open_registry(url: str) -> Registry:
    """The registry at `sqlite:///path` or `firestore://project[/database]`. Raises ValueError on any other URL."""
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite" and rest.startswith("/"):
        return SqliteRegistry(Path(rest))
    project, _, database = rest.partition("/")
    if scheme == "firestore" and project:
        return FirestoreRegistry(project, database or None)
    raise ValueError("a registry is sqlite:///path or firestore://project[/database]")


def _checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    for name in fields:
        if not _FIELD.fullmatch(name):
            raise ValueError(f"a field's name is a plain word, not {name!r}")
    return dict(fields)


class SqliteRegistry:
    """One file, shared by the processes of a laptop: write-ahead log, every write on disk when it returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        with self._trouble():
            self._db = sqlite3.connect(path, isolation_level=None, timeout=_TIMEOUT_S, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS documents (collection TEXT, id TEXT, version INTEGER NOT NULL,"
                " fields TEXT NOT NULL, PRIMARY KEY (collection, id)) WITHOUT ROWID"
            )

    @staticmethod
    @contextmanager
    def _trouble() -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise RegistryError(f"SQLite: {error}") from error

    def _rows(self, sql: str, parameters: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._trouble(), self._lock:
            return self._db.execute(sql, parameters).fetchall()

    def get(self, collection: str, id: str) -> Document | None:
        found = self._rows("SELECT fields, version FROM documents WHERE collection = ? AND id = ?", (collection, id))
        return Document(id, json.loads(found[0][0]), str(found[0][1])) if found else None

    def put(self, collection: str, id: str, fields: Mapping[str, Any], version: str | None = None) -> str:
        text = json.dumps(_checked(fields))
        create = "INSERT INTO documents VALUES (?, ?, 1, ?) ON CONFLICT DO "
        if version is None:
            written = self._rows(create + "NOTHING RETURNING version", (collection, id, text))
        elif version == ANY:
            change = "UPDATE SET fields = excluded.fields, version = version + 1 RETURNING version"
            written = self._rows(create + change, (collection, id, text))
        else:
            swap = "UPDATE documents SET fields = ?, version = version + 1 WHERE collection = ? AND id = ?"
            swap += " AND CAST(version AS TEXT) = ? RETURNING version"
            written = self._rows(swap, (text, collection, id, version))
        if not written:
            raise Conflict(f"{collection}/{id}")
        return str(written[0][0])

    def delete(self, collection: str, id: str, version: str = ANY) -> None:
        where, parameters = "collection = ? AND id = ?", [collection, id]
        if version == ANY:
            self._rows(f"DELETE FROM documents WHERE {where}", tuple(parameters))  # noqa: S608 - no word of it is given
            return
        sql = f"DELETE FROM documents WHERE {where} AND CAST(version AS TEXT) = ? RETURNING id"  # noqa: S608
        if not self._rows(sql, (*parameters, version)) and self.get(collection, id) is not None:
            raise Conflict(f"{collection}/{id}")

    def find(self, collection: str, **equal: Any) -> list[Document]:
        where, parameters = "collection = ?", [collection]
        for name, value in _checked(equal).items():
            if value is None or isinstance(value, bool):
                where += f" AND json_type(fields, '$.{name}') = ?"
                parameters.append("null" if value is None else "true" if value else "false")
            else:
                where += f" AND json_extract(fields, '$.{name}') = ? AND json_type(fields, '$.{name}') <> 'true'"
                parameters.append(value)
        sql = f"SELECT id, fields, version FROM documents WHERE {where} ORDER BY id"  # noqa: S608 - names are checked
        return [Document(row[0], json.loads(row[1]), str(row[2])) for row in self._rows(sql, tuple(parameters))]


class FirestoreRegistry:
    """A Firestore database in native mode, by the official client. FIRESTORE_EMULATOR_HOST selects an emulator."""

    def __init__(self, project: str, database: str | None = None) -> None:
        from google.api_core import exceptions, retry
        from google.cloud import firestore

        self._client = firestore.Client(project=project, database=database)
        self._firestore, self._exceptions = firestore, exceptions
        self._read: dict[str, Any] = {"retry": retry.Retry(timeout=_TIMEOUT_S), "timeout": _TIMEOUT_S}
        # A write is sent once: repeated after a lost answer, it would meet itself and look like somebody else's.
        self._write: dict[str, Any] = {"retry": None, "timeout": _TIMEOUT_S}

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        from google.auth.exceptions import GoogleAuthError

        try:
            yield
        except (self._exceptions.GoogleAPIError, GoogleAuthError) as error:
            raise RegistryError(f"Firestore: {type(error).__name__}: {error}") from error

    def _reference(self, collection: str, id: str) -> Any:
        return self._client.collection(collection).document(quote(id, safe=" @:,;=|"))  # a slash would open a path

    @staticmethod
    def _document(snapshot: Any) -> Document:
        return Document(unquote(snapshot.id), snapshot.to_dict(), snapshot.update_time.rfc3339())

    def get(self, collection: str, id: str) -> Document | None:
        with self._trouble():
            snapshot = self._reference(collection, id).get(**self._read)
            return self._document(snapshot) if snapshot.exists else None

    def put(self, collection: str, id: str, fields: Mapping[str, Any], version: str | None = None) -> str:
        reference, content = self._reference(collection, id), _checked(fields)
        with self._trouble():
            if version == ANY:
                result = reference.set(content, **self._write)
            elif version is None:
                try:
                    result = reference.create(content, **self._write)
                except self._exceptions.AlreadyExists:
                    raise Conflict(f"{collection}/{id}") from None
            else:
                result = self._swap(reference, content, version, Conflict(f"{collection}/{id}"))
            return cast(str, result.update_time.rfc3339())

    def _swap(self, reference: Any, content: dict[str, Any], version: str, conflict: Conflict) -> Any:
        """Replace the document under the precondition that it was last written at `version`."""
        snapshot = reference.get(**self._read)
        if not snapshot.exists or snapshot.update_time.rfc3339() != version:
            raise conflict
        gone = dict.fromkeys(snapshot.to_dict().keys() - content.keys() or {"none"}, self._firestore.DELETE_FIELD)
        unchanged = self._client.write_option(last_update_time=snapshot.update_time)
        try:  # `update` takes a precondition, `set` does not; so the fields that are gone are named
            return reference.update({**gone, **content}, option=unchanged, **self._write)
        except (self._exceptions.FailedPrecondition, self._exceptions.NotFound, self._exceptions.Aborted):
            raise conflict from None

    def delete(self, collection: str, id: str, version: str = ANY) -> None:
        reference = self._reference(collection, id)
        with self._trouble():
            if version == ANY:
                reference.delete(**self._write)
                return
            snapshot = reference.get(**self._read)
            if not snapshot.exists:
                return
            if snapshot.update_time.rfc3339() != version:
                raise Conflict(f"{collection}/{id}")
            unchanged = self._client.write_option(last_update_time=snapshot.update_time)
            try:
                reference.delete(option=unchanged, **self._write)
            except (self._exceptions.FailedPrecondition, self._exceptions.NotFound, self._exceptions.Aborted):
                raise Conflict(f"{collection}/{id}") from None

    def find(self, collection: str, **equal: Any) -> list[Document]:
        query: Any = self._client.collection(collection)
        for name, value in _checked(equal).items():
            query = query.where(filter=self._firestore.FieldFilter(name, "==", value))
        with self._trouble():
            return sorted((self._document(found) for found in query.stream(**self._read)), key=lambda found: found.id)
