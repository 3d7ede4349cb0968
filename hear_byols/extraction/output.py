"""An output folder that survives being killed at any moment, and a power cut.

``manifest.json`` says what made the embeddings, ``embeddings/`` holds them, and each line of ``index.jsonl`` records a
group of sources after its files are on the disk. What stands in the index is never computed again; everything else
does not count, so a half-done group is done anew from its start (``docs/embedding.md``).
"""

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hear_byols._util.files import atomic_path, file_digest, sync_folder
from hear_byols.errors import OptionError, OutputError
from hear_byols.extraction.files import AudioFile, PathLike
from hear_byols.extraction.formats import Embedded, Format
from hear_byols.extraction.groups import Failure
from hear_byols.extraction.index import SCHEMA, Entry, Index, changed_sources, is_begun, size_of, source_record, writing
from hear_byols.extraction.reader import Clip

try:
    import fcntl
except ImportError:  # not on Windows, where two runs in one folder go unnoticed
    fcntl = None

_THREADS = 8  # that write files and wait for the disk
# A name, not the disk, is at fault: too long, not to be written here, or taken by a folder or as one.
_NAME_ERRORS = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)


class OutputFolder:
    """Embedding files, their manifest and their index. Made by :func:`open_output`."""

    def __init__(self, path: Path, form: Format, settings: Mapping[str, Any], overwrite: bool) -> None:
        self.path = path
        self._form = form
        self._settings = settings
        self._embeddings, self._manifest, index = path / "embeddings", path / "manifest.json", path / "index.jsonl"
        begun = is_begun(self._manifest, settings, overwrite)
        if not begun and (index.exists() or self._embeddings.exists()):
            raise OutputError(f"{path} holds embeddings or an index but no manifest.json; choose another folder")
        if begun and overwrite:
            with writing(path):  # the manifest stays until it is replaced, so that a kill in between is noticed
                if self._embeddings.exists():
                    shutil.rmtree(self._embeddings)
                index.unlink(missing_ok=True)
        self.index = Index(index, form.is_table)
        if overwrite or not begun:
            self.write_manifest(complete=False)
        with writing(self._embeddings):
            self._embeddings.mkdir(exist_ok=True)

    def pending(self, files: Sequence[AudioFile]) -> list[AudioFile]:
        """Forget records whose outputs are not what was recorded or whose sources have changed; list what is to do.

        Sources whose outputs are lost are to be done again even if they are not among ``files``. The other sources of a
        part keep their rows.

        Raises:
            OutputError: a name is recorded for a different file elsewhere.
        """
        paths = {file.name: file.path for file in files}
        with ThreadPoolExecutor(_THREADS) as threads:
            whole = list(threads.map(self.index.is_whole, self.index.entries))
        kept: list[Entry] = []
        shortened: list[tuple[Entry, set[str]]] = []  # with the names of the sources that stay
        lost: list[AudioFile] = []
        for entry, fine in zip(self.index.entries, whole, strict=True):
            changed = changed_sources(entry, paths)
            if fine and not changed:
                kept.append(entry)
                continue
            can_stay = fine and self._form.is_table
            shortened.append((entry, {s["name"] for s in entry["sources"]} - changed if can_stay else set()))
            if not fine:
                lost += [AudioFile(s["name"], Path(s["path"])) for s in entry["sources"] if s["name"] not in paths]
        if shortened:
            self._replace(kept, shortened)
        self.remove_leftovers()
        done = {source["name"] for source in self.index.sources()}
        todo = [file for file in files if file.name not in done] + lost
        if todo:
            self.write_manifest(complete=False)
        return todo

    def _replace(self, kept: list[Entry], shortened: list[tuple[Entry, set[str]]]) -> None:
        """Shorten entries, to nothing or to a new part; killed at any moment, what is recorded is there."""
        number = self.index.next_part() if self._form.is_table else 0
        for entry, names in shortened:
            if names:
                kept.append(self._part_of(entry, names, number))
                number += 1
                continue
            for output in entry["outputs"]:
                with writing(self.path / output):
                    (self.path / output).unlink(missing_ok=True)
        self.index.rewrite(kept)

    def _part_of(self, entry: Entry, names: Collection[str], number: int) -> Entry:
        """Write a new part of a table with the rows of some sources of another: its entry."""
        (old,) = entry["outputs"]
        new = self._embeddings / f"part-{number:05d}{self._form.suffix}"
        with writing(new):
            try:
                items = self._form.read(self.path / old, [source["name"] for source in entry["sources"]])
            except ValueError as error:
                raise self.index.damaged(error) from error
            self._form.write([item for item in items if item.source in names], new)
            sync_folder(self._embeddings)
            return self._entry([new], [source for source in entry["sources"] if source["name"] in names])

    def record(self, clips: Sequence[Clip], items: Sequence[Embedded]) -> list[Failure]:
        """Write the embeddings of a group of clips, then record them all at once.

        Returns:
            The sources whose outputs cannot have their names; the others are recorded.

        Raises:
            OutputError: they cannot be written.
        """
        self._must_exist()
        if self._form.is_table:
            results = [self._write(f"part-{self.index.next_part():05d}", clips, items)]
        else:
            with ThreadPoolExecutor(_THREADS) as threads:
                results = list(threads.map(lambda clip, item: self._write(item.source, [clip], [item]), clips, items))
        entries = [result for result in results if not isinstance(result, Failure)]
        with writing(self._embeddings):
            for folder in {(self.path / output).parent for entry in entries for output in entry["outputs"]}:
                sync_folder(folder)
        if entries:
            self.index.append(entries)
        return [result for result in results if isinstance(result, Failure)]

    def adopt(self, part: Path, digest: str, sources: Sequence[Mapping[str, Any]]) -> None:
        """Give a part of a table that somebody else wrote into ``embeddings/`` its name, and record it with its digest.

        The part has a hidden name (``.NAME.part`` and the format's suffix); the sources, of :func:`source_record`, are
        in the order of the part.

        Raises:
            OutputError: it cannot be renamed or recorded.
        """
        path = self._embeddings / f"part-{self.index.next_part():05d}{self._form.suffix}"
        with writing(path):
            part.replace(path)
            sync_folder(self._embeddings)
            self.index.append([self._entry([path], sources, digest)])

    def complete(self, failures: Sequence[Failure]) -> None:
        """Say in the manifest that the work is done, and what failed, once all that is recorded was seen to be there.

        Raises:
            OutputError: something was removed while the run went on.
        """
        try:
            self._must_exist()
            self.index.must_be_untouched()
            sizes = {output: size for entry in self.index.entries for output, size in entry["outputs"].items()}
            missing = [output for output, size in sizes.items() if size_of(self.path / output) != size]
            if missing:
                raise OutputError(
                    f"{len(missing)} of {len(sizes)} recorded outputs are missing or changed, the first is "
                    f"{self.path / missing[0]}: something removed them while the run went on. The same command makes "
                    "them again"
                )
        except OutputError:
            self.write_manifest(complete=False)
            raise
        self.write_manifest(
            complete=True,
            n_failed=len(failures),
            failed=[vars(failure) for failure in failures],
            failed_by_extension=Counter(Path(failure.name).suffix.lower() for failure in failures),
            warnings=[{"name": warning.name, "warning": warning.reason} for warning in self.warnings()],
        )

    def warnings(self) -> list[Failure]:
        """What is worth knowing of recorded sources."""
        return [Failure(source["name"], text) for source in self.index.sources() for text in source.get("warnings", [])]

    def write_manifest(self, **state: Any) -> None:
        """Replace the manifest: the settings, and the state of the work."""
        content = {"schema": SCHEMA, **self._settings, "n_recorded": sum(1 for _ in self.index.sources()), **state}
        with writing(self._manifest), atomic_path(self._manifest) as part:
            part.write_text(json.dumps(content, indent=2) + "\n", encoding="ascii")

    def _must_exist(self) -> None:
        if not self._embeddings.is_dir() or not self._manifest.exists():
            raise OutputError(
                f"{self.path} lost its manifest or its embeddings while the run went on; the same command makes them "
                "again"
            )

    def _write(self, name: str, clips: Sequence[Clip], items: Sequence[Embedded]) -> Entry | Failure:
        """Write a file: its entry, or that its one source's output cannot have that name."""
        path = self._embeddings / (name + self._form.suffix)
        with writing(path):
            try:
                outputs = self._form.write(items, path)
            except OSError as error:
                if self._form.is_table or error.errno not in _NAME_ERRORS:
                    raise
                reason = f"cannot be the name of its output ({error.strerror}); write a table (--format csv)"
                return Failure(name, f"{clips[0].file.path}: {path.name} {reason}")
            return self._entry(outputs, [source_record(clip) for clip in clips])

    def _entry(self, outputs: Sequence[Path], sources: Sequence[Mapping[str, Any]], digest: str = "") -> Entry:
        names = {path.relative_to(self.path).as_posix(): path for path in outputs}
        return {
            "outputs": {name: path.stat().st_size for name, path in names.items()},
            "sha256": {name: digest or file_digest(path) for name, path in names.items()},
            "sources": list(sources),
        }

    def remove_leftovers(self) -> None:
        """Remove what a killed run left: unfinished files, and parts that were never recorded."""
        recorded = {self.path / output for entry in self.index.entries for output in entry["outputs"]}
        leftovers = set(self._embeddings.rglob(f".*.part{self._form.suffix}"))
        if self._form.is_table:
            leftovers |= set(self._embeddings.glob(f"part-*{self._form.suffix}"))
        for path in leftovers - recorded:
            if path.is_file():
                with writing(path):
                    path.unlink()


@contextmanager
def open_output(path: PathLike, form: Format, settings: Mapping[str, Any], overwrite: bool) -> Iterator[OutputFolder]:
    """Open an output folder for one run at a time.

    Raises:
        OptionError: the path is empty.
        OutputError: the folder cannot be written, is in use, or holds embeddings made with other settings.
    """
    if not os.fspath(path):
        raise OptionError('the output folder is empty; name the current folder as "." if it is meant')
    path = Path(path)
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / ".lock", "a")  # noqa: SIM115 - closed below; the system also drops it when we are killed
    with lock:
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"{path} is being written by another run; wait for it or choose another folder"
            ) from error
        except OSError:  # a file system without locks
            pass
        yield OutputFolder(path, form, settings, overwrite)
