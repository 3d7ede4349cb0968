"""``hear-byols models``: the weights that are known by name."""

import argparse
import json
import textwrap

from hear_byols.cli.options import add_command, print_table
from hear_byols.errors import WeightsNotFoundError
from hear_byols.weights.records import WeightRecord
from hear_byols.weights.registry import DEFAULT_MODEL, known_record, list_models

_HEADER = ("name", "encoder", "size", "source", "local", "commercial use", "licence")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "models", "list the models", run, "List the models known by name.")
    parser.add_argument("pattern", nargs="?", default="*", help="shell-style wildcard, such as 'original_*'")
    parser.add_argument("--json", action="store_true", help="print all that is known, as JSON")


def run(args: argparse.Namespace) -> int:
    names = list_models(args.pattern)
    if not names:
        raise WeightsNotFoundError(f"no model is called {args.pattern!r}; known: {', '.join(list_models())}")
    records = [known_record(name) for name in names]
    if args.json:
        about = [{**vars(r), "default": r.name == DEFAULT_MODEL, "local": _is_local(r)} for r in records]
        print(json.dumps(about, indent=2))
        return 0
    print_table([_HEADER, *map(_row, records)])
    return 0


def _is_local(record: WeightRecord) -> bool | None:
    """Whether the weights are on this machine; None where there are none to be had."""
    from hear_byols.weights.locate import local_file

    return local_file(record) is not None if record.file or record.location else None


def _row(record: WeightRecord) -> tuple[str, ...]:
    name = record.name + (" (default)" if record.name == DEFAULT_MODEL else "")
    local = {True: "yes", False: "no", None: "-"}[_is_local(record)]
    licence = textwrap.shorten(record.licence or "-", 60)
    size = str(record.embedding_size)
    return name, record.encoder, size, record.source, local, record.commercial or "-", licence
