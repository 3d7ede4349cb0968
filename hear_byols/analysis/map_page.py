"""A map of embeddings as one HTML file that works offline: hover, hide classes, zoom, search."""

from __future__ import annotations

import html
import json
from importlib import resources
from typing import Any

from hear_byols.analysis.atlas import Atlas

_TEMPLATE = "map_page.html"


def make_page(atlas: Atlas) -> str:
    """Fill the page. Names and labels travel as data that cannot end its element, and are shown as text only."""
    template = resources.files("hear_byols.analysis").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    before, after = template.split("{{data}}")
    return before.replace("{{title}}", html.escape(atlas.title)) + _as_data(atlas) + after


def _as_data(atlas: Atlas) -> str:
    owner = {place: i for i, each in enumerate(atlas.classes) for place in each.places}
    data: dict[str, Any] = {
        "axes": atlas.projection.axes,
        "classes": [[each.label, each.colour, each.shape] for each in atlas.classes],
        "points": [
            [round(float(x), 5), round(float(y), 5), owner[i], atlas.names[i], atlas.labels[i]]
            for i, (x, y) in enumerate(atlas.projection.points)
        ],
    }
    text = json.dumps(data, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
