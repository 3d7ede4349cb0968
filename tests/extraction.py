"""Helpers of tests that embed files: a folder of audio, its vectors, and runs in processes that can be killed."""

import json
import multiprocessing
import os
import signal
from itertools import count
from pathlib import Path

import numpy as np
import soundfile
import torch

from hear_byols import read_embeddings
from hear_byols._util import files
from hear_byols.extraction import extract, groups
from hear_byols.extraction.index import Index

MODEL = "random_cnn"  # needs no file, and is quick
processes = multiprocessing.get_context("forkserver")  # torch is imported once, not once a run
processes.set_forkserver_preload(["hear_byols.extraction.extract", "pyarrow.parquet"])


def noise(seconds: float, seed: int, rate: int = 16000) -> np.ndarray:
    """A tone in noise, another for each seed, float32 [shape=(n_samples,)]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 3000) * time)
    return (tone + 0.05 * rng.standard_normal(len(time))).astype(np.float32)


def write_corpus(folder: Path, n: int, lengths_s: tuple[float, ...] = (0.3, 0.5, 0.3)) -> list[str]:
    """Write wav and flac files in two folders; return their names in the order of a run."""
    names = []
    for i in range(n):
        name = f"{'ab'[i % 2]}/clip{i:02}.{('wav', 'flac')[i % 3 == 0]}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, noise(lengths_s[i % len(lengths_s)], seed=i), 16000)
        names.append(name)
    return sorted(names)


def recorded(output: Path) -> list[str]:
    """Names in the index, ignoring a line that a kill cut off."""
    if not (output / "index.jsonl").exists():
        return []
    lines = (output / "index.jsonl").read_text().split("\n")[:-1]
    return [source["name"] for line in lines for entry in json.loads(line) for source in entry["sources"]]


def is_complete(output: Path) -> bool:
    """Whether the manifest says that a run came to its end."""
    return json.loads((output / "manifest.json").read_text())["complete"]


def contents(output: Path, hidden: bool = True) -> dict[str, bytes]:
    """All files below embeddings/, by default with the hidden ones."""
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in sorted((output / "embeddings").rglob("*"))
        if path.is_file() and (hidden or not path.name.startswith("."))
    }


def rows_of(output: Path) -> dict[str, list[list[float]]]:
    """The rows of each source, read back: the vector, and the time of a window."""
    content = read_embeddings(output)
    found: dict[str, list[list[float]]] = {}
    for i, name in enumerate(content.names):
        times = [] if content.times_ms is None else [content.times_ms[i]]
        found.setdefault(name, []).append([*content.vectors[i].tolist(), *times])
    return found


def start(*args: object, die: str = "", **options: object) -> multiprocessing.Process:
    """Start ``embed_to_folder`` in a process of its own, in groups of three clips.

    ``die`` names a moment of the third group at which it kills itself: "within a file", "before the record" or "within
    the record".
    """
    process = processes.Process(target=_run, args=(die, args, options), daemon=True)
    process.start()
    return process


def _run(moment: str, args: tuple, options: dict) -> None:
    append, calls = Index.append, count(1)

    def cut(path: Path) -> None:
        os.truncate(path, 14)
        os.kill(os.getpid(), signal.SIGKILL)

    def dying(index: Index, entries: list) -> None:
        number = next(calls)
        if number == 2 and moment == "within a file":
            files.sync_file = cut
        if number == 3 and moment:
            if moment == "within the record":
                index.path.write_text(index.path.read_text() + json.dumps(entries)[:100])
            os.kill(os.getpid(), signal.SIGKILL)
        append(index, entries)

    Index.append = dying
    torch.set_num_threads(1)
    extract.group_limits = lambda *_: groups.GroupLimits(3, 600)
    extract.embed_to_folder(*args, model=MODEL, **options)
