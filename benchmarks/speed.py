"""Speed and memory of every encoder beside the original's way and beside the machine's limit.

    python benchmarks/speed.py [--quick] [--hour] [--device cuda --precision bfloat16] --output speed

Writes ``speed.csv``. Each configuration runs in two processes of its own, the package and the reference
(``reference.py``), which take turns, so that other work of the machine hits both. The best of several turns counts.
What would take longer than ``--patience`` seconds a turn, by what the length before it took, is not run. The limit:
operations of the encoder (matrix products, convolutions, attention) over the machine's rate of matrix products.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import reference
import torch
from torch.utils.flop_counter import FlopCounterMode

import hear_byols
from hear_byols._util.memory import peak_memory
from hear_byols.config import PRECISIONS
from hear_byols.encoders import EMBEDDING_SIZES, build_encoder
from hear_byols.framing import Framing

NAMES = {"cnn": "CNN", "resnetish34": "ResNetish-34", "clstm": "CLSTM", "cvt": "CvT"}
HOP, SAMPLE_RATE, HOUR = 160, 16000, 3600
MAX_AUDIO = 64 * 600  # seconds in one call: samples and results have to fit into memory
MAX_SCORES = 4e9  # bytes of the reference's largest attention matrix; it is not run beyond
_LSTM_FRAMES = 321  # an LSTM is counted step by step, so long clips go by the slope between two short ones


@dataclass(frozen=True)
class Case:
    """One call: ``clips`` clips of ``seconds`` seconds."""

    encoder: str
    call: str
    seconds: int
    clips: int


class Worker:
    """A process that embeds when asked; ended with :meth:`end`."""

    def __init__(self, case: Case, side: str, args: argparse.Namespace) -> None:
        settings = {**asdict(case), "side": side}
        settings |= {name: getattr(args, name) for name in ("device", "precision", "threads", "compile")}
        command = [sys.executable, __file__, "--worker", json.dumps(settings)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self) -> Any:
        """The next answer of the process."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a worker died; its error stands above")
        return json.loads(line)

    def ask(self, word: str) -> float:
        """Seconds of one call for "run", peak memory in bytes for "end"."""
        print(word, file=self._process.stdin, flush=True)
        return self.answer()


def work(settings: dict[str, Any]) -> None:
    """Be a worker: answer ``run`` with seconds and ``end`` with the peak memory, each as one line of JSON."""
    torch.set_num_threads(settings["threads"])
    device = torch.device(settings["device"])
    name = f"random_{settings['encoder']}"
    model = hear_byols.load_model(name, normalization="clip", precision=settings["precision"]).to(device)
    if settings["compile"] and settings["side"] == "ours":
        model.encoder.compile()
    audio = torch.rand(settings["clips"], settings["seconds"] * model.sample_rate).sub_(0.5).to(device)
    call = f"{settings['call']}_embeddings"
    print(json.dumps("ready"), flush=True)
    while sys.stdin.readline().strip() == "run":
        start = time.perf_counter()
        vectors = getattr(model, call)(audio) if settings["side"] == "ours" else getattr(reference, call)(audio, model)
        wait(device)
        print(json.dumps(time.perf_counter() - start), flush=True)
        del vectors
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
    print(json.dumps(peak), flush=True)


def wait(device: torch.device) -> None:
    """Until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(case: Case, sides: list[str], args: argparse.Namespace) -> dict[str, float]:
    """Let the sides take turns: best seconds and peak bytes of each."""
    workers = {side: Worker(case, side, args) for side in sides}
    for worker in workers.values():
        worker.answer()
    first = {side: worker.ask("run") for side, worker in workers.items()}
    n_turns = min(args.turns, int(args.seconds_a_case / sum(first.values())))
    turns = [{side: worker.ask("run") for side, worker in workers.items()} for _ in range(n_turns)]
    turns = turns or [first]  # a short first turn warms up only; a long one counts
    result: dict[str, float] = {}
    for side, worker in workers.items():
        result[f"{side}_s"] = min(turn[side] for turn in turns)
        result[f"{side}_peak"] = worker.ask("end")
    return result


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """All configurations; of one encoder and call, the shorter first."""
    for encoder in args.encoders:
        for call in args.calls:
            lengths = [*args.lengths, *([HOUR] if args.hour and call == "timestamp" else [])]
            for clips in args.clips:
                yield from (Case(encoder, call, s, clips) for s in lengths if clips == 1 or clips * s <= MAX_AUDIO)


def forecast(case: Case, side: str, known: dict[Case, dict[str, float]]) -> float:
    """Seconds that a turn will take, by the longest of its kind so far; 0 if there is none."""
    same = {k: row for k, row in known.items() if (k.encoder, k.call) == (case.encoder, case.call)}
    same = {k: row[f"{side}_s"] for k, row in same.items() if f"{side}_s" in row}
    if not same:
        return 0.0
    last = max(same, key=lambda k: k.seconds * k.clips)
    quadratic = case.encoder == "cvt" and case.call == "scene" and case.seconds > 60
    growth = case.seconds * case.clips / (last.seconds * last.clips)
    return same[last] * growth * (case.seconds / last.seconds if quadratic else 1)


def allowed_sides(case: Case, known: dict[Case, dict[str, float]], args: argparse.Namespace) -> list[str]:
    """Which sides run: not those that would take too long or, for the reference, more memory than there is."""
    patience = {"ours": (10 if case.seconds == HOUR else 1) * args.patience, "reference": args.patience}
    keys = 16 * 25 * case.seconds / 4  # of the CvT's first stage, which has four times as many queries
    if args.alone or (case.encoder == "cvt" and case.call == "scene" and 4 * keys**2 * 4 > MAX_SCORES):
        del patience["reference"]
    return [side for side, longest in patience.items() if forecast(case, side, known) <= longest]


@cache
def operations(encoder: str, n_frames: int) -> int:
    """Floating-point operations of one encoder call on one spectrogram, counted on shapes alone."""
    if encoder == "clstm" and n_frames > _LSTM_FRAMES:
        slope = (operations(encoder, _LSTM_FRAMES) - operations(encoder, 161)) / 160
        return round(operations(encoder, _LSTM_FRAMES) + slope * (n_frames - _LSTM_FRAMES))
    with torch.device("meta"):
        module, spectrogram = build_encoder(encoder).eval(), torch.empty(1, 1, 64, n_frames)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(spectrogram)
    return counter.get_total_flops()


def operations_of(case: Case) -> int:
    """Operations of one call."""
    framing = Framing(1000, 50, SAMPLE_RATE)
    if case.call == "scene":
        return case.clips * operations(case.encoder, 1 + case.seconds * SAMPLE_RATE // HOP)
    n_windows = framing.n_windows(case.seconds * SAMPLE_RATE)
    return case.clips * n_windows * operations(case.encoder, 1 + framing.frame_samples // HOP)


def matrix_rate(device: str, precision: str, repeats: int = 5) -> float:
    """Best measured rate of square matrix products, in floating-point operations per second."""
    place, best = torch.device(device), 0.0
    for size in (8192,) if place.type == "cuda" else (1024, 2048):
        a, b = (torch.rand(size, size, device=place, dtype=getattr(torch, precision)) for _ in range(2))
        for _ in range(repeats):
            wait(place)
            start = time.perf_counter()
            torch.mm(a, b)
            wait(place)
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def floored(value: float) -> str:
    """One decimal, rounded down: a speed is never said to be higher than it was."""
    return f"{math.floor(10 * value) / 10:.1f}"


def table(known: dict[Case, dict[str, float]], rate: float) -> list[dict[str, str]]:
    """A row a case, as docs/results.md shows them."""
    rows = []
    for case, found in known.items():
        audio = case.seconds * case.clips
        ours, original = found.get("ours_s"), found.get("reference_s")
        row = {"encoder": NAMES[case.encoder], "call": case.call, "clips": f"{case.clips} x {case.seconds} s"}
        row["audio x real time"] = floored(audio / ours) if ours else "not run"
        row["reference"] = floored(audio / original) if original else "not run"
        row["ratio"] = f"{original / ours:.2f}" if ours and original else ""
        row["share of limit"] = f"{operations_of(case) / rate / ours:.0%}" if ours else ""
        for side, name in (("ours", "peak GB"), ("reference", "reference peak GB")):
            row[name] = f"{found[f'{side}_peak'] / 1e9:.2f}" if f"{side}_peak" in found else ""
        rows.append(row)
    return rows


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("speed"), help="stem of the CSV file")
    parser.add_argument("--quick", action="store_true", help="CvT and CNN, short lengths: under three minutes")
    parser.add_argument("--hour", action="store_true", help="also one hour of timestamps")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--compile", action="store_true", help="the package's encoders through torch.compile")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--encoders", nargs="+", choices=tuple(EMBEDDING_SIZES), default=tuple(EMBEDDING_SIZES))
    parser.add_argument("--calls", nargs="+", choices=("scene", "timestamp"), default=("scene", "timestamp"))
    parser.add_argument("--lengths", nargs="+", type=int, default=(1, 5, 30, 60, 600), help="seconds, ascending")
    parser.add_argument("--clips", nargs="+", type=int, default=(1, 64), help="clips in a call")
    parser.add_argument("--turns", type=int, default=5, help="most turns of a case")
    parser.add_argument("--seconds-a-case", type=float, default=10, help="turns end when they have taken so long")
    parser.add_argument("--alone", action="store_true", help="the package without the reference")
    parser.add_argument("--patience", type=float, default=45, help="longest turn in seconds")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.encoders, args.lengths, args.clips, args.seconds_a_case = ("cvt", "cnn"), (5, 60), (1,), 6
    return args


def main() -> None:
    """Measure and write the table."""
    args = parse()
    if args.worker:
        return work(json.loads(args.worker))
    torch.set_num_threads(args.threads)
    known: dict[Case, dict[str, float]] = {}
    rate = 0.0  # the best of the whole run: the quietest moment says what the machine can do
    for case in cases(args):
        rate = max(rate, matrix_rate(args.device, args.precision))
        sides = allowed_sides(case, known, args)
        known[case] = measure(case, sides, args) if sides else {}
        print(case, known[case], file=sys.stderr, flush=True)
    rows = table(known, rate)
    with open(args.output.with_suffix(".csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"matrix products: {rate / 1e9:.0f} GFLOP/s", file=sys.stderr)
    return None


if __name__ == "__main__":
    main()
