"""Helpers of tests that embed files: a folder of audio, its vectors, and runs in processes that can be killed."""

import json
import multiprocessing
import os
import signal
from itertools import count
from pathlib import Path

import numpy as np
import soundfile

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


def contents(output: Path, hidden: bool = True) -> dict[str, bytes]:
    """All files below embeddings/, by default with the hidden ones."""
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in sorted((output / "embeddings").rglob("*"))
        if path.is_file() and (hidden or not path.name.startswith("."))
    }


def rows_of(output: Path) -> dict[str, list[list[float]]]:
    """The rows of each source, read back: the vector, and the time of a window."""
    from hear_byols import read_embeddings

    content = read_embeddings(output)
    found: dict[str, list[list[float]]] = {}
    for i, name in enumerate(content.names):
        times = [] if content.times_ms is None else [content.times_ms[i]]
        found.setdefault(name, []).append([*content.vectors[i].tolist(), *times])
    return found


def start(log: Path, *args: object, **options: object) -> multiprocessing.Process:
    """Start ``embed_to_folder`` in a process of its own, in groups of three clips."""
    process = processes.Process(target=_run, args=(log, args, options), daemon=True)
    process.start()
    return process


def _run(log: Path, args: tuple, options: dict) -> None:
    """Run in the child. ``die`` names a moment at which it kills itself; ``room`` limits the size of files."""
    import torch

    from hear_byols import HearByolsError
    from hear_byols.extraction import extract, groups

    torch.set_num_threads(1)
    extract.group_limits = lambda *_: groups.GroupLimits(3, 600)
    _log_embedded(groups, log)
    if moment := options.pop("die", None):
        _die_at(moment)
    if room := options.pop("room", None):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        extract.embed_to_folder(*args, model=MODEL, **options)
    except HearByolsError as error:
        log.with_suffix(".error").write_text(f"{type(error).__name__}: {error}")


def _log_embedded(groups, log: Path) -> None:
    embed = groups.embed_clips

    def logged(model, clips, *args):
        results = embed(model, clips, *args)
        with open(log, "a") as file:
            file.writelines(f"{clip.file.name}\n" for clip in clips)
        return results

    groups.embed_clips = logged


def _die_at(moment: str) -> None:
    """Arrange for a kill in the third group: within a file, before the record, or within the record."""
    from hear_byols._util import files
    from hear_byols.extraction.output import OutputFolder

    calls, record, dumps = count(1), OutputFolder.record, json.dumps

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def cut_file(path: Path) -> None:
        os.truncate(path, 14)
        die()

    def cut_line(path: Path, line: str) -> None:
        if moment == "within the record":
            path.write_text(path.read_text() + line[: len(line) // 2])
        die()

    def dying(self, clips, items):
        if next(calls) == 3:
            if moment == "within a file":
                files.sync_file = cut_file
            else:
                json.dumps = lambda entries: cut_line(self.index.path, dumps(entries))
        return record(self, clips, items)

    OutputFolder.record = dying
