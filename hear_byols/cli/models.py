"""``hear-byols models``: the weights that are known by name."""

from __future__ import annotations

import argparse
import textwrap

from hear_byols.errors import WeightsNotFoundError
from hear_byols.weights.registry import DEFAULT_MODEL, WeightRecord, known_record, list_models

_HEADER = ("name", "encoder", "size", "source", "local", "commercial use", "licence")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("models", help="list the models", description="List the models known by name.")
    parser.add_argument("pattern", nargs="?", default="*", help="shell-style wildcard, such as 'original_*'")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a table."""
    names = list_models(args.pattern)
    if not names:
        raise WeightsNotFoundError(f"no model is called {args.pattern!r}; known: {', '.join(list_models())}")
    rows = [_HEADER, *(_row(known_record(name)) for name in names)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(record: WeightRecord) -> tuple[str, ...]:
    from hear_byols.weights.locate import local_file

    local = ("yes" if local_file(record) else "no") if record.file or record.location else "-"
    name = record.name + (" (default)" if record.name == DEFAULT_MODEL else "")
    return (
        name,
        record.encoder,
        str(record.embedding_size),
        record.source,
        local,
        record.commercial or "-",
        textwrap.shorten(record.licence or "-", 60),
    )
