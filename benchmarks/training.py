"""How many crops a second pre-training takes in, end to end, and where the time goes.

    python benchmarks/training.py                                        # CPU, every encoder
    python benchmarks/training.py --device cuda --precision bfloat16 --batch-size 2048 --compile --encoders cvt

A step is: draw and cut crops, log-mel, two views, forward of both networks, losses, backward, Adam, moving average. The
audio is synthetic and the hybrid's features are random numbers in the place of extracted ones, which lie in memory in
the same way: neither changes the cost. Prints CSV.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from speed import print_csv, timed

from hear_byols.training.config import ENCODERS, PretrainConfig
from hear_byols.training.pool import AudioPool
from hear_byols.training.pretrain import CropSampler, Pretrainer, TeacherFeatures
from hear_byols.training.run import Hardware, make_fabric
from hear_byols.training.targets import feature_positions

N_FEATURES = 6373


def make_trainer(config: PretrainConfig, device: str) -> Pretrainer:
    """A run on random crops of ten minutes of noise and, for the hybrid, random features."""
    rng = np.random.default_rng(0)
    pool = AudioPool.from_clips([rng.integers(-9999, 9999, 160000, np.int16) for _ in range(60)])
    fabric = make_fabric(config, Hardware(device))
    targets = None
    if config.hybrid:
        positions = feature_positions(pool, config.feature_crops, config.crop_samples, 0)
        features = rng.standard_normal((config.feature_crops, N_FEATURES), np.float32)
        targets = TeacherFeatures(positions, features, fabric.device)
    crops = CropSampler(pool, config.crop_samples, fabric.device, targets)
    return Pretrainer(config, crops, fabric, total_steps=10**6)


def seconds_of(call: Callable[[], object], repeats: int) -> float:
    """Shortest of several timings, so that other processes count least."""
    return min(timed(call, time.perf_counter) for _ in range(repeats))


def measure(config: PretrainConfig, device: str) -> dict[str, str]:
    """Crops a second, and the shares of a step in percent."""
    trainer = make_trainer(config, device)
    for _ in range(2 if device == "cpu" else 20):
        trainer.step()
    step = seconds_of(trainer.step, 3)
    generator = torch.Generator(trainer.device).manual_seed(0)

    def draw():
        return trainer.crops.draw(config.batch_size, generator)

    log_mels, _ = draw()
    data = seconds_of(draw, 3)
    views = seconds_of(lambda: trainer.views(log_mels, generator), 3)
    return {
        "encoder": config.encoder,
        "loss": "hybrid" if config.hybrid else "self-supervised",
        "crops/s": f"{config.batch_size / step:.3g}",
        "ms a step": f"{1000 * step:.3g}",
        "cutting and log-mel, %": f"{100 * data / step:.3g}",
        "views, %": f"{100 * views / step:.3g}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=ENCODERS)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    options = {"batch_size": args.batch_size, "precision": args.precision, "compile": args.compile}
    table = [
        measure(PretrainConfig(encoder=encoder, targets=targets, feature_crops=256, **options), args.device)
        for encoder in args.encoders
        for targets in ("none", "opensmile")
    ]
    print_csv(table)


if __name__ == "__main__":
    main()
