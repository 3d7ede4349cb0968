"""``hear-byols search``: what in a folder of embeddings resembles a clip."""

import argparse
from pathlib import Path

from hear_byols.cli.options import add_command, add_device

_DESCRIPTION = """\
List what resembles QUERY most in an output folder of 'embed': an audio file, or the name of a file in the folder. In a
folder of windows (embed --timestamps) the hits are stretches with their times, and --start and --end cut the query."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "search", "find clips that resemble a clip", run, _DESCRIPTION)
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="output folder of 'embed'")
    add("query", metavar="QUERY", help="audio file, or name of a file in the folder")
    add("--start", type=float, metavar="S", help="first second of the query's stretch")
    add("--end", type=float, metavar="S", help="last second of it")
    add("--number", "-n", type=int, default=10, metavar="N", help="most hits (default: 10)")
    add("--output", "-o", metavar="CSV", help="also write a table path,time_s,similarity")
    add("--model", "-m", help="where the model's weights are, if not where the manifest says")
    add_device(parser, quiet="print nothing")


def run(args: argparse.Namespace) -> int:
    from hear_byols._util.tables import one_line, write_table
    from hear_byols.answers.search import search

    options = {"n": args.number, "model": args.model, "device": args.device}
    hits = search(args.folder, args.query, start_s=args.start, end_s=args.end, **options)
    if not args.quiet:
        for hit in hits:
            time = "" if hit.time_ms is None else f"{hit.time_ms / 1000:>10.2f} s"
            print(f"{hit.similarity:.4f}{time}  {one_line(hit.name)}")
    if args.output:
        rows = [[h.name, None if h.time_ms is None else h.time_ms / 1000, round(h.similarity, 6)] for h in hits]
        write_table(Path(args.output), ["path", "time_s", "similarity"], rows)
    return 0
