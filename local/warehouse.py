"""The process that owns the DuckDB file: `python -m local.warehouse --port P --path F`. Everybody else asks it.

DuckDB lets one process open a file. This one answers append, replace, rewrite and query on loopback, in the JSON of
`governance/http_warehouse.py`, and logs its own life, never a row.
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from governance import logs
from governance.duckdb_warehouse import DuckDBWarehouse
from governance.http_warehouse import decode, encode
from governance.warehouse import WarehouseError

log = logging.getLogger("warehouse")


def answer(warehouse: DuckDBWarehouse, what: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The body of the answer. Raises WarehouseError; KeyError or TypeError for a question that makes no sense."""
    if what == "append":
        return {"bad": warehouse.append(asked["table"], asked["rows"])}
    if what == "replace":
        warehouse.replace(asked["table"], asked["rows"])
        return {}
    if what == "rewrite":
        warehouse.rewrite(asked["table"], asked["view"], asked["column"], asked["days"])
        return {}
    if what == "query":
        rows = warehouse.query(asked["sql"], asked["params"])
        return {"columns": list(rows[0]) if rows else [], "rows": [list(row.values()) for row in rows]}
    if what == "apply_schema":
        warehouse.apply_schema()
        return {}
    raise KeyError(what)


class Owner(ThreadingHTTPServer):
    """A thread for each connection; the warehouse below is safe for that."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, warehouse: DuckDBWarehouse) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.warehouse = warehouse


class Handler(BaseHTTPRequestHandler):
    """POST /append, /replace, /rewrite, /query, /apply_schema; GET /healthz."""

    server: Owner
    server_version = "tally-warehouse"

    def do_GET(self) -> None:
        """Whether the file is open."""
        if self.path == "/healthz":
            self._send(200, {"status": "ok"})
        else:
            self._send(404, {"error": "there is only /healthz"})

    def do_POST(self) -> None:
        """One question. A web page cannot ask it: it cannot send this content type, nor under this host name."""
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in ("127.0.0.1", "localhost") or self.headers.get("Content-Type") != "application/json":
            self._send(403, {"error": "only programs on this machine may ask"})
            return
        try:
            asked = decode(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self._send(200, answer(self.server.warehouse, self.path.strip("/"), asked))
        except WarehouseError as error:
            self._send(503, {"error": str(error)})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._send(400, {"error": f"not a question this warehouse knows: {type(error).__name__}"})
        except Exception as error:
            log.exception("a question failed", extra={"question": self.path})
            self._send(500, {"error": f"the warehouse failed: {type(error).__name__}"})

    def log_message(self, format: str, *args: Any) -> None:
        """No line for each request."""

    def _send(self, status: int, body: dict[str, Any]) -> None:
        sent = encode(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)


def main() -> None:
    """Open the file, apply the schema, serve until SIGTERM or SIGINT, close the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", type=Path, required=True)
    given = parser.parse_args()
    logs.start()
    warehouse = DuckDBWarehouse(str(given.path))
    warehouse.apply_schema()
    owner = Owner(given.port, warehouse)
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: threading.Thread(target=owner.shutdown).start())
    log.info("the warehouse is open", extra={"port": owner.server_port})
    owner.serve_forever(poll_interval=0.1)
    owner.server_close()
    warehouse.close()
    log.info("the warehouse is closed")


if __name__ == "__main__":
    main()
