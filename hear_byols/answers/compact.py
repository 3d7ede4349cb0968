"""Embeddings of a whole folder in little memory: unit vectors, projected to the directions where they differ most."""

from dataclasses import dataclass

import numpy as np
import torch

from hear_byols._util.imports import require
from hear_byols.errors import InputError
from hear_byols.extraction.files import PathLike
from hear_byols.extraction.folder import iterate_embeddings

MAX_EXACT = 100_000  # rows that are compared all with all; beyond, an index of usearch finds the neighbours
DIMENSIONS = 256  # at which cosines of embeddings are kept within some thousandths
_SAMPLE = 8192  # rows that the directions are found from
_BLOCK = 512  # rows that are compared with all at a time


@dataclass(frozen=True)
class Compact:
    """A folder's vectors, at most 512 bytes each."""

    rows: np.ndarray  # float16; inner products are about the cosines of the vectors [shape=(n_rows, n_dimensions)]
    names: tuple[str, ...]  # of the files [n_files]
    owners: np.ndarray  # the file of each row by its place in names [shape=(n_rows,)]
    times_ms: np.ndarray | None  # centres of the rows' windows; None for whole files [shape=(n_rows,)]


def compact(folder: PathLike) -> Compact:
    """Read an output folder of ``embed`` twice: for the directions, and to project its vectors onto them.

    Raises:
        InputError: the folder cannot be read, or holds fewer than two vectors.
    """
    basis = _directions(folder)
    rows, names, counts, times = [], [], [], []
    for item in iterate_embeddings(folder):
        unit = units(item.vectors)
        rows.append((unit @ basis).astype(np.float16))
        names.append(item.source)
        counts.append(len(unit))
        if item.timestamps_ms is not None:
            times.append(item.timestamps_ms)
    owners = np.repeat(np.arange(len(names), dtype=np.int32), counts)
    return Compact(np.concatenate(rows), tuple(names), owners, np.concatenate(times) if times else None)


def units(vectors: np.ndarray) -> np.ndarray:
    """Vectors, or a single one, at length 1 [shape=(n_rows, size)]."""
    vectors = np.atleast_2d(vectors)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def nearest(content: Compact, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``n`` nearest other rows of every row, and their similarities [shape=(n_rows, n)] each; best first.

    Raises:
        MissingDependencyError: there are more than 100,000 rows and usearch is not installed.
    """
    n = min(n, len(content.rows) - 1)
    if len(content.rows) > MAX_EXACT:
        return _nearest_by_index(content.rows, n)
    rows = torch.from_numpy(content.rows.astype(np.float32))
    found = []
    for first in range(0, len(rows), _BLOCK):
        cosines = rows[first : first + _BLOCK] @ rows.T
        cosines.diagonal(first).fill_(-torch.inf)  # of each row with itself
        found.append(cosines.topk(n))
    similarities, places = map(torch.cat, zip(*found, strict=True))
    return places.numpy(), similarities.numpy()


def _nearest_by_index(rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    usearch = require("usearch.index", f"more than {MAX_EXACT} vectors", "search")
    index = usearch.Index(ndim=rows.shape[1], metric="ip", dtype="f16", expansion_add=64)
    numbers = np.arange(len(rows))
    index.add(numbers, rows)
    found = index.search(rows, n + 1)
    itself = found.keys == numbers[:, None]
    others = np.argsort(itself, axis=1, kind="stable")[:, :n]
    return np.take_along_axis(found.keys, others, 1), 1 - np.take_along_axis(found.distances, others, 1)


def _directions(folder: PathLike) -> np.ndarray:
    """Orthonormal directions that keep the inner products of unit vectors best [shape=(size, n_dimensions)]."""
    sample: list[np.ndarray] = []
    step, seen = 1, 0
    for item in iterate_embeddings(folder):
        unit = units(item.vectors)
        sample += [row.copy() for row in unit[(-seen) % step :: step]]  # a view would keep the whole file
        seen += len(unit)
        while len(sample) > _SAMPLE:  # every second row of those that were kept, and of those to come
            sample, step = sample[::2], 2 * step
    if seen < 2:
        raise InputError(f"{folder} holds {seen} vectors; at least two are needed")
    rows = np.stack(sample)
    dual = len(rows) < rows.shape[1]
    values, vectors = np.linalg.eigh(rows @ rows.T if dual else rows.T @ rows)
    kept = np.flatnonzero(values > 1e-6 * values[-1])[-DIMENSIONS:]
    return rows.T @ (vectors[:, kept] / np.sqrt(values[kept])) if dual else vectors[:, kept]
