"""Command: ``python -m hear_byols.training --data audio.tar --output run --encoder cvt --hybrid --steps 10000``."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from hear_byols.errors import HearByolsError, InputError
from hear_byols.frontend import LogMel
from hear_byols.training.batches import FixedCrops, RandomCrops, crop_samples
from hear_byols.training.data import AudioPool, load_pool
from hear_byols.training.export import FEATURE_LICENCE, describe_data, describe_run, export_encoder, read_manifest
from hear_byols.training.pretrain import PretrainConfig, Pretrainer, load_state, run
from hear_byols.training.targets import FeatureStore, Standardizer, extract_features

logger = logging.getLogger("hear_byols.training")


def build_parser() -> argparse.ArgumentParser:
    """Options: the fields of :class:`PretrainConfig`, and where data and results lie."""
    parser = argparse.ArgumentParser(prog="python -m hear_byols.training", description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, help="tar shards, audio files or folders, 16 kHz")
    parser.add_argument("--output", type=Path, required=True, help="folder for state.pt, log.csv and encoder.pth")
    parser.add_argument("--cache", type=Path, help="folder for decoded audio and features (default: OUTPUT/cache)")
    parser.add_argument("--manifest", type=Path, help="CSV with shard, licence, content, for the provenance")
    parser.add_argument("--crops", type=int, default=20_000, help="fixed crops with features (hybrid)")
    parser.add_argument("--workers", type=int, default=0, help="processes that extract features; 0: this one")
    parser.add_argument(
        "--no-extract", action="store_true", help="train on the features present, while another process adds to them"
    )
    parser.add_argument("--resume", action="store_true", help="continue from OUTPUT/state.pt if it exists")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--name", default="", help="name of the weights, for the provenance")
    parser.add_argument("--description", default="", help="for the provenance")
    parser.add_argument("--licence", default="", help="of the weights, for the provenance")
    parser.add_argument("--normalization", choices=("dataset", "clip"), default="dataset", help="mode of the result")
    for field in dataclasses.fields(PretrainConfig):
        flag = "--" + field.name.replace("_", "-")
        if field.type == "bool":
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            kind = {"int": int, "str": str}.get(field.type, float)
            parser.add_argument(flag, type=kind, default=field.default, help=f"default: {field.default}")
    return parser


def open_crops(args: argparse.Namespace, config: PretrainConfig, pool: AudioPool) -> FixedCrops | RandomCrops:
    """Prepare the source of batches; for the hybrid, extract the features that are missing.

    Raises:
        InputError: ``--no-extract`` without any features.
        MissingDependencyError: opensmile is not installed.
    """
    log_mel = LogMel()
    n_samples = crop_samples(config.crop_frames, log_mel.config.hop_length)
    if not config.hybrid:
        return RandomCrops(pool, n_samples, log_mel)
    folder = args.cache / f"compare-{config.crop_frames}"
    if args.no_extract:
        store = FeatureStore(folder)
        if not store.n_done:
            raise InputError(f"{folder} holds no features yet; leave out --no-extract, or wait for them")
    else:
        store = extract_features(pool, folder, args.crops, n_samples, config.seed, args.workers)
    return FixedCrops(pool, store, n_samples, log_mel, Standardizer.load_or_fit(folder / "standardizer.npz", store))


def pretrain(args: argparse.Namespace) -> None:
    """Run the command with parsed options."""
    if args.threads:
        torch.set_num_threads(args.threads)
    config = PretrainConfig(**{f.name: getattr(args, f.name) for f in dataclasses.fields(PretrainConfig)})
    args.cache = args.cache or args.output / "cache"
    pool = load_pool(args.data, args.cache)
    trainer = Pretrainer(config, open_crops(args, config, pool), args.device)
    state = args.output / "state.pt"
    if args.resume and state.exists():
        load_state(trainer, state)
        logger.info("resumed at step %d", trainer.n_steps)
    data = describe_data(pool, read_manifest(args.manifest) if args.manifest else None)

    def export(trainer: Pretrainer, last: dict[str, float]) -> None:
        provenance = {
            "name": args.name or f"{config.encoder}_{'hybrid' if config.hybrid else 'byols'}",
            "description": args.description,
            "licence": args.licence,
            **({"notice": FEATURE_LICENCE} if config.hybrid else {}),
            "data": data,
            "training": describe_run(trainer, last),
        }
        export_encoder(trainer, args.output / "encoder.pth", provenance, args.normalization)

    run(trainer, args.output, export)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run; errors of the user end in one line and status 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args = build_parser().parse_args(argv)
    try:
        pretrain(args)
    except HearByolsError as error:
        logger.error("error: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
