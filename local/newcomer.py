"""A policy folder with one person more: for whoever starts Tally on a laptop and stands in nobody's people.csv yet.

Without a row the first tick would take her for a leaver and end her key. Every other file is the company's own, linked,
so that a change of it holds at once.
"""

from __future__ import annotations

import csv
from pathlib import Path

from governance.policy import PEOPLE, Person


def with_person(policy: Path, person: Person, folder: Path) -> Path:
    """`folder`, made anew from the files in `policy` and this person's row."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for file in policy.iterdir():
        if file.is_file() and file.name != PEOPLE:
            (folder / file.name).symlink_to(file.resolve())
    known = (policy / PEOPLE).read_text()
    with (folder / PEOPLE).open("w", newline="") as out:
        out.write(known if known.endswith("\n") else known + "\n")
        row = (person.email, person.name, person.team, person.role, person.joined_on.isoformat(), "")
        csv.writer(out, lineterminator="\n").writerow(row)
    return folder
