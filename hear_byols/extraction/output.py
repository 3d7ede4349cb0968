"""An output folder that survives being killed at any moment.

``manifest.json`` says what made the embeddings, ``embeddings/`` holds them, and each line of ``index.jsonl`` records a
group of sources after its files were written. What stands in the index is never computed again; everything else does
not count, so a half-done group is done anew from its start (``docs/embedding.md``).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from hear_byols._util.files import atomic_path
from hear_byols._util.files import writing as _writing
from hear_byols.errors import OutputError
from hear_byols.extraction.files import AudioFile
from hear_byols.extraction.reader import Clip
from hear_byols.extraction.writers import Embedded, Format

try:
    import fcntl
except ImportError:  # not on Windows, where two runs in one folder go unnoticed
    fcntl = None

writing = partial(_writing, advice="what was recorded before is safe, and the same command continues from there")
SCHEMA = "hear_byols-embeddings/1"
Entry = dict[
    str, Any
]  # {"outputs": {path in the folder: bytes}, "sources": [{"name", "path", "bytes", "mtime_ns", ..}]}


class OutputFolder:
    """Embedding files, their manifest and their index. Made by :func:`open_output`.

    Args:
        path: the folder.
        form: format of the embedding files.
        settings: what the embeddings depend on; JSON-able.
    """

    def __init__(self, path: Path, form: Format, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._form = form
        self._settings = {"schema": SCHEMA, **settings}
        self._embeddings = path / "embeddings"
        self._index = path / "index.jsonl"
        self._manifest = path / "manifest.json"
        self._entries: list[Entry] = []

    def begin(self, overwrite: bool) -> None:
        """Start anew, or read what is already there.

        Raises:
            OutputError: the folder holds something else, or embeddings made with other settings.
        """
        known = self._read_manifest()
        if overwrite and known is not None:
            self._clear()
        elif known is not None:
            self._compare(known)
        elif self._index.exists() or self._embeddings.exists():
            raise OutputError(f"{self.path} holds embeddings or an index but no manifest.json; choose another folder")
        if overwrite or known is None:
            self.write_manifest({"complete": False})
        with writing(self._embeddings):
            self._embeddings.mkdir(exist_ok=True)
        self._entries = self._read_index()

    def pending(self, files: Sequence[AudioFile]) -> list[AudioFile]:
        """Forget records whose outputs are missing or whose sources have changed, and list what is to be done.

        Raises:
            OutputError: a name is recorded for a different file elsewhere.
        """
        by_name = {file.name: file for file in files}
        kept, dropped = [], []
        for entry in self._entries:
            (kept if self._is_whole(entry) and not _has_changed(entry, by_name) else dropped).append(entry)
        for entry in dropped:
            self._remove_outputs(entry)
        if dropped or self._is_torn():
            self._entries = kept
            self._rewrite_index()
        self.remove_leftovers()
        done = {source["name"] for entry in kept for source in entry["sources"]}
        return [file for file in files if file.name not in done]

    def record(self, clips: Sequence[Clip], items: Sequence[Embedded]) -> None:
        """Write the embeddings of a group of clips, then record them all at once.

        Raises:
            OutputError: they cannot be written.
        """
        if self._form.is_table:
            entries = [self._write(f"part-{self._n_parts():05d}", clips, items)]
        else:
            entries = [self._write(item.source, [clip], [item]) for clip, item in zip(clips, items, strict=True)]
        self._append(entries)

    def adopt(self, part: Path, sources: Sequence[Mapping[str, Any]]) -> None:
        """Give a part of a table that somebody else wrote into ``embeddings/`` its name, and record it.

        Args:
            part: the file, under a hidden name (``.NAME.part`` and the format's suffix).
            sources: of :func:`source_record`, in the order of the part.

        Raises:
            OutputError: it cannot be renamed or recorded.
        """
        path = self._embeddings / f"part-{self._n_parts():05d}{self._form.suffix}"
        with writing(path):
            part.replace(path)
            size = path.stat().st_size
        self._append([{"outputs": {path.relative_to(self.path).as_posix(): size}, "sources": list(sources)}])

    def _append(self, entries: list[Entry]) -> None:
        with writing(self._index), open(self._index, "a", encoding="ascii") as file:
            file.write(json.dumps(entries) + "\n")
        self._entries += entries

    def write_manifest(self, state: Mapping[str, Any]) -> None:
        """Replace the manifest: the settings, and the state of the work."""
        content = {**self._settings, "n_recorded": sum(len(entry["sources"]) for entry in self._entries), **state}
        with writing(self._manifest), atomic_path(self._manifest) as part:
            part.write_text(json.dumps(content, indent=2) + "\n", encoding="ascii")

    def _write(self, name: str, clips: Sequence[Clip], items: Sequence[Embedded]) -> Entry:
        path = self._embeddings / (name + self._form.suffix)
        with writing(path):
            outputs = self._form.write(items, path)
        return {
            "outputs": {output.relative_to(self.path).as_posix(): output.stat().st_size for output in outputs},
            "sources": [source_record(clip) for clip in clips],
        }

    def _n_parts(self) -> int:
        """Number of the next part: numbers grow along the index, and parts that were dropped are not filled in."""
        numbers = [int(PurePosixPath(output).stem[5:]) for entry in self._entries[-1:] for output in entry["outputs"]]
        return max(numbers, default=-1) + 1

    def _read_manifest(self) -> dict[str, Any] | None:
        try:
            content = json.loads(self._manifest.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise OutputError(f"{self._manifest} cannot be read ({error})") from error
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise OutputError(f"{self._manifest} is not a manifest of this version; choose another output folder")
        return content

    def _compare(self, known: dict[str, Any]) -> None:
        old, new = _flat(known), _flat(json.loads(json.dumps(self._settings)))
        names = [name for name in new if not name.startswith("about.") and old.get(name) != new[name]]
        if names:
            differences = "; ".join(f"{name} was {old.get(name)!r}, now {new[name]!r}" for name in names)
            raise OutputError(
                f"{self.path} holds embeddings made with other settings: {differences}. Choose another output folder, "
                "or start anew in this one with --overwrite (overwrite=True)"
            )

    def _clear(self) -> None:
        """Remove all embeddings; the manifest stays until it is replaced, so that a kill in between is noticed."""
        with writing(self.path):
            if self._embeddings.exists():
                shutil.rmtree(self._embeddings)
            self._index.unlink(missing_ok=True)

    def _read_index(self) -> list[Entry]:
        if not self._index.exists():
            return []
        lines = self._index.read_bytes().split(b"\n")
        try:
            entries = [entry for line in lines[:-1] for entry in json.loads(line)]
            outputs = [PurePosixPath(output) for entry in entries for output in entry["outputs"]]
            if any(output.parts[0] != "embeddings" or ".." in output.parts for output in outputs):
                raise ValueError("an output lies elsewhere")
        except (ValueError, TypeError, KeyError) as error:
            raise OutputError(f"{self._index} is damaged ({error}); start anew with --overwrite") from error
        return entries  # a last line without its end was cut off by a kill

    def _is_torn(self) -> bool:
        return self._index.exists() and not (b"\n" + self._index.read_bytes()).endswith(b"\n")

    def _rewrite_index(self) -> None:
        with writing(self._index), atomic_path(self._index) as part:
            part.write_text("".join(json.dumps([entry]) + "\n" for entry in self._entries), encoding="ascii")

    def _is_whole(self, entry: Entry) -> bool:
        return all(_size(self.path / output) == size for output, size in entry["outputs"].items())

    def _remove_outputs(self, entry: Entry) -> None:
        for output in entry["outputs"]:
            with writing(self.path / output):
                (self.path / output).unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove what a killed run left: unfinished files, and parts that were never recorded."""
        recorded = {self.path / output for entry in self._entries for output in entry["outputs"]}
        leftovers = list(self._embeddings.rglob(f".*.part{self._form.suffix}"))
        if self._form.is_table:
            leftovers += set(self._embeddings.glob(f"part-*{self._form.suffix}")) - recorded
        for path in leftovers:
            with writing(path):
                path.unlink()


def source_record(clip: Clip) -> dict[str, Any]:
    """What the index says of a source."""
    return {
        "name": clip.file.name,
        "path": os.path.abspath(clip.file.path),
        "bytes": clip.size,
        "mtime_ns": clip.mtime_ns,
        "n_samples": len(clip.samples),
    }


@contextmanager
def open_output(path: Path, form: Format, settings: Mapping[str, Any], overwrite: bool) -> Iterator[OutputFolder]:
    """Open an output folder for one run at a time.

    Raises:
        OutputError: the folder cannot be written, is in use, or holds embeddings made with other settings.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / ".lock", "a")  # noqa: SIM115 - closed below; the system also drops it when we are killed
    with lock:
        if fcntl is not None:
            with _refused(path):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder = OutputFolder(path, form, settings)
        folder.begin(overwrite)
        yield folder


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except BlockingIOError as error:
        raise OutputError(f"{path} is being written by another run; wait for it or choose another folder") from error
    except OSError:
        pass  # a file system without locks


def _has_changed(entry: Entry, files: Mapping[str, AudioFile]) -> bool:
    """Whether a source now has another size or time of modification. One that is gone or not asked for has not."""
    changed = False
    for source in entry["sources"]:
        status = None
        if source["name"] in files:
            with suppress(OSError):
                status = files[source["name"]].path.stat()
        if status is None or (status.st_size, status.st_mtime_ns) == (source["bytes"], source["mtime_ns"]):
            continue
        path = os.path.abspath(files[source["name"]].path)
        if path != source["path"]:
            raise OutputError(
                f"{source['name']!r} is recorded from {source['path']} and is now to come from {path}, which differs; "
                "choose another output folder, or start anew with --overwrite (overwrite=True)"
            )
        changed = True
    return changed


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
