"""Times and figures of what people do with embeddings: classify, detect, search, tidy, map. Writes CSV tables.

    python benchmarks/answers.py times --tasks tasks --output answers.csv       # every command of a journey
    python benchmarks/answers.py office --tasks tasks --output detect.csv       # detector and linear probe
    python benchmarks/answers.py million --output million.csv                   # a folder of a million windows
    python benchmarks/answers.py neighbours --output neighbours.csv             # an index of these, 15 minutes

``--tasks`` is the folder that holds ``esc10-v1-full``. A command is a process of its own; its peak memory is its own.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from hear_byols._util.files import file_digest
from hear_byols._util.memory import peak_memory
from hear_byols.answers.compact import compact, nearest

ROWS = 1_000_000


def command(*words: object) -> tuple[float, float, float]:
    """Run ``hear-byols``: seconds by the clock, of the processor, and peak memory in GB."""
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "hear_byols", *map(str, words)], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, words
    return time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def clips(task: Path, home: Path, most: int) -> None:
    """Link the clips of a scene task as label/clip."""
    found = [
        (split, *each) for split in sorted(task.glob("fold*.json")) for each in json.loads(split.read_text()).items()
    ]
    for split, name, labels in found[:most]:
        (home / labels[0]).mkdir(parents=True, exist_ok=True)
        (home / labels[0] / name).symlink_to((task / "16000" / split.stem / name).resolve())


def times(tasks: Path, home: Path) -> list[dict]:
    """Every command of a journey on 300 clips of 5 s, and an hour for the detector."""
    task = tasks / "esc10-v1-full"
    clips(task, home / "in", 300)
    events = [soundfile.read(path)[0] for path in sorted((home / "in").rglob("*.opus"))[::10]]
    for i in range(6):  # recordings of events, for a detector
        parts, lines, at = [], [], 0.0
        for k in range(5):
            sound = events[5 * i + k]
            parts += [np.zeros(16000), sound]
            lines.append(f"{at + 1}\t{at + 1 + len(sound) / 16000}\tclass {k % 2}\n")
            at += 1 + len(sound) / 16000
        (home / "events").mkdir(exist_ok=True)
        soundfile.write(home / "events" / f"{i}.wav", np.concatenate(parts), 16000)
        (home / "events" / f"{i}.txt").write_text("".join(lines))
    with soundfile.SoundFile(home / "hour.flac", "w", 16000, 1) as file:  # a child's peak is at least its parent's
        for i in range(720):
            file.write(events[i % len(events)])
    steps = {
        "classify train, 300 clips of 5 s": ("classify", "train", home / "in", "-o", home / "a.hbc"),
        "classify predict, the same": ("classify", "predict", home / "a.hbc", home / "in", "-o", home / "a.csv"),
        "embed, the same": ("embed", home / "in", "-o", home / "out"),
        "classify train, from these vectors": ("classify", "train", home / "out", "-o", home / "b.hbc"),
        "map, from these vectors": ("map", "--audio", home / "out", "-o", home / "map.html"),
        "search, among these vectors": ("search", home / "out", sorted((home / "in").rglob("*.opus"))[0]),
        "duplicates, among these": ("duplicates", home / "out"),
        "clusters, of these": ("clusters", home / "out"),
        "classify train --events, 2.5 minutes": (
            *("classify", "train", home / "events", "--events", home / "events", "-o", home / "e.hbc"),
            *("--hop-ms", 200),
        ),
        "detect, one hour, a window each 200 ms": ("detect", home / "e.hbc", home / "hour.flac", "-o", home / "found"),
    }
    return measured(steps)


def measured(steps: dict[str, tuple]) -> list[dict]:
    """A row for each command: its processor time and greatest memory."""
    rows = []
    for name, words in steps.items():
        clock, processor, peak = command(*words, "-q")
        rows.append({"what": name, "processor s": f"{processor:.0f}", "peak GB": f"{peak:.2f}"})
        print(rows[-1], f"{clock:.0f} s by the clock", flush=True)
    return rows


def office(tasks: Path, home: Path) -> list[dict]:
    """Onset F of the detector and of ``evaluate``'s linear probe on synthesized office tasks of three seeds."""
    from hear_byols.answers.detector import Detector, LabelledRecording
    from hear_byols.answers.event_scores import score_detector
    from hear_byols.evaluation.tasks import read_task

    rows = []
    for seed in range(3):
        made = home / str(seed)
        options = ("--clips", 24, 8, 16, "--seconds", 10, "--density", 0.5, 1, "--seed", seed)
        command("tasks", "synthesize", "office", "-o", made, "--sources", tasks / "esc10-v1-full", *options)
        scores = made / "scores"
        command("evaluate", "--tasks", made, "--output", scores, "--models", "cnn_hybrid")
        with open(scores / "scores.csv", newline="") as file:
            probe = {row["score"]: float(row["mean"]) for row in csv.DictReader(file)}
        task = read_task(next(made.glob("*/task_metadata.json")).parent)
        parts = [
            [
                LabelledRecording(task.audio_path(clip, 16000), clip.events)
                for split in splits
                for clip in task.clips[split]
            ]
            for splits in (("train", "valid"), ("test",))
        ]
        detector = Detector("cnn_hybrid")
        detector.fit(parts[0])
        own, _ = score_detector(detector, parts[1])
        rows.append(
            {
                "seed": seed,
                "onset F, probe": f"{100 * probe['event_onset_200ms_fms']:.1f}",
                "onset F, detector": f"{100 * own['event_onset_200ms_fms']:.1f}",
                "error rate, probe": f"{probe['segment_1s_er']:.2f}",
                "error rate, detector": f"{own['segment_1s_er']:.2f}",
                "PSDS 1": f"{own['psds1']:.3f}",
            }
        )
        print(rows[-1], flush=True)
    return rows


def fill(out: Path, home: Path) -> None:
    """Make an output folder of ``embed`` that holds a million windows of 250 recordings, every thousandth a copy."""
    (home / "clip").mkdir()
    soundfile.write(home / "clip" / "0.wav", np.zeros(16000), 16000)
    command("embed", home / "clip", "-o", out, "--timestamps", "--hop-ms", 100, "-q")  # for a manifest
    size = json.loads((out / "manifest.json").read_text())["embedding_size"]
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((256, size), np.float32) / np.arange(1, 257, dtype=np.float32)[:, None] ** 0.5
    kinds = rng.standard_normal((2000, 256), np.float32)
    n = ROWS // 250
    with open(out / "index.jsonl", "w") as index:
        for i in range(250):
            latent = kinds[rng.integers(0, 2000, n)] + 0.5 * rng.standard_normal((n, 256), np.float32)
            latent[1::1000] = latent[::1000]
            path = f"embeddings/{i}.wav.npz"
            np.savez(out / path, embeddings=latent @ directions, timestamps_ms=100 * np.arange(n, dtype=np.float32))
            source = {"name": f"{i}.wav", "path": f"{i}.wav", "bytes": 0, "mtime_ns": 0, "n_samples": 1600 * n}
            digest = {path: file_digest(out / path)}
            index.write(json.dumps([{"outputs": {path: 0}, "sha256": digest, "sources": [source]}]) + "\n")


def million(tasks: Path, home: Path) -> list[dict]:
    """Commands over a folder of a million windows: time and memory."""
    out = home / "out"
    fill(out, home)
    steps = {
        "search, by a stretch of 1 s": ("search", out, "7.wav", "--start", 20, "--end", 21),
        "clusters": ("clusters", out),
        "map": ("map", "--audio", out, "-o", home / "map.html"),
    }
    return measured(steps)


def neighbours(tasks: Path, home: Path) -> list[dict]:
    """The six nearest neighbours of each of a million windows by usearch, and how many exact copies are found."""
    out = home / "out"
    fill(out, home)
    processor = time.process_time()
    places, _ = nearest(compact(out), 6)
    processor = time.process_time() - processor
    found = (places[1::1000, 0] == np.arange(0, ROWS, 1000)).mean()
    row = {"what": "six nearest of each, by usearch", "processor s": f"{processor:.0f}"}
    return [row | {"peak GB": f"{peak_memory() / 1e9:.2f}", "copies found": f"{found:.1%}"}]


ACTIONS = {each.__name__: each for each in (times, office, million, neighbours)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(ACTIONS))
    parser.add_argument("--tasks", type=Path, default=Path("tasks"))
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        rows = ACTIONS[args.what](args.tasks, Path(home))
    with open(args.output, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
