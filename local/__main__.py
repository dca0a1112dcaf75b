"""The cloud on a laptop: `python -m local demo`, `up`, `sql "SELECT …"`, `export chargeback --month 2026-10`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from governance.policy import PolicyError
from governance.warehouse import WarehouseError
from local.export import CannotExport, add_arguments, export
from local.home import ROOT, AlreadyRunning, NotRunning


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local", description="Tally on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="all of it, with a synthetic company, a simulated provider, live traffic")
    up = commands.add_parser("up", help="all of it, with your own provider keys from .env")
    for command in (demo, up):
        command.add_argument("--proxy-port", type=int, default=4000, help="the gateway's; the next free one if taken")
        command.add_argument("--dashboard-port", type=int, default=8501, help="likewise")
        command.add_argument("--policy", type=Path, default=ROOT / "policy", help="the folder with people and budgets")
        command.add_argument("--person", default=os.environ.get("TALLY_PERSON"), help="e-mail of who looks and asks")
        command.add_argument("--tick-s", type=float, default=60.0, help="seconds between two ticks of the scheduler")
        command.add_argument("-v", "--verbose", action="store_true", help="every log on the screen, merged")
    demo.add_argument("--no-history", action="store_true", help="without the ninety days that lie behind")
    demo.add_argument("--no-traffic", action="store_true", help="without live traffic")
    demo.add_argument("--per-minute", type=float, default=30.0, help="requests of live traffic")
    up.add_argument("--env-file", type=Path, default=ROOT / ".env", help="where the provider keys stand")
    sql = commands.add_parser("sql", help="ask the running warehouse; a JSON object per row")
    sql.add_argument("query", help="BigQuery SQL, such as SELECT * FROM tally.data_freshness")
    add_arguments(commands.add_parser("export", help="a month of charges, as CSV"))
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run one command. The exit status: 0 well, 1 it failed, 2 it could not begin."""
    given = _arguments(argv)
    try:
        if given.command in ("sql", "export"):
            from local.sql import ask

            ask(given.query) if given.command == "sql" else export(given)
            return 0
        from local.launch import CannotStart, Options, launch

        demo = given.command == "demo"
        options = Options(
            kind=given.command,
            proxy_port=given.proxy_port,
            dashboard_port=given.dashboard_port,
            policy=given.policy.resolve(),
            history=demo and not given.no_history,
            traffic_per_minute=given.per_minute if demo and not given.no_traffic else 0.0,
            tick_s=given.tick_s,
            echo=given.verbose,
            person=given.person,
            env_file=None if demo else given.env_file.resolve(),
        )
        try:
            return launch(options)
        except CannotStart as error:
            print(f"Tally cannot start: {error}", file=sys.stderr)
            return 2
    except (NotRunning, AlreadyRunning, PolicyError, CannotExport) as error:
        print(str(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before there was anything to stop
        return 130
    except WarehouseError as error:
        print(f"the warehouse: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
