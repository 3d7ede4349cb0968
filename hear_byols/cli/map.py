"""``hear-byols map``: embeddings of many files on a plane, coloured by label."""

from __future__ import annotations

import argparse
import sys

from hear_byols.cli.options import add_command, add_device, print_failures

_DESCRIPTION = """\
Embed a folder of audio and draw it as a map in two dimensions, coloured by label: a picture, or one HTML file to
explore in any browser, offline, where a click plays the clip from where it lies. Labels are those of a table (CSV) with
the columns path and label, of a HEAR task folder (also if --audio is one), or else the names of the sub-folders. An
output folder of 'embed' is not embedded again; of one with --timestamps every window is a point.

exit status: 0 all files are on the map; 1 some could not be embedded; 2 nothing could start or be written"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = add_command(subparsers, "map", "draw a map of embeddings", _DESCRIPTION)
    parser.add_argument("model", nargs="?", default="", metavar="MODEL", help="name, file or hf://owner/repo/file")
    parser.add_argument(
        "--audio", "-a", required=True, metavar="FOLDER", help="of audio, a HEAR task, or an output folder of 'embed'"
    )
    parser.add_argument("--labels", "-l", metavar="PATH", help="CSV file or HEAR task folder")
    parser.add_argument("--clusters", type=int, metavar="N", help="colour by so many clusters instead of labels")
    parser.add_argument("--output", "-o", required=True, metavar="FILE", help=".html, .png, .pdf or .svg")
    parser.add_argument("--method", default="pca", choices=("pca", "umap"), help="default: pca")
    parser.add_argument("--title", default="", help="default: model and folder")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of umap (default: 0)")
    add_device(parser)
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress bar and no summary")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Embed, project, draw, and say what was done."""
    from hear_byols.answers.mapping import map_folder

    report = map_folder(
        args.model,
        args.audio,
        args.output,
        labels=args.labels,
        clusters=args.clusters,
        method=args.method,
        title=args.title,
        seed=args.seed,
        device=args.device,
        progress=not args.quiet,
    )
    print_failures(report.failures, "not embedded")
    if not args.quiet:
        without = f", {report.n_unlabelled} of them without a label" if report.n_unlabelled else ""
        print(f"mapped {report.n_points} points{without}; wrote {args.output}", file=sys.stderr)
    return 1 if report.failures else 0
