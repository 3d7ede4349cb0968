"""The command ``hear-byols``: its parser, and what all subcommands share."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from hear_byols import __version__
from hear_byols.errors import HearByolsError

COMMANDS = (
    *("embed", "models", "info", "verify", "demo", "export", "publish"),
    *("classify", "detect", "search", "duplicates", "clusters", "teachers"),
    *("pretrain", "tasks", "evaluate", "cka", "map", "look"),
)
_INTERRUPTED = 130  # as shells report it


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands; it imports nothing heavy."""
    parser = argparse.ArgumentParser(prog="hear-byols", description="Audio embeddings: BYOL-S with the HEAR API.")
    parser.add_argument("--version", action="version", version=f"hear_byols {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"hear_byols.cli.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default the process's.

    Returns:
        Exit status: the subcommand's; 2 for errors on purpose, which print one line; 130 when interrupted.
    """
    args = build_parser().parse_args(argv)
    logging.basicConfig(format="hear-byols: %(message)s", level=logging.WARNING)
    if not getattr(args, "quiet", False):
        logging.getLogger("hear_byols").setLevel(logging.INFO)
    try:
        return args.run(args)
    except HearByolsError as error:
        print(f"hear-byols: error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hear-byols: interrupted; the same command continues from what is recorded", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in "hear-byols models | head -1"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
