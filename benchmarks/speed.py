"""Speed and memory side by side: the package, the original's way on the same weights, YAMNet and openSMILE.

    python benchmarks/speed.py [--lengths 2 8] [--threads 1] [--models CNN CvT]
    python benchmarks/speed.py --device cuda --clips 64 --models CNN CvT --lengths 8 --ways ours original
    python benchmarks/speed.py --models CvT --calls timestamp --lengths 2 --ways ours compiled bfloat16 original
    python benchmarks/speed.py --models CNN --lengths 3600 --turns 1 --ways ours

Prints a row a model, call and length of a clip as CSV: seconds of audio a second, those of the original's way
(``reference.py``) and the ratio, the share of the machine's rate of matrix products, how far compiled and bfloat16
vectors are off (of the largest component), peak memory, and the power of the length that the time grows with. Every
side is a process of its own; they take turns, so that other work of the machine hits all, and the best call
counts, in processor time where it is one thread. Three minutes on a core. YAMNet needs ``hear-byols teachers add
yamnet``, openSMILE the extra ``opensmile``; what is not there is left out.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import reference
import torch
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

import hear_byols
from hear_byols._util.memory import peak_memory
from hear_byols.config import PRECISIONS
from hear_byols.encoders.linear import linear
from hear_byols.errors import HearByolsError

MODELS = {
    "CNN": "random_cnn",
    "CvT": "random_cvt",
    "ResNetish-34": "random_resnetish34",
    "CLSTM": "random_clstm",
    "YAMNet": "yamnet",
    "openSMILE": "opensmile",
}
Case = tuple[str, int]  # call, seconds
TURN_S = 0.3  # that a turn lasts at least, the fastest of its calls counts


@register_flop_formula(torch.ops.mkldnn._linear_pointwise)
def linear_operations(x: tuple[int, ...], weight: tuple[int, ...], *args: object, **kwargs: object) -> int:
    """Multiplications and additions of a linear map by oneDNN, of shapes."""
    return 2 * math.prod(x) * weight[0]


class Side:
    """A process that embeds with a model in one way when asked."""

    def __init__(self, model: str, way: str, args: argparse.Namespace) -> None:
        settings = {"model": MODELS[model], "way": way}
        settings |= {name: getattr(args, name) for name in ("device", "precision", "threads", "clips")}
        command = [sys.executable, __file__, "--worker", json.dumps(settings)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.model, self.way, self.clips = model, way, args.clips
        self.best: dict[Case, dict[str, Any]] = {}

    def answer(self) -> Any:
        """What it says next, first of all that it is ready; waits for it."""
        assert self._process.stdout
        return json.loads(self._process.stdout.readline() or '"died"')

    def run(self, case: Case) -> None:
        """One turn; the best counts."""
        print(json.dumps(case), file=self._process.stdin, flush=True)
        found = self.answer()
        self.best[case] = min(self.best.get(case, found), found, key=lambda turn: turn["seconds"])

    def growth(self, call: str) -> str:
        """The power of the length that the time of a call grows with, from the shortest to the longest clip."""
        times = sorted((seconds, found["seconds"]) for (kind, seconds), found in self.best.items() if kind == call)
        (short, a), (long, b) = times[0], times[-1]
        return f"{math.log(b / a) / math.log(long / short):.2f}" if long > short else ""


def work(settings: dict[str, Any]) -> None:
    """Be a side: answer each case with its seconds, operations (on the first time) and the peak memory so far."""
    torch.set_num_threads(settings["threads"])
    own = settings["model"].startswith("random_")
    precision = "bfloat16" if settings["way"] == "bfloat16" else settings["precision"]
    options = {"normalization": "clip", "precision": precision} if own else {}
    try:
        model = hear_byols.load_model(settings["model"], **options).to(settings["device"])
    except HearByolsError as error:
        sys.exit(f"{settings['model']}: {error}")
    if settings["way"] == "original":
        model.encoder.to(memory_format=torch.contiguous_format)  # filters as the original's lie
    print(json.dumps("ready"), flush=True)
    clock = time.process_time if (settings["threads"], settings["device"]) == (1, "cpu") else time.perf_counter
    once: dict[Case, dict[str, Any]] = {}
    for line in sys.stdin:
        call, seconds = case = tuple(json.loads(line))
        audio = (torch.rand(settings["clips"], seconds * model.sample_rate) - 0.5).to(settings["device"])
        name = f"{call}_embeddings"
        embed = getattr(model, name)
        if settings["way"] == "original":
            embed = partial(getattr(reference, name), model=model)
        if case not in once:  # which also warms up
            with FlopCounterMode(display=False) as counter:
                embed(audio)
            once[case] = {"flops": counter.get_total_flops(), "deviation": ""}
            if settings["way"] == "compiled":
                model.encoder.forward = torch.compile(model.encoder.forward)
            if settings["way"] in ("compiled", "bfloat16"):
                wanted, got = getattr(reference, name)(audio, model), embed(audio)
                got = got[0] if isinstance(got, tuple) else got
                once[case]["deviation"] = f"{float((got - wanted).abs().max() / wanted.abs().max()):.1e}"
        elapsed = timed(partial(embed, audio), clock)
        elapsed = min([elapsed, *(timed(partial(embed, audio), clock) for _ in range(int(TURN_S / elapsed)))])
        peak = torch.cuda.max_memory_allocated() if audio.is_cuda else peak_memory()
        print(json.dumps({"seconds": elapsed, "peak": peak, **once[case]}), flush=True)


def timed(call: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Processor time of a call, or by ``time.perf_counter`` how long a user waits for it and for what a GPU does."""
    start = clock()
    call()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return clock() - start


def matrix_rate(args: argparse.Namespace) -> float:
    """Best measured rate of square matrix products, in floating-point operations per second."""
    clock = time.process_time if args.threads == 1 and args.device == "cpu" else time.perf_counter
    size = 8192 if args.device == "cuda" else 1536
    a, b = (torch.rand(size, size, device=args.device, dtype=getattr(torch, args.precision)) for _ in range(2))
    with torch.no_grad():
        ways = partial(torch.mm, a, b), partial(linear, a, b)
        return 2 * size**3 / min(timed(way, clock) for way in ways for _ in range(5))


def rows(sides: list[Side], cases: list[Case], rate: float) -> list[dict[str, str]]:
    """A row a model and case."""
    found = []
    for side in (side for side in sides if side.way != "original"):
        other = next((s for s in sides if s.model == side.model and s.way == "original"), None)
        for case in cases:
            call, seconds = case
            own = MODELS[side.model].startswith("random_")
            best, theirs = side.best[case], other and other.best[case]
            audio = seconds * side.clips
            row = {
                "model": side.model if side.way == "ours" else f"{side.model}, {side.way}",
                "call": call,
                "clip (s)": str(seconds),
                "audio x real time": f"{audio / best['seconds']:.1f}",
                "original's way": f"{audio / theirs['seconds']:.1f}" if theirs else "",
                "ratio": f"{theirs['seconds'] / best['seconds']:.2f}" if theirs else "",
                "share of limit": f"{best['flops'] / rate / best['seconds']:.0%}" if own else "",
                "deviation": best["deviation"],
                "peak GB": f"{best['peak'] / 1e9:.2f}",
                "original's peak GB": f"{theirs['peak'] / 1e9:.2f}" if theirs else "",
                "growth": side.growth(call),
                "original's growth": other.growth(call) if other else "",
            }
            found.append(row)
    return found


def print_csv(table: list[dict[str, Any]]) -> None:
    """To standard output, which ``benchmarks/results/`` is filled from."""
    writer = csv.DictWriter(sys.stdout, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=("CNN", "CvT", "YAMNet", "openSMILE"))
    parser.add_argument("--calls", nargs="+", choices=("scene", "timestamp"), default=("scene", "timestamp"))
    parser.add_argument("--lengths", nargs="+", type=int, default=(2, 8), help="of a clip in seconds")
    parser.add_argument("--clips", type=int, default=1, help="that are embedded together")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS, help="of ours")
    ways = ("ours", "compiled", "bfloat16", "original")
    parser.add_argument("--ways", nargs="+", choices=ways, default=("ours", "original"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(json.loads(args.worker))
    torch.set_num_threads(args.threads)
    own = [model for model in args.models if MODELS[model].startswith("random_")]
    sides = [Side(model, way, args) for way in args.ways for model in (args.models if way == "ours" else own)]
    sides = [side for side in sides if side.answer() == "ready"]
    cases = [(call, seconds) for call in args.calls for seconds in sorted(args.lengths)]
    rate = 0.0
    for case in cases:
        rate = max(rate, matrix_rate(args))  # the quietest moment says what the machine can do
        for _ in range(args.turns):
            for side in sides:
                side.run(case)
    print_csv(rows(sides, cases, rate))
    return print(f"matrix products: {rate / 1e9:.0f} GFLOP/s", file=sys.stderr)


if __name__ == "__main__":
    main()
