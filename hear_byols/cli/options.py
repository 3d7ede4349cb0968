"""What the subcommands have in common: how their parsers look, and how they name what failed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hear_byols._util.tables import one_line
from hear_byols.weights.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from hear_byols.extraction.groups import Failure

_MAX_REASON = 500  # characters


def add_command(actions: Any, name: str, text: str, description: str = "", **more: Any) -> argparse.ArgumentParser:
    """Add a subcommand, or an action of one, whose description is shown as it is written.

    Args:
        actions: of ``add_subparsers``.
        name: as it is typed.
        text: its line in the list; also its description if there is no other.
        description: what ``--help`` begins with.
        **more: options of ``add_parser``.
    """
    formatter = argparse.RawDescriptionHelpFormatter
    return actions.add_parser(name, help=text, description=description or text, formatter_class=formatter, **more)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``."""
    text = f"name, file or hf://owner/repo/file (default: {DEFAULT_MODEL})"
    parser.add_argument("--model", "-m", default="", help=text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N|mps", help="default: auto")


def print_failures(failures: Iterable[Failure], what: str = "not read") -> None:
    """Name every file that failed, and why, in a line on standard error."""
    for failure in failures:
        line = f"{what}: {one_line(failure.name)}: {one_line(failure.reason, _MAX_REASON)}"
        print(f"hear-byols: {line}", file=sys.stderr)
