"""``hear-byols publish``: upload a checkpoint with a model card to the Hugging Face Hub."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from hear_byols.errors import OptionError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "publish",
        help="upload a checkpoint with a model card to the Hugging Face Hub",
        description="Check a checkpoint, then upload it as model.safetensors, with a model card and the files by "
        "which transformers loads it, in one commit. The repository and the branch are made if needed. Prints what "
        "load_model takes to get exactly this file. Needs a token (`hf auth login`, or HF_TOKEN). With --output, the "
        "checkpoint with its credits is written to a file instead.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a .pth or .safetensors file, or a shipped name")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--repo", metavar="OWNER/NAME", help="repository on the Hub")
    target.add_argument("--output", "-o", metavar="FILE", help="write FILE (.pth or .safetensors), upload nothing")
    credits = parser.add_argument_group("credits, which replace those in the checkpoint")
    credits.add_argument("--licence", default="", help="of the weights, such as CC-BY-4.0")
    credits.add_argument("--name", default="", help="of the model")
    credits.add_argument("--description", default="", help="one sentence")
    credits.add_argument("--manifest", metavar="CSV", help="columns shard, licence, author, link, version, content")
    parser.add_argument("--private", action="store_true", help="only you and those you invite can read it")
    parser.add_argument("--revision", default="main", metavar="BRANCH", help="branch (default: main)")
    parser.add_argument("--message", default="", help="of the commit (default: Add FILE)")
    parser.add_argument("--dry-run", action="store_true", help="check, and print the card; upload nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Publish, and print the pinned name of the weights."""
    from hear_byols.publish import publish
    from hear_byols.weights.provenance import add_provenance

    given = {name: getattr(args, name) for name in ("licence", "name", "description", "manifest")}
    if args.output:
        print(add_provenance(_file(args.checkpoint), args.output, **given))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = args.checkpoint
        if any(given.values()):
            file = _file(checkpoint)
            checkpoint = add_provenance(file, Path(folder) / file.name, **given)
        publication = publish(
            checkpoint,
            args.repo,
            private=args.private,
            revision=args.revision,
            message=args.message,
            dry_run=args.dry_run,
        )
    if args.dry_run:
        print(publication.card)
        for name, size in publication.files.items():
            print(f"would upload {name} ({size} bytes) to {args.repo}")
    else:
        print(publication.spec)
    return 0


def _file(checkpoint: str) -> Path:
    """The file behind a name."""
    from hear_byols.weights.locate import locate

    path = locate(checkpoint).path
    if path is None:
        raise OptionError(f"{checkpoint!r} has no file that could be credited")
    return path
