"""``hear-byols clusters``: what kinds of sound a folder of embeddings holds."""

from __future__ import annotations

import argparse
from pathlib import Path

_DESCRIPTION = """\
Group the clips (or windows) of an output folder of 'embed' by how they sound, and name the most typical of each."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("clusters", help="group clips that sound alike", description=_DESCRIPTION)
    parser.add_argument("folder", metavar="FOLDER", help="output folder of 'embed'")
    parser.add_argument("--number", "-n", type=int, metavar="N", help="of clusters (default: root of half the clips)")
    parser.add_argument("--output", "-o", metavar="CSV", help="also write a table path,time_s,label,rank,distance")
    parser.add_argument("--typical", type=int, default=3, metavar="N", help="clips that are printed (default: 3)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first centres (default: 0)")
    parser.add_argument("--quiet", "-q", action="store_true", help="print nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Cluster, print, and write."""
    from hear_byols._util.tables import one_line, write_table
    from hear_byols.answers.clusters import find_clusters

    found = find_clusters(args.folder, args.number, args.seed)
    rows = []
    for cluster in range(int(found.clusters.max()) + 1):
        members = found.typical(cluster)
        label = f"cluster {cluster + 1}"
        times = [None if found.times_ms is None else round(float(found.times_ms[i]) / 1000, 4) for i in members]
        for rank, (place, time) in enumerate(zip(members, times, strict=True), 1):
            rows.append([found.names[place], time, label, rank, round(float(found.distances[place]), 5)])
        if not args.quiet:
            print(f"{label}: {len(members)}")
            for place, time in list(zip(members, times, strict=True))[: args.typical]:
                print(f"    {one_line(found.names[place])}" + ("" if time is None else f"  {time:.2f} s"))
    if args.output:
        write_table(Path(args.output), ["path", "time_s", "label", "rank", "distance"], rows)
    return 0
