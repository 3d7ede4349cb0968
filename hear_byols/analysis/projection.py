"""Embeddings in two dimensions, by PCA or UMAP."""

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from hear_byols._util.imports import require
from hear_byols.errors import InputError, OptionError

METHODS = ("pca", "umap")
_FEWEST = {"pca": 3, "umap": 5}
_NEIGHBOURS = 15


@dataclass(frozen=True)
class Projection:
    """Points of a map."""

    points: np.ndarray  # float64 [shape=(n, 2)]
    axes: tuple[str, str]  # their names


def project(vectors: np.ndarray, method: str = "pca", seed: int = 0) -> Projection:
    """Project standardized embeddings (each component with mean 0 and variance 1 over the files) onto a plane.

    Args:
        vectors: embeddings [shape=(n, size)], n at least 3 (PCA) or 5 (UMAP).
        method: ``"pca"``: the two directions of most variance, each turned so that its largest weight is positive; or
            ``"umap"``: neighbourhoods, by Euclidean distance of the standardized embeddings.
        seed: of UMAP.

    Raises:
        OptionError: an unknown method.
        InputError: too few vectors, or all are equal.
        MissingDependencyError: the method's package is not installed.
    """
    if method not in METHODS:
        raise OptionError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if len(vectors) < _FEWEST[method]:
        raise InputError(
            f"a {method} map needs at least {_FEWEST[method]} files that can be embedded, got {len(vectors)}"
        )
    values = np.asarray(vectors, np.float64)
    spread = values.std(0)
    if not spread.any():
        raise InputError(f"all {len(vectors)} embeddings are equal; there is nothing to map")
    values = (values - values.mean(0)) / np.where(spread > 0, spread, 1)
    package = check_method(method)
    if method == "umap":
        reducer = package.UMAP(n_neighbors=min(_NEIGHBOURS, len(values) - 1), random_state=seed, n_jobs=1)
        return Projection(np.asarray(reducer.fit_transform(values), np.float64), ("UMAP 1", "UMAP 2"))
    pca = package.PCA(2, svd_solver="full" if min(values.shape) < 500 else "auto", random_state=0)
    points = pca.fit_transform(values)
    names = [f"component {i + 1} ({share:.1%} of variance)" for i, share in enumerate(pca.explained_variance_ratio_)]
    return Projection(points, (names[0], names[1]))


def check_method(method: str) -> ModuleType:
    """Import what a method needs.

    Raises:
        MissingDependencyError: the method's package is not installed.
    """
    if method == "umap":
        return require("umap", "a map by umap", "map")
    return require("sklearn.decomposition", "a map", "analysis")
