"""The files that hold embeddings: npz and npy, one a source; parquet and csv, tables of many sources."""

import csv
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
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


@dataclass(frozen=True)
class Format:
    """A file format."""

    suffix: str  # of its files
    is_table: bool  # whether a file holds many sources
    # Writes sources (one unless is_table) to a path, atomically; gives the files it made, whose folder is to be synced.
    write: Callable[[Sequence[Embedded], Path], list[Path]]
    read: Callable[[Path, Sequence[str]], list[Embedded]]  # the sources of a file, whose names are given in their order
    needs: str = ""  # a module


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


def rows_of(items: Sequence[Embedded]) -> tuple[list[str], np.ndarray | None, np.ndarray]:
    """Sources as rows: the name of each, its time in milliseconds (None for whole files), and the vectors."""
    size = items[0].vectors.shape[-1]
    names = [item.source for item in items for _ in range(item.vectors.size // size)]
    times = [item.timestamps_ms for item in items if item.timestamps_ms is not None]
    vectors = np.concatenate([item.vectors.reshape(-1, size) for item in items])
    return names, np.concatenate(times) if times else None, vectors


def _from_rows(
    names: Sequence[str], sources: Sequence[str], times: np.ndarray | None, vectors: np.ndarray
) -> list[Embedded]:
    """Rows as sources, which are called ``names``: rows of one source adjoin."""
    if times is None:
        return [Embedded(name, vector) for name, vector in zip(names, vectors, strict=True)]
    ends = np.cumsum([len(list(group)) for _, group in groupby(sources)])[:-1]
    return [Embedded(*part) for part in zip(names, np.split(vectors, ends), np.split(times, ends), strict=True)]


def _write_npz(items: Sequence[Embedded], path: Path) -> list[Path]:
    (item,) = items
    with atomic_path(path, sync=False) as part:
        if item.timestamps_ms is None:
            np.savez(part, embedding=item.vectors, source=item.source)
        else:
            np.savez(part, embeddings=item.vectors, timestamps_ms=item.timestamps_ms, source=item.source)
    return [path]


def _read_npz(path: Path, names: Sequence[str]) -> list[Embedded]:
    with np.load(path, allow_pickle=False) as content:
        if "embedding" in content:
            return [Embedded(names[0], content["embedding"])]
        return [Embedded(names[0], content["embeddings"], content["timestamps_ms"])]


def _write_npy(items: Sequence[Embedded], path: Path) -> list[Path]:
    (item,) = items
    arrays = {path: item.vectors}
    if item.timestamps_ms is not None:
        arrays[_times_beside(path)] = item.timestamps_ms
    for place, array in arrays.items():
        with atomic_path(place, sync=False) as part:
            np.save(part, array)
    return list(arrays)


def _read_npy(path: Path, names: Sequence[str]) -> list[Embedded]:
    times = _times_beside(path)
    timestamps_ms = np.load(times, allow_pickle=False) if times.is_file() else None
    return [Embedded(names[0], np.load(path, allow_pickle=False), timestamps_ms)]


def _times_beside(path: Path) -> Path:
    return path.with_suffix(".timestamps_ms.npy")


def _write_parquet(items: Sequence[Embedded], path: Path) -> list[Path]:
    import pyarrow as pa
    from pyarrow import parquet

    names, times, vectors = rows_of(items)
    # UTF-8: bytes of a name that are none are written as \xNN.
    texts = [os.fsencode(name).decode("utf-8", "backslashreplace") for name in names]
    columns = {"source": pa.array(texts, pa.string())}
    if times is not None:
        columns["timestamp_ms"] = pa.array(times)
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    with atomic_path(path, sync=False) as part:
        parquet.write_table(pa.table(columns), part)
    return [path]


def _read_parquet(path: Path, names: Sequence[str]) -> list[Embedded]:
    from pyarrow import parquet

    table = parquet.read_table(path)
    column = table["embedding"].combine_chunks()
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1).astype(np.float32, copy=False)
    times = table["timestamp_ms"].to_numpy() if "timestamp_ms" in table.column_names else None
    return _from_rows(names, table["source"].to_pylist(), times, vectors)


def _write_csv(items: Sequence[Embedded], path: Path) -> list[Path]:
    times = [] if items[0].timestamps_ms is None else ["timestamp_ms"]
    with atomic_path(path, sync=False) as part, _open_csv(part, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["source", *times, *(f"e{i}" for i in range(items[0].vectors.shape[-1]))])
        for item in items:
            for i, vector in enumerate(np.atleast_2d(item.vectors)):
                numbers = [] if item.timestamps_ms is None else [float(item.timestamps_ms[i])]
                numbers += vector.tolist()
                writer.writerow([as_text(item.source), *(f"{x:.9g}" for x in numbers)])  # which is exact for a float32
    return [path]


def _read_csv(path: Path, names: Sequence[str]) -> list[Embedded]:
    with _open_csv(path, "r") as file:
        rows = csv.reader(file)
        has_times = "timestamp_ms" in next(rows)[:2]
        content = [(row[0], np.array(row[1:], np.float32)) for row in rows]
    sources, values = [source for source, _ in content], np.stack([numbers for _, numbers in content])
    times, vectors = (values[:, 0], values[:, 1:]) if has_times else (None, values)
    return _from_rows(names, sources, times, vectors)


def _open_csv(path: Path, mode: str) -> IO[str]:
    return open(path, mode, newline="", encoding="utf-8", errors="surrogateescape")


FORMATS = {
    "npz": Format(".npz", False, _write_npz, _read_npz),
    "npy": Format(".npy", False, _write_npy, _read_npy),
    "parquet": Format(".parquet", True, _write_parquet, _read_parquet, needs="pyarrow"),
    "csv": Format(".csv", True, _write_csv, _read_csv),
}
