"""A Firestore emulator of one's own."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import emulator_jar, eventually, free_port


@contextmanager
def firestore_emulator() -> Iterator[str]:
    """host:port of an empty one. Needs Java and the emulator's jar."""
    port = free_port()
    main = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
    command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", str(emulator_jar("firestore")), main, "start"]
    emulator = subprocess.Popen(
        [*command, "--host=127.0.0.1", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: _answers(port), within_s=60)
        yield f"127.0.0.1:{port}"
    finally:
        emulator.kill()
        emulator.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
