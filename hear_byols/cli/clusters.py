"""``hear-byols clusters``: what kinds of sound a folder of embeddings holds."""

import argparse
from pathlib import Path

from hear_byols.cli.options import add_command

_DESCRIPTION = """\
Group the clips (or windows) of an output folder of 'embed' by how they sound, and name the most typical of each."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    add = add_command(subparsers, "clusters", "group clips that sound alike", run, _DESCRIPTION).add_argument
    add("folder", metavar="FOLDER", help="output folder of 'embed'")
    add("--number", "-n", type=int, metavar="N", help="of clusters (default: root of half the clips)")
    add("--output", "-o", metavar="CSV", help="also write a table path,time_s,label,rank,distance")
    add("--typical", type=int, default=3, metavar="N", help="clips that are printed (default: 3)")
    add("--seed", type=int, default=0, metavar="N", help="of the first centres (default: 0)")
    add("--quiet", "-q", action="store_true", help="print nothing")


def run(args: argparse.Namespace) -> int:
    from hear_byols._util.tables import one_line, write_table
    from hear_byols.answers.clusters import find_clusters

    found = find_clusters(args.folder, args.number, args.seed)
    rows = []
    for cluster in range(int(found.clusters.max()) + 1):
        label, members = f"cluster {cluster + 1}", []
        for rank, i in enumerate(found.typical(cluster), 1):
            time = None if found.times_ms is None else round(float(found.times_ms[i]) / 1000, 4)
            members.append([found.names[i], time, label, rank, round(float(found.distances[i]), 5)])
        rows += members
        if not args.quiet:
            print(f"{label}: {len(members)}")
            for name, time, *_ in members[: args.typical]:
                print(f"    {one_line(name)}" + ("" if time is None else f"  {time:.2f} s"))
    if args.output:
        write_table(Path(args.output), ["path", "time_s", "label", "rank", "distance"], rows)
    return 0
