"""What an output folder says of itself.

``manifest.json`` holds what made the embeddings, and the state of the work; ``index.jsonl`` a line for each group of
sources that was embedded and written.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from hear_byols._util.files import atomic_path, file_digest
from hear_byols._util.files import writing as _writing
from hear_byols.errors import OutputError
from hear_byols.extraction.reader import Clip

SCHEMA = "hear_byols-embeddings/1"  # of the manifest
writing = partial(_writing, advice="what was recorded before is safe, and the same command continues from there")
# {"outputs": {path in the folder: bytes}, "sha256": {path: digest}, "sources": [of source_record]}
Entry = dict[str, Any]


def source_record(clip: Clip) -> dict[str, Any]:
    """What the index says of a source."""
    return {
        "name": clip.file.name,
        "path": os.path.abspath(clip.file.path),
        "bytes": clip.size,
        "mtime_ns": clip.mtime_ns,
        "n_samples": len(clip.samples),
        **({"warnings": list(clip.notes)} if clip.notes else {}),
    }


class Index:
    """The entries of ``index.jsonl``, in memory and on the disk; of a table, outputs are numbered parts.

    A last line without its end was cut off by a kill, and does not count.

    Raises:
        OutputError: the file is damaged.
    """

    def __init__(self, path: Path, is_table: bool) -> None:
        self.path = path
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        except OSError as error:
            raise OutputError(f"{path} cannot be read ({error.strerror or error})") from error
        try:
            entries = [entry for line in content.split(b"\n")[:-1] for entry in json.loads(line)]
            for entry in entries:
                _check(entry, is_table)
            names = [source["name"] for entry in entries for source in entry["sources"]]
            if len(set(names)) < len(names):
                raise ValueError("a source is recorded twice")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self.damaged(error) from error
        self.entries: list[Entry] = entries
        self._n_bytes = len(content)  # that the file has if nobody else touched it
        if content and not content.endswith(b"\n"):
            self.rewrite(entries)

    def damaged(self, error: Exception) -> OutputError:
        """What to raise when the content cannot be."""
        reason = f"no {error}" if isinstance(error, KeyError) else error
        return OutputError(
            f"{self.path} is damaged ({reason}); restore it, choose another output folder, or start anew with "
            "--overwrite (overwrite=True)"
        )

    def append(self, entries: Sequence[Entry]) -> None:
        """Record entries.

        Raises:
            OutputError: the file cannot be written, or is not what it was.
        """
        self.must_be_untouched()
        line = json.dumps(entries) + "\n"
        with writing(self.path), open(self.path, "a", encoding="ascii") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.entries += entries
        self._n_bytes += len(line)

    def rewrite(self, entries: Sequence[Entry]) -> None:
        """Replace all entries."""
        text = "".join(json.dumps([entry]) + "\n" for entry in entries)
        with writing(self.path), atomic_path(self.path) as part:
            part.write_text(text, encoding="ascii")
        self.entries, self._n_bytes = list(entries), len(text)

    def must_be_untouched(self) -> None:
        """Make sure that the file is as it was left.

        Raises:
            OutputError: it was removed or changed.
        """
        if (size_of(self.path) or 0) != self._n_bytes:
            raise OutputError(
                f"{self.path} was removed or changed while the run went on; what it does not record is made again by "
                "the same command"
            )

    def sources(self) -> Iterator[dict[str, Any]]:
        """What is recorded of all sources."""
        return (source for entry in self.entries for source in entry["sources"])

    def is_whole(self, entry: Entry) -> bool:
        """Whether all outputs of an entry are in the output folder with the content that was recorded."""
        try:
            for output, size in entry["outputs"].items():
                path, digest = self.path.parent / output, entry.get("sha256", {}).get(output)
                if path.stat().st_size != size or (digest is not None and file_digest(path) != digest):
                    return False
        except OSError:
            return False
        return True

    def next_part(self) -> int:
        """Number of the next part of a table: above all others, and parts that were dropped are not filled in."""
        numbers = [_part_number(output) for entry in self.entries for output in entry["outputs"]]
        return max(numbers, default=-1) + 1


def _part_number(output: str) -> int:
    return int(PurePosixPath(output).stem.removeprefix("part-"))


def _check(entry: Any, is_table: bool) -> None:
    """Refuse an entry that is none: ValueError, TypeError or KeyError."""
    if not isinstance(entry, dict):
        raise TypeError("an entry is no object")
    outputs, sources, digests = entry["outputs"], entry["sources"], entry.get("sha256", {})
    if not (isinstance(outputs, dict) and isinstance(digests, dict) and isinstance(sources, list)):
        raise TypeError("an entry has other kinds of content")
    if not outputs or not sources:
        raise ValueError("an entry is empty")
    for output, size in outputs.items():
        parts = PurePosixPath(output).parts
        if len(parts) < 2 or parts[0] != "embeddings" or ".." in parts or "\0" in output:
            raise ValueError("an output lies elsewhere")
        os.fsencode(output)
        if type(size) is not int:
            raise TypeError("a size is no number")
        if is_table:
            _part_number(output)
    for source in sources:
        kinds = {"name": str, "path": str, "bytes": int, "mtime_ns": int}
        if not isinstance(source, dict) or any(type(source[key]) is not kind for key, kind in kinds.items()):
            raise TypeError("what it says of a source is incomplete")
        if "\0" in source["path"] or not isinstance(source.get("warnings", []), list):
            raise ValueError("what it says of a source is none")
        os.fsencode(source["path"] + source["name"])


def size_of(path: Path) -> int | None:
    """Bytes of a file, None if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def changed_sources(entry: Entry, files: Mapping[str, Path]) -> set[str]:
    """Names of sources that now have another size or time of modification.

    One that is gone or not asked for has not changed.

    Raises:
        OutputError: a name is recorded for a different file elsewhere.
    """
    changed = set()
    for source in entry["sources"]:
        try:
            path = files[source["name"]]
            status = path.stat()
        except (KeyError, OSError, ValueError):
            continue
        if (status.st_size, status.st_mtime_ns) == (source["bytes"], source["mtime_ns"]):
            continue
        if os.path.abspath(path) != source["path"]:
            raise OutputError(
                f"{source['name']!r} is recorded from {source['path']} and is now to come from "
                f"{os.path.abspath(path)}, which differs; choose another output folder, or start anew "
                "with --overwrite (overwrite=True)"
            )
        changed.add(source["name"])
    return changed


def is_begun(manifest: Path, settings: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether there is a manifest; unless it is to be overwritten it must say the same, but for what is ``about`` it.

    Raises:
        OutputError: it cannot be read, is of another version, or says other settings, which are named.
    """
    try:
        known = json.loads(manifest.read_text(encoding="ascii"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(f"{manifest} cannot be read ({error}); choose another output folder") from error
    if not isinstance(known, dict) or known.get("schema") != SCHEMA:
        raise OutputError(f"{manifest} is not a manifest of this version; choose another output folder")
    now = json.loads(json.dumps(settings))
    names = [name for name in now if name != "about" and known.get(name) != now[name]]
    if names and not overwrite:
        differences = "; ".join(f"{name} was {known.get(name)!r}, now {now[name]!r}" for name in names)
        raise OutputError(
            f"{manifest.parent} holds embeddings made with other settings: {differences}. Choose another output "
            "folder, or start anew in this one with --overwrite (overwrite=True)"
        )
    return True
