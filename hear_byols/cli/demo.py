"""``hear-byols demo``: makes its own example audio, embeds it and compares the embeddings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hear_byols.weights.registry import DEFAULT_MODEL


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="embed example audio",
        description="Make six short sounds, embed them as 'embed' does, and print how similar their embeddings are.",
    )
    parser.add_argument("--output", "-o", default="hear-byols-demo", metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--model", "-m", default="", help=f"name, file or hf://owner/repo/file (default: {DEFAULT_MODEL})"
    )
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N|mps", help="default: auto")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write audio, embed it, print a table."""
    from hear_byols.cli.demo_sounds import write_examples
    from hear_byols.extraction.extract import embed_to_folder
    from hear_byols.extraction.index import writing

    output = Path(args.output)
    with writing(output):
        audio = write_examples(output / "audio")
    report = embed_to_folder(
        audio, output, model=args.model, device=args.device, overwrite=True, progress=not args.quiet
    )
    for failure in report.failures:
        print(f"hear-byols: not embedded: {failure.name}: {failure.reason}", file=sys.stderr)
    if report.failures:
        return 1
    vectors = [np.load(output / "embeddings" / f"{path.name}.npz")["embedding"] for path in audio]
    print(f"cosine similarity of the embeddings, {vectors[0].size} values each:\n")
    _print_similarities([path.name for path in audio], vectors)
    print(f"\nsounds: {output / 'audio'}\nembeddings: {output / 'embeddings'}, described in {output / 'manifest.json'}")
    return 0


def _print_similarities(names: Sequence[str], vectors: Sequence[np.ndarray]) -> None:
    units = np.stack([vector / np.linalg.norm(vector) for vector in vectors])
    width = max(map(len, names))
    print(" " * (width + 4) + "".join(f"{i + 1:>7}" for i in range(len(names))))
    for i, (name, row) in enumerate(zip(names, units @ units.T, strict=True)):
        print(f"{i + 1:>2}  {name:<{width}}" + "".join(f"{value:>7.3f}" for value in row))
