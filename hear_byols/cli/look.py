"""``hear-byols look``: one file in pictures."""

import argparse

from hear_byols.cli.options import add_command, add_device, tell

_DESCRIPTION = """\
Draw one audio file above one time axis: waveform, log-mel spectrogram as the model sees it, how much the model's
timestamp embeddings change, and their self-similarity (cosine)."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "look", "draw one file as a model hears it", run, _DESCRIPTION)
    add = parser.add_argument
    add("model", metavar="MODEL", help="name, file or hf://owner/repo/file")
    add("file", metavar="FILE", help="audio file")
    add("--output", "-o", required=True, metavar="FILE", help="picture: .png, .pdf or .svg")
    add("--frame-ms", type=float, metavar="MS", help="window of embeddings (default: by length)")
    add("--hop-ms", type=float, metavar="MS", help="distance of embeddings (default: by length)")
    add_device(parser, quiet="no summary")


def run(args: argparse.Namespace) -> int:
    from hear_byols.analysis.look import look_at

    view = look_at(args.model, args.file, args.output, frame_ms=args.frame_ms, hop_ms=args.hop_ms, device=args.device)
    windows = f"{len(view.times)} windows of {view.frame_ms:g} ms every {view.hop_ms:g} ms"
    tell(args, f"looked at {view.seconds:.2f} s in {windows}; wrote {args.output}")
    return 0
