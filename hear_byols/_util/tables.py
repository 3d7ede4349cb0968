"""CSV tables for people: a spreadsheet that opens one runs nothing that a file's name or a label holds."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from hear_byols._util.files import output_path

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a cell that begins so is run by a spreadsheet


def guarded(text: str) -> str:
    """Text as a cell that is never a formula, in UTF-8: other bytes of file names become question marks."""
    return as_text(text.encode("utf-8", "replace").decode("utf-8"))


def as_text(text: str) -> str:
    """Text as a cell that is never a formula: one that begins like one gets an apostrophe before it."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def unguarded(cell: str) -> str:
    """The text that :func:`as_text` made a cell of."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell


def one_line(text: str, most: int = 200) -> str:
    """A foreign text for a terminal: on one line, without control characters, cut to its end."""
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= most else f"...{plain[3 - most :]}"


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table in UTF-8: texts are guarded, numbers are written as they are, None is an empty cell.

    Raises:
        OutputError: the file cannot be written.
    """
    with output_path(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(guarded, header))
        writer.writerows([guarded(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
