"""The similarity of two models' layers as a heat map, a table and arrays."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hear_byols._util.files import output_path
from hear_byols.analysis.figures import new_figure, printable
from hear_byols.analysis.similarity import Similarity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_NUMBERED = 20  # layers a side, up to which cells show their numbers
_NAME_CHARACTERS = 40  # of a model; of a longer one, such as a path, the end


def draw_similarity(similarity: Similarity, name_a: str, name_b: str) -> Figure:
    """Draw a heat map: the first model's layers upwards, the second's to the right, both from the input on.

    Values are coloured from 0 (also those below) to 1; NaN is grey.
    """
    n_a, n_b = similarity.values.shape
    numbered = max(n_a, n_b) <= _MAX_NUMBERED
    cell = 0.42 if numbered else 0.17
    figure = new_figure(max(4.5, cell * n_b + 3), max(3.5, cell * n_a + 2.2))
    axes = figure.add_subplot()
    axes.set_facecolor("0.8")
    image = axes.imshow(similarity.values, vmin=0, vmax=1, cmap="viridis", origin="lower", aspect="equal")
    small = 8 if numbered else 6.5
    axes.set_xticks(range(n_b), similarity.layers_b, rotation=90, fontsize=small)
    axes.set_yticks(range(n_a), similarity.layers_a, fontsize=small)
    axes.set_xlabel(printable(name_b, _NAME_CHARACTERS), parse_math=False)
    axes.set_ylabel(printable(name_a, _NAME_CHARACTERS), parse_math=False, labelpad=8)
    kernel = similarity.kernel.replace("rbf", "RBF")
    axes.set_title(f"CKA, {kernel} kernel, {similarity.n_windows} windows", fontsize=10)
    for (row, column), value in np.ndenumerate(similarity.values) if numbered else ():
        text = "-" if np.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00")
        axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color="white" if value < 0.55 else "black")
    figure.colorbar(image, ax=axes, label="similarity", shrink=0.8)
    return figure


def write_table(similarity: Similarity, path: Path) -> None:
    """Write the values as CSV: a row a layer of the first model, a column a layer of the second; NaN is empty."""
    with output_path(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["layer", *similarity.layers_b])
        for name, row in zip(similarity.layers_a, similarity.values, strict=True):
            writer.writerow([name, *("" if np.isnan(value) else repr(float(value)) for value in row)])


def write_arrays(similarity: Similarity, path: Path) -> None:
    """Write ``values``, ``layers_a``, ``layers_b``, ``kernel`` and ``n_windows`` as npz."""
    with output_path(path) as part, open(part, "wb") as file:
        np.savez(file, **vars(similarity))
