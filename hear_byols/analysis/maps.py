"""Maps of embeddings: their projection onto a plane by PCA or UMAP, a mark for every label, and the picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from hear_byols._util.imports import require
from hear_byols.analysis.figures import new_figure, printable
from hear_byols.errors import InputError, OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FEWEST = {"pca": 3, "umap": 5}  # files, by method
_NEIGHBOURS = 15
_ROWS = 24  # of the legend
_LABEL_CHARACTERS = 28
# Okabe and Ito's colours without yellow, then 13 more: under full protanopia, deuteranopia and tritanopia every two of
# the 20 are as far apart as the nearest two of Okabe and Ito's are (0.076 in OKLab).
COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#d55e00"),
    *("#8844ff", "#881100", "#bbddaa", "#444466", "#66ddff", "#ffcc44", "#bb2200"),
    *("#99bb88", "#aa4488", "#aa77ff", "#770099", "#5500dd", "#446655"),
)
# By their names in matplotlib; the page draws the same.
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#a0a0a0"
NO_LABEL = "(no label)"
MAX_CLASSES = len(COLOURS) * len(SHAPES)  # 20 and 7 have no common divisor, so each pair comes once


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
    if method not in _FEWEST:
        raise OptionError(f"method must be one of {', '.join(_FEWEST)}; got {method!r}")
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


@dataclass(frozen=True)
class Sound:
    """What a point of a map sounds like: a file, or a stretch of it in seconds."""

    path: Path
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Class:
    """Files of one label, and their mark on the map."""

    label: str  # as the legend shows it
    colour: str  # #rrggbb
    shape: str  # one of SHAPES
    places: tuple[int, ...]  # of its files


@dataclass(frozen=True)
class MapData:
    """Everything that a picture or page of a map shows."""

    title: str
    projection: Projection
    names: tuple[str, ...]  # of the files [n]
    labels: tuple[str, ...]  # of the files, "(no label)" where there is none [n]
    classes: tuple[Class, ...]  # every file belongs to exactly one
    sounds: tuple[Sound, ...] = ()  # of the points; empty where they are not known


def make_map_data(
    title: str,
    projection: Projection,
    names: Sequence[str],
    labels: Sequence[str | None],
    sounds: Sequence[Sound] = (),
) -> MapData:
    """Give every label a mark: up to 20 have their own colours; neighbours in the legend differ in shape, too.

    Labels beyond the 140 that have a mark of their own, the rarest, share one in grey; files without a label another.
    """
    title, labels = printable(title), [own and printable(own) for own in labels]
    known = Counter(label for label in labels if label is not None)
    kept = [label for label, _ in known.most_common(MAX_CLASSES)]
    rest = set(known) - set(kept)
    marks: list[tuple[str, str, str, set[str | None]]] = [
        (label, COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)], {label})
        for i, label in enumerate(sorted(kept, key=natural_key))
    ]
    if rest:
        marks.append((f"({len(rest)} rarer labels)", GREY, "o", {*rest}))
    if None in labels:
        colour, shape = (GREY, "X") if known else (COLOURS[0], SHAPES[0])
        marks.append((NO_LABEL, colour, shape, {None}))
    classes = tuple(
        Class(label, colour, shape, tuple(np.flatnonzero([own in members for own in labels]).tolist()))
        for label, colour, shape, members in marks
    )
    shown = tuple(NO_LABEL if own is None else own for own in labels)
    return MapData(title, projection, tuple(map(printable, names)), shown, classes, tuple(sounds))


def natural_key(label: str) -> list[tuple[int, int, str]]:
    """Sort key under which "9" comes before "10"."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", label) if part]


def draw_map(data: MapData) -> Figure:
    """Draw the points, with a legend in as many columns as it takes."""
    columns = ceil(len(data.classes) / _ROWS)
    longest = min(_LABEL_CHARACTERS, max(len(each.label) for each in data.classes))
    figure = new_figure(7 + columns * (0.5 + 0.09 * longest), 6.5)
    axes = figure.add_subplot()
    n = len(data.names)
    size = 36 if n <= 200 else 20 if n <= 1000 else 8
    for each in data.classes:
        x, y = data.projection.points[list(each.places)].T
        style = {"s": size, "c": each.colour, "marker": each.shape}
        axes.scatter(x, y, **style, alpha=0.75, edgecolors="white", linewidths=0.4)
    axes.set_xlabel(data.projection.axes[0])
    axes.set_ylabel(data.projection.axes[1])
    axes.set_title(data.title, parse_math=False, fontsize=11)
    axes.set_aspect("equal", adjustable="datalim")
    axes.spines[["top", "right"]].set_visible(False)
    if len(data.classes) < 2:
        return figure
    line = require("matplotlib.lines", "a picture", "analysis").Line2D
    handles = [line([], [], color=each.colour, marker=each.shape, linestyle="", markersize=6) for each in data.classes]
    # matplotlib drops labels that begin with an underscore and sets those between dollars as formulas.
    legend = figure.legend(
        handles, ["-"] * len(handles), loc="outside right upper", ncols=columns, fontsize=9, frameon=False
    )
    for text, each in zip(legend.get_texts(), data.classes, strict=True):
        text.set_parse_math(False)
        label = " ".join(each.label.split())
        text.set_text(label if len(label) <= _LABEL_CHARACTERS else f"{label[: _LABEL_CHARACTERS - 3]}...")
    return figure
