"""``hear-byols pretrain``: BYOL-A, BYOL-S and Hybrid BYOL-S on one's own audio."""

import argparse
import dataclasses
import inspect
import math
import re

from hear_byols.cli.options import add_command, tell
from hear_byols.training.config import PretrainConfig
from hear_byols.training.presets import PRESETS, make_runs, parse_settings, read_settings

# What is set by hand now and then; everything else is a matter for presets and files.
OPTIONS = ("encoder", "init", "targets", "alpha", "beta", "feature_crops", "batch_size", "steps")
OPTIONS += ("learning_rate", "precision", "seed")

_DESCRIPTION = """\
Pre-train an encoder on audio without labels (wav, flac, ogg, opus, mp3 ...; any rate; files, folders, tar shards or
lists of files). DIR/encoder.pth is then a model for load_model and for every command here. Killed at any moment and
started again with the same command, the run continues as if it had not been stopped.

exit status: 0 trained, or stopped after --max-minutes; 2 an error, the last good state is kept; 130 interrupted"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    presets = "presets:\n" + "\n".join(f"  {name:20} {p.source}; on {p.data}" for name, p in PRESETS.items())
    parser = add_command(subparsers, "pretrain", "pre-train an encoder", run, _DESCRIPTION, epilog=presets)
    add = parser.add_argument
    add("--data", nargs="+", metavar="PATH", required=True, help="audio files, folders, .tar shards, .txt lists")
    add("--output", "-o", metavar="DIR", required=True, help="folder of the run")
    add("--preset", metavar="NAME", default="", help="settings by name, see below")
    add("--config", metavar="TOML", help="settings that replace the preset's; every run writes its own to DIR/run.toml")
    add("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="single settings, as in run.toml")
    add("--cache", metavar="DIR", help="decoded audio and features, for several runs (DIR/cache)")
    add("--max-minutes", type=float, default=math.inf, metavar="N", help="of this sitting")
    add("--tensorboard", action="store_true", help="write TensorBoard events beside the CSV log")
    add("--quiet", "-q", action="store_true", help="no progress bars, no log")
    hardware = parser.add_argument_group("hardware")
    hardware.add_argument("--device", default="auto", metavar="auto|cpu|cuda", help="default: auto")
    hardware.add_argument("--devices", type=int, default=1, metavar="N", help="processes here, one a GPU (default: 1)")
    hardware.add_argument("--nodes", type=int, default=1, metavar="N", help="machines (default: 1)")
    hardware.add_argument("--workers", type=int, default=1, metavar="N", help="that decode and extract (default: 1)")
    hardware.add_argument("--threads", type=int, metavar="N", help="CPU threads of torch")
    _add_settings(parser.add_argument_group("settings, which replace those of preset and config"))


def _add_settings(group: argparse._ArgumentGroup) -> None:
    """An option for each of :data:`OPTIONS`; the docstring of :class:`PretrainConfig` is the help."""
    described = dict(re.findall(r"^ {4}(\w+): (.+)$", inspect.getdoc(PretrainConfig) or "", re.MULTILINE))
    for field in (field for field in dataclasses.fields(PretrainConfig) if field.name in OPTIONS):
        flag = "--" + field.name.replace("_", "-")
        text = f"{described.get(field.name, field.name)} (default: {field.default})"
        group.add_argument(flag, type=type(field.default), metavar=type(field.default).__name__.upper(), help=text)


def run(args: argparse.Namespace) -> int:
    settings = read_settings(args.config) if args.config else {}
    for setting in args.set:
        settings |= parse_settings(setting, "--set")
    settings |= {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    runs = make_runs(args.preset, args.output, **settings)
    import torch

    from hear_byols._util.memory import keep_freed_memory
    from hear_byols.training.run import Hardware, pretrain

    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    hardware = Hardware(args.device, args.devices, args.nodes, args.workers)
    options = {name: getattr(args, name) for name in ("cache", "max_minutes", "tensorboard")}
    checkpoint = pretrain(runs, args.data, hardware=hardware, progress=not args.quiet, **options)
    tell(args, f"{checkpoint} is ready for load_model")
    return 0
