"""Throughput of ``hear-byols embed --engine ray`` with 1, 2, ... workers on this machine.

    python benchmarks/ray_scaling.py [--workers 1 2] [--model cvt_hybrid] [--files 200] [--seconds 20]

Makes a corpus of noise, embeds it anew for each number of workers, and prints a row each. Rates are those of the
second half of the corpus, when all workers have long loaded their model: seconds of audio per second of
wall time, the gain over the first row, and seconds of audio per second of the workers' processor time. On a machine
that does nothing else, the first is the last times the workers, as long as there are cores; with other work only the
last says much. Then the whole run with everything.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import soundfile

from hear_byols.extraction.ray import embed_with_ray

RATE = 16000


def main() -> None:
    """Run with each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--model", default="cvt_hybrid")
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--timestamps", action="store_true")
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        corpus = _write_corpus(Path(folder, "audio"), args.files, args.seconds)
        print("| workers | audio (s) | wall (x real time) | gain | processor (x real time) | whole run (s) |")
        print("|---|---|---|---|---|---|")
        first = None
        for i, n in enumerate(args.workers):
            wall, processor, elapsed = _run(corpus, Path(folder, f"out{i}"), args, n)
            first = first or wall
            row = f"{wall:.0f} | {wall / first:.2f} | {processor:.0f} | {elapsed:.0f}"
            print(f"| {n} | {args.files * args.seconds:g} | {row} |", flush=True)


def _write_corpus(folder: Path, n_files: int, seconds: float) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n_files):
        soundfile.write(folder / f"{i:05}.wav", 0.1 * rng.standard_normal(round(seconds * RATE)), RATE)
    return folder


@dataclass(frozen=True)
class _Moment:
    """Seconds of wall time, of the workers' processor time, and of recorded audio."""

    wall: float
    processor: float
    audio: float


def _run(corpus: Path, output: Path, args: argparse.Namespace, workers: int) -> tuple[float, float, float]:
    """Seconds of audio per second of wall and of processor time, and seconds of the whole run."""
    moments: list[_Moment] = []
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(output / "index.jsonl", moments, over), daemon=True)
    watcher.start()
    start = time.perf_counter()
    embed_with_ray([corpus], output, model=args.model, timestamps=args.timestamps, device="cpu", workers=workers)
    elapsed = time.perf_counter() - start
    over.set()
    watcher.join()
    last = moments[-1]
    first = next(moment for moment in moments if moment.audio >= last.audio / 2)
    audio = last.audio - first.audio
    return audio / (last.wall - first.wall), audio / (last.processor - first.processor), elapsed


def _watch(index: Path, moments: list[_Moment], over: threading.Event) -> None:
    """Note a moment whenever a record was added and the workers still live."""
    while not over.is_set():
        audio = _recorded_seconds(index)
        if audio and (not moments or audio > moments[-1].audio):
            processor = _processor_seconds()
            if processor > (moments[-1].processor if moments else 0):
                moments.append(_Moment(time.perf_counter(), processor, audio))
        time.sleep(0.05)


def _processor_seconds() -> float:
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "(Worker)" in "".join(process.cmdline()):
                total += sum(process.cpu_times()[:2])
    return total


def _recorded_seconds(index: Path) -> float:
    if not index.exists():
        return 0.0
    lines = index.read_text().split("\n")[:-1]
    sources = [source for line in lines for entry in json.loads(line) for source in entry["sources"]]
    return sum(source["n_samples"] for source in sources) / RATE


if __name__ == "__main__":
    main()
