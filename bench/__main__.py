"""Every claim about speed, measured again: `make bench` writes bench/RESULTS.md.

    python -m bench [names of benches]

Figures of one machine on one day; what carries over are the ratios within one run.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCHES = {
    "proxy": (
        "The gateway beside bare LiteLLM",
        "requests/s ÷ bare ≥ 0.95; ≤ 1 ms more at half load; a cached key ≤ 5 µs",
    ),
    "ingest": ("Ingest on one core, with a warehouse that takes 50 ms", "≥ 1,400 events/s"),
    "outage": ("The topic stops for a minute under 50 requests/s", "no request fails, none slows by more than 10 %"),
}


def main(names: list[str]) -> int:
    """Run the benches one after the other; write what they print, under its title, with its command and its goal."""
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    parts = [f"# What was measured\n\n{datetime.now(UTC):%-d %B %Y}, {machine}. Made by `make bench`.\n"]
    for name in names or list(BENCHES):
        title, goal = BENCHES[name]
        print(f"{title} …", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            return done.returncode
        parts.append(f"## {title}\n\n`python -m bench.{name}` · goal: {goal}\n\n{done.stdout.strip()}\n")
    text = "\n".join(parts)
    if not names:
        (ROOT / "bench" / "RESULTS.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
