"""Groups of clips (or windows) that sound alike, each with its most typical ones."""

from dataclasses import dataclass

import numpy as np

from hear_byols._util.imports import require
from hear_byols.answers.compact import compact
from hear_byols.errors import OptionError
from hear_byols.extraction.files import PathLike

_DIMENSIONS = 20  # in which clips of one kind lie together best
_LARGE = 20_000  # rows from which minibatches are used


@dataclass(frozen=True)
class Clusters:
    """Rows of a folder and their clusters.

    Args:
        names: of the rows' files [n_rows].
        times_ms: centres of their windows; None for whole files [shape=(n_rows,)].
        clusters: of the rows, from 0, the largest first [shape=(n_rows,)].
        distances: of the rows to the centre of their cluster [shape=(n_rows,)].
    """

    names: tuple[str, ...]
    times_ms: np.ndarray | None
    clusters: np.ndarray
    distances: np.ndarray

    def typical(self, cluster: int) -> np.ndarray:
        """Rows of a cluster, the nearest to its centre first."""
        members = np.flatnonzero(self.clusters == cluster)
        return members[np.argsort(self.distances[members], kind="stable")]


def find_clusters(folder: PathLike, number: int | None = None, seed: int = 0) -> Clusters:
    """Cluster an output folder of ``embed`` by k-means on the first 20 principal directions of its unit vectors.

    By default there are as many clusters as the root of half the rows; the seed is that of the first centres.

    Raises:
        OptionError: a number below 2 or above that of the rows.
        MissingDependencyError: scikit-learn is not installed.
    """
    content = compact(folder)
    clusters, distances = cluster_rows(content.rows.astype(np.float32), number, seed)
    return Clusters(tuple(content.names[owner] for owner in content.owners), content.times_ms, clusters, distances)


def cluster_rows(rows: np.ndarray, number: int | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of unit vectors, the largest first, and distances to their centres [shape=(n_rows,)] each.

    Arguments and errors as :func:`find_clusters`; the rows are centred in place.
    """
    cluster = require("sklearn.cluster", "clusters", "classify")
    rows -= rows.mean(0)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    rows = rows @ vectors[:, -_DIMENSIONS:]
    if number is None:
        number = min(max(2, round((len(rows) / 2) ** 0.5)), len(rows))
    if not 2 <= number <= len(rows):
        raise OptionError(f"the number of clusters must be 2 to {len(rows)}, the vectors there are; got {number}")
    kind = cluster.MiniBatchKMeans if len(rows) > _LARGE else cluster.KMeans
    fitted = kind(number, n_init=5, random_state=seed).fit(rows)
    order = np.argsort(-np.bincount(fitted.labels_, minlength=number), kind="stable")
    ranks = np.argsort(order)  # of the clusters by their sizes
    distances = np.linalg.norm(rows - fitted.cluster_centers_[fitted.labels_], axis=1)
    return ranks[fitted.labels_], distances
