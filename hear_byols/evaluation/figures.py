"""Pictures of scores."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hear_byols._util.imports import require

_OURS, _PUBLISHED = "#0b6fa4", "#b5b5b5"


@dataclass(frozen=True)
class Bar:
    """A bar.

    Args:
        label: beside it.
        values: as fractions of 1, one a seed.
        text: at its end.
        published: whether it is drawn grey.
    """

    label: str
    values: Sequence[float]
    text: str
    published: bool


def bar_chart(bars: Sequence[Bar], title: str, axis: str) -> bytes:
    """Horizontal bars of means times 100, the first on top; whiskers are the standard deviation over seeds.

    Args:
        bars: to draw.
        title: above.
        axis: what is shown.

    Returns:
        A PNG.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    canvas = require("matplotlib.backends.backend_agg", "a chart", "eval").FigureCanvasAgg
    new_figure = require("matplotlib.figure", "a chart", "eval").Figure
    figure = new_figure(figsize=(8, 1.2 + 0.28 * max(len(bars), 1)), layout="constrained", dpi=110)
    canvas(figure)  # no window, and no state shared with the caller's own plots
    axes = figure.add_subplot()
    places = np.arange(len(bars))
    means = [100 * float(np.mean(bar.values)) for bar in bars]
    spreads = [100 * float(np.std(bar.values, ddof=1)) if len(bar.values) > 1 else 0.0 for bar in bars]
    colours = [_PUBLISHED if bar.published else _OURS for bar in bars]
    axes.barh(places, means, color=colours, xerr=[s or np.nan for s in spreads], ecolor="black", capsize=3)
    axes.set_yticks(places, [bar.label for bar in bars])
    for bar, place, mean, spread in zip(bars, places, means, spreads, strict=True):
        axes.annotate(bar.text, (mean + spread, place), (4, 0), textcoords="offset points", va="center", size=8)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, max([*means, 1e-9]) * 1.18)
    axes.set_xlabel(axis)
    axes.set_title(title, size=11)
    axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
