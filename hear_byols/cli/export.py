"""``hear-byols export``: a model as an ONNX file that takes waveforms."""

import argparse

from hear_byols.cli.options import add_command
from hear_byols.config import INVARIANT_MODES, LAYERS

_DESCRIPTION = """\
Write a model with its front end inside as one ONNX file: waveforms in, embeddings out, for any number and length of
clips. It runs with onnxruntime and numpy alone (docs/deploying.md)."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    add = add_command(subparsers, "export", "write a model as an ONNX file", run, _DESCRIPTION).add_argument
    add("model", metavar="MODEL", help="name, file or hf://owner/repo/file")
    add("--output", "-o", required=True, metavar="FILE", help="where to write, e.g. model.onnx")
    add("--timestamps", "-t", action="store_true", help="embed windows instead of whole clips")
    add("--frame-ms", type=float, default=1000, metavar="MS", help="window length (default: 1000)")
    add("--hop-ms", type=float, default=50, metavar="MS", help="distance of windows (default: 50)")
    add("--normalization", choices=INVARIANT_MODES, help="default: the checkpoint's own")
    add("--layers", choices=LAYERS, help="default: the checkpoint's own")
    add("--int8", action="store_true", help="8-bit weights: half the size or less, faster, less exact")
    add("--check", action="store_true", help="run it beside the model, and refuse a difference of 1e-4 (--int8: 0.05)")


def run(args: argparse.Namespace) -> int:
    from hear_byols.hear import load_model
    from hear_byols.onnx.export import export_onnx

    options = {name: getattr(args, name) for name in ("frame_ms", "hop_ms", "normalization", "layers")}
    model = load_model(args.model, **options)
    export = export_onnx(model, args.output, timestamps=args.timestamps, check=args.check, int8=args.int8)
    checked = "" if export.deviation is None else f", within {export.deviation:.1e} of the model"
    print(f"{export.path}: {export.size / 1e6:.1f} MB{checked}")
    return 0
