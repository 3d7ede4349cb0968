"""Exported models under onnxruntime beside torch, in one process: equality, speed, and memory of timestamps.

    python benchmarks/onnx_speed.py [--models random_cvt random_cnn] [--repeats 5]

Prints a row a case: clips, seconds, the largest difference relative to the largest component, seconds of audio per
second of each on one thread, and the ratio of the two. Seconds are processor time, so that other work on the machine
counts little. Repeats alternate between the two, and the median of each counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import hear_byols
from hear_byols._util.memory import peak_memory
from hear_byols.onnx.export import export_onnx, open_session

CASES = (("scene", 1, 1), ("scene", 1, 10), ("scene", 16, 5), ("timestamps", 1, 10))
MODELS = ("random_cvt", "random_cnn", "random_resnetish34", "random_clstm")


def main() -> None:
    """Export each model and run the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | output | clips | seconds | deviation | torch (x real time) | onnxruntime | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.models:
        model = hear_byols.load_model(name)
        for kind in ("scene", "timestamps"):
            with tempfile.TemporaryDirectory() as folder:
                session = _session(model, Path(folder), kind)
            for _, n_clips, seconds in (case for case in CASES if case[0] == kind):
                _case(name, model, session, kind, n_clips, seconds, args.repeats)
    print(f"\npeak memory of the process: {peak_memory() / 1e9:.2f} GB")


def _session(model: torch.nn.Module, folder: Path, kind: str):
    export = export_onnx(model, folder / "model.onnx", timestamps=kind == "timestamps")
    return open_session(export.path, threads=1)


def _case(name: str, model: torch.nn.Module, session, kind: str, n_clips: int, seconds: int, repeats: int) -> None:
    audio = 0.1 * torch.randn(n_clips, seconds * model.sample_rate)
    waveform = audio.numpy()

    def with_torch() -> np.ndarray:
        if kind == "scene":
            return model.scene_embeddings(audio).numpy()
        return model.timestamp_embeddings(audio)[0].numpy()

    def with_onnxruntime() -> np.ndarray:
        return session.run(None, {"waveform": waveform})[0]

    wanted, got = with_torch(), with_onnxruntime()  # and warm both up
    deviation = np.abs(got - wanted).max() / np.abs(wanted).max()
    times = [(_timed(with_torch), _timed(with_onnxruntime)) for _ in range(repeats)]
    speeds = [n_clips * seconds / statistics.median(column) for column in zip(*times, strict=True)]
    row = f"{deviation:.1e} | {speeds[0]:.0f} | {speeds[1]:.0f} | {speeds[1] / speeds[0]:.2f}"
    print(f"| {name} | {kind} | {n_clips} | {seconds} | {row} |", flush=True)


def _timed(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()
