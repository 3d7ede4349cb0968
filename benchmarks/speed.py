"""Speed and memory of every encoder beside the original's way and beside the machine's limit.

    python benchmarks/speed.py [--quick] [--hour] [--device cuda --precision bfloat16] --output speed

Writes ``speed.md`` (tables), ``speed.csv`` (every number) and ``speed.png`` (the picture). Each configuration runs in
two processes of its own, the package and the reference (``reference.py``), which take turns, so that whatever else the
machine does hits both. The best of several turns counts. What would take longer than ``--patience`` seconds a turn, by
what the length before it took, is not run, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import speed_report
import torch
from speed_limit import SAMPLE_RATE, matrix_rate, operations_of_call

from hear_byols.config import PRECISIONS
from hear_byols.encoders import EMBEDDING_SIZES
from hear_byols.framing import Framing

WORKER = Path(__file__).with_name("speed_worker.py")
ENCODERS = tuple(EMBEDDING_SIZES)
LENGTHS = (1, 5, 30, 60, 600)
HOUR = 3600
MOST_AUDIO = 64 * 600  # seconds in one call: samples and results have to fit into memory
MOST_SCORES = 4e9  # bytes of the reference's largest attention matrix; it is not run beyond


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
        names = ("device", "precision", "threads", "compile")
        settings = {**asdict(case), "side": side, **{name: getattr(args, name) for name in names}}
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> float:
        """The next answer of the process."""
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a worker died; its error stands above")
        return json.loads(line)

    def turn(self) -> float:
        """Seconds of one call."""
        print("run", file=self._process.stdin, flush=True)
        return self.answer()

    def end(self) -> float:
        """End the process; its peak memory in bytes."""
        print("end", file=self._process.stdin, flush=True)
        peak = self.answer()
        self._process.communicate()
        return peak


def measure(case: Case, sides: list[str], args: argparse.Namespace) -> dict[str, float]:
    """Let the sides take turns: best seconds and peak bytes of each, and the number of turns that counted."""
    workers = {side: Worker(case, side, args) for side in sides}
    for worker in workers.values():
        worker.answer()
    first = {side: worker.turn() for side, worker in workers.items()}
    n_turns = min(args.turns, int(args.seconds_a_case / sum(first.values())))
    turns = [{side: worker.turn() for side, worker in workers.items()} for _ in range(n_turns)]
    turns = turns or [first]  # a short first turn warms up only; a long one counts
    result: dict[str, float] = {"turns": len(turns)}
    for side, worker in workers.items():
        result[f"{side}_s"] = min(turn[side] for turn in turns)
        result[f"{side}_peak_bytes"] = worker.end()
    return result


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """All configurations; of one encoder and call, the shorter first."""
    for encoder in args.encoders:
        for call in args.calls:
            hour = [HOUR] if args.hour and call == "timestamp" else []
            for clips in args.clips:
                for seconds in [*args.lengths, *hour]:
                    if clips == 1 or clips * seconds <= MOST_AUDIO:
                        yield Case(encoder, call, seconds, clips)


def forecast(case: Case, side: str, rows: list[dict]) -> float:
    """Seconds that a turn will take, from the longest of as many clips so far, else of any; 0 if there is none."""
    key = (case.encoder, case.call)
    known = [row for row in rows if (row["encoder"], row["call"]) == key and f"{side}_s" in row]
    known = [row for row in known if row["clips"] == case.clips] or known
    if not known:
        return 0.0
    last = max(known, key=lambda row: row["seconds"] * row["clips"])
    growth = case.seconds * case.clips / (last["seconds"] * last["clips"])
    quadratic = case.encoder == "cvt" and case.call == "scene" and case.seconds > 60
    return last[f"{side}_s"] * growth * (case.seconds / last["seconds"] if quadratic else 1)


def allowed_sides(case: Case, rows: list[dict], args: argparse.Namespace) -> list[str]:
    """Which sides run: not those that would take too long or, for the reference, more memory than there is."""
    patience = {"ours": 10 * args.patience if case.seconds == HOUR else args.patience, "reference": args.patience}
    if args.alone:
        del patience["reference"]
    sides = [side for side, most in patience.items() if forecast(case, side, rows) <= most]
    tokens = 16 * 25 * case.seconds  # of the CvT's first stage; a quarter of them are keys
    if case.encoder == "cvt" and case.call == "scene" and tokens**2 / 4 * 4 > MOST_SCORES and "reference" in sides:
        sides.remove("reference")
    return sides


def run(args: argparse.Namespace) -> list[dict]:
    """Measure everything; one row a case."""
    framing = Framing(1000, 50, SAMPLE_RATE)
    rows: list[dict] = []
    rate = 0.0
    for case in cases(args):
        rate = max(rate, matrix_rate(args.device, args.precision))
        row = {**asdict(case), "flop": operations_of_call(**asdict(case), framing=framing)}
        sides = allowed_sides(case, rows, args)
        for side in {"ours", "reference"} - set(sides):
            row[f"{side}_forecast_s"] = forecast(case, side, rows)
        if sides:
            row.update(measure(case, sides, args))
        rows.append(row)
        print(speed_report.progress(row), file=sys.stderr, flush=True)
    for row in rows:  # against the best rate of the whole run: the quietest moment says what the machine can do
        row["limit_s"] = row["flop"] / rate
        row["matrix_rate"] = rate
    return rows


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("speed"), help="stem of the three files")
    parser.add_argument("--quick", action="store_true", help="CvT and CNN, short lengths: under three minutes")
    parser.add_argument("--hour", action="store_true", help="also one hour of timestamps")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--compile", action="store_true", help="the package's encoders through torch.compile")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=ENCODERS)
    parser.add_argument("--calls", nargs="+", choices=("scene", "timestamp"), default=("scene", "timestamp"))
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="seconds, ascending")
    parser.add_argument("--clips", nargs="+", type=int, default=(1, 64), help="clips in a call")
    parser.add_argument("--turns", type=int, default=5, help="most turns of a case")
    parser.add_argument("--seconds-a-case", type=float, default=10, help="turns end when they have taken so long")
    parser.add_argument("--alone", action="store_true", help="the package without the reference")
    parser.add_argument("--patience", type=float, default=45, help="longest turn in seconds")
    args = parser.parse_args(arguments)
    if args.quick:
        args.encoders, args.lengths, args.clips, args.seconds_a_case = ("cvt", "cnn"), (5, 60), (1,), 6
    return args


def main() -> None:
    """Measure and write the report."""
    args = parse()
    torch.set_num_threads(args.threads)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    rows = run(args)
    speed_report.write(rows, args.output, args)
    print(args.output.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
