"""A map of embeddings: which point is which file, and how each label is drawn."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hear_byols.analysis.figures import printable
from hear_byols.analysis.projection import Projection

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
