"""``hear-byols publish``: upload a checkpoint with a model card to the Hugging Face Hub."""

import argparse
import tempfile
from pathlib import Path

from hear_byols.cli.options import add_command
from hear_byols.errors import OptionError

_DESCRIPTION = """\
Check a checkpoint, then upload it as model.safetensors, with a model card and the files by which transformers loads it,
in one commit. The repository and the branch are made if needed. Prints what load_model takes to get exactly this file.
Needs a token (`hf auth login`, or HF_TOKEN). With --output, the checkpoint with its credits is written to a file
instead."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    text = "upload a checkpoint with a model card to the Hugging Face Hub"
    parser = add_command(subparsers, "publish", text, run, _DESCRIPTION)
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="a .pth or .safetensors file, or a shipped name")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--repo", metavar="OWNER/NAME", help="repository on the Hub")
    target.add_argument("--output", "-o", metavar="FILE", help="write FILE (.pth or .safetensors), upload nothing")
    credits = parser.add_argument_group("credits, which replace those in the checkpoint")
    credits.add_argument("--licence", default="", help="of the weights, such as CC-BY-4.0")
    credits.add_argument("--name", default="", help="of the model")
    credits.add_argument("--description", default="", help="one sentence")
    credits.add_argument("--manifest", metavar="CSV", help="columns shard, licence, author, link, version, content")
    add("--private", action="store_true", help="only you and those you invite can read it")
    add("--revision", default="main", metavar="BRANCH", help="branch (default: main)")
    add("--message", default="", help="of the commit (default: Add FILE)")
    add("--dry-run", action="store_true", help="check, and print the card; upload nothing")


def run(args: argparse.Namespace) -> int:
    from hear_byols.publish import add_provenance, publish

    given = {name: getattr(args, name) for name in ("licence", "name", "description", "manifest")}
    if args.output:
        print(add_provenance(_file(args.checkpoint), args.output, **given))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = args.checkpoint
        if any(given.values()):
            file = _file(checkpoint)
            checkpoint = add_provenance(file, Path(folder) / file.name, **given)
        options = {name: getattr(args, name) for name in ("private", "revision", "message", "dry_run")}
        publication = publish(checkpoint, args.repo, **options)
    if args.dry_run:
        print(publication.card)
        for name, size in publication.files.items():
            print(f"would upload {name} ({size} bytes) to {args.repo}")
    else:
        print(publication.spec)
    return 0


def _file(checkpoint: str) -> Path:
    from hear_byols.weights.locate import locate

    path = locate(checkpoint).path
    if path is None:
        raise OptionError(f"{checkpoint!r} has no file that could be credited")
    return path
