"""A map of embeddings as a picture."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from hear_byols._util.imports import require
from hear_byols.analysis.figures import new_figure
from hear_byols.analysis.map_data import MapData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROWS = 24  # of the legend
_LABEL_CHARACTERS = 28


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
