"""What the subcommands have in common: how their parsers look, and how they name what failed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hear_byols._util.tables import one_line
from hear_byols.weights.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from hear_byols.extraction.groups import Failure

MODEL_HELP = f"name, file or hf://owner/repo/file (default: {DEFAULT_MODEL})"
_MAX_REASON = 500  # characters


def add_command(
    actions: Any, name: str, text: str, run: Callable[[Any], int], description: str = "", **more: Any
) -> argparse.ArgumentParser:
    """Add a subcommand, or an action of one, that calls ``run`` with the parsed arguments for the exit status.

    The description, without one the line in the list, is shown as it is written; ``more`` goes to ``add_parser``.
    """
    formatter = argparse.RawDescriptionHelpFormatter
    parser = actions.add_parser(name, help=text, description=description or text, formatter_class=formatter, **more)
    parser.set_defaults(run=run)
    return parser


def add_device(parser: argparse.ArgumentParser, quiet: str = "") -> None:
    """Add ``--device`` and, with a text that says what it leaves out, ``--quiet``."""
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N|mps", help="default: auto")
    if quiet:
        parser.add_argument("--quiet", "-q", action="store_true", help=quiet)


def print_failures(failures: Sequence[Failure], what: str = "not read") -> int:
    """Name every file that failed, and why, in a line on standard error; the exit status is 1 if there are any."""
    for failure in failures:
        line = f"{what}: {one_line(failure.name)}: {one_line(failure.reason, _MAX_REASON)}"
        print(f"hear-byols: {line}", file=sys.stderr)
    return 1 if failures else 0


def tell(args: Any, text: str) -> None:
    """Sum up on standard error, unless ``--quiet``."""
    if not args.quiet:
        print(text, file=sys.stderr, flush=True)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of equal length in columns, each as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
