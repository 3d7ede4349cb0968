"""How many crops a second pre-training takes in, end to end, and where the time goes.

    python benchmarks/training.py                                        # CPU, every encoder
    python benchmarks/training.py --device cuda --precision bfloat16 --batch-size 2048 --compile --encoders cvt

A step is: draw and cut crops, log-mel, two views, forward of both networks, losses, backward, Adam, moving average. The
audio is synthetic and the hybrid's features are random numbers in the place of extracted ones, which lie in memory in
the same way: neither changes the cost. openSMILE is timed apart, since it never runs in the step. Prints Markdown.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from hear_byols.errors import MissingDependencyError
from hear_byols.training.batches import CropSampler, TeacherFeatures
from hear_byols.training.config import ENCODERS, PretrainConfig
from hear_byols.training.pool import AudioPool
from hear_byols.training.pretrain import Pretrainer
from hear_byols.training.run import Hardware, make_fabric
from hear_byols.training.targets import feature_positions

N_FEATURES = 6373


def make_pool(minutes: float = 10) -> AudioPool:
    """Noise in clips of 10 s."""
    rng = np.random.default_rng(0)
    return AudioPool.from_clips([rng.integers(-9999, 9999, 160000, np.int16) for _ in range(round(minutes * 6))])


def make_trainer(config: PretrainConfig, device: str) -> Pretrainer:
    """A run on random crops and, for the hybrid, random features."""
    pool = make_pool()
    fabric = make_fabric(config, Hardware(device))
    targets = None
    if config.hybrid:
        positions = feature_positions(pool, config.feature_crops, config.crop_samples, 0)
        features = np.random.default_rng(0).standard_normal((config.feature_crops, N_FEATURES), np.float32)
        targets = TeacherFeatures(positions, features, fabric.device)
    crops = CropSampler(pool, config.crop_samples, fabric.device, targets)
    return Pretrainer(config, crops, fabric, total_steps=10**6)


def seconds_of(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Shortest of several timings, so that other processes count least."""
    times = []
    for _ in range(repeats):
        _wait(device)
        begun = time.perf_counter()
        call()
        _wait(device)
        times.append(time.perf_counter() - begun)
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(config: PretrainConfig, device: str, repeats: int) -> dict[str, float]:
    """Crops a second, and the shares of a step in percent."""
    trainer = make_trainer(config, device)
    for _ in range(2 if device == "cpu" else 20):
        trainer.step()
    step = seconds_of(trainer.step, trainer.device, repeats)
    generator = torch.Generator(trainer.device).manual_seed(0)

    def draw():
        return trainer.crops.draw(config.batch_size, generator)

    log_mels = draw().log_mels
    data = seconds_of(draw, trainer.device, repeats)
    views = seconds_of(lambda: trainer.views(log_mels, generator), trainer.device, repeats)
    return {
        "crops/s": config.batch_size / step,
        "ms a step": 1000 * step,
        "cutting and log-mel, %": 100 * data / step,
        "views, %": 100 * views / step,
    }


def opensmile_milliseconds() -> float | None:
    """Time of one crop of 0.95 s on one core; None where opensmile is not installed."""
    from hear_byols.training.extractors import OpenSmileExtractor

    try:
        extractor = OpenSmileExtractor()
    except MissingDependencyError:
        return None
    crop = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 15200)).astype(np.float32)
    return 1000 * seconds_of(lambda: extractor(crop), torch.device("cpu"), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=ENCODERS)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--head-hidden", type=int, default=4096)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, {where}, {args.precision}, batch {args.batch_size}, heads {args.head_hidden}\n")
    header = None
    for encoder in args.encoders:
        for targets in ("none", "opensmile"):
            config = PretrainConfig(
                encoder=encoder,
                targets=targets,
                feature_crops=256,
                batch_size=args.batch_size,
                head_hidden=args.head_hidden,
                precision=args.precision,
                compile=args.compile,
            )
            row = measure(config, args.device, args.repeats)
            if header is None:
                header = ["encoder", "loss", *row]
                print(f"| {' | '.join(header)} |\n|{'--|' * len(header)}")
            kind = "hybrid" if config.hybrid else "self-supervised"
            print(f"| {encoder} | {kind} | {' | '.join(f'{value:.3g}' for value in row.values())} |", flush=True)
    milliseconds = opensmile_milliseconds()
    if milliseconds is not None:
        print(f"\nopenSMILE features, extracted before the run: {milliseconds:.0f} ms a crop on one core")


if __name__ == "__main__":
    main()
