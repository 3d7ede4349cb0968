"""``hear-byols duplicates``: copies of one recording in a folder of embeddings."""

import argparse
from pathlib import Path

from hear_byols.cli.options import add_command, print_failures, tell

_DESCRIPTION = """\
Find recordings that are there more than once in an output folder of 'embed', also encoded anew, trimmed, or at another
level. The embeddings say which files to compare; their waveforms, read from where they were embedded, decide.

exit status: 0 all files were compared, whether or not there are copies; 1 some could not be read any more;
2 nothing could start or be written"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    add = add_command(subparsers, "duplicates", "find copies of one recording", run, _DESCRIPTION).add_argument
    add("folder", metavar="FOLDER", help="output folder of 'embed'")
    add("--output", "-o", metavar="CSV", help="also write a table of the groups")
    add("--similarity", type=float, default=0.6, metavar="X", help="of vectors, to compare files (default: 0.6)")
    add("--correlation", type=float, default=0.6, metavar="X", help="of waveforms, to be copies (default: 0.6)")
    add("--quiet", "-q", action="store_true", help="print nothing")


def run(args: argparse.Namespace) -> int:
    from hear_byols._util.tables import one_line, write_table
    from hear_byols.answers.duplicates import find_duplicates

    least = {"least_similarity": args.similarity, "least_correlation": args.correlation}
    found = find_duplicates(args.folder, **least, progress=not args.quiet)
    rows = []
    for number, group in enumerate(found.groups, 1):
        for copy in group:
            at = copy.alignment
            placed = [round(at.offset_s, 4), round(at.gain_db, 2), round(at.correlation, 3)]
            rows.append([number, copy.name, round(copy.seconds, 3), *placed])
    if args.output:
        write_table(Path(args.output), ["group", "path", "seconds", "offset_s", "gain_db", "correlation"], rows)
    status = print_failures(found.failures, "not compared")
    if not args.quiet:
        for number, name, seconds, offset, gain, correlation in rows:
            place = f"from {offset:+.2f} s, {gain:+.1f} dB, correlation {correlation:.2f}"
            print(f"group {number}: {one_line(str(name))}  {seconds:.2f} s, {place}")
    tell(args, f"{len(rows)} of {found.n_files} files are copies, in {len(found.groups)} groups")
    return status
