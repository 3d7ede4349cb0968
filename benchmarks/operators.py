"""Where the time of timestamps goes, by kind of work, and what fraction of the machine's matrix rate each reaches.

    python benchmarks/operators.py [--models CvT] [--seconds 2] [--turns 5]
    python benchmarks/operators.py --device cuda --precision bfloat16 --models CNN CvT --clips 64 --seconds 8

Prints CSV. One thread; processor time of every operation, which other work of the machine does not lengthen; the share
of each kind is the median of the turns. Operations are multiplications and additions of matrix products, convolutions
and attention; the machine's rate is the best of square matrix products. "windows could share": token embedding,
queries, keys and values of a CvT's first stage, the only work of its encoder that attention does not make a window's
own. With ``--device cuda``: scenes, timestamps and training steps of 512 crops, and shares of the wall time, in which
the device also waits for the host.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from speed import MODELS, matrix_rate
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from torch.utils.module_tracker import ModuleTracker
from training import make_trainer, seconds_of

import hear_byols
from hear_byols.config import PRECISIONS
from hear_byols.training.config import PretrainConfig

KINDS = (
    ("attention", ("scaled_dot_product", "_attention")),
    ("matrix products", ("mm", "linear")),
    ("GELU, ReLU", ("gelu", "relu")),
    ("copies and layout", ("copy", "clone", "cat", "index", "_to_", "pad", "fill", "stack", "zero")),
    ("spectrograms", ("fft", "log", "view_as_real")),
)
COLUMNS = ("share of operations", "of the matrix rate")
OTHER = "norms, sums, pooling"
SHAREABLE = ("stages.0.embed", "stages.0.attention.query", "stages.0.attention.key_value")


class Profile(TorchDispatchMode):
    """Processor time and operations by kind of work, of all that is called within."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self.operations: dict[str, int] = defaultdict(int)
        self._modules = ModuleTracker()

    def __enter__(self) -> Profile:
        self._modules.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._modules.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        start = time.thread_time()
        result = func(*args, **(kwargs or {}))
        elapsed = time.thread_time() - start
        packet = func._overloadpacket
        count = flop_registry[packet](*args, **(kwargs or {}), out_val=result) if packet in flop_registry else 0
        kinds = [kind_of(packet.__name__, args)]
        if any(name.endswith(SHAREABLE) for name in self._modules.parents):
            kinds.append("windows could share")
        for kind in kinds:
            self.seconds[kind] += elapsed
            self.operations[kind] += count
        return result


def kind_of(name: str, args: tuple) -> str:
    """Of an operation."""
    if "conv" in name:
        return "depthwise convolutions" if "depthwise" in name or (args and args[-1] > 1) else "convolutions"
    return next((kind for kind, parts in KINDS if any(part in name for part in parts)), OTHER)


def measure(embed: Callable[[], object], turns: int) -> list[Profile]:
    """Profiles of several turns, after one that warms up."""
    embed()
    found = []
    for _ in range(turns):
        with Profile() as profile:
            embed()
        found.append(profile)
    return found


def rows(model: str, found: list[Profile], rate: float) -> list[dict[str, str]]:
    """A row a kind of work, the longest first; then the sum, and what windows could share."""
    kinds = {kind for profile in found for kind in profile.seconds} - {"windows could share"}

    def shares(kind: str, of: str) -> float:
        parts = [getattr(profile, of) for profile in found]
        return statistics.median(part[kind] / sum(part[name] for name in kinds) for part in parts)

    def row(kind: str, names: set[str]) -> dict[str, str]:
        seconds = statistics.median(sum(profile.seconds[name] for name in names) for profile in found)
        operations = sum(found[0].operations[name] for name in names)
        share = 1.0 if names == kinds else shares(kind, "seconds")
        part = 1.0 if names == kinds else shares(kind, "operations")
        reached = f"{operations / seconds / rate:.0%}" if operations else ""
        return {
            "model": model,
            "work": kind,
            "share of time": f"{share:.1%}",
            "share of operations": f"{part:.1%}" if operations else "",
            "of the matrix rate": reached,
        }

    ordered = sorted(kinds, key=lambda kind: -shares(kind, "seconds"))
    last = ["windows could share"] if "windows could share" in found[0].seconds else []
    return [*(row(kind, {kind}) for kind in ordered), row("all", kinds), *(row(kind, {kind}) for kind in last)]


def device_rows(name: str, args: argparse.Namespace) -> list[dict[str, str]]:
    """A row a kind of work of a GPU, the longest first, for scenes, timestamps and training steps."""
    model = hear_byols.load_model(MODELS[name], normalization="clip", precision=args.precision).to(args.device)
    audio = (torch.rand(args.clips, args.seconds * model.sample_rate) - 0.5).to(args.device)
    encoder = MODELS[name].removeprefix("random_")
    config = PretrainConfig(encoder=encoder, batch_size=512, precision=args.precision, targets="none", head_hidden=1024)
    trainer = make_trainer(config, args.device)
    calls = {
        "scenes": lambda: model.scene_embeddings(audio),
        "timestamps": lambda: model.timestamp_embeddings(audio),
        "training step": trainer.step,
    }
    rate = matrix_rate(argparse.Namespace(threads=0, device=args.device, precision=args.precision))
    return [row for kind, call in calls.items() for row in _device_rows(f"{name}, {kind}", call, rate, args)]


def _device_rows(title: str, call: Callable[[], object], rate: float, args: argparse.Namespace) -> list[dict[str, str]]:
    with FlopCounterMode(display=False) as counter:
        call()
    call()
    wall = seconds_of(call, args.turns)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        seconds_of(call, 1)
    seconds: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        if event.key.startswith("aten::"):
            spent = event.self_device_time_total if args.device == "cuda" else event.self_cpu_time_total
            seconds[kind_of(event.key, ())] += spent / 1e6
    seconds["waiting for the host"] = max(0.0, wall - sum(seconds.values()))
    table = [{"work": kind, "share of time": f"{spent / wall:.1%}"} for kind, spent in seconds.items() if spent]
    table.sort(key=lambda row: -float(row["share of time"][:-1]))
    table.append({"work": f"all, {1000 * wall:.1f} ms", "share of time": "100.0%"})
    table[-1]["of the matrix rate"] = f"{counter.get_total_flops() / wall / rate:.0%}"
    return [{"model": title, **row} for row in table]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own = [name for name, model in MODELS.items() if model.startswith("random_")]
    parser.add_argument("--models", nargs="+", choices=own, default=("CvT",))
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS, help="with another device than cpu")
    parser.add_argument("--clips", type=int, default=1, help="that are embedded together, likewise")
    args = parser.parse_args()
    table = cpu_rows(args) if args.device == "cpu" else [row for m in args.models for row in device_rows(m, args)]
    writer = csv.DictWriter(sys.stdout, ["model", "work", "share of time", *COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)


def cpu_rows(args: argparse.Namespace) -> list[dict[str, str]]:
    """A row a kind of work of one thread, of timestamps."""
    torch.set_num_threads(1)
    machine = argparse.Namespace(threads=1, device="cpu", precision="float32")
    table = []
    for name in args.models:
        model = hear_byols.load_model(MODELS[name], normalization="clip")
        audio = torch.rand(1, args.seconds * model.sample_rate) - 0.5
        rate = matrix_rate(machine)
        found = measure(lambda: model.timestamp_embeddings(audio), args.turns)  # noqa: B023 - called at once
        table += rows(name, found, max(rate, matrix_rate(machine)))
    return table


if __name__ == "__main__":
    main()
