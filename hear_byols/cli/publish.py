"""``hear-byols publish``: upload a checkpoint with a model card to the Hugging Face Hub."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "publish",
        help="upload a checkpoint with a model card to the Hugging Face Hub",
        description="Check a checkpoint, then upload it, its twin in the other file format and a model card in one "
        "commit. The repository and the branch are made if needed; its README.md is replaced. Prints what load_model "
        "takes to get exactly this file. Needs a token (`hf auth login`, or HF_TOKEN).",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a .pth or .safetensors file, or a shipped name")
    parser.add_argument("--repo", required=True, metavar="OWNER/NAME", help="repository on the Hub")
    parser.add_argument("--private", action="store_true", help="only you and those you invite can read it")
    parser.add_argument("--revision", default="main", metavar="BRANCH", help="branch (default: main)")
    parser.add_argument("--message", default="", help="of the commit (default: Add FILE)")
    parser.add_argument("--dry-run", action="store_true", help="check, and print the card; upload nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Publish, and print the pinned name of the weights."""
    from hear_byols.publish import publish

    publication = publish(
        args.checkpoint,
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
