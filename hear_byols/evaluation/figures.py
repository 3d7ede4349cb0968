"""Pictures of scores."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from hear_byols.errors import MissingDependencyError

_OURS, _PUBLISHED = "#0b6fa4", "#b5b5b5"


def bar_chart(bars: Sequence[tuple[str, Sequence[float], bool]], title: str, axis: str) -> bytes:
    """Horizontal bars, the first on top; whiskers are the standard deviation over seeds.

    Args:
        bars: label, values and whether they are published elsewhere (grey).
        title: above.
        axis: what is shown.

    Returns:
        A PNG.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(f'pictures need matplotlib ({error}): pip install "hear_byols[eval]"') from error
    figure = Figure(figsize=(8, 1.2 + 0.28 * max(len(bars), 1)), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)  # no window, and no state shared with the caller's own plots
    axes = figure.add_subplot()
    places = np.arange(len(bars))
    means = [100 * float(np.mean(values)) for _, values, _ in bars]
    spreads = [100 * float(np.std(values, ddof=1)) if len(values) > 1 else 0.0 for _, values, _ in bars]
    colours = [_PUBLISHED if published else _OURS for _, _, published in bars]
    axes.barh(places, means, color=colours, xerr=[s or np.nan for s in spreads], ecolor="black", capsize=3)
    axes.set_yticks(places, [label for label, _, _ in bars])
    for place, mean, spread in zip(places, means, spreads, strict=True):
        axes.annotate(f"{mean:.1f}", (mean + spread, place), (4, 0), textcoords="offset points", va="center", size=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max([*means, 1e-9]) * 1.12)
    axes.set_xlabel(f"{axis} x 100")
    axes.set_title(title, size=11)
    axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
