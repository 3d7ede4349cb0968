"""``hear-byols map``: embeddings of many files on a plane, coloured by label."""

import argparse

from hear_byols.cli.options import add_command, add_device, print_failures, tell

_DESCRIPTION = """\
Embed a folder of audio and draw it as a map in two dimensions, coloured by label: a picture, or one HTML file to
explore in any browser, offline, where a click plays the clip from where it lies. Labels are those of a table (CSV) with
the columns path and label, of a HEAR task folder (also if --audio is one), or else the names of the sub-folders. An
output folder of 'embed' is not embedded again; of one with --timestamps every window is a point.

exit status: 0 all files are on the map; 1 some could not be embedded; 2 nothing could start or be written"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "map", "draw a map of embeddings", run, _DESCRIPTION)
    add = parser.add_argument
    add("model", nargs="?", default="", metavar="MODEL", help="name, file or hf://owner/repo/file")
    add("--audio", "-a", required=True, metavar="FOLDER", help="of audio, a HEAR task, or an output folder of 'embed'")
    add("--labels", "-l", metavar="PATH", help="CSV file or HEAR task folder")
    add("--clusters", type=int, metavar="N", help="colour by so many clusters instead of labels")
    add("--output", "-o", required=True, metavar="FILE", help=".html, .png, .pdf or .svg")
    add("--method", default="pca", choices=("pca", "umap"), help="default: pca")
    add("--title", default="", help="default: model and folder")
    add("--seed", type=int, default=0, metavar="N", help="of umap (default: 0)")
    add_device(parser, quiet="no progress bar and no summary")


def run(args: argparse.Namespace) -> int:
    from hear_byols.answers.mapping import map_folder

    options = {name: getattr(args, name) for name in ("labels", "clusters", "method", "title", "seed", "device")}
    report = map_folder(args.model, args.audio, args.output, progress=not args.quiet, **options)
    status = print_failures(report.failures, "not embedded")
    without = f", {report.n_unlabelled} of them without a label" if report.n_unlabelled else ""
    tell(args, f"mapped {report.n_points} points{without}; wrote {args.output}")
    return status
