"""Every claim about speed, measured again: `make bench` writes bench/RESULTS.md.

    python -m bench [names of benches]    those alone; the others stay as they were measured

Figures of one machine on one day; what carries over are the ratios within one run.
"""

from __future__ import annotations

import os
import platform
import re
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
    "guard": ("What our own checks add to a request", "≤ 50 µs, with all of a key's powers"),
    "bill": (
        "The bill, our figure and LiteLLM's, for the same traffic",
        "ours = the bill; within 5 % where nobody was told",
    ),
    "ingest": ("Ingest on one core, with a warehouse that takes 50 ms", "≥ 1,400 events/s"),
    "coldstart": ("The keys function from nothing to its first answer, on one core", "≤ 1.5 s"),
    "pages": ("What a page asks, and what BigQuery would read for it", "10 M events ÷ 100 k events ≤ 1.5; ≤ 50 MB"),
    "tick": ("A tick of the alerts function, 10,000 people, 1,000 budgets, 10 M events", "≤ 5 s"),
    "gate": ("Budgets in a request's way, 10,000 people and 1,000 budgets", "≤ 50 µs a request"),
    "outage": ("The topic stops for a minute under 50 requests/s", "no request fails, none slows by more than 10 %"),
}


RESULTS = ROOT / "bench" / "RESULTS.md"


def sections(text: str) -> dict[str, str]:
    """Title of a bench to what RESULTS.md says below it."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


def main(names: list[str]) -> int:
    """Run the benches named, or all, one after the other; put what they print into RESULTS.md, under their titles."""
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    for name in names or list(BENCHES):
        title, goal = BENCHES[name]
        print(f"{title} …", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            return done.returncode
        about = f"`python -m bench.{name}` · goal: {goal} · {datetime.now(UTC):%-d %B %Y}, {machine}"
        known = sections(RESULTS.read_text()) | {title: f"{about}\n\n{done.stdout.strip()}"}
        listed = [f"## {title}\n\n{known[title]}\n" for title, _ in BENCHES.values() if title in known]
        RESULTS.write_text("\n".join(["# What was measured\n\nMade by `make bench`.\n", *listed]))
        print(done.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
