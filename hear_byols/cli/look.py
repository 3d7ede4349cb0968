"""``hear-byols look``: one file in pictures."""

from __future__ import annotations

import argparse
import sys

from hear_byols.cli.options import add_device

_DESCRIPTION = """\
Draw one audio file above one time axis: waveform, log-mel spectrogram as the model sees it, how much the model's
timestamp embeddings change, and their self-similarity (cosine)."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("look", help="draw one file as a model hears it", description=_DESCRIPTION)
    parser.add_argument("model", metavar="MODEL", help="name, file or hf://owner/repo/file")
    parser.add_argument("file", metavar="FILE", help="audio file")
    parser.add_argument("--output", "-o", required=True, metavar="FILE", help="picture: .png, .pdf or .svg")
    parser.add_argument("--frame-ms", type=float, metavar="MS", help="window of embeddings (default: by length)")
    parser.add_argument("--hop-ms", type=float, metavar="MS", help="distance of embeddings (default: by length)")
    add_device(parser)
    parser.add_argument("--quiet", "-q", action="store_true", help="no summary")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw, and say what was drawn."""
    from hear_byols.analysis.look import look_at

    view = look_at(args.model, args.file, args.output, frame_ms=args.frame_ms, hop_ms=args.hop_ms, device=args.device)
    if not args.quiet:
        windows = f"{len(view.times)} windows of {view.frame_ms:g} ms every {view.hop_ms:g} ms"
        print(f"looked at {view.seconds:.2f} s in {windows}; wrote {args.output}", file=sys.stderr)
    return 0
