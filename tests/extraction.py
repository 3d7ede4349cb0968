"""Helpers of test_extract and test_cli: a folder of audio, and runs in processes of their own that can be killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
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
    groups.GROUPS = groups.TABLE_GROUPS = groups.TABLE_GROUPS_TIMESTAMPS = groups.GroupLimits(3, 600)
    _log_embedded(groups, log)
    _die_at(options.pop("die", None))
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


def _die_at(moment: str | None) -> None:
    """Arrange for a kill in the third group: while a file is written, before it is recorded, or within its record."""
    from hear_byols.extraction import output as writing

    calls = {"n": 0}

    def third(self) -> bool:
        calls["n"] += 1
        return calls["n"] == 3

    write, dumps = writing.OutputFolder.record, json.dumps

    def record(self, clips, items):
        if third(self):
            if moment == "within a file":
                target = "savez" if self._form.suffix == ".npz" else None
                _cut_short(target)
            elif moment == "before the record":
                json.dumps = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
            elif moment == "within the record":
                json.dumps = lambda *args, **kwargs: _write_half(self.index.path, dumps(*args, **kwargs))
        return write(self, clips, items)

    if moment:
        writing.OutputFolder.record = record


def _cut_short(numpy_writer: str | None) -> None:
    """Make the writer leave half a file and die."""

    def half(path, *args, **kwargs):
        Path(path).write_bytes(b"half of a file")
        os.kill(os.getpid(), signal.SIGKILL)

    if numpy_writer:
        setattr(np, numpy_writer, half)
    else:
        from pyarrow import parquet

        parquet.write_table = lambda table, path: half(path)


def _write_half(path: Path, line: str) -> None:
    with open(path, "a") as file:
        file.write(line[: len(line) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
