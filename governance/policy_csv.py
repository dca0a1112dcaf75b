"""Rows of a CSV file of the policy, each checked; and how a fault in a file of the policy is told."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

# One line of print: these words stand in the headers of e-mail.
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f\u2028\u2029]*$")]
Email = Annotated[
    str,
    Field(max_length=200, pattern=r"^[^@\s,<>\"\x00-\x1f\x7f]+@[^@\s,<>\"\x00-\x1f\x7f]+$"),
    AfterValidator(str.lower),
]
RowModel = TypeVar("RowModel", bound="Row")


class PolicyError(Exception):
    """A file of the policy cannot be used: `people.csv, line 7: why`."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}, line {line}: {reason}")
        self.file, self.line, self.reason = file, line, reason


class Row(BaseModel):
    """One row of a CSV file of the policy. The fields are its columns, by their aliases where they have one."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, validate_by_name=True)


def read_rows(path: Path, of: type[RowModel]) -> Iterator[tuple[int, RowModel]]:
    """(line, row) of every row that is not blank; an empty cell is left out where it may be. Raises PolicyError."""
    fields = {field.validation_alias or name: field for name, field in of.model_fields.items()}
    columns = [str(name) for name in fields]
    optional = {str(name) for name, field in fields.items() if not field.is_required()}
    for line, cells in _csv_rows(path, columns):
        given = {name: cell for name, cell in zip(columns, cells, strict=True) if cell.strip() or name not in optional}
        try:
            yield line, of.model_validate(given)
        except ValidationError as error:
            raise PolicyError(path.name, line, in_words(error.errors(include_url=False)[0])) from None


def in_words(fault: Mapping[str, Any], what_it_is: str = "a row") -> str:
    """What pydantic found, as it is told to who edits the file."""
    field = str(fault["loc"][0]) if fault["loc"] else ""
    what = "is missing" if fault["type"] == "missing" else str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        what = f"is not a field of {what_it_is}"
    return f"{field}: {what}" if field else what


def text_of(path: Path) -> str:
    """The content of a file. Raises PolicyError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PolicyError(path.name, 1, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PolicyError(path.name, line, "is not UTF-8; save it as UTF-8") from None


def _csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row below the header that is not blank."""
    rows = csv.reader(text_of(path).splitlines(keepends=True), strict=True)
    line = 1
    try:
        header = next(rows, [])
        if tuple(cell.strip() for cell in header) != tuple(columns):
            raise PolicyError(path.name, 1, f"the first line must be {','.join(columns)}")
        line = rows.line_num + 1
        for cells in rows:
            if any(cell.strip() for cell in cells):
                if len(cells) != len(columns):
                    raise PolicyError(path.name, line, f"{len(cells)} cells, but there are {len(columns)} columns")
                yield line, cells
            line = rows.line_num + 1
    except csv.Error as error:
        raise PolicyError(path.name, line, str(error)) from None
