"""``hear-byols embed``: audio files to embedding files."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hear_byols.cli.options import MODEL_HELP, add_command, add_device
from hear_byols.config import LAYERS, NORMALIZATION_MODES, PRECISIONS
from hear_byols.errors import OptionError

if TYPE_CHECKING:
    from hear_byols.extraction.extract import Report
    from hear_byols.extraction.groups import Failure

_OPTIONS = ("model", "frame_ms", "hop_ms", "normalization", "layers", "precision", "batch_size")
_OPTIONS += ("timestamps", "device", "relative_to", "overwrite")
_DESCRIPTION = """\
Embed audio files (wav, flac, ogg, opus, mp3 ..., with hear_byols[formats] also m4a, aac, webm, wma ...; any rate and
number of channels) into files below DIR/embeddings. Killed at any moment and started again with the same command, it
continues where it was. Files that cannot be read whole are listed at the end and do not stop the rest.

exit status: 0 all embedded; 1 some files could not be; 2 nothing could start or be written; 130 interrupted"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "embed", "embed audio files", run, _DESCRIPTION)
    add = parser.add_argument
    text = "audio file, folder to search, or - for a list on standard input (one path a line, or ended by NUL)"
    add("paths", nargs="+", metavar="PATH", help=text)
    add("--output", "-o", required=True, metavar="DIR", help="folder for the embeddings")
    add("--format", "-f", metavar="npz|npy|parquet|csv", help="default: npz; with --engine ray parquet, and only that")
    add("--timestamps", "-t", action="store_true", help="embed windows instead of whole files")
    add("--model", "-m", default="", help=MODEL_HELP)
    add("--frame-ms", type=float, default=1000, metavar="MS", help="window length (default: 1000)")
    add("--hop-ms", type=float, default=50, metavar="MS", help="distance of windows (default: 50)")
    add("--normalization", choices=NORMALIZATION_MODES, help="default: the checkpoint's own")
    add("--layers", choices=LAYERS, help="default: the checkpoint's own")
    add("--precision", choices=PRECISIONS, default="float32", help="default: float32")
    add_device(parser)
    add("--batch-size", type=int, metavar="N", help="most clips or windows in one call of the encoder")
    add("--relative-to", metavar="DIR", help="name outputs relative to this folder instead of the one searched")
    add("--overwrite", action="store_true", help="remove the embeddings of an earlier run first")
    add("--engine", choices=("local", "ray"), default="local", help="ray: workers (docs/deploying.md)")
    add("--workers", type=int, metavar="N", help="of --engine ray (default: one a GPU, or a core)")
    add("--address", help="of a running Ray cluster (default: one of this machine's own)")
    add("--quiet", "-q", action="store_true", help="no progress bar and no summary")


def run(args: argparse.Namespace) -> int:
    options = {name: getattr(args, name) for name in _OPTIONS}
    if args.engine == "ray":
        from hear_byols.extraction.ray import embed_with_ray as embed

        if args.format not in (None, "parquet"):
            raise OptionError(f"--engine ray writes parquet, got --format {args.format}")
        options |= {"address": args.address, "workers": args.workers}
    else:
        from hear_byols.extraction.extract import embed_to_folder as embed

        if args.workers is not None or args.address is not None:
            raise OptionError("--workers and --address belong to --engine ray")
        options["format"] = args.format or "npz"
    report = embed(args.paths, args.output, progress=not args.quiet, **options)
    _print("not embedded", report.failures)
    if not args.quiet:
        _print("warning", report.warnings)
        _sum_up(report, args.output)
    return 1 if report.failures else 0


def _print(what: str, notes: Sequence[Failure]) -> None:
    """Each in a line of plain characters; a name may hold bytes that are no text, or line breaks."""
    for note in notes:
        text = " ".join(f"hear-byols: {what}: {note.name}: {note.reason}".splitlines())
        print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)


def _sum_up(report: Report, output: str) -> None:
    from hear_byols.audio import FFMPEG_EXTENSIONS
    from hear_byols.containers.ffmpeg import is_available

    present = f", {report.n_present} were there already" if report.n_present else ""
    failed = f", {len(report.failures)} could not be" if report.failures else ""
    kinds = Counter(Path(failure.name).suffix.lower() for failure in report.failures)
    foreign = [f"{kinds[extension]} {extension}" for extension in sorted(FFMPEG_EXTENSIONS & kinds.keys())]
    if foreign and not is_available():
        failed += f", of them for want of hear_byols[formats]: {', '.join(foreign)}"
    print(f"embedded {report.n_embedded} files into {output}{present}{failed}", file=sys.stderr)
