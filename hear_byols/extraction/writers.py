"""The files that embeddings are written to: npz and npy, one a source; parquet and csv, tables of many sources."""

import csv
import importlib.util
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from hear_byols._util.files import atomic_path
from hear_byols._util.tables import as_text
from hear_byols.errors import MissingDependencyError, OptionError


@dataclass(frozen=True)
class Embedded:
    """The embeddings of one source."""

    source: str  # its name
    vectors: np.ndarray  # float32, one vector [shape=(size,)], or one a window [shape=(n_windows, size)]
    timestamps_ms: np.ndarray | None = None  # centres of the windows, float32 [shape=(n_windows,)]

    def rows(self) -> Iterator[tuple[float | None, np.ndarray]]:
        """Yield (timestamp or None, vector)."""
        if self.timestamps_ms is None:
            yield None, self.vectors
        else:
            yield from zip(self.timestamps_ms.tolist(), self.vectors, strict=True)


def _write_npz(items: Sequence[Embedded], path: Path) -> list[Path]:
    (item,) = items
    with atomic_path(path, sync=False) as part:
        if item.timestamps_ms is None:
            np.savez(part, embedding=item.vectors, source=item.source)
        else:
            np.savez(part, embeddings=item.vectors, timestamps_ms=item.timestamps_ms, source=item.source)
    return [path]


def _write_npy(items: Sequence[Embedded], path: Path) -> list[Path]:
    (item,) = items
    arrays = {path: item.vectors}
    if item.timestamps_ms is not None:
        arrays[path.with_suffix(".timestamps_ms.npy")] = item.timestamps_ms
    for place, array in arrays.items():
        with atomic_path(place, sync=False) as part:
            np.save(part, array)
    return list(arrays)


def _text(source: str) -> str:
    """A name as a table of UTF-8 holds it: bytes that are none are written as \\xNN."""
    return os.fsencode(source).decode("utf-8", "backslashreplace")


def _write_parquet(items: Sequence[Embedded], path: Path) -> list[Path]:
    import pyarrow as pa
    from pyarrow import parquet

    size = items[0].vectors.shape[-1]
    vectors = np.concatenate([item.vectors.reshape(-1, size) for item in items])
    counts = [item.vectors.size // size for item in items]
    names = [_text(item.source) for item in items]
    columns = {"source": pa.array(np.repeat(np.array(names, object), counts), pa.string())}
    times = [item.timestamps_ms for item in items if item.timestamps_ms is not None]
    if times:
        columns["timestamp_ms"] = pa.array(np.concatenate(times))
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), size)
    with atomic_path(path, sync=False) as part:
        parquet.write_table(pa.table(columns), part)
    return [path]


def _keep_parquet(path: Path, sources: Collection[str], new: Path) -> None:
    import pyarrow as pa
    from pyarrow import compute, parquet

    table = parquet.read_table(path)
    kept = pa.array([_text(source) for source in sources], pa.string())
    wanted = compute.is_in(table["source"], value_set=kept)  # pyright: ignore[reportAttributeAccessIssue]
    with atomic_path(new, sync=False) as part:
        parquet.write_table(table.filter(wanted), part)


def _write_csv(items: Sequence[Embedded], path: Path) -> list[Path]:
    times = [] if items[0].timestamps_ms is None else ["timestamp_ms"]
    header = ["source", *times, *(f"e{i}" for i in range(items[0].vectors.shape[-1]))]
    with atomic_path(path, sync=False) as part, _open_csv(part, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for item in items:
            for time, vector in item.rows():
                values = (f"{value:.9g}" for value in vector.tolist())  # 9 digits give a float32 back exactly
                writer.writerow([as_text(item.source), *([f"{time:.9g}"] if times else []), *values])
    return [path]


def _keep_csv(path: Path, sources: Collection[str], new: Path) -> None:
    wanted = set(map(as_text, sources))
    with atomic_path(new, sync=False) as part, _open_csv(path, "r") as old, _open_csv(part, "w") as file:
        rows = csv.reader(old)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(next(rows))
        writer.writerows(row for row in rows if row[0] in wanted)


def _open_csv(path: Path, mode: str) -> IO[str]:
    return open(path, mode, newline="", encoding="utf-8", errors="surrogateescape")


@dataclass(frozen=True)
class Format:
    """A file format."""

    suffix: str  # of its files
    is_table: bool  # whether a file holds many sources
    # Writes sources (one unless is_table) to a path, atomically; gives the files it made, whose folder is to be synced.
    write: Callable[[Sequence[Embedded], Path], list[Path]]
    keep: Callable[[Path, Collection[str], Path], None] | None = None  # copies the rows of sources to another table
    needs: str = ""  # a module


FORMATS = {
    "npz": Format(".npz", False, _write_npz),
    "npy": Format(".npy", False, _write_npy),
    "parquet": Format(".parquet", True, _write_parquet, _keep_parquet, needs="pyarrow"),
    "csv": Format(".csv", True, _write_csv, _keep_csv),
}


def find_format(name: str) -> Format:
    """A format by its name.

    Raises:
        OptionError: no such format.
        MissingDependencyError: it needs a package that is not installed.
    """
    if name not in FORMATS:
        raise OptionError(f"format must be one of {', '.join(FORMATS)}; got {name!r}")
    found = FORMATS[name]
    if found.needs and importlib.util.find_spec(found.needs) is None:
        raise MissingDependencyError(f"format {name!r} needs {found.needs}: pip install 'hear_byols[{name}]'")
    return found
